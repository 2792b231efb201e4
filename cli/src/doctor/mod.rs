//! Looks for what is wrong with an installation.

use cluster_lock_core::text;

use crate::outcome::{Outcome, Result};
use crate::output::{Output, Style};
use crate::server::{Source, Target};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, target: &Target, out: &Output) -> Result<Outcome> {
    out.line(format_args!("{} ({})", target.config.dsn.redacted(), target.source))?;
    for file in &target.php.files {
        out.line(out.paint(Style::Good, text::path(file)))?;
    }
    if target.source == Source::Default {
        out.line(out.paint(Style::Bad, "nothing says where the locks live"))?;
        return Ok(Outcome::No);
    }
    Ok(Outcome::Yes)
}
