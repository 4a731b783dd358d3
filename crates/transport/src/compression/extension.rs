//! permessage-deflate on the way to an agreement (RFC 7692, section 7.1): what a client offers, what a server answers.

use std::fmt;

use super::{Compression, NARROWEST_BITS, WIDEST_BITS, Window};
use crate::error::{ErrorClass, Step, TransportError};

const NAME: &str = "permessage-deflate";
const SERVER_FORGETS: &str = "server_no_context_takeover";
const CLIENT_FORGETS: &str = "client_no_context_takeover";
const SERVER_BITS: &str = "server_max_window_bits";
const CLIENT_BITS: &str = "client_max_window_bits";

/// The extension's parameters, of an offer or of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// The server starts anew with each message (section 7.1.1.1).
    pub server_forgets: bool,
    /// The client does (section 7.1.1.2).
    pub client_forgets: bool,
    /// The server's window has no more bits (section 7.1.2.1).
    pub server_bits: Option<u8>,
    /// The client's has no more (section 7.1.2.2); in an offer, without a number: it takes one in the answer.
    pub client_bits: Option<Option<u8>>,
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        if self.server_forgets {
            write!(f, "; {SERVER_FORGETS}")?;
        }
        if self.client_forgets {
            write!(f, "; {CLIENT_FORGETS}")?;
        }
        if let Some(bits) = self.server_bits {
            write!(f, "; {SERVER_BITS}={bits}")?;
        }
        match self.client_bits {
            None => Ok(()),
            Some(None) => write!(f, "; {CLIENT_BITS}"),
            Some(Some(bits)) => write!(f, "; {CLIENT_BITS}={bits}"),
        }
    }
}

impl Parameters {
    /// What a client offers that wants this and nothing else.
    pub fn offer(asked: &Compression) -> Self {
        let narrow = |window: Window| Some(window.bits).filter(|bits| *bits < WIDEST_BITS);
        Self {
            server_forgets: !asked.down.takeover,
            client_forgets: !asked.up.takeover,
            server_bits: narrow(asked.down),
            client_bits: narrow(asked.up).map(Some),
        }
    }

    /// What one element of a list of extensions says; `None` when it is another extension, or says what has no meaning.
    fn of(element: &Element<'_>) -> Option<Self> {
        let mut read = Self::default();
        if !element.name.eq_ignore_ascii_case(NAME) {
            return None;
        }
        for (name, value) in &element.parameters {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            let again = if is(SERVER_FORGETS) && value.is_none() {
                std::mem::replace(&mut read.server_forgets, true)
            } else if is(CLIENT_FORGETS) && value.is_none() {
                std::mem::replace(&mut read.client_forgets, true)
            } else if is(SERVER_BITS) {
                read.server_bits.replace(bits(value.as_deref()?)?).is_some()
            } else if is(CLIENT_BITS) {
                let value = match value.as_deref() {
                    Some(value) => Some(bits(value)?),
                    None => None,
                };
                read.client_bits.replace(value).is_some()
            } else {
                return None;
            };
            if again {
                return None;
            }
        }
        Some(read)
    }

    /// What both sides do from now on.
    fn windows(&self, level: u8) -> Compression {
        let of = |forgets: bool, bits: Option<u8>| Window {
            takeover: !forgets,
            bits: bits.unwrap_or(WIDEST_BITS).max(NARROWEST_BITS),
        };
        Compression {
            down: of(self.server_forgets, self.server_bits),
            up: of(self.client_forgets, self.client_bits.flatten()),
            level,
        }
    }
}

/// A window's size: a decimal number from 8 to 15 without a leading zero.
fn bits(text: &str) -> Option<u8> {
    let bits = text
        .parse()
        .ok()
        .filter(|bits| (8..=WIDEST_BITS).contains(bits))?;
    (!text.starts_with(['0', '+'])).then_some(bits)
}

/// One extension of a list (RFC 6455, section 9.1).
struct Element<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, Option<String>)>,
}

/// The elements of the header's values; `None` when one has no sense.
fn elements<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<Vec<Element<'a>>> {
    let mut all = Vec::new();
    for text in values.into_iter().flat_map(|value| split(value, b',')) {
        let mut parts = split(text, b';').into_iter();
        let name = parts.next().filter(|name| is_token(name))?;
        let mut parameters = Vec::new();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim_end(), Some(unquoted(value.trim_start())?)),
                None => (part, None),
            };
            if !is_token(name) {
                return None;
            }
            parameters.push((name, value));
        }
        all.push(Element { name, parameters });
    }
    Some(all)
}

/// Parts between separators that stand outside quotes, without the space around them.
fn split(text: &str, separator: u8) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == separator && !quoted => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// A token (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(fits)
}

/// A value, which is a token even where it stands in quotes.
fn unquoted(value: &str) -> Option<String> {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let plain = match inner {
        Some(inner) => inner.replace('\\', ""),
        None => value.to_owned(),
    };
    is_token(&plain).then_some(plain)
}

/// A server's answer to what a client offers: the first offer that it can do, as it is; `None` when there is none. Gives what
/// it says, and what it does from then on at `level`.
pub fn accept<'a>(offers: impl IntoIterator<Item = &'a str>, level: u8) -> Option<(Parameters, Compression)> {
    let offers = elements(offers)?;
    let offered = offers
        .iter()
        .filter_map(Parameters::of)
        .find(|offer| offer.server_bits.is_none_or(|bits| bits >= NARROWEST_BITS))?;
    let answer = Parameters {
        // Without a number it is no more than leave to name one.
        client_bits: offered.client_bits.filter(Option::is_some),
        ..offered
    };
    Some((answer, answer.windows(level)))
}

/// What a server agreed to when `asked` was offered, from the header's values in its answer.
///
/// # Errors
/// Negotiation, when it is another thing than what was asked for; protocol, when it may not be said in an answer.
pub fn agreed<'a>(
    asked: &Compression,
    answer: impl IntoIterator<Item = &'a str>,
) -> Result<Parameters, TransportError> {
    let offer = Parameters::offer(asked);
    let broken = |words: &str| TransportError::new(Step::Open, ErrorClass::Protocol, words);
    let differs = |got: &dyn fmt::Display| {
        let words = format_args!("asked for {offer}, and the server agreed to {got}");
        Err(TransportError::new(Step::Open, ErrorClass::Negotiation, words))
    };
    let answer =
        elements(answer).ok_or_else(|| broken("the answer's Sec-WebSocket-Extensions cannot be read"))?;
    let answer = match &answer[..] {
        [] => return differs(&"no extension"),
        [one] if one.name.eq_ignore_ascii_case(NAME) => Parameters::of(one)
            .filter(|said| said.client_bits != Some(None))
            .ok_or_else(|| broken("the answer gives permessage-deflate parameters without a meaning"))?,
        _ => return Err(broken("the answer names an extension that was not asked for")),
    };
    if answer.client_bits.is_some() && offer.client_bits.is_none() {
        return Err(broken(
            "the answer limits the client's window, which was not offered",
        ));
    }
    // What is left out of what concerns the client alone, the client does all the same.
    let said = Parameters {
        client_forgets: answer.client_forgets || offer.client_forgets,
        client_bits: answer.client_bits.or(offer.client_bits),
        ..answer
    };
    let widest = |bits: Option<u8>| bits.unwrap_or(WIDEST_BITS);
    let same = said.server_forgets == offer.server_forgets
        && said.client_forgets == offer.client_forgets
        && widest(said.server_bits) == widest(offer.server_bits)
        && widest(said.client_bits.flatten()) == widest(offer.client_bits.flatten());
    if same { Ok(answer) } else { differs(&answer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(takeover: bool, bits: u8) -> Compression {
        let window = Window { takeover, bits };
        Compression {
            down: window,
            up: window,
            level: 6,
        }
    }

    fn answer_to(offers: &[&str]) -> Option<String> {
        accept(offers.iter().copied(), 6).map(|(answer, _)| answer.to_string())
    }

    #[test]
    fn the_first_offer_that_can_be_done_is_taken_as_it_is() {
        for (offers, answer) in [
            (&["permessage-deflate"][..], Some("permessage-deflate")),
            (
                &["Permessage-Deflate ; client_max_window_bits"],
                Some("permessage-deflate"),
            ),
            (
                &["permessage-deflate; client_max_window_bits=10; server_max_window_bits=\"9\""],
                Some("permessage-deflate; server_max_window_bits=9; client_max_window_bits=10"),
            ),
            (
                &["permessage-deflate; server_no_context_takeover; client_no_context_takeover"],
                Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
            ),
            // No window of 8 bits can be made here, but read.
            (
                &[
                    "permessage-deflate; server_max_window_bits=8, permessage-deflate; client_max_window_bits=8",
                ],
                Some("permessage-deflate; client_max_window_bits=8"),
            ),
            (
                &[
                    "x-other; a=\"b\\c\"",
                    "permessage-deflate; server_no_context_takeover",
                ],
                Some("permessage-deflate; server_no_context_takeover"),
            ),
            (&["permessage-deflate; server_max_window_bits"], None),
            (&["permessage-deflate; server_max_window_bits=16"], None),
            (&["permessage-deflate; server_max_window_bits=09"], None),
            (&["permessage-deflate; client_max_window_bits=7"], None),
            (&["permessage-deflate; server_no_context_takeover=1"], None),
            (
                &["permessage-deflate; server_no_context_takeover; server_no_context_takeover"],
                None,
            ),
            (
                &["permessage-deflate; client_max_window_bits; client_max_window_bits=9"],
                None,
            ),
            (&["permessage-deflate; something"], None),
            (&["permessage-deflate;; ="], None),
            (&["permessage-bzip2"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(answer_to(offers).as_deref(), answer, "{offers:?}");
        }
    }

    #[test]
    fn what_is_offered_is_what_both_sides_do() {
        for takeover in [true, false] {
            for bits in NARROWEST_BITS..=WIDEST_BITS {
                let asked = asking(takeover, bits);
                let offer = Parameters::offer(&asked).to_string();
                let (answer, does) = accept([offer.as_str()], 6).unwrap();
                assert_eq!(does, asked, "{offer}");
                assert_eq!(agreed(&asked, [answer.to_string().as_str()]).unwrap(), answer);
            }
        }
    }

    #[test]
    fn anything_else_than_what_was_asked_for_is_told() {
        let class = |asked: &Compression, answer: &[&str]| {
            let e = agreed(asked, answer.iter().copied()).err();
            e.map(|e| (e.class, e.detail))
        };
        let narrow = asking(false, 10);
        let negotiation = ErrorClass::Negotiation;
        for (asked, answer, expected) in [
            (asking(true, 15), &["permessage-deflate"][..], None),
            // What is left out is the default, and what the client does is its own to keep.
            (
                asking(true, 15),
                &["permessage-deflate; server_max_window_bits=15"],
                None,
            ),
            (
                narrow,
                &["permessage-deflate; server_no_context_takeover; server_max_window_bits=10"],
                None,
            ),
            (asking(true, 15), &[], Some(negotiation)),
            (
                asking(true, 15),
                &["permessage-deflate; server_no_context_takeover"],
                Some(negotiation),
            ),
            (
                asking(true, 15),
                &["permessage-deflate; client_no_context_takeover"],
                Some(negotiation),
            ),
            (
                asking(true, 15),
                &["permessage-deflate; server_max_window_bits=12"],
                Some(negotiation),
            ),
            (narrow, &["permessage-deflate"], Some(negotiation)),
            (
                asking(true, 15),
                &["permessage-deflate; client_max_window_bits=12"],
                Some(ErrorClass::Protocol),
            ),
            (
                narrow,
                &["permessage-deflate; client_max_window_bits"],
                Some(ErrorClass::Protocol),
            ),
            (
                asking(true, 15),
                &["permessage-deflate; other"],
                Some(ErrorClass::Protocol),
            ),
            (
                asking(true, 15),
                &["permessage-bzip2"],
                Some(ErrorClass::Protocol),
            ),
            (
                asking(true, 15),
                &["permessage-deflate, x-other"],
                Some(ErrorClass::Protocol),
            ),
            (
                asking(true, 15),
                &["permessage-deflate; =9"],
                Some(ErrorClass::Protocol),
            ),
        ] {
            assert_eq!(
                class(&asked, answer).map(|(class, _)| class),
                expected,
                "{answer:?}"
            );
        }
        let (_, words) = class(&narrow, &[]).unwrap();
        assert!(
            words.contains("server_max_window_bits=10") && words.contains("agreed to no extension"),
            "{words}"
        );
    }
}
