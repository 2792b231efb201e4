//! The command as a process: how it is started, signalled, and what its end means.
//!
//! It is started through this program itself (`__exec`), which asks the kernel for a signal should its
//! parent die, and becomes the command: between fork and exec that cannot be asked for without unsafe code.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::mpsc::Sender;

use cluster_lock_core::{LockName, text};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getppid, kill_process, kill_process_group,
    set_parent_process_death_signal, waitid,
};

use super::signals::Event;
use super::witness::Witness;

/// As shells have it.
const NOT_FOUND: u8 = 127;
pub(super) const NOT_STARTED: u8 = 126;
/// As if SIGTERM had come in time.
const ORPHANED: u8 = 128 + 15;

/// Ahead of the command's own arguments; not a command of ours that anybody is offered.
const BECOME: &str = "__exec";

/// A command that runs. Its process id is its own until [`Running::wait`].
pub(super) struct Running {
    child: Child,
    pid: Pid,
    /// Its process group is its own, too.
    has_group: bool,
    /// Of the group, where it is ours.
    witness: Option<Witness>,
}

/// Starts a command, whose end is an event.
///
/// The kernel takes the end of the *thread* that started it for the end of its parent: call this in the main one.
pub(super) fn start(
    command: &[OsString],
    name: &LockName,
    fence: u64,
    tell: Sender<Event>,
) -> io::Result<Running> {
    let has_group = File::open("/dev/tty").is_err();
    // Without one a signal to the group reaches the command twice; that is better than not at all.
    let witness = if has_group { None } else { Witness::start().ok() };
    let mut starter = Command::new("/proc/self/exe");
    starter
        .arg0("cluster-lock")
        .arg(BECOME)
        .arg(std::process::id().to_string())
        .args(command)
        .env("CLUSTER_LOCK_NAME", std::ffi::OsStr::from_bytes(name.as_bytes()))
        .env("CLUSTER_LOCK_FENCE", fence.to_string());
    if has_group {
        starter.process_group(0);
    }
    let child = starter.spawn()?;
    let pid = Pid::from_child(&child);
    std::thread::Builder::new().name("child".into()).spawn(move || {
        // NOWAIT: it stays a zombie, so that a signal never hits somebody else who got its number.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(pid), options), Err(rustix::io::Errno::INTR)) {}
        let _ = tell.send(Event::Ended);
    })?;
    Ok(Running { child, pid, has_group, witness })
}

impl Running {
    fn signal(&self, signal: Signal) {
        // It may have ended meanwhile.
        let _ = if self.has_group {
            kill_process_group(self.pid, signal)
        } else {
            kill_process(self.pid, signal)
        };
    }

    /// Hands on a signal that we got, unless the command has got it, too.
    pub(super) fn pass_on(&mut self, number: i32, by_terminal: bool) {
        let was_seen = self.witness.as_mut().and_then(|witness| witness.has_seen(number));
        if was_seen.is_none() {
            self.witness = None;
        }
        let was_seen = was_seen.unwrap_or(false);
        if self.has_group || !(by_terminal || was_seen) {
            self.signal_number(number);
        }
    }

    fn signal_number(&self, number: i32) {
        if let Some(signal) = Signal::from_named_raw(number) {
            self.signal(signal);
        }
    }

    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
        // A stopped process takes no other.
        self.signal(Signal::CONT);
    }

    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// How it ended.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

/// The exit code that stands for how a command ended.
pub(super) fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255);
    u8::try_from(code).unwrap_or(255)
}

/// If this process is one that [`start`] has started: becomes the command, which is sent SIGTERM when its
/// parent dies. Returns when it cannot.
pub(crate) fn become_command() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    args.next().filter(|first| first == BECOME)?;
    let parent = args.next().and_then(|pid| pid.to_str()?.parse().ok()).and_then(Pid::from_raw);
    let program = args.next()?;
    if set_parent_process_death_signal(Some(Signal::TERM)).is_err() {
        return Some(ExitCode::from(NOT_STARTED));
    }
    // It may have died before we asked.
    if getppid() != parent {
        return Some(ExitCode::from(ORPHANED));
    }
    let error = Command::new(&program).args(args).exec();
    eprintln!("cluster-lock: {}: {error}", text::path(program.as_ref()));
    let not_found = error.kind() == io::ErrorKind::NotFound;
    Some(ExitCode::from(if not_found { NOT_FOUND } else { NOT_STARTED }))
}
