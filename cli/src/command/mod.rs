//! The tree of commands: each is a file or a folder here.
#![allow(clippy::doc_markdown)] // what stands here is printed as it is

mod bench;
mod break_lock;
mod doctor;
mod generated;
mod info;
mod init;
mod list;
mod metrics;
mod ping;
pub(crate) mod run;
mod status;
mod watch;

use clap::{CommandFactory, Parser, Subcommand};

use crate::options::OutputArgs;
use crate::outcome::{Outcome, Result};
use crate::output::Output;
use crate::target::{ServerArgs, Target};

/// Who holds which lock of the cluster, who waits, and what is wrong; locks for scripts.
#[derive(Debug, Parser)]
#[command(name = "cluster-lock", version, max_term_width = 100, after_long_help = AFTER)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER: &str = "\
Exit status:
  0   done; the answer is yes
  1   the answer is no: not held, not found, timed out, something to mend
  2   the command line or the settings are not usable
  3   the server cannot be reached, or refuses
  4   a file, the terminal or the operating system refuses
  run passes on the exit status of its command instead; see cluster-lock run --help.

The server is the one of --dsn, else of CLUSTER_LOCK_DSN, else that of php.ini. Everybody on this machine can \
read a command line (ps), so a password belongs into one of the other two.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Locks that are held now, by whom, and who waits
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// One lock: who holds it, and who waits, in order
    Info(info::Args),
    /// Takes a lock from whoever holds it; the next in the queue gets it
    Break(break_lock::Args),
    /// The locks in a live view, longest wait first
    Watch(watch::Args),
    /// How long a round trip to the locks takes
    Ping(ping::Args),
    /// Ends the grace period of servers that have never held a lock, or are known to hold none
    Init(init::Args),
    /// The servers, as far as locks depend on them, and how much is held
    Status(status::Args),
    /// Runs a command under a lock, as flock(1) does on one machine
    Run(run::Args),
    /// Numbers for Prometheus and its kind, as OpenMetrics text
    Metrics(metrics::Args),
    /// What locks cost here and now, as multiples of a round trip
    Bench(bench::Args),
    /// Looks for what is wrong with this installation, and says what to do
    Doctor(doctor::Args),
    /// Prints completions for a shell
    #[command(
        after_help = "For example: cluster-lock completions bash > /etc/bash_completion.d/cluster-lock"
    )]
    Completions(generated::CompletionsArgs),
    /// Prints the manual page, or writes those of all commands
    Man(generated::ManArgs),
}

/// Carries it out; `target` says where the locks live.
pub(crate) fn run(
    command: &Command,
    target: impl FnOnce() -> Result<Target>,
    out: &Output,
) -> Result<Outcome> {
    match command {
        Command::List(args) => list::run(args, &target()?, out),
        Command::Info(args) => info::run(args, &target()?, out),
        Command::Break(args) => break_lock::run(args, &target()?, out),
        Command::Ping(args) => ping::run(args, &target()?, out),
        Command::Init(args) => init::run(args, &target()?, out),
        Command::Status(args) => status::run(args, &target()?, out),
        Command::Metrics(args) => metrics::run(args, &target()?, out),
        Command::Bench(args) => bench::run(args, &target()?, out),
        Command::Watch(args) => watch::run(args, &target()?, out),
        Command::Run(args) => run::run(args, &target()?, out),
        Command::Doctor(args) => doctor::run(args, target(), out),
        Command::Completions(args) => generated::completions(args, Cli::command(), out),
        Command::Man(args) => generated::man(args, Cli::command(), out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }
}
