//! `break`: takes a lock from whoever holds it.

use std::io::{self, BufRead, IsTerminal, Write};

use cluster_lock_core::{Broken, Error, LockReport};
use serde::Serialize;

use crate::json;
use crate::lock::{another, held};
use crate::options::NameArg;
use crate::outcome::{Failure, Outcome, Result};
use crate::output::Output;
use crate::servers::now_there;
use crate::target::Target;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The next in the queue gets the lock at once. Whoever held it goes on working until it looks (a write under the lock \
is refused), so break a lock only when its holder is known to be stuck; a holder that has died loses it by itself when \
its lease runs out. What is answered with yes holds for the holder that the question names: if another one has come \
meanwhile, nothing is broken. --yes breaks it whoever holds it, and clears what something else has written in its \
place; with --fence only if nobody has got it since that fencing token was given out. Ends with 1 when nobody holds \
it, another one does, or the question is answered with no.")]
pub(crate) struct Args {
    #[command(flatten)]
    name: NameArg,

    /// Do not ask; without it the question needs a terminal
    #[arg(short, long)]
    yes: bool,

    /// Only from the holder with this fencing token, as info and list tell it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    fence: Option<u64>,
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
    /// Who has it instead, when nothing was broken because of that.
    now: Option<json::Lock<'a>>,
}

pub(crate) fn run(args: &Args, target: &Target, out: &Output) -> Result<Outcome> {
    let name = args.name.name()?;
    let engine = target.engine()?;
    let whoever = args.yes && args.fence.is_none();
    let before = match engine.info(&name) {
        // Perhaps because the record cannot be read, and to break it is to clear it.
        Err(Error::Server { .. }) if whoever => None,
        outcome => outcome.map_err(Failure::of(&name))?,
    };
    let seen = now_there(&engine);
    let wanted = args.yes || before.as_ref().map_or(Ok(false), |report| ask(report, seen))?;
    let broken = if wanted {
        let meant = args.fence.or(before.as_ref().map(|report| report.fence)).filter(|_| !whoever);
        engine.break_lock(&name, meant).map_err(Failure::of(&name))?
    } else {
        Broken::Free
    };
    let now = if broken == Broken::Another { engine.info(&name).ok().flatten() } else { None };
    if out.json {
        let lock = |report| json::Lock::at(seen, report);
        let (before, now) = (before.as_ref().map(lock), now.as_ref().map(lock));
        let broken = broken == Broken::Yes;
        out.object(&Answer {
            server: engine.server(),
            time: seen,
            name: (&name).into(),
            broken,
            before,
            now,
        })?;
    } else {
        match (&before, broken) {
            (Some(_), _) if !wanted => out.note("nothing was done"),
            (Some(report), Broken::Yes) => {
                out.line(format_args!("lock \"{name}\" is broken. {}", held(report, seen)))?;
            }
            (None, Broken::Yes) => out.line(format_args!("lock \"{name}\" is broken"))?,
            (_, Broken::Another) => {
                out.note(format_args!("lock \"{name}\": {}", another(now.as_ref(), seen)));
            }
            (Some(_), Broken::Free) => out.note(format_args!("lock \"{name}\": it was released meanwhile")),
            (None, Broken::Free) => {
                out.note(format_args!("lock \"{name}\": nobody holds it on {}", engine.server()));
            }
        }
    }
    engine.shutdown();
    Ok(if broken == Broken::Yes { Outcome::Yes } else { Outcome::No })
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
