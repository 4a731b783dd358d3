//! How a gate was done, in a few sentences: what each block was, and how it was judged.

use pushmark_results::gate::Gate;

/// What the gate notes of a scenario with faults or slow readers, behind its name.
const IN_PHASES: &str = ": its arms cannot take turns";
/// What the gate notes when it was given the address of a server.
const RUNS_ALREADY: &str = "a server that runs already is not started anew for each block";

/// How it was done.
pub(crate) fn method(gate: &Gate) -> String {
    let servers = if gate.notes.iter().any(|note| note.starts_with(RUNS_ALREADY)) {
        "takes a server that runs already as it is, starts any other anew"
    } else {
        "starts both servers anew"
    };
    let noted = |scenario: &str| {
        let of = |note: &String| {
            note.strip_prefix(scenario)
                .is_some_and(|n| n.starts_with(IN_PHASES))
        };
        gate.notes.iter().any(of)
    };
    let (whole, turns): (Vec<&str>, Vec<&str>) = gate
        .scenarios
        .iter()
        .map(|s| s.name.as_str())
        .partition(|name| noted(name));
    let (b, ms) = (&gate.block, |ns: u64| ns as f64 / 1e6);
    let in_turns = format!(
        "warms them up for {:.1} s and measures for {:.1} s, loading them in turns of {:.0} ms ({:.0} ms of each left free)",
        b.warmup_s,
        b.measure_s,
        ms(b.slots.length_ns),
        ms(b.slots.guard_ns),
    );
    let in_phases = "loads one after the other with the whole scenario, in its own lengths";
    let done = match (&whole[..], &turns[..]) {
        ([], _) => format!("Each block {servers}, {in_turns}."),
        (_, []) => format!("Each block {servers} and {in_phases}."),
        (whole, _) => format!(
            "Each block {servers}, {in_turns}; for {} it {in_phases} instead.",
            crate::escape::visible(&whole.join(", "))
        ),
    };
    format!(
        "{done} Sign-flip max-T over all metrics, {:.1} % false alarms a gate at most; seed {}.",
        100.0 * gate.plan.total_alpha(),
        gate.seed
    )
}
