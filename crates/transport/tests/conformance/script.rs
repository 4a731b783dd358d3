//! A server that says what a test wrote down for it, whatever it is asked.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// What follows the bytes of a script.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    /// The end of the connection.
    Close,
    /// Nothing, with the connection open.
    Stay,
    /// These bytes, over and over.
    Repeat(Vec<u8>),
    /// This byte, over and over, slowly.
    Drip(u8),
}

/// Answers the n-th request of all connections together with the n-th script, the later ones with the last; the address.
pub(crate) async fn serve(scripts: Vec<(Vec<u8>, Then)>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let next = std::rc::Rc::new(std::cell::Cell::new(0));
        let scripts = std::rc::Rc::new(scripts);
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (next, scripts) = (next.clone(), scripts.clone());
            tokio::task::spawn_local(async move {
                // An error is a client that has gone, as it may.
                while let Some(request) = head(&mut stream).await {
                    let (bytes, then) = &scripts[next.get().min(scripts.len() - 1)];
                    next.set(next.get() + 1);
                    if answer(&mut stream, &request, bytes, then).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// One request's head; `None` at the end of the connection.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

async fn answer(stream: &mut TcpStream, request: &str, bytes: &[u8], then: &Then) -> std::io::Result<()> {
    let key = request.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("sec-websocket-key").then_some(value)
    });
    // Only the client knows it before.
    if let (Some(key), Some(at)) = (key, bytes.windows(8).position(|w| w == b"{accept}")) {
        stream.write_all(&bytes[..at]).await?;
        stream
            .write_all(derive_accept_key(key.as_bytes()).as_bytes())
            .await?;
        stream.write_all(&bytes[at + 8..]).await?;
    } else {
        stream.write_all(bytes).await?;
    }
    match then {
        Then::Stay => return Ok(()),
        Then::Close => {}
        Then::Repeat(bytes) => loop {
            stream.write_all(bytes).await?;
        },
        Then::Drip(byte) => loop {
            stream.write_all(&[*byte]).await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        },
    }
    stream.shutdown().await?;
    // Closing with something unread would reset the connection.
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}
