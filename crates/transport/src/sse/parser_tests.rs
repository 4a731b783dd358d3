//! Tests of the parser: the rules of the standard one by one, limits, and any bytes in any chunks.

use proptest::prelude::*;

use super::*;
use crate::message::Message;
use crate::sse::writer;

/// All that a parser tells, owned.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    events: Vec<(String, String, String)>,
    comments: Vec<Vec<u8>>,
    retries: Vec<u64>,
}

impl EventSink for Told {
    fn event(&mut self, event: Event<'_>) {
        let Event {
            event_type,
            data,
            last_event_id,
        } = event;
        self.events
            .push((event_type.into(), data.into(), last_event_id.into()));
    }
    fn comment(&mut self, text: &[u8]) {
        self.comments.push(text.into());
    }
    fn retry(&mut self, milliseconds: u64) {
        self.retries.push(milliseconds);
    }
}

const LIMIT: usize = 1 << 20;

/// What is told of `stream` cut into chunks of those sizes, over and over; and whether it was too large.
fn read(stream: &[u8], sizes: &[usize], limit: usize) -> (Told, String, Result<(), TooLarge>) {
    let mut parser = Parser::new(limit);
    let mut told = Told::default();
    let mut rest = stream;
    let mut result = Ok(());
    for size in sizes.iter().cycle() {
        let (chunk, next) = rest.split_at((*size).min(rest.len()));
        result = result.and(parser.feed(chunk, &mut told));
        rest = next;
        if rest.is_empty() {
            break;
        }
    }
    (told, parser.last_event_id().to_owned(), result)
}

/// The same, whole and in chunks of one to seven bytes, which must not differ.
fn read_all_ways(stream: &[u8]) -> (Told, String) {
    let (told, last_event_id, result) = read(stream, &[stream.len().max(1)], LIMIT);
    assert_eq!(result, Ok(()));
    for size in 1..=7 {
        let (again, id, result) = read(stream, &[size], LIMIT);
        assert_eq!(
            (&again, &id, result),
            (&told, &last_event_id, Ok(())),
            "in chunks of {size}: {:?}",
            stream.escape_ascii().to_string()
        );
    }
    (told, last_event_id)
}

/// Each event as `type|data|last event id`.
fn check(cases: &[(&[u8], &[&str])]) {
    for (stream, wanted) in cases {
        let (told, _) = read_all_ways(stream);
        let events: Vec<_> = told
            .events
            .iter()
            .map(|(t, d, i)| format!("{t}|{d}|{i}"))
            .collect();
        assert_eq!(events, *wanted, "{:?}", stream.escape_ascii().to_string());
    }
}

#[test]
fn line_ends() {
    check(&[
        (b"data: lf\n\n", &["message|lf|"]),
        (b"data: cr\r\r", &["message|cr|"]),
        (b"data: crlf\r\n\r\n", &["message|crlf|"]),
        (
            b"data: a\r\n\ndata: b\n\r\ndata: c\r\n\r",
            &["message|a|", "message|b|", "message|c|"],
        ),
        // CR LF is one line end, LF CR is two.
        (b"data: a\n\rdata: b\r\n\r\n", &["message|a|", "message|b|"]),
        (b"data: a\r\ndata: b\r\n\n", &["message|a\nb|"]),
        // A vertical tab, a form feed and a line separator end nothing.
        (
            b"data: a\x0Bb\x0Cc\xE2\x80\xA8d\n\n",
            &["message|a\u{B}b\u{C}c\u{2028}d|"],
        ),
        (
            b"\n\r\n\r\r\n\ndata: after blanks\n\n",
            &["message|after blanks|"],
        ),
        (b"", &[]),
        (b"\n\n\n", &[]),
    ]);
}

#[test]
fn byte_order_mark() {
    check(&[
        (b"\xEF\xBB\xBFdata: one\n\n", &["message|one|"]),
        // Only one, and only at the start; elsewhere it belongs to the field's name or value.
        (b"\xEF\xBB\xBF\xEF\xBB\xBFdata: two\n\n", &[]),
        (
            b"data: x\n\n\xEF\xBB\xBFdata: y\n\ndata: z\n\n",
            &["message|x|", "message|z|"],
        ),
        (b"\n\xEF\xBB\xBFdata: late\n\n", &[]),
        (b"data: \xEF\xBB\xBFkept\n\n", &["message|\u{FEFF}kept|"]),
        (b"\xEF\xBB\xBF\n\ndata: a\n\n", &["message|a|"]),
        (b"\xEF\xBB\xBF: a comment\ndata: a\n\n", &["message|a|"]),
        // Two thirds of a mark are a name like any other.
        (b"\xEF\xBBdata: a\n\ndata: b\n\n", &["message|b|"]),
    ]);
}

#[test]
fn names_and_values() {
    check(&[
        (b"data:no space\n\n", &["message|no space|"]),
        (b"data:  two spaces\n\n", &["message| two spaces|"]),
        (b"data: \n\n", &["message||"]),
        (b"data:\ttab\n\n", &["message|\ttab|"]),
        (b"data: trailing \n\n", &["message|trailing |"]),
        (b"data:::\n\n", &["message|::|"]),
        (b"data\n\n", &["message||"]),
        (b"data\ndata\n\n", &["message|\n|"]),
        (b"data\ndata:\ndata: \n\n", &["message|\n\n|"]),
        (b"Data: a\nDATA: b\n data: c\ndata : d\ndatax: e\ndat: f\n\n", &[]),
        (b"unknown: x\ndata: y\nunknown\n\n", &["message|y|"]),
        (b"\x00data: a\ndata: b\x00\n\n", &["message|b\0|"]),
        (b"{\"data\": 1}\n\ndata: x\n\n", &["message|x|"]),
    ]);
}

#[test]
fn data_and_dispatch() {
    check(&[
        (b"data: a\ndata: b\ndata: c\n\n", &["message|a\nb\nc|"]),
        (b"data: a\nevent: t\ndata: b\n\n", &["t|a\nb|"]),
        (b"data: \ndata: a\n\n", &["message|\na|"]),
        (b"data: a\ndata: \n\n", &["message|a\n|"]),
        // Not ended by a blank line: discarded.
        (b"data: whole\n\ndata: cut", &["message|whole|"]),
        (b"data: whole\n\ndata: cut\n", &["message|whole|"]),
        (b"data: whole\n\ndata: cut\r", &["message|whole|"]),
        (b"data: a\n\n\n\n\n", &["message|a|"]),
    ]);
}

#[test]
fn event_types() {
    check(&[
        (b"event: t\ndata: a\n\n", &["t|a|"]),
        (b"event: t\ndata: a\n\ndata: b\n\n", &["t|a|", "message|b|"]),
        (b"event: t\nevent: u\ndata: a\n\n", &["u|a|"]),
        (b"event: t\nevent\ndata: a\n\n", &["message|a|"]),
        (b"event:\ndata: a\n\n", &["message|a|"]),
        (b"event: \xC3\xA9t\xC3\xA9\ndata: a\n\n", &["\u{e9}t\u{e9}|a|"]),
        // A type without data dispatches nothing, and does not last.
        (b"event: t\n\ndata: a\n\n", &["message|a|"]),
    ]);
}

#[test]
fn ids_last() {
    check(&[
        (b"id: 1\ndata: a\n\ndata: b\n\n", &["message|a|1", "message|b|1"]),
        (b"data: a\nid: 1\n\n", &["message|a|1"]),
        (
            b"id: 1\ndata: a\n\nid\ndata: b\n\n",
            &["message|a|1", "message|b|"],
        ),
        (b"id: 1\nid: 2\ndata: a\n\n", &["message|a|2"]),
        (b"id: 1\n\ndata: a\n\n", &["message|a|1"]),
        (
            b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n",
            &["message|a|1", "message|b|1"],
        ),
        (b"id: 1\nid: \0\ndata: a\n\n", &["message|a|1"]),
        (b"id: \xE2\x82\xAC 5\ndata: a\n\n", &["message|a|\u{20ac} 5"]),
        (b"id:  1\ndata: a\n\n", &["message|a| 1"]),
    ]);
    // An id counts once its block has ended, with or without data.
    for (stream, wanted) in [
        (&b"id: 7\n\n"[..], "7"),
        (b"id: 7\ndata: a\n\nid: 8\n", "7"),
        (b"id: 7\ndata: a\n\nid: 8\n\n", "8"),
        (b"id: 7", ""),
    ] {
        assert_eq!(read_all_ways(stream).1, wanted);
    }
}

#[test]
fn retries_are_digits_and_saturate() {
    for (stream, wanted) in [
        (&b"retry: 1500\n"[..], &[1500][..]),
        (b"retry:0\n", &[0]),
        (b"retry:007\n", &[7]),
        (b"retry: 18446744073709551615\n", &[u64::MAX]),
        (b"retry: 1000000000000000000000000000000\n", &[u64::MAX]),
        (b"retry: 1\nretry: x\nretry: 2\n", &[1, 2]),
        (
            b"retry\nretry:\nretry: \nretry: -1\nretry: +1\nretry: 1.5\nretry:  1\nretry: 1 \nretry: 0x10\nretry: \xD9\xA3\n",
            &[],
        ),
    ] {
        assert_eq!(read_all_ways(stream).0.retries, wanted);
    }
}

#[test]
fn comments_are_told_and_change_nothing() {
    let (told, _) = read_all_ways(b":\n: ping\r\ndata: a\n:\xFF\r:b:c\ndata: d\n\n:e");
    assert_eq!(told.comments, [&b""[..], b" ping", b"\xFF", b"b:c"]);
    assert_eq!(told.events, [("message".into(), "a\nd".into(), String::new())]);
}

#[test]
fn bytes_that_are_not_utf_8_are_replaced() {
    check(&[
        (b"data: \xFF\n\n", &["message|\u{FFFD}|"]),
        (b"data: a\xE2\x82\n\n", &["message|a\u{FFFD}|"]),
        // A sequence that a line end cuts does not go on in the next line.
        (
            b"data: \xE2\x82\ndata: \xAC\n\n",
            &["message|\u{FFFD}\n\u{FFFD}|"],
        ),
        (
            b"data: \xC0\xAF\xED\xA0\x80\n\n",
            &["message|\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}|"],
        ),
        (b"event: \xFF\nid: \xFE\ndata: a\n\n", &["\u{FFFD}|a|\u{FFFD}"]),
        (b"data: \xF0\x9F\x98\x80\n\n", &["message|\u{1F600}|"]),
    ]);
}

#[test]
fn lines_and_events_are_bounded() {
    let too_large = Err(TooLarge { limit: 10 });
    for (stream, result, events) in [
        (&b"data: 1234\n\n"[..], Ok(()), 1),
        (b"data: 12345\n\n", too_large, 0),
        (b"data: 12345", too_large, 0),
        (b": 123456789", too_large, 0),
        (b"data: a\n\nid: 12345678\n\n", too_large, 1),
        (b"data:1234\ndata:1234\n\n", Ok(()), 1),
        (b"data:1234\ndata:12345\n\n", Ok(()), 1),
        (b"data:1234\ndata:12345\ndata:1\n\n", too_large, 0),
        (
            b"data\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\n\n",
            Ok(()),
            1,
        ),
        (
            b"data: a\n\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\ndata\n\n",
            too_large,
            1,
        ),
    ] {
        for size in [1, 2, 3, 5, 8, 100] {
            let (told, _, got) = read(stream, &[size], 10);
            assert_eq!(
                (got, told.events.len()),
                (result, events),
                "{:?} in chunks of {size}",
                stream.escape_ascii().to_string()
            );
        }
    }
    let mut parser = Parser::new(10);
    let mut told = Told::default();
    assert!(parser.feed(b"data: 12345\n\n", &mut told).is_err());
    assert!(
        parser.feed(b"data: a\n\n", &mut told).is_err(),
        "a failed stream cannot be read on"
    );
    assert_eq!(told, Told::default());
}

#[test]
fn a_stream_without_line_ends_takes_no_more_memory_than_the_limit() {
    let mut parser = Parser::new(1_000);
    let fed = (0..1_000).map_while(|_| parser.feed(&[b'x'; 64], &mut Told::default()).ok());
    assert_eq!(fed.count(), 1_000 / 64);
    assert!(parser.line.capacity() <= 2_000);
}

#[test]
fn a_whole_event_is_lent_from_its_chunk() {
    struct Where(std::ops::Range<*const u8>, bool);
    impl EventSink for Where {
        fn event(&mut self, event: Event<'_>) {
            self.1 = self.0.contains(&event.data.as_ptr());
        }
    }
    let chunk = b"id: 1\nevent: t\ndata: lent, not copied\n: heartbeat\n\n";
    let mut sink = Where(chunk.as_ptr_range(), false);
    Parser::new(100).feed(chunk, &mut sink).unwrap();
    assert!(sink.1);
}

/// Streams made mostly of what means something in one.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            &b"data"[..], b"data: ", b"event: ", b"id: ", b"retry: ", b":", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"\0",
            b"7", b"\xEF\xBB\xBF", b"\xE2\x82\xAC", b"\xF0\x9F",
        ]).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_in_any_chunks_say_the_same(
        stream in streams(),
        sizes in prop::collection::vec(0usize..20, 1..12),
        limit in prop_oneof![Just(LIMIT), 1usize..40],
    ) {
        let sizes = if sizes.iter().all(|s| *s == 0) { vec![1] } else { sizes };
        let whole = read(&stream, &[stream.len().max(1)], limit);
        prop_assert_eq!(read(&stream, &sizes, limit), whole);
    }

    #[test]
    fn what_the_writer_writes_the_parser_reads(
        texts in prop::collection::vec(prop_oneof![any::<String>(), "[\\r\\n :\u{FEFF}da\0]{0,12}"], 1..6),
        size in 1usize..50,
    ) {
        let messages: Vec<_> = texts.iter().map(Message::text).collect();
        let stream: Vec<u8> = messages.iter().flat_map(writer::encode).collect();
        let (told, _, result) = read(&stream, &[size], LIMIT);
        prop_assert_eq!(result, Ok(()));
        let mut payload = Vec::new();
        let read: Vec<String> = told.events.iter().map(|(event_type, data, _)| match event_type.as_str() {
            writer::TEXT_TYPE => {
                writer::decode(data, &mut payload).unwrap();
                String::from_utf8(payload.clone()).unwrap()
            }
            _ => data.clone(),
        }).collect();
        prop_assert_eq!(read, texts);
    }

    #[test]
    fn what_the_writer_makes_of_bytes_fits_the_limit_it_states(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let stream = writer::encode(&Message::binary(bytes.clone()));
        let (told, _, result) = read(&stream, &[stream.len()], writer::encoded_bytes(bytes.len()));
        prop_assert_eq!(result, Ok(()));
        let mut payload = Vec::new();
        prop_assert_eq!(&told.events[0].0, writer::BINARY_TYPE);
        writer::decode(&told.events[0].1, &mut payload).unwrap();
        prop_assert_eq!(payload, bytes);
    }
}
