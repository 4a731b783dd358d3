//! What is known of one session, and how its deliveries are recorded.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use pushmark_measure::{Arrival, Compressed, Metric, Nanos, Sample, SequenceTracker};
use pushmark_transport::seam::{Inbox, Received};
use pushmark_transport::stamp::Found;
use pushmark_transport::{Kind, Stamp};

use crate::recovery::Cut;
use crate::worker::Context;

/// What is known of one session; outlives its task.
pub(crate) struct SessionState {
    pub(crate) index: u32,
    pub(crate) tracker: RefCell<SequenceTracker>,
    /// Messages of the measured window that were handed to the transport.
    pub(crate) sent_measured: Cell<u64>,
    /// Of those, handed over before the window ended.
    pub(crate) sent_in_window: Cell<u64>,
    /// The transport is taking a message right now.
    pub(crate) sending: Cell<bool>,
    pub(crate) established: Cell<bool>,
    pub(crate) usable_at: Cell<Nanos>,
    pub(crate) ended_at: Cell<Option<Nanos>>,
    /// What it ended with, where that was for good.
    pub(crate) ended_by: RefCell<Option<Box<str>>>,
    /// When the last message arrived; kept where the trial is watched.
    last_message: Cell<Option<Nanos>>,
    /// Every end that nobody had asked for; kept where the trial is watched.
    cuts: RefCell<Vec<Cut>>,
}

impl SessionState {
    pub(crate) fn new(index: u32) -> Self {
        Self {
            index,
            tracker: RefCell::default(),
            sent_measured: Cell::new(0),
            sent_in_window: Cell::new(0),
            sending: Cell::new(false),
            established: Cell::new(false),
            usable_at: Cell::new(Nanos::MAX),
            ended_at: Cell::new(None),
            ended_by: RefCell::default(),
            last_message: Cell::new(None),
            cuts: RefCell::default(),
        }
    }
}

impl SessionState {
    /// Notes a cut: what the session had by then is known here.
    pub(super) fn cut(&self, cut: Cut) {
        self.cuts.borrow_mut().push(Cut {
            last_message: self.last_message.get(),
            from: self.tracker.borrow().next(),
            ..cut
        });
    }

    /// How many cuts there were.
    pub(super) fn cut_count(&self) -> u32 {
        u32::try_from(self.cuts.borrow().len()).unwrap_or(u32::MAX)
    }

    pub(super) fn with_last_cut(&self, change: impl FnOnce(&mut Cut)) {
        if let Some(cut) = self.cuts.borrow_mut().last_mut() {
            change(cut);
        }
    }

    /// The session is usable again. What belongs to the outage: with a resumption all that was `scheduled` by now, for the
    /// server to make up; without one whatever lies before the first message that comes.
    pub(super) fn came_back(&self, at: Nanos, resumes: bool, scheduled: u64) {
        self.with_last_cut(|cut| {
            cut.back = Some(at);
            cut.to = resumes.then_some(scheduled.max(cut.from));
        });
    }

    /// A message arrived where the trial is watched.
    fn arrived(&self, at: Nanos, sequence: u64) {
        self.last_message.set(Some(at));
        if let Some(cut) = self.cuts.borrow_mut().last_mut()
            && cut.back.is_some()
        {
            cut.first_message.get_or_insert(at);
            cut.to.get_or_insert(sequence.max(cut.from));
        }
    }

    /// The session was never cut off.
    fn has_stayed(&self) -> bool {
        self.cuts.borrow().is_empty()
    }

    /// Its cuts, with what was missed in each of those messages of `measured` that were not there yet; `end` is one past the last
    /// that there was.
    pub(crate) fn take_cuts(&self, measured: &Range<u64>) -> Vec<Cut> {
        let tracker = self.tracker.borrow();
        let mut cuts = self.cuts.take();
        for cut in &mut cuts {
            let to = cut.to.unwrap_or(measured.end).min(measured.end);
            let outage = cut.from.max(measured.start).min(to)..to;
            cut.missed = outage.end - outage.start;
            cut.made_up = tracker.seen_in(outage);
        }
        cuts
    }
}

/// Takes deliveries of one session to the worker's recorder.
pub(super) struct Recording {
    context: Rc<Context>,
    state: Rc<SessionState>,
    stream: u32,
    usable: Nanos,
    first_seen: bool,
    /// Slow on purpose: in the books of its own, in no distribution.
    slow: bool,
    /// Its party beside slow sessions, where there are any.
    party: Option<usize>,
}

impl Recording {
    pub(super) fn new(context: Rc<Context>, state: Rc<SessionState>, stream: u32, usable: Nanos) -> Self {
        let slow = context.is_slow(state.index);
        // A session that came back has seen its first message before.
        let first_seen = !state.has_stayed();
        let party = context.beside_slow.is_some().then(|| context.party(state.index));
        Self {
            context,
            state,
            stream,
            usable,
            first_seen,
            slow,
            party,
        }
    }
}

impl Inbox for Recording {
    #[inline]
    fn deliver(&mut self, received: Received, _kind: Kind, payload: &[u8]) {
        let mut recorder = self.context.recorder.borrow_mut();
        let stamp = match Stamp::find(payload) {
            Found::Stamp(stamp) if stamp.run == self.context.run && stamp.stream == self.stream => stamp,
            Found::Damaged => {
                self.context.corrupt.set(self.context.corrupt.get() + 1);
                return;
            }
            Found::Stamp(_) | Found::None => {
                recorder.counters.foreign += 1;
                return;
            }
        };
        if !self.first_seen {
            self.first_seen = true;
            recorder.record_connect(Metric::FirstMessageTime, received.at.since(self.usable));
        }
        let measured = recorder.window().contains(&stamp.intended);
        if let Some(trouble) = &self.context.trouble {
            self.state.arrived(received.at, stamp.sequence);
            trouble.course.borrow_mut().delivered(received.at, 1);
        }
        let arrived = || {
            let (count, bytes) = self.context.arrived.get();
            self.context
                .arrived
                .set((count + 1, bytes + payload.len() as u64));
        };
        if self.slow {
            self.state.tracker.borrow_mut().arrive(stamp.sequence);
            return;
        }
        match self.state.tracker.borrow_mut().arrive(stamp.sequence) {
            Arrival::InOrder => arrived(),
            Arrival::Reordered => {
                arrived();
                recorder.counters.reordered += 1;
                self.context.count(measured, |c| c.reordered += 1);
            }
            Arrival::Duplicate => {
                recorder.counters.duplicated += 1;
                self.context.count(measured, |c| c.duplicated += 1);
                return;
            }
        }
        let sample = Sample {
            intended: stamp.intended,
            sent: stamp.sent,
            received: received.at,
            kernel: received.kernel,
            payload_bytes: payload.len(),
        };
        if let Some(trouble) = &self.context.trouble
            && measured
            && self.state.has_stayed()
        {
            trouble.stayed(stamp.intended, received.at.since(stamp.intended));
        }
        if recorder.record(&sample) {
            if let (Some(parties), Some(party)) = (&self.context.beside_slow, self.party) {
                let latency_ns = received.at.since(stamp.intended);
                parties.borrow_mut()[party].latency.record(latency_ns);
            }
            self.context.count(true, |c| {
                c.payload_bytes += payload.len() as u64;
                c.late += u64::from(received.at >= self.context.load_end.get());
            });
        }
    }

    fn inflated(&mut self, received: Received, payload_bytes: usize, stream_bytes: usize) {
        let window = self.context.recorder.borrow().window();
        self.context
            .count(!self.slow && window.contains(&received.at), |c| {
                c.compressed.merge(&Compressed {
                    payload_bytes: payload_bytes as u64,
                    stream_bytes: stream_bytes as u64,
                    ..Compressed::default()
                });
            });
    }

    fn agreed_deflate(&mut self, received: Received, is_compressed: bool) {
        let window = self.context.recorder.borrow().window();
        self.context
            .count(!self.slow && window.contains(&received.at), |c| {
                c.compressed.merge(&Compressed {
                    messages: 1,
                    plain_messages: u64::from(!is_compressed),
                    ..Compressed::default()
                });
            });
    }
}
