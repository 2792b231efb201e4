//! Acquire, wait, hold, release: a lock as a program sees it, on any [`Store`](crate::store::Store).
//!
//! * `lock`: the [`Engine`], of which there is one for each configuration ([`registry`]).
//! * `acquire` and `wait`: from asking for a lock to a lease.
//! * `lease`: the [`Lease`]; `lease_state`: what its holder knows without asking; `renewal`: the thread that keeps it alive.
//! * `common`: what all of them share; `counters`: what they have done.

mod acquire;
mod common;
mod counters;
mod lease;
mod lease_state;
mod lock;
pub mod registry;
mod renewal;
mod wait;

pub use acquire::{Acquired, Pending};
pub use counters::Counters;
pub use lease::Lease;
pub use lock::Engine;
pub use wait::Acquire;
