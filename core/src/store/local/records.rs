//! The files of the locks: read, changed by the rules, written; and swept.

use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::time::Duration;

use rustix::fs::{
    AtFlags, Dir, FlockOperation, Mode as FileMode, OFlags, RawDir, SeekFrom, flock, openat, renameat, seek,
    statat, unlinkat,
};
use rustix::io::{Errno, pread, pwrite};
use serde::{Deserialize, Serialize};

use super::directory::{Directory, Entered, PRIVATE};
use super::pipes;
use crate::error::Result;
use crate::key::LockName;
use crate::store::machine::{Effects, Machine, Now};

/// How long an idle lock remembers its last fencing token.
const RETAIN: Duration = Duration::from_secs(60);

/// How much of the directory is looked at for each new name, in bytes: some 14 entries.
const GLANCE: usize = 1024;

/// What a lock's file says.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) name: Box<[u8]>,
    /// By another boot's clock no lease is left. Empty: who was let in last did not know it.
    boot: String,
    pub(super) machine: Machine,
}

/// The records of a directory that is locked.
pub(super) struct Records<'a> {
    pub(super) directory: &'a Directory,
    pub(super) entered: Entered,
    /// Of all names, in the files' names.
    pub(super) prefix: &'a str,
    /// The kernel's boot id. Empty: it cannot be known.
    pub(super) boot: &'a str,
    pub(super) now: Now,
}

/// Whether a file is that of a lock.
fn is_lock(file: &str) -> bool {
    file.strip_suffix(".lock").is_some()
}

impl Records<'_> {
    /// The file of a lock. It is named by a digest, because a lock's name may be longer than a file's.
    pub(super) fn file(&self, name: &LockName) -> String {
        let mut digest = sha1_smol::Sha1::from(self.prefix);
        digest.update(b"\0");
        digest.update(name.as_bytes());
        format!("{}.lock", digest.digest())
    }

    /// Unlocks the directory. Records are replaced whole, so they can still be read.
    pub(super) fn unlock(&self) {
        let _ = flock(&self.entered.lock, FlockOperation::Unlock);
    }

    /// Files of this store's locks.
    pub(super) fn lock_files(&self) -> Vec<String> {
        let entries = Dir::read_from(&self.entered.dir).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        names.filter(|name| is_lock(name)).collect()
    }

    pub(super) fn remove(&self, name: &str) {
        let _ = unlinkat(&self.entered.dir, name, AtFlags::empty());
    }

    /// One step on a lock: read, change, write. The second value given to `step` tells whether
    /// there was a record.
    pub(super) fn step<T>(
        &self,
        name: &LockName,
        step: impl FnOnce(&mut Machine, bool) -> (T, Effects),
    ) -> Result<T> {
        let file = self.file(name);
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
        for token in effects.called {
            pipes::call_up(&self.entered.dir, &token);
        }
        for (token, grant) in effects.mail {
            pipes::deliver(&self.entered.dir, &token, grant);
        }
        for (token, fence) in effects.covered {
            pipes::cover(&self.entered.dir, &token, fence);
        }
        for token in effects.forgotten {
            self.remove(&pipes::name_of(token.as_bytes()));
        }
        Ok(result)
    }

    pub(super) fn read(&self, name: &str) -> Result<Option<Record>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut bytes = Vec::new();
        let read = match openat(&self.entered.dir, name, flags, FileMode::empty()) {
            Ok(file) => File::from(file).read_to_end(&mut bytes),
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => Err(e.into()),
        };
        read.map_err(|e| self.directory.failed("read", name, e))?;
        let mut record: Record = serde_json::from_slice(&bytes).map_err(|e| {
            self.directory.failed(
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
            File::from(openat(&self.entered.dir, "new", flags, PRIVATE)?).write_all(&bytes)?;
            Ok(renameat(&self.entered.dir, "new", &self.entered.dir, name)?)
        });
        written.map_err(|e| self.directory.failed("write", name, e))
    }

    /// Removes what locks have left, among the next few files of the directory.
    fn sweep(&self) {
        let now = i64::try_from(self.now.unix_us / 1_000_000).unwrap_or(i64::MAX);
        let retain = i64::try_from(RETAIN.as_secs()).unwrap_or(i64::MAX);
        for name in self.glance() {
            let written =
                statat(&self.entered.dir, &name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| stat.st_mtime);
            if written.is_ok_and(|written| now.saturating_sub(written) > retain)
                && let Ok(Some(record)) = self.read(&name)
                && record.machine.is_over(self.now, RETAIN)
            {
                for token in record.machine.waiting() {
                    self.remove(&pipes::name_of(token.as_bytes()));
                }
                self.remove(&name);
            }
        }
    }

    /// The next few of the locks' files, in the directory's order, and from its end on to its beginning. The place is in
    /// the file that stands for the directory's lock, because a process may end after one new name.
    fn glance(&self) -> Vec<String> {
        let mut place = [0; 8];
        let known = pread(&self.entered.lock, &mut place, 0).is_ok_and(|length| length == place.len());
        let from = if known { u64::from_ne_bytes(place) } else { 0 };
        let glanced = self.glance_from(from).or_else(|| self.glance_from(0));
        let (names, next) = glanced.unwrap_or_default();
        let _ = pwrite(&self.entered.lock, &next.to_ne_bytes(), 0);
        names
    }

    /// Also where to go on. `None`: there is nothing, or no such place (the directory is another one).
    fn glance_from(&self, place: u64) -> Option<(Vec<String>, u64)> {
        seek(&self.entered.dir, SeekFrom::Start(place)).ok()?;
        let mut names = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); GLANCE];
        let mut entries = RawDir::new(&self.entered.dir, &mut buffer);
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
