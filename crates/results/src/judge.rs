//! The verdict over a trial as it stands on disk: its summary's, and what the files say against it.

use pushmark_measure::{Grade, Histograms, Metric, TrialSummary, Verdict};

/// Judges a trial by its summary and the distributions that were written for it.
pub(crate) fn verdict(summary: Option<&TrialSummary>, histograms: &Histograms) -> Verdict {
    let Some(summary) = summary else {
        let mut never_ended = Verdict::default();
        never_ended.add(
            Grade::Invalid,
            "the trial never ended: the run was killed in it, or still goes on; what was recorded until then is here",
        );
        return never_ended;
    };
    let mut verdict = Verdict::of(summary);
    let (latencies, delivered) = (histograms.count(Metric::Latency), summary.books.delivered_once);
    if latencies != delivered {
        verdict.add(
            Grade::Invalid,
            format!("{delivered} messages were delivered once, but the latency log holds {latencies} values"),
        );
    }
    verdict
}
