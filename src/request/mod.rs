//! What this request holds. Everything that has to be given back when the request ends, in whatever
//! way it ends, stands here and not on a stack that PHP may longjmp away.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use cluster_lock_core::file::Intercept;
use cluster_lock_core::{
    Acquire, Acquired, Call, Encoded, Engine, Error, Identity, Lease, LockName, Loss, Mode, PathMap, Pending,
    Result, Standing,
};

use crate::php::{self, HeldSignals};
use crate::reply::Class;
use crate::settings;
use crate::words::{self, Blocker, about};

pub(crate) mod builds;
pub(crate) mod call;
pub(crate) mod files;
pub(crate) mod leaving;
pub(crate) mod names;
pub(crate) mod objects;
pub(crate) mod runs;
pub(crate) mod writes;

use builds::Build;
use files::{FileLock, Taking};
use leaving::Leaving;
use names::Held;
use objects::Object;
use writes::Write;

/// How a lock is wanted.
#[derive(Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) mode: Mode,
    /// `None` is no limit.
    pub(crate) timeout: Option<Duration>,
    /// When it was first asked for: the time-out counts from there, however often PHP interrupts the wait.
    pub(crate) started: Instant,
    pub(crate) ttl: Duration,
    /// For a run, which another one's may cover.
    pub(crate) run: bool,
}

impl Wish {
    /// From now on.
    pub(crate) fn new(mode: Mode, timeout: Option<Duration>, ttl: Duration) -> Self {
        Self { mode, timeout, started: Instant::now(), ttl, run: false }
    }

    /// From now on, for a run.
    pub(crate) fn for_run(timeout: Option<Duration>, ttl: Duration) -> Self {
        Self { run: true, ..Self::new(Mode::Exclusive, timeout, ttl) }
    }

    /// What is left of the time-out.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.timeout.map(|timeout| timeout.saturating_sub(self.started.elapsed()))
    }

    /// Whether a lock in this mode is in the way.
    pub(crate) fn excludes(&self, held: Mode) -> bool {
        self.mode == Mode::Exclusive || held == Mode::Exclusive
    }
}

/// How asking ended: with a lease, or the entry `L` of the table that keeps it; or with the number by which an
/// interrupted wait goes on, when PHP has done what it has to do first.
pub(crate) type Outcome<L = Lease> = Result<Acquired<L, u64>>;

/// The answer to a request for a lock.
pub(crate) struct Asked<L = Lease> {
    pub(crate) outcome: Outcome<L>,
    /// An earlier hold of the name was found to be lost, and has been dropped.
    pub(crate) lost: Option<Loss>,
    /// A line for the log: the wait was long.
    pub(crate) log: Option<String>,
}

impl<L> From<Outcome<L>> for Asked<L> {
    fn from(outcome: Outcome<L>) -> Self {
        Self { outcome, lost: None, log: None }
    }
}

/// The most bytes told of a request's script and path. Whoever makes the requests chooses the latter, and
/// it stands in the server's memory once for every waiter.
const MAX_WHO: usize = 1024;

/// Why a lock is not waited for; a single try finds it taken, as ever, but for a coroutine, which is refused anything.
fn refused<L>(wish: &Wish, why: Error) -> Outcome<L> {
    if !matches!(why, Error::Coroutine) && wish.left() == Some(Duration::ZERO) {
        return Ok(Acquired::TimedOut { waited: wish.started.elapsed(), blocker: None });
    }
    Err(why)
}

/// For [`Request::refusal`]: asked by something that is neither an object nor `cluster_lock()`.
pub(crate) const NO_OBJECT: u64 = 0;

/// A wait that PHP has interrupted.
struct Waiting {
    name: LockName,
    mode: Mode,
    run: bool,
    started: Instant,
    /// `None`: code that ran meanwhile has asked for the same lock, and has its place.
    pending: Option<Pending>,
    depth: u32,
    /// The hold that is being converted.
    id: Option<u64>,
}

/// How giving back ended, when nothing failed.
pub(crate) enum Given {
    NotHeld,
    /// Another fiber of the request holds it.
    OtherFiber,
    Ours,
    Lost(Loss),
}

impl From<Standing> for Given {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Ours => Self::Ours,
            Standing::Lost(loss) => Self::Lost(loss),
        }
    }
}

/// The end of a hold: what PHP is told of it, when that is not what it should be.
fn given_back(name: &LockName, given: Result<Given>) -> std::result::Result<(), (Class, String)> {
    match given {
        Ok(Given::Ours) => Ok(()),
        Ok(Given::NotHeld) => Err((Class::Lock, about(name, words::NOT_HELD))),
        Ok(Given::OtherFiber) => Err((Class::Lock, about(name, words::OTHER_FIBER))),
        Ok(Given::Lost(loss)) => Err((Class::Lost, words::lost_at_the_end(name, &loss))),
        Err(error) => Err((Class::of(&error), words::not_given_back(name, &error))),
    }
}

/// The table.
#[derive(Default)]
pub(crate) struct Request {
    /// Whose table it is: a forked child finds its parent's.
    pid: u32,
    last_id: u64,
    identity: Option<Encoded>,
    locks: HashMap<LockName, Held>,
    waits: HashMap<u64, Waiting>,
    pub(crate) objects: HashMap<u64, Object>,
    pub(crate) writes: HashMap<u64, Write>,
    /// Of those writes that are builds.
    builds: HashMap<u64, Build>,
    pub(crate) file_locks: Vec<FileLock>,
    /// Locks on files that are being taken.
    pub(crate) takings: HashMap<u64, Taking>,
    leaving: Leaving,
    places: Option<Places>,
}

/// php.ini's paths with their symbolic links followed. For one request: a deployment may turn the
/// links between two.
struct Places {
    path_map: PathMap,
    intercept: Intercept,
}

impl Places {
    fn now() -> Self {
        settings::with(|settings| Self {
            path_map: settings.values.path_map.resolved(),
            intercept: settings.values.intercept.resolved(),
        })
    }
}

thread_local! {
    static REQUEST: RefCell<Request> = RefCell::default();
}

/// [`with`], if anything has happened in this thread since the table was last emptied.
pub(crate) fn with_used(work: impl FnOnce(&mut Request)) {
    if php::is_table_used() {
        let _held = HeldSignals::new();
        with(work);
    }
}

/// Whether the table has something; costs nothing while it was never used.
pub(crate) fn has(something: impl FnOnce(&Request) -> bool) -> bool {
    php::is_table_used() && REQUEST.with_borrow(something)
}

/// The request and its objects are gone.
pub(crate) fn gone() {
    with_used(Request::gone);
    php::set_table_used(false);
}

/// The request's table, checked for a fork. PHP code never runs inside `work`.
pub(crate) fn with<T>(work: impl FnOnce(&mut Request) -> T) -> T {
    php::set_table_used(true);
    REQUEST.with_borrow_mut(|request| {
        let pid = std::process::id();
        if request.pid != pid {
            request.forget();
            request.pid = pid;
        }
        let done = work(request);
        if !request.leaving.is_empty() {
            request.leaving.take_in();
        }
        done
    })
}

/// Gives up a wait that was interrupted.
pub(crate) fn give_up(wait: u64) {
    let (_pending, taking) = with(|request| request.end_wait(wait));
    if let Some(taking) = taking {
        taking.abandon();
    }
}

impl Request {
    /// An id that this process has never used: a stale one finds nothing.
    pub(crate) fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Who asks. Given once for each request, by the first call that may wait.
    pub(crate) fn identify(&mut self, sapi: &[u8], script: &[u8], uri: &[u8]) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.get(..MAX_WHO).unwrap_or(bytes)).into_owned();
        // The query string may hold secrets, and says little about who holds a lock.
        let path = uri.split(|&byte| byte == b'?').next().unwrap_or_default();
        let identity = Identity {
            node: settings::with(|settings| settings.values.node.clone()),
            pid: self.pid,
            sapi: text(sapi),
            script: text(script),
            request_uri: text(path),
            run: false,
            call: Call::default(),
        };
        self.identity = Some(Encoded::new(&identity));
    }

    pub(crate) fn is_identified(&self) -> bool {
        self.identity.is_some()
    }

    /// The name of the lock on the file with this real path.
    pub(crate) fn name_of_file(&mut self, path: &Path) -> LockName {
        LockName::for_path(path, &self.places.get_or_insert_with(Places::now).path_map)
    }

    /// Whether php.ini says that locks on this file are to be intercepted.
    pub(crate) fn intercepts(&mut self, path: &Path, file: impl AsFd) -> bool {
        !settings::with(|s| s.values.intercept_exclude.matches(path))
            && self.places.get_or_insert_with(Places::now).intercept.matches(path, file)
    }

    /// Asks for a lock that this request does not hold, unless [`Request::refusal`] says why not.
    pub(crate) fn claim(&mut self, wish: &Wish, name: &LockName, object: Option<u64>) -> Asked {
        if let Some(why) = self.refusal(name, wish, object) {
            return refused(wish, why).into();
        }
        match self.place(name, wish) {
            Some(pending) => self.ask(wish, name, |how| Engine::take_over(pending, how)),
            None => self.ask(wish, name, |how| settings::engine()?.acquire(name, how)),
        }
    }

    /// The place in the queue of a wait for the same lock, which is interrupted for the code that asks now: behind it
    /// that code would wait for itself. A place for the other mode is of no use, and is left. Nor is that of a wait for a
    /// run: the run that covers it may have begun before the code that asks now.
    fn place(&mut self, name: &LockName, wish: &Wish) -> Option<Pending> {
        let waits = self.waits.values_mut().filter(|waiting| waiting.name == *name);
        let waits = waits.filter(|waiting| !waiting.run && !wish.run);
        let places = waits.filter_map(|waiting| Some((waiting.mode, waiting.pending.take()?)));
        places.filter(|(other, _)| *other == wish.mode).map(|(_, pending)| pending).last()
    }

    /// Asks the engine, as this request.
    pub(crate) fn ask(
        &mut self,
        wish: &Wish,
        name: &LockName,
        ask: impl FnOnce(&Acquire<'_>) -> Result<Acquired>,
    ) -> Asked {
        let (auto_renew, max_hold) = settings::with(|s| (s.values.auto_renew, s.values.max_hold));
        let identity = self.identity.as_mut().map(|identity| call::with(|call| identity.with(call)));
        let acquired = ask(&Acquire {
            mode: wish.mode,
            run: wish.run,
            timeout: wish.left(),
            ttl: wish.ttl,
            auto_renew,
            max_hold,
            identity: identity.unwrap_or_default(),
            interrupted: &php::interrupted,
        });
        self.answered(wish, name, acquired)
    }

    /// What the engine has answered, with the number of a wait that was interrupted, and a line on one that was long.
    fn answered(&mut self, wish: &Wish, name: &LockName, acquired: Result<Acquired>) -> Asked {
        let slow_wait = settings::with(|settings| settings.values.slow_wait);
        let outcome = acquired.map(|acquired| match acquired {
            Acquired::Held { lease, waited, blocker } => Acquired::Held { lease, waited, blocker },
            Acquired::Covered { fence, waited, blocker } => Acquired::Covered { fence, waited, blocker },
            Acquired::TimedOut { waited, blocker } => {
                Acquired::TimedOut { waited: waited.max(wish.started.elapsed()), blocker }
            }
            Acquired::Interrupted(pending) => {
                let wait = self.new_id();
                let waiting = Waiting {
                    name: name.clone(),
                    mode: wish.mode,
                    run: wish.run,
                    started: wish.started,
                    pending: Some(pending),
                    depth: 1,
                    id: None,
                };
                self.waits.insert(wait, waiting);
                Acquired::Interrupted(wait)
            }
        });
        let log = match &outcome {
            Ok(
                Acquired::Held { waited, blocker, .. }
                | Acquired::Covered { waited, blocker, .. }
                | Acquired::TimedOut { waited, blocker },
            ) if slow_wait.is_some_and(|limit| *waited > limit) => {
                let blocker = blocker.clone().map(Blocker::Holder);
                Some(words::slow(name, None, *waited, blocker.as_ref()))
            }
            _ => None,
        };
        Asked { log, ..Asked::from(outcome) }
    }

    /// The wait with this number, if it was interrupted and not gone on with: its place, and when it began.
    pub(crate) fn take_wait(&mut self, wait: u64) -> Option<(Option<Pending>, Instant)> {
        self.waits.remove(&wait).map(|waiting| (waiting.pending, waiting.started))
    }

    /// Of such a wait the place alone.
    pub(crate) fn take_place(&mut self, wait: u64) -> Option<Pending> {
        self.take_wait(wait)?.0
    }

    /// Takes out what has to be dropped when nobody goes on with this wait.
    pub(crate) fn end_wait(&mut self, wait: u64) -> (Option<Pending>, Option<Taking>) {
        let taking = self.takings.remove(&wait);
        let behind = taking.as_ref().map_or(wait, |taking| taking.wait);
        (self.take_place(behind), taking)
    }

    /// Refuses a wait that only this request itself could end: another of its handles holds the
    /// name, in a mode that excludes the wish, for longer than the wait. Refuses coroutines anything.
    pub(crate) fn refusal(&self, name: &LockName, wish: &Wish, object: Option<u64>) -> Option<Error> {
        if php::in_coroutine() {
            return Some(Error::Coroutine);
        }
        let function = self.locks.get(name).filter(|_| object.is_some()).map(|held| &held.lease);
        let objects = self
            .objects
            .iter()
            .filter(|(id, other)| Some(**id) != object && other.name == *name)
            .filter_map(|(_, other)| other.lease.as_ref());
        let leases = function.into_iter().chain(objects).chain(self.file_leases(name)).any(|lease| {
            wish.excludes(lease.mode())
                && lease.is_held()
                && (lease.is_renewed() || wish.left().is_some_and(|left| lease.remaining() > left))
        });
        // Held by the kernel alone: for a handle of this request to give back, too.
        let kernel = self
            .file_locks
            .iter()
            .any(|lock| lock.name == *name && lock.lease.is_none() && wish.excludes(lock.mode));
        (leases || kernel).then_some(Error::Deadlock)
    }

    /// The leases of locks on files with this name.
    fn file_leases(&self, name: &LockName) -> impl Iterator<Item = &Lease> {
        self.file_locks.iter().filter(move |lock| lock.name == *name).filter_map(|lock| lock.lease.as_ref())
    }

    /// All leases that are held, by functions, by objects and by streams.
    pub(crate) fn leases(&self) -> impl Iterator<Item = &Lease> {
        let objects = self.objects.values().filter_map(|object| object.lease.as_ref());
        let streams = self.file_locks.iter().filter_map(|lock| lock.lease.as_ref());
        let functions = self.locks.values().map(|held| &held.lease);
        functions.chain(objects).chain(streams).filter(|lease| lease.is_held())
    }

    /// The request ends: half-written files first, since a lock may guard them. Objects stay, not
    /// held: a worker keeps them for its next request. So do locks on files: PHP has yet to close the
    /// streams, and each gives its lock back then.
    pub(crate) fn end(&mut self) {
        self.writes.clear();
        self.builds.clear();
        self.waits.clear();
        self.takings.clear();
        self.places = None;
        for (_, held) in self.locks.drain() {
            self.leaving.leave(held.lease);
        }
        for object in self.objects.values_mut() {
            if let Some(lease) = object.lease.take() {
                self.leaving.leave(lease);
            }
        }
        self.leaving.settle();
        self.identity = None;
    }

    /// The request is gone, its objects with it, and what it was not told of.
    fn gone(&mut self) {
        self.end();
        self.objects.clear();
        self.file_locks.clear();
        self.leaving = Leaving::default();
    }

    /// In a forked child: nothing here is its own, and nothing may be touched.
    fn forget(&mut self) {
        for (_, held) in self.locks.drain() {
            std::mem::forget(held.lease);
        }
        for object in self.objects.values_mut() {
            if let Some(lease) = object.lease.take() {
                std::mem::forget(lease);
            }
        }
        for (_, write) in self.writes.drain() {
            std::mem::forget(write);
        }
        self.builds.clear();
        for (_, waiting) in self.waits.drain() {
            std::mem::forget(waiting);
        }
        self.file_locks.drain(..).for_each(|lock| std::mem::forget(lock.lease));
        self.takings.drain().for_each(|(_, taking)| std::mem::forget(taking));
        self.leaving.forget();
        self.identity = None;
    }
}
