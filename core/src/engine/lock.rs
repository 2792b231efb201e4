//! Acquire, wait, hold, release: the lock as a program sees it, on any [`Store`].

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::clock::Instant;
use crate::engine::lease_state::{self as lease, LeaseState};
use crate::engine::renewal::{Renewer, retry_after};
use crate::error::{Error, Loss, Result};
use crate::key::{LockName, MAX_NAME};
use crate::report::{Identity, LockReport, Mode, ServerReport};
use crate::settings::Config;
use crate::store::{self, Attempt, Broken, Claim, Grant, IfBusy, Standing, Store, StoreStatus, Token, Wake};

/// A waiter is heard of at least this often: the longest sleep in the store.
const SLICE: Duration = Duration::from_secs(1);

/// A lock that was handed over comes with a short lease (the waiter might have died). The
/// background thread makes it a full one after this delay, so that locks held for less never pay
/// the round trip.
const CONFIRM_AFTER: Duration = Duration::from_millis(50);

/// With less than this left of the short lease the waiter confirms itself, at once.
const CONFIRM_NOW: Duration = Duration::from_millis(500);

/// After a wait whose connection broke: how long to hold off, at first and at most. It doubles with
/// every such wait in a row, so that where waiting is cut off (a proxy that forbids it, say) a waiter
/// asks twice a second instead of ten thousand times.
const HOLD_OFF: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(500));

/// While a server is being replaced: how often to ask again, and for how long in a row at most.
const FAIL_OVER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// The same for who gives a lock back, and must not be kept for long from ending.
const LET_GO: Duration = Duration::from_secs(10);

/// How often an acquire whose lease is over before its answer arrives is asked again.
const TOO_LATE: u32 = 3;

/// How a lock is wanted.
#[derive(Clone, Copy)]
pub struct Acquire<'a> {
    /// Exclusive or shared.
    pub mode: Mode,
    /// The longest wait; zero is one try, `None` is no limit.
    pub timeout: Option<Duration>,
    /// The lease: how long a dead holder blocks the others. At least 0.1 s.
    pub ttl: Duration,
    /// Whether the background thread keeps the lease alive.
    pub auto_renew: bool,
    /// After this long it no longer does. `None` is no limit.
    pub max_hold: Option<Duration>,
    /// Who asks, for reports: [`Identity::encode`].
    pub identity: &'a [u8],
    /// Looked at while waiting: whenever a signal arrives, and once a second.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// How asking for a lock ended, when nothing failed.
#[derive(Debug)]
pub enum Acquired {
    /// Held.
    Held {
        /// The lock; dropping it releases it.
        lease: Lease,
        /// How long it took.
        waited: Duration,
        /// Who was first seen to be in the way, when there was a wait.
        blocker: Option<Identity>,
    },
    /// The time is up.
    TimedOut {
        /// How long it took.
        waited: Duration,
        /// Who was first seen to be in the way.
        blocker: Option<Identity>,
    },
    /// [`Acquire::interrupted`] said so. The claim keeps its place while the interrupt is handled:
    /// go on with [`Engine::resume`], or drop it.
    Interrupted(Pending),
}

/// A claim that was interrupted in its wait. Its place is kept for about two seconds. Dropping it
/// takes it out of the queue: one round trip; none in a forked child.
#[derive(Debug)]
pub struct Pending {
    engine: Engine,
    name: LockName,
    wait: Option<Wait>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(wait) = self.wait.take().filter(|_| self.engine.is_own()) {
            let _ = self.engine.0.store.release(&self.name, &wait.token);
        }
    }
}

/// One acquisition, from its first try on.
#[derive(Debug)]
struct Wait {
    token: Token,
    started: Instant,
    place: u64,
    /// [`Claim::converts`].
    converts: u64,
    blocker: Option<Identity>,
}

/// What an engine has done since it was made.
#[derive(Debug, Default)]
pub struct Counters {
    /// Locks acquired.
    pub acquired: AtomicU64,
    /// Acquisitions that found the lock taken.
    pub contended: AtomicU64,
    /// Acquisitions that ended by time-out.
    pub timed_out: AtomicU64,
    /// Locks found to be lost.
    pub lost: AtomicU64,
    /// Failed operations.
    pub errors: AtomicU64,
    /// Total time waited in contended acquisitions, in nanoseconds.
    pub wait_nanos: AtomicU64,
    /// The longest of these, in nanoseconds.
    pub wait_max_nanos: AtomicU64,
    /// Leases renewed.
    pub renewals: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The locks of one process. Makes no connection and no thread before the first lock.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    counters: Arc<Counters>,
    renewer: Renewer,
    /// Longest time that a renewal under way can take.
    patience: Duration,
    command_timeout: Duration,
    pid: u32,
    /// [`Engine::shutdown`] was called: nobody renews its leases any more.
    ended: AtomicBool,
}

impl Engine {
    /// An engine for a configuration. No I/O.
    ///
    /// # Errors
    /// [`Error::Config`] when the backend of the DSN is not available.
    pub fn new(config: &Config) -> Result<Self> {
        let store: Arc<dyn Store> = store::open(config)?.into();
        let counters = Arc::new(Counters::default());
        let (renewing, counted) = (Arc::clone(&store), Arc::clone(&counters));
        Ok(Self(Arc::new(Inner {
            store,
            counters,
            renewer: Renewer::new(Box::new(move |lease| renew(&*renewing, &counted, lease))),
            patience: config.connect_timeout + config.command_timeout,
            command_timeout: config.command_timeout,
            pid: std::process::id(),
            ended: AtomicBool::new(false),
        })))
    }

    /// Whether this process made it, and not the one it was forked from.
    pub fn is_own(&self) -> bool {
        self.0.pid == std::process::id()
    }

    /// Whether [`Engine::shutdown`] has ended it. A process that starts again makes a new one.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.ended.load(Ordering::Relaxed)
    }

    /// Acquires a lock: one round trip when it is free. When it is not, sleeps until it is handed
    /// over; every waiter is served in the order of arrival.
    ///
    /// # Errors
    /// The server cannot be reached or refuses; nothing is held then, as far as it can be known.
    pub fn acquire(&self, name: &LockName, how: &Acquire<'_>) -> Result<Acquired> {
        self.claim(name, Token::random(), 0, how)
    }

    /// Goes on waiting after an interrupt, in the same place. The time-out counts from now: what is left of it.
    ///
    /// # Errors
    /// As [`Engine::acquire`].
    pub fn resume(mut pending: Pending, how: &Acquire<'_>) -> Result<Acquired> {
        match pending.wait.take() {
            Some(wait) => pending.engine.go_on(&pending.name, wait, how),
            None => pending.engine.acquire(&pending.name, how),
        }
    }

    /// As [`Engine::acquire`], in the place of a claim of the same process for the same name and mode, which gives it up.
    ///
    /// # Errors
    /// As [`Engine::acquire`].
    pub fn take_over(mut pending: Pending, how: &Acquire<'_>) -> Result<Acquired> {
        if let Some(wait) = &mut pending.wait {
            wait.started = Instant::now();
        }
        Self::resume(pending, how)
    }

    fn claim(&self, name: &LockName, token: Token, converts: u64, how: &Acquire<'_>) -> Result<Acquired> {
        self.go_on(name, Wait { token, started: Instant::now(), place: 0, converts, blocker: None }, how)
    }

    fn go_on(&self, name: &LockName, mut wait: Wait, how: &Acquire<'_>) -> Result<Acquired> {
        let inner = &*self.0;
        let outcome = match self.wait_turn(name, &mut wait, how) {
            Ok(Turn::Interrupted) => {
                return Ok(Acquired::Interrupted(Pending {
                    engine: self.clone(),
                    name: name.clone(),
                    wait: Some(wait),
                }));
            }
            Ok(Turn::Mine(grant)) => Ok(Some(grant)),
            Ok(Turn::TimeUp) => Ok(None),
            Err(error) => Err(error),
        };
        let Wait { token, started, blocker, .. } = wait;
        let waited = Instant::now().since(started);
        if blocker.is_some() {
            count(&inner.counters.contended);
            let nanos = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
            inner.counters.wait_nanos.fetch_add(nanos, Ordering::Relaxed);
            inner.counters.wait_max_nanos.fetch_max(nanos, Ordering::Relaxed);
        }
        match outcome {
            Ok(Some(granted)) => {
                count(&inner.counters.acquired);
                let lease = self.hold(name, token, how, &granted)?;
                Ok(Acquired::Held { lease, waited, blocker })
            }
            Ok(None) => {
                count(&inner.counters.timed_out);
                Ok(Acquired::TimedOut { waited, blocker })
            }
            Err(error) => {
                count(&inner.counters.errors);
                // The server may know us as a waiter, or even as the holder.
                let _ = inner.store.release(name, &token);
                Err(error)
            }
        }
    }

    fn wait_turn(&self, name: &LockName, wait: &mut Wait, how: &Acquire<'_>) -> Result<Turn> {
        let store = &*self.0.store;
        let deadline = how.timeout.map(|timeout| Instant::now() + timeout);
        let mut claim = Claim {
            name,
            token: &wait.token,
            mode: how.mode,
            ttl: how.ttl,
            identity: how.identity,
            place: wait.place,
            converts: wait.converts,
        };
        let mut hold_off = HOLD_OFF.0;
        let mut failing_since = None;
        let mut too_late = 0;
        loop {
            let sent = Instant::now();
            let last = deadline.is_some_and(|deadline| deadline <= sent);
            let if_busy = if last { IfBusy::GiveUp } else { IfBusy::Queue };
            let (place, blocked_for, holder) = match store.attempt(&claim, if_busy) {
                // This process, or the server, stood still for longer than the lease: is it still ours?
                Ok(Attempt::Held(_)) if lease::end(sent, how.ttl).has_passed() => {
                    too_late += 1;
                    if too_late < TOO_LATE {
                        continue;
                    }
                    return Err(Error::Connection {
                        server: store.server().to_owned(),
                        cause: format!("answers take longer than the lease of {} s", how.ttl.as_secs_f64()),
                    });
                }
                Ok(Attempt::Held(grant)) => {
                    return Ok(Turn::Mine(Granted { grant, sent, due: sent + how.ttl / 3 }));
                }
                Ok(Attempt::Busy { place, blocked_for, holder }) => (place, blocked_for, holder),
                Err(error @ Error::FailingOver { .. }) => {
                    let since = *failing_since.get_or_insert(sent);
                    if last || (since + FAIL_OVER.1).has_passed() {
                        return Err(error);
                    }
                    if (how.interrupted)() {
                        return Ok(Turn::Interrupted);
                    }
                    let pause = deadline.map_or(FAIL_OVER.0, |d| FAIL_OVER.0.min(d.remaining()));
                    std::thread::sleep(pause);
                    continue;
                }
                Err(error) => return Err(error),
            };
            failing_since = None;
            wait.blocker.get_or_insert_with(|| Identity::decode(&holder));
            if last {
                return Ok(Turn::TimeUp);
            }
            claim.place = place;
            wait.place = place;
            // Just after the blocking lease has run out is the time to find its holder dead.
            let mut slice = SLICE.min(blocked_for + Duration::from_millis(5));
            if let Some(deadline) = deadline {
                slice = slice.min(deadline.remaining());
            }
            match store.await_grant(&claim, slice, how.interrupted) {
                Ok(Wake::Granted(mut grant)) => {
                    // The grant came after the attempt that found the lock busy, so its lease is
                    // counted from there. With too little left the next attempt confirms it. No more
                    // than what was asked for is believed in: the confirmation sets that.
                    grant.lease = grant.lease.min(how.ttl);
                    let left = (sent + grant.lease).remaining();
                    if how.auto_renew && left > CONFIRM_NOW {
                        let due = Instant::now() + CONFIRM_AFTER;
                        return Ok(Turn::Mine(Granted { grant, sent, due }));
                    }
                    hold_off = HOLD_OFF.0;
                }
                Ok(Wake::Retry) => hold_off = HOLD_OFF.0,
                Ok(Wake::Interrupted) => return Ok(Turn::Interrupted),
                Err(refused @ Error::Server { .. }) => return Err(refused),
                // If the server is gone, the next attempt says so.
                Err(_) => {
                    std::thread::sleep(slice.min(hold_off));
                    hold_off = HOLD_OFF.1.min(hold_off * 2);
                }
            }
        }
    }

    fn hold(&self, name: &LockName, token: Token, how: &Acquire<'_>, granted: &Granted) -> Result<Lease> {
        let Granted { grant, sent, due } = *granted;
        let renew_until = how.max_hold.map(|limit| Instant::now() + limit);
        let state = LeaseState::new(name.clone(), token, how.mode, grant.fence, how.ttl, renew_until);
        state.extend(sent, grant.lease);
        let lease = Lease { engine: self.clone(), state: Arc::new(state), released: AtomicBool::new(false) };
        if how.auto_renew {
            // Dropping the lease on this path releases the lock.
            self.0
                .renewer
                .add(&lease.state, due)
                .map_err(|e| Error::Invalid(format!("the renewal thread cannot be started: {e}")))?;
        }
        Ok(lease)
    }

    /// Who holds and who waits; `None` when nobody holds it. One round trip.
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub fn info(&self, name: &LockName) -> Result<Option<LockReport>> {
        self.soon(|store| store.info(name))
    }

    /// The first `limit` by name of all held locks whose names start with `prefix`, sorted by name. One round
    /// trip for every thousand keys of the database, and one for every batch of locks found; no more than
    /// `limit` and a batch are in memory (of a quorum: all that are held).
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub fn list(&self, prefix: &[u8], limit: usize) -> Result<Vec<LockReport>> {
        if prefix.len() > MAX_NAME {
            return Ok(Vec::new()); // no name is that long
        }
        self.soon(|store| store.list(prefix, limit))
    }

    /// Takes a lock away from whoever holds it. One round trip. With the fencing token of a
    /// [report](LockReport::fence) only if nobody has been let in since.
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub fn break_lock(&self, name: &LockName, meant: Option<u64>) -> Result<Broken> {
        self.soon(|store| store.break_lock(name, meant))
    }

    fn soon<T>(&self, step: impl FnMut(&dyn Store) -> Result<T>) -> Result<T> {
        self.persist(Instant::now() + self.0.command_timeout, step)
    }

    /// Takes a step, again and again while a server is being replaced, until `deadline`.
    fn persist<T>(&self, deadline: Instant, mut step: impl FnMut(&dyn Store) -> Result<T>) -> Result<T> {
        loop {
            match step(&*self.0.store) {
                Err(Error::FailingOver { .. }) if !deadline.has_passed() => {
                    std::thread::sleep(FAIL_OVER.0.min(deadline.remaining()));
                }
                Ok(done) => return Ok(done),
                Err(lost @ Error::Lost(_)) => return Err(lost),
                Err(error) => {
                    count(&self.0.counters.errors);
                    return Err(error);
                }
            }
        }
    }

    /// What has been done so far.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// What the servers that keep the locks say of themselves: for health checks. Four round trips to
    /// each, of commands that change nothing; one that cannot be asked costs a time-out at most.
    pub fn servers(&self) -> Vec<ServerReport> {
        self.0.store.servers()
    }

    /// The same, and whether each of them grants a lock, with why not in its `error`: one of a name of its own
    /// is taken and given back, which is three round trips more. Where there is no server, the reason why no lock can
    /// be had, if so.
    pub fn examine(&self) -> Vec<ServerReport> {
        self.0.store.examine()
    }

    /// Takes a lock of a name of its own and gives it back: whether locks can be had, now.
    ///
    /// # Errors
    /// They cannot.
    pub fn try_out(&self) -> Result<()> {
        self.soon(|store| store::try_out(store, &store::trial_name()?))
    }

    /// The state of the store, without asking the server.
    pub fn status(&self) -> StoreStatus {
        self.0.store.status()
    }

    /// Where the locks live, for messages, without credentials.
    pub fn server(&self) -> &str {
        self.0.store.server()
    }

    /// Stops the renewal thread and closes idle connections. The process is about to end. Does
    /// nothing in a forked child.
    pub fn shutdown(&self) {
        if self.is_own() && !self.0.ended.swap(true, Ordering::Relaxed) {
            self.0.renewer.stop(self.0.patience);
            self.0.store.close();
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({})", self.server())
    }
}

/// A lock that was given to a claim: its lease counts from `sent`, and its renewal is due at `due`.
struct Granted {
    grant: Grant,
    sent: Instant,
    due: Instant,
}

/// How a claim ended.
enum Turn {
    Mine(Granted),
    TimeUp,
    Interrupted,
}

/// One renewal, by the background thread: when is the next one due?
fn renew(store: &dyn Store, counters: &Counters, lease: &LeaseState) -> Option<Instant> {
    let _one_at_a_time = lease.renewing.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    if lease.loss().is_some() || lease.renew_until.is_some_and(|end| end <= now) {
        return None;
    }
    let ttl = lease.ttl();
    match store.renew(&lease.name, &lease.token, ttl) {
        Ok(Standing::Ours) => {
            lease.extend(now, ttl);
            count(&counters.renewals);
            Some(now + ttl / 3)
        }
        Ok(Standing::Lost(loss)) => {
            lease.lose(loss);
            None
        }
        Err(_) => {
            count(&counters.errors);
            Some(Instant::now() + retry_after(ttl))
        }
    }
}

/// A lock that is held, or was: it may be lost at any time, and knows it by its own clock.
/// Dropping it releases it, except in a forked child.
pub struct Lease {
    engine: Engine,
    state: Arc<LeaseState>,
    released: AtomicBool,
}

impl Lease {
    /// The lock's name.
    pub fn name(&self) -> &LockName {
        &self.state.name
    }

    /// How it is held.
    pub fn mode(&self) -> Mode {
        self.state.mode
    }

    /// The fencing token: greater than that of every earlier holder of this name.
    pub fn fence(&self) -> u64 {
        self.state.fence
    }

    /// Whether the lease has not run out, by this machine's clock, and nothing is known of a loss.
    /// No round trip.
    pub fn is_held(&self) -> bool {
        self.state.loss().is_none()
    }

    /// What is known of a loss, without asking.
    pub fn loss(&self) -> Option<Loss> {
        self.state.loss()
    }

    /// What is left of the lease; zero when it is not held. No round trip.
    pub fn remaining(&self) -> Duration {
        if self.is_held() { self.state.deadline().remaining() } else { Duration::ZERO }
    }

    /// Sets the lease to `ttl` from now, and later renewals to `ttl`. One round trip.
    ///
    /// # Errors
    /// [`Error::Lost`] when the lock is no longer ours, or the answer came after the new lease had run
    /// out; or the server cannot be reached, and the lease is what it was (or `ttl`, if that is less).
    pub fn refresh(&self, ttl: Duration) -> Result<()> {
        self.engine.persist(Instant::now() + self.remaining().min(LET_GO), |store| {
            let _one_at_a_time = self.state.renewing.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(loss) = self.state.loss() {
                return Err(self.lost(loss));
            }
            let sent = Instant::now();
            self.state.shorten(sent, ttl);
            match store.renew(self.name(), &self.state.token, ttl)? {
                Standing::Ours => {
                    self.state.set_ttl(ttl);
                    self.state.extend(sent, ttl);
                    // An answer that was long on its way says what was.
                    self.state.loss().map_or(Ok(()), |loss| Err(self.lost(loss)))
                }
                Standing::Lost(loss) => Err(self.lost(loss)),
            }
        })
    }

    /// Asks the server whether the lock is still ours, and extends it by its own ttl. One round
    /// trip.
    ///
    /// # Errors
    /// As [`Lease::refresh`].
    pub fn verify(&self) -> Result<()> {
        self.refresh(self.state.ttl())
    }

    fn lost(&self, loss: Loss) -> Error {
        self.state.lose(loss.clone());
        Error::Lost(loss)
    }

    /// Gives the lock back; the next waiter is woken. One round trip. [`Standing::Lost`] when it
    /// was not ours throughout.
    ///
    /// # Errors
    /// The server cannot be reached: the lease will run out by itself.
    pub fn release(self) -> Result<Standing> {
        self.give_back()
    }

    fn give_back(&self) -> Result<Standing> {
        self.released.store(true, Ordering::Relaxed);
        self.engine.0.renewer.remove(&self.state);
        let known = self.state.loss();
        let told = match &known {
            // The server has said so: there is nothing to release.
            Some(Loss::Broken | Loss::Forgotten | Loss::Superseded) => Ok(Standing::Ours),
            // Beyond the end of the lease, too: the server knows whether that was needed.
            known => {
                let limit = if known.is_none() { LET_GO } else { Duration::ZERO };
                self.engine
                    .persist(Instant::now() + limit, |store| store.release(self.name(), &self.state.token))
            }
        };
        let standing = match (known, told) {
            (Some(loss), _) => Standing::Lost(loss),
            (None, told) => told?,
        };
        if matches!(standing, Standing::Lost(_)) {
            count(&self.engine.0.counters.lost);
        }
        Ok(standing)
    }

    /// Converts to another mode, which like flock(2) is not atomic: when it has to wait, others
    /// may be let in between; when it fails, nothing is held any more. The fencing token is new.
    ///
    /// # Errors
    /// As [`Engine::acquire`]; [`Error::Lost`] when there was nothing left to convert.
    pub fn convert(self, how: &Acquire<'_>) -> Result<Acquired> {
        if let Some(loss) = self.state.loss() {
            let _ = self.give_back();
            return Err(Error::Lost(loss));
        }
        self.released.store(true, Ordering::Relaxed);
        self.engine.0.renewer.remove(&self.state);
        self.engine.claim(self.name(), self.state.token.clone(), self.fence(), how)
    }

    /// Whether this process is the one that acquired it (a forked child's copies are not its own).
    pub fn is_own(&self) -> bool {
        self.engine.is_own()
    }

    /// Whether the background thread keeps it alive at present.
    pub fn is_renewed(&self) -> bool {
        self.is_held() && self.engine.0.renewer.contains(&self.state)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.released.load(Ordering::Relaxed) && self.is_own() {
            let _ = self.give_back();
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("name", self.name())
            .field("mode", &self.mode())
            .field("fence", &self.fence())
            .finish_non_exhaustive()
    }
}
