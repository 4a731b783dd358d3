//! Server-sent events, server half.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};

use crate::body::{OutboxStream, ServerBody};
use crate::host::{ConnectionKill, Host};
use crate::http::{receive_post, refusal, session_header, status};
use crate::message::Message;
use crate::seam::{ServerHalf, ServerRequest, ServerResponse};
use crate::sse::writer;

/// Serves event streams and the messages that come up beside them.
pub struct SseServer;

impl ServerHalf for SseServer {
    const PATH: &'static str = "/sse";

    fn encode(message: &Message) -> Bytes {
        writer::encode(message)
    }

    async fn respond<H: Host>(request: ServerRequest, host: &Arc<H>) -> ServerResponse<H> {
        match *request.method() {
            Method::GET => open(&request, host),
            Method::POST => receive_post(request, host).await,
            _ => {
                let mut response = refusal(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "GET opens a stream, POST takes a message",
                );
                response
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static("GET, POST"));
                response
            }
        }
    }
}

fn open<H: Host>(request: &ServerRequest, host: &Arc<H>) -> ServerResponse<H> {
    let Some(session) = host.open::<SseServer>(ConnectionKill::of(request)) else {
        return refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "the server takes no more sessions",
        );
    };
    let mut response = status(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    session_header(headers, session.id);
    *response.body_mut() = ServerBody::Stream(OutboxStream::new(host.clone(), session, Bytes::new()));
    response
}
