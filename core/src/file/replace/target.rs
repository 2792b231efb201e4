//! Where a write goes.
//!
//! Whoever may write to a directory on the way can swap what stands in it, at any moment. So what is
//! checked is what has been opened, never a path: the kernel opens the directory in one step and then
//! tells where it is, a link is read through the descriptor that its owner was read from, and all that
//! follows is relative to the open directory.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt::Display;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, RawMode, Stat, StatxAttributes, StatxFlags, accessat,
    fstat, openat, readlink, readlinkat, statat, statx,
};
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Error, Result};
use crate::file::nfs;
use crate::text;

/// As many links as the kernel follows.
pub(super) const MAX_LINKS: usize = 40;

/// What becomes of the old content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is replaced.
    Replace,
    /// It is copied, and what is written follows it.
    Append,
}

/// The file a path leads to: symlinks followed, its directory open. The file need not exist.
#[derive(Clone, Debug)]
pub struct Target(Arc<Place>);

impl Target {
    /// Follows `path` to the regular file it names, or would name: a dangling symlink leads to
    /// the file that `fopen` would create. A relative path starts at the working directory of the
    /// process.
    ///
    /// # Errors
    /// When the directory does not exist or cannot be reached, when links go in circles, and when
    /// the path leads to something that must not be replaced: a directory, a device, a FIFO, a
    /// socket. Nor is a link followed that somebody else has put into a directory that everybody may
    /// write to: `fs.protected_symlinks`, also where the kernel has it switched off.
    pub fn resolve(path: &Path) -> Result<Self> {
        let error = |cause| Error::File { path: text::path(path), cause };
        if path.as_os_str().is_empty() {
            return Err(error("the path is empty".into()));
        }
        // The kernel first, for all that it knows better: links that only look like paths
        // (/proc/self/fd/1), loops.
        match nfs::looked_up(|| statat(CWD, path, AtFlags::empty())) {
            Ok(stat) => check_type(stat.st_mode).map_err(error)?,
            Err(Errno::NOENT) => {}
            Err(e) => return Err(error(format!("cannot be reached: {}", reason(e)))),
        }
        let mut place = Place::open(None, path).map_err(error)?;
        for _ in 0..=MAX_LINKS {
            match place.link().map_err(error)? {
                Some(link) => place = Place::open(Some(&place), &link).map_err(error)?,
                None => return Ok(Self(Arc::new(place))),
            }
        }
        Err(error(format!("cannot be reached: {}", reason(Errno::LOOP))))
    }

    /// The absolute path of the file itself, without symlinks: what a lock is named after, and what
    /// `open_basedir` is to be asked about.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    pub(super) fn place(&self) -> &Arc<Place> {
        &self.0
    }
}

/// An open directory and a name in it.
#[derive(Debug)]
pub(super) struct Place {
    dir: OwnedFd,
    dir_path: PathBuf,
    name: CString,
    path: PathBuf,
}

impl Place {
    /// Opens the directory of `path`, which is relative to that of `from`, or to the working directory.
    /// The error is the cause in words.
    fn open(from: Option<&Self>, path: &Path) -> std::result::Result<Self, String> {
        let bytes = path.as_os_str().as_bytes();
        let (parent, name) = match bytes.iter().rposition(|&b| b == b'/') {
            Some(slash) => bytes.split_at(slash + 1),
            None => (b".".as_slice(), bytes),
        };
        if matches!(name, b"" | b"." | b"..") {
            return Err("is a directory".into());
        }
        let parent = Path::new(OsStr::from_bytes(parent));
        let unreachable =
            |e: Errno| format!("its directory {} cannot be reached: {}", text::path(parent), reason(e));
        let at = from.map_or(CWD, |from| from.dir.as_fd());
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = match openat(at, parent, flags | OFlags::RDONLY, Mode::empty()) {
            // Files can be made in a directory that may not be listed; only syncing it needs that.
            Err(Errno::ACCESS) => openat(at, parent, flags | OFlags::PATH, Mode::empty()),
            outcome => outcome,
        };
        let dir = dir.map_err(unreachable)?;
        let dir_path = path_of(&dir)
            .or_else(|_| {
                path_without_proc(&dir, &from.map_or(parent.into(), |from| from.dir_path.join(parent)))
            })
            .map_err(unreachable)?;
        Ok(Self {
            dir,
            path: dir_path.join(OsStr::from_bytes(name)),
            dir_path,
            name: CString::new(name).map_err(|_| "the path contains a NUL byte")?,
        })
    }

    pub(super) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    pub(super) fn dir_path(&self) -> &Path {
        &self.dir_path
    }

    pub(super) fn name(&self) -> &CStr {
        &self.name
    }

    /// Where the link under this name leads; `None` when there is no link. The error is the cause in
    /// words: something that is not to be replaced, or followed.
    fn link(&self) -> std::result::Result<Option<PathBuf>, String> {
        let unreachable = |e| format!("cannot be reached: {}", reason(e));
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || self.coherently(|| openat(&self.dir, &self.name, flags, Mode::empty()));
        let (found, link) =
            match nfs::looked_up(|| open().and_then(|file| fstat(&file).map(|stat| (file, stat)))) {
                Err(Errno::NOENT) => return Ok(None),
                outcome => outcome.map_err(unreachable)?,
            };
        if FileType::from_raw_mode(link.st_mode) != FileType::Symlink {
            return check_type(link.st_mode).map(|()| None);
        }
        if !may_follow(&link, &fstat(&self.dir).map_err(unreachable)?) {
            return Err("is a symbolic link that another user has put into a directory that everybody may \
                        write to, so it is not followed"
                .into());
        }
        let leads_to = readlinkat(&found, c"", Vec::new()).map_err(unreachable)?;
        Ok(Some(OsString::from_vec(leads_to.into_bytes()).into()))
    }

    /// Does a look-up that may say "no such file", and believes that only after asking the server:
    /// an NFS client remembers that a file did not exist for many seconds after another node
    /// made it. Appending would then throw that node's file away: on `NFSv4`, with the file made
    /// while this node waited for the lock, 5 times of 5.
    fn coherently<T>(
        &self,
        look_up: impl Fn() -> std::result::Result<T, Errno>,
    ) -> std::result::Result<T, Errno> {
        match look_up() {
            Err(Errno::NOENT) => {
                self.ask_server();
                look_up()
            }
            outcome => outcome,
        }
    }

    /// Refreshes what this node knows of the directory. With it the names in it: where another node
    /// has replaced a file, an NFS client may for seconds open the old one (measured on `NFSv4.1` with
    /// two nodes that append in turn under a lock: a quarter of all appends went to a file that was
    /// replaced already).
    pub(super) fn ask_server(&self) {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
        let _ = statx(&self.dir, c"", flags, StatxFlags::BASIC_STATS);
    }

    /// Opens the file that is to be replaced, once, for its metadata and content; `None` when
    /// there is none. Refuses what plain writing would refuse, though a rename would do it.
    pub(super) fn open_existing(&self, how: Existing) -> Result<Option<OwnedFd>> {
        if nfs::is_network(&self.dir) {
            self.ask_server();
        }
        match nfs::looked_up(|| statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW)) {
            Ok(stat) => check_type(stat.st_mode).map_err(|cause| self.error(cause))?,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(self.failed("cannot examine the existing file", e)),
        }
        match nfs::looked_up(|| accessat(&self.dir, &self.name, Access::WRITE_OK, AtFlags::EACCESS)) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(self.failed("the existing file is not writable", e)),
        }
        // Non-blocking: should it have become a FIFO this instant, the type check below says so.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let open = |access| {
            nfs::looked_up(|| retry_on_intr(|| openat(&self.dir, &self.name, flags | access, Mode::empty())))
        };
        let opened = match (open(OFlags::RDONLY), how) {
            // Write-only files can be replaced, not copied.
            (Err(Errno::ACCESS), Existing::Replace) => open(OFlags::WRONLY),
            (outcome, _) => outcome,
        };
        let old = match opened {
            Ok(old) => old,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(self.failed("cannot open the existing file", e)),
        };
        let stat = fstat(&old).map_err(|e| self.failed("cannot examine the existing file", e))?;
        check_type(stat.st_mode).map_err(|cause| self.error(cause))?;
        Ok(Some(old))
    }

    /// Whether something is mounted over this very file; also when the kernel cannot tell (before Linux 5.8).
    pub(super) fn may_be_mount_point(&self) -> bool {
        let root = StatxAttributes::MOUNT_ROOT;
        statx(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()).map_or(true, |found| {
            found.stx_attributes.contains(root) || !found.stx_attributes_mask.contains(root)
        })
    }

    /// Syncs the directory; what went wrong, in words.
    pub(super) fn sync(&self) -> Option<String> {
        match retry_on_intr(|| rustix::fs::fsync(&self.dir)) {
            // INVAL, NOSYS, NOTSUP: this file system has no such thing, nothing more can be done.
            Ok(()) | Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => None,
            Err(e) => {
                let why = match e {
                    Errno::BADF => "it may not be opened for reading".into(),
                    e => reason(e),
                };
                Some(format!(
                    "the new file is in place, but its directory {} could not be synced: {why}; \
                     a power failure now could bring the old file back",
                    text::path(&self.dir_path)
                ))
            }
        }
    }

    pub(super) fn error(&self, cause: String) -> Error {
        Error::File { path: text::path(&self.path), cause }
    }

    pub(super) fn failed(&self, step: impl Display, errno: Errno) -> Error {
        self.error(format!("{step}: {}", reason(errno)))
    }
}

/// Where an open directory is, as /proc tells.
fn path_of(dir: &OwnedFd) -> std::result::Result<PathBuf, Errno> {
    let link = readlink(format!("/proc/self/fd/{}", dir.as_raw_fd()), Vec::new())?;
    let path = PathBuf::from(OsString::from_vec(link.into_bytes()));
    // A directory that this process cannot reach by any path has something else there.
    if path.is_absolute() { Ok(path) } else { Err(Errno::NOENT) }
}

/// Where an open directory is, without /proc, as in a chroot: where `opened_by` leads to, if it still leads
/// to this directory.
fn path_without_proc(dir: &OwnedFd, opened_by: &Path) -> std::result::Result<PathBuf, Errno> {
    let path = std::fs::canonicalize(opened_by).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    let (opened, there) = (fstat(dir)?, statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW)?);
    let same = (opened.st_dev, opened.st_ino) == (there.st_dev, there.st_ino);
    if same { Ok(path) } else { Err(Errno::NOENT) }
}

/// What `fs.protected_symlinks` says.
fn may_follow(link: &Stat, dir: &Stat) -> bool {
    const SHARED: u32 = 0o1002; // sticky, and writable for everybody
    dir.st_mode & SHARED != SHARED
        || link.st_uid == rustix::process::geteuid().as_raw()
        || link.st_uid == dir.st_uid
}

/// Only regular files are replaced: a device turned into a file would be a disaster.
pub(super) fn check_type(mode: RawMode) -> std::result::Result<(), String> {
    let what = match FileType::from_raw_mode(mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => return Err("is a directory".into()),
        FileType::Symlink => return Err("has become a symbolic link meanwhile".into()),
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "a special file",
    };
    Err(format!("is {what}: only a regular file can be replaced"))
}

/// An operating system error in words, without its number.
pub(super) fn reason(errno: Errno) -> String {
    text::os_error(&errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn without_proc_a_directory_is_known_by_the_path_that_opened_it_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| fs::canonicalize(dir.path()).unwrap().join(name);
        fs::create_dir(at("real")).unwrap();
        fs::create_dir(at("other")).unwrap();
        std::os::unix::fs::symlink("real", at("link")).unwrap();
        let open = OwnedFd::from(File::open(at("link")).unwrap());
        assert_eq!(path_of(&open), Ok(at("real")));
        assert_eq!(path_without_proc(&open, &at("link")), Ok(at("real")));
        fs::remove_file(at("link")).unwrap();
        std::os::unix::fs::symlink("other", at("link")).unwrap();
        assert_eq!(path_without_proc(&open, &at("link")), Err(Errno::NOENT));
        assert_eq!(path_of(&open), Ok(at("real")));
    }
}
