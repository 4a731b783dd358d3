//! Routes: transports by the registry, control and statistics by this file, anything else by a 404 that says what there is.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, StatusCode, Version};
use pushmark_measure::schedule::Rate;
use pushmark_transport::body::ServerBody;
use pushmark_transport::control::{PUBLISH_PATH, Publish, STATS_PATH, STOP_PATH, StopPublishing};
use pushmark_transport::http::{collect, refusal, status};
use pushmark_transport::seam::{ServerRequest, ServerResponse};
use pushmark_transport::{Step, registry};

use crate::hub::Hub;
use crate::publisher::Publication;

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
    match (request.method(), request.uri().path()) {
        (&Method::GET, STATS_PATH) => stats(hub),
        (&Method::POST, PUBLISH_PATH) => publish(request, hub).await,
        (&Method::POST, STOP_PATH) => stop(request, hub).await,
        (_, STATS_PATH | PUBLISH_PATH | STOP_PATH) => refusal(StatusCode::METHOD_NOT_ALLOWED, "wrong method"),
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

fn stats(hub: &Hub) -> ServerResponse<Hub> {
    match serde_json::to_vec(&hub.stats()) {
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

async fn publish(request: ServerRequest, hub: &Hub) -> ServerResponse<Hub> {
    let body = match collect(Step::Receive, request.into_body(), MOST_CONTROL_BYTES).await {
        Ok(body) => body,
        Err(e) => return refusal(StatusCode::BAD_REQUEST, e.to_string()),
    };
    let publish: Publish = match serde_json::from_slice(&body) {
        Ok(publish) => publish,
        Err(e) => return refusal(StatusCode::BAD_REQUEST, format!("not a publication: {e}")),
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
    hub.publish(Publication::new(publish, hub.threads()));
    status(StatusCode::OK)
}

async fn stop(request: ServerRequest, hub: &Hub) -> ServerResponse<Hub> {
    let body = match collect(Step::Receive, request.into_body(), MOST_CONTROL_BYTES).await {
        Ok(body) => body,
        Err(e) => return refusal(StatusCode::BAD_REQUEST, e.to_string()),
    };
    let stop: StopPublishing = match serde_json::from_slice(&body) {
        Ok(stop) => stop,
        Err(e) => {
            return refusal(
                StatusCode::BAD_REQUEST,
                format!("not the end of a publication: {e}"),
            );
        }
    };
    if let Some(publication) = hub.publication() {
        publication.end_before(stop.at);
        if !settles(&publication).await {
            // Far behind its schedule: what it has not published by now, it does not publish.
            publication.end_now();
            settles(&publication).await;
        }
    }
    stats(hub)
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
