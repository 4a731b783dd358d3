//! Histories that are what was written, and those that are not.

use super::*;

fn head() -> Head {
    Head {
        format_version: FORMAT_VERSION,
        document: HISTORY.to_owned(),
        reference_words: vec!["serve".into()],
        reference_program: (100, 7),
        profile: "quick".into(),
        blocks: 10,
        warmup_s: 1.0,
        measure_s: 12.0,
        scenarios: vec![HistoryScenario {
            name: "feed".into(),
            crc32: 5,
        }],
    }
}

fn session(number: u64, h: f64) -> Session {
    Session {
        label: format!("commit {number}"),
        started_unix_s: 1_000 + number,
        seed: number,
        pushmark_version: "0".into(),
        candidate: "build".into(),
        machine: ("cpu".into(), 2),
        fit: Machine::Fit,
        verdict: GateVerdict::Inconclusive,
        accepted: false,
        values: vec![SessionValue {
            metric: Metric::resource("feed", "server_cpu_us_per_delivery"),
            h,
        }],
    }
}

fn history() -> History {
    let sessions = (0..4).map(|n| session(n, 0.01 * n as f64)).collect();
    History {
        head: head(),
        sessions,
    }
}

#[test]
fn what_is_read_is_what_was_written_and_grows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    assert_eq!(History::read(&path).unwrap(), None);
    for s in history().sessions {
        History::append(&path, &head(), s).unwrap();
    }
    assert_eq!(History::read(&path).unwrap(), Some(history()));
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 6);
    // The same session a second time is not written, and where it was written all the same, not read.
    let said = History::append(&path, &head(), session(2, 0.5))
        .unwrap_err()
        .to_string();
    assert!(said.contains("already"), "{said}");
    assert_eq!(History::read(&path).unwrap(), Some(history()));
    let mut twice = history();
    twice.sessions.push(session(2, 0.5));
    twice.write(&path).unwrap();
    let said = History::read(&path).unwrap_err().to_string();
    assert!(said.contains("line 6") && said.contains("twice"), "{said}");
}

#[test]
fn a_history_cut_or_changed_anywhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    history().write(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(History::read(&path).is_err(), "cut at {cut}");
    }
    for place in 0..whole.len() {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        fs::write(&path, &changed).unwrap();
        assert!(History::read(&path).is_err(), "changed at {place}");
    }
    let text = String::from_utf8(whole).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // Lines left out, or in another order.
    for kept in [
        [0, 1, 2, 3, 5].as_slice(),
        &[0, 5],
        &[0, 2, 1, 3, 4, 5],
        &[1, 2, 3, 4, 5],
        &[5],
    ] {
        let some: String = kept.iter().map(|i| format!("{}\n", lines[*i])).collect();
        fs::write(&path, some).unwrap();
        assert!(History::read(&path).is_err(), "{kept:?}");
    }
    for (text, words) in [
        ("", "empty"),
        ("pass\n", "first line"),
        (
            "{\"format_version\":1,\"document\":\"pushmark-gate\"}\n",
            "another document",
        ),
        (
            "{\"format_version\":2,\"document\":\"pushmark-history\"}\n",
            "newer",
        ),
        (
            "{\"format_version\":0,\"document\":\"pushmark-history\"}\n",
            "version 0",
        ),
    ] {
        fs::write(&path, text).unwrap();
        let said = History::read(&path).unwrap_err().to_string();
        assert!(said.contains(words), "{text}: {said}");
    }
}

#[test]
fn sessions_of_another_kind_do_not_belong() {
    type Change = fn(&mut Head);
    let changes: [(Change, &str); 6] = [
        (|h| h.reference_program.1 = 8, "another program"),
        (|h| h.reference_words.push("--threads=2".into()), "--threads=2"),
        (|h| h.profile = "long".into(), "profile quick"),
        (|h| h.measure_s = 13.0, "13 s"),
        (|h| h.scenarios[0].crc32 = 6, "another text of feed"),
        (|h| h.scenarios[0].name = "echo".into(), "did not run echo"),
    ];
    for (change, words) in changes {
        let mut other = head();
        change(&mut other);
        let said = head().differs(&other).unwrap();
        assert!(said.contains(words), "{said}");
    }
    let mut more = head();
    more.scenarios.push(HistoryScenario {
        name: "echo".into(),
        crc32: 1,
    });
    assert!(more.differs(&head()).unwrap().contains("besides"));
    assert_eq!(head().differs(&head()), None);
}

#[test]
fn an_accepted_change_begins_a_new_measure() {
    let mut all = history();
    assert_eq!(all.measure().len(), 4);
    all.sessions[2].accepted = true;
    assert_eq!(all.measure().len(), 2);
    assert_eq!(all.measure()[0].label, "commit 2");
}
