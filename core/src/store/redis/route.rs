//! On which server a lock lives, and where to turn when that server fails or refuses.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::dsn::{Address, Server};
use crate::error::{Error, Result};
use crate::settings::Config;
use crate::store::StoreStatus;
use crate::thread::lock;
use crate::wire::Fault;
use crate::wire::Pool;

/// What follows a command that failed.
pub(crate) enum Next {
    /// Its error is the caller's, as [`Route::explain`] tells it.
    GiveUp,
    /// Looking for another server has failed: this is the caller's error.
    Fail(Error),
    /// It is sent once more, there.
    Again(Arc<Pool>),
}

/// The servers of a topology. May ask them who is who; does no I/O before the first lock.
pub(crate) trait Route: Send + Sync {
    /// The server that keeps a key.
    ///
    /// # Errors
    /// None is known, and nobody could be asked.
    fn server_of(&self, key: &[u8]) -> Result<Arc<Pool>>;

    /// A number of the server that keeps a key, as far as is known: [`Store::lane_of`](crate::store::Store::lane_of).
    /// No I/O.
    fn lane_of(&self, _: &[u8]) -> usize {
        0
    }

    /// All servers that keep locks.
    ///
    /// # Errors
    /// None is known, and nobody could be asked.
    fn servers(&self) -> Result<Vec<Arc<Pool>>>;

    /// Why some locks cannot be had although all servers are well: no server keeps them. No I/O.
    fn unserved(&self) -> Option<Error> {
        None
    }

    /// No connection to `pool` could be had. Finds out what has become of it, and tells what that means.
    fn gone(&self, pool: &Arc<Pool>, error: Error) -> Error;

    /// No connection to `pool` could be had; nothing was sent. Which server keeps the key now?
    ///
    /// # Errors
    /// No other than that.
    fn instead_of(&self, pool: &Arc<Pool>, key: &[u8], error: Error) -> Result<Arc<Pool>> {
        let error = self.gone(pool, error);
        match self.server_of(key) {
            Ok(other) if !Arc::ptr_eq(&other, pool) => Ok(other),
            _ => Err(error),
        }
    }

    /// A command on `key` was sent to `pool`, and failed.
    fn after(&self, pool: &Arc<Pool>, key: &[u8], fault: &Fault) -> Next;

    /// What a fault means here.
    fn explain(&self, pool: &Pool, fault: Fault) -> Error {
        pool.explain(fault)
    }

    /// Whether a lock may be moved from one server to another key by key.
    fn moves_slots(&self) -> bool {
        false
    }

    /// The numbers of all pools together.
    fn status(&self) -> StoreStatus;

    /// Where the locks live, without credentials.
    fn label(&self) -> &str;

    /// Drops idle connections.
    fn close(&self);
}

/// One server.
pub(crate) struct One(Arc<Pool>);

impl One {
    pub(crate) fn new(server: Server, config: &Config) -> Self {
        Self(Arc::new(Pool::new(server, config)))
    }

    /// With a pool that others use as well.
    pub(crate) fn sharing(pool: &Arc<Pool>) -> Self {
        Self(Arc::clone(pool))
    }
}

impl Route for One {
    fn server_of(&self, _: &[u8]) -> Result<Arc<Pool>> {
        Ok(Arc::clone(&self.0))
    }

    fn servers(&self) -> Result<Vec<Arc<Pool>>> {
        Ok(vec![Arc::clone(&self.0)])
    }

    fn gone(&self, _: &Arc<Pool>, error: Error) -> Error {
        error
    }

    fn after(&self, pool: &Arc<Pool>, _: &[u8], fault: &Fault) -> Next {
        match fault {
            Fault::Broken(_) => {
                pool.clear();
                Next::Again(Arc::clone(pool))
            }
            // The pool has dropped its connections: new ones go where the address leads now.
            refused if refused.is_of_no_primary() => Next::Again(Arc::clone(pool)),
            Fault::Refused(..) => Next::GiveUp,
        }
    }

    fn status(&self) -> StoreStatus {
        StoreStatus::of("redis", self.label(), std::iter::once(&*self.0))
    }

    fn label(&self) -> &str {
        self.0.label()
    }

    fn close(&self) {
        self.0.clear();
    }
}

/// The servers of a topology as they turn up. Kept, so that their numbers count from the start.
pub(crate) struct Servers {
    /// How to speak to each of them.
    like: Server,
    config: Config,
    pools: Mutex<Vec<Arc<Pool>>>,
}

impl Servers {
    pub(crate) fn new(like: Server, config: &Config) -> Self {
        Self { like, config: config.clone(), pools: Mutex::default() }
    }

    fn pools(&self) -> MutexGuard<'_, Vec<Arc<Pool>>> {
        lock(&self.pools)
    }

    /// The one that listens there.
    pub(crate) fn at(&self, address: &Address) -> Arc<Pool> {
        let mut pools = self.pools();
        if let Some(pool) = pools.iter().find(|pool| pool.address() == address) {
            return Arc::clone(pool);
        }
        let pool = Arc::new(Pool::new(self.like.at(address.clone()), &self.config));
        pools.push(Arc::clone(&pool));
        pool
    }

    /// Its number, in the order in which they have turned up.
    pub(crate) fn number_of(&self, pool: &Arc<Pool>) -> Option<usize> {
        self.pools().iter().position(|other| Arc::ptr_eq(other, pool))
    }

    /// All that have turned up so far.
    pub(crate) fn all(&self) -> Vec<Arc<Pool>> {
        self.pools().clone()
    }

    /// Drops the idle connections of all the others.
    pub(crate) fn clear_all_but(&self, pool: Option<&Arc<Pool>>) {
        for other in self.all() {
            if !pool.is_some_and(|pool| Arc::ptr_eq(pool, &other)) {
                other.clear();
            }
        }
    }
}
