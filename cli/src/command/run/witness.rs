//! Tells a signal that was sent to the whole process group from one that was sent to this process alone.
//!
//! At a terminal the command is in the same group, so that `^C` and reading work. What kill(2) sends to the group has
//! then reached the command, too, and must not reach it twice; what it sends to us has not, and must be passed on. The
//! signal itself does not say which it was. So one more process of the group, which does nothing else, is asked whether
//! it has got the signal as well. The kernel signals a group's members youngest first, so it has when we have.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::signals::PASSED_ON;

/// Ahead of no arguments; not a command of ours that anybody is offered.
const WITNESS: &str = "__witness";

/// It answers at once, unless it is stopped.
const PATIENCE: Duration = Duration::from_millis(500);

pub(super) struct Witness {
    child: Child,
    questions: ChildStdin,
    answers: ChildStdout,
}

impl Witness {
    pub(super) fn start() -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("cluster-lock")
            .arg(WITNESS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("there is no pipe"));
        };
        let mut witness = Self { child, questions, answers };
        // From now on no signal ends it.
        if witness.answer().is_none() {
            return Err(io::Error::other("the witness does not start"));
        }
        Ok(witness)
    }

    /// Whether it has got this signal, too, since it was asked about it last; `None` when it does not answer, and is
    /// not to be asked again: the answer might still come.
    pub(super) fn has_seen(&mut self, number: i32) -> Option<bool> {
        let question = u8::try_from(number).ok()?;
        self.questions.write_all(&[question]).ok()?;
        self.answer().map(|answer| answer == 1)
    }

    fn answer(&mut self) -> Option<u8> {
        let patience = Timespec::try_from(PATIENCE).ok()?;
        let mut answers = [PollFd::new(&self.answers, PollFlags::IN)];
        loop {
            match poll(&mut answers, Some(&patience)) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(1..) => break,
                _ => return None,
            }
        }
        let mut answer = [0];
        self.answers.read_exact(&mut answer).ok()?;
        answer.first().copied()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// If this process is one that [`Witness::start`] has started: watches until nobody asks any more.
pub(crate) fn become_witness() -> Option<ExitCode> {
    std::env::args_os().nth(1).filter(|first| first == WITNESS)?;
    let seen: Vec<(i32, Arc<AtomicBool>)> =
        PASSED_ON.iter().map(|&signal| (signal, Arc::new(AtomicBool::new(false)))).collect();
    for (signal, seen) in &seen {
        if signal_hook::flag::register(*signal, Arc::clone(seen)).is_err() {
            return Some(ExitCode::FAILURE);
        }
    }
    let (mut questions, mut answers) = (io::stdin().lock(), io::stdout().lock());
    let mut question = [0];
    let mut say = |answer: u8| answers.write_all(&[answer]).and_then(|()| answers.flush());
    if say(0).is_err() {
        return Some(ExitCode::FAILURE);
    }
    while questions.read_exact(&mut question).is_ok() {
        let about = question.first().map_or(0, |&number| i32::from(number));
        let seen = seen.iter().find(|(signal, _)| *signal == about);
        if say(u8::from(seen.is_some_and(|(_, seen)| seen.swap(false, Ordering::Relaxed)))).is_err() {
            break;
        }
    }
    Some(ExitCode::SUCCESS)
}
