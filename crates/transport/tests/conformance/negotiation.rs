//! Negotiation: what was really agreed is told, and anything else than what was asked for is an error of its own.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use pushmark_transport::carrier::certificates::{Acceptor, Identity, Offer, Valid};
use pushmark_transport::carrier::tls::{self, Settings, Trust, Version};
use pushmark_transport::carrier::{Carriage, Carrier, Http, Streams};
use pushmark_transport::seam::Collected;
use pushmark_transport::sse::SseConnector;
use pushmark_transport::ws::WsConnector;
use pushmark_transport::{Connector, ErrorClass, Rx, Step, Target, TransportError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::fixture::{for_every_transport, numbered, receive, run_alone, target, until};
use crate::host::{Config, TestHost, carriage, serve, serve_with};
use crate::script::{self, Then};

for_every_transport!(
    what_was_agreed_is_told,
    Config::default(),
    |connector, fixture| {
        let Some(_) = fixture.host() else { return };
        let carrier = fixture.target.carriage.carrier;
        let session = fixture.connect(&connector).await;
        let negotiated = session.negotiated;
        assert_eq!(negotiated.http, carrier.http());
        let secured = carrier.is_secured();
        assert_eq!(negotiated.alpn, secured.then(|| carrier.http().alpn()));
        assert_eq!(
            negotiated.tls.map(|t| t.version),
            secured.then_some(Version::Tls1_3)
        );
        assert!(
            negotiated
                .tls
                .is_none_or(|t| t.cipher.starts_with("TLS13_") && !t.resumed)
        );
        let shared = negotiated.streams_per_connection.is_some();
        assert_eq!(shared, carrier.http() == Http::Http2);
        let times = session.times;
        assert!(times.started <= times.tcp_connected && times.tcp_connected <= times.secured);
        assert!(times.secured <= times.usable);
        assert_eq!(times.secured > times.tcp_connected, secured);
    }
);

for_every_transport!(
    sessions_share_a_connection_as_far_as_they_may,
    Config::default(),
    |connector, mut fixture| {
        let Some(host) = fixture.host() else { return };
        if fixture.target.carriage.carrier.http() != Http::Http2 {
            return;
        }
        let three = NonZeroU32::new(3).unwrap();
        for (streams, connections) in [(Streams::AtMost(three), 3), (Streams::All, 1)] {
            fixture.target.carriage.streams_per_connection = streams;
            let before = host.records(|_| ()).len();
            let mut sessions = Vec::new();
            for _ in 0..7 {
                sessions.push(fixture.connect(&connector).await);
            }
            let peers = host.records(|r| r.session.peer());
            let distinct: std::collections::HashSet<_> = peers[before..].iter().collect();
            assert_eq!(distinct.len(), connections, "{streams:?}");
            // One that goes leaves the others what they have, and its place to another.
            drop(sessions.pop());
            until(|| host.closed().len() == before + 1 || fixture.row.orderly_close).await;
            sessions.push(fixture.connect(&connector).await);
            fixture.publish(&numbered(1));
            for session in &mut sessions {
                assert_eq!(receive(&mut session.rx, 1).await, [numbered(1)]);
            }
            drop(sessions);
            until(|| host.closed().len() == before + 8 || fixture.row.orderly_close).await;
        }
    }
);

for_every_transport!(
    stamps_are_those_of_the_sessions_that_asked_for_them,
    Config::default(),
    |connector, mut fixture| {
        let Some(_) = fixture.host() else { return };
        fixture.target.carriage.streams_per_connection = Streams::All;
        let mut sessions = Vec::new();
        for stamped in [false, true, false] {
            fixture.target.kernel_stamps = stamped;
            sessions.push((fixture.connect(&connector).await, stamped));
        }
        // The kernel begins to stamp a moment after it was asked for it, so the first may come without.
        tokio::time::sleep(Duration::from_millis(50)).await;
        fixture.publish(&numbered(1));
        for (session, stamped) in &mut sessions {
            let mut inbox = Collected::default();
            while inbox.0.is_empty() {
                session.rx.recv(&mut inbox).await.unwrap();
            }
            assert_eq!(inbox.0[0].0.kernel.is_some(), *stamped);
        }
    }
);

for_every_transport!(
    what_another_failed_at_is_in_no_time_of_a_connection,
    Config::default(),
    |connector, mut fixture| {
        const LATE: Duration = Duration::from_millis(300);
        let Some(_) = fixture.host() else { return };
        if fixture.target.carriage.carrier != Carrier::H2Tls {
            return;
        }
        // The first connection is given up before its handshake, and late; the others reach the server.
        let server = fixture.target.address;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        fixture.target.address = listener.local_addr().unwrap();
        fixture.target.carriage.streams_per_connection = Streams::All;
        tokio::task::spawn_local(async move {
            let (first, _) = listener.accept().await.unwrap();
            tokio::time::sleep(LATE).await;
            drop(first);
            while let Ok((mut from, _)) = listener.accept().await {
                tokio::task::spawn_local(async move {
                    let mut to = tokio::net::TcpStream::connect(server).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        let (first, second) = tokio::join!(
            connector.connect(&fixture.target),
            connector.connect(&fixture.target)
        );
        assert_eq!(first.err().unwrap().step, Step::Secure);
        let times = second.unwrap().times;
        assert!(!times.joined);
        // The session waited for it, the connection did not.
        assert!(times.dialed.since(times.started) > LATE.as_nanos() as u64 / 2);
        assert!(times.tcp_connected.since(times.dialed) < LATE.as_nanos() as u64 / 2);
    }
);

for_every_transport!(
    a_reader_that_pauses_holds_up_nobody_else,
    Config::default(),
    |connector, mut fixture| {
        // Far more than its window holds, in many frames.
        const COUNT: usize = 3_000;
        let Some(_) = fixture.host() else { return };
        fixture.target.carriage.streams_per_connection = Streams::All;
        let mut paused = fixture.connect(&connector).await;
        let mut reads = fixture.connect(&connector).await;
        let filler = "x".repeat(400);
        for number in 0..COUNT {
            fixture.publish(&pushmark_transport::Message::text(format!("{number} {filler}")));
            assert_eq!(receive(&mut reads.rx, 1).await.len(), 1);
        }
        assert_eq!(receive(&mut paused.rx, COUNT).await.len(), COUNT);
    }
);

/// A target over `carrier` at a server that shows `identity` and offers `offer`.
async fn target_of(identity: &Identity, offer: &Offer, settings: Settings, carrier: Carrier) -> Target {
    let acceptor = Acceptor::new(identity, offer).unwrap();
    let mut target = target(serve_with(TestHost::new(Config::default()), Some(acceptor)).await);
    target.carriage = Carriage {
        carrier,
        tls: Some(Arc::new(tls::Client::new(settings).unwrap())),
        ..Carriage::default()
    };
    target
}

fn trusting(identity: &Identity) -> Settings {
    Settings::trusting(Trust::Roots(identity.chain.clone()))
}

/// What becomes of a connect that must fail.
async fn refused(target: &Target) -> TransportError {
    let error = WsConnector::default().connect(target).await.err().unwrap();
    let other = SseConnector::default().connect(target).await.err().unwrap();
    assert_eq!((other.step, other.class), (error.step, error.class), "{other}");
    error
}

#[test]
fn a_certificate_that_does_not_do_is_refused_for_what_is_wrong_with_it() {
    let home = || vec!["127.0.0.1".to_owned()];
    let good = Identity::make(&[], &[]).unwrap();
    let expired = Identity::for_subjects(home(), Valid { from: 1990, to: 2000 }).unwrap();
    let early = Identity::for_subjects(home(), Valid { from: 4000, to: 4001 }).unwrap();
    let elsewhere = Identity::for_subjects(vec!["else.where".to_owned()], Valid::default()).unwrap();
    run_alone(|| async move {
        for carrier in [Carrier::H1Tls, Carrier::H2Tls] {
            for (shown, trusted, class) in [
                (&expired, &expired, ErrorClass::CertificateExpired),
                (&early, &early, ErrorClass::CertificateExpired),
                (&elsewhere, &elsewhere, ErrorClass::CertificateName),
                (&good, &elsewhere, ErrorClass::CertificateUntrusted),
            ] {
                let target = target_of(shown, &Offer::default(), trusting(trusted), carrier).await;
                let error = refused(&target).await;
                assert_eq!((error.step, error.class), (Step::Secure, class), "{error}");
            }
            // Who believes everybody is told nothing; who asks for the right name gets it.
            let anybody = Settings::trusting(Trust::Anybody);
            let named = Settings {
                server_name: Some("else.where".to_owned()),
                ..trusting(&elsewhere)
            };
            for (shown, settings) in [(&expired, anybody), (&elsewhere, named)] {
                let target = target_of(shown, &Offer::default(), settings, carrier).await;
                WsConnector::default().connect(&target).await.unwrap();
            }
        }
    });
}

#[test]
fn another_version_of_http_is_no_substitute() {
    let identity = Identity::make(&[], &[]).unwrap();
    run_alone(|| async move {
        for (speaks, carrier) in [(Http::Http1_1, Carrier::H2Tls), (Http::Http2, Carrier::H1Tls)] {
            let offer = Offer {
                http: vec![speaks],
                ..Offer::default()
            };
            let error = refused(&target_of(&identity, &offer, trusting(&identity), carrier).await).await;
            assert_eq!(
                (error.step, error.class),
                (Step::Secure, ErrorClass::Negotiation),
                "{error}"
            );
        }
        // A server that knows no ALPN speaks HTTP/1.1.
        let silent = Offer {
            http: Vec::new(),
            ..Offer::default()
        };
        let error = refused(&target_of(&identity, &silent, trusting(&identity), Carrier::H2Tls).await).await;
        assert_eq!(error.class, ErrorClass::Negotiation, "{error}");
        let plain = target_of(&identity, &silent, trusting(&identity), Carrier::H1Tls).await;
        let session = SseConnector::default().connect(&plain).await.unwrap();
        assert_eq!(session.negotiated.alpn, None);
        // In the clear, prior knowledge may be wrong.
        let script = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec();
        let mut target = target(script::serve(vec![(script, Then::Close)]).await);
        target.carriage = carriage(Carrier::H2c);
        let error = refused(&target).await;
        assert_eq!(
            (error.step, error.class),
            (Step::Open, ErrorClass::Negotiation),
            "{error}"
        );
    });
}

#[test]
fn a_server_without_tunnels_is_told_apart() {
    run_alone(|| async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Empty SETTINGS: no extended CONNECT.
            stream.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
            while stream.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {}
        });
        let mut target = target(address);
        target.carriage = carriage(Carrier::H2c);
        let error = WsConnector::default().connect(&target).await.err().unwrap();
        assert_eq!(
            (error.step, error.class),
            (Step::Open, ErrorClass::Negotiation),
            "{error}"
        );
        assert!(error.detail.contains("8441"), "{error}");
    });
}

#[test]
fn what_is_no_tls_is_no_session() {
    run_alone(|| async {
        for garbage in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0xFF; 64]] {
            for carrier in [Carrier::H1Tls, Carrier::H2Tls] {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let mut target = target(listener.local_addr().unwrap());
                tokio::task::spawn_local(async move {
                    while let Ok((mut stream, _)) = listener.accept().await {
                        let _ = stream.write_all(garbage).await;
                        let _ = stream.shutdown().await;
                        while stream.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {}
                    }
                });
                target.carriage = carriage(carrier);
                let error = refused(&target).await;
                assert_eq!(
                    (error.step, error.class),
                    (Step::Secure, ErrorClass::Tls),
                    "{error}"
                );
            }
        }
        // And the other way round: a plain client at a port where only TLS is spoken.
        let alert = b"\x15\x03\x03\0\x02\x02\x0A".to_vec();
        let mut target = target(script::serve(vec![(alert, Then::Close)]).await);
        for (carrier, class) in [
            (Carrier::H1, ErrorClass::Protocol),
            (Carrier::H2c, ErrorClass::Negotiation),
        ] {
            target.carriage = carriage(carrier);
            let error = refused(&target).await;
            assert_eq!((error.step, error.class), (Step::Open, class), "{error}");
        }
        // One that says nothing does so no longer than the deadline.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        target.address = listener.local_addr().unwrap();
        target.open_deadline = Duration::from_millis(50);
        target.carriage = carriage(Carrier::H1Tls);
        let error = refused(&target).await;
        assert_eq!((error.step, error.class), (Step::Secure, ErrorClass::TimedOut));
    });
}

#[test]
fn versions_of_tls_can_be_pinned_on_either_side() {
    let identity = Identity::make(&[], &[]).unwrap();
    run_alone(|| async move {
        for version in [Version::Tls1_2, Version::Tls1_3] {
            for other in [None, Some(version)] {
                for (client, server) in [(Some(version), other), (other, Some(version))] {
                    let offer = Offer {
                        version: server,
                        ..Offer::default()
                    };
                    let settings = Settings {
                        version: client,
                        ..trusting(&identity)
                    };
                    let target = target_of(&identity, &offer, settings, Carrier::H2Tls).await;
                    let session = WsConnector::default().connect(&target).await.unwrap();
                    assert_eq!(session.negotiated.tls.unwrap().version, version);
                }
            }
        }
        let offer = Offer {
            version: Some(Version::Tls1_2),
            ..Offer::default()
        };
        let settings = Settings {
            version: Some(Version::Tls1_3),
            ..trusting(&identity)
        };
        let error = refused(&target_of(&identity, &offer, settings, Carrier::H1Tls).await).await;
        assert_eq!(
            (error.step, error.class),
            (Step::Secure, ErrorClass::Negotiation),
            "{error}"
        );
    });
}

#[test]
fn a_connect_is_cold_unless_asked_otherwise() {
    let identity = Identity::make(&[], &[]).unwrap();
    run_alone(|| async move {
        for resumption in [false, true] {
            let offer = Offer {
                resumption: true,
                ..Offer::default()
            };
            let settings = Settings {
                resumption,
                ..trusting(&identity)
            };
            let target = target_of(&identity, &offer, settings, Carrier::H1Tls).await;
            let mut resumed = Vec::new();
            for _ in 0..2 {
                // The ticket comes with the first answer.
                let session = SseConnector::default().connect(&target).await.unwrap();
                resumed.push(session.negotiated.tls.unwrap().resumed);
            }
            assert_eq!(resumed, [false, resumption]);
        }
    });
}

#[test]
fn a_server_without_a_certificate_does_not_speak_tls() {
    run_alone(|| async {
        let plain = serve_with(TestHost::new(Config::default()), None).await;
        let mut target = target(plain);
        target.carriage = carriage(Carrier::H1Tls);
        let error = refused(&target).await;
        assert_eq!(
            (error.step, error.class),
            (Step::Secure, ErrorClass::Tls),
            "{error}"
        );
        // One with a certificate still takes whatever else comes.
        let all = serve(TestHost::new(Config::default())).await;
        target.address = all;
        for carrier in Carrier::ALL {
            target.carriage = carriage(*carrier);
            WsConnector::default().connect(&target).await.unwrap();
        }
    });
}
