//! A kept HTTP/1.1 connection of the client that is driven by whoever waits on it.
//!
//! There is no task behind it, so that one wake-up reads the socket, parses, and delivers, with no queue and no second
//! wake-up between the arrival of bytes and their arrival time; and a connection costs no task. What nobody waits for
//! is not read: it waits in the socket.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use pushmark_measure::Nanos;
use tokio::net::TcpStream;

use crate::error::{ErrorClass, Step, TransportError};
use crate::http::{BINARY, TEXT, expect_status, from_hyper};
use crate::message::{Kind, Message};
use crate::seam::Target;
use crate::tcp::Stamped;

/// Most bytes of a response's head, and of a body that is read in one go.
const MOST_BUFFERED_BYTES: usize = 64 * 1024;
/// Most bytes of an answer that says no more than its status.
const MOST_ANSWER_BYTES: usize = 64 * 1024;

type Driver = http1::Connection<TokioIo<Stamped>, Full<Bytes>>;
type InFlight = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>>>>;

/// A kept connection. One request at a time.
pub struct Driven {
    in_flight: Option<InFlight>,
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once the connection has ended.
    driver: Option<Box<Driver>>,
    authority: HeaderValue,
    last_read: Rc<Cell<Nanos>>,
    /// An exchange has begun and its answer was not read to the end.
    busy: bool,
}

impl Driven {
    /// Speaks HTTP/1.1 over a connected stream.
    ///
    /// # Errors
    /// Protocol.
    pub async fn over(stream: TcpStream, target: &Target) -> Result<Self, TransportError> {
        let stream = Stamped::new(stream);
        let last_read = stream.last_read().clone();
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(MOST_BUFFERED_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| from_hyper(Step::Open, &e))?;
        let authority = HeaderValue::try_from(target.address.to_string())
            .map_err(|e| TransportError::new(Step::Open, ErrorClass::Other, e))?;
        Ok(Self {
            in_flight: None,
            sender,
            driver: Some(Box::new(driver)),
            authority,
            last_read,
            busy: false,
        })
    }

    /// A request without headers but the host's.
    pub fn request(&self, method: Method, uri: Uri, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        request.headers_mut().insert(HOST, self.authority.clone());
        request
    }

    /// When the socket was last read.
    pub fn last_read(&self) -> Nanos {
        self.last_read.get()
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver.as_mut()).poll(cx).is_ready()
        {
            // What it ended of is told by the request or the body that it carried.
            self.driver = None;
        }
    }

    /// Takes `request` once the connection is free for it, and writes what the socket takes at once.
    ///
    /// # Errors
    /// The connection has ended.
    pub fn poll_send(
        &mut self,
        step: Step,
        request: &mut Option<Request<Full<Bytes>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), TransportError>> {
        self.drive(cx);
        ready!(self.sender.poll_ready(cx)).map_err(|e| from_hyper(step, &e))?;
        if let Some(request) = request.take() {
            self.in_flight = Some(Box::pin(self.sender.send_request(request)));
            self.drive(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for the head of the answer to the request in flight.
    ///
    /// # Errors
    /// The connection ended or broke the protocol, or nothing is in flight.
    pub fn poll_head(
        &mut self,
        step: Step,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<Incoming>, TransportError>> {
        self.drive(cx);
        let Some(in_flight) = &mut self.in_flight else {
            return Poll::Ready(Err(TransportError::new(
                step,
                ErrorClass::Closed,
                "nothing was asked",
            )));
        };
        let head = ready!(in_flight.as_mut().poll(cx));
        self.in_flight = None;
        Poll::Ready(head.map_err(|e| from_hyper(step, &e)))
    }

    /// Waits for the next bytes of an answer's body; `None` at its end.
    ///
    /// # Errors
    /// The connection ended or broke the protocol.
    pub fn poll_data(
        &mut self,
        step: Step,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, TransportError>>> {
        loop {
            self.drive(cx);
            return Poll::Ready(match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Some(Ok(data)),
                    // Trailers say nothing to us.
                    Err(_) => continue,
                },
                Some(Err(e)) => Some(Err(from_hyper(step, &e))),
                None => None,
            });
        }
    }

    /// Sends a request and waits for the head of its answer, whose body is then read with [`Driven::poll_data`].
    ///
    /// # Errors
    /// The connection ended or broke the protocol, or an earlier call was dropped before its end.
    pub async fn ask(
        &mut self,
        step: Step,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TransportError> {
        if std::mem::replace(&mut self.busy, true) {
            let words = "an earlier request on this connection was abandoned";
            return Err(TransportError::new(step, ErrorClass::Closed, words));
        }
        let mut request = Some(request);
        poll_fn(|cx| self.poll_send(step, &mut request, cx)).await?;
        poll_fn(|cx| self.poll_head(step, cx)).await
    }

    /// Sends a request and reads the whole answer, of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Driven::ask`], or the body is too large.
    pub async fn exchange(
        &mut self,
        step: Step,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<(hyper::http::response::Parts, Bytes), TransportError> {
        let (head, mut body) = self.ask(step, request).await?.into_parts();
        let mut whole = BytesMut::new();
        while let Some(data) = poll_fn(|cx| self.poll_data(step, &mut body, cx)).await {
            let data = data?;
            if data.len() > limit - whole.len() {
                return Err(too_large(step, limit));
            }
            whole.extend_from_slice(&data);
        }
        self.busy = false;
        Ok((head, whole.freeze()))
    }

    /// Sends `message` up and waits until the server has taken it.
    ///
    /// # Errors
    /// The connection ended, or the server did not answer with 204.
    pub async fn post(&mut self, uri: Uri, message: Message) -> Result<(), TransportError> {
        let media_type = if message.kind == Kind::Text { TEXT } else { BINARY };
        let mut request = self.request(Method::POST, uri, message.payload);
        request
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        let (head, _) = self.exchange(Step::Send, request, MOST_ANSWER_BYTES).await?;
        expect_status(Step::Send, head.status, StatusCode::NO_CONTENT)
    }
}

/// A body over `limit` bytes.
pub fn too_large(step: Step, limit: usize) -> TransportError {
    TransportError::new(step, ErrorClass::TooLarge, format_args!("over {limit} bytes"))
}
