//! Locks on one host, without a server: for development, and for a laptop.
//!
//! A directory holds one small file a lock, replaced by rename under the directory's kernel lock
//! (`flock(2)`, held for microseconds), and one named pipe a waiter, in which it sleeps. The rules
//! are [`Machine`]'s, the same as in Redis. A process that dies in a step leaves the old state:
//! the kernel frees its lock.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use once_cell::sync::OnceCell;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, FlockOperation, Mode as FileMode, OFlags, flock, mknodat, openat};
use serde::{Deserialize, Serialize};

use super::machine::{Effects, Machine, Now};
use super::{Attempt, Claim, Grant, IfBusy, Standing, Store, StoreStatus, Token, Wake};
use crate::clock::Instant;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::key::LockName;
use crate::report::LockReport;
use crate::text;

/// How long an idle lock remembers its last fencing token.
const RETAIN: Duration = Duration::from_secs(60);

/// See [`Store`].
pub struct LocalStore {
    dir: PathBuf,
    label: String,
    prefix: String,
    /// The directory's lock file and the kernel's boot id, once the directory is there.
    opened: OnceCell<String>,
    /// The pipes of this process' waiters. Open from before a claim is queued until it is settled:
    /// a hand-over between two sleeps finds a reader.
    pipes: Mutex<HashMap<Vec<u8>, OwnedFd>>,
}

/// What a lock's file says.
#[derive(Serialize, Deserialize)]
struct Record {
    name: Box<[u8]>,
    boot: String,
    machine: Machine,
}

/// The directory, locked. Unlocked when it is dropped.
struct Locked<'a> {
    store: &'a LocalStore,
    boot: &'a str,
    now: Now,
    _lock: File,
}

impl LocalStore {
    /// A store in a directory, by default one of the user's own under the system's temporary
    /// directory. No I/O.
    pub fn new(dir: Option<PathBuf>, config: &Config) -> Self {
        let label = dir.as_ref().map_or("local:".to_owned(), |d| format!("local://{}", text::path(d)));
        let dir = dir.unwrap_or_else(|| {
            let user = rustix::process::geteuid().as_raw();
            std::env::temp_dir().join(format!("cluster_lock-{user}"))
        });
        Self { dir, label, prefix: config.prefix.clone(), opened: OnceCell::new(), pipes: Mutex::default() }
    }

    /// Locks the directory, which is made if it is missing.
    fn lock(&self) -> Result<Locked<'_>> {
        let boot = self.opened.get_or_try_init(|| self.prepare())?;
        let path = self.dir.join("lock");
        let file = openat(
            CWD,
            &path,
            OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            FileMode::from_raw_mode(0o600),
        )
        .map_err(|e| self.failed("open", &path, e))?;
        while let Err(e) = flock(&file, FlockOperation::LockExclusive) {
            if e != rustix::io::Errno::INTR {
                return Err(self.failed("lock", &path, e));
            }
        }
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Now {
            lease_ms: Instant::now().as_nanos() / 1_000_000,
            unix_us: u64::try_from(unix.as_micros()).unwrap_or_default(),
        };
        Ok(Locked { store: self, boot, now, _lock: file.into() })
    }

    /// Makes the directory, or checks that nobody else can write to it.
    fn prepare(&self) -> Result<String> {
        let made = DirBuilder::new().mode(0o700).recursive(true).create(&self.dir);
        made.map_err(|e| self.failed("create", &self.dir, e))?;
        let meta = fs::symlink_metadata(&self.dir).map_err(|e| self.failed("look at", &self.dir, e))?;
        let me = rustix::process::geteuid().as_raw();
        if !meta.is_dir() || meta.uid() != me || meta.mode() & 0o022 != 0 {
            return Err(Error::Config(format!(
                "{}: {} must be a directory that belongs to the user of this process and that nobody \
                 else can write to",
                self.label,
                text::path(&self.dir)
            )));
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(boot.trim().to_owned())
    }

    fn failed(&self, what: &str, path: &Path, error: impl Into<std::io::Error>) -> Error {
        Error::Connection {
            server: self.label.clone(),
            cause: format!("cannot {what} {}: {}", text::path(path), error.into()),
        }
    }

    /// The file of a lock. Its name is a digest, because a lock's name may be longer than a file's.
    fn path(&self, name: &LockName) -> PathBuf {
        let mut digest = sha1_smol::Sha1::from(&self.prefix);
        digest.update(b"\0");
        digest.update(name.as_bytes());
        self.dir.join(format!("{}.lock", digest.digest()))
    }

    fn pipe_path(&self, token: &[u8]) -> PathBuf {
        self.dir.join(format!("{}.wait", String::from_utf8_lossy(token)))
    }

    fn pipes(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<u8>, OwnedFd>> {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the pipe in which a claim will sleep, or empties it: a grant that its waiter slept
    /// through must not be believed later.
    fn open_pipe(&self, token: &Token) -> Result<()> {
        let mut pipes = self.pipes();
        if let Some(pipe) = pipes.get(token.as_bytes()) {
            let mut old = [0u8; 512];
            while rustix::io::read(pipe, &mut old).is_ok_and(|n| n > 0) {}
        } else {
            let path = self.pipe_path(token.as_bytes());
            mknodat(CWD, &path, FileType::Fifo, FileMode::from_raw_mode(0o600), 0)
                .map_err(|e| self.failed("create", &path, e))?;
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let pipe =
                openat(CWD, &path, flags, FileMode::empty()).map_err(|e| self.failed("open", &path, e))?;
            pipes.insert(token.as_bytes().to_vec(), pipe);
        }
        Ok(())
    }

    fn close_pipe(&self, token: &Token) {
        if self.pipes().remove(token.as_bytes()).is_some() {
            let _ = fs::remove_file(self.pipe_path(token.as_bytes()));
        }
    }

    /// Files of this store's locks.
    fn lock_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "lock")).collect()
    }
}

impl Locked<'_> {
    /// One step on a lock: read, change, write. The second value given to `step` tells whether
    /// there was a record.
    fn step<T>(&self, name: &LockName, step: impl FnOnce(&mut Machine, bool) -> (T, Effects)) -> Result<T> {
        let path = self.store.path(name);
        let found = self.read(&path)?;
        let known = found.is_some();
        let mut record = found.unwrap_or_else(|| Record {
            name: name.as_bytes().into(),
            boot: self.boot.to_owned(),
            machine: Machine::default(),
        });
        let (result, effects) = step(&mut record.machine, known);
        self.write(&path, &record, known)?;
        for (token, grant) in effects.mail {
            self.store.deliver(&token, grant);
        }
        for token in effects.forgotten {
            let _ = fs::remove_file(self.store.pipe_path(token.as_bytes()));
        }
        Ok(result)
    }

    fn read(&self, path: &Path) -> Result<Option<Record>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.store.failed("read", path, e)),
        };
        let mut record: Record = serde_json::from_slice(&bytes)
            .map_err(|e| self.store.failed("understand", path, std::io::Error::other(e)))?;
        if record.boot != self.boot {
            record.machine.reboot();
            self.boot.clone_into(&mut record.boot);
        }
        Ok(Some(record))
    }

    fn write(&self, path: &Path, record: &Record, known: bool) -> Result<()> {
        if !known && record.machine.is_idle() {
            return Ok(());
        }
        if !known {
            self.sweep();
        }
        let temp = self.store.dir.join("new");
        let written = serde_json::to_vec(record)
            .map_err(std::io::Error::other)
            .and_then(|bytes| fs::write(&temp, bytes))
            .and_then(|()| fs::rename(&temp, path));
        written.map_err(|e| self.store.failed("write", path, e))
    }

    /// Removes what idle locks left, when a new lock appears.
    fn sweep(&self) {
        for path in self.store.lock_files() {
            let age = fs::metadata(&path).and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            if age.is_some_and(|age| age > RETAIN)
                && let Ok(Some(record)) = self.read(&path)
                && record.machine.is_idle()
            {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

impl LocalStore {
    /// Wakes a waiter. One that is dead has no reader on its pipe; its grant will run out.
    fn deliver(&self, token: &str, grant: Grant) {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if let Ok(pipe) = openat(CWD, self.pipe_path(token.as_bytes()), flags, FileMode::empty()) {
            // Less than PIPE_BUF is written whole or not at all.
            let _ = writeln!(File::from(pipe), "{} {}", grant.fence, grant.lease.as_millis());
        }
    }
}

impl Store for LocalStore {
    fn attempt(&self, claim: &Claim<'_>, if_busy: IfBusy) -> Result<Attempt> {
        let locked = self.lock()?;
        if if_busy != IfBusy::GiveUp {
            self.open_pipe(claim.token)?;
        }
        let attempt = locked.step(claim.name, |m, _| m.attempt(locked.now, claim, if_busy))?;
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
        let deadline = Instant::now() + slice;
        if interrupted() {
            return Ok(Wake::Interrupted);
        }
        loop {
            let left = deadline.remaining();
            if left.is_zero() {
                return Ok(Wake::Retry);
            }
            let limit = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&limit)) {
                Err(rustix::io::Errno::INTR) if interrupted() => return Ok(Wake::Interrupted),
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => break,
                Err(e) => return Err(self.failed("wait in", &self.dir, e)),
            }
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
        let record = locked.read(&self.path(name))?;
        Ok(record.and_then(|r| r.machine.report(locked.now, name)))
    }

    fn list(&self, prefix: &[u8], limit: usize) -> Result<Vec<LockReport>> {
        let locked = self.lock()?;
        let mut reports = Vec::new();
        for path in self.lock_files() {
            if let Some(record) = locked.read(&path)?
                && record.name.starts_with(prefix)
                && let Ok(name) = LockName::new(&record.name)
                && self.path(&name) == path
            {
                reports.extend(record.machine.report(locked.now, &name));
            }
        }
        reports.sort_by(|a, b| a.name.cmp(&b.name));
        reports.truncate(limit);
        Ok(reports)
    }

    fn break_lock(&self, name: &LockName) -> Result<bool> {
        let locked = self.lock()?;
        locked.step(name, |m, _| m.break_lock(locked.now))
    }

    fn status(&self) -> StoreStatus {
        StoreStatus { backend: "local", dsn: self.label.clone(), ..StoreStatus::default() }
    }

    fn server(&self) -> &str {
        &self.label
    }
}
