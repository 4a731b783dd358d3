//! Processor pressure: how long somebody on this host stood ready to run without a processor (PSI).

/// The time so far, in nanoseconds; `None` where the kernel keeps no such account.
pub fn cpu_total_ns() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/pressure/cpu").ok()?)
}

/// The share of the last ten seconds; `None` where the kernel keeps no such account.
pub fn cpu_last_10_s() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/pressure/cpu").ok()?;
    let percent: f64 = field(&text, "avg10=")?.parse().ok()?;
    Some(percent / 100.0)
}

fn parse(text: &str) -> Option<u64> {
    field(text, "total=")?.parse::<u64>().ok()?.checked_mul(1_000)
}

/// A field of the line that counts the time in which at least one task waited.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    line.split_whitespace().find_map(|word| word.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_those_who_waited_is_read() {
        let text = "some avg10=0.45 avg60=1.83 avg300=4.04 total=616965949\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(parse(text), Some(616_965_949_000));
        assert_eq!(field(text, "avg10="), Some("0.45"));
        for text in ["", "some\n", "some total=x\n", "full total=7\n"] {
            assert_eq!(parse(text), None);
        }
    }
}
