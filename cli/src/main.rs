//! The command `cluster-lock`: for whoever wants to know who holds what, and for scripts that need a lock.
//!
//! # Layout
//! * [`command`]: the tree of commands; each is a file or a folder there.
//! * [`options`]: what several commands understand. [`target`]: where the locks live, by `--dsn`, the environment or
//!   php.ini ([`php_ini`], which asks PHP: [`program`]).
//! * [`servers`]: what servers say of themselves, and whether locks are safe there. [`finding`]: what is found wrong, and
//!   what to do. [`direct`]: speaks to one server, beside the engine.
//! * [`lock`]: who holds and who waits, in words. [`units`], [`stats`]: times and sizes.
//! * [`output`]: text for people ([`style`], [`table`]), JSON for programs ([`json`]); nothing of what others wrote drives
//!   a terminal. [`outcome`]: how a command ends: exit codes, and failures that say what to do.
//!
//! # One call
//! `main` → [`command`] → [`target`] → the engine of `cluster-lock-core`; and back as text to [`output`] and as an
//! [`outcome`] to `main`. No command knows another one, but that `watch` is `list` where there is no terminal; nothing
//! else knows a command; and there is no circle.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod command;
mod direct;
mod finding;
mod json;
mod lock;
mod options;
mod outcome;
mod output;
mod php_ini;
mod program;
mod servers;
mod stats;
mod style;
mod table;
mod target;
mod units;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use signal_hook::consts::SIGCHLD;

use command::{Cli, run};
use outcome::Outcome;
use output::Output;
use target::Target;

fn main() -> ExitCode {
    if let Some(code) = run::become_command().or_else(run::become_witness) {
        return code;
    }
    // Whoever has started us may ignore it, and then nobody can be waited for. A handler is given to no program that
    // is started from here.
    let _ = signal_hook::flag::register(SIGCHLD, Arc::default());
    let cli = Cli::parse();
    let out = Output::new(&cli.output);
    let mut source = None;
    let target = || Target::find(&cli.server, &out).inspect(|target| source = Some(target.source.clone()));
    match run(&cli.command, target, &out) {
        Ok(outcome) => {
            if let Outcome::Signal(number) = outcome {
                run::die_of(number);
            }
            outcome.code().into()
        }
        Err(failure) => {
            let code = out.failure(&failure);
            if let Some(source) = source.filter(|_| failure.is_of_the_server()) {
                out.note(format_args!("the server is that of {source}"));
            }
            code
        }
    }
}
