//! A client's connection: write a request, read a head, read a body; each step polled, none of them a task.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::Version;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::{ErrorClass, Step, TransportError};
use crate::h1::body::Body;
use crate::seam::Received;
use crate::tcp::Notes;

/// What one read may bring. One such buffer serves all connections of a thread.
const SCRATCH_BYTES: usize = 64 * 1024;
/// A response's head may be this long.
const MOST_HEAD_BYTES: usize = 64 * 1024;
/// Interim responses before one answer: a peer must not keep a client reading them for ever.
const MOST_INTERIM: u32 = 16;
/// A response may have this many headers.
const MOST_HEADERS: usize = 100;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is asked of a response's head, besides how its body is framed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head<T> {
    /// The version of HTTP that the answer is in.
    pub version: Version,
    /// The status code.
    pub status: u16,
    /// What the caller took from the headers.
    pub taken: T,
}

/// One connection, and the exchange that is going on over it.
///
/// Every `poll_` function may be dropped and called again: what was read is kept or has been handed over.
pub struct Exchange<S> {
    stream: S,
    /// Bytes of requests not yet written.
    unsent: Vec<u8>,
    sent: usize,
    /// Bytes read but not yet taken: the start of a head, or what followed one.
    carried: Vec<u8>,
    body: Body,
    /// Interim responses to the request that is answered now.
    interim: u32,
    /// The peer will close after this response.
    closing: bool,
    /// The peer has closed.
    ended: bool,
}

/// What came of polling a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Bytes came; there may be more.
    More,
    /// The body is complete.
    Done,
}

impl<S: AsyncRead + AsyncWrite + Notes + Unpin> Exchange<S> {
    /// Exchanges over a connected stream.
    pub fn over(stream: S) -> Self {
        Self {
            stream,
            unsent: Vec::new(),
            sent: 0,
            carried: Vec::new(),
            body: Body::Length(0),
            interim: 0,
            closing: false,
            ended: false,
        }
    }

    /// The stream, and what was read of it beyond the last head: for a protocol that takes over.
    pub fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.carried)
    }

    /// Queues a request; `parts` are its head and body in order.
    pub fn request(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.unsent.extend_from_slice(part);
        }
    }

    /// True when the peer has said that it takes no further request on this connection.
    pub fn is_closing(&self) -> bool {
        self.closing || self.ended
    }

    /// The last read that brought bytes.
    pub fn last_read(&self) -> Received {
        self.stream.last_read()
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn poll_flush(&mut self, step: Step, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        while self.sent < self.unsent.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unsent[self.sent..]));
            match written {
                Ok(0) => {
                    return Poll::Ready(Err(TransportError::new(
                        step,
                        ErrorClass::EndedEarly,
                        "nothing was taken",
                    )));
                }
                Ok(n) => self.sent += n,
                Err(e) => return Poll::Ready(Err(TransportError::from_io(step, &e))),
            }
        }
        self.unsent.clear();
        self.sent = 0;
        // Keeps the room for the next request of the same size, but not what one large message left behind.
        self.unsent.shrink_to(1024);
        Pin::new(&mut self.stream)
            .poll_flush(cx)
            .map_err(|e| TransportError::from_io(step, &e))
    }

    /// Reads a response's head, interim responses (RFC 9110, section 15.2) skipped. `take` sees the headers. Also gives
    /// when the bytes that completed it were read.
    ///
    /// # Errors
    /// The connection ended, or what came is not a response, or its head is too large, or nothing but interim responses came.
    pub fn poll_head<T>(
        &mut self,
        step: Step,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&[httparse::Header<'_>]) -> T,
    ) -> Poll<Result<(Head<T>, Received), TransportError>> {
        loop {
            if !self.carried.is_empty() {
                match self.parse_head(step, &mut take) {
                    Ok(Some(head)) if head.status < 200 && head.status != 101 => {
                        self.interim += 1;
                        if self.interim > MOST_INTERIM {
                            let words =
                                format_args!("more than {MOST_INTERIM} interim responses and no answer");
                            return Poll::Ready(Err(TransportError::new(step, ErrorClass::Protocol, words)));
                        }
                        continue;
                    }
                    Ok(Some(head)) => {
                        self.interim = 0;
                        return Poll::Ready(Ok((head, self.stream.last_read())));
                    }
                    Ok(None) => {}
                    Err(e) => return Poll::Ready(Err(e)),
                }
            }
            if self.ended {
                let words = if self.carried.is_empty() {
                    "no answer"
                } else {
                    "in the middle of the head"
                };
                return Poll::Ready(Err(TransportError::new(step, ErrorClass::EndedEarly, words)));
            }
            let carried = &mut self.carried;
            let read = ready!(poll_read(&mut self.stream, cx, |_, bytes| carried.extend_from_slice(bytes)));
            match read {
                Ok(n) => self.ended = n == 0,
                Err(e) => return Poll::Ready(Err(TransportError::from_io(step, &e))),
            }
        }
    }

    fn parse_head<T>(
        &mut self,
        step: Step,
        take: &mut impl FnMut(&[httparse::Header<'_>]) -> T,
    ) -> Result<Option<Head<T>>, TransportError> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(&self.carried) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if self.carried.len() < MOST_HEAD_BYTES => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(TransportError::new(
                    step,
                    ErrorClass::TooLarge,
                    "the response's head does not end",
                ));
            }
            Err(e) => {
                // A TLS record: its type, then a version that begins with 3 (RFC 8446, section 5.1).
                let secured = matches!(self.carried[..], [20..=23, 3, ..]);
                let advice = if secured {
                    "; the peer speaks TLS on this port, so use h1+tls or h2+tls"
                } else {
                    ""
                };
                return Err(TransportError::new(
                    step,
                    ErrorClass::Protocol,
                    format_args!("not an HTTP/1 response: {e}{advice}"),
                ));
            }
        };
        let status = response.code.unwrap_or(0);
        let version = response.version.unwrap_or(0);
        let (body, closing) = framing(step, status, version, response.headers)?;
        let head = Head {
            version: match version {
                0 => Version::HTTP_10,
                _ => Version::HTTP_11,
            },
            status,
            taken: take(response.headers),
        };
        self.carried.drain(..length);
        if self.carried.is_empty() {
            self.carried = Vec::new();
        }
        (self.body, self.closing) = (body, closing);
        Ok(Some(head))
    }

    /// Reads once and lends what belongs to the body to `sink`, with when it was read; `Done` as soon as the body is
    /// complete, which may bring bytes too.
    ///
    /// # Errors
    /// The connection ended before the body did, or the body's framing is broken.
    pub fn poll_body(
        &mut self,
        step: Step,
        cx: &mut Context<'_>,
        mut sink: impl FnMut(Received, &[u8]),
    ) -> Poll<Result<Progress, TransportError>> {
        if self.body.is_done() {
            return Poll::Ready(Ok(Progress::Done));
        }
        let broken = |e| TransportError::new(step, ErrorClass::Protocol, e);
        if !self.carried.is_empty() {
            let carried = std::mem::take(&mut self.carried);
            let received = self.stream.last_read();
            let used = self
                .body
                .feed(&carried, |bytes| sink(received, bytes))
                .map_err(broken)?;
            self.carried = carried[used..].to_vec();
        } else {
            let (body, carried) = (&mut self.body, &mut self.carried);
            let mut fed = Ok(());
            let read = ready!(poll_read(&mut self.stream, cx, |received, bytes| {
                match body.feed(bytes, |bytes| sink(received, bytes)) {
                    Ok(used) => carried.extend_from_slice(&bytes[used..]),
                    Err(e) => fed = Err(e),
                }
            }));
            fed.map_err(broken)?;
            match read {
                Ok(0) => {
                    self.ended = true;
                    return Poll::Ready(if self.body == Body::UntilClose {
                        self.body = Body::Length(0);
                        Ok(Progress::Done)
                    } else {
                        Err(TransportError::new(
                            step,
                            ErrorClass::EndedEarly,
                            "in the middle of a body",
                        ))
                    });
                }
                Ok(_) => {}
                Err(e) => return Poll::Ready(Err(TransportError::from_io(step, &e))),
            }
        }
        Poll::Ready(Ok(if self.body.is_done() {
            Progress::Done
        } else {
            Progress::More
        }))
    }
}

/// Reads once into the thread's buffer and lends what came, with when it came.
pub(crate) fn poll_read<S: AsyncRead + Notes + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    lend: impl FnOnce(Received, &[u8]),
) -> Poll<std::io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.is_empty() {
            scratch.resize(SCRATCH_BYTES, 0);
        }
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
        let filled = buffer.filled();
        if !filled.is_empty() {
            lend(stream.last_read(), filled);
        }
        Poll::Ready(Ok(filled.len()))
    })
}

/// How the body is framed (RFC 9112, section 6.3), and whether the connection ends with it.
fn framing(
    step: Step,
    status: u16,
    version: u8,
    headers: &[httparse::Header<'_>],
) -> Result<(Body, bool), TransportError> {
    let values = |name: &'static str| {
        headers
            .iter()
            .filter(move |h| h.name.eq_ignore_ascii_case(name))
            .map(|h| h.value.trim_ascii())
    };
    let has_token = |name, token: &[u8]| {
        values(name).any(|v| {
            v.split(|b| *b == b',')
                .any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
        })
    };
    let closing =
        has_token("connection", b"close") || (version == 0 && !has_token("connection", b"keep-alive"));
    if status < 200 || status == 204 || status == 304 {
        return Ok((Body::Length(0), closing));
    }
    let wrong = |words| Err(TransportError::new(step, ErrorClass::Protocol, words));
    let mut lengths = values("content-length");
    let length = lengths.next();
    if let Some(coding) = values("transfer-encoding").next_back() {
        if length.is_some() {
            return wrong("both Content-Length and Transfer-Encoding");
        }
        if !coding.eq_ignore_ascii_case(b"chunked") {
            return wrong("a transfer coding other than chunked");
        }
        return Ok((Body::CHUNKED, closing));
    }
    match length {
        None => Ok((Body::UntilClose, true)),
        Some(text) if lengths.any(|other| other != text) => wrong("two different Content-Lengths"),
        Some(text) => match std::str::from_utf8(text)
            .ok()
            .filter(|t| t.bytes().all(|b| b.is_ascii_digit()))
        {
            Some(digits) => match digits.parse() {
                Ok(length) => Ok((Body::Length(length), closing)),
                Err(_) => wrong("a Content-Length that is no number"),
            },
            None => wrong("a Content-Length that is no number"),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    impl Notes for tokio::io::DuplexStream {
        fn last_read(&self) -> Received {
            Received::default()
        }
    }

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    /// What a client makes of `answers`, sent in pieces of `step` bytes: per response its status and body.
    fn exchange(
        answers: &[u8],
        step: usize,
        responses: usize,
    ) -> Result<Vec<(u16, Vec<u8>)>, TransportError> {
        run(async {
            let (ours, mut theirs) = duplex(64);
            let answers = answers.to_vec();
            let peer = tokio::spawn(async move {
                let mut request = [0; 5];
                theirs.read_exact(&mut request).await.unwrap();
                for piece in answers.chunks(step) {
                    if theirs.write_all(piece).await.is_err() {
                        return;
                    }
                }
            });
            let mut exchange = Exchange::over(ours);
            exchange.request(&[b"GE", b"T /"]);
            poll_fn(|cx| exchange.poll_flush(Step::Send, cx)).await?;
            let mut all = Vec::new();
            for _ in 0..responses {
                let (head, _) = poll_fn(|cx| exchange.poll_head(Step::Receive, cx, |_| ())).await?;
                let mut body = Vec::new();
                while poll_fn(|cx| exchange.poll_body(Step::Receive, cx, |_, b| body.extend_from_slice(b)))
                    .await?
                    == Progress::More
                {}
                all.push((head.status, body));
            }
            peer.await.unwrap();
            Ok(all)
        })
    }

    #[test]
    fn responses_follow_each_other_however_they_are_cut() {
        let answers = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\
                        HTTP/1.1 204 No Content\r\n\r\n\
                        HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n\
                        HTTP/1.0 200 OK\r\n\r\nto the end";
        for step in 1..answers.len() {
            let seen = exchange(answers, step, 4).unwrap();
            let expected: [(u16, &[u8]); 4] = [(200, b"abc"), (204, b""), (200, b"de"), (200, b"to the end")];
            assert_eq!(
                seen.iter().map(|(s, b)| (*s, b.as_slice())).collect::<Vec<_>>(),
                expected,
                "{step}"
            );
        }
    }

    /// Some interim responses are an answer's own; a stream of them is none, and the count begins anew with each answer.
    #[test]
    fn interim_responses_are_skipped_but_not_for_ever() {
        let interim = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        let sixteen = [&interim.repeat(16)[..], answer].concat();
        assert_eq!(exchange(&sixteen.repeat(2), 4_096, 2).unwrap().len(), 2);
        let error = exchange(&[&interim[..], &sixteen].concat(), 4_096, 1).unwrap_err();
        assert_eq!(error.class, ErrorClass::Protocol, "{error}");
    }

    #[test]
    fn broken_answers_have_their_class() {
        let endless_head = [&b"HTTP/1.1 200 OK\r\n"[..], &b"x: y\r\n".repeat(20_000)].concat();
        let endless_line = [&b"HTTP/1.1 200 OK\r\nx: "[..], &b"y".repeat(200_000)].concat();
        for (answer, class) in [
            (&b""[..], ErrorClass::EndedEarly),
            (b"HTTP/1.1 200", ErrorClass::EndedEarly),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
                ErrorClass::EndedEarly,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
                ErrorClass::EndedEarly,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                ErrorClass::Protocol,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                ErrorClass::Protocol,
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                ErrorClass::Protocol,
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                ErrorClass::Protocol,
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
                ErrorClass::Protocol,
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
                ErrorClass::Protocol,
            ),
            (b"\x16\x03\x01\x02\x00\x01\x00", ErrorClass::Protocol),
            (&endless_head, ErrorClass::TooLarge),
            (&endless_line, ErrorClass::TooLarge),
        ] {
            for step in [1, 7, 4_096] {
                if step == 1 && answer.len() > 1_000 {
                    continue;
                }
                let error = exchange(answer, step, 1).unwrap_err();
                assert_eq!(
                    error.class,
                    class,
                    "{:?}",
                    String::from_utf8_lossy(&answer[..answer.len().min(60)])
                );
            }
        }
    }
}
