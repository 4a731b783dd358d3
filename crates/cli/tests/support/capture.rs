//! Packet captures between two network namespaces that a test makes and removes. They need root, `ip` with namespaces and veth, and
//! `tcpdump`; where one is missing, a test is skipped by name.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::{Ended, Folder, ended, eventually, kill};

pub(crate) const SERVER: &str = "10.231.77.1";
pub(crate) const CLIENT: &str = "10.231.77.2";
pub(crate) const PORT: u16 = 8080;

/// Says that test `name` was skipped and why, also where `scripts/test` collects it.
pub(crate) fn skipped(name: &str, why: &str) {
    let line = format!("skipped: {name}: {why}");
    println!("{line}");
    if let Some(path) = std::env::var_os("PUSHMARK_TEST_SKIPS") {
        let file = std::fs::File::options().append(true).create(true).open(path);
        writeln!(file.unwrap(), "{line}").unwrap();
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|e| format!("ip cannot be run: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("ip {arguments}: {words}"))
}

/// Two network namespaces joined by a pair of virtual devices. Dropped, they are removed.
pub(crate) struct Pair {
    server: String,
    client: String,
}

impl Pair {
    /// Makes them; the reason where that cannot be, or nothing could be captured.
    pub(crate) fn make() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("it needs root for network namespaces".to_owned());
        }
        if Command::new("tcpdump").arg("--version").output().is_err() {
            return Err("there is no tcpdump".to_owned());
        }
        let id = std::process::id() % 1_000_000;
        let pair = Self {
            server: format!("pushmark-s{id}"),
            client: format!("pushmark-c{id}"),
        };
        let (s, c) = (&pair.server, &pair.client);
        for step in [
            format!("netns add {s}"),
            format!("netns add {c}"),
            // Both ends are made where they belong, so that they are never seen outside.
            format!("-n {s} link add pm0 type veth peer name pm1 netns {c}"),
            format!("-n {s} addr add {SERVER}/30 dev pm0"),
            format!("-n {c} addr add {CLIENT}/30 dev pm1"),
            format!("-n {s} link set pm0 up"),
            format!("-n {c} link set pm1 up"),
            format!("-n {s} link set lo up"),
            format!("-n {c} link set lo up"),
        ] {
            ip(&step)?;
        }
        Ok(pair)
    }

    fn command(namespace: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, program]);
        command
    }

    /// Runs the scenario `text` in the client's namespace against a server in the other one; what `filter` lets through is captured at
    /// the client. Gives how it ended and how many packets the capture missed. The run is in `folder` under `name`, the capture
    /// beside it as `name.pcap`.
    pub(crate) fn run(&self, folder: &Folder, name: &str, text: &str, filter: &str) -> (Ended, u64) {
        let mut command = Self::command(&self.server, env!("CARGO_BIN_EXE_pushmark"));
        command
            .args(["serve", "--threads", "1", "--exit-with-stdin", "--listen"])
            .arg(format!("{SERVER}:{PORT}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        let mut server = command.spawn().unwrap();
        // No `arp`, no slow start of anything within the window.
        std::thread::sleep(std::time::Duration::from_millis(300));
        let text = format!("{text}\n[target]\naddress = \"{SERVER}:{PORT}\"\n");
        let file = folder.write(&format!("{name}.toml"), &text);
        let capture = Capture::start(self, &folder.path(&format!("{name}.pcap")), filter);
        let mut command = Self::command(&self.client, env!("CARGO_BIN_EXE_pushmark"));
        command
            .args(["run", "--no-calibration"])
            .arg(&file)
            .arg("--allow-remote")
            .arg("--out")
            .arg(folder.path(name))
            .stdin(Stdio::null());
        let end = ended(command);
        let missed = capture.stop();
        drop(server.stdin.take());
        server.wait().unwrap();
        (end, missed)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.client] {
            let _ = ip(&format!("netns del {namespace}"));
        }
    }
}

/// A capture of what comes from the server or goes to it, with the instants at which it did.
struct Capture(Child);

impl Capture {
    fn start(pair: &Pair, to: &Path, filter: &str) -> Self {
        let child = Pair::command(&pair.client, "tcpdump")
            .args([
                "-i",
                "pm1",
                "-n",
                "-s",
                "0",
                "-U",
                "--immediate-mode",
                "-B",
                "65536",
            ])
            .args(["--time-stamp-precision=nano", "-w"])
            .arg(to)
            .arg(filter)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Its file's head is written once it listens.
        eventually("tcpdump listens", || {
            (std::fs::metadata(to).ok()?.len() >= 24).then_some(())
        });
        Self(child)
    }

    /// Ends it; gives how many packets it did not get to see.
    fn stop(mut self) -> u64 {
        // What is captured last is handed over at once, as soon as the capture has its turn.
        std::thread::sleep(std::time::Duration::from_millis(300));
        kill(self.0.id(), Signal::INT);
        let mut words = String::new();
        let said = self.0.stderr.take().unwrap().read_to_string(&mut words);
        self.0.wait().unwrap();
        said.unwrap();
        let dropped = |line: &str| {
            let count = line.strip_suffix("dropped by kernel")?.split(' ').next()?;
            count.parse::<u64>().ok()
        };
        let lines = words.lines().filter_map(dropped);
        lines.sum()
    }
}

/// A captured packet: Ethernet, IPv4 without options, TCP.
pub(crate) struct Packet {
    /// The wall clock's nanoseconds.
    pub(crate) wall_ns: u64,
    /// The client's port.
    pub(crate) client_port: u16,
    /// From the server.
    pub(crate) down: bool,
    /// Number of its first byte.
    pub(crate) sequence: u32,
    pub(crate) payload: Vec<u8>,
}

/// The packets of a capture, in their order.
pub(crate) fn packets(capture: &Path) -> Vec<Packet> {
    let bytes = std::fs::read(capture).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(word(0), 0xa1b2_3c4d, "a capture with nanoseconds");
    let (mut all, mut at) = (Vec::new(), 24);
    while at + 16 <= bytes.len() {
        let wall_ns = u64::from(word(at)) * 1_000_000_000 + u64::from(word(at + 4));
        let length = word(at + 8) as usize;
        let Some(packet) = bytes.get(at + 16..at + 16 + length) else {
            break;
        };
        at += 16 + length;
        let (ip, tcp) = (14, 14 + usize::from(packet[14] & 0x0f) * 4);
        let half = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        // A short frame is padded: the packet's own length counts.
        let end = ip + usize::from(half(ip + 2));
        let down = half(tcp) == PORT;
        all.push(Packet {
            wall_ns,
            client_port: if down { half(tcp + 2) } else { half(tcp) },
            down,
            sequence: u32::from_be_bytes(packet[tcp + 4..tcp + 8].try_into().unwrap()),
            payload: packet[tcp + usize::from(packet[tcp + 12] >> 4) * 4..end].to_vec(),
        });
    }
    all
}
