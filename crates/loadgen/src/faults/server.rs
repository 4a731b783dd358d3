//! The embedded server's processes and what happens to them: flags for what they shall do about dead peers, and the state that
//! the kernel has them in. The faults themselves are methods of [`Embedded`](crate::embedded::Embedded).

use std::fmt::Write;
use std::time::Duration;

use procfs::process::{ProcState, Process};
use pushmark_measure::clock;
use pushmark_scenario::plan::{
    CarriageSetup, Compression, Heartbeat, Keepalive, ServerSetup, TcpOptions, Windows,
};
use rustix::process::{Pid, Signal, kill_process};

use super::FaultError;

/// How long a process may take to be stopped, or to go on, after it was told.
const STATE_DEADLINE: Duration = Duration::from_secs(5);
/// Between two looks at its state.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// Flags of `pushmark serve` for what finds dead peers and keeps messages for those who come back; none for what is not set.
pub fn serve_flags(setup: &ServerSetup, heartbeat: Option<&Heartbeat>, tcp: &TcpOptions) -> Vec<String> {
    let mut flags = Vec::new();
    let mut flag = |name: &str, value: String| flags.extend([name.to_owned(), value]);
    if let Some(Heartbeat { every, timeout }) = heartbeat {
        flag("--heartbeat-every", span(*every));
        flag("--heartbeat-timeout", span(*timeout));
    }
    if setup.history_messages > 0 {
        flag("--history", setup.history_messages.to_string());
    }
    if let Some(retry) = setup.retry {
        flag("--retry", span(retry));
    }
    if let Some(Keepalive {
        idle,
        interval,
        probes,
    }) = tcp.keepalive
    {
        flag(
            "--keepalive",
            format!("{},{},{probes}", span(idle), span(interval)),
        );
    }
    if let Some(timeout) = tcp.user_timeout {
        flag("--user-timeout", span(timeout));
    }
    flags
}

/// Flags for what is compressed; none where nothing is, so that the server declines.
pub fn compression_flags(compression: Option<&Compression>) -> Vec<String> {
    let Some(asked) = compression else {
        return Vec::new();
    };
    let mut flags = vec!["--compress".to_owned(), asked.level.to_string()];
    flags.extend(["--window-bits".to_owned(), asked.window_bits.to_string()]);
    if !asked.context_takeover.of_server() {
        flags.push("--no-context-takeover".to_owned());
    }
    flags
}

/// Flags of `pushmark serve` for the windows of its connections; none for the usual ones.
pub fn window_flags(setup: &CarriageSetup) -> Vec<String> {
    let windows = setup.windows.filter(|windows| *windows != Windows::default());
    let flags = windows.map(|windows| {
        let flags = [
            ("--stream-window", windows.stream_bytes),
            ("--connection-window", windows.connection_bytes),
        ];
        flags.map(|(name, bytes)| [name.to_owned(), bytes.to_string()])
    });
    flags.into_iter().flatten().flatten().collect()
}

/// A duration in the largest unit that needs no fraction: `2s`, `1500ms`.
fn span(duration: Duration) -> String {
    let ns = duration.as_nanos();
    let (unit, of) = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)]
        .into_iter()
        .find(|(_, of)| ns.is_multiple_of(*of))
        .unwrap_or(("ns", 1));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(text, "{}{unit}", ns / of);
    text
}

/// Signals processes and waits until the kernel has every thread of them stopped, or none.
///
/// # Errors
/// When one is gone, or is not there within five seconds.
pub(crate) async fn set_stopped(processes: &[u32], stopped: bool) -> Result<(), FaultError> {
    let signal = if stopped { Signal::STOP } else { Signal::CONT };
    for id in processes {
        let sent = i32::try_from(*id)
            .ok()
            .and_then(Pid::from_raw)
            .is_some_and(|pid| kill_process(pid, signal).is_ok());
        if !sent {
            return Err(FaultError::Gone(SERVER));
        }
    }
    let deadline = clock::now() + STATE_DEADLINE;
    for id in processes {
        while is_stopped(*id)? != stopped {
            if clock::now() > deadline {
                return Err(FaultError::NoEffect(format!(
                    "process {id} of {SERVER} was {} and {}",
                    if stopped { "stopped" } else { "continued" },
                    if stopped { "still runs" } else { "still stands" },
                )));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    Ok(())
}

/// The server, in errors.
pub(crate) const SERVER: &str = "the reference server";

/// Whether every thread of a process is stopped. One thread that runs makes it a running one: it stops when the signal has
/// reached all of them.
fn is_stopped(id: u32) -> Result<bool, FaultError> {
    let gone = |_| FaultError::Gone(SERVER);
    let process = Process::new(i32::try_from(id).unwrap_or(i32::MAX)).map_err(gone)?;
    let mut all = true;
    for task in process.tasks().map_err(gone)? {
        // A thread that ended meanwhile does not run.
        let Ok(state) = task.and_then(|task| task.stat()).and_then(|stat| stat.state()) else {
            continue;
        };
        match state {
            ProcState::Zombie | ProcState::Dead => return Err(FaultError::Gone(SERVER)),
            state => all &= state == ProcState::Stopped,
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use pushmark_scenario::plan::WhenFull;

    use super::*;

    #[test]
    fn flags_are_given_for_what_is_set() {
        let setup = ServerSetup {
            threads: None,
            outbox_messages: 1,
            when_full: WhenFull::DropOldest,
            history_messages: 0,
            retry: None,
        };
        assert!(serve_flags(&setup, None, &TcpOptions::default()).is_empty());
        let setup = ServerSetup {
            history_messages: 500,
            retry: Some(Duration::from_millis(500)),
            ..setup
        };
        let heartbeat = Heartbeat {
            every: Duration::from_secs(2),
            timeout: Duration::from_millis(1_500),
        };
        let tcp = TcpOptions {
            keepalive: Some(Keepalive {
                idle: Duration::from_secs(10),
                interval: Duration::from_secs(5),
                probes: 3,
            }),
            user_timeout: Some(Duration::from_secs(5)),
        };
        assert_eq!(
            serve_flags(&setup, Some(&heartbeat), &tcp).join(" "),
            "--heartbeat-every 2s --heartbeat-timeout 1500ms --history 500 --retry 500ms --keepalive 10s,5s,3 --user-timeout 5s"
        );
    }
}
