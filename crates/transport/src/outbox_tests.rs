//! The outbox: policies, cursors, and what waits beside its capacity.

use super::*;

fn message(n: u64) -> Outgoing {
    Outgoing::message(Bytes::from(n.to_string()), Nanos(n))
}

fn numbers(batch: &[Outgoing]) -> Vec<u64> {
    batch.iter().map(|m| m.sent.0).collect()
}

fn drain(outbox: &Outbox) -> Vec<u64> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    while let Poll::Ready(Ok(Some(m))) = outbox.poll_pop(&mut cx) {
        all.push(m.sent.0);
    }
    all
}

#[test]
fn each_policy_drops_what_it_says() {
    for (policy, outcome, left) in [
        (WhenFull::DropOldest, Pushed::DroppedOldest, vec![2, 3]),
        (WhenFull::DropNewest, Pushed::DroppedNewest, vec![1, 2]),
        (WhenFull::Disconnect, Pushed::Overflowed, vec![1, 2]),
    ] {
        let outbox = Outbox::new(2, policy);
        assert_eq!(
            (outbox.push(message(1)), outbox.push(message(2))),
            (Pushed::Queued, Pushed::Queued)
        );
        assert_eq!(outbox.push(message(3)), outcome);
        assert_eq!(outbox.is_closed(), policy == WhenFull::Disconnect);
        assert_eq!(drain(&outbox), left, "{policy:?}");
    }
}

fn peek(outbox: &Outbox, cursor: u64, max_bytes: usize) -> Option<(Vec<u64>, u64, usize)> {
    let reader = outbox.begin_reading();
    match outbox.poll_peek(reader, cursor, max_bytes, &mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Peeked::Batch(b)) => Some((numbers(&b.messages), b.next, b.fresh)),
        Poll::Ready(Peeked::Ended) => Some((Vec::new(), cursor, 0)),
        Poll::Ready(Peeked::Superseded) => panic!("a new reader cannot be superseded"),
        Poll::Pending => None,
    }
}

#[test]
fn a_cursor_keeps_what_is_not_confirmed() {
    let outbox = Outbox::new(10, WhenFull::DropOldest);
    for n in 0..5 {
        outbox.push(message(n));
    }
    assert_eq!(peek(&outbox, 0, 3), Some((vec![0, 1, 2], 3, 3)));
    let again = peek(&outbox, 0, 100);
    assert_eq!(again, Some((vec![0, 1, 2, 3, 4], 5, 2)), "only two are fresh");
    assert_eq!(peek(&outbox, 4, 0), Some((vec![4], 5, 0)), "always at least one");
    assert_eq!(peek(&outbox, 5, 9), None);
    outbox.push(message(5));
    assert_eq!(peek(&outbox, 0, 9), Some((vec![5], 6, 1)), "an old cursor");
    outbox.close();
    assert_eq!(peek(&outbox, 6, 9), Some((vec![], 6, 0)));
    assert_eq!(outbox.push(message(6)), Pushed::Closed);
}

#[test]
fn a_cursor_from_the_future_loses_nothing() {
    let outbox = Outbox::new(10, WhenFull::DropOldest);
    outbox.push(message(0));
    outbox.push(message(1));
    assert_eq!(peek(&outbox, u64::MAX, 1), Some((vec![0], 1, 1)));
    assert_eq!(peek(&outbox, u64::MAX, 1), Some((vec![1], 2, 1)));
    assert_eq!(peek(&outbox, u64::MAX, 1), None);
}

#[test]
fn what_was_given_out_is_neither_dropped_nor_counted_as_waiting() {
    for policy in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let outbox = Outbox::new(2, policy);
        outbox.push(message(0));
        outbox.push(message(1));
        assert_eq!(peek(&outbox, 0, 1), Some((vec![0], 1, 1)));
        assert_eq!(outbox.waiting(), 1);
        assert_eq!(outbox.push(message(2)), Pushed::Queued);
        let (outcome, left) = match policy {
            WhenFull::DropOldest => (Pushed::DroppedOldest, vec![2, 3]),
            _ => (Pushed::DroppedNewest, vec![1, 2]),
        };
        assert_eq!(outbox.push(message(3)), outcome);
        assert_eq!(peek(&outbox, 0, 1), Some((vec![0], 1, 0)), "fetched again");
        assert_eq!(peek(&outbox, 1, 99), Some((left, 3, 2)));
        assert_eq!(outbox.discard(), 0);
    }
}

#[test]
fn a_reader_that_never_confirms_holds_a_bounded_number() {
    let outbox = Outbox::new(3, WhenFull::DropOldest);
    for n in 0..100 {
        outbox.push(message(n));
        peek(&outbox, 0, usize::MAX);
    }
    assert_eq!(peek(&outbox, 0, usize::MAX), Some((vec![0, 1, 2], 3, 0)));
    assert_eq!(outbox.discard(), 3);
}

#[test]
fn the_newer_reader_wins() {
    let mut cx = Context::from_waker(Waker::noop());
    let outbox = Outbox::new(3, WhenFull::DropOldest);
    let older = outbox.begin_reading();
    assert!(outbox.poll_peek(older, 0, 9, &mut cx).is_pending());
    let newer = outbox.begin_reading();
    outbox.push(message(0));
    assert!(matches!(
        outbox.poll_peek(older, 0, 9, &mut cx),
        Poll::Ready(Peeked::Superseded)
    ));
    assert!(matches!(
        outbox.poll_peek(newer, 0, 9, &mut cx),
        Poll::Ready(Peeked::Batch(_))
    ));
}

#[test]
fn what_is_replayed_is_no_matter_of_capacity() {
    for (policy, outcome, left) in [
        (
            WhenFull::DropOldest,
            Pushed::DroppedOldest,
            vec![0, 1, 2, 3, 5, 6],
        ),
        (
            WhenFull::DropNewest,
            Pushed::DroppedNewest,
            vec![0, 1, 2, 3, 4, 5],
        ),
        (WhenFull::Disconnect, Pushed::Overflowed, vec![0, 1, 2, 3, 4, 5]),
    ] {
        let outbox = Outbox::new(2, policy);
        assert_eq!(outbox.replay((0..4).map(message)), 4);
        assert_eq!(outbox.push(message(4)), Pushed::Queued);
        assert_eq!(outbox.push(message(5)), Pushed::Queued);
        assert_eq!(outbox.push(message(6)), outcome);
        assert_eq!(outbox.waiting(), 6);
        assert_eq!(drain(&outbox), left, "{policy:?}");
        assert_eq!(outbox.waiting(), 0);
    }
}

#[test]
fn what_is_replayed_is_confirmed_like_the_rest() {
    let outbox = Outbox::new(2, WhenFull::DropOldest);
    outbox.replay((0..4).map(message));
    assert_eq!(
        peek(&outbox, 0, 99),
        Some((vec![0, 1], 2, 2)),
        "no more than the capacity"
    );
    outbox.push(message(4));
    outbox.push(message(5));
    assert_eq!(outbox.push(message(6)), Pushed::DroppedOldest);
    assert_eq!(peek(&outbox, 2, 99), Some((vec![2, 3], 4, 2)));
    assert_eq!(peek(&outbox, 4, 99), Some((vec![5, 6], 6, 2)));
    assert_eq!((outbox.waiting(), outbox.discard()), (0, 0));
}

#[test]
fn control_frames_are_no_messages() {
    let outbox = Outbox::new(1, WhenFull::DropOldest);
    outbox.replay([message(0)].into_iter());
    outbox.push_first(b"first");
    outbox.push(message(1));
    outbox.push_control(b"last");
    assert_eq!(outbox.push(message(2)), Pushed::DroppedOldest);
    assert_eq!(outbox.waiting(), 2);
    let mut cx = Context::from_waker(Waker::noop());
    let mut wire = Vec::new();
    while let Poll::Ready(Ok(Some(m))) = outbox.poll_pop(&mut cx) {
        wire.extend_from_slice(&m.encoded);
    }
    assert_eq!(wire, b"first0last2");
    assert_eq!(outbox.waiting(), 0);
}

/// Fails at the message that says so, and at the end.
struct Failing;

impl Coder for Failing {
    fn code(&mut self, encoded: &Bytes, _control: bool) -> Result<Bytes, CodingFailed> {
        if encoded == "1" {
            return Err(CodingFailed);
        }
        Ok(encoded.clone())
    }

    fn finish(&mut self) -> Result<Option<Bytes>, CodingFailed> {
        Err(CodingFailed)
    }
}

#[test]
fn what_cannot_be_coded_is_an_error_and_no_end() {
    let outbox = Outbox::new(9, WhenFull::DropOldest);
    outbox.code_with(Box::new(Failing));
    for n in 0..3 {
        outbox.push(message(n));
    }
    outbox.close();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(outbox.poll_pop(&mut cx), Poll::Ready(Ok(Some(_)))));
    for _ in 0..2 {
        assert!(matches!(
            outbox.poll_pop(&mut cx),
            Poll::Ready(Err(CloseReason::Reset))
        ));
    }
    let mut written = Vec::new();
    let through = outbox.poll_write_through(Pin::new(&mut written), &mut cx, |_| {});
    assert!(matches!(through, Poll::Ready(Err(CloseReason::Reset))));
    assert_eq!(written, b"");
    assert_eq!(outbox.failure(), Some(CloseReason::Reset));

    let outbox = Outbox::new(9, WhenFull::DropOldest);
    outbox.code_with(Box::new(Failing));
    assert_eq!(outbox.finish(), Err(CloseReason::Reset));
}
