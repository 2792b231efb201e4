//! Locks on one host, without a server: for development, and for a laptop.
//!
//! A directory holds one small file a lock, replaced by rename under the directory's kernel lock
//! (`flock(2)`, held for microseconds), and one named pipe a waiter, in which it sleeps. The rules
//! are [`Machine`](super::machine::Machine)'s, the same as in Redis. A process that dies in a step leaves the old state:
//! the kernel frees its lock. One that stands still in it is named to those who wait, and not waited for
//! without end.
//!
//! The default directory is one in /tmp, where everybody may make another when it is gone (a cleaner of old
//! files, say). So each step opens it, checks whose it is, and does all else relative to what it has opened.
//!
//! What locks leave is removed by whoever makes a new one, a few files at a time: the directory is one for all
//! names, so whoever looked through all of it would let all others wait.

mod directory;
mod pipes;
mod records;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use once_cell::sync::OnceCell;

use super::first::First;
use super::machine::Now;
use super::{
    Attempt, Broken, Claim, Hold, IfBusy, Standing, Store, StoreStatus, Token, Wake, trial_name, try_out,
};
use crate::clock::{Instant, unix_micros};
use crate::error::{Error, Result};
use crate::key::LockName;
use crate::poll::{self, Readiness};
use crate::report::{LockReport, ServerReport, TOLD, TOLD_OF_EACH};
use crate::settings::Config;
use directory::Directory;
use pipes::Pipes;
use records::Records;

/// See [`Store`].
pub struct LocalStore {
    directory: Directory,
    prefix: String,
    /// The kernel's boot id, once it was asked for. Empty: it cannot be known (a `chroot` without /proc).
    boot: OnceCell<String>,
    pipes: Pipes,
}

impl LocalStore {
    /// A store in a directory, by default one of the user's own in /tmp. No I/O.
    pub fn new(dir: Option<PathBuf>, config: &Config) -> Self {
        Self {
            directory: Directory::new(dir, config.command_timeout),
            prefix: config.prefix.clone(),
            boot: OnceCell::new(),
            pipes: Pipes::default(),
        }
    }

    /// Locks the directory.
    fn lock(&self) -> Result<Records<'_>> {
        let entered = self.directory.enter()?;
        let boot = self.boot.get_or_init(|| {
            fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
        });
        // A step reads and writes the whole record, so that to bury all the dead costs less at once than bit by bit.
        let work = i64::MAX;
        let lease_ms = Instant::now().as_nanos() / 1_000_000;
        let now = Now { lease_ms, unix_us: unix_micros(), work, grace_ms: 0 };
        Ok(Records { directory: &self.directory, entered, prefix: &self.prefix, boot, now })
    }
}

impl Store for LocalStore {
    fn attempt(&self, claim: &Claim<'_>, if_busy: IfBusy) -> Result<Attempt> {
        let locked = self.lock()?;
        let attempt = locked.step(claim.name, |m, _| m.attempt(locked.now, claim, if_busy))?;
        // Nobody can grant it anything until the directory is unlocked.
        if if_busy != IfBusy::GiveUp && matches!(attempt, Attempt::Busy { .. }) {
            self.pipes.open(&self.directory, &locked.entered.dir, claim.token)?;
        }
        if if_busy == IfBusy::GiveUp || matches!(attempt, Attempt::Held(_) | Attempt::Covered { .. }) {
            self.pipes.close(&self.directory, claim.token);
        }
        Ok(attempt)
    }

    fn await_grant(
        &self,
        claim: &Claim<'_>,
        slice: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Wake> {
        let Some(pipe) = self.pipes.of(claim.token) else { return Ok(Wake::Retry) };
        if interrupted() {
            return Ok(Wake::Interrupted);
        }
        match poll::until_readable(&pipe, slice, interrupted)
            .map_err(|e| self.directory.failed("wait in", "", e))?
        {
            Readiness::Ready => {}
            Readiness::TimedOut => return Ok(Wake::Retry),
            Readiness::Interrupted => return Ok(Wake::Interrupted),
        }
        let wake = pipes::mail(pipe);
        if wake != Wake::Retry {
            self.pipes.close(&self.directory, claim.token);
        }
        Ok(wake)
    }

    fn release(&self, hold: &Hold<'_>) -> Result<Standing> {
        let locked = self.lock()?;
        let token = hold.token.as_bytes();
        let standing = locked.step(hold.name, |m, known| m.release(locked.now, token, None, None, known))?;
        self.pipes.close(&self.directory, hold.token);
        Ok(standing)
    }

    fn complete(&self, hold: &Hold<'_>, fence: u64) -> Result<Standing> {
        let locked = self.lock()?;
        let token = hold.token.as_bytes();
        locked.step(hold.name, |m, known| m.release(locked.now, token, Some(fence), None, known))
    }

    fn renew(&self, hold: &Hold<'_>, ttl: Duration) -> Result<Standing> {
        let locked = self.lock()?;
        let token = hold.token.as_bytes();
        locked.step(hold.name, |m, known| m.renew(locked.now, token, ttl, 0, None, known))
    }

    /// A step is carried out before its caller goes on, or not at all.
    fn is_unsettled(&self, _: &Token) -> bool {
        false
    }

    fn info(&self, name: &LockName) -> Result<Option<LockReport>> {
        let locked = self.lock()?;
        let record = locked.read(&locked.file(name))?;
        Ok(record.and_then(|r| r.machine.report(locked.now, name, TOLD)))
    }

    fn list(&self, prefix: &[u8], limit: usize) -> Result<Vec<LockReport>> {
        let locked = self.lock()?;
        // Nobody has to wait while all of them are read.
        locked.unlock();
        let mut first = First::new(limit);
        for file in locked.lock_files() {
            if let Ok(Some(record)) = locked.read(&file)
                && record.name.starts_with(prefix)
                && let Ok(name) = LockName::new(&record.name)
                && locked.file(&name) == file
                && first.wants(&name)
                && let Some(report) = record.machine.report(locked.now, &name, TOLD_OF_EACH)
            {
                first.add(report);
            }
        }
        Ok(first.sorted())
    }

    fn break_lock(&self, name: &LockName, meant: Option<u64>) -> Result<Broken> {
        let locked = self.lock()?;
        let file = locked.file(name);
        if meant.is_none() && locked.read(&file).is_err() {
            locked.remove(&file);
            return Ok(Broken::Yes);
        }
        locked.step(name, |m, _| m.break_lock(locked.now, meant))
    }

    fn forget(&self, name: &LockName) {
        if let Ok(locked) = self.lock() {
            locked.remove(&locked.file(name));
        }
    }

    fn examine(&self) -> Vec<ServerReport> {
        let limit = self.directory.patience;
        let tried = trial_name().and_then(|name| try_out(self, &name, limit));
        let told = |error: Error| ServerReport {
            server: self.directory.label.clone(),
            error: Some(error.cause()),
            ..ServerReport::default()
        };
        tried.err().map(told).into_iter().collect()
    }

    fn status(&self) -> StoreStatus {
        StoreStatus { backend: "local", dsn: self.directory.label.clone(), ..StoreStatus::default() }
    }

    fn server(&self) -> &str {
        &self.directory.label
    }
}
