//! Routes: transports by the registry, control and statistics by this file, anything else by a 404 that says what there is.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, StatusCode, Version};
use pushmark_measure::schedule::Rate;
use pushmark_transport::body::ServerBody;
use pushmark_transport::control::{
    ACCEPT_PATH, Accept, DISCONNECTS_PATH, PUBLISH_PATH, Publish, STATS_PATH, STOP_PATH, StopPublishing,
};
use pushmark_transport::http::{collect, refusal, status};
use pushmark_transport::seam::{ServerRequest, ServerResponse};
use pushmark_transport::{Step, registry};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::hub::Hub;
use crate::publisher::Publication;
use crate::unread::Unread;

/// A control request's body is at most this large.
const MOST_CONTROL_BYTES: usize = 64 * 1024;
/// A publication faster than this is a mistake, not a load.
const FASTEST: Rate = Rate {
    count: 1_000_000,
    per_ns: 1_000_000_000,
};

pub(crate) async fn route(request: ServerRequest, hub: &Arc<Hub>) -> ServerResponse<Hub> {
    // RFC 9112, section 3.2.
    if request.version() == Version::HTTP_11 && request.headers().get_all(HOST).iter().count() != 1 {
        return refusal(StatusCode::BAD_REQUEST, "a request names one host");
    }
    let request = match registry::respond(request, hub).await {
        Ok(response) => {
            // Counted by the answer: a session is asked for twice when the first, quicker way to open it was refused.
            if response.status() == StatusCode::SERVICE_UNAVAILABLE {
                hub.count_refused();
            }
            return response;
        }
        Err(request) => request,
    };
    let unread = request.extensions().get::<Unread>().cloned();
    let answer = about_the_server(request, hub).await;
    match unread {
        Some(unread) => unread.count(answer),
        None => answer,
    }
}

/// What is no session's.
async fn about_the_server(request: ServerRequest, hub: &Arc<Hub>) -> ServerResponse<Hub> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, STATS_PATH) => json(&hub.stats()),
        (&Method::GET, DISCONNECTS_PATH) => json(&hub.disconnects()),
        (&Method::POST, PUBLISH_PATH) => publish(request, hub).await,
        (&Method::POST, STOP_PATH) => stop(request, hub).await,
        (&Method::POST, ACCEPT_PATH) => accept(request, hub).await,
        (_, STATS_PATH | DISCONNECTS_PATH | PUBLISH_PATH | STOP_PATH | ACCEPT_PATH) => {
            refusal(StatusCode::METHOD_NOT_ALLOWED, "wrong method")
        }
        _ => {
            let paths: Vec<String> = registry::ROWS
                .iter()
                .filter(|r| !r.in_process)
                .map(|r| format!("/{}", r.name))
                .collect();
            refusal(
                StatusCode::NOT_FOUND,
                format!("this server has {}, {STATS_PATH} and /control", paths.join(", ")),
            )
        }
    }
}

fn json(answer: &impl Serialize) -> ServerResponse<Hub> {
    match serde_json::to_vec(answer) {
        Ok(json) => {
            let mut response = status(StatusCode::OK);
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *response.body_mut() = ServerBody::whole(json);
            response
        }
        Err(e) => refusal(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()),
    }
}

/// What a control request says; `what` it should be.
async fn said<T: DeserializeOwned>(
    request: ServerRequest,
    what: &str,
) -> Result<T, Box<ServerResponse<Hub>>> {
    let bad = |words: String| Box::new(refusal(StatusCode::BAD_REQUEST, words));
    let body = collect(Step::Receive, request.into_body(), MOST_CONTROL_BYTES)
        .await
        .map_err(|e| bad(e.to_string()))?;
    serde_json::from_slice(&body).map_err(|e| bad(format!("not {what}: {e}")))
}

async fn accept(request: ServerRequest, hub: &Hub) -> ServerResponse<Hub> {
    let Accept { accept } = match said(request, "a word about new connections").await {
        Ok(accept) => accept,
        Err(refusal) => return *refusal,
    };
    if hub.door.set(accept, hub.threads()).await {
        return status(StatusCode::OK);
    }
    let words = "the port could not be bound again in time, or another request asked for the opposite";
    refusal(StatusCode::SERVICE_UNAVAILABLE, words)
}

async fn publish(request: ServerRequest, hub: &Hub) -> ServerResponse<Hub> {
    let publish: Publish = match said(request, "a publication").await {
        Ok(publish) => publish,
        Err(refusal) => return *refusal,
    };
    if publish.payload_bytes as usize > hub.config.max_message_bytes {
        return refusal(
            StatusCode::BAD_REQUEST,
            "payload_bytes is larger than this server's messages may be",
        );
    }
    if publish.schedule.rate.as_per_second() > FASTEST.as_per_second() {
        return refusal(
            StatusCode::BAD_REQUEST,
            "a publication may have a million messages a second",
        );
    }
    hub.publish(Publication::new(publish, hub.threads(), hub.config.history > 0));
    status(StatusCode::OK)
}

async fn stop(request: ServerRequest, hub: &Hub) -> ServerResponse<Hub> {
    let stop: StopPublishing = match said(request, "the end of a publication").await {
        Ok(stop) => stop,
        Err(refusal) => return *refusal,
    };
    if let Some(publication) = hub.publication() {
        publication.end_before(stop.at);
        if !settles(&publication).await {
            // Far behind its schedule: what it has not published by now, it does not publish.
            publication.end_now();
            settles(&publication).await;
        }
    }
    json(&hub.stats())
}

/// True once every thread has published all that will be; false when that takes longer than anybody should wait.
async fn settles(publication: &Publication) -> bool {
    for _ in 0..1_500 {
        if publication.is_settled() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    false
}
