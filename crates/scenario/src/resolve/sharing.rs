//! How sessions share connections, where a carrier can carry several on one: how many, and within which windows.

use std::ops::{Range, RangeInclusive};

use serde_spanned::Spanned;

use super::values::{Findings, Swept};
use crate::diagnose::Problem;
use crate::plan::{Catalogue, StreamsPerConnection, Variant, Windows};
use crate::raw::{Given, ScenarioFile};
use crate::units;

const MOST_STREAMS: u64 = 100_000;
/// A stream whose window holds less than a frame header's worth of bytes says nothing about anything.
const STREAM_WINDOWS: RangeInclusive<u64> = 1024..=(1 << 31) - 1;
/// Every connection begins with 65,535 bytes (RFC 9113, section 6.9.2); only more can be granted.
const CONNECTION_WINDOWS: RangeInclusive<u64> = 65_535..=(1 << 31) - 1;

/// What `[carrier]` says about sharing.
pub(super) struct Sharing {
    streams: Swept<StreamsPerConnection>,
    stream_windows: Swept<u32>,
    connection_windows: Swept<u32>,
    /// The first key that was given.
    place: Option<(&'static str, Range<usize>)>,
}

/// One way to share, and what it is called where it varies.
pub(super) struct Way {
    pub(super) label: String,
    pub(super) streams: StreamsPerConnection,
    pub(super) windows: Option<Windows>,
}

/// Reads it.
pub(super) fn sharing(findings: &mut Findings, file: &ScenarioFile) -> Sharing {
    let default = Windows::default();
    let mut sharing = Sharing {
        streams: Swept::one(StreamsPerConnection::default()),
        stream_windows: Swept::one(default.stream_bytes),
        connection_windows: Swept::one(default.connection_bytes),
        place: None,
    };
    let Some(section) = file.carrier.as_ref().map(|section| &section.get_ref().0) else {
        return sharing;
    };
    if let Some(value) = &section.streams_per_connection {
        let key = "carrier.streams-per-connection";
        let swept = findings.swept(value, key, PartialEq::eq, |findings, value| {
            streams(findings, value, key)
        });
        sharing.streams = swept.unwrap_or(sharing.streams);
        sharing.place = Some((key, value.span()));
    }
    for (key, field, windows, range) in [
        (
            "carrier.stream-window",
            &section.stream_window,
            &mut sharing.stream_windows,
            STREAM_WINDOWS,
        ),
        (
            "carrier.connection-window",
            &section.connection_window,
            &mut sharing.connection_windows,
            CONNECTION_WINDOWS,
        ),
    ] {
        let Some(value) = field else { continue };
        let swept = findings.swept(value, key, PartialEq::eq, |findings, value| {
            window(findings, value, key, &range)
        });
        if let Some(swept) = swept {
            *windows = swept;
        }
        sharing.place.get_or_insert((key, value.span()));
    }
    sharing
}

fn streams(findings: &mut Findings, value: &Spanned<Given>, key: &str) -> Option<StreamsPerConnection> {
    if matches!(value.get_ref(), Given::Text(text) if text == "all") {
        return Some(StreamsPerConnection::All);
    }
    let count = findings.count(value, key, 1..=MOST_STREAMS)?;
    u32::try_from(count).ok().map(StreamsPerConnection::AtMost)
}

fn window(
    findings: &mut Findings,
    value: &Spanned<Given>,
    key: &str,
    range: &RangeInclusive<u64>,
) -> Option<u32> {
    let text = findings.text(
        value,
        key,
        "a size",
        r#"a number and a unit in quotes: "256 KiB""#,
    )?;
    let bytes = findings.parsed(value, key, "a size", units::size_bytes(text))?;
    if !range.contains(&bytes) {
        let (least, most) = (show_size(*range.start()), show_size(*range.end()));
        let problem = Problem::at(
            value.span(),
            format!("`{key}` is no window of HTTP/2"),
            "out of range",
        );
        findings.add(problem.hint(format!("from {least} to {most}")));
        return None;
    }
    u32::try_from(bytes).ok()
}

impl Sharing {
    /// Says so when there is nothing that any of this could apply to.
    pub(super) fn check(&self, findings: &mut Findings, variants: &[Variant], catalogue: &Catalogue) {
        let Some((key, span)) = &self.place else { return };
        if variants.is_empty() || variants.iter().any(|variant| catalogue.shares(&variant.carrier)) {
            return;
        }
        let message = format!("`{key}` has nothing to apply to: no carrier here shares a connection");
        let problem = Problem::at(span.clone(), message, "without effect");
        let sharing: Vec<String> = catalogue
            .sharing_carriers
            .iter()
            .map(|c| format!("{c:?}"))
            .collect();
        findings.add(problem.hint(format!("these do: carriers = [{}]", sharing.join(", "))));
    }

    /// The first list, by its key.
    pub(super) fn first_list(&self) -> Option<(&'static str, Range<usize>)> {
        let lists = [
            ("carrier.streams-per-connection", &self.streams.list),
            ("carrier.stream-window", &self.stream_windows.list),
            ("carrier.connection-window", &self.connection_windows.list),
        ];
        lists
            .into_iter()
            .find_map(|(key, list)| Some((key, list.clone()?)))
    }

    /// Every way in which a carrier does it. One that does not share has one way: a connection for each session.
    pub(super) fn ways(&self, shares: bool) -> Vec<Way> {
        if !shares {
            let label = self.first_list().map_or_else(String::new, |_| {
                label_of(StreamsPerConnection::default()).to_owned()
            });
            return vec![Way {
                label,
                streams: StreamsPerConnection::default(),
                windows: None,
            }];
        }
        let mut ways = Vec::new();
        for streams in &self.streams.values {
            for stream_bytes in &self.stream_windows.values {
                for connection_bytes in &self.connection_windows.values {
                    let mut words = Vec::new();
                    if self.streams.list.is_some() {
                        words.push(label_of(*streams));
                    }
                    if self.stream_windows.list.is_some() {
                        words.push(format!("stream window {}", show_size((*stream_bytes).into())));
                    }
                    if self.connection_windows.list.is_some() {
                        words.push(format!("window {}", show_size((*connection_bytes).into())));
                    }
                    ways.push(Way {
                        label: words.join(", "),
                        streams: *streams,
                        windows: Some(Windows {
                            stream_bytes: *stream_bytes,
                            connection_bytes: *connection_bytes,
                        }),
                    });
                }
            }
        }
        ways
    }
}

fn label_of(streams: StreamsPerConnection) -> String {
    match streams {
        StreamsPerConnection::AtMost(most) => format!("{most} a connection"),
        StreamsPerConnection::All => "all on one".to_owned(),
    }
}

/// A size in the largest unit that needs no fraction: `256 KiB`.
fn show_size(bytes: u64) -> String {
    let units = [("MiB", 1u64 << 20), ("KiB", 1 << 10)];
    let (unit, of) = units
        .into_iter()
        .find(|(_, of)| bytes.is_multiple_of(*of))
        .unwrap_or(("B", 1));
    format!("{} {unit}", bytes / of)
}
