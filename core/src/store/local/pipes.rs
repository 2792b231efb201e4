//! The named pipes in which waiters sleep.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode as FileMode, OFlags, mknodat, openat, unlinkat};
use rustix::io::Errno;

use super::directory::{Directory, PRIVATE};
use crate::error::Result;
use crate::store::{Grant, Token, Wake};
use crate::thread::lock;

/// The pipes of this process' waiters. Open from before a claim is queued until it is settled:
/// a hand-over between two sleeps finds a reader.
#[derive(Default)]
pub(super) struct Pipes(Mutex<HashMap<Vec<u8>, OwnedFd>>);

impl Pipes {
    fn lock(&self) -> MutexGuard<'_, HashMap<Vec<u8>, OwnedFd>> {
        lock(&self.0)
    }

    /// Makes the pipe in which a claim will sleep, or empties it: a grant that its waiter slept
    /// through must not be believed later.
    pub(super) fn open(&self, directory: &Directory, dir: &OwnedFd, token: &Token) -> Result<()> {
        let mut pipes = self.lock();
        if let Some(pipe) = pipes.get(token.as_bytes()) {
            let mut old = [0u8; 512];
            while rustix::io::read(pipe, &mut old).is_ok_and(|n| n > 0) {}
        } else {
            let name = name_of(token.as_bytes());
            mknodat(dir, &name, FileType::Fifo, PRIVATE, 0)
                .map_err(|e| directory.failed("create", &name, e))?;
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let pipe = openat(dir, &name, flags, FileMode::empty())
                .map_err(|e| directory.failed("open", &name, e))?;
            pipes.insert(token.as_bytes().to_vec(), pipe);
        }
        Ok(())
    }

    /// Another descriptor of a waiter's pipe, to sleep in without keeping the others from theirs.
    pub(super) fn of(&self, token: &Token) -> Option<OwnedFd> {
        self.lock().get(token.as_bytes())?.try_clone().ok()
    }

    pub(super) fn close(&self, directory: &Directory, token: &Token) {
        if self.lock().remove(token.as_bytes()).is_some() {
            let _ = fs::remove_file(directory.path.join(name_of(token.as_bytes())));
        }
    }
}

/// The name of a waiter's pipe.
pub(super) fn name_of(token: &[u8]) -> String {
    format!("{}.wait", String::from_utf8_lossy(token))
}

/// Wakes a waiter. One that is dead has no reader on its pipe, which goes; its grant will run out.
pub(super) fn deliver(dir: &OwnedFd, token: &str, grant: Grant) {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match openat(dir, name_of(token.as_bytes()), flags, FileMode::empty()) {
        // Less than PIPE_BUF is written whole or not at all.
        Ok(pipe) => drop(writeln!(File::from(pipe), "{} {}", grant.fence, grant.lease.as_millis())),
        Err(Errno::NXIO) => drop(unlinkat(dir, name_of(token.as_bytes()), AtFlags::empty())),
        Err(_) => {}
    }
}

/// Tells a waiter that the run of the holder with this fencing token covers it.
pub(super) fn cover(dir: &OwnedFd, token: &str, fence: u64) {
    deliver(dir, token, Grant { fence, lease: Duration::ZERO });
}

/// Wakes a waiter, so that it asks again.
pub(super) fn call_up(dir: &OwnedFd, token: &str) {
    deliver(dir, token, Grant { fence: 0, lease: Duration::ZERO });
}

/// What lies in a pipe: the newest letter.
pub(super) fn mail(pipe: OwnedFd) -> Wake {
    let mut mail = [0u8; 128];
    let length = File::from(pipe).read(&mut mail).unwrap_or(0);
    let letters = mail.get(..length).unwrap_or_default().trim_ascii_end();
    letters.rsplit(|byte| *byte == b'\n').next().map_or(Wake::Retry, Wake::read)
}
