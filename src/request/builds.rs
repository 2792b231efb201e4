//! `cluster_file_build()`: make(1) for a cluster. A run on the file's own lock that makes the file, unless it is newer than
//! what it is made from.
//!
//! The shim goes find, source…, begin; then it calls the user's code; then end. Or abort (`writes::abort`) at any point. What is
//! under way stands in the request's table as a write, guarded by the run's lock.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use cluster_lock_core::replace::{Existing, Options, Replacement, Sources};
use cluster_lock_core::{Acquired, LockName, Result};

use super::names::warn_lost;
use super::runs::told;
use super::writes::{self, Write, gone};
use super::{Asked, Request, Wish};
use crate::arguments::{self, Checked};
use crate::reply::{Reply, Value};
use crate::words::{self, about};
use crate::{request, settings};

/// What a write that is a build has besides.
pub(crate) struct Build {
    sources: Sources,
    timeout: Option<Duration>,
    /// Its run, by this entry of the table, once that has begun.
    run: Option<(LockName, u64)>,
}

/// Finds the target.
pub(crate) fn find(path: &[u8], timeout: Option<f64>) -> Checked {
    let timeout = arguments::timeout(4, timeout)?;
    let found = writes::begin(path, None)?;
    if matches!(found.value, Value::True) {
        let build = Build { sources: Sources::default(), timeout, run: None };
        request::with(|request| request.builds.insert(found.id, build));
    }
    Ok(found)
}

/// Adds a source, by its absolute path.
pub(crate) fn source(id: u64, path: &[u8]) {
    request::with(|request| {
        if let Some(build) = request.builds.get_mut(&id) {
            build.sources.add(PathBuf::from(OsStr::from_bytes(path)));
        }
    });
}

/// The first half. True with an id: it is to be built, under the lock; without: it is up to date, and with its path if another
/// one has built it meanwhile.
pub(crate) fn begin(id: u64, resume: u64) -> Reply {
    request::with(|request| {
        let (Some(write), Some(build)) = (request.writes.remove(&id), request.builds.remove(&id)) else {
            return gone();
        };
        if resume == 0 {
            match write.target.is_newer_than(&build.sources) {
                Ok(true) => return true.into(),
                Ok(false) => {}
                Err(error) => return Reply::failed(error.to_string()),
            }
        }
        let name = request.name_of_file(write.target.path());
        let wish = Wish::for_run(build.timeout, settings::ttl());
        let Asked { outcome, lost, log } = request.begin_run(&name, &wish, resume);
        let reply = match outcome {
            Ok(Acquired::Held { lease: entry, .. }) => {
                begin_run(request, id, write, build, (name.clone(), entry))
            }
            Ok(Acquired::Covered { .. }) => {
                write.target.refresh();
                built(&write)
            }
            Ok(Acquired::TimedOut { .. }) => false.into(),
            Ok(Acquired::Interrupted(wait)) => {
                request.writes.insert(id, write);
                request.builds.insert(id, build);
                Reply::again(wait)
            }
            Err(error) => Reply::failed(about(&name, error)),
        };
        let reply = if reply.trouble.is_none() { warn_lost(reply, &name, lost.as_ref()) } else { reply };
        reply.log(log)
    })
}

/// The lock is held: looks again, and makes the temporary file, whose date that of the new one will be.
fn begin_run(request: &mut Request, id: u64, mut write: Write, build: Build, run: (LockName, u64)) -> Reply {
    let (name, entry) = &run;
    let fresh = match write.target.is_newer_than(&build.sources) {
        Ok(false) => match begin_write(&mut write, &build.sources) {
            Ok(()) => {
                write.guard = Some(run.clone());
                request.writes.insert(id, write);
                request.builds.insert(id, Build { run: Some(run), ..build });
                return Reply::from(true).id(id);
            }
            Err(error) => Err(error),
        },
        other => other,
    };
    let ended = request.end_run(name, *entry, fresh.is_ok());
    match fresh {
        Ok(_) => Reply { path: built(&write).path, ..told(name, ended, true) },
        Err(error) => Reply::failed(error.to_string()),
    }
}

/// In this order: what the build reads is what has been there at the temporary file's date, or is newer.
fn begin_write(write: &mut Write, sources: &Sources) -> Result<()> {
    let options = settings::with(|settings| Options {
        durable: settings.values.durable_writes,
        mount_point: settings.values.mount_point_writes,
        locked: true,
        dates_from_begin: true,
    });
    let replacement = Replacement::begin(&write.target, Existing::Replace, &options)?;
    sources.refresh()?;
    write.replacement = Some(replacement);
    Ok(())
}

/// Another one has built it.
fn built(write: &Write) -> Reply {
    Reply { path: Some(write.target.path().as_os_str().as_bytes().to_vec()), ..true.into() }
}

/// The second half, after the user's code: writes what that has returned. `None`: it has failed; it may have returned something
/// else, of that type.
pub(crate) fn end(id: u64, content: Option<&[u8]>, returned: Option<&[u8]>) -> Reply {
    request::with(|request| {
        let write = request.writes.remove(&id);
        let run = request.builds.remove(&id).and_then(|build| build.run);
        let (Some(mut write), Some((name, entry))) = (write, run) else { return gone() };
        let path = write.target.path().to_path_buf();
        let written: Reply = match content {
            None => {
                drop(write);
                false.into()
            }
            Some(content) => match write.push(content) {
                Ok(()) => write.commit(request),
                Err(error) => Reply::failed(error.to_string()),
            },
        };
        let complete = matches!(written.value, Value::Int(_));
        let ended = told(&name, request.end_run(&name, entry, complete), complete);
        let type_is_told = returned.map(|kind| words::not_built(&path, &String::from_utf8_lossy(kind)));
        let trouble =
            if complete { ended.trouble.or(written.trouble) } else { written.trouble.or(ended.trouble) };
        match (trouble, type_is_told) {
            (None, Some(message)) => Reply::failed(message),
            (trouble, _) => Reply { trouble, ..ended.value.into() },
        }
    })
}

impl Request {
    /// Ends the run of a build that is given up: it covers nobody.
    pub(super) fn abort_build(&mut self, id: u64) {
        if let Some(Build { run: Some((name, entry)), .. }) = self.builds.remove(&id) {
            let _ = self.end_run(&name, entry, false);
        }
    }
}
