//! Where locks live. A store gives atomic steps; the engine ([`crate::Engine`]) makes locks of them.
//!
//! Every step is idempotent for the same token: a client that lost a reply asks again.

mod local;
pub mod machine;
mod quorum;
mod redis;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Instant;
use crate::dsn::Dsn;
use crate::error::{Error, Loss, Result};
use crate::key::LockName;
use crate::report::{LockReport, Mode, ServerReport};
use crate::settings::Config;
use crate::wire::pool::Pool;

pub use local::LocalStore;
pub use quorum::QuorumStore;
pub use redis::RedisStore;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Names one acquisition, unguessably: 128 random bits in hexadecimal. Never shown to anyone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token([u8; 32]);

impl Token {
    /// A fresh token from the kernel's random number generator.
    pub fn random() -> Self {
        let mut raw = [0u8; 16];
        let mut filled = 0;
        // getrandom(2) never fails for 16 bytes once the system has booted; it may be interrupted.
        while filled < raw.len() {
            if let Ok(n) = rustix::rand::getrandom(
                raw.get_mut(filled..).unwrap_or_default(),
                rustix::rand::GetRandomFlags::empty(),
            ) {
                filled += n;
            }
        }
        let mut hex = [0u8; 32];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(raw) {
            if let [hi, lo] = pair {
                *hi = HEX.get(usize::from(byte >> 4)).copied().unwrap_or_default();
                *lo = HEX.get(usize::from(byte & 15)).copied().unwrap_or_default();
            }
        }
        Self(hex)
    }

    /// The 32 hexadecimal digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What one acquisition wants. The same claim is presented at every attempt.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// The lock.
    pub name: &'a LockName,
    /// This acquisition's secret.
    pub token: &'a Token,
    /// Exclusive or shared. A holder that presents its token with the other mode converts, if it names
    /// what it [converts](Self::converts).
    pub mode: Mode,
    /// The lease asked for.
    pub ttl: Duration,
    /// Encoded [`crate::Identity`] of who asks.
    pub identity: &'a [u8],
    /// Arrival rank that an earlier attempt was given; 0 at first. Keeps the claim's turn even
    /// when the server has forgotten it.
    pub place: u64,
    /// The fencing token of the lock that is to be converted; 0 when none is. A request that arrives
    /// late, from before a conversion, does not know it, and so cannot undo that.
    pub converts: u64,
}

/// What to do when the lock is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfBusy {
    /// Take or keep a place in the queue.
    Queue,
    /// Give up: remove the claim from the queue if it is there. The last try of a time-out.
    GiveUp,
    /// Queue at exactly [`Claim::place`], even what the claim holds: of several servers that are to
    /// agree on one holder, each then gives the lock to whoever came first.
    Yield,
}

/// The answer to an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Attempt {
    /// Held.
    Held(Grant),
    /// Somebody else has it.
    Busy {
        /// The claim's arrival rank, when it is queued.
        place: u64,
        /// What is left of the lease that blocks; the claim should ask again after it.
        blocked_for: Duration,
        /// Encoded identity of one who blocks.
        holder: Box<[u8]>,
    },
}

/// A lock given to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The fencing token.
    pub fence: u64,
    /// The lease, counted from a moment that the *caller* knows to lie before the grant.
    pub lease: Duration,
}

/// How a wait for a grant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The releasing holder handed the lock over.
    Granted(Grant),
    /// The time is up, or there is a reason to ask again.
    Retry,
    /// `interrupted` said so.
    Interrupted,
}

/// What the server knew of a lock when its holder released or renewed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Still the holder's (a release that is repeated answers this, too).
    Ours,
    /// Not any more.
    Lost(Loss),
}

/// What came of [`Store::break_lock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Whoever held it no longer does.
    Yes,
    /// Nobody held it.
    Free,
    /// Another holder has it by now than the one who was meant: nothing was done.
    Another,
}

/// What [`Store::status`] reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// `redis`, `local`, …
    pub backend: &'static str,
    /// The DSN without credentials.
    pub dsn: String,
    /// The server's version, when it is known without asking.
    pub server_version: Option<String>,
    /// The server's role (`master`, `slave`), when it is known.
    pub server_role: Option<String>,
    /// Connections open now, idle ones among them, and made and discarded since the start.
    pub open: usize,
    /// Idle in the pool.
    pub idle: usize,
    /// Made since the process started.
    pub created: u64,
    /// Dropped because of an error, or of too many.
    pub discarded: u64,
}

impl StoreStatus {
    /// The numbers of several servers together. Version and role are those of the first that told.
    pub(crate) fn of<'a>(backend: &'static str, dsn: &str, pools: impl Iterator<Item = &'a Pool>) -> Self {
        let mut all = Self { backend, dsn: dsn.to_owned(), ..Self::default() };
        for pool in pools.map(Pool::status) {
            all.server_version = all.server_version.or(pool.greeting.version);
            all.server_role = all.server_role.or(pool.greeting.role);
            all.open += pool.open;
            all.idle += pool.idle;
            all.created += pool.created;
            all.discarded += pool.discarded;
        }
        all
    }
}

/// A backend. All methods may be called from many threads at once.
pub trait Store: Send + Sync {
    /// One atomic try. One round trip.
    ///
    /// # Errors
    /// The server cannot be reached or refuses. When the outcome of a command is unknown it has
    /// been asked again, on a new connection, before this returns.
    fn attempt(&self, claim: &Claim<'_>, if_busy: IfBusy) -> Result<Attempt>;

    /// Sleeps until the queued claim is granted the lock, `slice` has passed or `interrupted` is
    /// true. It is looked at before, and whenever a signal arrives; not in between, because
    /// profilers raise PHP's interrupt flag many times a second.
    ///
    /// # Errors
    /// The connection broke: ask with [`Store::attempt`], which also finds a grant that was lost
    /// on the way.
    fn await_grant(&self, claim: &Claim<'_>, slice: Duration, interrupted: &dyn Fn() -> bool)
    -> Result<Wake>;

    /// Gives the lock back and hands it to the next in the queue; or takes the claim out of the
    /// queue. One round trip.
    fn release(&self, name: &LockName, token: &Token) -> Result<Standing>;

    /// Sets the lease to `ttl` from now, if the lock is still held. One round trip, on a
    /// connection that no waiter can block.
    fn renew(&self, name: &LockName, token: &Token, ttl: Duration) -> Result<Standing>;

    /// Who holds and who waits; `None` when nobody holds it. One round trip.
    fn info(&self, name: &LockName) -> Result<Option<LockReport>>;

    /// The first `limit` by name of all held locks whose names start with `prefix`, sorted by name. Empty means
    /// that none is held, and that the server was asked in the way in which locks ask it.
    fn list(&self, prefix: &[u8], limit: usize) -> Result<Vec<LockReport>>;

    /// Takes the lock away from whoever holds it; the next waiter gets it. One round trip. With the fencing
    /// token of a [report](LockReport::fence) only if nobody has been let in since; that is decided where the
    /// lock is, and in the same step.
    fn break_lock(&self, name: &LockName, meant: Option<u64>) -> Result<Broken>;

    /// What the servers that keep the locks say of themselves. A few round trips to each, one after
    /// the other. Empty where there is no server.
    fn servers(&self) -> Vec<ServerReport> {
        Vec::new()
    }

    /// Removes what is remembered of a name that nobody holds or will ever use again, as far as that can be done.
    fn forget(&self, name: &LockName);

    /// As [`Store::servers`], and whether each of them grants a lock: one of a name of its own is taken and given back.
    /// Where there is no server, the reason why none can be had, if so.
    fn examine(&self) -> Vec<ServerReport>;

    /// What is known without asking the server, so that a status page never blocks.
    fn status(&self) -> StoreStatus;

    /// Where the locks live, for messages, without credentials.
    fn server(&self) -> &str;

    /// Closes idle connections. Called when the process ends.
    fn close(&self) {}
}

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

/// What [`try_out`] takes is free after this long, if it cannot be given back.
const TRIAL_LEASE: Duration = Duration::from_secs(1);

/// A name that is nobody's, for [`try_out`].
pub(crate) fn trial_name() -> Result<LockName> {
    LockName::new(&[b"cluster_lock:trial:", Token::random().as_bytes()].concat())
}

/// Takes a free lock of a trial's name and gives it back: whether locks can be had, now. Three round trips; nothing is
/// left of it.
pub(crate) fn try_out(store: &(impl Store + ?Sized), name: &LockName) -> Result<()> {
    let token = Token::random();
    let (mode, ttl) = (Mode::Exclusive, TRIAL_LEASE);
    let claim = Claim { name, token: &token, mode, ttl, identity: b"{}", place: 0, converts: 0 };
    let outcome = store.attempt(&claim, IfBusy::GiveUp).and_then(|_| store.release(name, &token));
    store.forget(name);
    match outcome? {
        Standing::Ours => Ok(()),
        Standing::Lost(loss) => Err(Error::Lost(loss)),
    }
}

/// The first locks by name of those that are shown to it; no more of them are kept.
pub(crate) struct First {
    limit: usize,
    locks: BTreeMap<LockName, LockReport>,
}

impl First {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, locks: BTreeMap::new() }
    }

    /// Whether a lock of this name is worth looking at: it is not behind the last one when there are enough.
    pub(crate) fn wants(&self, name: &LockName) -> bool {
        let is_before = |(last, _): (&LockName, _)| name < last;
        self.locks.len() < self.limit || self.locks.last_key_value().is_some_and(is_before)
    }

    pub(crate) fn add(&mut self, report: LockReport) {
        self.locks.insert(report.name.clone(), report);
        if self.locks.len() > self.limit {
            self.locks.pop_last();
        }
    }

    pub(crate) fn sorted(self) -> Vec<LockReport> {
        self.locks.into_values().collect()
    }
}

/// The moment from which a lease is counted: before the command was sent.
pub(crate) fn lease_start() -> Instant {
    Instant::now()
}
