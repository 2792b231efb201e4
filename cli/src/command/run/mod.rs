//! `run`: flock(1) for a cluster. Takes a lock, runs a command, gives the lock back.
#![allow(clippy::doc_markdown)] // the options' help is printed as it is

mod child;
mod signals;
mod witness;

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use cluster_lock_core::settings::read;
use cluster_lock_core::{
    Acquire, Acquired, Engine, Identity, Lease, LockError, LockName, Loss, Mode, Standing, text,
};
use serde::Serialize;

use crate::json;
use crate::lock::who;
use crate::options::NameArg;
use crate::outcome::{Failure, Outcome, Result};
use crate::output::Output;
use crate::target::Target;
use crate::units::{seconds, span};

use child::Running;
pub(crate) use child::become_command;
pub(crate) use signals::die_of;
use signals::{Event, Signals};
pub(crate) use witness::become_witness;

/// sysexits.h's EX_UNAVAILABLE: no lock, for want of a server; nothing was run.
const UNAVAILABLE: u8 = 69;
/// sysexits.h's EX_TEMPFAIL: the lock was lost.
const LOST: u8 = 75;
/// How often the lease is looked at, without asking the server.
const LOOK: Duration = Duration::from_millis(200);

const AFTER: &str = "\
The lock is renewed in the background for as long as the command runs, and given back when it ends. The command \
finds CLUSTER_LOCK_NAME and CLUSTER_LOCK_FENCE in its environment; the latter is a number greater than that of \
every earlier holder: store it with the data, and refuse smaller ones, where even a second of overlap matters.

SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on, unless the command has got them already (^C, or \
kill with the process group). When the command dies of a signal that came to cluster-lock as well, the lock is given \
back, and cluster-lock dies of the same signal, so that a shell script ends; when the command ends by itself, with the \
command's exit status. A signal during the wait for the lock, or during --at-least, ends cluster-lock in the same way. \
Where there is no controlling terminal (cron, \
systemd) the command gets a process group of its own, and signals go to all of it. If cluster-lock is killed \
(SIGKILL), the kernel sends SIGTERM to the command (not to what it has started), and the lock comes free when its \
lease runs out.

Lost is a lock when somebody broke it, or the server lost its data or could not be reached for as long as the lease. \
Then another node may run the same command at the same time, which is what the lock is to prevent; so by default \
the command is ended. Whoever can live with two at a time rather than with none chooses --on-loss warn.

With --coalesce a run does for all who came before it began: whoever comes while one is under way waits, and one of them runs the command for all of them, on this node or another. So the command must read what it works on when it starts. A run that fails (exit status other than 0) does for nobody; whoever is next runs. For whom another's run has done the exit status is 0.

Exit status: that of the command, 128 + N when signal N ended the command alone, 127 or 126 when it cannot be found or started; or
  1   the lock was not free, in time; --conflict-exit-code N makes it N
  2   the command line or the settings are not usable
  69  the server cannot be reached, or refuses; the command was not run
  75  the lock was lost while the command ran (with --on-loss warn the command's own)

Examples:
  cluster-lock run --no-wait --at-least 30 import -- /usr/local/bin/import    cron, on every node: one runs it
  cluster-lock run --timeout 60 deploy -- make deploy
  cluster-lock run --coalesce index -- /usr/local/bin/reindex    after each change, on any node";

#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools)] // options are either given or not
#[command(after_long_help = AFTER, after_help = "cluster-lock run --help tells of signals, lost locks and the exit status.")]
pub(crate) struct Args {
    #[command(flatten)]
    name: NameArg,

    /// What to run
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,

    /// The longest wait for the lock; without it there is no limit
    #[arg(short, long, visible_alias = "wait", short_alias = 'w', value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,

    /// One try: somebody else has it, so be it. Without a word, as cron likes it
    #[arg(short, long, visible_alias = "nonblock", alias = "nb", conflicts_with = "timeout")]
    no_wait: bool,

    /// Shared: with others that ask for it shared, and not beside an exclusive one
    #[arg(short, long)]
    shared: bool,

    /// A run that begins after this call does for it, whoever runs it: so many calls at once cost two runs
    #[arg(long, conflicts_with = "shared")]
    coalesce: bool,

    /// The lease: how long the lock outlives this process if that is killed, and how long the server may be
    /// away before the lock is lost
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = read::ttl)]
    ttl: Duration,

    /// Keep the lock for at least so long, even when the command ends sooner. Clocks of nodes differ: without
    /// it a short job that cron starts everywhere at the same minute runs on the next node when it is done here
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    at_least: Duration,

    /// The exit status when the lock is not free
    #[arg(short = 'E', long, value_name = "N", default_value_t = 1)]
    conflict_exit_code: u8,

    /// What to do with the command when the lock is lost meanwhile
    #[arg(long, value_name = "ACTION", default_value = "terminate")]
    on_loss: OnLoss,

    /// How long after SIGTERM a command that goes on gets SIGKILL
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    kill_after: Duration,

    /// Say on standard error how long it took to get the lock, and who was in the way
    #[arg(short, long)]
    verbose: bool,
}

/// What becomes of the command when the lock is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnLoss {
    /// SIGTERM, and later SIGKILL; exit status 75
    Terminate,
    /// A warning; the command goes on without the lock
    Warn,
}

/// The object of `--json`; on standard error, because standard output is the command's.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    name: json::Name,
    acquired: bool,
    covered: bool,
    waited_seconds: f64,
    fence: Option<u64>,
    held_seconds: Option<f64>,
    lost: Option<String>,
    exit_code: u8,
}

pub(crate) fn run(args: &Args, target: &Target, out: &Output) -> Result<Outcome> {
    let name = args.name.name()?;
    // Before the lock is taken: it could not be given to the command.
    if name.as_bytes().contains(&0) {
        return Err(Failure::Usage(
            "NAME: there is a \\0 in it, which CLUSTER_LOCK_NAME in the command's environment cannot hold: \
             choose a name without"
                .into(),
        ));
    }
    let engine = target.engine()?;
    // Before the lock is asked for: from now on nobody ends us without the lock being given back.
    let signals = Signals::catch().map_err(Failure::system("signal handlers"))?;
    let outcome = take(args, &name, target, &engine, &signals, out);
    engine.shutdown();
    outcome
}

fn take(
    args: &Args,
    name: &LockName,
    target: &Target,
    engine: &Engine,
    signals: &Signals,
    out: &Output,
) -> Result<Outcome> {
    let identity = identity(target, args).encode();
    let interrupted = || signals.first().is_some();
    let how = Acquire {
        mode: if args.shared { Mode::Shared } else { Mode::Exclusive },
        run: args.coalesce,
        timeout: if args.no_wait { Some(Duration::ZERO) } else { args.timeout },
        ttl: args.ttl,
        auto_renew: true,
        max_hold: None,
        identity: &identity,
        interrupted: &interrupted,
    };
    let told = |waited: Duration| Told {
        name: name.into(),
        acquired: false,
        covered: false,
        waited_seconds: waited.as_secs_f64(),
        fence: None,
        held_seconds: None,
        lost: None,
        exit_code: 0,
    };
    let began = Instant::now();
    match engine.acquire(name, &how) {
        Ok(Acquired::Held { lease, waited, blocker }) => {
            if args.verbose {
                let behind =
                    blocker.map_or_else(String::new, |blocker| format!(", behind {}", who(&blocker.holder)));
                out.note(format_args!(
                    "lock \"{name}\": taken after {}{behind}, fence {}",
                    span(waited),
                    lease.fence()
                ));
            }
            hold(args, lease, signals, out, told(waited))
        }
        Ok(Acquired::Covered { waited, .. }) => {
            if args.verbose {
                out.note(format_args!("lock \"{name}\": done after {}, by another's run", span(waited)));
            }
            finish(Outcome::Code(0), Told { covered: true, ..told(waited) }, out)
        }
        Ok(Acquired::TimedOut { waited, blocker }) => {
            if args.verbose || !args.no_wait {
                let holder = blocker.map_or_else(|| "somebody".into(), |blocker| who(&blocker.holder));
                out.note(format_args!("lock \"{name}\": not free within {}: {holder} has it", span(waited)));
            }
            finish(Outcome::Code(args.conflict_exit_code), told(waited), out)
        }
        Ok(Acquired::Interrupted(pending)) => {
            drop(pending); // out of the queue
            let outcome = signals.first().map_or(Outcome::No, Outcome::Signal);
            finish(outcome, told(began.elapsed()), out)
        }
        Err(error) => {
            out.report(&Failure::from(LockError { name: name.clone(), error }));
            finish(Outcome::Code(UNAVAILABLE), told(began.elapsed()), out)
        }
    }
}

fn finish(outcome: Outcome, mut told: Told, out: &Output) -> Result<Outcome> {
    told.exit_code = outcome.code();
    if out.json {
        out.aside(&told)?;
    }
    Ok(outcome)
}

/// The command's name, not its arguments: they may hold what is not for everybody's eyes.
fn identity(target: &Target, args: &Args) -> Identity {
    let program = args.command.first().map(Path::new).map(text::path).unwrap_or_default();
    Identity {
        node: target.config.node.clone(),
        pid: std::process::id(),
        sapi: "cluster-lock run".into(),
        script: program,
        ..Identity::default()
    }
}

fn hold(args: &Args, lease: Lease, signals: &Signals, out: &Output, mut told: Told) -> Result<Outcome> {
    let name = lease.name().clone();
    told.acquired = true;
    told.fence = Some(lease.fence());
    let began = Instant::now();
    let mut child = match child::start(&args.command, &name, lease.fence(), signals.sender()) {
        Ok(child) => child,
        Err(error) => {
            out.note(format_args!("the command cannot be started: {error}"));
            return finish(Outcome::Code(child::NOT_STARTED), told, out);
        }
    };
    let lost = supervise(args, &mut child, &lease, signals, out);
    let status = child.wait().map_err(Failure::system("waitpid"))?;
    told.held_seconds = Some(began.elapsed().as_secs_f64());
    // What has ended the command was meant for us as well: whoever waits for us is to see it. When the command has
    // dealt with the signal and ended by itself, so do we.
    let mut ended_by = status.signal().filter(|signal| signals.has_come(*signal));
    if lost.is_none() && ended_by.is_none() {
        ended_by = linger(began + args.at_least, &lease, signals);
    }
    let lost = lost.or_else(|| give_back(lease, status.success(), args.ttl, out));
    told.lost = lost.as_ref().map(ToString::to_string);
    let outcome = if lost.is_some() && args.on_loss == OnLoss::Terminate {
        Outcome::Code(LOST)
    } else if let Some(signal) = ended_by.and_then(|signal| u8::try_from(signal).ok()) {
        Outcome::Signal(signal)
    } else {
        Outcome::Code(child::code(status))
    };
    finish(outcome, told, out)
}

/// Until the command has ended: passes signals on, and watches over the lock. Returns its loss.
fn supervise(
    args: &Args,
    child: &mut Running,
    lease: &Lease,
    signals: &Signals,
    out: &Output,
) -> Option<Loss> {
    let mut lost: Option<(Loss, Instant)> = None;
    let mut killed = false;
    loop {
        match signals.next(LOOK) {
            Ok(Event::Ended) | Err(RecvTimeoutError::Disconnected) => return lost.map(|(loss, _)| loss),
            Ok(Event::Signal { number, by_terminal }) => child.pass_on(number, by_terminal),
            Err(RecvTimeoutError::Timeout) => {}
        }
        match &lost {
            None => {
                if let Some(loss) = lease.loss() {
                    let ended = if args.on_loss == OnLoss::Terminate {
                        "the command is ended (SIGTERM)"
                    } else {
                        "the command goes on without it"
                    };
                    out.note(format_args!("lock \"{}\" is lost: {loss}; {ended}", lease.name()));
                    if args.on_loss == OnLoss::Terminate {
                        child.terminate();
                    }
                    lost = Some((loss, Instant::now()));
                }
            }
            Some((_, since)) => {
                if args.on_loss == OnLoss::Terminate && !killed && since.elapsed() >= args.kill_after {
                    out.note("the command goes on after SIGTERM, and is killed (SIGKILL)");
                    child.kill();
                    killed = true;
                }
            }
        }
    }
}

/// Keeps the lock until then; a signal ends that, and so does a loss. Returns the signal.
fn linger(until: Instant, lease: &Lease, signals: &Signals) -> Option<i32> {
    while lease.is_held() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        if let Ok(Event::Signal { number, .. }) = signals.next(left.min(LOOK)) {
            return Some(number);
        }
    }
    None
}

/// Gives the lock back; a run that is `complete` does for all who came before it began. Returns its loss, of which nobody
/// knew before.
fn give_back(lease: Lease, complete: bool, ttl: Duration, out: &Output) -> Option<Loss> {
    let name = lease.name().clone();
    match if complete { lease.complete() } else { lease.release() } {
        Ok(Standing::Ours) => None,
        Ok(Standing::Lost(loss)) => {
            out.note(format_args!("lock \"{name}\" was lost while the command ran: {loss}"));
            Some(loss)
        }
        Err(error) => {
            let within = span(ttl);
            out.note(format_args!(
                "lock \"{name}\" could not be given back; it comes free by itself within {within}: {error}"
            ));
            None
        }
    }
}
