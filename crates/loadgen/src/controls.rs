//! The controls of a server that may be several processes on one port: told the same, counted together.

use std::net::SocketAddr;

use pushmark_measure::Nanos;
use pushmark_transport::control::{ControlClient, Disconnect, Publish, ServerStats};
use pushmark_transport::{Step, Target, TransportError};

/// Control connections, one to each process of the server.
pub(crate) struct Controls(Vec<ControlClient>);

impl Controls {
    /// Connects to every process and reads its statistics once, each within the target's deadlines: a server that is none of
    /// ours may leave such a request without any answer.
    ///
    /// # Errors
    /// With the address of the first that cannot be controlled.
    pub(crate) async fn connect(
        addresses: &[SocketAddr],
        target: &Target,
    ) -> Result<Self, (SocketAddr, TransportError)> {
        let mut clients = Vec::new();
        for &address in addresses {
            let target = Target {
                address,
                ..target.clone()
            };
            let connected = async {
                let mut client = ControlClient::connect(&target).await?;
                client.stats().await?;
                Ok(client)
            };
            let deadline = target.connect_deadline.saturating_add(target.open_deadline);
            let connected = tokio::time::timeout(deadline, connected)
                .await
                .unwrap_or_else(|_| Err(TransportError::timed_out(Step::Receive, deadline)));
            clients.push(connected.map_err(|e| (address, e))?);
        }
        Ok(Self(clients))
    }

    /// Starts a publication on every process: each publishes the same messages to its own sessions.
    ///
    /// # Errors
    /// As one process.
    pub(crate) async fn publish(&mut self, publish: &Publish) -> Result<(), TransportError> {
        for client in &mut self.0 {
            client.publish(publish).await?;
        }
        Ok(())
    }

    /// Ends the publication on every process before the first message intended at or after `at`; gives all their counts.
    ///
    /// # Errors
    /// As one process.
    pub(crate) async fn stop(&mut self, at: Nanos) -> Result<ServerStats, TransportError> {
        let mut total = ServerStats::default();
        for client in &mut self.0 {
            total.merge(&client.stop(at).await?);
        }
        Ok(total)
    }

    /// The disconnect logs of all processes.
    ///
    /// # Errors
    /// As one process.
    pub(crate) async fn disconnects(&mut self) -> Result<Vec<Disconnect>, TransportError> {
        let mut all = Vec::new();
        for client in &mut self.0 {
            all.append(&mut client.disconnects().await?);
        }
        Ok(all)
    }

    /// Opens or closes the door of every process to new connections.
    ///
    /// # Errors
    /// As one process.
    pub(crate) async fn accept(&mut self, accept: bool) -> Result<(), TransportError> {
        for client in &mut self.0 {
            client.accept(accept).await?;
        }
        Ok(())
    }

    /// All their counts.
    ///
    /// # Errors
    /// As one process.
    pub(crate) async fn stats(&mut self) -> Result<ServerStats, TransportError> {
        let mut total = ServerStats::default();
        for client in &mut self.0 {
            total.merge(&client.stats().await?);
        }
        Ok(total)
    }
}
