//! What a file keeps when it is replaced, and who may replace it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod replace_support;

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use cluster_lock_core::replace::{Existing, Replacement, Target};
use replace_support::*;

const ACL: &str = "system.posix_acl_access";
const DEFAULT_ACL: &str = "system.posix_acl_default";

#[test]
#[ignore = "run by the tests as another process"]
fn helper() {
    help();
}

/// A directory with an existing file of this mode.
fn with_file(file_mode: u32) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "old").unwrap();
    chmod(&path, file_mode);
    (dir, path)
}

/// The same in a directory where everybody may write, with an owner. Needs root.
fn shared_file(file_mode: u32, uid: u32, gid: u32) -> (tempfile::TempDir, PathBuf) {
    let (dir, path) = with_file(file_mode);
    chmod(dir.path(), 0o777);
    chown(&path, Some(uid), Some(gid)).unwrap();
    chmod(&path, file_mode);
    (dir, path)
}

fn owner(path: &Path) -> (u32, u32) {
    let stat = fs::metadata(path).unwrap();
    (stat.uid(), stat.gid())
}

/// A POSIX ACL: owner rwx & `owner`, user 1234 rw, the group, the mask, others.
fn acl(owner: u8, group: u8, mask: u8, other: u8) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0];
    let none = u32::MAX;
    let entries = [(1, owner, none), (2, 6, 1234), (4, group, none), (0x10, mask, none), (0x20, other, none)];
    for (tag, permissions, id) in entries {
        out.extend([tag, 0, permissions, 0]);
        out.extend(u32::to_le_bytes(id));
    }
    out
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1000];
    let length = rustix::fs::getxattr(path, name, &mut *value).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn a_new_file_gets_0666_less_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    assert_eq!(Helper::run("umask 027", &path, None), "done");
    assert_eq!(mode(&path), 0o640);
}

#[test]
fn an_existing_file_keeps_its_mode_whatever_the_umask() {
    for file_mode in [0o666, 0o640, 0o604, 0o751, 0o200, 0o6755, 0o1644] {
        let (_dir, path) = with_file(file_mode);
        assert_eq!(Helper::run("umask 027", &path, None), "done");
        assert_eq!(mode(&path), file_mode, "{file_mode:o}");
        assert_ne!(fs::metadata(&path).unwrap().len(), 0);
    }
}

#[test]
fn the_temp_of_an_existing_file_is_private_until_it_has_its_owner() {
    let (dir, path) = with_file(0o666);
    let target = Target::resolve(&path).unwrap();
    let new = Replacement::begin(&target, Existing::Replace, &FAST).unwrap();
    assert_eq!(mode(&temps(dir.path())[0]), 0o600);
    drop(new);
}

#[test]
fn owner_and_group_are_kept_by_those_who_may() {
    if !is_root() {
        return;
    }
    let (_dir, path) = shared_file(0o6754, 1234, 5678);
    replace(&path, b"new").unwrap();
    assert_eq!(owner(&path), (1234, 5678));
    assert_eq!(mode(&path), 0o6754);
}

#[test]
fn what_cannot_be_kept_gives_nobody_more_rights() {
    if !is_root() {
        return;
    }
    for (old, new) in [(0o6666, 0o666), (0o6676, 0o666), (0o662, 0o622), (0o646, 0o644)] {
        let (_dir, path) = shared_file(old, 0, 0);
        assert_eq!(Helper::run("replace", &path, Some(NOBODY)), "done");
        assert_eq!(owner(&path), (NOBODY, NOBODY));
        assert_eq!(mode(&path), new, "{old:o}");
    }
    // The group is kept, the owner is not.
    let (_dir, path) = shared_file(0o6664, 0, NOBODY);
    assert_eq!(Helper::run("replace", &path, Some(NOBODY)), "done");
    assert_eq!((owner(&path), mode(&path)), ((NOBODY, NOBODY), 0o664));
    // The owner is kept, the group is not.
    let (_dir, path) = shared_file(0o6674, NOBODY, 0);
    assert_eq!(Helper::run("replace", &path, Some(NOBODY)), "done");
    assert_eq!((owner(&path), mode(&path)), ((NOBODY, NOBODY), 0o644));
}

#[test]
fn set_user_id_is_taken_from_whom_plain_writing_would_take_it() {
    if !is_root() {
        return;
    }
    for (old, new) in [(0o4755, 0o755), (0o2755, 0o755), (0o6711, 0o711), (0o2644, 0o2644)] {
        for job in ["replace", "write plainly"] {
            let (_dir, path) = shared_file(old, NOBODY, NOBODY);
            assert_eq!(Helper::run(job, &path, Some(NOBODY)), "done");
            assert_eq!(mode(&path), new, "{job}: {old:o}");
        }
    }
    let (_dir, path) = shared_file(0o6755, NOBODY, NOBODY);
    replace(&path, b"by root").unwrap();
    assert_eq!(mode(&path), 0o6755);
}

#[test]
fn extended_attributes_are_kept() {
    let (_dir, path) = with_file(0o600);
    if !supports(&path, "user.first", b"1") || !supports(&path, "user.empty", b"") {
        return;
    }
    replace(&path, b"new").unwrap();
    assert_eq!(attribute(&path, "user.first").unwrap(), b"1");
    assert_eq!(attribute(&path, "user.empty").unwrap(), b"");
}

#[test]
fn an_acl_is_kept_exactly() {
    for (acl, shown) in [(acl(6, 4, 6, 0), 0o660), (acl(7, 0, 4, 4), 0o744)] {
        let (_dir, path) = with_file(0o600);
        if !supports(&path, ACL, &acl) {
            return;
        }
        replace(&path, b"new").unwrap();
        assert_eq!(attribute(&path, ACL).unwrap(), acl);
        assert_eq!(mode(&path), shown);
    }
}

#[test]
fn an_acl_whose_group_is_lost_gives_the_new_group_nothing_more() {
    if !is_root() {
        return;
    }
    let (_dir, path) = shared_file(0o600, 0, 0);
    if !supports(&path, ACL, &acl(6, 5, 7, 6)) {
        return;
    }
    assert_eq!(Helper::run("replace", &path, Some(NOBODY)), "done");
    assert_eq!(attribute(&path, ACL).unwrap(), acl(6, 4, 7, 4));
}

#[test]
fn a_directorys_default_acl_goes_to_new_files_and_not_to_existing_ones() {
    let (dir, path) = with_file(0o644);
    if !supports(dir.path(), DEFAULT_ACL, &acl(7, 5, 7, 0)) {
        return;
    }
    replace(&path, b"new").unwrap();
    assert_eq!(attribute(&path, ACL), None);
    assert_eq!(mode(&path), 0o644);
    let new = dir.path().join("new");
    replace(&new, b"new").unwrap();
    assert_eq!(attribute(&new, ACL).unwrap(), acl(6, 5, 6, 0));
}

#[test]
fn a_file_that_plain_writing_could_not_change_is_not_replaced() {
    if !is_root() {
        return;
    }
    let (dir, path) = shared_file(0o644, 0, 0);
    for job in ["replace", "append"] {
        let said = Helper::run(job, &path, Some(NOBODY));
        assert!(said.ends_with("the existing file is not writable: Permission denied"), "{said}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert!(temps(dir.path()).is_empty());
}

#[test]
fn a_file_that_may_be_written_but_not_read_can_be_replaced_not_appended_to() {
    if !is_root() {
        return;
    }
    let (dir, path) = shared_file(0o602, 0, 0);
    let said = Helper::run("append", &path, Some(NOBODY));
    assert!(said.ends_with("cannot open the existing file: Permission denied"), "{said}");
    assert!(temps(dir.path()).is_empty());
    assert_eq!(Helper::run("replace", &path, Some(NOBODY)), "done");
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn a_read_only_directory_is_named_in_the_error() {
    if !is_root() {
        return;
    }
    let (dir, path) = shared_file(0o666, 0, 0);
    chmod(dir.path(), 0o755);
    let said = Helper::run("replace", &path, Some(NOBODY));
    let expected = format!(
        "cannot create a temporary file in {}: Permission denied \
         (the directory must be writable for an atomic replace)",
        dir.path().canonicalize().unwrap().display()
    );
    assert!(said.ends_with(&expected), "{said}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn a_directory_that_cannot_be_synced_is_a_warning() {
    if !is_root() {
        return;
    }
    let (dir, path) = shared_file(0o666, 0, 0);
    chmod(dir.path(), 0o333);
    let said = Helper::run("replace", &path, Some(NOBODY));
    assert!(said.contains("could not be synced: it may not be opened for reading"), "{said}");
    assert_eq!(fs::read(&path).unwrap(), b"new");
}
