//! The two arms as they are written: a command that starts a server, or the address of one that runs.

use std::path::{Path, PathBuf};

use pushmark_loadgen::block::{Arm, ServerProgram};

/// What an arm's text means.
///
/// # Errors
/// In words, when it means nothing, or names a program that is not there.
pub(super) fn parse(text: &str, allow_remote: bool) -> Result<Arm, String> {
    let words = split(text)?;
    let Some((program, rest)) = words.split_first() else {
        return Err("write the command that starts the server, or the host:port of one that runs".to_owned());
    };
    if let (Some(host), true) = (host_of(program), rest.is_empty()) {
        if !allow_remote && !is_loopback(host) {
            return Err(format!(
                "{program} lies outside loopback. Only ever point load at a server that is yours; --allow-remote says that it is"
            ));
        }
        return Ok(Arm::Running(program.clone()));
    }
    let Some(found) = find(program) else {
        return Err(format!("there is no program {program:?}"));
    };
    Ok(Arm::Program(ServerProgram {
        program: found,
        words: rest.to_vec(),
    }))
}

/// The host of `host:port`; `None` when it is none.
fn host_of(text: &str) -> Option<&str> {
    let (host, port) = text.rsplit_once(':')?;
    (!host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Where a shell would find the program.
fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Path::new(program).is_file().then(|| PathBuf::from(program));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|at| at.is_file())
}

/// Words as a shell splits them: quotes keep spaces, a backslash keeps the next character. Nothing is expanded.
fn split(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut inside) = (Vec::new(), String::new(), false);
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('\''), c) => word.push(c),
            (None, '\'' | '"') => (quote, inside) = (Some(c), true),
            (_, '\\') => {
                word.push(chars.next().ok_or("a backslash stands at the end")?);
                inside = true;
            }
            (None, c) if c.is_whitespace() => {
                if inside {
                    words.push(std::mem::take(&mut word));
                }
                inside = false;
            }
            (_, c) => {
                word.push(c);
                inside = true;
            }
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    if inside {
        words.push(word);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_a_shells() {
        let cases: [(&str, &[&str]); 6] = [
            ("", &[]),
            ("  a  b ", &["a", "b"]),
            ("'a b' \"c d\"e", &["a b", "c de"]),
            (r"a\ b '\' \\", &["a b", "\\", "\\"]),
            ("'' \"\"", &["", ""]),
            ("$HOME *;|", &["$HOME", "*;|"]),
        ];
        for (text, words) in cases {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
        assert!(split("'a").is_err() && split("a\\").is_err());
    }

    #[test]
    fn addresses_and_programs_are_told_apart() {
        let running = |text: &str| Ok(Arm::Running(text.to_owned()));
        for text in ["127.0.0.1:80", "localhost:8080", "[::1]:9"] {
            assert_eq!(parse(text, false), running(text));
        }
        assert!(parse("example.org:80", false).unwrap_err().contains("loopback"));
        assert_eq!(parse("example.org:80", true), running("example.org:80"));
        assert!(matches!(parse("sh -c 'exit 1'", false), Ok(Arm::Program(p)) if p.words == ["-c", "exit 1"]));
        for wrong in ["", "no-such-program-anywhere serve", "/no/such:1", "host:99999"] {
            assert!(parse(wrong, false).is_err(), "{wrong}");
        }
    }
}
