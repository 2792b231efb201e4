//! Locks on open files: `cluster_flock()`, and `flock()` where php.ini has it intercepted.
//!
//! As with flock(2), a lock belongs to an open file, not to a stream: streams that share one
//! (`php://fd/3`) share its lock, and it ends when the last of them is closed. Two independently
//! opened handles on one file exclude each other, also in one process.
//!
//! | | `gate` | `replace` |
//! |---|---|---|
//! | taking it | the cluster lock, then the kernel's | the cluster lock; network: forget what is cached |
//! | giving it back | network: send what was written; the kernel's lock, then the cluster's | network: send what was written; the cluster lock |
//! | cluster lock unavailable | the kernel's alone, and a warning | fails |

use std::ffi::c_int;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use cluster_lock_core::file::{FlockMode, Inode, KernelLock, OpenFile, kernel_unlock, try_kernel_lock};
use cluster_lock_core::{Acquired, Engine, Error, Lease, LockName, Mode, nfs};

use super::leaving::{Leaving, telling};
use super::{Asked, Given, NO_OBJECT, Request, Wish, given_back, refused};
use crate::reply::{Class, Reply, Value};
use crate::words::{self, Blocker, about};
use crate::{counters, php, request, settings};

/// Between two tries for a kernel lock that somebody without the extension holds: at first, at most.
/// A kernel's own wait cannot be given a time-out, and on NFS it polls at up to 30 s.
const POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(25));

/// Linux's numbers, which PHP's `errno` is compared with.
const EIO: i64 = 5;
const EWOULDBLOCK: i64 = 11;

/// One stream on an open file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handle {
    /// The address of PHP's stream: its name, never followed.
    stream: usize,
    fd: c_int,
    /// Programs that are started meanwhile do not inherit it, as they otherwise would.
    sealed: bool,
}

impl Handle {
    pub(crate) fn new(stream: usize, fd: c_int) -> Self {
        Self { stream, fd, sealed: false }
    }

    /// The kernel's lock is the open file's: a program that inherits the descriptor and goes on running would keep it,
    /// whatever becomes of this process.
    fn seal(&mut self) {
        self.sealed |= php::set_inherited(self.fd, false);
    }

    fn unseal(&mut self) {
        if std::mem::take(&mut self.sealed) {
            php::set_inherited(self.fd, true);
        }
    }
}

/// The lock of one open file.
pub(crate) struct FileLock {
    pub(crate) name: LockName,
    pub(crate) mode: Mode,
    /// `None`: the kernel's lock alone holds.
    pub(crate) lease: Option<Lease>,
    /// The kernel's lock is held, too.
    kernel: bool,
    inode: Option<Inode>,
    network: bool,
    handles: Vec<Handle>,
    /// What went wrong when the last stream was about to be closed.
    trouble: Option<String>,
}

/// A lock that is being taken.
pub(crate) struct Taking {
    name: LockName,
    path: PathBuf,
    handle: Handle,
    wish: Wish,
    flock_mode: FlockMode,
    inode: Option<Inode>,
    network: bool,
    asking: Asking,
    /// The number of a wait that PHP has interrupted.
    pub(crate) wait: u64,
    /// What the lock had before it was to be converted.
    handles: Vec<Handle>,
    kernel: bool,
    /// The first half is done: the cluster lock, or what is to be told of its absence.
    cluster: Option<Cluster>,
    blocker: Option<Blocker>,
    log: Vec<String>,
    warning: Option<String>,
}

enum Cluster {
    Held(Lease),
    Unavailable,
}

/// How far taking it has come.
enum Step {
    Interrupted,
    Done(Reply),
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Asking {
    pub(crate) mode: Mode,
    pub(crate) at_once: bool,
    /// By `cluster_flock()`, for whatever file.
    pub(crate) by_name: bool,
    /// Whoever asks cannot tell a time-out from other failures.
    pub(crate) loud: bool,
}

/// Whether a lock on a file may be any of our business.
pub(crate) fn is_watching() -> bool {
    settings::with(|settings| !settings.values.intercept.is_empty()) || any()
}

/// Whether any file is locked by this request.
pub(crate) fn any() -> bool {
    request::has(|request| !request.file_locks.is_empty())
}

/// Whether this stream has a lock.
pub(crate) fn holds(stream: usize) -> bool {
    request::has(|request| request.file_locks.iter().any(|lock| lock.has(stream)))
}

/// Whether the lock on this file is ours to take: then `true` and the id to take it with. Null: it is
/// the kernel's alone. `typed` is what the stream was opened by.
pub(crate) fn begin(handle: Handle, file: impl AsFd + Copy, typed: &Path, asking: Asking) -> Reply {
    request::with(|request| {
        let Some(OpenFile { path, inode }) = OpenFile::of(file, typed) else { return Value::Null.into() };
        let is_ours =
            asking.by_name || request.file_lock(handle).is_some() || request.intercepts(&path, file);
        if !is_ours {
            return Value::Null.into();
        }
        let name = request.name_of_file(&path);
        if inode.is_none() {
            // Whoever opens it again shall find what is there now.
            nfs::refresh_path(&path);
            return errno(EIO).warn(about(&name, words::STALE));
        }
        let (timeout, flock_mode) = settings::with(|s| (s.values.timeout, s.values.flock_mode));
        let timeout = if asking.at_once { Some(Duration::ZERO) } else { timeout };
        let id = request.new_id();
        let taking = Taking {
            name,
            path,
            handle,
            wish: Wish::new(asking.mode, timeout, settings::ttl()),
            flock_mode,
            inode,
            network: nfs::is_network(file),
            asking,
            wait: 0,
            handles: vec![handle],
            kernel: false,
            cluster: None,
            blocker: None,
            log: Vec::new(),
            warning: None,
        };
        request.takings.insert(id, taking);
        Reply::from(true).id(id)
    })
}

/// Takes it, or goes on after an interrupt: true, or the `errno` with which it failed.
pub(crate) fn take(id: u64, file: impl AsFd + Copy) -> Reply {
    telling(request::with(|request| {
        let Some(mut taking) = request.takings.remove(&id) else { return errno(EIO) };
        match taking.go_on(request, file) {
            Step::Done(reply) => taking.told(reply),
            Step::Interrupted => {
                request.takings.insert(id, taking);
                Reply::again(id)
            }
        }
    }))
}

/// Gives it back: true, or the `errno` with which that failed. Null: it is the kernel's alone.
pub(crate) fn release(handle: Handle, file: impl AsFd + Copy) -> Reply {
    telling(request::with(|request| match request.take_file_lock(handle) {
        None => Value::Null.into(),
        Some(lock) => lock.give_back(Some(file), &mut request.leaving),
    }))
}

/// A stream is about to be closed. Its data goes first, then the kernel's lock: it would stay with a forked child, which
/// has the open file, too.
pub(crate) fn closing(handle: Handle, file: impl AsFd + Copy) {
    request::with(|request| {
        if let Some(lock) = request.file_locks.iter_mut().find(|lock| lock.has(handle.stream))
            && lock.handles.len() == 1
        {
            lock.trouble = lock.flush(file);
            if lock.kernel {
                let _ = kernel_unlock(file);
            }
        }
    });
}

/// A stream has been closed, and the last one of its file gives the lock back.
pub(crate) fn closed(handle: Handle) -> Reply {
    request::with(|request| {
        let Some(index) = request.file_locks.iter().position(|lock| lock.has(handle.stream)) else {
            return true.into();
        };
        if let Some(lock) = request.file_locks.get_mut(index)
            && lock.handles.len() > 1
        {
            lock.handles.retain(|other| other.stream != handle.stream);
            return true.into();
        }
        let lock = request.file_locks.swap_remove(index);
        lock.give_back(None::<BorrowedFd<'_>>, &mut request.leaving)
    })
}

/// Another stream is on the same open file.
pub(crate) fn share(with: Handle, handle: Handle) {
    request::with(|request| {
        if let Some(lock) = request.file_locks.iter_mut().find(|lock| lock.has(with.stream)) {
            lock.add(handle);
        }
    });
}

fn errno(number: i64) -> Reply {
    Value::Int(number).into()
}

/// Somebody else has it: said by `errno` alone, as flock(2) does.
fn would_block() -> Reply {
    errno(EWOULDBLOCK)
}

impl Request {
    /// The lock of a stream's open file. A stream that is new to it may share it all the same.
    fn file_lock(&mut self, handle: Handle) -> Option<&mut FileLock> {
        let known = self.file_locks.iter().position(|lock| lock.has(handle.stream));
        let shares = |lock: &FileLock| lock.handles.iter().any(|h| php::is_same_open_file(h.fd, handle.fd));
        let index = known.or_else(|| self.file_locks.iter().position(shares))?;
        self.file_locks.get_mut(index)
    }

    fn take_file_lock(&mut self, handle: Handle) -> Option<FileLock> {
        let stream = self.file_lock(handle)?.handles.first()?.stream;
        let index =
            self.file_locks.iter().position(|lock| lock.handles.iter().any(|h| h.stream == stream))?;
        Some(self.file_locks.swap_remove(index))
    }
}

impl FileLock {
    /// A stream that shares the open file.
    fn add(&mut self, mut handle: Handle) {
        if self.has(handle.stream) {
            return;
        }
        if self.kernel {
            handle.seal();
        }
        self.handles.push(handle);
    }

    fn has(&self, stream: usize) -> bool {
        self.handles.iter().any(|handle| handle.stream == stream)
    }

    /// Sends what was written to a network file's server; what went wrong, in words.
    fn flush(&self, file: impl AsFd) -> Option<String> {
        let error = self.network.then(|| nfs::flush(file).err())??;
        Some(words::not_flushed(error))
    }

    /// `file` is `None` when it is closed already.
    fn give_back(mut self, file: Option<impl AsFd + Copy>, leaving: &mut Leaving) -> Reply {
        let mut trouble = self.trouble.clone();
        if let Some(file) = file {
            trouble = self.flush(file);
            if self.kernel
                && let Err(error) = kernel_unlock(file)
            {
                trouble.get_or_insert_with(|| words::kernel_kept(error));
            }
            self.handles.iter_mut().for_each(Handle::unseal);
        }
        let Self { name, lease, kernel, .. } = self;
        let given = lease.map_or(Ok(Given::Ours), |lease| leaving.give_back(lease));
        let given = given_back(&name, given);
        match (trouble, given) {
            (Some(trouble), _) => errno(EIO).warn(about(&name, trouble)),
            (None, Ok(())) => true.into(),
            // The kernel's lock has kept everybody out, and is free again.
            (None, Err((Class::Connection, message))) if kernel => Reply::from(true).warn(message),
            (None, Err((_, message))) => errno(EIO).warn(message),
        }
    }
}

impl Taking {
    fn go_on(&mut self, request: &mut Request, file: impl AsFd + Copy) -> Step {
        if self.cluster.is_none()
            && let Err(step) = self.take_cluster_lock(request, file)
        {
            return step;
        }
        if self.flock_mode == FlockMode::Gate
            && let Err(step) = self.take_kernel_lock(request, file)
        {
            return step;
        }
        // Without the kernel's lock nothing else makes its cache forget.
        if self.network
            && !self.kernel
            && let Err(error) = nfs::refresh(file)
        {
            return self.failed(file, words::not_refreshed(error));
        }
        let lease = match self.cluster.take() {
            Some(Cluster::Held(lease)) => Some(lease),
            Some(Cluster::Unavailable) | None => None,
        };
        self.handles.iter_mut().for_each(if self.kernel { Handle::seal } else { Handle::unseal });
        request.file_locks.push(FileLock {
            name: self.name.clone(),
            mode: self.wish.mode,
            lease,
            kernel: self.kernel,
            inode: self.inode,
            network: self.network,
            handles: std::mem::take(&mut self.handles),
            trouble: None,
        });
        Step::Done(true.into())
    }

    /// `Err` is where it ends.
    fn take_cluster_lock(&mut self, request: &mut Request, file: impl AsFd + Copy) -> Result<(), Step> {
        let Asked { outcome, .. } = match request.take_place(self.wait) {
            Some(pending) => {
                let name = self.name.clone();
                request.ask(&self.wish, &name, |how| Engine::resume(pending, how))
            }
            None => self.ask(request, file)?,
        };
        if let Ok(Acquired::Held { blocker, .. } | Acquired::TimedOut { blocker, .. }) = &outcome
            && let Some(blocker) = blocker
        {
            self.blocker = Some(Blocker::Holder(blocker.clone()));
        }
        self.cluster = match outcome {
            Ok(Acquired::Held { lease, .. }) => Some(Cluster::Held(lease)),
            Ok(Acquired::Interrupted(wait)) => {
                self.wait = wait;
                return Err(Step::Interrupted);
            }
            // The kernel's lock was kept: it is the kernel's alone.
            Ok(Acquired::TimedOut { .. }) if self.kernel => Some(Cluster::Unavailable),
            Ok(Acquired::Covered { .. } | Acquired::TimedOut { .. }) => return Err(self.timed_out(file)),
            Err(error @ (Error::Deadlock | Error::OtherFiber | Error::Coroutine)) => {
                return Err(self.failed(file, error));
            }
            Err(error) if self.flock_mode == FlockMode::Gate => {
                self.warning = Some(words::kernel_alone(&error));
                Some(Cluster::Unavailable)
            }
            Err(error) => return Err(self.failed(file, error)),
        };
        Ok(())
    }

    /// Asks for the first time. The file may have a lock already: as with flock(2), the same mode is
    /// held on, and another is given back before the new one is asked for.
    fn ask(&mut self, request: &mut Request, file: impl AsFd + Copy) -> Result<Asked, Step> {
        let (handle, mode) = (self.handle, self.wish.mode);
        let mut loss = None;
        if let Some(lock) = request.file_lock(handle) {
            loss = lock.lease.as_ref().and_then(Lease::loss);
            if loss.is_none() && lock.mode == mode {
                lock.add(handle);
                return Err(Step::Done(true.into()));
            }
        }
        let old = request.take_file_lock(handle);
        // What the request's other handles hold; this one's own is out of the table.
        let refusal = request.refusal(&self.name, &self.wish, Some(NO_OBJECT));
        let refusal = refusal.map(|why| refused::<Lease>(&self.wish, why));
        let Some(mut lock) = old else { return Ok(self.ask_anew(request)) };
        if loss.is_none() {
            if let Some(Err(error)) = refusal {
                // It would wait for itself: nothing has changed then.
                request.file_locks.push(lock);
                return Err(self.failed(file, error));
            }
            if let Some(trouble) = lock.flush(file) {
                let _ = lock.give_back(Some(file), &mut request.leaving);
                return Err(self.failed(file, trouble));
            }
        }
        self.take_over(&lock);
        let mut lease = lock.lease.take();
        if let Some(loss) = loss {
            self.warning = Some(words::lost_before(&loss));
            // The server may still count it as ours, and would let us wait for ourselves.
            let _ = lease.take().map(Lease::release);
        }
        if self.kernel && (mode == Mode::Shared || lock.mode == Mode::Exclusive) {
            return Ok(self.ask_in_passing(request, &lock, lease));
        }
        if std::mem::take(&mut self.kernel) {
            // Another who has the cluster lock meanwhile must not wait for it.
            let _ = kernel_unlock(file);
        }
        if let Some(lease) = lease {
            // The file may have been renamed since: the others know it by its new name.
            if refusal.is_none() && lock.name == self.name {
                return Ok(request.ask(&self.wish, &self.name, |how| lease.convert(how)));
            }
            let _ = lease.release();
        }
        Ok(self.ask_anew(request))
    }

    fn ask_anew(&self, request: &mut Request) -> Asked {
        // Code that ran during an interrupt may have taken the place of an earlier wait, whose time is gone.
        request.claim(&self.wish, &self.name, Some(NO_OBJECT))
    }

    /// The open file has a kernel's lock that is, or at once becomes, what is wanted. It is not given up, so the cluster
    /// lock is not waited for: who has that (under the file's new name, or since ours was lost) waits for the kernel's.
    fn ask_in_passing(&mut self, request: &mut Request, lock: &FileLock, lease: Option<Lease>) -> Asked {
        let wish = Wish { timeout: Some(Duration::ZERO), ..self.wish };
        match lease {
            Some(lease) => {
                self.name = lock.name.clone();
                request.ask(&wish, &self.name, |how| lease.convert(how))
            }
            None => request.claim(&wish, &self.name, Some(NO_OBJECT)),
        }
    }

    /// What goes on: who shares the open file, and the kernel's lock on it.
    fn take_over(&mut self, lock: &FileLock) {
        self.handles.clone_from(&lock.handles);
        if !lock.has(self.handle.stream) {
            self.handles.push(self.handle);
        }
        self.kernel = lock.kernel;
    }

    fn take_kernel_lock(&mut self, request: &Request, file: impl AsFd + Copy) -> Result<(), Step> {
        let mut pause = POLL.0;
        loop {
            match try_kernel_lock(file, self.wish.mode) {
                Ok(KernelLock::Held) => {
                    self.kernel = true;
                    return Ok(());
                }
                Ok(KernelLock::Taken) => {}
                // A local file system would have given it.
                Ok(KernelLock::NotOpenForIt)
                    if self.network && matches!(self.cluster, Some(Cluster::Held(_))) =>
                {
                    self.log.push(words::without_kernel(&self.name, self.wish.mode));
                    self.kernel = false;
                    return Ok(());
                }
                Ok(KernelLock::NotOpenForIt) => {
                    return Err(self.failed(file, words::NOT_OPEN_FOR_IT));
                }
                Err(error) => return Err(self.failed(file, words::kernel_failed(error))),
            }
            // Under another name: a hard link, or before it was renamed.
            let own =
                |lock: &FileLock| lock.kernel && lock.inode == self.inode && self.wish.excludes(lock.mode);
            if !self.asking.at_once && request.file_locks.iter().any(own) {
                return Err(self.failed(file, Error::Deadlock));
            }
            let left = self.wish.left();
            self.blocker.get_or_insert(Blocker::Kernel);
            if left.is_some_and(|left| left.is_zero()) {
                return Err(self.timed_out(file));
            }
            if php::interrupted() {
                return Err(Step::Interrupted);
            }
            thread::sleep(left.map_or(pause, |left| left.min(pause)));
            pause = (pause * 2).min(POLL.1);
        }
    }

    fn timed_out(&mut self, file: impl AsFd) -> Step {
        self.let_go(file);
        let reply = would_block();
        if !self.asking.loud {
            return Step::Done(reply);
        }
        let message = words::timed_out(&self.name, self.wish.started.elapsed(), self.blocker.as_ref());
        Step::Done(reply.warn(message))
    }

    fn failed(&mut self, file: impl AsFd, why: impl std::fmt::Display) -> Step {
        self.let_go(file);
        Step::Done(errno(EIO).warn(about(&self.name, why)))
    }

    /// Nobody goes on with it.
    pub(crate) fn abandon(mut self) {
        self.handles.iter_mut().for_each(Handle::unseal);
    }

    /// What was already taken.
    fn let_go(&mut self, file: impl AsFd) {
        if std::mem::take(&mut self.kernel) {
            let _ = kernel_unlock(file);
        }
        self.handles.iter_mut().for_each(Handle::unseal);
        if let Some(Cluster::Held(lease)) = self.cluster.take() {
            let _ = lease.release();
        }
    }

    /// With the lines for the log, and the warning of something that went before.
    fn told(mut self, reply: Reply) -> Reply {
        let (waited, limit) = (self.wish.started.elapsed(), settings::with(|s| s.values.slow_wait));
        if self.blocker.is_some() && limit.is_some_and(|limit| waited > limit) {
            self.log.push(words::slow(&self.name, Some(&self.path), waited, self.blocker.as_ref()));
        }
        if matches!(reply.value, Value::True) {
            counters::count_flock(!self.asking.by_name);
        }
        let log = (!self.log.is_empty()).then(|| self.log.join("; "));
        match self.warning {
            Some(warning) if reply.trouble.is_none() => reply.warn(about(&self.name, warning)),
            _ => reply,
        }
        .log(log)
    }
}
