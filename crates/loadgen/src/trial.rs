//! A trial: one variant at one point of a sweep, once. Starts a server and workers, conducts them, keeps the books.

mod breaker;
mod conductor;
mod secured;
mod workers;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use pushmark_measure::{Metric, TrialSummary};
use pushmark_scenario::plan::{Cell, Plan, TargetPlan, Workload};
use pushmark_transport::control::ServerStats;
use pushmark_transport::{Target, TransportError, registry};

use crate::carriage::{CarriagePlan, is_secured};
use crate::controls::Controls;
use crate::duo::Duo;
use crate::embedded::{Embedded, EmbeddedError, Launch, ServerProgram};
use crate::faults::FaultError;
use crate::faults::server::{compression_flags, serve_flags, window_flags};
use crate::halves::Half;
use crate::preflight::{self, Limits};
use crate::run::{Interrupt, Observer, ObserverError, TrialId};
use crate::summary;
use breaker::Breaker;
use conductor::Conductor;
use secured::Secured;
use workers::{Place, Workers};

/// Time between the last word to everybody and the first message.
const LEAD: Duration = Duration::from_millis(100);
/// How long a worker may take beyond its deadlines before it counts as dead.
const GRACE: Duration = Duration::from_secs(10);
/// How long a server may take to answer on its control paths.
const ANSWER: Duration = Duration::from_secs(15);

/// Why a trial could not be run.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// No server.
    #[error(transparent)]
    Server(#[from] EmbeddedError),
    /// The server's control paths cannot be used.
    #[error("the server at {address} cannot be controlled: {source}")]
    Control {
        /// Where it was looked for.
        address: SocketAddr,
        /// What happened.
        source: TransportError,
    },
    /// A fault could not be made or unmade.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// The target's name or address cannot be resolved.
    #[error("the target {0} cannot be resolved")]
    Target(String),
    /// What secures the connections to the target cannot be used.
    #[error("TLS to the target: {0}")]
    Trust(String),
    /// A worker process could not be started or spoken to.
    #[error("a load generator process could not be run: {0}")]
    Worker(#[from] std::io::Error),
    /// A message could not be written.
    #[error("a message between processes could not be written: {0}")]
    Encode(#[from] serde_json::Error),
    /// Every worker died or failed.
    #[error("every load generator process has ended before its time; see its message above")]
    AllWorkersDead,
    /// The observer failed.
    #[error(transparent)]
    Observer(ObserverError),
    /// The user asked twice to stop.
    #[error("ended at once, as asked")]
    Aborted,
}

/// What makes a trial of a gate another than one of a run.
#[derive(Default)]
pub(crate) struct Setting {
    /// What the server is; `None`: the same program as the generator.
    pub(crate) server: Option<ServerProgram>,
    /// The trial that runs beside this one.
    pub(crate) duo: Option<Duo>,
    /// Server and generator each keep to their half of the processors.
    pub(crate) halves: bool,
}

/// How a trial ended.
pub(crate) struct Ended {
    pub(crate) summary: TrialSummary,
    /// The server's last statistics.
    pub(crate) server: Option<ServerStats>,
    /// Share of the host's processor time that went to this trial's generator and server.
    pub(crate) trial_share: Option<f64>,
    /// Messages that the schedule had for the measured window (push).
    pub(crate) planned: Option<u64>,
}

/// Runs one trial.
///
/// # Errors
/// When there is no server or no worker, or the user asked twice to stop.
pub(crate) async fn run(
    plan: &Plan,
    id: TrialId,
    program: &Path,
    limits: Limits,
    interrupt: Interrupt,
    observer: &mut dyn Observer,
    setting: Setting,
) -> Result<Ended, TrialError> {
    let Setting {
        server,
        mut duo,
        halves,
    } = setting;
    if let Some(duo) = &mut duo {
        duo.my_turn().await;
    }
    let cell = &plan.cells[id.cell_index];
    let in_process = registry::row(&cell.variant.transport).is_some_and(|row| row.in_process);
    let needs = preflight::needs(plan, id.cell_index, limits);
    let mut breaker = Breaker::prepare(cell, program).await?;
    let mut carriage = CarriagePlan::of(cell).map_err(TrialError::Trust)?;
    // Held until the server has ended.
    let mut secured = None;
    let embedded = match &cell.target {
        TargetPlan::Embedded if !in_process => {
            let mut launch = Launch::on_loopback(program, &cell.server, needs.server_processes);
            launch.flags = serve_flags(&cell.server, cell.heartbeat.as_ref(), &cell.tcp);
            launch
                .flags
                .extend(compression_flags(cell.carriage.compression.as_ref()));
            launch.flags.extend(window_flags(&cell.carriage));
            if let Some(ServerProgram { program, words }) = server {
                (launch.program, launch.verb) = (program, words);
            }
            launch.half = halves.then_some(Half::Servers);
            breaker.place(&mut launch);
            if is_secured(cell) {
                if cell.carriage.resumption {
                    launch.flags.push("--tls-resumption".to_owned());
                }
                let made = Secured::make(launch.listen)?;
                launch.flags.extend(made.serve_flags());
                carriage.trusted = Some(made.trusted());
                secured = Some(made);
            }
            Some(Embedded::launch(launch).await?)
        }
        _ => None,
    };
    let address = match (&embedded, &cell.target) {
        (Some(server), _) => server.address(),
        (None, TargetPlan::Address(address)) => resolve(address).await?,
        (None, TargetPlan::Embedded) => SocketAddr::from(([127, 0, 0, 1], 0)),
    };
    breaker.stand_before(address).await?;
    let mut control = None;
    if !in_process {
        let controls = embedded
            .as_ref()
            .map_or_else(|| vec![address], Embedded::controls);
        control = connect_controls(&controls, cell).await?;
    }
    let trouble = breaker.trouble(cell);
    let place = Place {
        address,
        needs,
        first_port: limits.first_port,
        half: halves.then_some(Half::Generators),
    };
    let workers = Workers::start(program, plan, id, place, &trouble, &carriage).await?;
    let mut conductor = Conductor {
        plan,
        cell,
        address,
        run: workers.run,
        workers,
        control,
        embedded,
        breaker,
        server_before: None,
        interrupt,
        observer,
        duo,
        facts: summary::Facts {
            shares: trouble.shares,
            ..summary::Facts::default()
        },
    };
    let has_control = conductor.control.is_some();
    let result = conductor.conduct().await;
    if matches!(result, Err(TrialError::Aborted)) {
        // Dropped, the processes are killed: nothing is waited for.
        return Err(TrialError::Aborted);
    }
    let server = conductor.server_stats().await;
    let mut facts = std::mem::take(&mut conductor.facts);
    let (trial_share, planned) = (summary::trial_share(&facts), summary::planned(&facts));
    facts.server_lost = has_control && conductor.control.is_none() && !conductor.breaker.took_the_server();
    if let (Some(server), Workload::Push(_)) = (&server, &cell.workload)
        && !server.fanout_delay.is_empty()
    {
        conductor
            .observer
            .distribution(Metric::FanoutDelay, &server.fanout_delay)
            .map_err(TrialError::Observer)?;
    }
    let gone_on_purpose = conductor.breaker.took_the_server();
    let embedded = conductor.embedded.take();
    match conductor.breaker.put_away().await {
        Ok(delay) => facts.proxy_delay_p99_ns = delay,
        Err(e) => drop(facts.fault_failed.get_or_insert(e.to_string())),
    }
    drop(conductor);
    if let Some(embedded) = embedded
        && !embedded.stop().await
        && !gone_on_purpose
    {
        tracing::warn!("the reference server did not end in good order");
    }
    drop(secured);
    result?;
    Ok(Ended {
        summary: summary::of(cell, facts),
        server,
        trial_share,
        planned,
    })
}

async fn resolve(address: &str) -> Result<SocketAddr, TrialError> {
    let unresolved = || TrialError::Target(address.to_owned());
    tokio::net::lookup_host(address)
        .await
        .map_err(|_| unresolved())?
        .next()
        .ok_or_else(unresolved)
}

/// A publication cannot be started without the control paths; an echo can do without them.
async fn connect_controls(addresses: &[SocketAddr], cell: &Cell) -> Result<Option<Controls>, TrialError> {
    let target = Target {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        source: None,
        kernel_stamps: false,
        sends: false,
        connect_deadline: cell.deadlines.connect,
        open_deadline: cell.deadlines.open,
        usual_message_bytes: 1024,
        max_message_bytes: 1 << 20,
        resume: None,
        tcp: Default::default(),
        carriage: Default::default(),
        in_process: None,
    };
    match Controls::connect(addresses, &target).await {
        Ok(controls) => Ok(Some(controls)),
        Err((address, source)) if matches!(cell.workload, Workload::Push(_)) => {
            Err(TrialError::Control { address, source })
        }
        Err(_) => Ok(None),
    }
}
