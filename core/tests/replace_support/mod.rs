//! What the tests of atomic replacement share.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cluster_lock_core::replace::{Committed, Existing, MountPoint, Options, Replacement, Target};
use cluster_lock_core::{Error, Result};

pub(crate) const FAST: Options =
    Options { durable: false, mount_point: MountPoint::Refuse, locked: false, dates_from_begin: false };
pub(crate) const DURABLE: Options = Options { durable: true, ..FAST };
/// Allowed, and under a lock.
pub(crate) const IN_PLACE: Options =
    Options { durable: true, mount_point: MountPoint::InPlace, locked: true, dates_from_begin: false };
pub(crate) const NOBODY: u32 = 65534;

/// The whole operation.
pub(crate) fn put(path: &Path, how: Existing, data: &[u8]) -> Result<Committed> {
    put_with(path, how, DURABLE, data)
}

pub(crate) fn put_with(path: &Path, how: Existing, options: Options, data: &[u8]) -> Result<Committed> {
    let mut new = Replacement::begin(&Target::resolve(path)?, how, &options)?;
    new.write(data)?;
    new.commit(|| Ok(()))
}

pub(crate) fn replace(path: &Path, data: &[u8]) -> Result<Committed> {
    put(path, Existing::Replace, data)
}

/// The cause of a failure, without the path.
pub(crate) fn cause<T: std::fmt::Debug>(outcome: Result<T>) -> String {
    match outcome.unwrap_err() {
        Error::File { cause, .. } => cause,
        other => panic!("not a file error: {other}"),
    }
}

/// The temporary files in a directory.
pub(crate) fn temps(dir: &Path) -> Vec<PathBuf> {
    let ours = |path: &PathBuf| path.as_os_str().as_bytes().ends_with(b".cluster_lock.tmp");
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(ours).collect()
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// Whether extended attributes of this kind can be set here.
pub(crate) fn supports(path: &Path, name: &str, value: &[u8]) -> bool {
    let outcome = rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty());
    if let Err(e) = &outcome {
        eprintln!("skipped: {name} cannot be set here: {e}");
    }
    outcome.is_ok()
}

/// Another process, running the ignored test `helper` of this test program.
pub(crate) struct Helper(Child, BufReader<std::process::ChildStdout>);

impl Helper {
    pub(crate) fn start(job: &str, path: &Path, user: Option<u32>) -> Self {
        // A copy, because another user may not reach the build directory.
        let program = path.parent().unwrap().join(".helper-program");
        if user.is_some() {
            fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        }
        let mut command =
            Command::new(if user.is_some() { program } else { std::env::current_exe().unwrap() });
        command.args(["--exact", "helper", "--ignored", "--nocapture"]);
        command.env("JOB", job).env("FILE", path).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(id) = user {
            command.uid(id).gid(id);
        }
        let mut child = loop {
            match command.spawn() {
                // Another thread forked while the copy was being written: for a moment its child
                // has it open for writing.
                Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                outcome => break outcome.unwrap(),
            }
        };
        let output = BufReader::new(child.stdout.take().unwrap());
        Self(child, output)
    }

    /// What it says next.
    pub(crate) fn says(&mut self) -> String {
        let mut line = String::new();
        while self.1.read_line(&mut line).unwrap() > 0 {
            // The test harness writes "test helper ... " without a line end.
            if let Some((_, said)) = line.split_once("says: ") {
                return said.trim_end().to_owned();
            }
            line.clear();
        }
        panic!("the helper ended");
    }

    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Does one write in a process of its own; what came of it.
    pub(crate) fn run(job: &str, path: &Path, user: Option<u32>) -> String {
        let mut helper = Self::start(job, path, user);
        let said = helper.says();
        helper.0.wait().unwrap();
        said
    }
}

/// The body of the helper.
pub(crate) fn help() {
    let Some(path) = std::env::var_os("FILE").map(PathBuf::from) else { return };
    let said = match std::env::var("JOB").unwrap().as_str() {
        "hang" => {
            let target = Target::resolve(&path).unwrap();
            let mut new = Replacement::begin(&target, Existing::Replace, &FAST).unwrap();
            new.write(b"half").unwrap();
            println!("says: ready");
            std::thread::sleep(std::time::Duration::from_secs(600));
            return;
        }
        "umask 027" => {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o027));
            replace(&path, b"new")
        }
        "write plainly" => {
            fs::write(&path, b"new").unwrap();
            println!("says: done");
            return;
        }
        "append" => put(&path, Existing::Append, b"new"),
        "in place" => put_with(&path, Existing::Replace, IN_PLACE, b"new"),
        "append in place" => put_with(&path, Existing::Append, IN_PLACE, b"new"),
        "nothing in place" => put_with(&path, Existing::Replace, IN_PLACE, b""),
        "in place without a lock" => {
            put_with(&path, Existing::Replace, Options { locked: false, ..IN_PLACE }, b"new")
        }
        "in place, and the lock is lost at the last moment" => {
            let mut new =
                Replacement::begin(&Target::resolve(&path).unwrap(), Existing::Replace, &IN_PLACE).unwrap();
            new.write(b"new").unwrap();
            let mut asked = 0;
            new.commit(|| {
                asked += 1;
                if asked == 1 { Ok(()) } else { Err(Error::Invalid("lost".into())) }
            })
        }
        _ => replace(&path, b"new"),
    };
    match said {
        Ok(done) => println!("says: {}", done.durability_warning.unwrap_or("done".into())),
        Err(e) => println!("says: {e}"),
    }
}
