//! Whether a file that is made from others is newer than they are, as make(1) asks; by times that are one clock's, and as the
//! file server has them.
//!
//! * The file counts from its modification time, which a build sets to the moment before it has read anything (see
//!   `Options::dates_from_begin`): a source that changes during the build makes the file old.
//! * A source counts with its change time, which nobody can set: `mv`, `rsync -t` and `tar` bring old modification times, and
//!   one from the future would never come to rest. So does every symbolic link on the way to it.
//! * A source that is missing counts with the directory where the way to it ends, which its deletion has changed.
//! * Equal times are no proof: clocks of file systems tick every few milliseconds, some every second.
//! * Where two clocks may have given the times, they are taken to differ by [`SLACK`].

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

use super::target::{MAX_LINKS, Place, Target, reason};
use crate::error::{Error, Result};
use crate::file::nfs;
use crate::text;

/// Seconds by which two clocks that are kept by NTP may differ; and a file system's own that knows whole seconds alone.
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

    fn later_by(self, seconds: i64) -> Self {
        Self { seconds: self.seconds.saturating_add(seconds), ..self }
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
    fn are(&self, so: impl Fn(Change) -> bool) -> Result<bool> {
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
        match Made::look(self.place())? {
            Some(made) => sources.are(|change| made.is_after(change)),
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

/// A file system, by its number on this node.
type Device = (u32, u32);

fn device(stat: &Statx) -> Device {
    (stat.stx_dev_major, stat.stx_dev_minor)
}

/// A source, or what is on the way to it, was changed.
#[derive(Clone, Copy, Debug)]
struct Change {
    at: Time,
    device: Device,
}

/// The file that is made.
#[derive(Clone, Copy, Debug)]
struct Made {
    /// Its modification time.
    begun: Time,
    device: Device,
    /// By its file system's one clock, as everything else there.
    one_clock: bool,
}

impl Made {
    /// `None`: there is none. Nor is there one that is dated later than the last change of it: somebody else's clock has said
    /// that, and it would seem new until then.
    fn look(place: &Place) -> Result<Option<Self>> {
        place.ask_server();
        let stat = match nfs::looked_up(|| ask(place.dir(), place.name(), AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(place.failed("cannot examine", e)),
        };
        let one_clock = !nfs::has_clocks_of_nodes(place.dir());
        let begun = Time::of(&stat.stx_mtime);
        let slack = if one_clock { 0 } else { SLACK };
        if begun > Time::of(&stat.stx_ctime).later_by(slack) {
            return Ok(None);
        }
        Ok(Some(Self { begun, device: device(&stat), one_clock }))
    }

    /// Whether it was made from what that change has left.
    fn is_after(&self, change: Change) -> bool {
        let slack = if self.one_clock && change.device == self.device { 0 } else { SLACK };
        change.at.later_by(slack) < self.begun
    }
}

/// What a path leads to, before links are followed.
#[derive(Clone, Debug)]
enum Found {
    Nothing,
    Link(Change, PathBuf),
    Directory(Change),
    File(Change),
}

impl Found {
    /// [`Errno::STALE`]: it was replaced by something else meanwhile.
    fn at(path: &Path) -> std::result::Result<Self, Errno> {
        let stat = match ask(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Self::Nothing),
            Err(e) => return Err(e),
        };
        let change = Change { at: Time::of(&stat.stx_ctime), device: device(&stat) };
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
    fn changes(&mut self, source: &Path) -> std::result::Result<Vec<Change>, Errno> {
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

    const HERE: Device = (0, 1);
    const ELSEWHERE: Device = (0, 2);
    /// Thousandths of a second.
    const SECOND: i64 = 1000;

    /// What a file system's clock says that differs from the true one, and ticks now and then.
    fn stamp(now: i64, differs: i64, tick: i64) -> Time {
        let said = (now + differs).div_euclid(tick) * tick;
        let nanoseconds = u32::try_from(said.rem_euclid(SECOND)).unwrap() * 1_000_000;
        Time { seconds: said.div_euclid(SECOND), nanoseconds }
    }

    #[test]
    fn equal_times_prove_nothing() {
        let at = Time { seconds: 100, nanoseconds: 5 };
        let made = Made { begun: at, device: HERE, one_clock: true };
        assert!(!made.is_after(Change { at, device: HERE }));
        assert!(made.is_after(Change { at: Time { nanoseconds: 4, ..at }, device: HERE }));
        assert!(made.is_after(Change { at: Time { seconds: 99, nanoseconds: 999 }, device: HERE }));
    }

    #[test]
    fn between_two_clocks_a_second_is_none() {
        let begun = Time { seconds: 100, nanoseconds: 5 };
        for (device, one_clock) in [(ELSEWHERE, true), (HERE, false)] {
            let made = Made { begun, device: HERE, one_clock };
            assert!(!made.is_after(Change { at: Time { seconds: 99, nanoseconds: 5 }, device }));
            assert!(made.is_after(Change { at: Time { seconds: 99, nanoseconds: 4 }, device }));
        }
    }

    proptest! {
        /// However clocks tick, and differ by less than a second where there are two: who changes a source after the build
        /// has begun makes the file old.
        #[test]
        fn a_change_after_the_beginning_is_seen(
            begun in 0..5 * SECOND,
            later in 0..3 * SECOND,
            tick in prop_oneof![Just(1), Just(4), Just(10), Just(SECOND)],
            other in (prop_oneof![Just(1_i64), Just(4), Just(100)], -900..900_i64),
        ) {
            let made = Made { begun: stamp(begun, 0, tick), device: HERE, one_clock: true };
            let here = Change { at: stamp(begun + later, 0, tick), device: HERE };
            prop_assert!(!made.is_after(here));
            let (tick, differs) = other;
            let there = Change { at: stamp(begun + later, differs, tick), device: ELSEWHERE };
            prop_assert!(!made.is_after(there));
            let (made, of_a_node) = (Made { one_clock: false, ..made }, Change { device: HERE, ..there });
            prop_assert!(!made.is_after(of_a_node));
        }

        /// And when all is quiet for two seconds and a tick, a build is fresh.
        #[test]
        fn it_comes_to_rest(changed in 0..5 * SECOND, tick in prop_oneof![Just(1), Just(4), Just(SECOND)], differs in -900..900_i64) {
            let made = Made { begun: stamp(changed + 3 * SECOND, 0, tick), device: HERE, one_clock: true };
            let here = Change { at: stamp(changed, 0, tick), device: HERE };
            prop_assert!(made.is_after(here));
            let there = Change { at: stamp(changed, differs, 1), device: ELSEWHERE };
            prop_assert!(made.is_after(there));
        }
    }
}
