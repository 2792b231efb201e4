//! `list`: what is held now.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use cluster_lock_core::{Identity, LockReport, text};
use serde::Serialize;

use crate::json;
use crate::lock::{doing, mode};
use crate::outcome::{Outcome, Result};
use crate::output::Output;
use crate::servers::now_there;
use crate::style::Style;
use crate::table::{Column, Table};
use crate::target::Target;
use crate::units::{between, span};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Ends with 1 when there is no such lock. MODE is EX, SH of a shared lock, and RUN of one that is held for a run (cluster_coalesced(), run --coalesce). A lock that several hold at once (SH) has a line for each of them; of \
more than 100 the last line says how many more there are."
)]
pub(crate) struct Args {
    /// Only locks whose names begin with this
    #[arg(id = "names", value_name = "PREFIX", default_value = "", hide_default_value = true)]
    prefix: OsString,

    /// Only locks that somebody waits for
    #[arg(short, long)]
    waiting: bool,

    /// The first N by name
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = at_least_one)]
    limit: usize,

    /// Cut nothing, even where a line gets longer than the terminal
    #[arg(long)]
    wide: bool,
}

/// None at all would read as if none were held.
fn at_least_one(text: &str) -> std::result::Result<usize, String> {
    text.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| "1 or more is allowed".into())
}

#[derive(Serialize)]
struct Listing<'a> {
    server: &'a str,
    time: f64,
    truncated: bool,
    locks: Vec<json::Lock<'a>>,
}

/// What there is, once: for a `watch` without a terminal.
pub(crate) fn once(prefix: &OsStr, target: &Target, out: &Output) -> Result<Outcome> {
    run(&Args { prefix: prefix.to_owned(), waiting: false, limit: 1000, wide: false }, target, out)
}

pub(crate) fn run(args: &Args, target: &Target, out: &Output) -> Result<Outcome> {
    let engine = target.engine()?;
    // One more than asked for tells whether there are more.
    let most = if args.waiting { usize::MAX } else { args.limit.saturating_add(1) };
    let mut locks = engine.list(args.prefix.as_bytes(), most)?;
    let now = now_there(&engine);
    locks.retain(|lock| !args.waiting || lock.waiting() > 0);
    let truncated = locks.len() > args.limit;
    locks.truncate(args.limit);
    if out.json {
        let shown = locks.iter().map(|lock| json::Lock::at(now, lock)).collect();
        out.object(&Listing { server: engine.server(), time: now, truncated, locks: shown })?;
    } else if locks.is_empty() {
        let waited = if args.waiting { " that anybody waits for" } else { "" };
        out.note(format_args!("no lock{waited} is held on {}", engine.server()));
    } else {
        out.table(&table(&locks, now), args.wide)?;
        if truncated {
            out.note(format_args!("there are more than {} locks; --limit N or PREFIX", args.limit));
        }
    }
    engine.shutdown();
    Ok(if locks.is_empty() { Outcome::No } else { Outcome::Yes })
}

fn table(locks: &[LockReport], now: f64) -> Table {
    let mut table = Table::new(&[
        Column::new("NAME").cut(24),
        Column::new("MODE"),
        Column::new("NODE").cut(6),
        Column::new("PID").right().optional(5),
        Column::new("SAPI").cut(4).optional(2),
        Column::new("WHAT").cut(8).optional(4),
        Column::new("CALL").cut(16).optional(3),
        Column::new("HELD").right(),
        Column::new("LEASE").right().optional(6),
        Column::new("FENCE").right().optional(1),
        Column::new("WAITING").right(),
    ]);
    let plain = |text: String| (Style::Plain, text);
    for lock in locks {
        let waiting = lock.waiting();
        let waiting = (if waiting > 0 { Style::Warning } else { Style::Dim }, waiting.to_string());
        for holder in &lock.holders {
            let Identity { node, pid, sapi, .. } = &holder.identity;
            table.row([
                plain(lock.name.to_string()),
                plain(mode(lock.mode, &holder.identity).into()),
                plain(text::said(node)),
                plain(pid.to_string()),
                plain(text::said(sapi)),
                plain(doing(&holder.identity)),
                plain(holder.identity.call.to_string()),
                plain(span(between(holder.since, now))),
                plain(span(holder.lease_left)),
                (Style::Dim, holder.fence.to_string()),
                waiting.clone(),
            ]);
        }
        if lock.more_holders > 0 {
            let how = mode(lock.mode, &Identity::default());
            let [name, mode] = [lock.name.to_string(), how.into()].map(plain);
            let others = plain(format!("+{} more", lock.more_holders));
            let none = || plain(String::new());
            table.row([name, mode, others, none(), none(), none(), none(), none(), none(), none(), waiting]);
        }
    }
    table
}
