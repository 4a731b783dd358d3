//! The recorder: one per worker, shared with nobody, filled on the receive path without allocation.

use crate::clock::Nanos;
use crate::histogram::Histogram;
use crate::interval::{Counters, Histograms, Interval, Metric, Phase};

/// One delivered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When the schedule said it leaves.
    pub intended: Nanos,
    /// When it was handed to the transport, or published.
    pub sent: Nanos,
    /// The first statement after the read that brought it.
    pub received: Nanos,
    /// When the kernel had queued its last bytes, where it says so.
    pub kernel: Option<Nanos>,
    /// Payload size.
    pub payload_bytes: usize,
}

/// Message histograms of one side of the measured window.
#[derive(Default)]
struct MessageHistograms {
    latency: Histogram,
    service_time: Histogram,
    send_delay: Histogram,
    generator_delay: Histogram,
    kernel_latency: Histogram,
}

impl MessageHistograms {
    #[inline]
    fn record(&mut self, sample: &Sample) {
        self.latency.record(sample.received.since(sample.intended));
        self.service_time.record(sample.received.since(sample.sent));
        self.send_delay.record(sample.sent.since(sample.intended));
        if let Some(kernel) = sample.kernel {
            self.generator_delay.record(sample.received.since(kernel));
            self.kernel_latency.record(kernel.since(sample.intended));
        }
    }

    fn drain_into(&mut self, to: &mut Histograms) {
        for (metric, histogram) in [
            (Metric::Latency, &mut self.latency),
            (Metric::ServiceTime, &mut self.service_time),
            (Metric::SendDelay, &mut self.send_delay),
            (Metric::GeneratorDelay, &mut self.generator_delay),
            (Metric::KernelLatency, &mut self.kernel_latency),
        ] {
            if !histogram.is_empty() {
                to.insert(metric, histogram.clone());
                histogram.clear();
            }
        }
    }
}

/// Collects samples and counts until [`Recorder::take`] cuts an interval.
pub struct Recorder {
    measured: MessageHistograms,
    unmeasured: MessageHistograms,
    connects: Histograms,
    /// Counts of the running interval; the worker adds to them in place.
    pub counters: Counters,
    window: std::ops::Range<Nanos>,
    negative: u64,
    started: Nanos,
    index: u32,
}

impl Recorder {
    /// An empty recorder whose first interval starts at `now`. No sample counts as measured until
    /// [`Recorder::set_window`].
    pub fn new(now: Nanos) -> Self {
        Self {
            measured: MessageHistograms::default(),
            unmeasured: MessageHistograms::default(),
            connects: Histograms::default(),
            counters: Counters::default(),
            window: Nanos::MAX..Nanos::MAX,
            negative: 0,
            started: now,
            index: 0,
        }
    }

    /// Samples intended in `window` are measured from now on.
    pub fn set_window(&mut self, window: std::ops::Range<Nanos>) {
        self.window = window;
    }

    /// The measured window.
    pub fn window(&self) -> std::ops::Range<Nanos> {
        self.window.clone()
    }

    /// Records the first arrival of a message; true when it belongs to the measured window.
    #[inline]
    pub fn record(&mut self, sample: &Sample) -> bool {
        self.counters.delivered += 1;
        self.counters.delivered_bytes += sample.payload_bytes as u64;
        if sample.received < sample.sent || sample.sent < sample.intended {
            self.negative += 1;
        }
        let is_measured = self.window.contains(&sample.intended);
        if is_measured {
            &mut self.measured
        } else {
            &mut self.unmeasured
        }
        .record(sample);
        is_measured
    }

    /// Records a connection metric; those count whenever they happen.
    pub fn record_connect(&mut self, metric: Metric, value_ns: u64) {
        self.connects.record(metric, value_ns);
    }

    /// Samples that ran backwards in time (received before sent, or sent before intended): a broken clock or a lying
    /// peer. They are recorded as zero, and a run that has any is not valid.
    pub fn negative(&self) -> u64 {
        self.negative
    }

    /// Ends the running interval at `now` and begins the next.
    pub fn take(&mut self, phase: Phase, now: Nanos) -> Interval {
        let mut measured = std::mem::take(&mut self.connects);
        let mut unmeasured = Histograms::default();
        self.measured.drain_into(&mut measured);
        self.unmeasured.drain_into(&mut unmeasured);
        let counters = std::mem::take(&mut self.counters);
        let interval = Interval {
            index: self.index,
            phase,
            start: self.started,
            end: now,
            counters,
            measured,
            unmeasured,
        };
        self.index += 1;
        self.started = now;
        interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(intended: u64, sent: u64, received: u64) -> Sample {
        Sample {
            intended: Nanos(intended),
            sent: Nanos(sent),
            received: Nanos(received),
            kernel: None,
            payload_bytes: 10,
        }
    }

    #[test]
    fn only_stamped_messages_have_a_generator_delay() {
        let mut r = Recorder::new(Nanos(0));
        r.set_window(Nanos(100)..Nanos(200));
        r.record(&sample(100, 100, 900));
        for intended in [100, 300] {
            r.record(&Sample {
                kernel: Some(Nanos(860)),
                ..sample(intended, intended, 900)
            });
        }
        let i = r.take(Phase::Measure, Nanos(1_000));
        let delay = i.measured.get(Metric::GeneratorDelay).unwrap();
        assert_eq!((delay.count(), delay.max()), (1, Some(40)));
        let at_kernel = i.measured.get(Metric::KernelLatency).unwrap();
        assert_eq!((at_kernel.count(), at_kernel.max()), (1, Some(760)));
        assert_eq!(i.unmeasured.count(Metric::GeneratorDelay), 1);
        assert_eq!(i.measured.count(Metric::Latency), 2);
    }

    #[test]
    fn the_window_is_of_intended_times() {
        let mut r = Recorder::new(Nanos(0));
        assert!(
            !r.record(&sample(100, 100, 200)),
            "nothing is measured before the window is known"
        );
        r.set_window(Nanos(100)..Nanos(200));
        assert!(r.record(&sample(100, 150, 5_000)));
        assert!(r.record(&sample(199, 199, 9_000)));
        assert!(!r.record(&sample(200, 200, 300)));
        let i = r.take(Phase::Measure, Nanos(1_000));
        assert_eq!(
            (
                i.measured.count(Metric::Latency),
                i.unmeasured.count(Metric::Latency)
            ),
            (2, 2)
        );
        assert_eq!(
            i.measured.get(Metric::SendDelay).and_then(Histogram::max),
            Some(50)
        );
        assert_eq!(i.counters.delivered, 4);
        assert_eq!(i.all(Metric::Latency).count(), 4);
    }

    #[test]
    fn intervals_add_up_and_indices_grow() {
        let mut r = Recorder::new(Nanos(0));
        r.set_window(Nanos(0)..Nanos::MAX);
        let mut whole = Histogram::new();
        let mut sum = Histograms::default();
        for second in 0..3u64 {
            for v in 0..100 {
                r.record(&sample(1, 1, 1 + second * 1_000 + v));
                whole.record(second * 1_000 + v);
            }
            let i = r.take(Phase::Measure, Nanos(second));
            assert_eq!(u64::from(i.index), second);
            sum.merge(&i.measured);
        }
        assert_eq!(sum.get(Metric::Latency), Some(&whole));
        assert!(r.take(Phase::Drain, Nanos(9)).measured.is_empty());
    }

    #[test]
    fn time_running_backwards_is_counted() {
        let mut r = Recorder::new(Nanos(0));
        r.record(&sample(100, 100, 50));
        r.record(&sample(100, 90, 150));
        r.record(&sample(100, 100, 100));
        assert_eq!(r.negative(), 2);
    }
}
