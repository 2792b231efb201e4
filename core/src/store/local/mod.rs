//! Locks on one host, without a server: for development, and for a laptop.
//!
//! A directory holds one small file a lock, replaced by rename under the directory's kernel lock
//! (`flock(2)`, held for microseconds), and one named pipe a waiter, in which it sleeps. The rules
//! are [`Machine`]'s, the same as in Redis. A process that dies in a step leaves the old state:
//! the kernel frees its lock. One that stands still in it is named to those who wait, and not waited for
//! without end.
//!
//! The default directory is one in /tmp, where everybody may make another when it is gone (a cleaner of old
//! files, say). So each step opens it, checks whose it is, and does all else relative to what it has opened.
//!
//! What locks leave is removed by whoever makes a new one, a few files at a time: the directory is one for all
//! names, so whoever looked through all of it would let all others wait.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use once_cell::sync::OnceCell;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode as FileMode, OFlags, RawDir, SeekFrom, flock, fstat,
    major, minor, mknodat, openat, renameat, seek, statat, unlinkat,
};
use rustix::io::{Errno, pread, pwrite};
use serde::{Deserialize, Serialize};

use super::first::First;
use super::machine::{Effects, Machine, Now};
use super::{
    Attempt, Broken, Claim, Grant, IfBusy, Standing, Store, StoreStatus, Token, Wake, trial_name, try_out,
};
use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::key::LockName;
use crate::poll::{self, Readiness};
use crate::report::{LockReport, ServerReport};
use crate::settings::Config;
use crate::text;

/// How long an idle lock remembers its last fencing token.
const RETAIN: Duration = Duration::from_secs(60);

/// How much of the directory is looked at for each new name, in bytes: some 14 entries.
const GLANCE: usize = 1024;

/// The default directory's place: no setting of the environment moves it, because php-fpm and the command line have
/// environments of their own.
const DEFAULT_PARENT: &str = "/tmp";

/// Between two tries to lock the directory: at first, at most.
const PAUSE: (Duration, Duration) = (Duration::from_micros(20), Duration::from_millis(1));

/// All files are the user's own.
const PRIVATE: FileMode = FileMode::from_raw_mode(0o600);

/// See [`Store`].
pub struct LocalStore {
    dir: PathBuf,
    label: String,
    prefix: String,
    /// How long to wait for those who are at work in the directory.
    patience: Duration,
    /// The kernel's boot id, once it was asked for. Empty: it cannot be known (a `chroot` without /proc).
    boot: OnceCell<String>,
    /// The pipes of this process' waiters. Open from before a claim is queued until it is settled:
    /// a hand-over between two sleeps finds a reader.
    pipes: Mutex<HashMap<Vec<u8>, OwnedFd>>,
}

/// What a lock's file says.
#[derive(Serialize, Deserialize)]
struct Record {
    name: Box<[u8]>,
    /// By another boot's clock no lease is left. Empty: who was let in last did not know it.
    boot: String,
    machine: Machine,
}

/// The directory, locked. Unlocked when it is dropped.
struct Locked<'a> {
    store: &'a LocalStore,
    dir: OwnedFd,
    boot: &'a str,
    now: Now,
    lock: File,
}

impl LocalStore {
    /// A store in a directory, by default one of the user's own in /tmp. No I/O.
    pub fn new(dir: Option<PathBuf>, config: &Config) -> Self {
        let label = dir.as_ref().map_or("local:".to_owned(), |d| format!("local://{}", text::path(d)));
        let dir = dir.unwrap_or_else(|| {
            let user = rustix::process::geteuid().as_raw();
            Path::new(DEFAULT_PARENT).join(format!("cluster_lock-{user}"))
        });
        Self {
            dir,
            label,
            prefix: config.prefix.clone(),
            patience: config.command_timeout,
            boot: OnceCell::new(),
            pipes: Mutex::default(),
        }
    }

    /// Locks the directory, which is made if it is missing.
    fn lock(&self) -> Result<Locked<'_>> {
        let (dir, file) = match self.open() {
            // It was removed this instant.
            Err((_, Errno::NOENT)) => self.open(),
            outcome => outcome,
        }
        .map_err(|(error, _)| error)?;
        self.enter(&file)?;
        let boot = self.boot.get_or_init(|| {
            fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
        });
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Now {
            lease_ms: Instant::now().as_nanos() / 1_000_000,
            unix_us: u64::try_from(unix.as_micros()).unwrap_or_default(),
        };
        Ok(Locked { store: self, dir, boot, now, lock: file.into() })
    }

    /// Takes the kernel's lock. Its own wait has no time-out.
    fn enter(&self, file: &OwnedFd) -> Result<()> {
        let deadline = Instant::now() + self.patience;
        let (mut pause, most) = PAUSE;
        loop {
            match flock(file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK) if deadline.has_passed() => {
                    let cause = format!(
                        "for {:.1} s it has been locked by {}, which takes far less unless it is stopped",
                        self.patience.as_secs_f64(),
                        who_locks(file),
                    );
                    return Err(self.failed("lock", "lock", std::io::Error::other(cause)));
                }
                Err(Errno::WOULDBLOCK) => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(most);
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(self.failed("lock", "lock", e)),
            }
        }
    }

    /// Opens the directory, which must be ours alone, and the file in it that stands for its lock.
    fn open(&self) -> std::result::Result<(OwnedFd, OwnedFd), (Error, Errno)> {
        let told = |what, name| move |e| (self.failed(what, name, e), e);
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut dir = openat(CWD, &self.dir, flags, FileMode::empty());
        if matches!(dir, Err(Errno::NOENT)) {
            let made = DirBuilder::new().mode(0o700).recursive(true).create(&self.dir);
            made.map_err(|e| told("create", "")(Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
            dir = openat(CWD, &self.dir, flags, FileMode::empty());
        }
        let dir = match dir {
            Err(e @ (Errno::NOTDIR | Errno::LOOP)) => return Err((self.not_ours(), e)),
            outcome => outcome.map_err(told("open", ""))?,
        };
        let stat = fstat(&dir).map_err(told("look at", ""))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o022 != 0 {
            return Err((self.not_ours(), Errno::PERM));
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(&dir, "lock", flags, PRIVATE).map_err(told("open", "lock"))?;
        Ok((dir, file))
    }

    fn not_ours(&self) -> Error {
        Error::Config(format!(
            "{}: {} must be a directory that belongs to the user of this process and that nobody else can \
             write to",
            self.label,
            text::path(&self.dir)
        ))
    }

    fn failed(&self, what: &str, name: &str, error: impl Into<std::io::Error>) -> Error {
        let path = text::path(&if name.is_empty() { self.dir.clone() } else { self.dir.join(name) });
        Error::Connection {
            server: self.label.clone(),
            cause: format!("cannot {what} {path}: {}", error.into()),
        }
    }

    /// The file of a lock. It is named by a digest, because a lock's name may be longer than a file's.
    fn file(&self, name: &LockName) -> String {
        let mut digest = sha1_smol::Sha1::from(&self.prefix);
        digest.update(b"\0");
        digest.update(name.as_bytes());
        format!("{}.lock", digest.digest())
    }

    fn pipes(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<u8>, OwnedFd>> {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close_pipe(&self, token: &Token) {
        if self.pipes().remove(token.as_bytes()).is_some() {
            let _ = fs::remove_file(self.dir.join(pipe(token.as_bytes())));
        }
    }
}

/// The name of a waiter's pipe.
fn pipe(token: &[u8]) -> String {
    format!("{}.wait", String::from_utf8_lossy(token))
}

/// Who has the kernel's lock on a file, as /proc tells: one process of several.
fn who_locks(file: &OwnedFd) -> String {
    let found = fstat(file).ok().and_then(|stat| {
        let device = format!("{:02x}:{:02x}", major(stat.st_dev), minor(stat.st_dev));
        let file = format!("{device}:{}", stat.st_ino);
        let locks = fs::read_to_string("/proc/locks").ok()?;
        // `7: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF`; one who waits has an arrow before FLOCK.
        locks.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [_, "FLOCK", _, "WRITE", pid, locked, ..] if locked == file => Some(pid.to_owned()),
            _ => None,
        })
    });
    found.map_or("another process".to_owned(), |pid| {
        let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        match command.trim() {
            "" => format!("pid {pid}"),
            command => format!("pid {pid} ({})", text::said(command)),
        }
    })
}

/// Whether a file is that of a lock.
fn is_lock(file: &str) -> bool {
    file.strip_suffix(".lock").is_some()
}

impl Locked<'_> {
    /// Makes the pipe in which a claim will sleep, or empties it: a grant that its waiter slept
    /// through must not be believed later.
    fn open_pipe(&self, token: &Token) -> Result<()> {
        let mut pipes = self.store.pipes();
        if let Some(pipe) = pipes.get(token.as_bytes()) {
            let mut old = [0u8; 512];
            while rustix::io::read(pipe, &mut old).is_ok_and(|n| n > 0) {}
        } else {
            let name = pipe(token.as_bytes());
            mknodat(&self.dir, &name, FileType::Fifo, PRIVATE, 0)
                .map_err(|e| self.store.failed("create", &name, e))?;
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let pipe = openat(&self.dir, &name, flags, FileMode::empty())
                .map_err(|e| self.store.failed("open", &name, e))?;
            pipes.insert(token.as_bytes().to_vec(), pipe);
        }
        Ok(())
    }

    /// Wakes a waiter. One that is dead has no reader on its pipe; its grant will run out.
    fn deliver(&self, token: &str, grant: Grant) {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if let Ok(pipe) = openat(&self.dir, pipe(token.as_bytes()), flags, FileMode::empty()) {
            // Less than PIPE_BUF is written whole or not at all.
            let _ = writeln!(File::from(pipe), "{} {}", grant.fence, grant.lease.as_millis());
        }
    }

    /// Files of this store's locks.
    fn lock_files(&self) -> Vec<String> {
        let entries = Dir::read_from(&self.dir).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        names.filter(|name| is_lock(name)).collect()
    }

    fn remove(&self, name: &str) {
        let _ = unlinkat(&self.dir, name, AtFlags::empty());
    }

    /// One step on a lock: read, change, write. The second value given to `step` tells whether
    /// there was a record.
    fn step<T>(&self, name: &LockName, step: impl FnOnce(&mut Machine, bool) -> (T, Effects)) -> Result<T> {
        let file = self.store.file(name);
        let found = self.read(&file)?;
        let known = found.is_some();
        let mut record = found.unwrap_or_else(|| Record {
            name: name.as_bytes().into(),
            boot: self.boot.to_owned(),
            machine: Machine::default(),
        });
        let fence = record.machine.fence();
        let (result, effects) = step(&mut record.machine, known);
        if !self.boot.is_empty() || record.machine.fence() != fence {
            self.boot.clone_into(&mut record.boot);
        }
        self.write(&file, &record, known)?;
        for (token, grant) in effects.mail {
            self.deliver(&token, grant);
        }
        for token in effects.forgotten {
            self.remove(&pipe(token.as_bytes()));
        }
        Ok(result)
    }

    fn read(&self, name: &str) -> Result<Option<Record>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut bytes = Vec::new();
        let read = match openat(&self.dir, name, flags, FileMode::empty()) {
            Ok(file) => File::from(file).read_to_end(&mut bytes),
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => Err(e.into()),
        };
        read.map_err(|e| self.store.failed("read", name, e))?;
        let mut record: Record = serde_json::from_slice(&bytes).map_err(|e| {
            self.store.failed(
                "understand",
                name,
                std::io::Error::other(format!("{e}; cluster_lock_break() clears it")),
            )
        })?;
        // Where one of them is not known, nobody can tell whether it is another one.
        if !self.boot.is_empty() && !record.boot.is_empty() && record.boot != self.boot {
            record.machine.reboot();
        }
        Ok(Some(record))
    }

    fn write(&self, name: &str, record: &Record, known: bool) -> Result<()> {
        if !known && record.machine.is_idle() {
            return Ok(());
        }
        if !known {
            self.sweep();
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let written = serde_json::to_vec(record).map_err(std::io::Error::other).and_then(|bytes| {
            File::from(openat(&self.dir, "new", flags, PRIVATE)?).write_all(&bytes)?;
            Ok(renameat(&self.dir, "new", &self.dir, name)?)
        });
        written.map_err(|e| self.store.failed("write", name, e))
    }

    /// Removes what locks have left, among the next few files of the directory.
    fn sweep(&self) {
        let now = i64::try_from(self.now.unix_us / 1_000_000).unwrap_or(i64::MAX);
        let retain = i64::try_from(RETAIN.as_secs()).unwrap_or(i64::MAX);
        for name in self.glance() {
            let written = statat(&self.dir, &name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| stat.st_mtime);
            if written.is_ok_and(|written| now.saturating_sub(written) > retain)
                && let Ok(Some(record)) = self.read(&name)
                && record.machine.is_over(self.now, RETAIN)
            {
                for token in record.machine.waiting() {
                    self.remove(&pipe(token.as_bytes()));
                }
                self.remove(&name);
            }
        }
    }

    /// The next few of the locks' files, in the directory's order, and from its end on to its beginning. The place is in
    /// the file that stands for the directory's lock, because a process may end after one new name.
    fn glance(&self) -> Vec<String> {
        let mut place = [0; 8];
        let known = pread(&self.lock, &mut place, 0).is_ok_and(|length| length == place.len());
        let from = if known { u64::from_ne_bytes(place) } else { 0 };
        let glanced = self.glance_from(from).or_else(|| self.glance_from(0));
        let (names, next) = glanced.unwrap_or_default();
        let _ = pwrite(&self.lock, &next.to_ne_bytes(), 0);
        names
    }

    /// Also where to go on. `None`: there is nothing, or no such place (the directory is another one).
    fn glance_from(&self, place: u64) -> Option<(Vec<String>, u64)> {
        seek(&self.dir, SeekFrom::Start(place)).ok()?;
        let mut names = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); GLANCE];
        let mut entries = RawDir::new(&self.dir, &mut buffer);
        loop {
            let entry = entries.next()?.ok()?;
            let next = entry.next_entry_cookie();
            names.extend(entry.file_name().to_str().ok().filter(|name| is_lock(name)).map(str::to_owned));
            // The next one would be read from the kernel.
            if entries.is_buffer_empty() {
                return Some((names, next));
            }
        }
    }
}

impl Store for LocalStore {
    fn attempt(&self, claim: &Claim<'_>, if_busy: IfBusy) -> Result<Attempt> {
        let locked = self.lock()?;
        let attempt = locked.step(claim.name, |m, _| m.attempt(locked.now, claim, if_busy))?;
        // Nobody can grant it anything until the directory is unlocked.
        if if_busy != IfBusy::GiveUp && matches!(attempt, Attempt::Busy { .. }) {
            locked.open_pipe(claim.token)?;
        }
        if if_busy == IfBusy::GiveUp || matches!(attempt, Attempt::Held(_)) {
            self.close_pipe(claim.token);
        }
        Ok(attempt)
    }

    fn await_grant(
        &self,
        claim: &Claim<'_>,
        slice: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Wake> {
        let Some(Ok(pipe)) = self.pipes().get(claim.token.as_bytes()).map(OwnedFd::try_clone) else {
            return Ok(Wake::Retry);
        };
        if interrupted() {
            return Ok(Wake::Interrupted);
        }
        match poll::until_readable(&pipe, slice, interrupted).map_err(|e| self.failed("wait in", "", e))? {
            Readiness::Ready => {}
            Readiness::TimedOut => return Ok(Wake::Retry),
            Readiness::Interrupted => return Ok(Wake::Interrupted),
        }
        let mut mail = [0u8; 128];
        let length = File::from(pipe).read(&mut mail).unwrap_or(0);
        let text = std::str::from_utf8(mail.get(..length).unwrap_or_default()).unwrap_or_default();
        let grant = text.lines().last().and_then(|line| {
            let (fence, lease) = line.split_once(' ')?;
            Some(Grant { fence: fence.parse().ok()?, lease: Duration::from_millis(lease.parse().ok()?) })
        });
        if grant.is_some() {
            self.close_pipe(claim.token);
        }
        Ok(grant.map_or(Wake::Retry, Wake::Granted))
    }

    fn release(&self, name: &LockName, token: &Token) -> Result<Standing> {
        let locked = self.lock()?;
        let standing = locked.step(name, |m, known| m.release(locked.now, token.as_bytes(), known))?;
        self.close_pipe(token);
        Ok(standing)
    }

    fn renew(&self, name: &LockName, token: &Token, ttl: Duration) -> Result<Standing> {
        let locked = self.lock()?;
        locked.step(name, |m, known| (m.renew(locked.now, token.as_bytes(), ttl, known), Effects::default()))
    }

    fn info(&self, name: &LockName) -> Result<Option<LockReport>> {
        let locked = self.lock()?;
        let record = locked.read(&self.file(name))?;
        Ok(record.and_then(|r| r.machine.report(locked.now, name)))
    }

    fn list(&self, prefix: &[u8], limit: usize) -> Result<Vec<LockReport>> {
        let locked = self.lock()?;
        // Records are replaced whole, so nobody has to wait while all of them are read.
        let _ = flock(&locked.lock, FlockOperation::Unlock);
        let mut first = First::new(limit);
        for file in locked.lock_files() {
            if let Ok(Some(record)) = locked.read(&file)
                && record.name.starts_with(prefix)
                && let Ok(name) = LockName::new(&record.name)
                && self.file(&name) == file
                && first.wants(&name)
                && let Some(report) = record.machine.report(locked.now, &name)
            {
                first.add(report);
            }
        }
        Ok(first.sorted())
    }

    fn break_lock(&self, name: &LockName, meant: Option<u64>) -> Result<Broken> {
        let locked = self.lock()?;
        let file = self.file(name);
        if meant.is_none() && locked.read(&file).is_err() {
            locked.remove(&file);
            return Ok(Broken::Yes);
        }
        locked.step(name, |m, _| m.break_lock(locked.now, meant))
    }

    fn forget(&self, name: &LockName) {
        if let Ok(locked) = self.lock() {
            locked.remove(&self.file(name));
        }
    }

    fn examine(&self) -> Vec<ServerReport> {
        let tried = trial_name().and_then(|name| try_out(self, &name));
        let told = |error: Error| ServerReport {
            server: self.label.clone(),
            error: Some(error.cause()),
            ..ServerReport::default()
        };
        tried.err().map(told).into_iter().collect()
    }

    fn status(&self) -> StoreStatus {
        StoreStatus { backend: "local", dsn: self.label.clone(), ..StoreStatus::default() }
    }

    fn server(&self) -> &str {
        &self.label
    }
}
