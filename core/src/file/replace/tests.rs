//! What needs a look inside; the behaviour is tested in `core/tests/replace.rs`.

use std::path::Path;

use super::*;

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[test]
fn a_forked_child_neither_removes_nor_renames_its_parents_file() {
    let dir = tempfile::tempdir().unwrap();
    let target = Target::resolve(&dir.path().join("a")).unwrap();
    let begin = || Replacement::begin(&target, Existing::Replace, &Options::default()).unwrap();

    let mut inherited = begin();
    inherited.temp.creator ^= 1;
    assert!(inherited.write(b"x").is_err());
    drop(inherited);
    assert_eq!(entries(dir.path()), 1);

    let mut inherited = begin();
    inherited.temp.creator ^= 1;
    assert!(inherited.commit(|| Ok(())).is_err());
    assert!(!dir.path().join("a").exists());
    assert_eq!(entries(dir.path()), 2);
}

#[test]
fn a_rename_whose_answer_got_lost_counts_as_done() {
    let dir = tempfile::tempdir().unwrap();
    let target = Target::resolve(&dir.path().join("a")).unwrap();
    let (mut temp, file) = Temp::create(Arc::clone(target.place()), false).unwrap();
    let written = fstat(&file).unwrap();
    let place = target.place();
    renameat(place.dir(), temp.name.as_ref().unwrap(), place.dir(), place.name()).unwrap();
    assert!(temp.rename(&written).unwrap());

    let (mut temp, file) = Temp::create(Arc::clone(place), false).unwrap();
    let written = fstat(&file).unwrap();
    unlinkat(place.dir(), temp.name.as_ref().unwrap(), AtFlags::empty()).unwrap();
    let error = temp.rename(&written).unwrap_err().to_string();
    assert!(error.contains("cannot rename"), "{error}");
}

#[test]
fn messages_have_no_error_numbers() {
    assert_eq!(reason(Errno::NOSPC), "No space left on device");
}
