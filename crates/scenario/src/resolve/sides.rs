//! Both sides of the load: the server's set-up, the target's address, the generator's deadlines.

use std::net::IpAddr;
use std::time::Duration;

use serde_spanned::Spanned;

use super::sharing::{Sharing, sharing};
use super::values::{Findings, Swept};
use crate::diagnose::{Problem, is_printable, quoted};
use crate::plan::{CarriageSetup, Deadlines, ServerSetup, TargetPlan, TargetTls, TlsVersion, WhenFull};
use crate::raw::{Field, ScenarioFile, Table, TargetSection, TargetTlsSection};

const MOST_THREADS: u64 = 1_024;
const LARGEST_OUTBOX_MESSAGES: u64 = 1_000_000;
const LARGEST_HISTORY_MESSAGES: u64 = 1_000_000;
const LONGEST_HOST_CHARS: usize = 253;

const DEFAULT_OUTBOX_MESSAGES: u32 = 256;
const DEFAULT_DEADLINES: Deadlines = Deadlines {
    connect: Duration::from_secs(5),
    open: Duration::from_secs(10),
    close: Duration::from_secs(2),
};

const WHEN_FULL: &[(&str, WhenFull)] = &[
    ("drop-oldest", WhenFull::DropOldest),
    ("drop-newest", WhenFull::DropNewest),
    ("disconnect", WhenFull::Disconnect),
];

const TLS_VERSIONS: &[(&str, TlsVersion)] = &[("1.2", TlsVersion::Tls1_2), ("1.3", TlsVersion::Tls1_3)];

/// What is the same in every cell.
pub(super) struct Sides {
    pub(super) carriage: CarriageSetup,
    pub(super) sharing: Sharing,
    pub(super) tls: Swept<Option<TlsVersion>>,
    pub(super) resumption: Swept<bool>,
    pub(super) server: ServerSetup,
    pub(super) when_full: Swept<WhenFull>,
    pub(super) target: TargetPlan,
    pub(super) target_tls: TargetTls,
    pub(super) deadlines: Deadlines,
}

/// Reads `[carrier]`, `[server]`, `[target]` and `[deadlines]`.
pub(super) fn sides(findings: &mut Findings, file: &ScenarioFile, allow_remote: bool) -> Sides {
    let mut when_full = Swept::one(WhenFull::DropOldest);
    let mut server = ServerSetup {
        threads: None,
        outbox_messages: DEFAULT_OUTBOX_MESSAGES,
        when_full: WhenFull::DropOldest,
        history_messages: 0,
        retry: None,
    };
    if let Some(section) = file.server.as_ref().map(|section| &section.get_ref().0) {
        server.threads = findings.count_u32(&section.threads, "server.threads", 1..=MOST_THREADS);
        let outbox = findings.count_u32(&section.outbox, "server.outbox", 1..=LARGEST_OUTBOX_MESSAGES);
        server.outbox_messages = outbox.unwrap_or(DEFAULT_OUTBOX_MESSAGES);
        if let Some(value) = &section.when_full {
            let swept = findings.swept(value, "server.when-full", PartialEq::eq, |findings, value| {
                let text = findings.text(value, "server.when-full", "a word in quotes", "\"drop-oldest\"")?;
                findings.word(text, value.span(), "server.when-full", WHEN_FULL)
            });
            when_full = swept.unwrap_or(when_full);
        }
        let history = findings.count_u32(&section.history, "server.history", 0..=LARGEST_HISTORY_MESSAGES);
        server.history_messages = history.unwrap_or(0);
        server.retry = section
            .retry
            .as_ref()
            .and_then(|value| findings.duration(value, "server.retry", Duration::ZERO, "0s is the least"));
    }
    let mut deadlines = DEFAULT_DEADLINES;
    if let Some(section) = file.deadlines.as_ref().map(|section| &section.get_ref().0) {
        deadlines.connect =
            findings.duration_or(&section.connect, "deadlines.connect", DEFAULT_DEADLINES.connect);
        deadlines.open = findings.duration_or(&section.open, "deadlines.open", DEFAULT_DEADLINES.open);
        deadlines.close = findings.duration_or(&section.close, "deadlines.close", DEFAULT_DEADLINES.close);
    }
    let target = match &file.target {
        Some(section) => target(findings, section, allow_remote).unwrap_or(TargetPlan::Embedded),
        None => TargetPlan::Embedded,
    };
    let section = file.carrier.as_ref().map(|section| &section.get_ref().0);
    let tls = section.and_then(|s| s.tls.as_ref());
    let tls = tls.and_then(|value| {
        findings.swept(value, "carrier.tls", PartialEq::eq, |findings, value| {
            let text = findings.text(value, "carrier.tls", "a version in quotes", "\"1.3\"")?;
            findings
                .word(text, value.span(), "carrier.tls", TLS_VERSIONS)
                .map(Some)
        })
    });
    let resumption = section.and_then(|s| s.resumption.as_ref());
    let resumption = resumption.and_then(|value| {
        findings.swept(value, "carrier.resumption", PartialEq::eq, |findings, value| {
            findings.yes_or_no(value, "carrier.resumption")
        })
    });
    let tls_section = file
        .target
        .as_ref()
        .and_then(|section| section.get_ref().0.tls.as_ref());
    Sides {
        carriage: CarriageSetup::default(),
        sharing: sharing(findings, file),
        tls: tls.unwrap_or(Swept::one(None)),
        resumption: resumption.unwrap_or(Swept::one(false)),
        server,
        when_full,
        target_tls: tls_section.map_or_else(TargetTls::default, |section| target_tls(findings, section)),
        target,
        deadlines,
    }
}

fn target_tls(findings: &mut Findings, section: &Spanned<Table<TargetTlsSection>>) -> TargetTls {
    let place = section.span();
    let section = &section.get_ref().0;
    let mut text = |value: &Field, key: &str, example: &str| {
        let value = value.as_ref()?;
        let text = findings.text(value, key, "a text in quotes", example)?;
        if text.is_empty() || !is_printable(text) {
            let message = format!(
                "`{key}` is {}",
                if text.is_empty() { "empty" } else { "not printable" }
            );
            findings.add(Problem::at(value.span(), message, "not usable").hint(format!("as in {example}")));
            return None;
        }
        Some(text.to_owned())
    };
    let tls = TargetTls {
        cacert: text(&section.cacert, "target.tls.cacert", "\"ca.pem\""),
        client_cert: text(&section.client_cert, "target.tls.client-cert", "\"client.pem\""),
        client_key: text(&section.client_key, "target.tls.client-key", "\"client-key.pem\""),
        sni: text(&section.sni, "target.tls.sni", "\"push.example\""),
        insecure: false,
    };
    let insecure = section.insecure.as_ref();
    let insecure = insecure.and_then(|value| findings.yes_or_no(value, "target.tls.insecure"));
    for (there, missing) in [
        (
            &section.client_cert,
            (
                &section.client_key,
                "`target.tls.client-key`",
                "client-key = \"key.pem\"",
            ),
        ),
        (
            &section.client_key,
            (
                &section.client_cert,
                "`target.tls.client-cert`",
                "client-cert = \"client.pem\"",
            ),
        ),
    ] {
        if let (Some(_), (None, what, example)) = (there, missing) {
            findings.missing(Some(place.clone()), what, example);
        }
    }
    if let (Some(value), Some(true)) = (&section.cacert, insecure) {
        let problem = Problem::at(
            value.span(),
            "nothing is verified, so nobody need be trusted",
            "with insecure = true",
        );
        findings.add(problem.hint("take either `cacert` or `insecure` out"));
    }
    TargetTls {
        insecure: insecure.unwrap_or(false),
        ..tls
    }
}

fn target(
    findings: &mut Findings,
    section: &Spanned<Table<TargetSection>>,
    allow_remote: bool,
) -> Option<TargetPlan> {
    let example = r#"address = "127.0.0.1:8080""#;
    let Some(value) = &section.get_ref().0.address else {
        findings.missing(Some(section.span()), "`target.address`", example);
        return None;
    };
    let text = findings.text(value, "target.address", "an address", example)?;
    let Some(host) = host_of(text) else {
        let hint = match text.contains("://") {
            true => "only host and port, without scheme and path: \"127.0.0.1:8080\"",
            false => "host and port: \"127.0.0.1:8080\", \"[::1]:8080\", \"localhost:8080\"",
        };
        let message = format!("`target.address` is not an address: {}", quoted(text));
        findings.add(Problem::at(value.span(), message, "not host:port").hint(hint));
        return None;
    };
    if !is_loopback(host) && !allow_remote {
        let message = format!("{} lies outside loopback", quoted(host));
        let hint = "a load test can take a server down: add --allow-remote if this one is yours to load";
        findings.add(Problem::at(value.span(), message, "refused without --allow-remote").hint(hint));
        return None;
    }
    Some(TargetPlan::Address(text.to_owned()))
}

/// The host of `host:port`, if the text is one.
fn host_of(text: &str) -> Option<&str> {
    let (host, port) = text.rsplit_once(':')?;
    let port_fits =
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return (port_fits && inner.parse::<std::net::Ipv6Addr>().is_ok()).then_some(inner);
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let host_fits = !host.is_empty() && host.len() <= LONGEST_HOST_CHARS && host.chars().all(fits);
    // Digits and dots alone are meant as an IPv4 address, so they have to be one.
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (port_fits && host_fits && (!numeric || host.parse::<IpAddr>().is_ok())).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        // Another name may point anywhere, and nothing is looked up here.
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (text, host) in [
            ("127.0.0.1:8080", Some("127.0.0.1")),
            ("localhost:80", Some("localhost")),
            ("[::1]:8080", Some("::1")),
            ("a-b.example:65535", Some("a-b.example")),
            ("127.0.0.1", None),
            ("127.0.0.1:0", None),
            ("127.0.0.1:65536", None),
            ("127.0.0.1:+80", None),
            ("127.0.1:80", None),
            (":80", None),
            ("::1:80", None),
            ("http://localhost:80", None),
            ("user@localhost:80", None),
            ("localhost:80/path", None),
        ] {
            assert_eq!(host_of(text), host, "{text}");
        }
    }

    #[test]
    fn loopback() {
        for host in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "LOCALHOST"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "0.0.0.0",
            "10.0.0.1",
            "::",
            "localhost.example",
            "127.0.0.1.example",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
