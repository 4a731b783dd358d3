//! The worker processes of one trial.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use pushmark_measure::{Nanos, clock};
use pushmark_scenario::plan::{Plan, Workload};
use pushmark_transport::process;
use pushmark_transport::stamp::MAX_24_BIT;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command as Program};
use tokio::sync::mpsc;

use super::{LEAD, TrialError};
use crate::assignment::{Assignment, CarriagePlan, Command, OneOf, Report, TroublePlan};
use crate::embedded::default_threads;
use crate::groups::Groups;
use crate::halves::{self, Half};
use crate::preflight::{self, Needs};
use crate::run::TrialId;

/// The worker processes of one trial. Dropped, they are killed.
pub(super) struct Workers {
    pub(super) run: u32,
    pub(super) open_at: Nanos,
    pub(super) children: Vec<Child>,
    inputs: Vec<ChildStdin>,
    pub(super) reports: mpsc::Receiver<(usize, Option<Report>)>,
}

/// Where a trial's connections go and come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    pub(super) needs: Needs,
    /// The first port of each source address.
    pub(super) first_port: u16,
    /// The half of the processors that the generator is to keep to.
    pub(super) half: Option<Half>,
}

impl Workers {
    pub(super) async fn start(
        program: &Path,
        plan: &Plan,
        id: TrialId,
        place: Place,
        trouble: &TroublePlan,
        carriage: &CarriagePlan,
    ) -> Result<Self, TrialError> {
        let Place {
            address,
            needs,
            first_port,
            half,
        } = place;
        let cell = &plan.cells[id.cell_index];
        let processes = needs.processes;
        let sources = preflight::sources(needs, id.index);
        let run = process::random_u128() as u32 & MAX_24_BIT;
        let threads = cell.load.workers.unwrap_or_else(default_threads);
        let open_at = clock::now() + LEAD;
        let (to_us, reports) = mpsc::channel(256);
        let total = match cell.workload {
            // The cap is shared out, and no process can do with less than one.
            Workload::Connect { .. } => cell.load.connections.max(processes),
            _ => cell.load.connections,
        };
        let mut workers = Self {
            run,
            open_at,
            children: Vec::new(),
            inputs: Vec::new(),
            reports,
        };
        let groups = Groups::of(&cell.variant.carrier, cell.carriage, &cell.workload);
        for process in 0..processes {
            let part = |k: u32| groups.part(total, k, processes);
            let assignment = Assignment {
                run,
                transport: cell.variant.transport.clone(),
                carrier: cell.variant.carrier.clone(),
                carriage: carriage.clone(),
                address,
                sources: sources.clone(),
                first_port,
                sessions: part(process)..part(process + 1),
                total_sessions: total,
                process: OneOf {
                    number: process,
                    of: processes,
                },
                arrival: cell.load.arrival.clone(),
                workload: cell.workload.clone(),
                seed: plan.seed.wrapping_add(u64::from(id.repeat)),
                threads,
                deadlines: cell.deadlines,
                kernel_stamps: cell.load.kernel_stamps,
                open_at,
                trouble: trouble.clone(),
            };
            let mut command = Program::new(program);
            command
                .arg("worker")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .process_group(0);
            let mut child = halves::on(half, || command.spawn())?;
            let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
                return Err(TrialError::Worker(std::io::ErrorKind::BrokenPipe.into()));
            };
            write_line(&mut input, &assignment).await?;
            let to_us = to_us.clone();
            tokio::task::spawn_local(async move {
                let mut lines = BufReader::new(output).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    match serde_json::from_str(&line) {
                        Ok(report) => {
                            if to_us.send((process as usize, Some(report))).await.is_err() {
                                return;
                            }
                        }
                        Err(e) => tracing::error!("a worker's report is not understood: {e}"),
                    }
                }
                let _ = to_us.send((process as usize, None)).await;
            });
            workers.children.push(child);
            workers.inputs.push(input);
        }
        Ok(workers)
    }

    pub(super) async fn tell(&mut self, command: &Command) -> Result<(), TrialError> {
        for input in &mut self.inputs {
            // A worker that is gone is noticed by the end of its reports.
            if let Err(e) = write_line(input, command).await {
                tracing::warn!("a worker does not take its commands: {e:?}");
            }
        }
        Ok(())
    }
}

async fn write_line(input: &mut ChildStdin, value: &impl serde::Serialize) -> Result<(), TrialError> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    input.write_all(&line).await?;
    Ok(input.flush().await?)
}
