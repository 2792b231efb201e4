//! `cluster_file_put_contents()`: a replacement in the request's table, with the locks that guard it.
//!
//! The shim goes begin, open, push…, commit; or abort at any point. What PHP never comes back to
//! (a fatal error while it reads a stream) is aborted by the end of the request. What `cluster_file_build()` writes goes the
//! same way: see `builds`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cluster_lock_core::replace::{Committed, Existing, Options, Replacement, Target};
use cluster_lock_core::{Acquired, Error, LockName, Mode, Result};

use super::{Asked, Given, Request, Wish, names};
use crate::arguments::{self, Checked};
use crate::reply::{Reply, Value, int};
use crate::words::{self, about};
use crate::{counters, request, settings};

/// One write under way.
pub(crate) struct Write {
    pub(super) target: Target,
    /// `$lock`, or that of a build's run: held by the caller, by this entry of the table.
    pub(super) guard: Option<(LockName, u64)>,
    /// `LOCK_EX`: held for this write, by this entry of the table.
    file_lock: Option<(LockName, u64)>,
    pub(super) replacement: Option<Replacement>,
    /// Bytes of `$data`.
    bytes: u64,
}

/// Finds the target, and the lock that the caller says it holds.
pub(crate) fn begin(path: &[u8], guard: Option<&[u8]>) -> Checked {
    let guard = guard.map(|name| arguments::name(4, name)).transpose()?;
    Ok(request::with(|request| {
        let guard = match guard {
            None => None,
            Some(name) => match request.hold(&name).map(|(id, lease)| (id, lease.loss())) {
                None => return Reply::failed(about(&name, words::NOT_HELD)),
                Some((_, Some(loss))) => {
                    return Reply::failed(words::lost_guard(&name, &loss));
                }
                Some((id, None)) => Some((name, id)),
            },
        };
        let target = match Target::resolve(Path::new(OsStr::from_bytes(path))) {
            Ok(target) => target,
            Err(error) => return Reply::failed(error.to_string()),
        };
        let path = target.path().as_os_str().as_bytes().to_vec();
        let id = request.new_id();
        let write = Write { target, guard, file_lock: None, replacement: None, bytes: 0 };
        request.writes.insert(id, write);
        Reply { path: Some(path), ..Reply::from(true).id(id) }
    }))
}

/// Takes the file's lock if it is wanted, and opens the temporary file.
pub(crate) fn open(id: u64, append: bool, exclusive: bool, resume: u64) -> Reply {
    request::with(|request| {
        // Not in the table meanwhile: nothing can end this call but its return.
        let Some(mut write) = request.writes.remove(&id) else { return gone() };
        let mut reply = Reply::from(true);
        if exclusive {
            reply = lock_file(request, &mut write, resume);
        }
        if write.file_lock.is_some() || !exclusive {
            let how = if append { Existing::Append } else { Existing::Replace };
            let guard = write.guard.as_ref().and_then(|(name, _)| request.lease(name));
            let options = settings::with(|settings| Options {
                durable: settings.values.durable_writes,
                mount_point: settings.values.mount_point_writes,
                locked: exclusive || guard.is_some_and(|lease| lease.mode() == Mode::Exclusive),
                dates_from_begin: false,
            });
            match Replacement::begin(&write.target, how, &options) {
                Ok(replacement) => write.replacement = Some(replacement),
                Err(error) => reply = Reply::failed(error.to_string()).log(reply.log),
            }
        }
        request.writes.insert(id, write);
        reply
    })
}

/// Whatever comes of it, `write.file_lock` tells whether the lock is held.
fn lock_file(request: &mut Request, write: &mut Write, resume: u64) -> Reply {
    let name = request.name_of_file(write.target.path());
    let timeout = settings::with(|settings| settings.values.timeout);
    let wish = Wish::new(Mode::Exclusive, timeout, settings::ttl());
    let Asked { outcome, lost, log } = request.lock(&name, &wish, resume);
    let reply = match outcome {
        Ok(Acquired::Held { lease: entry, .. }) => {
            write.file_lock = Some((name.clone(), entry));
            names::warn_lost(true.into(), &name, lost.as_ref())
        }
        Ok(Acquired::Covered { waited, .. } | Acquired::TimedOut { waited, .. }) => {
            Reply::failed(words::not_written(&name, waited))
        }
        Ok(Acquired::Interrupted(wait)) => Reply::again(wait),
        Err(error) => Reply::failed(about(&name, error)),
    };
    reply.log(log)
}

/// Writes some of the data.
pub(crate) fn push(id: u64, data: &[u8]) -> Reply {
    request::with(|request| {
        let Some(write) = request.writes.get_mut(&id) else { return gone() };
        match write.push(data) {
            Ok(()) => true.into(),
            Err(error) => Reply::failed(error.to_string()),
        }
    })
}

/// Makes sure of the locks, renames, and gives the file's lock back.
pub(crate) fn commit(id: u64) -> Reply {
    request::with(|request| match request.writes.remove(&id) {
        Some(write) => write.commit(request),
        None => gone(),
    })
}

impl Write {
    pub(super) fn push(&mut self, data: &[u8]) -> Result<()> {
        let replacement = self.replacement.as_mut().ok_or_else(aborted)?;
        replacement.write(data)?;
        self.bytes = self.bytes.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// A write in place takes its time: of its locks it is made sure afterwards, too.
    pub(super) fn commit(self, request: &mut Request) -> Reply {
        let Self { target, guard, file_lock, replacement, bytes } = self;
        let Some(replacement) = replacement else { return gone() };
        let mut failed = None;
        let mut verify = || {
            guard.iter().chain(&file_lock).try_for_each(|(name, entry)| {
                // One that was given back and taken again is another: its file may have changed in between.
                let held = request.hold(name).filter(|(id, _)| id == entry);
                let verified = held.ok_or_else(not_held).and_then(|(_, lease)| lease.verify());
                verified.inspect_err(|_| failed = Some(name.clone()))
            })
        };
        let mut committed = replacement.commit(&mut verify);
        let in_place = committed.as_ref().is_ok_and(|done| done.in_place);
        if in_place {
            committed = verify().and(committed);
        }
        let back = give_back(request, file_lock);
        match committed {
            Ok(Committed { durability_warning, .. }) => {
                counters::count_write();
                let reply = Reply::from(Value::Int(int(bytes)));
                match durability_warning.or(back) {
                    Some(message) => reply.warn(message),
                    None => reply,
                }
            }
            Err(error) => Reply::failed(match failed {
                Some(name) if in_place => words::written_unguarded(target.path(), &name, &error),
                Some(name) => words::unchanged(target.path(), &name, &error),
                None => error.to_string(),
            }),
        }
    }
}

/// Gives up: the temporary file goes, and the file's lock; and a build's run, which covers nobody.
pub(crate) fn abort(id: u64) {
    request::with(|request| {
        if let Some(Write { file_lock, replacement, .. }) = request.writes.remove(&id) {
            drop(replacement);
            give_back(request, file_lock);
        }
        // After the temporary file.
        request.abort_build(id);
    });
}

/// A lock lost after the rename has guarded all it had to guard: only a failure is told.
fn give_back(request: &mut Request, file_lock: Option<(LockName, u64)>) -> Option<String> {
    let (name, entry) = file_lock?;
    match request.unlock(&name, Some(entry)) {
        Ok(Given::Ours | Given::Lost(_) | Given::NotHeld | Given::OtherFiber) => None,
        Err(error) => Some(words::not_given_back(&name, &error)),
    }
}

fn not_held() -> Error {
    Error::Invalid(words::NOT_HELD_ANY_MORE.into())
}

fn aborted() -> Error {
    Error::Invalid(words::WRITE_IS_GONE.into())
}

pub(super) fn gone() -> Reply {
    Reply::failed(aborted().to_string())
}
