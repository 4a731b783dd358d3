//! Making and taking away the network namespaces of [`Namespace`](super::kernel::Namespace): names, addresses, commands.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use pushmark_transport::process::random_u128;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::FaultError;

/// No command of these takes longer on a machine that works.
const COMMAND_DEADLINE: Duration = Duration::from_secs(20);
/// Where these programs are on systems that do not look there for everybody.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];
/// What names of ours begin with.
const OURS: &str = "pushmark";

/// A program of the system, wherever it is.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The folders to look for programs in, for a child that runs several.
pub(super) fn search_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SYSTEM_FOLDERS.map(PathBuf::from));
    std::env::join_paths(folders).unwrap_or(path)
}

/// Runs a program of the system with these words (none of ours has a space in it); gives what it printed.
pub(super) async fn run(words: &str) -> Result<String, FaultError> {
    run_with(words, "").await
}

/// The same, with something to read.
pub(super) async fn run_with(words: &str, input: &str) -> Result<String, FaultError> {
    let failed = |said: String| FaultError::Command {
        command: words.to_owned(),
        words: said,
    };
    let work = async {
        let mut words = words.split_whitespace();
        let mut child = Command::new(words.next().unwrap_or_default())
            .args(words)
            .env("PATH", search_path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A Ctrl-C at the terminal must not cut a namespace's making or removal in two.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(input.as_bytes()).await {
                // It did not want to hear it: it says why.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
                written => written?,
            }
        }
        child.wait_with_output().await
    };
    let output: io::Result<Output> =
        tokio::time::timeout(COMMAND_DEADLINE, work)
            .await
            .map_err(|_| FaultError::Late {
                what: format!("`{words}`"),
                after: COMMAND_DEADLINE,
            })?;
    let output = output.map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(if said.is_empty() {
        output.status.to_string()
    } else {
        said
    }))
}

/// What one run's namespaces and devices are called: by their owner, so that they are known as leftovers when it is gone.
/// The owner is a process id and when that process started, since ids come round again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    process: u32,
    started: u64,
    number: u32,
}

impl Name {
    pub(super) fn new(number: u32) -> Self {
        let process = std::process::id();
        Self {
            process,
            started: start_of(process).unwrap_or(0),
            number,
        }
    }

    /// The namespace in which the server runs.
    pub(super) fn server(&self) -> String {
        format!("{OURS}-{}-{}-{}", self.process, self.started, self.number)
    }

    /// The one in between, in which packets are lost.
    pub(super) fn router(&self) -> String {
        format!("{}-way", self.server())
    }

    /// The two devices outside. The kernel takes fifteen letters: that is enough for any process id and 10,000 namespaces.
    pub(super) fn devices(&self) -> [String; 2] {
        ["d", "c"].map(|kind| format!("pm{kind}{}n{}", self.process, self.number % 10_000))
    }

    /// Whose namespace this is, if it is one of ours.
    fn parse(namespace: &str) -> Option<Self> {
        let own = namespace.strip_suffix("-way").unwrap_or(namespace);
        let mut parts = own.strip_prefix(OURS)?.strip_prefix('-')?.split('-');
        let name = Self {
            process: parts.next()?.parse().ok()?,
            started: parts.next()?.parse().ok()?,
            number: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(name)
    }

    fn has_owner(&self) -> bool {
        start_of(self.process) == Some(self.started)
    }

    /// Those in this list of namespaces that nobody owns any more.
    pub(super) fn leftovers(list: &str) -> BTreeSet<Self> {
        list.lines()
            .filter_map(|line| Self::parse(line.split_whitespace().next()?))
            .filter(|name| !name.has_owner())
            .collect()
    }
}

/// When a process started, in the kernel's ticks since boot; none for one that is not there, or only waits to be buried.
fn start_of(process: u32) -> Option<u64> {
    let stat = procfs::process::Process::new(i32::try_from(process).ok()?)
        .ok()?
        .stat()
        .ok()?;
    (!matches!(stat.state, 'Z' | 'X')).then_some(stat.starttime)
}

/// Sixteen addresses for three links: from outside to the way, from there to the server, and from outside to the server's
/// controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block(u32);

impl Block {
    /// Any block of 10.128.0.0/9.
    pub(super) fn random() -> Self {
        let any = random_u128() as u32;
        Self((10 << 24) | (1 << 23) | (any & 0x007f_fff0))
    }

    fn at(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0 + offset)
    }

    pub(super) fn outside(self) -> Ipv4Addr {
        self.at(1)
    }

    /// The way's address on the outside's link.
    pub(super) fn way_out(self) -> Ipv4Addr {
        self.at(2)
    }

    /// The way's address on the server's link.
    pub(super) fn way_in(self) -> Ipv4Addr {
        self.at(5)
    }

    pub(super) fn server(self) -> Ipv4Addr {
        self.at(6)
    }

    /// The server's link.
    pub(super) fn server_net(self) -> String {
        format!("{}/30", self.at(4))
    }

    pub(super) fn control_outside(self) -> Ipv4Addr {
        self.at(9)
    }

    pub(super) fn control(self) -> Ipv4Addr {
        self.at(10)
    }

    /// How many of these routes lead to somewhere in this block and are narrow enough to be somebody's: one for all of 10.0.0.0/8 or
    /// for everything leads to a gateway, and ours, being narrower, go before it.
    pub(super) fn routes_into(self, routes: &str) -> usize {
        let into = |line: &&str| {
            let word = line.split_whitespace().find(|word| {
                !matches!(
                    *word,
                    "local" | "broadcast" | "unreachable" | "blackhole" | "prohibit" | "throw"
                )
            });
            let (address, length) = match word.and_then(|word| word.split_once('/')) {
                Some((address, length)) => (address, length.parse().unwrap_or(32)),
                None => (word.unwrap_or_default(), 32u32),
            };
            let Ok(address) = address.parse::<Ipv4Addr>() else {
                return false;
            };
            // Of the narrower of both, as many leading bits must agree.
            let bits = length.min(28);
            length > 8 && (address.to_bits() ^ self.0) >> (32 - bits) == 0
        };
        routes.lines().filter(into).count()
    }
}

/// Whether a namespace of this name is there.
pub(super) fn exists(namespace: &str) -> bool {
    ["/run/netns", "/var/run/netns"]
        .iter()
        .any(|folder| Path::new(folder).join(namespace).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_leftovers_are_known_as_such() {
        let alive = Name::new(3);
        let gone = Name {
            started: alive.started + 1,
            ..alive
        };
        let list = format!(
            "{}\n{} (id: 4)\n{}\n{}\npushmark-s123\npushmark-c1-2-3\nblue\npushmark-1-2\npushmark-1-2-3-4\n",
            alive.server(),
            gone.server(),
            gone.router(),
            alive.router(),
        );
        assert_eq!(Name::leftovers(&list), BTreeSet::from([gone]));
        let longest = Name {
            process: 4_194_304,
            started: u64::MAX,
            number: u32::MAX,
        };
        assert!(longest.devices().iter().all(|device| device.len() <= 15));
    }

    #[test]
    fn blocks_are_of_ten_and_know_what_leads_into_them() {
        for _ in 0..100 {
            let block = Block::random();
            assert!(block.server().octets()[0] == 10 && block.server().octets()[1] >= 128);
            assert_eq!(block.0 % 16, 0);
        }
        let block = Block(u32::from_be_bytes([10, 200, 7, 32]));
        assert_eq!(block.server_net(), "10.200.7.36/30");
        for (route, into) in [
            ("default via 192.0.2.1 dev eth0", 0),
            ("10.0.0.0/8 via 192.0.2.1 dev vpn", 0),
            ("10.200.0.0/16 dev eth0 proto kernel scope link src 10.200.0.4", 1),
            ("10.200.7.36/30 dev pmd1n0", 1),
            ("local 10.200.7.33 dev pmd1n0 table local", 1),
            ("10.200.7.48/28 dev other", 0),
            ("broadcast 10.201.7.32 dev other table local", 0),
            ("local 127.0.0.0/8 dev lo", 0),
            ("", 0),
        ] {
            assert_eq!(block.routes_into(route), into, "{route}");
        }
    }
}
