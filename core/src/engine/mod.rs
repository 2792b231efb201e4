//! Acquire, wait, hold, release: a lock as a program sees it, on any [`Store`](crate::store::Store).
//!
//! * `lock`: the [`Engine`], of which there is one for each configuration ([`registry`]).
//! * `acquire` and `wait`: from asking for a lock to a lease.
//! * `lease`: the [`Lease`]; `lease_state`: what its holder knows without asking; `owed`: given back without waiting.
//! * `lanes`: the background threads; `schedule`: what they do next; `renewal`: what that is, keeping leases alive and giving
//!   up turns.
//! * `common`: what all of them share; `counters`: what they have done.

mod acquire;
mod common;
mod counters;
mod lanes;
mod lease;
mod lease_state;
mod lock;
mod owed;
pub mod registry;
mod renewal;
mod schedule;
mod wait;

pub use acquire::{Acquired, Pending};
pub use counters::Counters;
pub use lease::Lease;
pub use lock::Engine;
pub use owed::{Owed, Parted};
pub use wait::Acquire;
