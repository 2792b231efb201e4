//! Atomic file replacement: readers see the old file or the new one, never a part of either.
//!
//! A temporary file is written in the directory of the target and renamed over it. Everything
//! happens relative to one open directory, so a directory renamed meanwhile does no harm.
//!
//! * `target`: where a write goes: symlinks followed, special files refused.
//! * `metadata`: mode, owner, group, ACL and extended attributes of the file being replaced.
//! * `fresh`: whether a file is newer than what it is made from.
//! * `in_place`: what is done with a target that no rename can replace, where that is allowed.
//! * `stale`: the names of temporary files, and the removal of those that killed writers left.
//!
//! # What a rename cannot do
//! * The new file is a new inode: hard links to the old one keep the old content, and open
//!   descriptors go on reading it.
//! * On NFS a client that has the *old* file open renames it to `.nfs…` before the new one takes
//!   its place; for that moment other nodes may find no file. This module therefore closes its
//!   own descriptor of the old file first.
//! * A file that is a mount point by itself, as containers have them, cannot be replaced: see [`MountPoint`].
//! * A killed writer leaves its temporary file, which a later write in the same directory removes.

mod copy;
mod fresh;
mod in_place;
mod metadata;
mod stale;
mod target;

use std::ffi::CString;
use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::process;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, fstat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::text;
use copy::synced;
use fresh::Time;
use metadata::Metadata;
use target::{Place, reason};

pub use fresh::Sources;
pub use target::{Existing, Target};

/// Attempts to find a free temporary name. With 64 random bits the first is free.
const NAME_ATTEMPTS: usize = 8;

/// How a replacement is done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Sync the file before the rename and the directory after it, so that the new content
    /// survives a power failure.
    pub durable: bool,
    /// What is done with a target that no rename can replace.
    pub mount_point: MountPoint,
    /// It is done under an exclusive lock, which the others who read and write the target ask for, too.
    pub locked: bool,
    /// The new file's modification time is that at which it was begun, before what it is made from was read, by the clock
    /// that stamps files there. Then it is not written in place: half of it could look finished.
    pub dates_from_begin: bool,
}

/// What is done with a target that is a mount point by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountPoint {
    /// Nothing: it is an error.
    #[default]
    Refuse,
    /// It is written in place, if `locked`; whoever reads without it may see half of it.
    InPlace,
}

/// A write that happened.
#[derive(Debug)]
pub struct Committed {
    /// There was no rename, but a write that took its time: the lock may have been lost meanwhile.
    pub in_place: bool,
    /// The new file is in place, but may not survive a power failure, for this reason.
    pub durability_warning: Option<String>,
}

/// A new version of a file, invisible until [`Replacement::commit`]. Dropping it instead removes
/// the temporary file and leaves the old one as it was; not so in a forked child, which owns
/// nothing of its parent's.
#[derive(Debug)]
pub struct Replacement {
    // Before `temp`: NFS keeps a file that is unlinked while open under another name.
    file: OwnedFd,
    temp: Temp,
    kept: Option<Metadata>,
    options: Options,
    /// What it is to be dated, if not by its last write.
    begun: Option<Time>,
}

impl Replacement {
    /// Makes the temporary file next to the target; for [`Existing::Append`] with the old content.
    /// The lock on the file, if there is one, must be held by now: from here on the old file counts.
    ///
    /// # Errors
    /// When plain writing would fail too (the existing file is not writable), when the directory
    /// is not writable, or when the old content cannot be copied.
    pub fn begin(target: &Target, how: Existing, options: &Options) -> Result<Self> {
        let place = Arc::clone(target.place());
        let old = place.open_existing(how)?;
        let kept = old.as_ref().map(|old| Metadata::read(old, &place)).transpose()?;
        let (temp, file) = Temp::create(place, kept.is_some())?;
        let begun = options.dates_from_begin.then(|| fresh::changed(&file)).transpose();
        let begun = begun.map_err(|e| temp.place.failed("cannot examine", e))?;
        let this = Self { file, temp, kept, options: *options, begun };
        if let (Existing::Append, Some(old)) = (how, &old) {
            copy::contents(old, &this.file).map_err(|(step, e)| this.failed(step, e))?;
        }
        Ok(this)
    }

    /// Writes all of `data`.
    ///
    /// # Errors
    /// What the operating system says: disk full, quota exceeded, I/O error. Part of the data may
    /// be in the temporary file then: drop it.
    pub fn write(&mut self, data: &[u8]) -> Result<()> {
        self.temp.check_owner()?;
        copy::write_all(&self.file, data).map_err(|e| self.failed("cannot write", e))
    }

    /// Puts the new file in the place of the old one. `verify` is asked as the very last thing
    /// before the rename, and once more before the first byte in place; its error is returned as it is, and
    /// nothing is renamed or written.
    ///
    /// # Errors
    /// Whatever is returned, no temporary file is left, and the old file is untouched; of one that is written in
    /// place the error may say otherwise.
    pub fn commit(self, mut verify: impl FnMut() -> Result<()>) -> Result<Committed> {
        self.temp.check_owner()?;
        if self.begun.is_some() {
            // What reaches a file server late would date it anew. And while the file is ours.
            self.sync()?;
            self.date()?;
        }
        if let Some(kept) = &self.kept {
            kept.apply(&self.file, &self.temp.place)?;
        }
        // A mode's special bits have cost it its date.
        self.date()?;
        self.sync()?;
        let Self { mut temp, file, options, .. } = self;
        let written = fstat(&file).map_err(|e| temp.place.failed("cannot examine", e))?;
        // NFS, FUSE and quota report late write errors here, and only here.
        nix::unistd::close(file)
            .map_err(|e| temp.place.failed("cannot write (on close)", Errno::from_raw_os_error(e as i32)))?;

        verify()?;
        let in_place = !temp.rename(&written)?;
        if in_place {
            temp.write_in_place(options, verify)?;
        }
        let durability_warning = if options.durable && !in_place { temp.place.sync() } else { None };
        stale::clean(&temp.place);
        Ok(Committed { in_place, durability_warning })
    }

    fn sync(&self) -> Result<()> {
        synced(&self.file, self.options.durable).map_err(|e| self.failed("cannot write to stable storage", e))
    }

    /// Dates it, if that is wanted, and it is not.
    fn date(&self) -> Result<()> {
        let Some(begun) = self.begun else { return Ok(()) };
        let failed = |e| self.failed("cannot set the modification time", e);
        if fresh::modified(&self.file).map_err(failed)? == begun {
            return Ok(());
        }
        fresh::date(&self.file, begun).map_err(failed)?;
        // Earlier, where the file system knows seconds alone.
        if fresh::modified(&self.file).map_err(failed)? <= begun {
            return Ok(());
        }
        Err(self
            .temp
            .place
            .error("cannot set the modification time: the file system does not keep it".into()))
    }

    fn failed(&self, step: impl Display, errno: Errno) -> Error {
        self.temp.place.failed(step, errno)
    }
}

/// A temporary file's name; dropped, it takes the file with it.
#[derive(Debug)]
struct Temp {
    place: Arc<Place>,
    /// `None` once it has been renamed.
    name: Option<CString>,
    creator: u32,
}

impl Temp {
    /// Creates it: private when it is to take over an existing file's mode, otherwise with what
    /// the kernel makes of 0666: umask or the directory's default ACL, without a race.
    fn create(place: Arc<Place>, private: bool) -> Result<(Self, OwnedFd)> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if private { 0o600 } else { 0o666 });
        let creator = process::id();
        let mut outcome = Errno::EXIST;
        for _ in 0..NAME_ATTEMPTS {
            let name = match stale::fresh_name(place.name(), creator) {
                Ok(name) => name,
                Err(e) => return Err(place.failed("cannot get random bytes", e)),
            };
            match openat(place.dir(), name.as_c_str(), flags, mode) {
                Ok(file) => return Ok((Self { place, name: Some(name), creator }, file)),
                Err(e @ (Errno::EXIST | Errno::INTR)) => outcome = e,
                Err(e) => {
                    outcome = e;
                    break;
                }
            }
        }
        let hint = match outcome {
            Errno::ACCESS | Errno::PERM => " (the directory must be writable for an atomic replace)",
            _ => "",
        };
        let step = format!("cannot create a temporary file in {}", text::path(place.dir_path()));
        Err(place.error(format!("{step}: {}{hint}", reason(outcome))))
    }

    /// Renames it over the target; `false`: that is a mount point. `written` is the temporary file's status.
    fn rename(&mut self, written: &rustix::fs::Stat) -> Result<bool> {
        let Some(name) = &self.name else { return Ok(true) };
        let place = &self.place;
        if let Err(e) = renameat(place.dir(), name, place.dir(), place.name()) {
            // NFS: the answer to the first request got lost, and its repetition found the
            // temporary file gone. If our file stands there, the rename happened.
            let done = statat(place.dir(), place.name(), AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|now| (now.st_dev, now.st_ino) == (written.st_dev, written.st_ino));
            if !done && e == Errno::BUSY && place.may_be_mount_point() {
                return Ok(false);
            }
            if !done {
                return Err(place.failed("cannot rename the temporary file over it", e));
            }
        }
        self.name = None;
        Ok(true)
    }

    /// Writes its content into the target, where that is allowed.
    fn write_in_place(&self, options: Options, verify: impl FnOnce() -> Result<()>) -> Result<()> {
        let Some(name) = &self.name else { return Ok(()) };
        let refusal = match (options.mount_point, options.locked) {
            _ if options.dates_from_begin => {
                "is a mount point by itself, which no rename can replace, and is not built in place, where half of it could \
                 look finished: mount its directory instead"
            }
            (MountPoint::InPlace, true) => {
                return in_place::write(&self.place, name, options.durable, verify);
            }
            (MountPoint::InPlace, false) => {
                "is a mount point by itself, and is written in place only under an exclusive lock: LOCK_EX, or the name of one"
            }
            (MountPoint::Refuse, _) => {
                "is a mount point by itself, which no rename can replace: mount its directory instead, or allow that \
                 it is written in place (cluster_lock.mount_point_writes)"
            }
        };
        Err(self.place.error(refusal.into()))
    }

    /// A forked child shares the file offset with its parent: whatever it wrote would end up in
    /// the parent's file.
    fn check_owner(&self) -> Result<()> {
        if self.creator == process::id() {
            return Ok(());
        }
        Err(self.place.error("this write was begun by the parent process".into()))
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if self.creator == process::id()
            && let Some(name) = &self.name
        {
            // Nobody to tell: what led here is already an error, and what stays is stale.
            let _ = unlinkat(self.place.dir(), name, AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests;
