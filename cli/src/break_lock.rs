//! `break`: takes a lock from whoever holds it.

use std::io::{self, BufRead, IsTerminal, Write};

use cluster_lock_core::LockReport;
use serde::Serialize;

use crate::json;
use crate::lock::{NameArg, who};
use crate::outcome::{Failure, Outcome, Result};
use crate::output::Output;
use crate::server::Target;
use crate::status::now_there;
use crate::units::{between, span};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The next in the queue gets the lock at once. Whoever held it goes on working until it looks (a write under the lock \
is refused), so break a lock only when its holder is known to be stuck; a holder that has died loses it by itself when \
its lease runs out. Ends with 1 when nobody holds it, or the question is answered with no.")]
pub(crate) struct Args {
    #[command(flatten)]
    name: NameArg,

    /// Do not ask; without it the question needs a terminal
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    server: &'a str,
    time: f64,
    #[serde(flatten)]
    name: json::Name,
    broken: bool,
    /// As it was just before.
    before: Option<json::Lock<'a>>,
}

pub(crate) fn run(args: &Args, target: &Target, out: &Output) -> Result<Outcome> {
    let name = args.name.name()?;
    let engine = target.engine()?;
    let before = engine.info(&name).map_err(Failure::of(&name))?;
    let seen = now_there(&engine);
    let wanted = args.yes || before.as_ref().map_or(Ok(true), |report| ask(report, seen))?;
    // Also when nobody was seen to hold it: a record that cannot be read is mended so.
    let broken = wanted && engine.break_lock(&name).map_err(Failure::of(&name))?;
    if out.json {
        let before = before.as_ref().map(|report| json::Lock::at(seen, report));
        out.object(&Answer { server: engine.server(), time: seen, name: (&name).into(), broken, before })?;
    } else {
        match (&before, broken) {
            _ if !wanted => out.note("nothing was done"),
            (Some(report), true) => {
                out.line(format_args!("lock \"{name}\" is broken. {}", held(report, seen)))?;
            }
            (None, true) => out.line(format_args!("lock \"{name}\" is broken"))?,
            (Some(_), false) => out.note(format_args!("lock \"{name}\": it was released meanwhile")),
            (None, false) => {
                out.note(format_args!("lock \"{name}\": nobody holds it on {}", engine.server()));
            }
        }
    }
    engine.shutdown();
    Ok(if broken { Outcome::Yes } else { Outcome::No })
}

/// Who holds it, and who waits, in a sentence.
pub(crate) fn held(report: &LockReport, now: f64) -> String {
    let holders: Vec<_> = report
        .holders
        .iter()
        .map(|holder| format!("{} for {}", who(&holder.identity), span(between(holder.since, now))))
        .collect();
    let waiters = match report.waiters.len() {
        0 => "nobody waits".to_owned(),
        1 => "1 waits".to_owned(),
        n => format!("{n} wait"),
    };
    format!("Held by {}; {waiters}.", holders.join(", "))
}

fn ask(report: &LockReport, now: f64) -> Result<bool> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Usage(format!(
            "lock \"{}\": whether to break it cannot be asked here, where standard input is no terminal: pass --yes",
            report.name
        )));
    }
    let mut answer = String::new();
    let asked = write!(io::stderr(), "Lock \"{}\". {}\nBreak it? [y/N] ", report.name, held(report, now));
    asked.and_then(|()| stdin.lock().read_line(&mut answer)).map_err(Failure::system("the terminal"))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
