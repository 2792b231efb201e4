//! Whether a file that is made from others is newer than they are, as make(1) asks; by times as the file server has them.
//!
//! * The file counts from its modification time, which a build sets to the moment before it has read anything (see
//!   `Options::dates_from_begin`): a source that changes during the build makes the file old.
//! * A source counts with its change time, which nobody can set: `mv`, `rsync -t` and `tar` bring old modification times, and
//!   one from the future would never come to rest. So does every symbolic link on the way to it.
//! * A source that is missing counts with the directory where the way to it ends, which its deletion has changed.
//! * A second is no time, see [`SLACK`].

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Statx, StatxFlags, StatxTimestamp, Timespec, Timestamps, UTIME_OMIT, futimens,
    readlink, statx,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::time::{ClockId, clock_gettime};

use super::target::{MAX_LINKS, Place, Target, check_type, reason};
use crate::error::{Error, Result};
use crate::file::nfs;
use crate::text;

/// Seconds that have to lie between a change and the beginning of the build that is said to have it.
///
/// A kernel stamps a write when that begins: who reads then finds the old content, or half of the new one, and nothing tells
/// later that it was so. That takes microseconds (120 have been measured), and longer where the writer is kept waiting in the
/// middle (a full journal, a busy processor). The clocks of file systems tick every few milliseconds, some every second or
/// two; and where two clocks have given the times, because a source is on another file system or nodes stamp times themselves
/// (FUSE, Ceph, Lustre, GPFS, OCFS2, GFS2, NFS with delegated times), these differ by as much as NTP allows.
const SLACK: i64 = 1;

/// A time that a file system has given, by its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time {
    seconds: i64,
    nanoseconds: u32,
}

impl Time {
    fn of(stamp: &StatxTimestamp) -> Self {
        Self { seconds: stamp.tv_sec, nanoseconds: stamp.tv_nsec }
    }

    /// By this node's clock.
    fn now() -> Self {
        let now = clock_gettime(ClockId::Realtime);
        Self { seconds: now.tv_sec, nanoseconds: u32::try_from(now.tv_nsec).unwrap_or(0) }
    }

    fn later_by(self, seconds: i64) -> Self {
        Self { seconds: self.seconds.saturating_add(seconds), ..self }
    }

    /// Whether what has begun at this time has certainly found all of that change.
    fn is_after(self, change: Self) -> bool {
        change.later_by(SLACK) < self
    }
}

/// When an open file has last been changed, in whatever respect, as the file server has it.
pub(super) fn changed(file: &OwnedFd) -> std::result::Result<Time, Errno> {
    ask(file, c"", AtFlags::EMPTY_PATH).map(|stat| Time::of(&stat.stx_ctime))
}

/// Sets the modification time of a file, of which we are the owner.
pub(super) fn date(file: &OwnedFd, time: Time) -> std::result::Result<(), Errno> {
    retry_on_intr(|| {
        futimens(
            file,
            &Timestamps {
                last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
                last_modification: Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
            },
        )
    })
}

/// The modification time of an open file, as the file server has it.
pub(super) fn modified(file: &OwnedFd) -> std::result::Result<Time, Errno> {
    ask(file, c"", AtFlags::EMPTY_PATH).map(|stat| Time::of(&stat.stx_mtime))
}

/// What the server says of it, whatever this node has cached: one round trip where there is one.
fn ask(
    at: impl AsFd,
    path: impl rustix::path::Arg + Copy,
    flags: AtFlags,
) -> std::result::Result<Statx, Errno> {
    let flags = flags | AtFlags::STATX_FORCE_SYNC;
    retry_on_intr(|| statx(&at, path, flags, StatxFlags::BASIC_STATS))
}

/// The files that another one is made from.
#[derive(Clone, Debug, Default)]
pub struct Sources(Vec<PathBuf>);

impl Sources {
    /// Adds the file or directory with this absolute path. It need not exist.
    pub fn add(&mut self, path: PathBuf) {
        self.0.push(path);
    }

    /// Makes this node ask the file server about all of them: who opens them from now on reads what has been there at this
    /// moment, or is newer. Of a network file system one round trip for each, for every link, and for every directory on the
    /// way.
    ///
    /// # Errors
    /// When one cannot be examined, which a missing one can.
    pub fn refresh(&self) -> Result<()> {
        self.are(|_| true).map(drop)
    }

    /// Whether all changes of all of them are so; the first that is not ends the search.
    fn are(&self, so: impl Fn(Time) -> bool) -> Result<bool> {
        let mut walk = Walk::default();
        for path in &self.0 {
            let changes = walk.changes(path).map_err(|e| Error::File {
                path: text::path(path),
                cause: format!("cannot be reached: {}", reason(e)),
            })?;
            if !changes.into_iter().all(&so) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Target {
    /// Whether the file is there, and certainly newer than everything that its sources have been through. Not if there are
    /// none. Of a network file system two round trips, and those of [`Sources::refresh`] until the answer is known.
    ///
    /// # Errors
    /// When the file cannot be examined, or a source, which a missing one can.
    pub fn is_newer_than(&self, sources: &Sources) -> Result<bool> {
        if sources.0.is_empty() {
            return Ok(false);
        }
        match begun(self.place())? {
            Some(begun) => sources.are(|change| begun.is_after(change)),
            None => Ok(false),
        }
    }

    /// Makes this node ask the file server about the file: who opens it from now on reads what has been there at this moment,
    /// or is newer. Two round trips.
    pub fn refresh(&self) {
        self.place().ask_server();
        let _ = ask(self.place().dir(), self.place().name(), AtFlags::SYMLINK_NOFOLLOW);
    }
}

/// When the file was begun that is there: its modification time. `None`: there is none.
fn begun(place: &Place) -> Result<Option<Time>> {
    place.ask_server();
    let stat = match nfs::looked_up(|| ask(place.dir(), place.name(), AtFlags::SYMLINK_NOFOLLOW)) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(place.failed("cannot examine", e)),
    };
    check_type(stat.stx_mode.into()).map_err(|cause| place.error(cause))?;
    // A file server's clock is its own.
    let now = (!nfs::is_network(place.dir())).then(Time::now);
    Ok(believed(Time::of(&stat.stx_mtime), Time::of(&stat.stx_ctime), now))
}

/// A modification time, unless it is later than the last change of the file, which somebody else's clock has said, or than now,
/// when the clock has been set back: the file would seem new until then.
fn believed(modified: Time, changed: Time, now: Option<Time>) -> Option<Time> {
    let is_past = |time: Time| modified <= time.later_by(SLACK);
    (is_past(changed) && now.is_none_or(is_past)).then_some(modified)
}

/// What a path leads to, before links are followed, and when that was changed.
#[derive(Clone, Debug)]
enum Found {
    Nothing,
    Link(Time, PathBuf),
    Directory(Time),
    File(Time),
}

impl Found {
    /// [`Errno::STALE`]: it was replaced by something else meanwhile.
    fn at(path: &Path) -> std::result::Result<Self, Errno> {
        let stat = match ask(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Self::Nothing),
            Err(e) => return Err(e),
        };
        let change = Time::of(&stat.stx_ctime);
        Ok(match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::Symlink => match retry_on_intr(|| readlink(path, Vec::new())) {
                Ok(to) => Self::Link(change, OsStr::from_bytes(to.as_bytes()).into()),
                Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => return Err(Errno::STALE),
                Err(e) => return Err(e),
            },
            FileType::Directory => Self::Directory(change),
            _ => Self::File(change),
        })
    }
}

/// Goes the ways to sources, component by component: directories first, because a client remembers which names one has as long
/// as it believes that the directory is unchanged. Asks for each path once.
#[derive(Default)]
struct Walk {
    found: HashMap<PathBuf, Found>,
}

impl Walk {
    /// The changes that count for a source: of the links on the way, and of what is at its end; where that is missing, of the
    /// directory that the way comes to.
    fn changes(&mut self, source: &Path) -> std::result::Result<Vec<Time>, Errno> {
        let root = Path::new("/");
        let Found::Directory(of_root) = self.look(root)? else { return Err(Errno::NOENT) };
        let (mut at, mut directory) = (root.to_path_buf(), of_root);
        let mut changes = Vec::new();
        let mut ahead = names(source);
        while let Some(name) = ahead.pop() {
            // What is behind has no links in it.
            if name == ".." {
                at.pop();
            } else {
                at.push(name);
            }
            match self.look(&at)? {
                Found::Directory(change) => directory = change,
                Found::File(change) if ahead.is_empty() => {
                    changes.push(change);
                    return Ok(changes);
                }
                // Of a file that has the name of a directory: the names below it are as gone as that.
                Found::Nothing | Found::File(_) => break,
                Found::Link(change, to) => {
                    changes.push(change);
                    if changes.len() > MAX_LINKS {
                        return Err(Errno::LOOP);
                    }
                    at.pop();
                    if to.is_absolute() {
                        (at, directory) = (root.to_path_buf(), of_root);
                    }
                    ahead.extend(names(&to));
                }
            }
        }
        changes.push(directory);
        Ok(changes)
    }

    fn look(&mut self, path: &Path) -> std::result::Result<Found, Errno> {
        if let Some(found) = self.found.get(path) {
            return Ok(found.clone());
        }
        let found = nfs::looked_up(|| Found::at(path))?;
        self.found.insert(path.to_path_buf(), found.clone());
        Ok(found)
    }
}

/// The names that a path has, the first one last.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Thousandths of a second.
    const SECOND: i64 = 1000;

    /// What a file system's clock says that differs from the true one, and ticks now and then.
    fn stamp(now: i64, differs: i64, tick: i64) -> Time {
        let said = (now + differs).div_euclid(tick) * tick;
        let nanoseconds = u32::try_from(said.rem_euclid(SECOND)).unwrap() * 1_000_000;
        Time { seconds: said.div_euclid(SECOND), nanoseconds }
    }

    #[test]
    fn a_second_is_no_time() {
        let change = Time { seconds: 100, nanoseconds: 5 };
        assert!(!change.is_after(change));
        assert!(!change.later_by(1).is_after(change));
        assert!(Time { seconds: 101, nanoseconds: 6 }.is_after(change));
        assert!(Time { seconds: 102, nanoseconds: 0 }.is_after(change));
    }

    #[test]
    fn what_lies_in_the_future_is_not_believed() {
        let modified = Time { seconds: 100, nanoseconds: 5 };
        let [equal, near, past] = [100, 99, 98].map(|seconds| Time { seconds, ..modified });
        for known in [equal, near] {
            assert_eq!(believed(modified, known, None), Some(modified));
            assert_eq!(believed(modified, known, Some(known)), Some(modified));
        }
        assert_eq!(believed(modified, past, None), None, "somebody has dated it");
        assert_eq!(believed(modified, equal, Some(past)), None, "the clock was set back");
    }

    proptest! {
        /// However clocks tick, and differ where there are two: what a source is changed to after the build has begun, or has
        /// been written to for a while then, makes the file old.
        #[test]
        fn a_change_after_the_beginning_is_seen(
            begun in 0..5 * SECOND,
            complete in 0..3 * SECOND,
            writing in 0..50_i64,
            tick in prop_oneof![Just(1), Just(4), Just(10), Just(SECOND)],
            differs in -900..900_i64,
        ) {
            let made = stamp(begun, 0, tick);
            let stamped = begun + complete - writing;
            prop_assert!(!made.is_after(stamp(stamped, 0, tick)), "one clock");
            prop_assert!(!made.is_after(stamp(stamped, differs, tick.min(10))), "two clocks");
        }

        /// And when all is quiet for two seconds and a tick, a build is fresh.
        #[test]
        fn it_comes_to_rest(changed in 0..5 * SECOND, tick in prop_oneof![Just(1), Just(4), Just(SECOND)], differs in -900..900_i64) {
            let made = stamp(changed + 3 * SECOND, 0, tick);
            prop_assert!(made.is_after(stamp(changed, 0, tick)));
            prop_assert!(made.is_after(stamp(changed, differs, 1)));
        }
    }
}
