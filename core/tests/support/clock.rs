//! A wall clock for a server that a test sets: `clock.c`, preloaded.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) struct SetClock {
    library: PathBuf,
    path: PathBuf,
    file: File,
}

impl SetClock {
    pub(super) fn new(dir: &Path) -> Self {
        let library = dir.join("clock.so");
        // Not by its path: other crates' tests use this module, too.
        let source = dir.join("clock.c");
        std::fs::write(&source, include_str!("clock.c")).unwrap();
        let compiled = Command::new("cc")
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)
            .status()
            .expect("cc is needed: run script/bootstrap");
        assert!(compiled.success(), "clock.c does not compile");
        let path = dir.join("clock");
        let clock = Self { library, file: File::create(&path).unwrap(), path };
        clock.run(0);
        clock
    }

    /// It stands still, at this moment.
    pub(super) fn stand(&self, unix_us: u64) {
        self.write(unix_us.cast_signed(), 0);
    }

    /// It runs, so many seconds ahead of this machine's.
    pub(super) fn run(&self, ahead: i64) {
        self.write(ahead * 1_000_000, 1);
    }

    fn write(&self, us: i64, runs: i64) {
        self.file.write_all_at(&[us.to_ne_bytes(), runs.to_ne_bytes()].concat(), 0).unwrap();
    }

    pub(super) fn environment(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", &self.library), ("TEST_CLOCK", &self.path)]
    }
}
