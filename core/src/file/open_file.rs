//! An open file: the path that it is known by, and what tells it from others.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags, readlink, statx};
use rustix::io::Errno;

use super::nfs;

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
}
