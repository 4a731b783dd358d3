//! Kernel receive stamps: when the kernel had queued what a read brought, from the control message beside the bytes.
//!
//! `SO_TIMESTAMPING` with software receive stamps (Linux, `Documentation/networking/timestamping.rst`) works for TCP, needs no
//! privilege, and works over loopback. A TCP stream has no messages of its own, so the kernel gives the stamp of the last
//! segment that a read touched (segments that it joined while they waited keep the stamp of the last). For a message that came in
//! several segments that is when it was complete. For one that shares a read with later ones it may be the later ones' stamp:
//! its wait is then told too short, never too long, and by no more than the reads lie apart.
//!
//! The stamp is of the wall clock; [`WallClock`] puts it on the clock of all instants, once for each thread.
//!
//! Beside the stamps, what else only the kernel knows of a socket: how much it has moved ([`moved`], `TCP_INFO`).
//!
//! # Why this file may be unsafe
//!
//! No crate that we use reads this control message or `TCP_INFO` without `unsafe`. It is three system calls, `setsockopt`,
//! `getsockopt` and `recvmsg`.
//! Every pointer handed to the kernel is to a value or a slice that is borrowed or owned here for longer than the call, with its real
//! length beside it; the kernel keeps none of them. What `recvmsg` wrote is read only as far as it says that it wrote: the
//! control messages are walked by libc's own functions within `msg_controllen`, and the payload of one is copied out
//! unaligned after its length was checked. Plain integers are all that is read, for which every bit pattern is valid.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use pushmark_measure::wall::WallClock;
use pushmark_measure::{Nanos, clock};

use crate::meter::Moved;

/// Room for control messages: the stamps take 64 bytes; words, so that they are aligned as the kernel wants.
const CONTROL_WORDS: usize = 16;

thread_local! {
    static WALL: RefCell<Option<WallClock>> = const { RefCell::new(None) };
    static UNPLACED: Cell<u64> = const { Cell::new(0) };
}

/// Whether this kernel stamps what arrives.
pub fn available() -> bool {
    use rustix::net::{AddressFamily, SocketType, socket};
    use std::os::fd::AsFd;
    socket(AddressFamily::INET, SocketType::STREAM, None)
        .is_ok_and(|socket| switch_on(socket.as_fd()).is_ok())
}

/// Asks the kernel to stamp what arrives on a socket from now on. (The first segments may go without: the kernel starts
/// its stamping a moment after the first socket asked for it.)
///
/// # Errors
/// The kernel has no such stamps.
pub fn switch_on(socket: BorrowedFd<'_>) -> io::Result<()> {
    let flags: libc::c_uint = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
    // SAFETY: the descriptor is open while it is borrowed; the option's value is one `c_uint` that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPING,
            ptr::from_ref(&flags).cast(),
            size_of::<libc::c_uint>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads once, without waiting; gives how many bytes came, and the wall clock's stamp of the last of them.
///
/// # Errors
/// As any read.
pub fn read(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<(usize, Option<u64>)> {
    let mut control = MaybeUninit::<[u64; CONTROL_WORDS]>::uninit();
    let mut part = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    // SAFETY: all of `msghdr` is integers and pointers, for which zero is a value; some systems have padding that only
    // this sets.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
    // SAFETY: the descriptor is open while it is borrowed; `message` points to `part` and through it to `into`, and to `control`,
    // each with its length; all of them outlive the call.
    let read = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    Ok((read, stamp_in(&message)))
}

/// The beginning of the kernel's `struct tcp_info` (`linux/tcp.h`), as far as we read it. It only ever grows at its end.
#[repr(C)]
#[derive(Default)]
struct TcpInfo {
    state: u8,
    _bytes: [u8; 7],
    _words: [u32; 24],
    _rates: [u64; 2],
    _bytes_acked: u64,
    bytes_received: u64,
    segments_out: u32,
    segments_in: u32,
    _more_words: [u32; 4],
    _rate_and_times: [u64; 4],
    _delivered: [u32; 2],
    bytes_sent: u64,
    bytes_retransmitted: u64,
}

/// States of a connection whose peer has said its last (RFC 9293, section 3.3.2), by the kernel's numbers: its end counts as a byte.
const ENDED_BY_PEER: [u8; 4] = [6, 8, 9, 11];

/// What the connection behind `socket` has moved since it was made; `None` when that is no TCP connection, or the kernel is older
/// than these counts (Linux 4.19).
pub(crate) fn moved(socket: RawFd) -> Option<Moved> {
    let mut info = TcpInfo::default();
    let mut length = size_of::<TcpInfo>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which outlives the call and in which any bytes are a value, and
    // to `length` how many it wrote. A descriptor that is not open, or no socket, is an error of the call and no more.
    let result = unsafe {
        libc::getsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            ptr::from_mut(&mut info).cast(),
            &raw mut length,
        )
    };
    if result != 0 || (length as usize) < size_of::<TcpInfo>() {
        return None;
    }
    let end = u64::from(ENDED_BY_PEER.contains(&info.state));
    Some(Moved {
        received_bytes: info.bytes_received.saturating_sub(end),
        sent_bytes: info.bytes_sent.saturating_sub(info.bytes_retransmitted),
        retransmitted_bytes: info.bytes_retransmitted,
        received_segments: u64::from(info.segments_in),
        sent_segments: u64::from(info.segments_out),
    })
}

/// The software stamp among the control messages of a message that `recvmsg` has filled in.
fn stamp_in(message: &libc::msghdr) -> Option<u64> {
    // SAFETY: `recvmsg` has set `msg_controllen` to what it wrote into the buffer behind `msg_control`, which is still
    // there; libc's functions stay within it and give null at its end.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, so a whole header that the kernel wrote.
        let (level, kind, length) = unsafe {
            (
                (*header).cmsg_level,
                (*header).cmsg_type,
                (*header).cmsg_len as usize,
            )
        };
        // Three times follow, of which the first is the software stamp.
        let needed = size_of::<libc::timespec>();
        // SAFETY: only arithmetic.
        let whole = length >= unsafe { libc::CMSG_LEN(needed as libc::c_uint) } as usize;
        if level == libc::SOL_SOCKET && kind == libc::SCM_TIMESTAMPING && whole {
            // SAFETY: the header's length covers a `timespec` behind it; it may lie unaligned, so it is copied out.
            let time: libc::timespec =
                unsafe { libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned() };
            let (seconds, nanos) = (
                u64::try_from(time.tv_sec).ok()?,
                u64::try_from(time.tv_nsec).ok()?,
            );
            let stamp = seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?;
            // Zero is how the kernel says that this segment was not stamped.
            return (stamp > 0).then_some(stamp);
        }
        // SAFETY: as above; `header` came from the same message.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

/// The instant of a kernel stamp that was read at `seen`; never later than that.
pub fn instant_of(stamp: u64, seen: Nanos) -> Option<Nanos> {
    let instant = WALL.with_borrow_mut(|wall| {
        wall.get_or_insert_with(|| WallClock::start(clock::wall_reading))
            .instant_of(stamp, seen, clock::wall_reading)
    });
    if instant.is_none() {
        UNPLACED.set(UNPLACED.get() + 1);
    }
    instant
}

/// How many stamps of this thread could not be placed since the last call: the wall clock was set around them.
pub fn take_unplaced() -> u64 {
    UNPLACED.take()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    fn read_all(socket: &TcpStream, into: &mut [u8]) -> (usize, Option<u64>) {
        loop {
            match read(socket.as_fd(), into) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                other => return other.unwrap(),
            }
        }
    }

    #[test]
    fn what_waited_in_the_kernel_is_told() {
        let (ours, mut theirs) = pair();
        switch_on(ours.as_fd()).unwrap();
        // The kernel's own stamping begins a moment later.
        std::thread::sleep(Duration::from_millis(50));
        let mut bytes = [0; 64];
        for wait_ms in [0, 5, 40, 0] {
            let before = clock::now();
            theirs.write_all(b"hello").unwrap();
            let written = clock::now();
            std::thread::sleep(Duration::from_millis(wait_ms));
            let (n, stamp) = read_all(&ours, &mut bytes);
            let seen = clock::now();
            assert_eq!(&bytes[..n], b"hello");
            let at = instant_of(stamp.expect("a stamp"), seen).unwrap();
            assert!(before <= at + Duration::from_micros(5) && at <= seen);
            // Over loopback the bytes are queued within the call that writes them, or shortly after.
            assert!(at <= written + Duration::from_millis(wait_ms.max(20)));
            assert!(seen.since(at) + 1_000_000 >= wait_ms * 1_000_000);
        }
        drop(theirs);
        assert_eq!(read_all(&ours, &mut bytes), (0, None));
    }

    #[test]
    fn a_message_in_two_segments_has_the_stamp_of_the_last() {
        let (ours, mut theirs) = pair();
        theirs.set_nodelay(true).unwrap();
        switch_on(ours.as_fd()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        theirs.write_all(b"one").unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let between = clock::now();
        theirs.write_all(b"two").unwrap();
        std::thread::sleep(Duration::from_millis(5));
        let mut bytes = [0; 64];
        let (n, stamp) = read_all(&ours, &mut bytes);
        assert_eq!(&bytes[..n], b"onetwo");
        let at = instant_of(stamp.unwrap(), clock::now()).unwrap();
        assert!(at + Duration::from_micros(5) >= between);
    }

    #[test]
    fn the_kernel_tells_what_a_connection_has_moved() {
        let (mut ours, mut theirs) = pair();
        let counts = |socket: &TcpStream| {
            let moved = moved(socket.as_raw_fd()).unwrap();
            (moved.received_bytes, moved.sent_bytes)
        };
        assert_eq!(counts(&ours), (0, 0), "opening it is no byte of its stream");
        ours.write_all(&[7; 12_345]).unwrap();
        theirs.write_all(&[7; 89]).unwrap();
        theirs.read_exact(&mut [0; 12_345]).unwrap();
        ours.read_exact(&mut [0; 89]).unwrap();
        assert_eq!(counts(&ours), (89, 12_345));
        assert_eq!(counts(&theirs), (12_345, 89));
        drop(theirs);
        assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(counts(&ours), (89, 12_345), "nor is its end");
        assert_eq!(moved(-1), None);
        let no_tcp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(moved(no_tcp.as_raw_fd()), None);
    }

    #[test]
    fn without_asking_there_is_no_stamp() {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"hello").unwrap();
        assert_eq!(read_all(&ours, &mut [0; 64]), (5, None));
        let error = read(ours.as_fd(), &mut [0; 64]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
