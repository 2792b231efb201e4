//! `local:` in a directory that somebody else tampers with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use cluster_lock_core::{Broken, Engine, Error};
use rustix::fs::{FlockOperation, flock};
use support::{Want, engine, name};

const NOBODY: u32 = 65534;

fn store() -> (tempfile::TempDir, PathBuf, Engine) {
    let dir = tempfile::tempdir().unwrap();
    let locks = dir.path().join("locks");
    let engine = engine(&format!("local://{}", locks.display()));
    (dir, locks, engine)
}

fn ask(engine: &Engine) -> Result<(), Error> {
    Want::now().with(|how| engine.acquire(&name("job"), how)).map(drop)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_directory_that_was_removed_is_made_again() {
    let (_dir, locks, engine) = store();
    for _ in 0..2 {
        ask(&engine).unwrap();
        assert_eq!(fs::metadata(&locks).unwrap().permissions().mode() & 0o777, 0o700);
        fs::remove_dir_all(&locks).unwrap();
    }
}

#[test]
fn a_directory_that_others_can_write_to_is_refused_at_any_time() {
    let (_dir, locks, engine) = store();
    ask(&engine).unwrap();
    for mode in [0o777, 0o1777, 0o770] {
        chmod(&locks, mode);
        let error = ask(&engine).unwrap_err().to_string();
        assert!(error.contains("nobody else can write to"), "{error}");
    }
    chmod(&locks, 0o700);
    ask(&engine).unwrap();
}

#[test]
fn a_strangers_directory_in_the_place_of_ours_leads_to_nothing_of_ours() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let (dir, locks, engine) = store();
    let ours = dir.path().join("ours");
    fs::write(&ours, "old").unwrap();
    ask(&engine).unwrap();
    // As when a cleaner of /tmp has removed it.
    fs::remove_dir_all(&locks).unwrap();
    fs::create_dir(&locks).unwrap();
    for trap in ["new", "lock"] {
        symlink(&ours, locks.join(trap)).unwrap();
    }
    chown(&locks, Some(NOBODY), None).unwrap();
    let error = ask(&engine).unwrap_err().to_string();
    assert!(error.contains("belongs to the user"), "{error}");
    fs::remove_dir_all(&locks).unwrap();
    symlink(dir.path(), &locks).unwrap();
    assert!(ask(&engine).is_err());
    assert_eq!(fs::read(&ours).unwrap(), b"old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn links_in_it_are_not_followed() {
    let (dir, locks, engine) = store();
    let ours = dir.path().join("ours");
    fs::write(&ours, "old").unwrap();
    ask(&engine).unwrap();
    symlink(&ours, locks.join("new")).unwrap();
    assert!(ask(&engine).is_err());
    assert_eq!(fs::read(&ours).unwrap(), b"old");
}

#[test]
fn a_record_that_is_none_is_told_and_can_be_broken() {
    let (_dir, locks, engine) = store();
    let held = Want::now().get(&engine, "other");
    ask(&engine).unwrap();
    for entry in fs::read_dir(&locks).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "lock")
            && !fs::read_to_string(&path).unwrap().contains("\"writer\":{")
        {
            fs::write(&path, "garbage").unwrap();
        }
    }
    for error in [ask(&engine).unwrap_err(), engine.info(&name("job")).unwrap_err()] {
        assert!(error.to_string().contains("cluster_lock_break()"), "{error}");
    }
    assert_eq!(engine.list(b"", 10).unwrap().len(), 1);
    assert_eq!(engine.break_lock(&name("job"), None).unwrap(), Broken::Yes);
    assert_eq!(engine.break_lock(&name("job"), None).unwrap(), Broken::Free);
    ask(&engine).unwrap();
    drop(held);
}

/// A file as an idle lock leaves it, which nobody has written to for an hour.
fn leave(locks: &Path, left: &[u8], number: usize) {
    let path = locks.join(format!("{number:040x}.lock"));
    fs::write(&path, left).unwrap();
    let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    fs::File::options().write(true).open(&path).unwrap().set_modified(hour_ago).unwrap();
}

fn left(locks: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(locks).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|end| end == "lock")).collect()
}

/// What an idle lock leaves.
fn record(locks: &Path, engine: &Engine) -> Vec<u8> {
    Want::now().get(engine, "sample");
    fs::read(left(locks).first().unwrap()).unwrap()
}

#[test]
fn a_new_name_looks_at_a_few_files_however_many_there_are() {
    const MANY: usize = 400;
    const FEW: usize = 32;
    let (_dir, locks, engine) = store();
    let record = record(&locks, &engine);
    (0..MANY).for_each(|number| leave(&locks, &record, number));
    let mut before = left(&locks).len();
    for number in 0..MANY {
        // Each by a process of its own: where the last one stopped is not to be forgotten.
        let engine = support::engine(&format!("local://{}", locks.display()));
        Want::now().get(&engine, &format!("new {number}"));
        let now = left(&locks).len();
        let removed = before + 1 - now;
        assert!(removed <= FEW, "{removed} files were looked at for one new name");
        before = now;
    }
    let old = left(&locks).iter().filter(|path| path.to_string_lossy().contains("/0000000")).count();
    assert_eq!(old, 0, "of {MANY} old files are left, though as many new names came by");
}

#[test]
fn what_the_killed_have_left_is_removed_too() {
    let (_dir, locks, engine) = store();
    let held = Want::now().get(&engine, "job");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&left(&locks)[0]).unwrap()).unwrap();
    record["machine"]["writer"]["expiry_ms"] = 1.into();
    leave(&locks, record.to_string().as_bytes(), 1);
    // As many as there are files: each comes by one, if not by more.
    (0..4).for_each(|number| drop(Want::now().get(&engine, &format!("new {number}"))));
    let names = left(&locks);
    assert!(!names.iter().any(|path| path.to_string_lossy().contains("/0000000")), "{names:?}");
    drop(held);
}

/// The one lock's file, with another boot's id in it.
fn rewrite_boot(locks: &Path, id: &str) {
    let is_record = |path: &PathBuf| path.extension().is_some_and(|end| end == "lock");
    let path = fs::read_dir(locks).unwrap().map(|entry| entry.unwrap().path()).find(is_record).unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["boot"] = id.into();
    fs::write(&path, record.to_string()).unwrap();
}

#[test]
fn only_a_known_boot_is_another_one() {
    let (_dir, locks, engine) = store();
    let held = Want::now().get(&engine, "job");
    rewrite_boot(&locks, "");
    // Whoever let it in did not know the boot.
    Want::now().refused(&engine, "job");
    rewrite_boot(&locks, "an earlier one");
    drop(Want::now().get(&engine, "job"));
    drop(held);
}

#[test]
fn whoever_stands_still_in_it_is_named_and_not_waited_for_without_end() {
    let (_dir, locks, engine) = store();
    ask(&engine).unwrap();
    let lock = fs::File::open(locks.join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let error = ask(&engine).unwrap_err().to_string();
    assert!(error.contains(&format!("locked by pid {} (", std::process::id())), "{error}");
    drop(lock);
    ask(&engine).unwrap();
}

/// Others are at work in it, one after the other, for longer than one is waited for who stands still.
#[test]
fn many_who_take_their_turns_are_told_from_one_who_stands_still() {
    let (_dir, locks, engine) = store();
    ask(&engine).unwrap();
    let (tell, begun) = channel();
    let busy = thread::spawn(move || {
        let (lock, end) =
            (File::open(locks.join("lock")).unwrap(), Instant::now() + Duration::from_millis(1500));
        while Instant::now() < end {
            flock(&lock, FlockOperation::LockExclusive).unwrap();
            let _ = tell.send(());
            fs::write(locks.join("turn"), "").unwrap();
            thread::sleep(Duration::from_millis(10));
            fs::remove_file(locks.join("turn")).unwrap();
            flock(&lock, FlockOperation::Unlock).unwrap();
        }
    });
    begun.recv().unwrap();
    while !busy.is_finished() {
        ask(&engine).unwrap();
    }
}
