//! Sockets and epoll, through safe wrappers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::event::epoll;
use rustix::fd::OwnedFd;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::args::Framing;

pub(crate) const MAGIC: &[u8] = b"PMk1";

pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// Connects and opens a session, all blocking; what came after the head is dropped (nothing is sent before all are open).
pub(crate) fn open(address: SocketAddr, framing: Framing) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let request = match framing {
        Framing::WebSocket => format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ),
        Framing::EventStream => {
            format!("GET /sse HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n")
        }
    };
    stream.write_all(request.as_bytes())?;
    read_head(&mut stream)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

pub(crate) fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while memchr::memmem::find(&head, b"\r\n\r\n").is_none() {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&buffer[..n]);
    }
    Ok(head)
}

pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<epoll::Event>,
    timer: Option<OwnedFd>,
    /// What the timer is set to, in nanoseconds.
    timer_at_ns: u64,
}

/// The timer among the streams' numbers.
const TIMER: u64 = u64::MAX;

impl Epoll {
    pub(crate) fn new(streams: &[TcpStream]) -> io::Result<Self> {
        let fd = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (index, stream) in streams.iter().enumerate() {
            // Edge-triggered, as every runtime does it: one event a wake-up.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&fd, stream, epoll::EventData::new_u64(index as u64), flags)?;
        }
        Ok(Self {
            fd,
            timer: None,
            timer_at_ns: 0,
            events: Vec::with_capacity(1024),
        })
    }

    /// Has [`Epoll::wait`] return at this instant at the latest. Precise to the kernel's timers, where its own timeout
    /// counts in milliseconds.
    pub(crate) fn wake_at(&mut self, at_ns: u64) -> io::Result<()> {
        use rustix::time::{
            Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
            timerfd_settime,
        };
        if self.timer_at_ns == at_ns {
            return Ok(());
        }
        self.timer_at_ns = at_ns;
        if self.timer.is_none() {
            let timer = timerfd_create(
                TimerfdClockId::Monotonic,
                TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
            )?;
            // Edge-triggered: set anew it fires anew, and nobody has to read it.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&self.fd, &timer, epoll::EventData::new_u64(TIMER), flags)?;
            self.timer = Some(timer);
        }
        let at = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: (at_ns / 1_000_000_000) as i64,
                tv_nsec: (at_ns % 1_000_000_000) as i64,
            },
        };
        if let Some(timer) = &self.timer {
            timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &at)?;
        }
        Ok(())
    }

    /// Indices of streams that can be read, after at most `timeout_ms`.
    pub(crate) fn wait(&mut self, timeout_ms: u64) -> io::Result<impl Iterator<Item = usize> + '_> {
        let timeout = rustix::time::Timespec {
            tv_sec: (timeout_ms / 1000) as i64,
            tv_nsec: (timeout_ms % 1000 * 1_000_000) as i64,
        };
        self.events.clear();
        match epoll::wait(
            &self.fd,
            rustix::buffer::spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let streams = self.events.iter().filter(|e| e.data.u64() != TIMER);
        Ok(streams.map(|e| e.data.u64() as usize))
    }
}

/// Reads once; how many messages that brought. A short read has emptied the socket.
pub(crate) fn read_messages(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<u64> {
    let mut messages = 0;
    loop {
        match stream.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                messages += memchr::memmem::find_iter(&buffer[..n], MAGIC).count() as u64;
                if n < buffer.len() {
                    return Ok(messages);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(messages),
            Err(e) => return Err(e),
        }
    }
}
