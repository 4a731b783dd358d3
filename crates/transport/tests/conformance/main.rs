//! Conformance: what every transport must do, run over every row of the registry times its carriers.
//!
//! A new row is covered by the modules whose tests are written with `for_every_transport!`; what only one transport can
//! get wrong (its frames, its answers) stands in a module named after it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail by panicking and say where"
)]

mod cancellation;
mod compression;
mod delivery;
mod endings;
mod fixture;
mod foreign_client;
mod foreign_server;
mod h2_peers;
mod host;
mod http2_server;
mod limits;
mod long_poll;
mod meter;
mod negotiation;
mod recovery;
mod relay;
mod script;
mod sse;
mod truncation;
mod ws;
