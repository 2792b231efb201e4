//! The command `cluster-lock`: for whoever wants to know who holds what, and for scripts that need a lock.
//!
//! # Layout
//! * [`args`]: the tree of commands and what all of them understand; completions and manual pages
//!   ([`generated`]) are made of it.
//! * [`server`]: where the locks live: `--dsn`, the environment, or what php.ini says ([`php_ini`]).
//! * [`program`]: asks another program, which may not answer.
//! * [`output`], [`table`], [`json`], [`units`]: text for people, JSON for programs; nothing of what others wrote
//!   drives a terminal.
//! * [`outcome`]: what went wrong, what to do, and the exit codes.
//! * [`list`], [`info`], [`break_lock`], [`run`]: the commands, one a module.
//! * [`doctor`]: looks for what is wrong with an installation.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod args;
mod bench;
mod break_lock;
mod doctor;
mod generated;
mod info;
mod json;
mod list;
mod lock;
mod metrics;
mod outcome;
mod output;
mod php_ini;
mod ping;
mod program;
mod run;
mod server;
mod stats;
mod status;
mod table;
mod units;
mod watch;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use signal_hook::consts::SIGCHLD;

use args::{Cli, Command};
use outcome::{Outcome, Result};
use output::Output;
use server::Target;

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

fn run(command: &Command, target: impl FnOnce() -> Result<Target>, out: &Output) -> Result<Outcome> {
    match command {
        Command::List(args) => list::run(args, &target()?, out),
        Command::Info(args) => info::run(args, &target()?, out),
        Command::Break(args) => break_lock::run(args, &target()?, out),
        Command::Ping(args) => ping::run(args, &target()?, out),
        Command::Status(args) => status::run(args, &target()?, out),
        Command::Metrics(args) => metrics::run(args, &target()?, out),
        Command::Bench(args) => bench::run(args, &target()?, out),
        Command::Watch(args) => watch::run(args, &target()?, out),
        Command::Run(args) => run::run(args, &target()?, out),
        Command::Doctor(args) => doctor::run(args, target(), out),
        Command::Completions(args) => generated::completions(args, out),
        Command::Man(args) => generated::man(args, out),
    }
}
