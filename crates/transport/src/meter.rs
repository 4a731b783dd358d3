//! What the client's TCP connections move, by the kernel's own count (`TCP_INFO`): the bytes of their streams each way, with all that
//! HTTP, TLS and framing add to a message, without the headers of TCP and IP.
//!
//! A ledger for each thread. A connection is entered when the session that it was made for can be used; what it had moved by then is
//! its **opening**, what it moves later is **carried**. A connection that sessions share has moved its opening when the last of
//! them can be used that joins before the load ([`begin_load`]). Later ones join a connection that carries already, and one that is
//! made under load to be shared carries from its first byte, since others may join it before it can be used: they are in no
//! count of openings. A connection that never became usable is in none of them.
//!
//! The kernel is asked at these moments and when a connection is dropped, and by [`reading`] for all that are open, which takes
//! about a microsecond for each.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ops::{AddAssign, Sub};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;

use crate::stamps;

/// What went over connections, as their client's kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes that came, each counted once.
    pub received_bytes: u64,
    /// Bytes that were sent, each counted once.
    pub sent_bytes: u64,
    /// Bytes that were sent again.
    pub retransmitted_bytes: u64,
    /// Segments that came, with those that only acknowledge.
    pub received_segments: u64,
    /// Segments that were sent.
    pub sent_segments: u64,
}

impl AddAssign for Moved {
    fn add_assign(&mut self, more: Self) {
        self.received_bytes += more.received_bytes;
        self.sent_bytes += more.sent_bytes;
        self.retransmitted_bytes += more.retransmitted_bytes;
        self.received_segments += more.received_segments;
        self.sent_segments += more.sent_segments;
    }
}

impl Sub for Moved {
    type Output = Self;

    fn sub(self, less: Self) -> Self {
        Self {
            received_bytes: self.received_bytes.saturating_sub(less.received_bytes),
            sent_bytes: self.sent_bytes.saturating_sub(less.sent_bytes),
            retransmitted_bytes: self.retransmitted_bytes.saturating_sub(less.retransmitted_bytes),
            received_segments: self.received_segments.saturating_sub(less.received_segments),
            sent_segments: self.sent_segments.saturating_sub(less.sent_segments),
        }
    }
}

/// What the connections of one thread have moved since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Since their sessions were usable.
    pub carried: Moved,
    /// Until then.
    pub opening: Moved,
    /// Sessions that were opened so.
    pub sessions: u64,
    /// How often their openings had to wait for the peer, in all.
    pub round_trips: u64,
    /// Connections that the kernel told nothing of.
    pub untold: u64,
}

#[derive(Default)]
struct Ledger {
    open: HashSet<RawFd>,
    /// What those have moved that are gone.
    closed: Moved,
    opening: Moved,
    sessions: u64,
    round_trips: u64,
    untold: u64,
    loaded: bool,
}

thread_local! {
    static LEDGER: RefCell<Ledger> = RefCell::default();
}

/// Sessions begin to send or receive: who joins a connection from now on is not told apart from what it carries.
pub fn begin_load() {
    LEDGER.with_borrow_mut(|ledger| ledger.loaded = true);
}

/// Reads the counts of all connections of this thread.
pub fn reading() -> Reading {
    LEDGER.with_borrow(|ledger| {
        let (mut moved, mut untold) = (ledger.closed, ledger.untold);
        for fd in &ledger.open {
            match stamps::moved(*fd) {
                Some(now) => moved += now,
                None => untold += 1,
            }
        }
        Reading {
            carried: moved - ledger.opening,
            opening: ledger.opening,
            sessions: ledger.sessions,
            round_trips: ledger.round_trips,
            untold,
        }
    })
}

/// One connection's entry, shared by the connection and whoever opens a session on it.
#[derive(Clone)]
pub(crate) struct Meter(Rc<Entry>);

struct Entry {
    fd: RawFd,
    /// What it had moved when it, or the last session that counts, was usable.
    opening: Cell<Option<Moved>>,
    /// Something was written, and nothing has come since.
    asked: Cell<bool>,
    /// How often something came after something was written, until it was usable.
    turns: Cell<u32>,
    /// The connection was dropped: its descriptor is closed, or is another connection's by now.
    gone: Cell<bool>,
}

/// A change_cipher_spec alone, which a client of TLS 1.3 sends for the sake of boxes on the way (RFC 8446, appendix D.4): no
/// answer comes to it.
const CHANGE_CIPHER_SPEC_BYTES: usize = 6;

impl Meter {
    /// So many times was the peer waited for since the connection stands.
    pub(crate) fn turns(&self) -> u32 {
        self.0.turns.get()
    }

    /// A session can be used now, for whose opening the peer was waited for `round_trips` times; `None` for a further
    /// connection of a session that was counted or is yet to be. `shared`: other sessions may join it.
    pub(crate) fn usable(&self, round_trips: Option<u32>, shared: bool) {
        let entry = &self.0;
        if entry.gone.get() {
            return;
        }
        LEDGER.with_borrow_mut(|ledger| {
            let before = entry.opening.get();
            if before.is_some() && ledger.loaded {
                return;
            }
            if shared && ledger.loaded {
                entry.opening.set(Some(Moved::default()));
                ledger.open.insert(entry.fd);
                return;
            }
            ledger.sessions += u64::from(round_trips.is_some());
            ledger.round_trips += u64::from(round_trips.unwrap_or(0));
            let Some(now) = stamps::moved(entry.fd) else {
                // Counted once, here or when all are read.
                if !ledger.open.contains(&entry.fd) {
                    ledger.untold += 1;
                }
                return;
            };
            ledger.opening += now - before.unwrap_or_default();
            entry.opening.set(Some(now));
            ledger.open.insert(entry.fd);
        });
    }
}

/// The connection's own hold on its entry. Dropped before the socket is closed, it takes its last count.
pub(crate) struct Metered {
    meter: Meter,
    /// It is not usable yet, as far as was seen.
    opening: bool,
}

impl Metered {
    /// The entry of a connection that was just made. It must be dropped before the socket is.
    pub(crate) fn new(socket: BorrowedFd<'_>) -> Self {
        Self {
            meter: Meter(Rc::new(Entry {
                fd: socket.as_raw_fd(),
                opening: Cell::new(None),
                asked: Cell::new(false),
                turns: Cell::new(0),
                gone: Cell::new(false),
            })),
            opening: true,
        }
    }

    pub(crate) fn meter(&self) -> Meter {
        self.meter.clone()
    }

    /// So many bytes were written at once.
    #[inline]
    pub(crate) fn wrote(&self, bytes: usize) {
        // Between two reads of one flight of the server's, a write that asks for nothing would make a round trip of them.
        if self.opening && bytes != CHANGE_CIPHER_SPEC_BYTES {
            self.meter.0.asked.set(true);
        }
    }

    /// Bytes came.
    #[inline]
    pub(crate) fn came(&mut self) {
        if !self.opening {
            return;
        }
        let entry = &self.meter.0;
        if entry.asked.replace(false) {
            entry.turns.set(entry.turns.get() + 1);
        }
        self.opening = entry.opening.get().is_none();
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        let entry = &self.meter.0;
        entry.gone.set(true);
        // A thread that ends may have dropped its ledger before.
        let _ = LEDGER.try_with(|ledger| {
            let mut ledger = ledger.borrow_mut();
            if !ledger.open.remove(&entry.fd) {
                return;
            }
            let Some(last) = stamps::moved(entry.fd) else {
                ledger.untold += 1;
                ledger.closed += entry.opening.get().unwrap_or_default();
                return;
            };
            ledger.closed += last;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    /// So many bytes go from the server to the client, and are counted there.
    fn moved(client: &mut TcpStream, server: &mut TcpStream, bytes: usize) {
        server.write_all(&vec![0; bytes]).unwrap();
        client.read_exact(&mut vec![0; bytes]).unwrap();
    }

    #[test]
    fn a_connection_that_is_gone_is_not_asked() {
        let before = reading();
        let (client, _server) = pair();
        let metered = Metered::new(client.as_fd());
        let meter = metered.meter();
        drop((metered, client));
        // The next one takes its descriptor.
        let (mut client, mut server) = pair();
        moved(&mut client, &mut server, 1_000);
        meter.usable(Some(2), false);
        assert_eq!(reading(), before);
    }

    #[test]
    fn only_what_is_opened_before_the_load_has_an_opening_that_others_share() {
        let (mut client, mut server) = pair();
        let first = Metered::new(client.as_fd());
        moved(&mut client, &mut server, 100);
        first.meter().usable(Some(2), true);
        moved(&mut client, &mut server, 10);
        first.meter().usable(Some(1), true);
        begin_load();
        let opened = reading();
        assert_eq!((opened.sessions, opened.round_trips), (2, 3));
        assert_eq!(
            (opened.opening.received_bytes, opened.carried.received_bytes),
            (110, 0)
        );

        // One that comes later joins what carries.
        moved(&mut client, &mut server, 1);
        first.meter().usable(Some(1), true);
        // So do those of a connection that is made later, for which others wait.
        let (mut client, mut server) = pair();
        let second = Metered::new(client.as_fd());
        moved(&mut client, &mut server, 5_000);
        second.meter().usable(Some(2), true);
        moved(&mut client, &mut server, 500);
        second.meter().usable(Some(1), true);
        let later = reading();
        assert_eq!((later.sessions, later.round_trips), (2, 3));
        assert_eq!(
            (later.opening.received_bytes, later.carried.received_bytes),
            (110, 5_501)
        );

        // One that is nobody else's has an opening of its own.
        let (mut client, mut server) = pair();
        let third = Metered::new(client.as_fd());
        moved(&mut client, &mut server, 7);
        third.meter().usable(Some(2), false);
        let last = reading();
        assert_eq!((last.sessions, last.opening.received_bytes), (3, 117));
        drop((first, second, third));
        assert_eq!(reading(), last);
    }

    #[test]
    fn a_change_cipher_spec_is_no_question() {
        let (client, _server) = pair();
        let mut metered = Metered::new(client.as_fd());
        // TLS 1.3: a hello; the server's flight in two reads, with the change_cipher_spec between; the end of the handshake.
        metered.wrote(250);
        metered.came();
        metered.wrote(6);
        metered.came();
        metered.wrote(74);
        assert_eq!(metered.meter().turns(), 1);
        metered.came();
        assert_eq!(metered.meter().turns(), 2);
    }
}
