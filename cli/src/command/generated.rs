//! What is made of the tree of commands: completions for shells, and manual pages.

use std::io;
use std::path::{Path, PathBuf};

use clap_complete::Shell;
use clap_mangen::Man;

use crate::outcome::{Failure, Outcome, Result};
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Write the pages of all commands into this directory: cluster-lock.1, cluster-lock-list.1 …
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn completions(args: &CompletionsArgs, mut tree: clap::Command, out: &Output) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut tree, "cluster-lock", &mut script);
    out.bytes(&script)?;
    Ok(Outcome::Yes)
}

pub(crate) fn man(args: &ManArgs, mut tree: clap::Command, out: &Output) -> Result<Outcome> {
    tree.build();
    match &args.dir {
        None => out.bytes(&page(&tree).map_err(Failure::system("the manual page"))?)?,
        Some(dir) => write_pages(&tree, dir).map_err(Failure::system(dir.display()))?,
    }
    Ok(Outcome::Yes)
}

fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.clone())
        .section("1")
        .source(format!("cluster-lock {}", env!("CARGO_PKG_VERSION")))
        .render(&mut page)?;
    Ok(page)
}

fn write_pages(command: &clap::Command, dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let visible = command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help");
    for sub in visible {
        let name = format!("cluster-lock-{}", sub.get_name());
        std::fs::write(dir.join(format!("{name}.1")), page(&sub.clone().name(name))?)?;
    }
    std::fs::write(dir.join("cluster-lock.1"), page(command)?)
}
