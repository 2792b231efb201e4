//! A hostile user swaps what stands in a directory, all the time, while a file is replaced in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod replace_support;

use std::fs;
use std::os::unix::fs::{lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cluster_lock_core::replace::{Existing, Replacement, Target};
use replace_support::*;
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// Enough to hit each of the gaps that a check by path leaves, many times.
const ROUNDS: usize = 2_000;

/// Runs `work` many times, while two names change their places all the time.
fn while_swapping(one: &Path, other: &Path, mut work: impl FnMut()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                // The kernel serialises renames: let the other have its turn.
                thread::sleep(Duration::from_micros(20));
            }
        });
        for _ in 0..ROUNDS {
            work();
        }
        done.store(true, Ordering::Relaxed);
    });
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// As `cluster_file_put_contents()` does it: what is outside is refused before anything is made.
fn replace_inside(inside: &Path, path: &Path) -> bool {
    let Ok(target) = Target::resolve(path) else { return false };
    if !target.path().starts_with(inside) {
        return false;
    }
    let Ok(mut new) = Replacement::begin(&target, Existing::Replace, &FAST) else { return false };
    new.write(b"new").unwrap();
    new.commit(|| Ok(())).is_ok()
}

/// Makes the link again that a write has replaced (a rename takes the place of whatever stands there), or
/// the file, if a swap between the two looks has made it seem so.
fn keep_link(target: &Path, file: &Path, link: &Path, owner: Option<u32>) {
    let new = link.with_extension("new");
    match (file.is_symlink(), link.is_symlink()) {
        (false, false) => {
            symlink(target, &new).unwrap();
            lchown(&new, owner, None).unwrap();
        }
        (true, true) => fs::write(&new, "old").unwrap(),
        _ => return,
    }
    fs::rename(&new, link).unwrap();
}

#[test]
fn a_directory_swapped_for_a_link_to_the_outside_leads_nobody_there() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| fs::canonicalize(dir.path()).unwrap().join(name);
    fs::create_dir_all(at("inside/d")).unwrap();
    fs::create_dir(at("outside")).unwrap();
    symlink(at("outside"), at("inside/link")).unwrap();
    let (mut written, mut refused) = (0, 0);
    while_swapping(&at("inside/d"), &at("inside/link"), || {
        if replace_inside(&at("inside"), &at("inside/d/file")) {
            written += 1;
        } else {
            refused += 1;
        }
    });
    assert!(entries(&at("outside")).is_empty(), "{written} written, {refused} refused");
    assert!(written > 0 && refused > 0, "the race never took place: {written} written, {refused} refused");
}

#[test]
fn a_file_swapped_for_a_link_to_the_outside_leads_nobody_there() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| fs::canonicalize(dir.path()).unwrap().join(name);
    fs::create_dir(at("inside")).unwrap();
    fs::create_dir(at("outside")).unwrap();
    fs::write(at("outside/file"), "old").unwrap();
    fs::write(at("inside/file"), "old").unwrap();
    symlink(at("outside/file"), at("inside/link")).unwrap();
    let (file, link) = (at("inside/file"), at("inside/link"));
    let (mut written, mut refused) = (0, 0);
    while_swapping(&file, &link, || {
        if replace_inside(&at("inside"), &file) {
            written += 1;
        } else {
            refused += 1;
        }
        keep_link(&at("outside/file"), &file, &link, None);
    });
    assert!(written > 0 && refused > 0, "the race never took place: {written} written, {refused} refused");
    assert_eq!(fs::read(at("outside/file")).unwrap(), b"old");
    assert_eq!(entries(&at("outside")).len(), 1);
}

/// Sticky and writable for everybody, with a link of another user to a file of ours.
fn shared_directory() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let real = fs::canonicalize(dir.path()).unwrap();
    let at = move |name: &str| real.join(name);
    fs::create_dir(at("shared")).unwrap();
    chmod(&at("shared"), 0o1777);
    fs::write(at("ours"), "old").unwrap();
    symlink(at("ours"), at("shared/link")).unwrap();
    (dir, at)
}

#[test]
fn a_strangers_link_in_a_shared_directory_is_not_followed() {
    if !is_root() {
        return;
    }
    let (_dir, at) = shared_directory();
    replace(&at("shared/link"), b"by our own link").unwrap();
    fs::write(at("ours"), "old").unwrap();

    lchown(at("shared/link"), Some(NOBODY), None).unwrap();
    for how in [Existing::Replace, Existing::Append] {
        let cause = cause(put(&at("shared/link"), how, b"new"));
        assert!(cause.contains("another user"), "{cause}");
    }
    symlink(at("new"), at("shared/dangling")).unwrap();
    lchown(at("shared/dangling"), Some(NOBODY), None).unwrap();
    assert!(replace(&at("shared/dangling"), b"new").is_err());
    assert!(!at("new").exists());
    assert_eq!(fs::read(at("ours")).unwrap(), b"old");

    // Not for everybody, or not sticky: whoever may write there is trusted, or nobody is.
    for mode in [0o1775, 0o777] {
        chmod(&at("shared"), mode);
        replace(&at("shared/link"), b"new").unwrap();
    }
    // The owner of the directory may.
    chmod(&at("shared"), 0o1777);
    lchown(at("shared"), Some(NOBODY), None).unwrap();
    replace(&at("shared/link"), b"newer").unwrap();
    assert_eq!(fs::read(at("ours")).unwrap(), b"newer");
}

#[test]
fn nor_is_one_that_was_a_file_when_it_was_looked_at() {
    if !is_root() {
        return;
    }
    let (_dir, at) = shared_directory();
    lchown(at("shared/link"), Some(NOBODY), None).unwrap();
    fs::write(at("shared/file"), "old").unwrap();
    let (file, link) = (at("shared/file"), at("shared/link"));
    let (mut written, mut refused) = (0, 0);
    while_swapping(&file, &link, || {
        // "Inside" is everywhere: nothing but the owner of the link tells.
        if replace_inside(Path::new("/"), &file) {
            written += 1;
        } else {
            refused += 1;
        }
        keep_link(&at("ours"), &file, &link, Some(NOBODY));
    });
    assert_eq!(fs::read(at("ours")).unwrap(), b"old");
    assert!(written > 0 && refused > 0, "the race never took place: {written} written, {refused} refused");
}
