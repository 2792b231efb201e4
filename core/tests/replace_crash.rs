//! What a killed writer leaves, and who removes it when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod replace_support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use replace_support::*;

#[test]
#[ignore = "run by the tests as another process"]
fn helper() {
    help();
}

const HOUR: u64 = 3_600;

fn age(path: &Path, seconds: u64) {
    let time = SystemTime::now() - Duration::from_secs(seconds);
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// The temporary file of a writer killed in the middle of writing `path`.
fn crash(path: &Path) -> PathBuf {
    let before = temps(path.parent().unwrap());
    let mut writer = Helper::start("hang", path, None);
    assert_eq!(writer.says(), "ready");
    let is_new = |temp: &PathBuf| !before.contains(temp);
    let [temp] =
        temps(path.parent().unwrap()).into_iter().filter(is_new).collect::<Vec<_>>().try_into().unwrap();
    writer.kill();
    temp
}

/// A write by a process that has not written to this directory yet.
fn write(path: &Path) {
    assert_eq!(Helper::run("replace", path, None), "done");
    assert_eq!(fs::read(path).unwrap(), b"new");
}

#[test]
fn a_killed_writer_leaves_the_old_file_and_one_temp_which_is_removed_after_an_hour() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "old").unwrap();
    let temp = crash(&path);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read(&temp).unwrap(), b"half");
    write(&path);
    assert!(temp.exists(), "removed before its time");
    age(&temp, HOUR + 60);
    write(&path);
    assert!(!temp.exists(), "still there");
}

#[test]
fn a_living_writers_temp_is_never_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let mut writer = Helper::start("hang", &path, None);
    assert_eq!(writer.says(), "ready");
    let temp = temps(dir.path()).pop().unwrap();
    age(&temp, 100 * HOUR);
    write(&path);
    assert!(temp.exists());
    writer.kill();
    write(&path);
    assert!(!temp.exists());
}

#[test]
fn another_hosts_temp_is_removed_after_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let own = crash(&path);
    let host = own.file_name().unwrap().to_str().unwrap().split('.').nth(2).unwrap();
    let other = if host == "00000000" { "11111111" } else { "00000000" };
    let temp = PathBuf::from(own.to_str().unwrap().replace(&format!(".{host}."), &format!(".{other}.")));
    fs::rename(&own, &temp).unwrap();
    age(&temp, 23 * HOUR);
    write(&path);
    assert!(temp.exists());
    age(&temp, 25 * HOUR);
    write(&path);
    assert!(!temp.exists());
}

#[test]
fn a_long_names_temp_is_removed_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n".repeat(255));
    let temp = crash(&path);
    age(&temp, 2 * HOUR);
    write(&path);
    assert!(!temp.exists());
}

#[test]
fn a_write_removes_what_killed_writers_of_any_file_in_the_directory_left() {
    let dir = tempfile::tempdir().unwrap();
    let long = "n".repeat(255);
    let names = ["autoptimize_0123.css", "autoptimize_4567.css", "a", ".a.b", &long];
    for name in names {
        age(&crash(&dir.path().join(name)), HOUR + 60);
    }
    let young = crash(&dir.path().join("young"));
    write(&dir.path().join("autoptimize_89ab.css"));
    assert_eq!(temps(dir.path()), [young]);
}

#[test]
fn many_are_removed_over_several_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let temp = crash(&path);
    let name = temp.to_str().unwrap();
    let random = name.rsplit('.').nth(2).unwrap();
    for i in 0..250 {
        let another = name.replace(random, &format!("{i:016x}"));
        fs::write(&another, "half").unwrap();
        age(Path::new(&another), 2 * HOUR);
    }
    fs::remove_file(&temp).unwrap();
    // All by this process, within the minute.
    let mut left = vec![250];
    for _ in 0..3 {
        replace(&path, b"new").unwrap();
        left.push(temps(dir.path()).len());
    }
    assert_eq!(left, [250, 150, 50, 0]);
}

#[test]
fn no_other_file_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let temp = crash(&path);
    let name = temp.file_name().unwrap().to_str().unwrap();
    let directory = temp.clone();
    fs::remove_file(&temp).unwrap();
    fs::create_dir(&directory).unwrap();
    let others = [
        name.replacen(".a.", "a.", 1),
        name.replacen(".a.", ".", 1),
        name.replacen(".a.", "..", 1),
        name.replace(".tmp", ".tmp~"),
        ".a.cluster_lock.tmp".into(),
        ".a.tmp".into(),
        "a.bak".into(),
    ]
    .map(|name| dir.path().join(name));
    for other in &others {
        fs::write(other, "x").unwrap();
        age(other, 1_000 * HOUR);
    }
    write(&path);
    for other in &others {
        assert!(other.exists(), "{}", other.display());
    }
    assert!(directory.is_dir());
}

#[test]
fn a_process_searches_a_directory_once_a_minute_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let temp = crash(&path);
    age(&temp, 2 * HOUR);
    let kept = dir.path().join("kept");
    fs::rename(&temp, &kept).unwrap();
    replace(&path, b"first: searches").unwrap();
    fs::rename(&kept, &temp).unwrap();
    replace(&path, b"second: does not").unwrap();
    assert!(temp.exists());
    write(&path);
    assert!(!temp.exists());
}
