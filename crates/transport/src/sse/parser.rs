//! Parser of event streams, incremental and bounded (WHATWG HTML, section 9.2.5 "Parsing an event stream" and 9.2.6
//! "Interpreting an event stream").
//!
//! An event whose data is one line inside one chunk is lent from that chunk; anything else is gathered in buffers that
//! are kept for the next event.

use memchr::{memchr, memchr2};

/// What the stream says, in its order.
pub trait EventSink {
    /// An event is dispatched.
    fn event(&mut self, event: Event<'_>);

    /// A comment: a line that starts with a colon, which is left out. Servers send them as heartbeats.
    fn comment(&mut self, _text: &[u8]) {}

    /// The server sets the reconnection time, in milliseconds; a number too large to hold is the largest that is.
    fn retry(&mut self, _milliseconds: u64) {}
}

/// An event, lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its type; "message" when the stream names none.
    pub event_type: &'a str,
    /// Its data, lines joined by line feeds.
    pub data: &'a str,
    /// The last event ID string at its dispatch.
    pub last_event_id: &'a str,
}

/// A line, or an event's data, is longer than the parser's limit. The stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line or an event's data over {limit} bytes")]
pub struct TooLarge {
    /// The limit.
    pub limit: usize,
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
const DEFAULT_TYPE: &str = "message";

/// Reads one stream from its first byte.
pub struct Parser {
    limit: usize,
    /// No line has ended yet: a byte order mark may stand at its start.
    first_line: bool,
    /// The last chunk ended with a carriage return: a line feed now belongs to it.
    after_cr: bool,
    failed: bool,
    /// The start of a line whose end has not come.
    line: Vec<u8>,
    /// "data buffer": each line followed by a line feed.
    data: Vec<u8>,
    /// "event type buffer".
    event_type: Vec<u8>,
    /// "last event ID buffer".
    id: String,
    id_changed: bool,
    /// An event had an id.
    has_ids: bool,
    /// "last event ID string of the event source".
    last_event_id: String,
}

impl Parser {
    /// A parser that holds lines and events' data of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            first_line: true,
            after_cr: false,
            failed: false,
            line: Vec::new(),
            data: Vec::new(),
            event_type: Vec::new(),
            id: String::new(),
            id_changed: false,
            has_ids: false,
            last_event_id: String::new(),
        }
    }

    /// The same for a stream that goes on after the event of that id: it is the last one until the stream names another.
    pub fn resuming(limit: usize, last_event_id: &str) -> Self {
        Self {
            last_event_id: last_event_id.to_owned(),
            ..Self::new(limit)
        }
    }

    /// True once the stream has set the last event ID string, be it to nothing.
    pub fn has_ids(&self) -> bool {
        self.has_ids
    }

    /// The last event ID string: what a reconnecting client sends as `Last-Event-ID`.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// Reads the next bytes of the stream, cut anywhere, and tells `on` what they complete. What is incomplete at the
    /// end of the stream is discarded by feeding no more.
    ///
    /// # Errors
    /// A line or an event is too large; what came before it was told. Every later call fails too.
    pub fn feed(&mut self, chunk: &[u8], on: &mut impl EventSink) -> Result<(), TooLarge> {
        if self.failed {
            return Err(self.too_large());
        }
        let mut rest = chunk;
        if self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            rest = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        }
        let mut carried = std::mem::take(&mut self.line);
        // The data line of an event that has no other yet, not copied.
        let mut only_line = None;
        if !carried.is_empty() {
            let Some(end) = memchr2(b'\n', b'\r', rest) else {
                self.line = carried;
                return self.carry(rest);
            };
            carried.extend_from_slice(&rest[..end]);
            rest = self.after_line_end(rest, end);
            self.interpret(&carried, &mut only_line, on)?;
        }
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let line = &rest[..end];
            rest = self.after_line_end(rest, end);
            self.interpret(line, &mut only_line, on)?;
        }
        if let Some(line) = only_line {
            self.append_data(line)?;
        }
        carried.clear();
        self.line = carried;
        self.carry(rest)
    }

    fn too_large(&mut self) -> TooLarge {
        self.failed = true;
        TooLarge { limit: self.limit }
    }

    /// Keeps the start of a line for the next chunk.
    fn carry(&mut self, start: &[u8]) -> Result<(), TooLarge> {
        if self.line.len().saturating_add(start.len()) > self.limit {
            return Err(self.too_large());
        }
        self.line.extend_from_slice(start);
        Ok(())
    }

    /// What follows the line end at `end`: a line feed, a carriage return, or both in this order.
    fn after_line_end<'a>(&mut self, text: &'a [u8], end: usize) -> &'a [u8] {
        let rest = &text[end + 1..];
        if text[end] == b'\n' {
            return rest;
        }
        self.after_cr = rest.is_empty();
        rest.strip_prefix(b"\n").unwrap_or(rest)
    }

    fn append_data(&mut self, line: &[u8]) -> Result<(), TooLarge> {
        if self.data.len().saturating_add(line.len()) > self.limit {
            return Err(self.too_large());
        }
        self.data.extend_from_slice(line);
        self.data.push(b'\n');
        Ok(())
    }

    /// "Process the field" for one line, which may be empty or a comment.
    fn interpret<'a>(
        &mut self,
        line: &'a [u8],
        only_line: &mut Option<&'a [u8]>,
        on: &mut impl EventSink,
    ) -> Result<(), TooLarge> {
        if line.len() > self.limit {
            return Err(self.too_large());
        }
        let mut line = line;
        if std::mem::take(&mut self.first_line) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            self.dispatch(only_line.take(), on);
            return Ok(());
        }
        let (name, value) = match memchr(b':', line) {
            Some(0) => {
                on.comment(&line[1..]);
                return Ok(());
            }
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        match name {
            b"data" => {
                if let Some(earlier) = only_line.take() {
                    self.append_data(earlier)?;
                } else if self.data.is_empty() {
                    *only_line = Some(value);
                    return Ok(());
                }
                self.append_data(value)?;
            }
            b"event" => {
                self.event_type.clear();
                self.event_type.extend_from_slice(value);
            }
            b"id" if memchr(0, value).is_none() => {
                self.id.clear();
                self.id.push_str(&String::from_utf8_lossy(value));
                self.id_changed = true;
            }
            b"retry" => {
                if let Some(milliseconds) = digits(value) {
                    on.retry(milliseconds);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// "Dispatch the event".
    fn dispatch(&mut self, only_line: Option<&[u8]>, on: &mut impl EventSink) {
        if std::mem::take(&mut self.id_changed) {
            self.last_event_id.clone_from(&self.id);
            self.has_ids = true;
        }
        let data = only_line.or_else(|| self.data.strip_suffix(b"\n"));
        if let Some(data) = data {
            let event_type = String::from_utf8_lossy(&self.event_type);
            on.event(Event {
                event_type: if event_type.is_empty() {
                    DEFAULT_TYPE
                } else {
                    &event_type
                },
                // Lines are cut at ASCII bytes, so decoding the data alone is decoding the stream.
                data: &String::from_utf8_lossy(data),
                last_event_id: &self.last_event_id,
            });
        }
        self.data.clear();
        self.event_type.clear();
    }
}

/// ASCII digits alone, in base ten, saturating; `None` for anything else and for nothing.
fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(sum.saturating_mul(10).saturating_add(digit))
    })
}

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;
