//! `init`: servers that hold nothing need no grace period.

use cluster_lock_core::text;
use serde::Serialize;

use crate::json;
use crate::outcome::{Failure, Outcome, Result};
use crate::output::Output;
use crate::target::Target;
use crate::units::now;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
With ?grace= in the DSN a server that has no record of a lock lets nobody in for that long, because it may have lost \
its memory while the lock was held: also one that is new. Whoever knows that nothing is held there says so with this. \
If something is held all the same, another one may get it too. Ends with 2 when the DSN asks for no grace period, and \
with 3 when a server could not be told.")]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Answer<'a> {
    server: &'a str,
    time: f64,
    servers: Vec<json::Facts<'a>>,
}

pub(crate) fn run(_: &Args, target: &Target, out: &Output) -> Result<Outcome> {
    let engine = target.engine()?;
    let told = engine.end_grace();
    if told.is_empty() {
        return Err(Failure::Usage(
            "the DSN asks for no grace period (?grace=SECONDS): there is none to end".into(),
        ));
    }
    if out.json {
        let servers = told.iter().map(json::Facts::from).collect();
        out.object(&Answer { server: engine.server(), time: now(), servers })?;
    } else {
        for report in &told {
            let what = report.error.as_deref().map_or_else(|| "its grace period is over".into(), text::said);
            out.line(format_args!("{}: {what}", text::said(&report.server)))?;
        }
    }
    engine.shutdown();
    match told.into_iter().find_map(|report| Some((report.server, report.error?))) {
        Some((server, cause)) => Err(cluster_lock_core::Error::Server { server, cause }.into()),
        None => Ok(Outcome::Yes),
    }
}
