//! What a lock on an open file needs besides the lock: the name that all nodes know the file by,
//! whether it is to be intercepted, and the kernel's own lock.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use glob::Pattern;
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Statx, StatxFlags, flock, readlink, statx};
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Error, Result};
use crate::file::nfs;
use crate::key::as_written_and_real;
use crate::report::Mode;
use crate::text;

/// How a try for the kernel's lock ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelLock {
    /// Held.
    Held,
    /// Another open file has it.
    Taken,
    /// The file is open for reading only and the lock exclusive, or for writing only and shared: NFS
    /// gives none then, where a local file system would.
    NotOpenForIt,
}

/// Tries the kernel's lock, as flock(2). A lock held already is converted.
///
/// # Errors
/// The kernel's.
pub fn try_kernel_lock(file: impl AsFd, mode: Mode) -> std::result::Result<KernelLock, Errno> {
    let operation = match mode {
        Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        Mode::Shared => FlockOperation::NonBlockingLockShared,
    };
    match retry_on_intr(|| flock(&file, operation)) {
        Ok(()) => Ok(KernelLock::Held),
        Err(Errno::WOULDBLOCK) => Ok(KernelLock::Taken),
        Err(Errno::BADF) => Ok(KernelLock::NotOpenForIt),
        Err(e) => Err(e),
    }
}

/// Gives the kernel's lock back.
///
/// # Errors
/// The kernel's.
pub fn kernel_unlock(file: impl AsFd) -> std::result::Result<(), Errno> {
    retry_on_intr(|| flock(&file, FlockOperation::Unlock))
}

/// What tells the kernel two files of this node apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    device: (u32, u32),
    number: u64,
}

impl From<Statx> for Inode {
    fn from(found: Statx) -> Self {
        Self { device: (found.stx_dev_major, found.stx_dev_minor), number: found.stx_ino }
    }
}

/// A regular file that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// Its absolute path, symbolic links followed.
    pub path: PathBuf,
    /// `None`: an NFS client has opened what it remembered under this path, and the server has deleted
    /// or replaced that file. Nothing can be read or written by this handle, though flock(2) may still
    /// say yes to it (measured on `NFSv4.1`).
    pub inode: Option<Inode>,
}

impl OpenFile {
    /// What is known of an open file, without asking its server; `None` when it is not a regular file.
    ///
    /// `typed` is what it was opened by, and only a last resort: it may be relative to a directory that
    /// has been left, or lead somewhere else by now.
    pub fn of(file: impl AsFd, typed: &Path) -> Option<Self> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let wanted = StatxFlags::TYPE | StatxFlags::NLINK | StatxFlags::INO;
        let known = match statx(&file, c"", flags, wanted) {
            Ok(known) if FileType::from_raw_mode(known.stx_mode.into()) != FileType::RegularFile => {
                return None;
            }
            Ok(known) => Some(known),
            Err(Errno::STALE) => None,
            Err(_) => return None,
        };
        let inode = known.map(Inode::from);
        let link = readlink(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()), Vec::new());
        let Ok(link) = link else { return Some(Self { path: resolve(typed)?, inode }) };
        let mut path = link.into_bytes();
        // The kernel's mark of an unlinked file, or of one that was replaced: those who open the path now
        // lock it by its name. It may be part of a name, too.
        if let Some(unlinked) = path.strip_suffix(b" (deleted)")
            && (known.is_none_or(|known| known.stx_nlink == 0) || !is_at(&path, inode))
        {
            path = unlinked.to_vec();
        }
        let mut path = PathBuf::from(OsString::from_vec(path));
        if is_silly_name(&path) && nfs::is_network(&file) {
            path = resolve(typed).unwrap_or(path);
        }
        path.is_absolute().then_some(Self { path, inode })
    }
}

fn is_at(path: &[u8], inode: Option<Inode>) -> bool {
    statx(CWD, path, AtFlags::empty(), StatxFlags::INO).is_ok_and(|found| Some(Inode::from(found)) == inode)
}

/// `.nfs0000…`: what an NFS client renames a file to that is unlinked or replaced while it is open.
fn is_silly_name(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".nfs"))
}

/// The path of a URL that PHP takes for one of a local file.
fn without_scheme(typed: &[u8]) -> &[u8] {
    let schemes = [b"file://localhost".as_slice(), b"file://"];
    let path_behind = |scheme: &[u8]| {
        let (start, path) = typed.split_at_checked(scheme.len())?;
        (start.eq_ignore_ascii_case(scheme) && path.starts_with(b"/")).then_some(path)
    };
    schemes.into_iter().find_map(path_behind).unwrap_or(typed)
}

/// The path in its directory's real one; the file itself need not exist.
fn resolve(typed: &Path) -> Option<PathBuf> {
    let typed = Path::new(OsStr::from_bytes(without_scheme(typed.as_os_str().as_bytes())));
    if typed.as_os_str().as_bytes().windows(3).any(|part| part == b"://") {
        return None;
    }
    if let Ok(real) = std::fs::canonicalize(typed) {
        return Some(real);
    }
    let parent = typed.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(std::fs::canonicalize(parent).ok()?.join(typed.file_name()?))
}

/// What stands behind a lock on an open file (`cluster_lock.flock_mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlockMode {
    /// The cluster lock, and then the kernel's, for which nobody else waits by now.
    #[default]
    Gate,
    /// The cluster lock alone.
    Replace,
}

impl FlockMode {
    /// As php.ini says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Replace => "replace",
        }
    }
}

/// Which files' locks are intercepted (`cluster_lock.intercept`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intercept {
    network: bool,
    prefixes: Vec<PathBuf>,
}

impl Intercept {
    /// Parses absolute path prefixes, and `@network`, separated by `:`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the entry that is neither.
    pub fn parse(text: &str) -> Result<Self> {
        let mut rules = Self::default();
        for entry in text.split(':').map(str::trim).filter(|entry| !entry.is_empty()) {
            match entry {
                "@network" => rules.network = true,
                path if path.starts_with('/') => rules.prefixes.push(path.into()),
                other => {
                    return Err(Error::Invalid(format!(
                        "\"{}\" is neither an absolute path nor @network",
                        text::said(other)
                    )));
                }
            }
        }
        Ok(rules)
    }

    /// Whether there is nothing to intercept.
    pub fn is_empty(&self) -> bool {
        !self.network && self.prefixes.is_empty()
    }

    /// The same rules, and also the places that symbolic links in the prefixes lead to now: open
    /// files are known by their real paths.
    #[must_use]
    pub fn resolved(&self) -> Self {
        let prefixes = self.prefixes.iter().flat_map(|prefix| as_written_and_real(prefix)).collect();
        Self { network: self.network, prefixes }
    }

    /// Whether a file is meant, by its real path.
    pub fn matches(&self, path: &Path, file: impl AsFd) -> bool {
        self.prefixes.iter().any(|prefix| path.starts_with(prefix)) || (self.network && nfs::is_network(file))
    }
}

/// Files that are never intercepted (`cluster_lock.intercept_exclude`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclude(Vec<Pattern>);

impl Exclude {
    /// Parses globs, separated by `:`. One without a slash is for file names, one with a slash for
    /// whole paths, where `*` stays within a directory and `**` does not.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the entry that is no glob.
    pub fn parse(text: &str) -> Result<Self> {
        let globs = text.split(':').map(str::trim).filter(|glob| !glob.is_empty());
        let parse = |glob: &str| {
            Pattern::new(glob)
                .map_err(|e| Error::Invalid(format!("\"{}\" is no glob: {}", text::said(glob), e.msg)))
        };
        globs.map(parse).collect::<Result<_>>().map(Self)
    }

    /// Whether a file is excluded, by its real path.
    pub fn matches(&self, path: &Path) -> bool {
        let within = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
        let whole = path.to_string_lossy();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.0.iter().any(|glob| {
            let text = if glob.as_str().contains('/') { &whole } else { &name };
            glob.matches_with(text, within)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    fn path(file: &File) -> PathBuf {
        OpenFile::of(file, Path::new("")).unwrap().path
    }

    #[test]
    fn a_file_is_known_by_its_real_path() {
        let dir = tempfile::tempdir().unwrap();
        let dir = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir(dir.join("real")).unwrap();
        symlink(dir.join("real"), dir.join("link")).unwrap();
        fs::write(dir.join("real/f"), "").unwrap();
        symlink("real/f", dir.join("f")).unwrap();
        assert_eq!(path(&File::open(dir.join("link/../f")).unwrap()), dir.join("real/f"));
    }

    #[test]
    fn a_file_that_is_gone_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let name = fs::canonicalize(dir.path()).unwrap().join("f");
        let unlinked = File::create(&name).unwrap();
        fs::remove_file(&name).unwrap();
        assert_eq!(path(&unlinked), name);
        let replaced = File::create(&name).unwrap();
        fs::write(name.with_extension("new"), "").unwrap();
        fs::rename(name.with_extension("new"), &name).unwrap();
        assert_eq!(path(&replaced), name);
    }

    #[test]
    fn the_kernels_mark_may_be_part_of_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let name = fs::canonicalize(dir.path()).unwrap().join("f (deleted)");
        let file = File::create(&name).unwrap();
        assert_eq!(path(&file), name);
        fs::remove_file(&name).unwrap();
        assert_eq!(path(&file), name);
    }

    #[test]
    fn only_regular_files_have_a_path() {
        assert_eq!(OpenFile::of(File::open("/dev/null").unwrap(), Path::new("/dev/null")), None);
        assert_eq!(OpenFile::of(File::open("/").unwrap(), Path::new("/")), None);
    }

    #[test]
    fn what_was_typed_is_resolved() {
        let dir = tempfile::tempdir().unwrap();
        let dir = fs::canonicalize(dir.path()).unwrap();
        symlink(&dir, dir.join("link")).unwrap();
        let gone = dir.join("link/gone");
        assert_eq!(resolve(&gone), Some(dir.join("gone")));
        for scheme in ["file://", "FILE://", "file://localhost"] {
            assert_eq!(resolve(Path::new(&format!("{scheme}{}", gone.display()))), Some(dir.join("gone")));
        }
        assert_eq!(resolve(Path::new(&format!("file://elsewhere{}", gone.display()))), None);
        assert_eq!(resolve(Path::new("php://fd/4")), None);
    }

    #[test]
    fn kernel_locks_exclude_and_convert() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (a, b) = (file.reopen().unwrap(), file.reopen().unwrap());
        assert_eq!(try_kernel_lock(&a, Mode::Shared), Ok(KernelLock::Held));
        assert_eq!(try_kernel_lock(&b, Mode::Shared), Ok(KernelLock::Held));
        assert_eq!(try_kernel_lock(&a, Mode::Exclusive), Ok(KernelLock::Taken));
        kernel_unlock(&b).unwrap();
        assert_eq!(try_kernel_lock(&a, Mode::Exclusive), Ok(KernelLock::Held));
        assert_eq!(try_kernel_lock(&b, Mode::Shared), Ok(KernelLock::Taken));
    }

    #[test]
    fn prefixes_are_whole_components_and_follow_links() {
        let dir = tempfile::tempdir().unwrap();
        let dir = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir(dir.join("real")).unwrap();
        symlink("real", dir.join("link")).unwrap();
        let file = tempfile::tempfile().unwrap();
        let rules = Intercept::parse(&format!("/a/b: {}/link/ :", dir.display())).unwrap();
        assert!(rules.matches(Path::new("/a/b/c"), &file));
        assert!(!rules.matches(Path::new("/a/bc"), &file));
        assert!(!rules.matches(&dir.join("real/f"), &file));
        assert!(rules.resolved().matches(&dir.join("real/f"), &file));
        assert!(!Intercept::parse("@network").unwrap().resolved().matches(&dir, &file));
        assert!(Intercept::parse("@network").is_ok_and(|rules| !rules.is_empty()));
        assert!(Intercept::parse(" : ").unwrap().is_empty());
        assert!(Intercept::parse("relative").is_err());
    }

    #[test]
    fn globs_are_for_names_or_whole_paths() {
        let globs = Exclude::parse("*.log:/srv/*/cache/**").unwrap();
        assert!(globs.matches(Path::new("/a/b.log")));
        assert!(!globs.matches(Path::new("/a.log/b")));
        assert!(!globs.matches(Path::new("/a/b.LOG")));
        assert!(globs.matches(Path::new("/srv/x/cache/y/z")));
        assert!(!globs.matches(Path::new("/srv/x/y/cache/z")));
        assert!(!Exclude::parse("").unwrap().matches(Path::new("/a")));
        assert!(Exclude::parse("[a").is_err());
    }
}
