//! The opening handshake, client half (RFC 6455, section 4.1).

use std::future::poll_fn;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::carrier::{Headers, check_version, header, status_of};
use crate::error::{ErrorClass, Step, TransportError};
use crate::h1::Exchange;
use crate::process;
use crate::tcp::Notes;

/// What a server's answer says of the session, as far as a client has to know.
struct Agreed {
    upgrade: bool,
    connection: bool,
    accept: Option<String>,
    /// A protocol of its own, which was not asked for.
    protocol: bool,
    extensions: Vec<String>,
}

/// Opens a session over a connected stream; `headers` go with the request, lines of their own. Gives the stream, what came of the
/// session's own bytes with the answer, and the extensions that the answer names.
///
/// # Errors
/// The connection is gone, the server refused, or its answer is not what the standard asks for.
pub(super) async fn open<S: AsyncRead + AsyncWrite + Notes + Unpin>(
    stream: S,
    host: &str,
    (path, headers): (&str, &str),
) -> Result<(S, Vec<u8>, Vec<String>), TransportError> {
    const STEP: Step = Step::Open;
    let key = STANDARD.encode(process::random_u128().to_ne_bytes());
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: {key}\r\n{headers}\r\n"
    );
    let mut exchange = Exchange::over(stream);
    exchange.request(&[request.as_bytes()]);
    poll_fn(|cx| exchange.poll_flush(STEP, cx)).await?;
    let (head, _) = poll_fn(|cx| exchange.poll_head(STEP, cx, agreed)).await?;
    let status = status_of(STEP, head.status)?;
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let words = format_args!("the server answered {status} where 101 Switching Protocols was needed");
        return Err(TransportError::new(
            STEP,
            ErrorClass::Status(status.as_u16()),
            words,
        ));
    }
    check_version(STEP, head.version)?;
    let agreed = head.taken;
    let wrong = if !agreed.upgrade {
        Some("the answer does not say Upgrade: websocket")
    } else if !agreed.connection {
        Some("the answer does not say Connection: Upgrade")
    } else if agreed.accept.as_deref() != Some(&derive_accept_key(key.as_bytes())) {
        Some("the answer's Sec-WebSocket-Accept does not fit the key that was sent")
    } else if agreed.protocol {
        Some("the answer names a protocol that was not asked for")
    } else {
        None
    };
    if let Some(words) = wrong {
        return Err(TransportError::new(STEP, ErrorClass::Protocol, words));
    }
    let (stream, early) = exchange.into_parts();
    Ok((stream, early, agreed.extensions))
}

fn agreed(headers: Headers<'_, '_>) -> Agreed {
    let text = |name| header(headers, name).and_then(|value| std::str::from_utf8(value).ok());
    let is = |name, token: &str| {
        text(name).is_some_and(|value: &str| {
            value
                .split(',')
                .any(|part| part.trim().eq_ignore_ascii_case(token))
        })
    };
    Agreed {
        upgrade: is("upgrade", "websocket"),
        connection: is("connection", "upgrade"),
        accept: text("sec-websocket-accept").map(|accept| accept.trim().to_owned()),
        protocol: header(headers, "sec-websocket-protocol").is_some(),
        extensions: headers
            .iter()
            .filter(|h| h.name.eq_ignore_ascii_case("sec-websocket-extensions"))
            .map(|h| String::from_utf8_lossy(h.value).into_owned())
            .collect(),
    }
}
