//! Conditions: the settings that may be lists of something other than numbers, multiplied out.

use super::values::Swept;
use crate::plan::{Compression, Encoding, Fault, Heartbeat, Reconnect, TlsVersion, WhenFull};

/// One combination of the settings that are not numbers.
pub(super) struct Condition {
    /// What is particular to it; empty when nothing varies.
    pub(super) label: String,
    pub(super) heartbeat: Option<Heartbeat>,
    pub(super) reconnect: Reconnect,
    pub(super) faults: Vec<Fault>,
    pub(super) when_full: WhenFull,
    pub(super) compression: Option<Compression>,
    pub(super) encoding: Encoding,
    pub(super) tls: Option<TlsVersion>,
    pub(super) resumption: bool,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            label: String::new(),
            heartbeat: None,
            reconnect: Reconnect::default(),
            faults: Vec::new(),
            when_full: WhenFull::DropOldest,
            compression: None,
            encoding: Encoding::Text,
            tls: None,
            resumption: false,
        }
    }
}

/// Every condition with every value; those of a list go into the label.
pub(super) fn times<T: Copy>(
    conditions: Vec<Condition>,
    swept: &Swept<T>,
    set: impl Fn(&mut Condition, T) -> String,
) -> Vec<Condition> {
    let mut all = Vec::new();
    for condition in conditions {
        for value in &swept.values {
            let mut with = Condition {
                label: condition.label.clone(),
                faults: condition.faults.clone(),
                ..condition
            };
            let words = set(&mut with, *value);
            if swept.list.is_some() {
                if !with.label.is_empty() {
                    with.label.push_str(", ");
                }
                with.label.push_str(&words);
            }
            all.push(with);
        }
    }
    all
}
