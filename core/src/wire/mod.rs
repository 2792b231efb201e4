//! The way to a server: Redis' protocol over a socket of our own, and the pool that lends connections.
//!
//! * `socket`: TCP, Unix domain, and TLS over one; `tls`: whom to trust.
//! * `name`: where a host's name leads; `race`: the first of its addresses to answer.
//! * `resp`: how a command is written, and where a reply ends; `fault`: what goes wrong.
//! * `connection`: one [`Connection`]; `dial`: how it is made; `greeting`: what is said first; `password`: as it is now.
//! * `pool`: those of a process to one server.

mod connection;
mod dial;
mod fault;
mod greeting;
mod name;
mod password;
mod pool;
mod race;
mod resp;
mod socket;
mod tls;

pub use connection::Connection;
pub use dial::Dialer;
pub use fault::Fault;
pub use greeting::Greeting;
pub use pool::{Loan, Pool, PoolStatus, Purpose};

pub use crate::poll::Readiness;
