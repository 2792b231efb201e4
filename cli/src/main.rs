//! The command `cluster-lock`: for whoever wants to know who holds what, and for scripts that need a lock.
//!
//! # Layout
//! * [`args`]: the tree of commands and what all of them understand; completions and manual pages
//!   ([`generated`]) are made of it.
//! * [`server`]: where the locks live: `--dsn`, the environment, or what php.ini says ([`php_ini`]).
//! * [`output`], [`table`], [`json`], [`units`]: text for people, JSON for programs; nothing of what others wrote
//!   drives a terminal.
//! * [`outcome`]: what went wrong, what to do, and the exit codes.
//! * [`list`], [`info`], [`break_lock`]: the commands, one a module.
//! * [`doctor`]: looks for what is wrong with an installation.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod args;
mod break_lock;
mod doctor;
mod generated;
mod info;
mod json;
mod list;
mod lock;
mod outcome;
mod output;
mod php_ini;
mod server;
mod table;
mod units;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use outcome::{Outcome, Result};
use output::Output;
use server::Target;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Output::new(&cli.output);
    match run(cli, &out) {
        Ok(outcome) => outcome.into(),
        Err(failure) => out.failure(&failure),
    }
}

fn run(cli: Cli, out: &Output) -> Result<Outcome> {
    let target = || Target::find(&cli.server, out);
    match cli.command {
        Command::List(args) => list::run(&args, &target()?, out),
        Command::Info(args) => info::run(&args, &target()?, out),
        Command::Break(args) => break_lock::run(&args, &target()?, out),
        Command::Doctor(args) => doctor::run(&args, target(), out),
        Command::Completions(args) => generated::completions(&args, out),
        Command::Man(args) => generated::man(&args, out),
    }
}
