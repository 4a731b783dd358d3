//! curl and h2load as clients of our server: HTTP/1.1 and HTTP/2, in the clear and under TLS.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use pushmark_transport::{CloseReason, Kind};
use rustix::process::Signal;

use super::Need::{Curl, H2load};
use super::support::{Ended, Folder, Running, Server, ended, eventually};
use super::{assert_published, counted, lacks, publish, secured_server, stats};

/// How curl is told what to speak, under TLS or not, and what it then says it spoke.
const WAYS: &[(&[&str], bool, &str)] = &[
    (&["--http1.1"], false, "1.1"),
    (&["--http2-prior-knowledge"], false, "2"),
    // An upgrade to HTTP/2 in the clear, which a server need not take (RFC 9113 has none any more): it is answered by HTTP/1.1.
    (&["--http2"], false, "1.1"),
    (&["--http1.1"], true, "1.1"),
    (&["--http2"], true, "2"),
    (&["--http2", "--tls-max", "1.2"], true, "2"),
];

/// curl that says nothing of its own but errors, and trusts `certificate` alone.
fn curl(arguments: &[&str], certificate: &str) -> Command {
    let mut command = Command::new("curl");
    command
        .args([
            "--disable",
            "--silent",
            "--show-error",
            "--no-buffer",
            "--max-time",
            "190",
        ])
        .args(["--noproxy", "*", "--cacert", certificate])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn url(server: &Server, secured: bool, path: &str) -> String {
    let scheme = if secured { "https" } else { "http" };
    format!("{scheme}://{}{path}", server.address())
}

/// Runs curl to its end, which must be a good one; gives what it printed.
#[track_caller]
fn fetched(way: &[&str], certificate: &str, arguments: &[&str]) -> String {
    let Ended { stdout, .. } = ended(curl(&[way, arguments].concat(), certificate)).with_code(0);
    stdout
}

/// The events of a stream, read line by line as the standard says (WHATWG HTML, section 9.2.6); any line but those of data, of
/// an event's type and of its id is none of ours.
#[track_caller]
fn events(text: &str) -> Vec<BTreeMap<String, String>> {
    let (mut events, mut event) = (Vec::new(), BTreeMap::<String, String>::new());
    for line in text.split_inclusive('\n') {
        // The rest of what was cut off.
        let Some(line) = line.strip_suffix('\n') else {
            break;
        };
        if line.is_empty() {
            events.push(std::mem::take(&mut event));
            continue;
        }
        let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
        assert!(["data", "event", "id"].contains(&field), "{line:?}");
        match event.get_mut(field) {
            Some(data) => *data += &format!("\n{value}"),
            None => drop(event.insert(field.to_owned(), value.to_owned())),
        }
    }
    events
}

fn data(events: &[BTreeMap<String, String>]) -> Vec<String> {
    events.iter().map(|event| event["data"].clone()).collect()
}

/// The value of a header in what `--include` prints.
fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        // What `--verbose` prints has a mark before it.
        let (found, value) = line.trim_start_matches("< ").split_once(": ")?;
        found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

/// The session of an event stream that curl reads with `--verbose`: what `--include` prints waits for a body.
fn session_of(reading: &Running) -> String {
    eventually("the answer's head", || {
        let heard = reading.complaints();
        let whole = heard.rfind('\n').map_or("", |end| &heard[..end]);
        header(whole, "pushmark-session")
    })
}

#[test]
fn curl_reads_an_event_stream_to_its_end() {
    if lacks("curl_reads_an_event_stream_to_its_end", &[Curl]) {
        return;
    }
    let ways = [false, true]
        .into_iter()
        .flat_map(|compress| WAYS.iter().map(move |way| (compress, way)));
    for (compress, (way, secured, version)) in ways {
        let folder = Folder::new();
        let (server, certificate) = secured_server(&folder, &["--history", "100", "--compress", "6"]);
        let arguments = [
            if compress {
                "--compressed"
            } else {
                "--no-compressed"
            },
            "--include",
            "--write-out",
            "\nspoke %{http_version}, certificate %{ssl_verify_result}, status %{http_code}\n",
            &url(&server, *secured, "/sse"),
        ];
        let reading = Running::start(curl(&[way, &arguments[..]].concat(), &certificate));
        counted(&server, "curl has a session", |s| s.sessions_open == 1);
        publish(&server, Kind::Text, 300, 500);
        eventually("curl has read all", || {
            (reading.said().matches("\ndata: ").count() >= 500).then_some(())
        });
        // The server ends the stream, and curl takes that for its end.
        server.stop_by(Signal::TERM).with_code(0);
        let Ended { stdout, .. } = reading.wait().with_code(0);

        let (head, body) = stdout.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with(&format!("HTTP/{version} 200")),
            "{way:?}: {head}"
        );
        assert_eq!(
            header(head, "content-type").as_deref(),
            Some("text/event-stream"),
            "{way:?}"
        );
        assert_eq!(
            header(head, "content-encoding").as_deref(),
            compress.then_some("gzip"),
            "{way:?}"
        );
        let (body, spoken) = body.rsplit_once("\nspoke ").unwrap();
        assert_eq!(
            spoken.trim(),
            format!("{version}, certificate 0, status 200"),
            "{way:?}"
        );
        let events = events(body);
        assert_eq!(events.len(), 500, "{way:?}");
        assert_published(&data(&events), Kind::Text, 0, 300);
        for (event, number) in events.iter().zip(0..) {
            assert_eq!(event["id"], format!("{number}"), "{way:?}");
        }
    }
}

#[test]
fn curl_that_goes_away_is_noticed() {
    if lacks("curl_that_goes_away_is_noticed", &[Curl]) {
        return;
    }
    for (way, secured, _) in WAYS {
        let folder = Folder::new();
        let (server, certificate) = secured_server(&folder, &[]);
        let url = url(&server, *secured, "/sse");
        let reading = Running::start(curl(&[way, &[url.as_str()][..]].concat(), &certificate));
        let stays = Running::start(curl(&[way, &[url.as_str()][..]].concat(), &certificate));
        counted(&server, "both have a session", |s| s.sessions_open == 2);
        publish(&server, Kind::Binary, 100, 50);
        eventually("it has read some", || {
            (events(&reading.said()).len() >= 10).then_some(())
        });
        drop(reading);
        counted(&server, "the server has noticed", |s| {
            s.sessions_open == 1 && s.sessions_closed.values().sum::<u64>() == 1
        });
        let closed = stats(&server).sessions_closed;
        assert!(
            closed.contains_key(&CloseReason::EndedEarly) || closed.contains_key(&CloseReason::Reset),
            "{way:?}: {closed:?}"
        );
        // The other one loses nothing by it.
        publish(&server, Kind::Binary, 100, 50);
        eventually("the other one has read all", || {
            (events(&stays.said()).len() == 100).then_some(())
        });
        assert!(
            events(&stays.said()).iter().all(|event| event["event"] == "b64"),
            "{way:?}"
        );
    }
}

#[test]
fn curl_goes_on_after_the_last_event_it_has_seen() {
    if lacks("curl_goes_on_after_the_last_event_it_has_seen", &[Curl]) {
        return;
    }
    for (way, secured, _) in WAYS {
        let folder = Folder::new();
        let (server, certificate) = secured_server(&folder, &["--history", "100"]);
        publish(&server, Kind::Text, 100, 60);
        let url = url(&server, *secured, "/sse");
        let arguments = ["--header", "Last-Event-ID: 19", url.as_str()];
        let reading = Running::start(curl(&[way, &arguments[..]].concat(), &certificate));
        eventually("it has what it missed", || {
            (events(&reading.said()).len() == 40).then_some(())
        });
        assert_published(&data(&events(&reading.said())), Kind::Text, 20, 100);
    }
}

/// What goes up comes down again, one message each, under each way of coding it.
#[test]
fn curl_sends_messages_and_gets_them_back() {
    if lacks("curl_sends_messages_and_gets_them_back", &[Curl]) {
        return;
    }
    let folder = Folder::new();
    let (server, certificate) = secured_server(&folder, &[]);
    let large = "häuser\n".repeat(20_000);
    let file = folder.write("large.txt", &large);
    let large_from = format!("@{}", file.display());
    for (way, secured, version) in WAYS {
        let arguments = ["--verbose", &url(&server, *secured, "/sse")];
        let reading = Running::start(curl(&[way, &arguments[..]].concat(), &certificate));
        let session = session_of(&reading);
        let up = url(&server, *secured, &format!("/sse?session={session}"));
        let text = "content-type: text/plain";
        let octets = "content-type: application/octet-stream";
        for (media, what) in [
            (text, "one line"),
            (text, "two\nlines, the second of them with ü and 🦀\n"),
            (text, ""),
            (text, "a\rb"),
            (octets, "bytes"),
            (text, large_from.as_str()),
        ] {
            let said = fetched(
                way,
                &certificate,
                &[
                    "--header",
                    media,
                    "--data-binary",
                    what,
                    "--write-out",
                    "%{http_code} %{http_version}",
                    &up,
                ],
            );
            assert_eq!(said, format!("204 {version}"), "{way:?}");
        }
        let all = eventually("all come back", || {
            Some(events(&reading.said())).filter(|all| all.len() == 6)
        });
        let (types, data): (Vec<_>, Vec<_>) = all
            .iter()
            .map(|event| (event.get("event").map(String::as_str), event["data"].as_str()))
            .unzip();
        assert_eq!(
            types,
            [None, None, None, Some("b64t"), Some("b64"), None],
            "{way:?}"
        );
        assert_eq!(
            data,
            [
                "one line",
                "two\nlines, the second of them with ü and 🦀\n",
                "",
                "YQ1i",
                "Ynl0ZXM=",
                large.as_str(),
            ],
            "{way:?}"
        );
    }
}

#[test]
fn curl_polls() {
    if lacks("curl_polls", &[Curl]) {
        return;
    }
    let folder = Folder::new();
    let (server, certificate) = secured_server(&folder, &[]);
    for (way, secured, _) in WAYS {
        let at = |query: &str| url(&server, *secured, &format!("/long-poll{query}"));
        let head = fetched(way, &certificate, &["--include", &at("")]);
        let session = header(&head, "pushmark-session").unwrap();
        let cursor = header(&head, "pushmark-cursor").unwrap();
        let session = format!("?session={session}");
        let media = "content-type: text/plain";
        fetched(
            way,
            &certificate,
            &[
                "--fail",
                "--header",
                media,
                "--data-binary",
                "hello",
                &at(&session),
            ],
        );
        let poll = at(&format!("{session}&cursor={cursor}"));
        let answer = fetched(way, &certificate, &["--include", "--fail", &poll]);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(body.contains("hello"), "{way:?}: {answer:?}");
        assert_eq!(header(head, "pushmark-cursor").unwrap(), "1", "{way:?}");
        let said = fetched(
            way,
            &certificate,
            &[
                "--request",
                "DELETE",
                "--write-out",
                "%{http_code}",
                &at(&session),
            ],
        );
        assert_eq!(said, "204", "{way:?}");
    }
    let closed = counted(&server, "all are closed", |s| s.sessions_open == 0).sessions_closed;
    assert_eq!(closed, [(CloseReason::Client, WAYS.len() as u64)].into());
}

/// What h2load says of `count` requests: the line of protocols, when all of them succeeded.
#[track_caller]
fn hammered(arguments: &[&str], count: u64) -> String {
    let mut command = Command::new("h2load");
    command.args(arguments).stdin(Stdio::null());
    let Ended { stdout, .. } = ended(command).with_code(0);
    let all = format!(
        "requests: {count} total, {count} started, {count} done, {count} succeeded, 0 failed, 0 errored, 0 timeout"
    );
    assert!(stdout.contains(&all), "{arguments:?}:\n{stdout}");
    let statuses = format!("status codes: {count} 2xx, 0 3xx, 0 4xx, 0 5xx");
    assert!(stdout.contains(&statuses), "{arguments:?}:\n{stdout}");
    let found = stdout
        .lines()
        .find(|line| line.starts_with("Application protocol"));
    found.unwrap_or_default().to_owned()
}

#[test]
fn h2load_finds_every_request_answered() {
    if lacks("h2load_finds_every_request_answered", &[H2load]) {
        return;
    }
    let folder = Folder::new();
    let (server, _) = secured_server(&folder, &[]);
    let (plain, secured) = (url(&server, false, "/stats"), url(&server, true, "/stats"));
    for (way, url, protocol) in [
        (&["--h1"][..], &plain, "http/1.1"),
        (&["--h1"], &secured, "http/1.1"),
        (&["--no-tls-proto=h2c"], &plain, "h2c"),
        (&["--npn-list=h2"], &secured, "h2"),
        // Windows far smaller than ours: 2^10 − 1 bytes a stream, 2^14 − 1 a connection.
        (&["--npn-list=h2", "-w", "10", "-W", "14"], &secured, "h2"),
    ] {
        for streams in ["1", "50"] {
            if protocol == "http/1.1" && streams != "1" {
                // Pipelining, which nobody does; each connection would still have to be answered in order.
                continue;
            }
            let numbers = ["-n", "1000", "-c", "5", "-m", streams, url];
            let said = hammered(&[way, &numbers[..]].concat(), 1_000);
            assert_eq!(said, format!("Application protocol: {protocol}"), "{way:?}");
        }
    }
}

/// Many streams of a few connections bring messages up; one stream of another brings all of them down.
#[test]
fn h2load_sends_what_curl_reads() {
    if lacks("h2load_sends_what_curl_reads", &[Curl, H2load]) {
        return;
    }
    let folder = Folder::new();
    let (server, certificate) = secured_server(&folder, &["--outbox", "2000"]);
    let body = folder.write("body", "one of many");
    let reading = Running::start(curl(
        &["--http2", "--verbose", &url(&server, true, "/sse")],
        &certificate,
    ));
    let session = session_of(&reading);
    let up = url(&server, true, &format!("/sse?session={session}"));
    let post = [
        "-d",
        body.to_str().unwrap(),
        "-H",
        "content-type: text/plain",
        "-n",
        "1000",
        "-c",
        "4",
        "-m",
        "25",
        &up,
    ];
    assert_eq!(hammered(&post, 1_000), "Application protocol: h2");
    let count = |said: &str| said.matches("data: one of many\n\n").count();
    eventually("all come down", || {
        (count(&reading.said()) == 1_000).then_some(())
    });
    let stats = counted(&server, "all are written", |s| s.written == 1_000);
    assert_eq!((stats.received, stats.dropped), (1_000, 0));
}
