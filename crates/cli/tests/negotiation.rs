//! What was asked for is what is measured, through the program as a user runs it: a server that does something else, or shows the
//! wrong certificate, gives a run that is not valid, with a reason that says what to do; and never a measurement.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails is a test that fails"
)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use pushmark_measure::Grade;
use pushmark_results::Run;
use pushmark_transport::carrier::certificates::{Identity, Valid};
use rustls::crypto::ring;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use support::{Ended, Folder, Server, at_once, ended, files, run, scenario};

/// Sessions of every run here.
const SESSIONS: u32 = 3;

/// What a little server does with each connection.
#[derive(Clone)]
enum Speaks {
    /// TLS, with HTTP/1.1 alone.
    TlsOnly(Arc<ServerConfig>),
    /// HTTP/1.1 in the clear, whatever comes.
    PlainHttp1,
    /// Not a word.
    Nothing,
}

/// A server of the test's own; its threads end with the test's process.
fn little_server(speaks: Speaks) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let speaks = speaks.clone();
            std::thread::spawn(move || answer(&speaks, stream));
        }
    });
    address
}

fn answer(speaks: &Speaks, mut stream: TcpStream) {
    const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let mut bytes = [0; 4096];
    match speaks {
        Speaks::TlsOnly(config) => {
            let mut tls = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
            if tls.read(&mut bytes).is_ok() {
                let _ = tls.write_all(REFUSAL);
            }
            stream = tls.sock;
        }
        Speaks::PlainHttp1 => {
            if stream.read(&mut bytes).is_ok_and(|n| n > 0) {
                let _ = stream.write_all(REFUSAL);
            }
        }
        Speaks::Nothing => {}
    }
    if !matches!(speaks, Speaks::Nothing) {
        let _ = stream.shutdown(Shutdown::Write);
    }
    // Whatever is still on its way is taken: a reset would overtake what was said.
    while stream.read(&mut bytes).is_ok_and(|n| n > 0) {}
}

/// TLS with HTTP/1.1 alone, as `identity`.
fn http1_only(identity: &Identity) -> Speaks {
    let (chain, key) = identity.shown();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Speaks::TlsOnly(Arc::new(config))
}

/// A scenario of a few sessions at `address`.
fn at(address: &str, transports: &[&str], kind: &str, rest: &str) -> String {
    let load = format!(
        "connections = {SESSIONS}\narrival = \"at-once\"\nwarmup = \"50ms\"\nmeasure = \"200ms\"\ndrain = \"1s\""
    );
    let rest = format!(
        "[workload]\nkind = \"{kind}\"\nrate = \"20/s\"\npayload = \"100 B\"\n\n[target]\naddress = \"{address}\"\n\n{rest}"
    );
    scenario(transports, &load, &rest)
}

fn run_at(folder: &Folder, address: &str, rest: &str, arguments: &[&str]) -> (Ended, Option<Run>) {
    run_over(("sse", "echo"), folder, address, rest, arguments)
}

/// The same at a server of ours, which publishes: what is sent late is then its own affair.
fn push_at(folder: &Folder, address: &str, rest: &str, arguments: &[&str]) -> (Ended, Option<Run>) {
    run_over(("sse", "push"), folder, address, rest, arguments)
}

fn run_over(
    (transport, kind): (&str, &str),
    folder: &Folder,
    address: &str,
    rest: &str,
    arguments: &[&str],
) -> (Ended, Option<Run>) {
    let file = folder.write("it.toml", &at(address, &[transport], kind, rest));
    let out = folder.path("out");
    let mut command = run(&file, &out);
    command.args(arguments);
    let ended = ended(command);
    (ended, Run::open(&out).ok())
}

/// What the terminal shows, without its line breaks.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The one invalid reason that has `part` in it.
#[track_caller]
fn reason(run: &Run, part: &str) -> String {
    let findings = || run.trials.iter().flat_map(|trial| &trial.verdict.findings);
    let found = findings().find(|f| f.grade == Grade::Invalid && f.reason.contains(part));
    found
        .unwrap_or_else(|| panic!("no {part:?} in {:#?}", findings().collect::<Vec<_>>()))
        .reason
        .clone()
}

#[test]
fn what_is_not_what_was_asked_for_is_no_measurement() {
    let good = Identity::make(&[], &[]).unwrap();
    let home = vec!["127.0.0.1".to_owned()];
    let expired = Identity::for_subjects(home, Valid { from: 1990, to: 2000 }).unwrap();
    let elsewhere = Identity::for_subjects(vec!["else.where".to_owned()], Valid::default()).unwrap();
    let quick = "[deadlines]\nopen = \"300ms\"\n";
    // The server, what it shows, the carrier, further lines of the scenario; then what the reason says.
    let cases: [(Speaks, &Identity, &str, &str, [&str; 2]); 9] = [
        (
            http1_only(&good),
            &good,
            "h2+tls",
            "",
            ["secure: negotiation", "use a carrier that it speaks"],
        ),
        (
            http1_only(&expired),
            &expired,
            "h1+tls",
            "",
            ["secure: certificate-expired", "not valid at this time"],
        ),
        (
            http1_only(&elsewhere),
            &elsewhere,
            "h1+tls",
            "",
            ["secure: certificate-name", "--sni NAME"],
        ),
        (
            http1_only(&good),
            &elsewhere,
            "h1+tls",
            "",
            ["secure: certificate-untrusted", "--cacert FILE"],
        ),
        (
            Speaks::PlainHttp1,
            &good,
            "h1+tls",
            "",
            ["secure: tls", "what came is no TLS"],
        ),
        (
            Speaks::PlainHttp1,
            &good,
            "h2c",
            "",
            ["open: negotiation", "does not speak HTTP/2"],
        ),
        (
            http1_only(&good),
            &good,
            "h1",
            "",
            ["open: protocol", "speaks TLS on this port"],
        ),
        (
            http1_only(&good),
            &good,
            "h2c",
            "",
            ["open: negotiation", "speaks TLS on this port"],
        ),
        (
            Speaks::Nothing,
            &good,
            "h2+tls",
            quick,
            ["secure: timed-out", "no end within 300ms"],
        ),
    ];
    at_once(cases, |(speaks, trusted, carrier, rest, parts)| {
        let folder = Folder::new();
        let ca = folder.write("ca.pem", trusted.certificates_pem());
        let address = little_server(speaks).to_string();
        let arguments = ["--carrier", carrier, "--cacert", ca.to_str().unwrap()];
        let (ended, run) = run_at(&folder, &address, rest, &arguments);
        let ended = ended.with_code(4);
        let run = run.unwrap();
        let reason = reason(&run, parts[0]);
        assert!(reason.contains(parts[1]), "{reason}");
        // Nothing was delivered, and the terminal says why.
        let summary = run.trials[0].summary.as_ref().unwrap();
        assert_eq!(
            (summary.books.delivered_once, summary.counters.established),
            (0, 0)
        );
        assert_eq!(summary.counters.failed, u64::from(SESSIONS));
        assert!(flat(&ended.stdout).contains(parts[0]), "{ended:#?}");
        // Who got something else is told by number, and beside what was asked for.
        if !["open: protocol", "secure: timed-out"].contains(&parts[0]) {
            for part in [
                "3 sessions got other",
                &format!("({carrier}: "),
                "the first, number ",
            ] {
                assert!(reason.contains(part), "{part} in {reason}");
            }
        }
    });
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_the_one_that_is_given() {
    let folder = Folder::new();
    let client = Identity::make(&[], &["client.test".to_owned()]).unwrap();
    let certificate = folder.write("client.pem", client.certificates_pem());
    let key = folder.write("client-key.pem", client.key_pem());
    let ca = folder.path("ca.pem");
    let [certificate, key, ca] = [&certificate, &key, &ca].map(|path| path.to_str().unwrap());
    for version in ["1.2", "1.3"] {
        let server = Server::start(&[
            "--tls-cert-out",
            ca,
            "--client-ca",
            certificate,
            "--tls-version",
            version,
        ]);
        for carrier in ["h1+tls", "h2+tls"] {
            let without = Folder::new();
            let (ended, run) = run_at(
                &without,
                server.address(),
                "",
                &["--carrier", carrier, "--cacert", ca],
            );
            ended.with_code(4);
            assert!(reason(&run.unwrap(), "got other than").contains("--client-cert FILE"));

            let with = Folder::new();
            let arguments = [
                "--carrier",
                carrier,
                "--cacert",
                ca,
                "--client-cert",
                certificate,
                "--client-key",
                key,
            ];
            let (ended, run) = push_at(&with, server.address(), "", &arguments);
            let ended = ended.with_code(0);
            let run = run.unwrap();
            let negotiation = &run.trials[0].summary.as_ref().unwrap().negotiation;
            let agreed: Vec<_> = negotiation.agreed.iter().collect();
            let [(words, 3)] = agreed[..] else {
                panic!("{agreed:?}")
            };
            assert!(words.contains(&format!("TLS {version}")), "{words}");
            assert!(flat(&ended.stdout).contains("negotiated"), "{ended:#?}");
            assert!(
                flat(&ended.stdout).contains(&format!("TLS {version} TLS")),
                "{ended:#?}"
            );
            // The key is in no result.
            let body = client.key_pem().lines().nth(1).unwrap().as_bytes().to_vec();
            for (name, bytes) in files(&with.path("out")) {
                assert!(
                    !bytes.windows(body.len()).any(|part| part == body),
                    "{}",
                    name.display()
                );
            }
        }
    }
}

#[test]
fn who_verifies_nothing_is_told_so_everywhere() {
    let folder = Folder::new();
    let ca = folder.path("ca.pem");
    let server = Server::start(&["--tls-cert-out", ca.to_str().unwrap()]);
    // An option stands instead of what the file says.
    let rest = "[target.tls]\ncacert = \"/nowhere/ca.pem\"\n";
    let (ended, run) = push_at(
        &folder,
        server.address(),
        rest,
        &["--carrier", "h2+tls", "--insecure"],
    );
    let ended = ended.with_code(0);
    assert!(ended.stderr.contains("NOT verified"), "{ended:#?}");
    assert!(
        flat(&ended.stdout).contains("insecure: no certificate was verified"),
        "{ended:#?}"
    );
    assert!(
        flat(&ended.stdout).contains("certificate not verified"),
        "{ended:#?}"
    );
    let run = run.unwrap();
    for report in ["report.html", "report.md"] {
        let text = std::fs::read_to_string(run.dir.join("report").join(report)).unwrap();
        assert!(text.contains("insecure"), "{report}");
    }
    // And what cannot be read is said before there is any traffic.
    let (ended, run) = run_at(&Folder::new(), server.address(), rest, &["--carrier", "h2+tls"]);
    let ended = ended.with_code(2);
    assert!(
        run.is_none() && ended.stderr.contains("/nowhere/ca.pem"),
        "{ended:#?}"
    );
}

#[test]
fn what_a_server_declines_to_compress_is_no_measurement() {
    // This one was not told to.
    let server = Server::start(&[]);
    at_once(
        [
            ("ws", "asked for permessage-deflate"),
            ("sse", "asked for content-encoding gzip"),
            ("long-poll", "asked for content-encoding gzip"),
        ],
        |(transport, asked)| {
            let rest = "[compression]\nkind = \"deflate\"\n";
            let (ended, run) = run_over((transport, "echo"), &Folder::new(), server.address(), rest, &[]);
            let ended = ended.with_code(4);
            let reason = reason(&run.unwrap(), "got other than");
            assert!(
                reason.contains("negotiation") && reason.contains(asked),
                "{reason}"
            );
            assert!(flat(&ended.stdout).contains(asked), "{ended:#?}");
        },
    );
}
