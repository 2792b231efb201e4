//! Where locks live. A store gives atomic steps; the engine ([`crate::Engine`]) makes locks of them.
//!
//! Every step is idempotent for the same token: a client that lost a reply asks again.
//!
//! * `backend`: the trait [`Store`], and the words of its steps; `token`: who asks.
//! * `redis`: one server, the primary that sentinels name, or a Redis Cluster; `quorum`: several servers, of which a
//!   majority decides; `local`: this host's kernel.
//! * [`machine`]: the rules of a lock without I/O: the local backend's, and the model for the Lua scripts.

mod backend;
mod first;
mod local;
pub mod machine;
mod quorum;
mod redis;
mod token;
mod trial;

use crate::dsn::Dsn;
use crate::error::Result;
use crate::settings::Config;

pub use backend::{
    Attempt, Broken, Chore, Claim, Grant, Hold, IfBusy, LANES, Parting, Reclaim, Standing, Store,
    StoreStatus, Wake,
};
pub use local::LocalStore;
pub use quorum::QuorumStore;
pub use redis::RedisStore;
pub use token::Token;
use trial::{ours, trial_claim};
pub(crate) use trial::{trial_name, try_out};

/// Opens the store of a configuration. Does no I/O.
///
/// # Errors
/// [`crate::Error::Config`] for a DSN whose backend is not available.
pub fn open(config: &Config) -> Result<Box<dyn Store>> {
    match &config.dsn {
        Dsn::Redis(server) => Ok(Box::new(RedisStore::new(server.clone(), config))),
        Dsn::Quorum(servers) => Ok(Box::new(QuorumStore::new(servers, config))),
        Dsn::Sentinel(sentinel) => Ok(Box::new(RedisStore::watched(sentinel, config))),
        Dsn::Cluster(cluster) => Ok(Box::new(RedisStore::sharded(cluster, config)?)),
        Dsn::Local(directory) => Ok(Box::new(LocalStore::new(directory.clone(), config))),
    }
}
