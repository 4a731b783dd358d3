//! The reference server: every transport on one port, a hub that publishes and echoes, and its own counts.

pub mod config;
mod deadline;
mod disconnects;
mod door;
mod heartbeat;
mod history;
mod hub;
mod inject;
mod listener;
mod publisher;
mod routes;
mod unread;

pub use config::{Config, Injection};
pub use listener::{ServeError, Server};
