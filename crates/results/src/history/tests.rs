//! Histories that are what was written, and those that are not.

use std::fs;

use super::*;

fn head() -> Head {
    Head {
        format_version: FORMAT_VERSION,
        document: HISTORY.to_owned(),
        reference_words: vec!["serve".into()],
        reference_program: (100, 7),
        reference_files: None,
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
    let head = || Head {
        reference_files: Some(vec![("server.sh".into(), 3, 8)]),
        ..head()
    };
    type Change = fn(&mut Head);
    let changes: [(Change, &str); 7] = [
        (|h| h.reference_program.1 = 8, "another program"),
        (|h| h.reference_words.push("--threads=2".into()), "--threads=2"),
        (
            |h| h.reference_files = Some(vec![("server.sh".into(), 3, 9)]),
            "server.sh, a file among its reference's words",
        ),
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

#[test]
fn what_was_called_worse_is_no_measure_and_is_not_counted() {
    let mut all = history();
    all.sessions[1].verdict = GateVerdict::Regression;
    assert_eq!(all.held_against().len(), 3);
    all.sessions[1].accepted = true;
    assert_eq!(all.held_against().len(), 3, "it begins the measure");
}

#[test]
fn a_script_among_the_words_is_frozen_too() {
    let dir = tempfile::tempdir().unwrap();
    let (program, script) = (dir.path().join("sh"), dir.path().join("server.sh"));
    fs::write(&program, "program").unwrap();
    let words = [script.to_str().unwrap().to_owned(), "--port".to_owned()];
    let head = |text: &str| {
        fs::write(&script, text).unwrap();
        Head::new((&program, &words), "quick", (10, 1.0, 12.0), &[]).unwrap()
    };
    let (first, again, other) = (head("one"), head("one"), head("two"));
    let files = first.reference_files.as_ref().unwrap().len();
    assert_eq!((files, first.differs(&again)), (1, None));
    assert!(first.differs(&other).unwrap().contains("file among"));
    // A history of before they were kept says nothing of them, and refuses nobody.
    let mut old = first.clone();
    old.reference_files = None;
    assert_eq!((old.differs(&other), other.differs(&old)), (None, None));
}

#[test]
fn what_the_reference_writes_itself_is_not_frozen() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let words =
        ["server.sh", "log", "certificate", "database"].map(|name| file(name).to_str().unwrap().to_owned());
    let (program, path) = (file("sh"), file("history.jsonl"));
    for (name, text) in [
        ("sh", "program"),
        ("server.sh", "one"),
        ("log", ""),
        ("database", ""),
    ] {
        fs::write(file(name), text).unwrap();
    }
    for number in 0..3 {
        let head = Head::new((&program, &words), "quick", (10, 1.0, 12.0), &[]).unwrap();
        if let Some(history) = History::read(&path).unwrap() {
            assert_eq!(history.head.differs(&head), None, "session {number}");
        }
        // Its run; the database first changes in the second.
        fs::write(file("log"), format!("run {number}")).unwrap();
        fs::write(file("certificate"), format!("of run {number}")).unwrap();
        fs::write(file("database"), ["", "a row", "two rows"][number]).unwrap();
        History::append(&path, &head, session(number as u64, 0.0)).unwrap();
    }
    let head = History::read(&path).unwrap().unwrap().head;
    let names: Vec<&String> = head.reference_files.iter().flatten().map(|f| &f.0).collect();
    assert_eq!(names, [&words[0]]);
    // The script is frozen all the same.
    fs::write(file("server.sh"), "two").unwrap();
    let other = Head::new((&program, &words), "quick", (10, 1.0, 12.0), &[]).unwrap();
    assert!(head.differs(&other).unwrap().contains("server.sh"));
}

#[test]
fn more_metrics_than_any_gate_has_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    let mut all = history();
    let value = |n: usize| SessionValue {
        metric: Metric::resource("feed", &format!("m{n}")),
        h: 0.0,
    };
    all.sessions[0].values = (0..MOST_METRICS - 1).map(value).collect();
    all.write(&path).unwrap();
    assert!(History::read(&path).is_ok());
    all.sessions[0].values.push(value(MOST_METRICS));
    all.write(&path).unwrap();
    let said = History::read(&path).unwrap_err().to_string();
    assert!(said.contains("1000 metrics"), "{said}");
}

/// Twelve sessions of the machine that the gate ran on, around what it measured and never far off.
fn earlier(gate: &Gate) -> Vec<Session> {
    let session = |n: u64| {
        let mut s = Session::new(gate, "before", false);
        (s.seed, s.verdict) = (n, GateVerdict::Pass);
        for v in s.values.iter_mut().filter(|v| v.metric.kind != Kind::Fraction) {
            v.h += 0.002 * ((n % 3) as f64 - 1.0);
        }
        s
    };
    (0..12).map(session).collect()
}

#[test]
fn what_no_session_has_any_more_is_not_proven() {
    let gate = crate::gate::tests::gate();
    let now = Session::new(&gate, "now", false);
    let mut before = earlier(&gate);
    assert_eq!(said(&gate, &before, &now, 0.01).1, GateVerdict::Pass);
    let gone = SessionValue {
        metric: Metric::resource("feed", "server_rss_bytes_per_session"),
        h: 0.0,
    };
    before.iter_mut().for_each(|s| s.values.push(gone.clone()));
    let (_, verdict, why) = said(&gate, &before, &now, 0.01);
    assert_eq!(verdict, GateVerdict::Inconclusive);
    assert!(why[0].contains("memory per session has to be proven"), "{why:?}");
}

#[test]
fn worse_on_a_machine_that_no_session_ran_on_is_inconclusive() {
    let gate = crate::gate::tests::gate();
    let mut now = Session::new(&gate, "now", false);
    let before = earlier(&gate);
    now.values.iter_mut().for_each(|v| v.h += 0.2);
    assert_eq!(said(&gate, &before, &now, 0.01).1, GateVerdict::Regression);
    now.machine.1 += 1;
    let (judgement, verdict, why) = said(&gate, &before, &now, 0.01);
    assert_eq!(
        (judgement.outcome, verdict),
        (Outcome::Inconclusive, GateVerdict::Inconclusive)
    );
    assert!(why[0].contains("none of them ran on such a machine"), "{why:?}");
}

#[test]
fn a_share_is_kept_as_its_mean() {
    let mut gate = crate::gate::tests::gate();
    let course = &mut gate.courses[0];
    for (k, block) in course.blocks.iter_mut().enumerate() {
        block.baseline.values.insert("loss".into(), 0.0);
        let lost = if k == 3 { 0.4 } else { 0.0 };
        block.candidate.values.insert("loss".into(), lost);
    }
    let found = pushmark_measure::gate::evidence::walk(&gate.courses, &gate.plan, &gate.limits);
    gate.found = Some(found.unwrap());
    let gate = gate.sealed();
    let h = Session::new(&gate, "now", false).value("feed", "loss").unwrap().h;
    assert!((h - 0.04).abs() < 1e-12, "{h}");
}
