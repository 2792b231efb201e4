//! Atomic replacement: what lands where, and what readers see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod replace_support;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use cluster_lock_core::Error;
use cluster_lock_core::replace::{Existing, Replacement, Target};
use replace_support::*;

#[test]
#[ignore = "run by the tests as another process"]
fn helper() {
    help();
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn content_is_replaced_and_descriptors_of_the_old_file_keep_reading_it() {
    let dir = dir();
    let path = dir.path().join("a");
    assert!(replace(&path, b"one").unwrap().durability_warning.is_none());
    let mut old = File::open(&path).unwrap();
    replace(&path, b"second").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
    let mut content = String::new();
    old.read_to_string(&mut content).unwrap();
    assert_eq!(content, "one");
    assert!(temps(dir.path()).is_empty());
}

#[test]
fn several_writes_and_none() {
    let dir = dir();
    let path = dir.path().join("a");
    let target = Target::resolve(&path).unwrap();
    let mut new = Replacement::begin(&target, Existing::Replace, &FAST).unwrap();
    for part in [b"ab".as_slice(), b"", b"c"] {
        new.write(part).unwrap();
    }
    new.commit(|| Ok(())).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"abc");
    Replacement::begin(&target, Existing::Replace, &FAST).unwrap().commit(|| Ok(())).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn append_follows_the_old_content() {
    let dir = dir();
    let path = dir.path().join("a");
    put(&path, Existing::Append, b"one").unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    let old = File::open(&path).unwrap();
    put(&path, Existing::Append, b" two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"one two");
    assert_ne!(fs::metadata(&path).unwrap().ino(), inode, "appended in place");
    drop(old);

    let large = vec![b'x'; 3_000_000];
    replace(&path, &large).unwrap();
    put(&path, Existing::Append, b"end").unwrap();
    assert_eq!(fs::read(&path).unwrap(), [&large, b"end".as_slice()].concat());
}

#[test]
fn until_verified_nothing_is_visible_and_then_everything_is_ready() {
    let dir = dir();
    let path = dir.path().join("a");
    fs::write(&path, "old").unwrap();
    chmod(&path, 0o640);
    let target = Target::resolve(&path).unwrap();
    let mut new = Replacement::begin(&target, Existing::Replace, &DURABLE).unwrap();
    new.write(b"new").unwrap();
    new.commit(|| {
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let temps = temps(dir.path());
        assert_eq!(fs::read(&temps[0]).unwrap(), b"new");
        assert_eq!(mode(&temps[0]), 0o640);
        Ok(())
    })
    .unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn a_failed_verification_leaves_the_old_file_and_no_other() {
    let dir = dir();
    let path = dir.path().join("a");
    fs::write(&path, "old").unwrap();
    let target = Target::resolve(&path).unwrap();
    let mut new = Replacement::begin(&target, Existing::Replace, &DURABLE).unwrap();
    new.write(b"new").unwrap();
    let error = new.commit(|| Err(Error::Invalid("lost".into()))).unwrap_err();
    assert_eq!(error.to_string(), "lost");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn dropping_aborts() {
    let dir = dir();
    let path = dir.path().join("a");
    let target = Target::resolve(&path).unwrap();
    let mut new = Replacement::begin(&target, Existing::Replace, &FAST).unwrap();
    new.write(b"new").unwrap();
    assert_eq!(temps(dir.path()).len(), 1);
    drop(new);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn symlinks_are_followed_and_stay() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("real")).unwrap();
    fs::write(at("real/file"), "old").unwrap();
    symlink("real", at("linked")).unwrap();
    symlink("../linked/file", at("real/second")).unwrap();
    symlink(at("linked/second"), at("first")).unwrap();

    let target = Target::resolve(&at("first")).unwrap();
    assert_eq!(target.path(), at("real/file").canonicalize().unwrap());
    replace(&at("first"), b"new").unwrap();
    assert_eq!(fs::read(at("real/file")).unwrap(), b"new");
    assert!(at("first").is_symlink() && at("real/second").is_symlink());
    assert!(!at("real/file").is_symlink());
}

#[test]
fn a_dangling_symlink_leads_to_the_file_it_promises() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    symlink("second", at("first")).unwrap();
    symlink("file", at("second")).unwrap();
    replace(&at("first"), b"new").unwrap();
    assert_eq!(fs::read(at("file")).unwrap(), b"new");
    assert!(at("first").is_symlink() && at("second").is_symlink());

    symlink("missing/file", at("lost")).unwrap();
    let cause = cause(replace(&at("lost"), b"new"));
    assert!(cause.contains("missing") && cause.contains("No such file"), "{cause}");
}

#[test]
fn a_loop_is_an_error() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    symlink("b", at("a")).unwrap();
    symlink("a", at("b")).unwrap();
    let cause = cause(Target::resolve(&at("a")));
    // In the words of this machine's C library.
    let words = std::io::Error::from(rustix::io::Errno::LOOP).to_string();
    assert!(cause.contains(words.split(" (os").next().unwrap()), "{cause}");
}

#[test]
fn a_link_that_the_kernel_would_not_follow_is_not_followed() {
    let sysctl = fs::read_to_string("/proc/sys/fs/protected_symlinks").unwrap_or_default();
    if !is_root() || sysctl.trim() != "1" {
        eprintln!("skipped: needs root and fs.protected_symlinks = 1");
        return;
    }
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    chmod(dir.path(), 0o1777);
    for name in ["existing", "dangling"] {
        symlink(at(&format!("{name}-file")), at(name)).unwrap();
        std::os::unix::fs::lchown(at(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    fs::write(at("existing-file"), "old").unwrap();
    for name in ["existing", "dangling"] {
        let cause = cause(replace(&at(name), b"new"));
        assert!(cause.contains("Permission denied"), "{name}: {cause}");
    }
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), fifo, 0o600.into(), 0).unwrap();
    symlink("fifo", at("link")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    fs::create_dir(at("dir")).unwrap();
    let (pipe, _other_end) = std::io::pipe().unwrap();
    let descriptor = format!("/proc/self/fd/{}", pipe.as_raw_fd());

    let refusal = |path: &Path| cause(Target::resolve(path));
    assert!(refusal(&at("fifo")).contains("a FIFO"));
    assert!(refusal(&at("link")).contains("a FIFO"));
    assert!(refusal(Path::new(&descriptor)).contains("a FIFO"));
    assert!(refusal(&at("socket")).contains("a socket"));
    assert!(refusal(Path::new("/dev/null")).contains("a device"));
    for path in ["dir", "dir/", "dir/.", "dir/..", "new/", "new/."] {
        let cause = refusal(&at(path));
        assert_eq!(cause, "is a directory", "{path}");
    }
    assert_eq!(refusal(Path::new("/")), "is a directory");
    assert!(refusal(Path::new("")).contains("empty"));
    assert!(refusal(&at("missing/file")).contains("No such file"));
}

#[test]
fn what_becomes_something_else_after_resolving_is_refused() {
    let dir = dir();
    let path = dir.path().join("a");
    let target = Target::resolve(&path).unwrap();
    let begin = || Replacement::begin(&target, Existing::Replace, &FAST);
    let new = begin().unwrap();
    fs::create_dir(&path).unwrap();
    let late = cause(new.commit(|| Ok(())));
    assert!(late.contains("rename") && late.contains("directory"), "{late}");
    assert!(cause(begin()).contains("is a directory"));
    fs::remove_dir(&path).unwrap();
    symlink("/dev/null", &path).unwrap();
    assert_eq!(cause(begin()), "has become a symbolic link meanwhile");
    assert!(temps(dir.path()).is_empty());
}

#[test]
fn a_directory_renamed_meanwhile_does_no_harm() {
    let dir = dir();
    let (before, after) = (dir.path().join("before"), dir.path().join("after"));
    fs::create_dir(&before).unwrap();
    let target = Target::resolve(&before.join("a")).unwrap();
    let mut new = Replacement::begin(&target, Existing::Replace, &DURABLE).unwrap();
    new.write(b"new").unwrap();
    fs::rename(&before, &after).unwrap();
    new.commit(|| Ok(())).unwrap();
    assert_eq!(fs::read(after.join("a")).unwrap(), b"new");
}

#[test]
fn names_may_be_long_and_need_not_be_utf_8() {
    let dir = dir();
    let long = "n".repeat(255);
    for name in [long.as_bytes(), b"caf\xe9\xff", "ü".repeat(127).as_bytes(), b"-", b"a b\nc"] {
        let path = dir.path().join(OsStr::from_bytes(name));
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }
    let cause = cause(replace(&dir.path().join("n".repeat(256)), b"x"));
    assert!(cause.contains("too long"), "{cause}");
}

#[test]
fn a_relative_path_starts_at_the_working_directory() {
    let target = Target::resolve(Path::new("surely-missing")).unwrap();
    assert_eq!(target.path(), std::env::current_dir().unwrap().join("surely-missing"));
}

#[test]
fn a_full_disk_leaves_the_old_file_and_no_other() {
    let dir = dir();
    let mount = |program: &str, options: &[&str]| {
        let mut command = Command::new(program);
        command.args(options).arg(dir.path());
        command.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if !mount("mount", &["-t", "tmpfs", "-o", "size=256k", "none"]) {
        eprintln!("skipped: may not mount a tmpfs");
        return;
    }
    let path = dir.path().join("a");
    fs::write(&path, "old").unwrap();
    let too_much = cause(replace(&path, &vec![b'x'; 1 << 20]));
    fs::write(&path, vec![b'x'; 200_000]).unwrap();
    let no_room_for_a_copy = cause(put(&path, Existing::Append, b"x"));
    let size = fs::metadata(&path).unwrap().len();
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert!(mount("umount", &[]));
    assert_eq!(too_much, "cannot write: No space left on device");
    assert_eq!(no_room_for_a_copy, "cannot write the copy of the old content: No space left on device");
    assert_eq!((size, left), (200_000, 1));
}

/// Does one write to a file that is mounted by itself, as containers have them, in a mount namespace of its
/// own; what came of it. `None`, and why, where there is no such namespace to be had.
fn write_to_mounted(job: &str, source: &Path, file: &Path) -> Option<String> {
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "--propagation", "private", "sh", "-ec", script, "sh"]);
        command.args([source, file, &std::env::current_exe().unwrap()]).env("JOB", job).env("FILE", file);
        command.output()
    };
    match unshare(r#"mount --bind "$1" "$2""#) {
        Ok(tried) if tried.status.success() => {}
        Ok(tried) => {
            eprintln!("skipped: no mount can be made: {}", String::from_utf8_lossy(&tried.stderr));
            return None;
        }
        Err(e) => {
            eprintln!("skipped: no unshare: {e}");
            return None;
        }
    }
    let done = unshare(r#"mount --bind "$1" "$2"; exec "$3" --exact helper --ignored --nocapture"#).unwrap();
    let output = String::from_utf8(done.stdout).unwrap();
    Some(output.split_once("says: ").unwrap().1.lines().next().unwrap().to_owned())
}

#[test]
fn a_file_that_is_mounted_by_itself_is_refused_in_words_and_untouched() {
    let dir = dir();
    let (source, inside) = (dir.path().join("source"), dir.path().join("inside"));
    fs::create_dir(&inside).unwrap();
    let file = inside.join(".htaccess");
    fs::write(&source, "old").unwrap();
    fs::write(&file, "beneath").unwrap();
    for job in ["replace", "append"] {
        let Some(said) = write_to_mounted(job, &source, &file) else { return };
        let cause = "is a mount point by itself, which no rename can replace: mount its directory instead, or \
                     allow that it is written in place (cluster_lock.mount_point_writes)";
        assert!(said.ends_with(cause), "{job}: {said}");
        assert_eq!(fs::read(&source).unwrap(), b"old", "{job}");
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 1, "{job}: no temporary file is left");
    }
}

#[test]
fn where_that_is_allowed_it_is_written_in_place_under_a_lock_and_only_then() {
    let dir = dir();
    let (source, inside) = (dir.path().join("source"), dir.path().join("inside"));
    fs::create_dir(&inside).unwrap();
    let file = inside.join(".htaccess");
    fs::write(&source, "").unwrap();
    fs::write(&file, "beneath").unwrap();
    let inode = fs::metadata(&source).unwrap().ino();
    for (job, old, says, new) in [
        ("in place", "a longer one", "done", "new"),
        ("in place", "", "done", "new"),
        ("append in place", "old, ", "done", "old, new"),
        ("nothing in place", "old", "done", ""),
        (
            "in place without a lock",
            "old",
            "only under an exclusive lock: LOCK_EX, or the name of one",
            "old",
        ),
        ("in place, and the lock is lost at the last moment", "old", "lost", "old"),
    ] {
        fs::write(&source, old).unwrap();
        let Some(said) = write_to_mounted(job, &source, &file) else { return };
        assert!(said.ends_with(says), "{job}: {said}");
        assert_eq!(fs::read_to_string(&source).unwrap(), new, "{job}");
        assert_eq!(fs::metadata(&source).unwrap().ino(), inode, "{job}: it is the same file");
        assert_eq!(fs::read(&file).unwrap(), b"beneath", "{job}");
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 1, "{job}: no temporary file is left");
    }
}

#[test]
fn what_can_be_renamed_is_renamed_where_writes_in_place_are_allowed() {
    let dir = dir();
    let path = dir.path().join("a");
    fs::write(&path, "old").unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    assert!(!put_with(&path, Existing::Replace, IN_PLACE, b"new").unwrap().in_place);
    assert_ne!(fs::metadata(&path).unwrap().ino(), inode);
}

#[test]
fn readers_see_only_whole_files() {
    const SIZE: usize = 200_000;
    let dir = dir();
    let path = dir.path().join("a");
    replace(&path, &vec![b'a'; SIZE]).unwrap();
    let done = AtomicBool::new(false);
    let versions = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = [false; 256];
            while !done.load(Ordering::Relaxed) {
                let content = fs::read(&path).expect("there is always a file");
                assert_eq!(content.len(), SIZE);
                assert!(content.iter().all(|b| *b == content[0]), "two versions in one file");
                seen[usize::from(content[0])] = true;
            }
            seen.into_iter().filter(|seen| *seen).count()
        });
        let write = |letter: u8| {
            let target = Target::resolve(&path).unwrap();
            for _ in 0..150 {
                let mut new = Replacement::begin(&target, Existing::Replace, &FAST).unwrap();
                for part in vec![letter; SIZE].chunks(7_000) {
                    new.write(part).unwrap();
                }
                new.commit(|| Ok(())).unwrap();
            }
        };
        let writers = [b'b', b'c', b'd'].map(|letter| scope.spawn(move || write(letter)));
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(versions > 1, "the reader saw {versions} version");
    assert!(temps(dir.path()).is_empty());
}
