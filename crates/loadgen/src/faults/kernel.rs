//! Faults that only a kernel can make: a network of the run's own, in which packets are dropped and a link goes down.
//!
//! ```text
//! outside (generator) ─── way ─── server        data: everything that clients say
//!         └─────────────────────── server        control: never broken
//! ```
//! The server runs in a namespace that two links lead to. The one for clients leads through a second namespace, the *way*, where
//! packets are forwarded, and dropped: neither end's kernel knows of it. (Dropped at an end, `iptables -I OUTPUT … -j DROP` would
//! tell the sender's TCP that its packet never left, and it would retry by other timers than it has for what is lost.)
//! Segments are not sent in bundles, so that a chance of loss is that of a packet.
//!
//! Needs root, `ip` and `iptables`. Whatever was made is taken away by a small watcher, a shell that waits for the end of a pipe
//! that this process holds: also when it is killed, since the kernel closes the pipe. What even that leaves behind (the
//! watcher was killed, too) is known by its name and taken away by [`sweep_leftovers`].

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pushmark_measure::{Nanos, clock};
use pushmark_scenario::plan::FaultKind;
use tokio::process::{Child, Command};

use super::namespace::{Block, Name, exists, find, run, run_with, search_path};
use super::{FaultError, FaultId};

/// What the watcher runs: first argument the server's namespace, then the way's, then devices outside. Processes in a namespace
/// would keep it alive; they are ours, since we made it.
const TAKE_AWAY: &str = r#"
trap '' HUP INT TERM
read -r _
for namespace in "$1" "$2"; do
    for process in $(ip netns pids "$namespace" 2>/dev/null); do kill -KILL "$process" 2>/dev/null; done
done
for device in "$3" "$4"; do ip link del "$device" 2>/dev/null; done
for namespace in "$1" "$2"; do ip netns del "$namespace" 2>/dev/null; done
exit 0
"#;
/// How long the taking away may last.
const REMOVE_DEADLINE: Duration = Duration::from_secs(20);
/// Blocks of addresses that are tried.
const BLOCKS_TRIED: u32 = 20;
/// How long a link may take until it is as it was told to be.
const LINK_DEADLINE: Duration = Duration::from_secs(5);
/// Between two looks at it.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Programs that are needed, and the package of Debian and most others that has them.
const PROGRAMS: [(&str, &str); 3] = [
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("iptables-restore", "iptables"),
];

/// Whether this process may make kernel faults.
///
/// # Errors
/// In words: everything that is missing, and what would allow it.
pub fn allowed() -> Result<(), String> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push(
            "they need root: run pushmark as root, or in a container with CAP_NET_ADMIN and CAP_SYS_ADMIN"
                .to_owned(),
        );
    }
    for (program, package) in PROGRAMS {
        if find(program).is_none() {
            missing.push(format!("there is no `{program}`: install the package {package}"));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "blackhole, loss and link-down are made by the kernel in a network namespace of the run's own, and that cannot be done here: {}.",
        missing.join("; ")
    ))
}

/// Takes away what runs have left behind that were killed together with their watchers. Others' running ones are left alone.
/// Gives how many there were.
///
/// # Errors
/// When `ip` cannot be run, or does not do it.
pub async fn sweep_leftovers() -> Result<usize, FaultError> {
    let leftovers = Name::leftovers(&run("ip netns list").await?);
    for name in &leftovers {
        tracing::warn!(
            "{} is left of a run that is gone, and is taken away",
            name.server()
        );
        remove(*name, watcher(*name)?).await?;
    }
    Ok(leftovers.len())
}

/// A network namespace for a server, with links to it that can be broken. Dropped, it is taken away, with all processes in it; that
/// goes on after this process has ended.
pub struct Namespace {
    name: Name,
    block: Block,
    watcher: Option<Child>,
    faults: BTreeMap<FaultId, (FaultKind, u16)>,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    /// When a right or a program is missing, or the kernel refuses; then nothing is left of it.
    pub async fn create() -> Result<Self, FaultError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        allowed().map_err(FaultError::NotAllowed)?;
        for _ in 0..BLOCKS_TRIED {
            let block = Block::random();
            if block.routes_into(&run("ip -4 route show table all").await?) > 0 {
                continue;
            }
            let name = Name::new(COUNT.fetch_add(1, Ordering::Relaxed));
            // Before the first thing is made, so that there is no moment at which nobody would take it away.
            let made = Self {
                name,
                block,
                watcher: Some(watcher(name)?),
                faults: BTreeMap::new(),
            };
            if let Err(e) = made.make().await {
                // Of both failures, this one says why.
                let _ = made.remove().await;
                return Err(e);
            }
            // Another run may have chosen the same at the same time. The kernel does not mind; both see it, and look for another.
            let device = &name.devices()[0];
            let others: String = run("ip -4 route show table all")
                .await?
                .lines()
                .filter(|line| !name.devices().iter().any(|own| line.contains(own.as_str())))
                .flat_map(|line| [line, "\n"])
                .collect();
            if block.routes_into(&others) == 0 {
                tracing::debug!("{} is there, outside it is {device}", name.server());
                return Ok(made);
            }
            made.remove().await?;
        }
        Err(FaultError::NoEffect(
            "no sixteen addresses are free in 10.128.0.0/9 for a network of the run's own: `ip -4 route` says who has them"
                .into(),
        ))
    }

    async fn make(&self) -> Result<(), FaultError> {
        let (server, way) = (self.name.server(), self.name.router());
        let [data, control] = self.name.devices();
        let b = self.block;
        for step in [
            format!("netns add {way}"),
            format!("netns add {server}"),
            // Every end is made where it belongs.
            format!("link add {data} type veth peer name out netns {way}"),
            format!("-n {way} link add in type veth peer name data netns {server}"),
            format!("link add {control} type veth peer name control netns {server}"),
            format!("addr add {}/30 dev {data}", b.outside()),
            format!("-n {way} addr add {}/30 dev out", b.way_out()),
            format!("-n {way} addr add {}/30 dev in", b.way_in()),
            format!("-n {server} addr add {}/30 dev data", b.server()),
            format!("addr add {}/30 dev {control}", b.control_outside()),
            format!("-n {server} addr add {}/30 dev control", b.control()),
            format!("link set {data} gso_max_segs 1 up"),
            format!("-n {way} link set out up"),
            format!("-n {way} link set in up"),
            format!("-n {server} link set data gso_max_segs 1 up"),
            format!("link set {control} up"),
            format!("-n {server} link set control up"),
            format!("-n {server} link set lo up"),
            format!("-n {way} link set lo up"),
            format!("route add {} via {} dev {data}", b.server_net(), b.way_out()),
            format!("-n {server} route add default via {} dev data", b.way_in()),
            // A link that is down is not told of: the way forwards into nothing instead of answering.
            format!("-n {way} route add blackhole {} metric 9999", b.server_net()),
        ] {
            run(&format!("ip {step}")).await?;
        }
        let forward = format!("ip netns exec {way} tee /proc/sys/net/ipv4/ip_forward");
        run_with(&forward, "1").await?;
        // The first use makes the tables, which takes longer than a rule.
        run(&format!("ip netns exec {way} iptables -w -S")).await?;
        Ok(())
    }

    /// Where the server has to listen for clients.
    pub fn address(&self) -> IpAddr {
        self.block.server().into()
    }

    /// Where it has to listen for control, which no fault breaks.
    pub fn control_address(&self) -> IpAddr {
        self.block.control().into()
    }

    /// The server's namespace, as `ip netns` knows it.
    pub fn name(&self) -> String {
        self.name.server()
    }

    /// What to write before a program so that it runs inside. It becomes that program (`exec`).
    pub fn prefix(&self) -> Vec<String> {
        let ip = find("ip").map_or_else(|| "ip".into(), |path| path.to_string_lossy().into_owned());
        [ip, "netns".into(), "exec".into(), self.name.server()].to_vec()
    }

    /// Breaks the way to the server's `port`, for all its connections. Gives the instant at which that had taken effect, which
    /// was then verified.
    ///
    /// # Errors
    /// When the kind is not made by the kernel, the number is taken, or the kernel does not do it.
    pub async fn inject(&mut self, fault: FaultId, kind: FaultKind, port: u16) -> Result<Nanos, FaultError> {
        if self.faults.contains_key(&fault) {
            return Err(FaultError::Refused(format!("fault {fault} is already in force")));
        }
        // Noted before it is done: done in part, it can still be cleared.
        self.faults.insert(fault, (kind, port));
        let done = match kind {
            FaultKind::LinkDown => self.link(false).await,
            _ => match self.rules(kind, port) {
                Some(rules) => self.change("-I", &rules).await,
                None => {
                    self.faults.remove(&fault);
                    Err(FaultError::Refused(format!(
                        "the kernel does not make the fault “{}”",
                        kind.as_str()
                    )))
                }
            },
        };
        if done.is_err() && self.faults.contains_key(&fault) {
            let _ = self.clear(fault).await;
        }
        done
    }

    /// Mends it. Gives the instant at which that had taken effect, which was then verified.
    ///
    /// # Errors
    /// When the fault is not in force, or the kernel does not do it.
    pub async fn clear(&mut self, fault: FaultId) -> Result<Nanos, FaultError> {
        let Some((kind, port)) = self.faults.remove(&fault) else {
            return Err(FaultError::Refused(format!("fault {fault} is not in force")));
        };
        let another = self
            .faults
            .values()
            .any(|(other, _)| *other == FaultKind::LinkDown);
        match (kind, self.rules(kind, port)) {
            (FaultKind::LinkDown, _) if another => Ok(clock::now()),
            (FaultKind::LinkDown, _) => self.link(true).await,
            (_, Some(rules)) => self.change("-D", &rules).await,
            (_, None) => Ok(clock::now()),
        }
    }

    /// Takes it away, with all processes in it.
    ///
    /// # Errors
    /// When it is still there after twenty seconds.
    pub async fn remove(mut self) -> Result<(), FaultError> {
        match self.watcher.take() {
            Some(watcher) => remove(self.name, watcher).await,
            None => Ok(()),
        }
    }

    /// What the way drops, both ways: the same words say it, check it and take it back.
    fn rules(&self, kind: FaultKind, port: u16) -> Option<[String; 2]> {
        let when = match kind {
            FaultKind::Blackhole => String::new(),
            FaultKind::Loss { chance } => {
                format!(
                    " -m statistic --mode random --probability {:.9}",
                    chance.clamp(0.0, 1.0)
                )
            }
            _ => return None,
        };
        let server = self.block.server();
        Some([
            format!("FORWARD -d {server} -p tcp --dport {port}{when} -j DROP"),
            format!("FORWARD -s {server} -p tcp --sport {port}{when} -j DROP"),
        ])
    }

    /// Puts rules in force or takes them back, both in one step of the kernel's.
    async fn change(&self, how: &str, rules: &[String; 2]) -> Result<Nanos, FaultError> {
        let inside = format!("ip netns exec {}", self.name.router());
        let [a, b] = rules;
        let words = format!("*filter\n{how} {a}\n{how} {b}\nCOMMIT\n");
        let count = async || -> Result<usize, FaultError> {
            let all = run(&format!("{inside} iptables -w -S FORWARD")).await?;
            Ok(all.lines().filter(|line| line.starts_with("-A")).count())
        };
        let before = count().await?;
        run_with(&format!("{inside} iptables-restore -w --noflush"), &words).await?;
        let at = clock::now();
        if how == "-I" {
            for rule in rules {
                run(&format!("{inside} iptables -w -C {rule}")).await?;
            }
        } else if count().await? + rules.len() != before {
            return Err(FaultError::NoEffect(
                "the kernel keeps dropping packets: its rules are still there".into(),
            ));
        }
        Ok(at)
    }

    /// Takes the server's link down, at the way's end of it, or up again.
    async fn link(&self, up: bool) -> Result<Nanos, FaultError> {
        let way = self.name.router();
        run(&format!(
            "ip -n {way} link set in {}",
            if up { "up" } else { "down" }
        ))
        .await?;
        let told = clock::now();
        let deadline = told + LINK_DEADLINE;
        loop {
            let at = clock::now();
            // The server's own end says whether there is anything at the other.
            let states = [
                run(&format!("ip -n {way} -o link show in")).await?,
                run(&format!("ip -n {} -o link show data", self.name.server())).await?,
            ];
            if states.iter().all(|state| state.contains("state UP") == up) {
                // Down, nothing passes from then on; up, packets pass once both ends have seen it.
                return Ok(if up { at } else { told });
            }
            if at > deadline {
                return Err(FaultError::NoEffect(format!(
                    "the link does not go {}: {}",
                    if up { "up" } else { "down" },
                    states.concat().trim()
                )));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// The process that takes everything away when the pipe to it ends.
fn watcher(name: Name) -> Result<Child, FaultError> {
    let [data, control] = name.devices();
    Command::new("/bin/sh")
        .args(["-c", TAKE_AWAY, "pushmark-watcher"])
        .args([name.server(), name.router(), data, control])
        .env("PATH", search_path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Whatever ends us must not end it.
        .process_group(0)
        .spawn()
        .map_err(|source| FaultError::Start {
            what: "the watcher of a network namespace".into(),
            source,
        })
}

async fn remove(name: Name, mut watcher: Child) -> Result<(), FaultError> {
    drop(watcher.stdin.take());
    let late = |_| FaultError::Late {
        what: format!("taking {} away", name.server()),
        after: REMOVE_DEADLINE,
    };
    let ended = tokio::time::timeout(REMOVE_DEADLINE, watcher.wait())
        .await
        .map_err(late)?;
    ended.map_err(|source| FaultError::Io {
        what: "the watcher of a network namespace",
        source,
    })?;
    match [name.server(), name.router()]
        .into_iter()
        .find(|namespace| exists(namespace))
    {
        None => Ok(()),
        Some(left) => Err(FaultError::NoEffect(format!(
            "the network namespace {left} could not be taken away: `ip netns del {left}` says why"
        ))),
    }
}
