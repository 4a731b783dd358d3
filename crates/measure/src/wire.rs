//! What went over the client's TCP connections, by its kernel's count, against what was delivered over them.

use serde::{Deserialize, Serialize};

/// Bytes and segments of one trial: what its messages took, from before the first of them until the drain had ended, and what it
/// took before to open the sessions. Bytes are those of the TCP streams: without the headers of TCP and IP, and without what was
/// sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wire {
    /// Messages delivered in that time, each once; those of the warm-up too.
    pub deliveries: u64,
    /// Their payloads.
    pub payload_bytes: u64,
    /// Bytes that came.
    pub received_bytes: u64,
    /// Bytes that were sent.
    pub sent_bytes: u64,
    /// Bytes that the client sent again; what the server sent again the client's kernel cannot tell.
    pub retransmitted_bytes: u64,
    /// Segments that came, acknowledgements among them.
    pub received_segments: u64,
    /// Segments that were sent.
    pub sent_segments: u64,
    /// Sessions that were opened on connections that carried no messages yet.
    pub sessions: u64,
    /// Bytes that came until they were usable.
    pub opening_received_bytes: u64,
    /// Bytes that were sent until then.
    pub opening_sent_bytes: u64,
    /// How often they had to wait for the peer until then, in all.
    pub round_trips: u64,
    /// Connections whose bytes the kernel did not tell.
    pub untold: u64,
}

impl Wire {
    /// Adds those of another worker.
    pub fn merge(&mut self, other: &Self) {
        // Taken apart by name, so that a new field cannot be forgotten here.
        let Self {
            deliveries,
            payload_bytes,
            received_bytes,
            sent_bytes,
            retransmitted_bytes,
            received_segments,
            sent_segments,
            sessions,
            opening_received_bytes,
            opening_sent_bytes,
            round_trips,
            untold,
        } = other;
        self.deliveries += deliveries;
        self.payload_bytes += payload_bytes;
        self.received_bytes += received_bytes;
        self.sent_bytes += sent_bytes;
        self.retransmitted_bytes += retransmitted_bytes;
        self.received_segments += received_segments;
        self.sent_segments += sent_segments;
        self.sessions += sessions;
        self.opening_received_bytes += opening_received_bytes;
        self.opening_sent_bytes += opening_sent_bytes;
        self.round_trips += round_trips;
        self.untold += untold;
    }

    /// All that came, for one delivery, in bytes.
    pub fn received_bytes_per_delivery(&self) -> Option<f64> {
        self.of(self.received_bytes, self.deliveries)
    }

    /// All that was sent, for one delivery, in bytes.
    pub fn sent_bytes_per_delivery(&self) -> Option<f64> {
        self.of(self.sent_bytes, self.deliveries)
    }

    /// What came beside the payload, for one delivery, in bytes. Below zero where the payload was made smaller on its way.
    pub fn overhead_bytes_per_delivery(&self) -> Option<f64> {
        let payload = self.of(self.payload_bytes, self.deliveries)?;
        Some(self.received_bytes_per_delivery()? - payload)
    }

    /// What came until a session was usable, in bytes.
    pub fn opening_received_bytes_per_session(&self) -> Option<f64> {
        self.of(self.opening_received_bytes, self.sessions)
    }

    /// What was sent until then, in bytes.
    pub fn opening_sent_bytes_per_session(&self) -> Option<f64> {
        self.of(self.opening_sent_bytes, self.sessions)
    }

    /// How often a session had to wait for its peer until it was usable. Known without the kernel.
    pub fn round_trips_per_session(&self) -> Option<f64> {
        (self.sessions > 0).then(|| self.round_trips as f64 / self.sessions as f64)
    }

    /// A share; none where some bytes are not known.
    fn of(&self, amount: u64, over: u64) -> Option<f64> {
        (over > 0 && self.untold == 0 && self.sessions > 0).then(|| amount as f64 / over as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_what_was_counted() {
        let one = Wire {
            deliveries: 10,
            payload_bytes: 2_000,
            received_bytes: 2_040,
            sent_bytes: 5,
            sessions: 2,
            opening_received_bytes: 300,
            opening_sent_bytes: 500,
            round_trips: 5,
            ..Wire::default()
        };
        let mut both = Wire::default();
        both.merge(&one);
        both.merge(&one);
        for wire in [one, both] {
            assert_eq!(wire.received_bytes_per_delivery(), Some(204.0));
            assert_eq!(wire.sent_bytes_per_delivery(), Some(0.5));
            assert_eq!(wire.overhead_bytes_per_delivery(), Some(4.0));
            assert_eq!(wire.opening_received_bytes_per_session(), Some(150.0));
            assert_eq!(wire.opening_sent_bytes_per_session(), Some(250.0));
            assert_eq!(wire.round_trips_per_session(), Some(2.5));
        }
    }

    #[test]
    fn what_is_not_known_is_no_zero() {
        let none = Wire::default();
        assert_eq!(none.received_bytes_per_delivery(), None);
        assert_eq!(none.round_trips_per_session(), None);
        let partly = Wire {
            deliveries: 10,
            received_bytes: 2_040,
            sessions: 2,
            round_trips: 4,
            untold: 1,
            ..none
        };
        assert_eq!(partly.received_bytes_per_delivery(), None);
        assert_eq!(partly.opening_received_bytes_per_session(), None);
        assert_eq!(partly.round_trips_per_session(), Some(2.0));
    }
}
