//! Stand-in until the kernel's faults are here.

use std::net::SocketAddr;

use pushmark_measure::Nanos;
use pushmark_scenario::plan::FaultKind;

use super::FaultError;
use crate::embedded::Launch;

/// Whether the kernel's faults can be made here.
///
/// # Errors
/// What is missing, and what would allow it.
pub fn allowed() -> Result<(), String> {
    Err("not yet".to_owned())
}

/// A network namespace.
pub struct Namespace;

impl Namespace {
    pub(crate) async fn create() -> Result<Self, FaultError> {
        Err(FaultError::NotAllowed("not yet".into()))
    }
    pub(crate) fn place(&self, _: &mut Launch) {}
    pub(crate) fn aim_at(&mut self, _: SocketAddr) {}
    pub(crate) async fn inject(&mut self, _: FaultKind) -> Result<Nanos, FaultError> {
        Err(FaultError::NotAllowed("not yet".into()))
    }
    pub(crate) async fn clear(&mut self, _: FaultKind) -> Result<Nanos, FaultError> {
        Err(FaultError::NotAllowed("not yet".into()))
    }
    pub(crate) async fn remove(self) -> Result<(), FaultError> {
        Ok(())
    }
}
