//! Calls the command, and reads what it says.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use serde_json::Value;

use crate::support::RedisServer;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_cluster-lock");

/// The command for a server, with nothing of this test's environment that it would look at.
pub(crate) fn on(dsn: &str) -> Command {
    let mut command = bare();
    command.env("CLUSTER_LOCK_DSN", dsn);
    command
}

pub(crate) fn bare() -> Command {
    // Nor the signals that whoever started this test ignores, as nohup and a shell's "&" do.
    let mut command = Command::new("/usr/bin/env");
    command.args(["--default-signal", PROGRAM]);
    for name in ["CLUSTER_LOCK_DSN", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// The exit code, or -N when signal N has ended it.
pub(crate) fn code_of(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| -signal)).unwrap()
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// As [`code_of`] has it.
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Ended so, and said all of this, on either stream.
    #[track_caller]
    pub(crate) fn expect(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.out.contains(word) || self.err.contains(word), "\"{word}\" is missing in {self:?}");
        }
        self
    }
}

pub(crate) fn call<A: AsRef<OsStr>>(mut command: Command, args: impl IntoIterator<Item = A>) -> Said {
    let out = command.args(args).output().unwrap();
    Said {
        code: code_of(out.status),
        out: String::from_utf8(out.stdout).unwrap(),
        err: String::from_utf8(out.stderr).unwrap(),
    }
}

pub(crate) fn ask<A: AsRef<OsStr>>(server: &RedisServer, args: impl IntoIterator<Item = A>) -> Said {
    call(on(&server.unix_dsn()), args)
}

/// A call that goes on; killed when it is dropped.
pub(crate) struct Ongoing {
    pub(crate) child: Child,
    out: BufReader<ChildStdout>,
}

impl Ongoing {
    pub(crate) fn start<A: AsRef<OsStr>>(mut command: Command, args: impl IntoIterator<Item = A>) -> Self {
        let mut child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// Waits for a line of its standard output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Said {
        let mut out = String::new();
        std::io::Read::read_to_string(&mut self.out, &mut out).unwrap();
        let mut err = String::new();
        std::io::Read::read_to_string(self.child.stderr.as_mut().unwrap(), &mut err).unwrap();
        let status = self.child.wait().unwrap();
        Said { code: code_of(status), out, err }
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes a lock and holds it until it is dropped (and the shell in it with it).
pub(crate) fn holder(server: &RedisServer, args: &[&str]) -> Ongoing {
    let shell = ["--", "sh", "-c", "echo ready; exec sleep 1000"];
    let mut held = Ongoing::start(on(&server.unix_dsn()), ["run"].iter().chain(args).chain(&shell));
    assert_eq!(held.line(), "ready", "{args:?} is not free");
    held
}
