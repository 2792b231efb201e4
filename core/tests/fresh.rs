//! Whether a file is newer than what it is made from: real files, whose times the kernel gives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod replace_support;

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use cluster_lock_core::replace::{Existing, Options, Replacement, Sources, Target};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use replace_support::*;

const BUILD: Options = Options { dates_from_begin: true, ..FAST };

/// A directory for what is made and one for what it is made from; apart, because each build changes its own.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        fs::create_dir(site.path("from")).unwrap();
        fs::create_dir(site.path("made")).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.0.path()).unwrap().join(name)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    fn target(&self) -> Target {
        Target::resolve(&self.path("made/css")).unwrap()
    }

    fn begin(&self) -> Replacement {
        Replacement::begin(&self.target(), Existing::Replace, &BUILD).unwrap()
    }

    /// When so long ago that it counts is what has been done: what begins now is certainly later.
    fn settle(&self) {
        let now = || fs::metadata(self.write("tick", "")).map(|at| (at.ctime(), at.ctime_nsec())).unwrap();
        let (seconds, nanoseconds) = now();
        while now() <= (seconds + 1, nanoseconds) {
            sleep(Duration::from_millis(10));
        }
    }

    fn build(&self) {
        self.settle();
        self.begin().commit(|| Ok(())).unwrap();
    }

    fn is_fresh(&self, sources: &[&str]) -> bool {
        self.target().is_newer_than(&self.sources(sources)).unwrap()
    }

    fn sources(&self, names: &[&str]) -> Sources {
        let mut sources = Sources::default();
        for name in names {
            sources.add(self.path(name));
        }
        sources
    }
}

fn date(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn years_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

#[test]
fn what_is_not_there_or_made_from_nothing_is_not_fresh() {
    let site = Site::new();
    site.write("from/a", "");
    assert!(!site.is_fresh(&["from/a"]));
    site.build();
    assert!(site.is_fresh(&["from/a"]));
    assert!(!site.is_fresh(&[]), "nothing is known of what it is made from");
}

#[test]
fn a_source_that_is_written_makes_it_old() {
    let site = Site::new();
    for name in ["from/a", "from/b"] {
        site.write(name, "");
    }
    site.build();
    for name in ["from/a", "from/b"] {
        site.write(name, "new");
        assert!(!site.is_fresh(&["from/a", "from/b"]));
        site.build();
        assert!(site.is_fresh(&["from/a", "from/b"]));
    }
}

#[test]
fn a_source_that_changes_during_the_build_makes_it_old() {
    let site = Site::new();
    site.write("from/a", "");
    site.settle();
    let mut build = site.begin();
    build.write(b"made from the first").unwrap();
    site.write("from/a", "second");
    site.settle();
    build.write(b", at last").unwrap();
    build.commit(|| Ok(())).unwrap();
    assert_eq!(fs::read(site.path("made/css")).unwrap(), b"made from the first, at last");
    assert!(!site.is_fresh(&["from/a"]));
    site.build();
    assert!(site.is_fresh(&["from/a"]));
}

/// The kernel stamps a write when that begins: who built in that moment may have read what was there before, or half.
#[test]
fn a_source_that_was_changed_within_the_second_makes_it_old() {
    let site = Site::new();
    site.write("from/a", "");
    sleep(Duration::from_millis(50));
    site.begin().commit(|| Ok(())).unwrap();
    assert!(!site.is_fresh(&["from/a"]), "it may have been written to yet");
    site.build();
    assert!(site.is_fresh(&["from/a"]), "it comes to rest");
}

#[test]
fn a_link_that_is_replaced_while_it_is_looked_at_is_looked_at_again() {
    let site = Site::new();
    site.write("from/linked", "");
    let (a, file, link) = (site.path("from/a"), site.path("from/file"), site.path("from/link"));
    fs::write(&a, "").unwrap();
    let sources = site.sources(&["from/a"]);
    std::thread::scope(|scope| {
        let changer = scope.spawn(|| {
            for _ in 0..5000 {
                symlink("linked", &link).unwrap();
                fs::rename(&link, &a).unwrap();
                fs::write(&file, "").unwrap();
                fs::rename(&file, &a).unwrap();
            }
        });
        while !changer.is_finished() {
            sources.refresh().unwrap();
        }
    });
}

#[test]
fn an_old_modification_time_hides_no_change() {
    let site = Site::new();
    site.write("from/a", "first");
    site.build();
    date(&site.write("from/new", "second"), years_ago());
    fs::rename(site.path("from/new"), site.path("from/a")).unwrap();
    assert!(!site.is_fresh(&["from/a"]), "mv");
    site.build();
    assert!(site.is_fresh(&["from/a"]), "it comes to rest");

    date(&site.write("from/a", "third"), years_ago());
    assert!(!site.is_fresh(&["from/a"]), "rsync -t --inplace");
}

#[test]
fn a_modification_time_in_the_future_comes_to_rest() {
    let site = Site::new();
    let future = SystemTime::now() + Duration::from_secs(1_000_000);
    date(&site.write("from/a", "first"), future);
    site.build();
    assert!(site.is_fresh(&["from/a"]), "of a source");

    date(&site.path("made/css"), future);
    assert!(!site.is_fresh(&["from/a"]), "of the file itself it says nothing");
    site.build();
    assert!(site.is_fresh(&["from/a"]));
}

#[test]
fn a_file_that_is_put_back_from_a_backup_is_old() {
    let site = Site::new();
    site.write("from/a", "first");
    site.build();
    date(&site.path("made/css"), years_ago());
    assert!(!site.is_fresh(&["from/a"]));
}

#[test]
fn a_deleted_source_makes_it_old_once() {
    let site = Site::new();
    site.write("from/a", "");
    site.build();
    fs::remove_file(site.path("from/a")).unwrap();
    assert!(!site.is_fresh(&["from/a"]));
    site.build();
    assert!(site.is_fresh(&["from/a"]), "it comes to rest");
    site.write("from/a", "there again");
    assert!(!site.is_fresh(&["from/a"]));
}

#[test]
fn a_source_below_what_is_missing_counts_with_what_is_left() {
    let site = Site::new();
    let below = ["from/one/two/a", "from/one/../one/./two/b/"];
    fs::create_dir_all(site.path("from/one/two")).unwrap();
    site.write("from/one/two/a", "");
    site.build();
    assert!(site.is_fresh(&below));
    fs::remove_dir_all(site.path("from/one")).unwrap();
    assert!(!site.is_fresh(&below));
    site.build();
    assert!(site.is_fresh(&below));
    site.write("from/one", "a file where a directory was");
    assert!(!site.is_fresh(&below));
    site.build();
    assert!(site.is_fresh(&below));
}

#[test]
fn where_the_file_itself_is_nothing_is_known_of_a_missing_source() {
    let site = Site::new();
    site.write("made/a", "");
    site.build();
    assert!(site.is_fresh(&["made/a"]), "beside it is no trouble");
    assert!(!site.is_fresh(&["made/missing"]), "each build changes its directory");
}

#[test]
fn a_directory_counts_with_its_entries() {
    let site = Site::new();
    site.write("from/a", "");
    site.build();
    assert!(site.is_fresh(&["from"]));
    site.write("from/a", "what is in them is not its concern");
    assert!(site.is_fresh(&["from"]));
    site.write("from/b", "");
    assert!(!site.is_fresh(&["from"]));
}

#[test]
fn a_link_that_is_turned_makes_it_old() {
    let site = Site::new();
    for release in ["from/1", "from/2"] {
        fs::create_dir(site.path(release)).unwrap();
        site.write(&format!("{release}/a"), release);
    }
    symlink("1", site.path("from/current")).unwrap();
    symlink(site.path("from/current/a"), site.path("from/a")).unwrap();
    let sources = ["from/a"];
    site.build();
    assert!(site.is_fresh(&sources));
    symlink("2", site.path("from/next")).unwrap();
    site.build();
    fs::rename(site.path("from/next"), site.path("from/current")).unwrap();
    assert!(!site.is_fresh(&sources), "what it leads to now is older than the build");
    site.build();
    assert!(site.is_fresh(&sources));
    site.write("from/2/a", "changed");
    assert!(!site.is_fresh(&sources), "behind two links");
    site.build();
    fs::remove_file(site.path("from/2/a")).unwrap();
    assert!(!site.is_fresh(&sources), "and when it is deleted there");
    site.build();
    assert!(site.is_fresh(&sources));
}

#[test]
fn links_in_circles_and_what_may_not_be_seen_are_errors() {
    let site = Site::new();
    site.build();
    symlink("circle", site.path("from/circle")).unwrap();
    let error = cause(site.target().is_newer_than(&site.sources(&["from/circle"])));
    assert!(error.contains("Too many levels of symbolic links"), "{error}");
    let error = cause(site.sources(&["from/circle"]).refresh());
    assert!(error.contains("Too many levels of symbolic links"), "{error}");
    let long = "x".repeat(300);
    let error = cause(site.target().is_newer_than(&site.sources(&[&long])));
    assert!(error.contains("File name too long"), "{error}");
}

#[test]
fn a_source_on_another_file_system_is_one() {
    let site = Site::new();
    let elsewhere = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    let mut sources = Sources::default();
    sources.add(elsewhere.path().to_path_buf());
    site.build();
    assert!(site.target().is_newer_than(&sources).unwrap());
    fs::write(elsewhere.path(), "new").unwrap();
    assert!(!site.target().is_newer_than(&sources).unwrap());
}

#[test]
fn what_has_become_something_else_is_not_fresh() {
    let site = Site::new();
    site.write("from/a", "");
    site.build();
    let target = site.target();
    fs::remove_file(site.path("made/css")).unwrap();
    fs::create_dir(site.path("made/css")).unwrap();
    let error = cause(target.is_newer_than(&site.sources(&["from/a"])));
    assert!(error.contains("is a directory"), "{error}");
    fs::remove_dir(site.path("made/css")).unwrap();
    symlink("elsewhere", site.path("made/css")).unwrap();
    let error = cause(target.is_newer_than(&site.sources(&["from/a"])));
    assert!(error.contains("has become a symbolic link"), "{error}");
}

#[test]
fn it_is_dated_whatever_mode_is_kept() {
    let site = Site::new();
    site.write("from/a", "");
    for mode in [0o600, 0o444, 0o4755, 0o6711] {
        let path = site.write("made/css", "");
        chmod(&path, mode);
        let mut build = site.begin();
        site.write("from/a", "changed during the build");
        site.settle();
        build.write(b"x").unwrap();
        if build.commit(|| Ok(())).is_ok() {
            assert!(!site.is_fresh(&["from/a"]), "{mode:o}");
        }
        fs::remove_file(path).unwrap();
    }
}

/// What befalls a source, or the build.
#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    /// Another file in its place, with an old modification time.
    Move(usize),
    /// Written over, and dated back.
    Sync(usize),
    Delete(usize),
    /// The link that the third one is behind.
    Turn,
    Begin,
    Commit,
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..2usize).prop_map(Step::Write),
        (0..2usize).prop_map(Step::Move),
        (0..2usize).prop_map(Step::Sync),
        (0..2usize).prop_map(Step::Delete),
        Just(Step::Turn),
        Just(Step::Begin),
        Just(Step::Begin),
        Just(Step::Commit),
        Just(Step::Commit),
        Just(Step::Wait),
    ]
}

const FROM: [&str; 3] = ["from/0", "from/1", "from/current/file"];

/// All that is read of the sources.
fn read(site: &Site) -> String {
    FROM.map(|name| fs::read_to_string(site.path(name)).unwrap_or("none".into())).join(",")
}

/// Whatever happens before, during and after builds: a file that is called fresh was made from what is there.
fn history(steps: &[Step]) -> Result<(), TestCaseError> {
    let site = Site::new();
    for release in ["from/r1", "from/r2"] {
        fs::create_dir(site.path(release)).unwrap();
        site.write(&format!("{release}/file"), release);
    }
    symlink("r1", site.path("from/current")).unwrap();
    let (mut number, mut build) = (0, None);
    for step in steps {
        number += 1;
        let text = number.to_string();
        match step {
            Step::Write(which) => drop(site.write(FROM[*which], &text)),
            Step::Move(which) => {
                date(&site.write("from/new", &text), years_ago());
                fs::rename(site.path("from/new"), site.path(FROM[*which])).unwrap();
            }
            Step::Sync(which) => date(&site.write(FROM[*which], &text), years_ago()),
            Step::Delete(which) => drop(fs::remove_file(site.path(FROM[*which]))),
            Step::Turn => {
                let now = fs::read_link(site.path("from/current")).unwrap();
                symlink(if now.ends_with("r1") { "r2" } else { "r1" }, site.path("from/next")).unwrap();
                fs::rename(site.path("from/next"), site.path("from/current")).unwrap();
            }
            Step::Begin => {
                let mut begun = site.begin();
                begun.write(read(&site).as_bytes()).unwrap();
                build = Some(begun);
            }
            Step::Commit => {
                if let Some(begun) = build.take() {
                    begun.commit(|| Ok(())).unwrap();
                }
            }
            Step::Wait => site.settle(),
        }
        if site.is_fresh(&FROM) {
            prop_assert_eq!(
                fs::read_to_string(site.path("made/css")).unwrap(),
                read(&site),
                "after {:?}",
                step
            );
        }
    }
    // And when all is quiet, a build is fresh.
    drop(build);
    site.settle();
    let mut last = site.begin();
    last.write(read(&site).as_bytes()).unwrap();
    last.commit(|| Ok(())).unwrap();
    prop_assert!(site.is_fresh(&FROM));
    Ok(())
}

/// Many at once, since most of their time is waiting.
#[test]
fn a_fresh_file_was_made_from_what_is_there() {
    let config = Config { cases: 2, max_shrink_iters: 20, failure_persistence: None, ..Config::default() };
    std::thread::scope(|threads| {
        for _ in 0..48 {
            threads.spawn(|| {
                let steps = proptest::collection::vec(step(), 1..40);
                TestRunner::new(config.clone()).run(&steps, |steps| history(&steps)).unwrap();
            });
        }
    });
}
