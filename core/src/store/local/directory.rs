//! The directory in which the locks are: whose it is, and its own lock.

use std::fs::{self, DirBuilder, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FlockOperation, Mode as FileMode, OFlags, flock, fstat, major, minor, openat};
use rustix::io::{Errno, pread, pwrite};

use crate::clock::{Instant, nanos, unix_micros};
use crate::error::{Error, Result};
use crate::text;

/// The default directory's place: no setting of the environment moves it, because php-fpm and the command line have
/// environments of their own.
const DEFAULT_PARENT: &str = "/tmp";

/// Between two tries to lock the directory: at first, at most.
const PAUSE: (Duration, Duration) = (Duration::from_micros(20), Duration::from_millis(1));

/// So many times the patience with one who stands still is waited while others get in.
const TURNS: u32 = 10;

/// Who has tried for so long asks those who come to [let it go first](let_go_first), each for so long at most.
const LONG: Duration = Duration::from_millis(5);
const WAY: Duration = Duration::from_millis(100);

/// Where in the directory's lock file that stands: until when, as Unix time in microseconds. Before it stands the place of
/// `Records::glance`.
const WAY_AT: u64 = 8;

/// All files are the user's own.
pub(super) const PRIVATE: FileMode = FileMode::from_raw_mode(0o600);

pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) label: String,
    /// How long to wait for those who are at work in it.
    pub(super) patience: Duration,
}

/// The directory, open and locked. Unlocked when it is dropped.
pub(super) struct Entered {
    pub(super) dir: OwnedFd,
    pub(super) lock: File,
}

impl Directory {
    /// By default one of the user's own in /tmp. No I/O.
    pub(super) fn new(path: Option<PathBuf>, patience: Duration) -> Self {
        let label = path.as_ref().map_or("local:".to_owned(), |path| format!("local://{}", text::path(path)));
        let path = path.unwrap_or_else(|| {
            let user = rustix::process::geteuid().as_raw();
            Path::new(DEFAULT_PARENT).join(format!("cluster_lock-{user}"))
        });
        Self { path, label, patience }
    }

    /// Locks the directory, which is made if it is missing.
    pub(super) fn enter(&self) -> Result<Entered> {
        let (dir, file) = match self.open() {
            // It was removed this instant.
            Err((_, Errno::NOENT)) => self.open(),
            outcome => outcome,
        }
        .map_err(|(error, _)| error)?;
        self.wait_for(&dir, &file)?;
        Ok(Entered { dir, lock: file.into() })
    }

    /// Takes the kernel's lock. Its own wait has no time-out, so it is tried again and again; and whoever has given it back
    /// and wants it again would nearly always be before those who sleep between two tries.
    fn wait_for(&self, dir: &OwnedFd, file: &OwnedFd) -> Result<()> {
        let_go_first(file);
        let began = Instant::now();
        let (mut pause, most) = PAUSE;
        // Whoever takes a step changes the directory, as a rule: the time of that, and when it was seen.
        let (mut changed, mut seen) = (None, began);
        loop {
            match flock(file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK) => {
                    let now = Instant::now();
                    let change = fstat(dir).ok().map(|stat| (stat.st_mtime, stat.st_mtime_nsec));
                    if change != changed {
                        (changed, seen) = (change, now);
                    }
                    let waited = now.since(began);
                    if now.since(seen) >= self.patience || waited >= self.patience * TURNS {
                        let cause = format!(
                            "for {:.1} s it has been locked by {}, which takes far less unless it is stopped",
                            self.patience.as_secs_f64(),
                            who_locks(file),
                        );
                        return Err(self.failed("lock", "lock", std::io::Error::other(cause)));
                    }
                    if waited > LONG {
                        ask_for_way(file, WAY.min(waited / 4));
                    }
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
        let mut dir = openat(CWD, &self.path, flags, FileMode::empty());
        if matches!(dir, Err(Errno::NOENT)) {
            let made = DirBuilder::new().mode(0o700).recursive(true).create(&self.path);
            made.map_err(|e| told("create", "")(Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
            dir = openat(CWD, &self.path, flags, FileMode::empty());
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
            text::path(&self.path)
        ))
    }

    pub(super) fn failed(&self, what: &str, name: &str, error: impl Into<std::io::Error>) -> Error {
        let path = text::path(&if name.is_empty() { self.path.clone() } else { self.path.join(name) });
        Error::Connection {
            server: self.label.clone(),
            cause: format!("cannot {what} {path}: {}", error.into()),
        }
    }
}

/// Has those who come from now on wait for so long before they try. Where that fails they do not.
fn ask_for_way(file: &OwnedFd, long: Duration) {
    let until = unix_micros().saturating_add(nanos(long) / 1000);
    let _ = pwrite(file, &until.to_ne_bytes(), WAY_AT);
}

/// Waits while somebody has [asked for that](ask_for_way). What is further away than that may be is of another clock.
fn let_go_first(file: &OwnedFd) {
    let (most, limit) = (nanos(WAY) / 1000, Instant::now() + WAY);
    let mut until = [0; 8];
    while pread(file, &mut until, WAY_AT).is_ok_and(|length| length == until.len())
        && (1..=most).contains(&u64::from_ne_bytes(until).saturating_sub(unix_micros()))
        && !limit.has_passed()
    {
        std::thread::sleep(PAUSE.1);
    }
}

/// /proc/locks is read in pieces, between which locks come and go, and one that stays may be passed over: so it is looked
/// for so often.
const LOOKS: usize = 5;

/// Who has the kernel's lock on a file, as /proc tells: one process of several.
fn who_locks(file: &OwnedFd) -> String {
    let look = |name: &str| {
        let locks = fs::read_to_string("/proc/locks").ok()?;
        // `7: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF`; one who waits has an arrow before FLOCK.
        locks.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [_, "FLOCK", _, "WRITE", pid, locked, ..] if locked == name => Some(pid.to_owned()),
            _ => None,
        })
    };
    let found = fstat(file).ok().and_then(|stat| {
        let device = format!("{:02x}:{:02x}", major(stat.st_dev), minor(stat.st_dev));
        let name = format!("{device}:{}", stat.st_ino);
        (0..LOOKS).find_map(|_| look(&name))
    });
    found.map_or("another process".to_owned(), |pid| {
        let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        match command.trim() {
            "" => format!("pid {pid}"),
            command => format!("pid {pid} ({})", text::said(command)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_way_goes_first_and_not_for_ever() {
        let file = OwnedFd::from(tempfile::tempfile().unwrap());
        let_go_first(&file);
        ask_for_way(&file, Duration::from_millis(20));
        let mut until = [0; 8];
        assert_eq!(pread(&file, &mut until, WAY_AT).unwrap(), 8);
        let_go_first(&file);
        assert!(u64::from_ne_bytes(until) <= unix_micros(), "it has gone before");
        // The clock was set back since.
        ask_for_way(&file, Duration::from_secs(3600));
        let_go_first(&file);
        assert_eq!(pread(&file, &mut until, WAY_AT).unwrap(), 8);
        assert!(u64::from_ne_bytes(until) > unix_micros());
    }
}
