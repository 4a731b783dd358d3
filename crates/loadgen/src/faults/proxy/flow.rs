//! One direction of a connection: read, held as long as the conditions say, written.
//!
//! Where nothing holds them, bytes go from one socket to the other within one turn of the loop, through a buffer that all
//! connections share: a connection that is idle, or passes undisturbed, has no buffer of its own.

use std::io;
use std::os::fd::AsFd;

use pushmark_measure::schedule::mix;
use pushmark_measure::{Nanos, clock};
use pushmark_transport::stamps;
use pushmark_transport::timer::Until;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::room::{Group, Room};
use super::shape::{Chance, Direction, Ending, Line, PIECE, Shape};

/// One direction.
pub(super) struct Flow<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    direction: Direction,
    room: &'a Room,
    group: &'a Group,
    line: Line,
    /// Paced bytes may go on from here.
    next: Nanos,
    /// What the kernel has had for longer than since here waited for somebody else.
    held_until: Nanos,
    chance: Chance,
    alarm: Option<(Nanos, Until)>,
}

impl<'a> Flow<'a> {
    pub(super) fn new(
        from: &'a TcpStream,
        to: &'a TcpStream,
        direction: Direction,
        number: u64,
        room: &'a Room,
        group: &'a Group,
    ) -> Self {
        Self {
            from,
            to,
            direction,
            room,
            group,
            line: Line::default(),
            next: Nanos::default(),
            held_until: clock::now(),
            chance: Chance::new(mix(
                room.seed,
                number * 2 + u64::from(direction == Direction::ToServer),
            )),
            alarm: None,
        }
    }

    /// Passes bytes until the end of one side, which it gives to be passed on.
    pub(super) async fn run(mut self) -> Ending {
        loop {
            self.group.thawed().await;
            let shape = self.group.conditions().towards(self.direction);
            let broken = if self.line.is_empty() {
                if self.from.readable().await.is_err() {
                    return Ending::Reset;
                }
                // Conditions may have changed meanwhile.
                self.read()
            } else {
                self.go_on(&shape).await
            };
            if let Err(ending) = broken {
                return ending;
            }
            tokio::task::coop::consume_budget().await;
        }
    }

    /// One step with something on its way: it becomes due and goes on, or more comes, or conditions change.
    async fn go_on(&mut self, shape: &Shape) -> Result<(), Ending> {
        let due = self.line.due().unwrap_or_default();
        let at = match shape.pace {
            Some(_) if self.line.next().is_some() => due.max(self.next),
            _ => due,
        };
        if self.alarm.as_ref().is_none_or(|(set, _)| *set != at) {
            self.alarm = Some((at, self.room.timer.until(at)));
        }
        let Some((_, alarm)) = &mut self.alarm else {
            return Ok(());
        };
        let mut changes = self.group.changes();
        tokio::select! {
            biased;
            () = alarm => {}
            _ = changes.changed() => return Ok(()),
            _ = self.from.readable(), if self.line.takes_more(shape) => return self.read(),
        }
        if let Some(ending) = self.line.ending() {
            return Err(ending);
        }
        tokio::select! {
            biased;
            // An error is met again by the write.
            _ = self.to.writable() => {}
            _ = changes.changed() => return Ok(()),
            // A reset overtakes bytes that their reader does not take.
            _ = self.from.ready(Interest::ERROR) => return Err(Ending::Reset),
        }
        self.write(shape)
    }

    /// Reads once, and passes on at once what nothing holds.
    fn read(&mut self) -> Result<(), Ending> {
        let conditions = self.group.conditions();
        if conditions.frozen {
            return Ok(());
        }
        let shape = conditions.towards(self.direction);
        let mut scratch = self.room.scratch.borrow_mut();
        let mut got = None;
        let tried = self.from.try_io(Interest::READABLE, || {
            let (n, stamp) = stamps::read(self.from.as_fd(), &mut scratch[..PIECE])?;
            got = Some((n, stamp));
            // As the runtime's own reads do: a socket that gave less than was asked for is empty, and is not asked again.
            if 0 < n && n < PIECE {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        let now = clock::now();
        let held = shape.delay + self.chance.up_to(shape.jitter);
        let Some((n, stamp)) = got else {
            match tried {
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                _ => self.line.end(now + held, Ending::Reset),
            }
            return Ok(());
        };
        if n == 0 {
            self.line.end(now + held, Ending::Fin);
            return Ok(());
        }
        let bytes = &mut scratch[..n];
        self.chance.corrupt(bytes, shape.corrupt);
        if !shape.is_plain() || !self.line.is_empty() {
            self.line.push(now + held, bytes);
            return Ok(());
        }
        let written = match self.to.try_write(bytes) {
            Ok(written) => written,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(_) => return Err(Ending::Reset),
        };
        self.room.counts.passed(self.direction, written);
        if written < n {
            self.room.counts.held_by_reader();
            self.line.push(now, &bytes[written..]);
            return Ok(());
        }
        let since = stamp
            .and_then(|stamp| stamps::instant_of(stamp, now))
            .unwrap_or(now);
        if since >= self.held_until.max(self.group.changed_at()) {
            self.room.delay.borrow_mut().record(clock::now().since(since));
        }
        Ok(())
    }

    /// Writes once what is due.
    fn write(&mut self, shape: &Shape) -> Result<(), Ending> {
        if self.group.conditions().frozen {
            return Ok(());
        }
        let Some(bytes) = self.line.next() else {
            return Ok(());
        };
        let most = shape.pace.map_or(PIECE, |pace| pace.quantum);
        match self.to.try_write(&bytes[..bytes.len().min(most)]) {
            Ok(n) => {
                let now = clock::now();
                if let Some(pace) = shape.pace {
                    self.next = pace.after(self.next, now, n);
                }
                self.room.counts.passed(self.direction, n);
                self.line.gone(n);
                self.held_until = now;
                Ok(())
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(()),
            Err(_) => Err(Ending::Reset),
        }
    }
}
