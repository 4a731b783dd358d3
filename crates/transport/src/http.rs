//! What the HTTP transports share: headers, queries, statuses, and the message that comes up in a request's body.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};

use crate::body::ServerBody;
use crate::compression::coding;
use crate::error::{ErrorClass, Step, TransportError};
use crate::host::{Host, SessionId};
use crate::message::{Kind, Message};

/// The media type that marks a text message in a request's or a response's body.
pub const TEXT: &str = "text/plain; charset=utf-8";
/// The media type that marks a binary message.
pub const BINARY: &str = "application/octet-stream";
/// The response header that names a session.
pub const SESSION_HEADER: &str = "pushmark-session";

/// An error unless `status` is the `wanted` one.
///
/// # Errors
/// [`ErrorClass::Status`].
pub fn expect_status(step: Step, status: StatusCode, wanted: StatusCode) -> Result<(), TransportError> {
    if status == wanted {
        return Ok(());
    }
    let class = ErrorClass::Status(status.as_u16());
    Err(TransportError::new(
        step,
        class,
        format_args!("the server answered {status} where {wanted} was needed"),
    ))
}

/// Reads a body of at most `limit` bytes to its end.
///
/// # Errors
/// Too large, or the connection ended first.
pub async fn collect(step: Step, body: Incoming, limit: usize) -> Result<Bytes, TransportError> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => Err(from_hyper(step, &error)),
            Err(_) => Err(TransportError::new(
                step,
                ErrorClass::TooLarge,
                format_args!("body over {limit} bytes"),
            )),
        },
    }
}

/// The class that an error of the HTTP library belongs to.
pub fn from_hyper(step: Step, error: &hyper::Error) -> TransportError {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return TransportError::from_io(step, io);
        }
        cause = inner.source();
    }
    // A kept connection that is found gone when it is needed again has ended early too.
    let class = if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        ErrorClass::EndedEarly
    } else if error.is_parse_too_large() {
        ErrorClass::TooLarge
    } else if error.is_parse() {
        ErrorClass::Protocol
    } else {
        ErrorClass::Other
    };
    TransportError::new(step, class, error)
}

/// The value of `name` in a query string. Only what this project writes itself is asked for, so nothing is unescaped.
pub fn query<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    uri.query()?.split('&').find_map(|pair| {
        pair.split_once('=')
            .filter(|(key, _)| *key == name)
            .map(|(_, v)| v)
    })
}

/// Names `session` in a response's headers.
pub fn session_header(headers: &mut HeaderMap, session: SessionId) {
    if let Ok(name) = HeaderValue::try_from(session.to_string()) {
        headers.insert(HeaderName::from_static(SESSION_HEADER), name);
    }
}

/// The session that a response's headers name.
///
/// # Errors
/// Protocol, when they name none.
pub fn named_session(session: Option<SessionId>) -> Result<SessionId, TransportError> {
    session.ok_or_else(|| {
        TransportError::new(
            Step::Open,
            ErrorClass::Protocol,
            format_args!("the answer names no session in its {SESSION_HEADER} header"),
        )
    })
}

/// `path` for what concerns `session`.
pub fn session_path(path: &str, session: SessionId) -> String {
    format!("{path}?session={session}")
}

/// The point where a client goes on, in the query of the request that opens its session: the number of the first message
/// that it has not had.
pub const RESUME: &str = "resume";

/// The resume point in a query, when there is one.
///
/// # Errors
/// It is no number; with the words for the client.
pub fn resume_point(uri: &Uri) -> Result<Option<u64>, &'static str> {
    let words = "resume must be the number of the first message that is wanted";
    query(uri, RESUME)
        .map(|number| number.parse().map_err(|_| words))
        .transpose()
}

/// `path` for a session that goes on where `resume` says.
///
/// # Errors
/// Protocol, when that is nothing that may stand in a query.
pub fn resume_path(path: &str, resume: Option<&str>) -> Result<String, TransportError> {
    let Some(point) = resume else {
        return Ok(path.to_owned());
    };
    // What needs no escape (RFC 3986, section 2.3).
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    if point.is_empty() || !point.bytes().all(plain) {
        let words = format_args!("{point:?} is no point to resume from");
        return Err(TransportError::new(Step::Open, ErrorClass::Protocol, words));
    }
    Ok(format!("{path}?{RESUME}={point}"))
}

/// Whether a client asks for bodies in gzip.
pub(crate) fn asks_for_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .any(coding::takes_gzip)
}

/// A response with nothing but a status.
pub fn status<H: Host>(status: StatusCode) -> Response<ServerBody<H>> {
    let mut response = Response::new(ServerBody::empty());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A response that says in plain words what is wrong with a request.
pub fn refusal<H: Host>(code: StatusCode, words: impl Into<String>) -> Response<ServerBody<H>> {
    let mut response = status(code);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    *response.body_mut() = ServerBody::whole(words.into() + "\n");
    response
}

/// Takes the message in the body of `request` up to the session that its query names: 204, or why not.
pub async fn receive_post<H: Host>(request: Request<Incoming>, host: &Arc<H>) -> Response<ServerBody<H>> {
    let Some(id) = query(request.uri(), "session").and_then(|id| id.parse().ok()) else {
        return refusal(
            StatusCode::BAD_REQUEST,
            "the query must name a session: ?session=…",
        );
    };
    let Some(session) = host.find(id) else {
        return refusal(StatusCode::NOT_FOUND, "no such session, or it has ended");
    };
    let is_text = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|t| t.as_bytes().starts_with(b"text/"));
    let kind = if is_text { Kind::Text } else { Kind::Binary };
    let limit = host.max_message_bytes();
    let payload = match collect(Step::Receive, request.into_body(), limit).await {
        Ok(payload) => payload,
        Err(e) if e.class == ErrorClass::TooLarge => {
            return refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a message may have {limit} bytes"),
            );
        }
        Err(_) => return refusal(StatusCode::BAD_REQUEST, "the body did not arrive whole"),
    };
    if !crate::host::is_valid(kind, &payload) {
        return refusal(StatusCode::BAD_REQUEST, "a text message must be UTF-8");
    }
    if host.heartbeat().is_some() {
        session.hear();
    }
    host.received(&session, Message { kind, payload });
    status(StatusCode::NO_CONTENT)
}
