//! What all locks of an engine have in common: the store, the background threads, the counters.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::counters::{Counters, count};
use super::lanes::Lanes;
use super::renewal::Upkeep;
use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::settings::Config;
use crate::store::{self, Store};

/// While a server is being replaced: how often to ask again, and for how long in a row at most.
pub(super) const FAIL_OVER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// Shared by an [`Engine`](crate::Engine) and its leases.
pub(super) struct Common {
    pub(super) store: Arc<dyn Store>,
    pub(super) counters: Arc<Counters>,
    pub(super) lanes: Lanes,
    /// Longest time that a renewal under way can take.
    pub(super) patience: Duration,
    pub(super) command_timeout: Duration,
    /// [`Store::grace`].
    pub(super) grace: Option<Duration>,
    pid: u32,
    /// [`Engine::shutdown`](crate::Engine::shutdown) was called: nobody renews its leases any more.
    pub(super) ended: AtomicBool,
}

impl Common {
    /// For a configuration. No I/O.
    pub(super) fn new(config: &Config) -> Result<Self> {
        let store: Arc<dyn Store> = store::open(config)?.into();
        let counters = Arc::new(Counters::default());
        let upkeep = Upkeep { store: Arc::clone(&store), counters: Arc::clone(&counters) };
        Ok(Self {
            grace: store.grace(),
            store,
            counters,
            lanes: Lanes::new(Box::new(upkeep)),
            patience: config.connect_timeout + config.command_timeout,
            command_timeout: config.command_timeout,
            pid: std::process::id(),
            ended: AtomicBool::new(false),
        })
    }

    /// Whether this process made it, and not the one it was forked from.
    pub(super) fn is_own(&self) -> bool {
        self.pid == std::process::id()
    }

    /// Refuses a lease that a server might have given and forgotten, and that would still run when it lets others in.
    pub(super) fn admit(&self, ttl: Duration) -> Result<()> {
        match self.grace {
            Some(grace) if ttl > grace => Err(Error::Invalid(format!(
                "a lease of {} s is longer than the grace period of {} s (cluster_lock.ttl or $ttl, and ?grace= in \
                 cluster_lock.dsn): a server that has lost its memory would let others in before it is over",
                ttl.as_secs_f64(),
                grace.as_secs_f64()
            ))),
            _ => Ok(()),
        }
    }

    /// Takes a step, again and again while a server is being replaced, until `deadline`.
    pub(super) fn persist<T>(
        &self,
        deadline: Instant,
        mut step: impl FnMut(&dyn Store) -> Result<T>,
    ) -> Result<T> {
        loop {
            match step(&*self.store) {
                Err(Error::FailingOver { .. }) if !deadline.has_passed() => {
                    std::thread::sleep(FAIL_OVER.0.min(deadline.remaining()));
                }
                Ok(done) => return Ok(done),
                Err(lost @ Error::Lost(_)) => return Err(lost),
                Err(error) => {
                    count(&self.counters.errors);
                    return Err(error);
                }
            }
        }
    }
}

impl fmt::Debug for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({})", self.store.server())
    }
}
