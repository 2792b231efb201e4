//! The way to a server: Redis' protocol over a socket of our own, and the pool that lends connections.
//!
//! * `socket`: TCP, Unix domain, and TLS over one; `tls`: whom to trust.
//! * `resp`: how a command is written, and where a reply ends; `fault`: what goes wrong.
//! * `connection`: one [`Connection`]; `pool`: those of a process to one server.

mod connection;
mod fault;
mod pool;
mod resp;
mod socket;
mod tls;

pub use connection::{Connection, Greeting};
pub use fault::Fault;
pub use pool::{Loan, Pool, PoolStatus, Purpose};
pub use tls::tls_config;

pub use crate::poll::Readiness;
