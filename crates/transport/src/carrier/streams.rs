//! Requests of one session on an HTTP/2 connection, each a stream of it, one after another.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::h2::RecvStream;
use ::h2::client::{ResponseFuture, SendRequest};
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request, Uri, Version};
use pushmark_measure::clock;

use super::exchange::Asked;
use super::h2::{Lease, Room, is_secured_lease};
use super::kept::Headers;
use crate::error::{ErrorClass, Step, TransportError};
use crate::h1::{Head, Progress};
use crate::seam::Received;

/// A response may have this many headers.
const MOST_HEADERS: usize = 100;

/// When a session takes what has come for it: all that it finds at one time has one arrival.
#[derive(Default)]
pub(super) struct Taking(Option<Received>);

impl Taking {
    /// Something was there.
    pub(super) fn took(&mut self, lease: &Lease) -> Received {
        *self.0.get_or_insert_with(|| Received {
            at: clock::now(),
            kernel: lease.last_read().kernel,
        })
    }

    /// Nothing more is there now.
    pub(super) fn waits(&mut self) {
        self.0 = None;
    }
}

enum State {
    Idle,
    Queued(Box<Request<()>>, Bytes),
    Waiting(ResponseFuture, Room),
    Body { body: RecvStream, _room: Room },
}

/// Requests of one session, each a stream of the connection.
pub struct Exchange {
    lease: Lease,
    send: SendRequest<Bytes>,
    taking: Taking,
    state: State,
}

impl Exchange {
    pub(super) fn on(lease: Lease) -> Self {
        Self {
            send: lease.sender(),
            lease,
            taking: Taking::default(),
            state: State::Idle,
        }
    }

    pub(super) fn lease(&self) -> Lease {
        self.lease.clone()
    }

    pub(super) fn is_closing(&self) -> bool {
        !self.lease.is_usable()
    }

    pub(super) fn last_read(&self) -> Received {
        self.lease.last_read()
    }

    pub(super) fn request(&mut self, step: Step, asked: Asked<'_>) -> Result<(), TransportError> {
        let request = request(&asked, is_secured_lease(&self.lease))
            .map_err(|e| TransportError::new(step, ErrorClass::Protocol, e))?;
        self.state = State::Queued(Box::new(request), Bytes::copy_from_slice(asked.body));
        Ok(())
    }

    pub(super) fn poll_flush(
        &mut self,
        step: Step,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TransportError>> {
        let State::Queued(..) = &self.state else {
            return Poll::Ready(Ok(()));
        };
        let book = &self.lease;
        ready!(self.send.poll_ready(cx)).map_err(|e| book.class_of(step, &e))?;
        let room = self.lease.room(step)?;
        let State::Queued(request, body) = std::mem::replace(&mut self.state, State::Idle) else {
            return Poll::Ready(Ok(()));
        };
        let sent = self.send.send_request(*request, body.is_empty());
        let (response, mut stream) = sent.map_err(|e| book.class_of(step, &e))?;
        if !body.is_empty() {
            // One message, and the next waits for its answer: the library may hold it until the window takes it.
            stream
                .send_data(body, true)
                .map_err(|e| book.class_of(step, &e))?;
        }
        self.state = State::Waiting(response, room);
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_head<T>(
        &mut self,
        step: Step,
        cx: &mut Context<'_>,
        mut take: impl FnMut(Headers<'_, '_>) -> T,
    ) -> Poll<Result<(Head<T>, Received), TransportError>> {
        let State::Waiting(response, _) = &mut self.state else {
            let words = "no request waits for an answer";
            return Poll::Ready(Err(TransportError::new(step, ErrorClass::Closed, words)));
        };
        let response = ready!(Pin::new(response).poll(cx)).map_err(|e| self.lease.class_of(step, &e))?;
        self.lease.waited();
        let (parts, body) = response.into_parts();
        if parts.headers.len() > MOST_HEADERS {
            let words = "the response's head does not end";
            return Poll::Ready(Err(TransportError::new(step, ErrorClass::TooLarge, words)));
        }
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        for (to, (name, value)) in headers.iter_mut().zip(&parts.headers) {
            *to = httparse::Header {
                name: name.as_str(),
                value: value.as_bytes(),
            };
        }
        let head = Head {
            version: parts.version,
            status: parts.status.as_u16(),
            taken: take(&headers[..parts.headers.len()]),
        };
        if let State::Waiting(_, room) = std::mem::replace(&mut self.state, State::Idle) {
            self.state = State::Body { body, _room: room };
        }
        let received = self.taking.took(&self.lease);
        // The body may be asked for much later.
        self.taking.waits();
        Poll::Ready(Ok((head, received)))
    }

    pub(super) fn poll_body(
        &mut self,
        step: Step,
        cx: &mut Context<'_>,
        mut sink: impl FnMut(Received, &[u8]),
    ) -> Poll<Result<Progress, TransportError>> {
        let State::Body { body, .. } = &mut self.state else {
            return Poll::Ready(Ok(Progress::Done));
        };
        let Poll::Ready(came) = body.poll_data(cx) else {
            self.taking.waits();
            return Poll::Pending;
        };
        match came {
            None => {
                self.state = State::Idle;
                Poll::Ready(Ok(Progress::Done))
            }
            Some(Ok(bytes)) => {
                // Taken: the peer may send as much again.
                let _ = body.flow_control().release_capacity(bytes.len());
                sink(self.taking.took(&self.lease), &bytes);
                if body.is_end_stream() {
                    self.state = State::Idle;
                    return Poll::Ready(Ok(Progress::Done));
                }
                Poll::Ready(Ok(Progress::More))
            }
            Some(Err(e)) => Poll::Ready(Err(self.lease.class_of(step, &e))),
        }
    }
}

/// A request as HTTP/2 has it.
pub(super) fn request(asked: &Asked<'_>, secured: bool) -> Result<Request<()>, hyper::http::Error> {
    let scheme = if secured { "https" } else { "http" };
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(asked.authority)
        .path_and_query(asked.path)
        .build()?;
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(asked.method.as_bytes())?;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    for line in asked.headers.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        request.headers_mut().append(
            HeaderName::from_bytes(name.as_bytes())?,
            HeaderValue::from_str(value.trim())?,
        );
    }
    Ok(request)
}
