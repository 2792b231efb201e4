//! Where the locks live: `--dsn`, else `CLUSTER_LOCK_DSN`, else what php.ini says.
#![allow(clippy::doc_markdown)] // the options' help is printed as it is

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster_lock_core::config::check_prefix;
use cluster_lock_core::dsn::redact;
use cluster_lock_core::{Config, Dsn, Engine, text};

use crate::outcome::{Failure, Result};
use crate::output::Output;
use crate::php_ini::{PhpIni, usual_places};
use crate::units::{seconds, time_out};

/// What all commands understand.
#[derive(clap::Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArgs {
    /// Where the locks live, as in cluster_lock.dsn. A password here is seen by all users (ps): use the
    /// environment or --php-ini for one that has any
    #[arg(long, global = true, env = "CLUSTER_LOCK_DSN", hide_env_values = true, value_name = "DSN")]
    dsn: Option<String>,

    /// Read cluster_lock.* from this file, or from php.ini and conf.d/*.ini in this directory; what comes
    /// later counts. Without it, and without a DSN, those of the PHPs that are installed are read
    #[arg(long, global = true, value_name = "FILE|DIR")]
    php_ini: Vec<PathBuf>,

    /// Start of every key, as in cluster_lock.prefix
    #[arg(long, global = true, value_name = "PREFIX")]
    prefix: Option<String>,

    /// This machine's name in reports, as in cluster_lock.node
    #[arg(long, global = true, value_name = "NAME")]
    node: Option<String>,

    /// The longest wait for a connection
    #[arg(long, global = true, value_name = "SECONDS", value_parser = time_out)]
    connect_timeout: Option<Duration>,

    /// The longest wait for the answer to one command
    #[arg(long, global = true, value_name = "SECONDS", value_parser = time_out)]
    command_timeout: Option<Duration>,
}

impl fmt::Debug for ServerArgs {
    /// Without the DSN, in which a password may stand.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerArgs").field("php_ini", &self.php_ini).finish_non_exhaustive()
    }
}

/// Who said where the locks live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The command line, or the environment.
    Given,
    /// This file.
    PhpIni(PathBuf),
    /// Nobody: it is the extension's default.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given => f.write_str("--dsn or CLUSTER_LOCK_DSN"),
            Self::PhpIni(file) => f.write_str(&text::path(file)),
            Self::Default => f.write_str("the default (no php.ini was found that sets cluster_lock.dsn)"),
        }
    }
}

/// Where the locks live, and who said so.
#[derive(Debug)]
pub(crate) struct Target {
    /// How the server is spoken to.
    pub(crate) config: Config,
    /// Who said where it is.
    pub(crate) source: Source,
    /// What php.ini says, if it was read: nothing, when all that counts was given.
    pub(crate) php: PhpIni,
}

const DEFAULT_DSN: &str = "redis://127.0.0.1:6379";

impl Target {
    /// From the command line, the environment, and php.ini.
    ///
    /// # Errors
    /// None of them says it, or in a way that cannot be used.
    pub(crate) fn find(args: &ServerArgs, out: &Output) -> Result<Self> {
        let php = if !args.php_ini.is_empty() {
            PhpIni::read(&args.php_ini)?
        } else if args.dsn.is_some() {
            PhpIni::default()
        } else {
            let (php, notes) = installed(Path::new("/"));
            for note in notes {
                out.note(note);
            }
            php
        };
        let (dsn, source) = match (&args.dsn, php.get("dsn"), php.file_of("dsn")) {
            (Some(dsn), ..) => (dsn.as_str(), Source::Given),
            (None, Some(dsn), Some(file)) => (dsn, Source::PhpIni(file.to_owned())),
            _ => (DEFAULT_DSN, Source::Default),
        };
        let parsed = Dsn::parse(dsn).map_err(|error| Failure::Usage(format!("{source}: {error}")))?;
        let mut config = Config::new(parsed);
        apply(&mut config, &php)?;
        if let Some(prefix) = &args.prefix {
            check_prefix(prefix).map_err(|allowed| Failure::Usage(format!("--prefix: {allowed}")))?;
            config.prefix.clone_from(prefix);
        }
        if let Some(node) = &args.node {
            config.node = check_node(node).map_err(|allowed| Failure::Usage(format!("--node: {allowed}")))?;
        }
        config.connect_timeout = args.connect_timeout.unwrap_or(config.connect_timeout);
        config.command_timeout = args.command_timeout.unwrap_or(config.command_timeout);
        Ok(Self { config, source, php })
    }

    /// An engine for it. No connection is made yet.
    ///
    /// # Errors
    /// The backend is not available.
    pub(crate) fn engine(&self) -> Result<Engine> {
        Ok(Engine::new(&self.config)?)
    }
}

/// The configuration of the PHP that is installed, the first that sets anything of ours; and what the user
/// should know about the others.
fn installed(root: &Path) -> (PhpIni, Vec<String>) {
    let mut notes = Vec::new();
    let mut found: Vec<PhpIni> = Vec::new();
    for place in usual_places(root) {
        match PhpIni::read(std::slice::from_ref(&place)) {
            Ok(ini) if ini.is_ours() => found.push(ini),
            Ok(_) => {}
            // Not the user's mistake, and perhaps not the file that matters.
            Err(failure) => notes.push(format!("{failure} (this PHP's settings are left out)")),
        }
    }
    let mut found = found.into_iter();
    let Some(taken) = found.next() else { return (PhpIni::default(), notes) };
    let leads = |ini: &PhpIni| {
        let prefix =
            ini.get("prefix").map_or_else(String::new, |prefix| format!(", prefix {}", text::said(prefix)));
        format!(
            "{} leads to {}{prefix}",
            text::path(&ini.place),
            redact(ini.get("dsn").unwrap_or(DEFAULT_DSN))
        )
    };
    for other in found.filter(|other| !taken.agrees(other)) {
        notes.push(format!("{}, and is taken; {} (--php-ini chooses)", leads(&taken), leads(&other)));
    }
    (taken, notes)
}

fn check_node(node: &str) -> std::result::Result<String, String> {
    if node.len() > 255 || node.chars().any(char::is_control) {
        return Err("at most 255 bytes without control characters are allowed".into());
    }
    Ok(node.to_owned())
}

/// What php.ini says besides where the server is.
fn apply(config: &mut Config, php: &PhpIni) -> Result<()> {
    let refused = |name: &str, allowed: String| {
        let file = php.file_of(name).map(text::path).unwrap_or_default();
        Failure::Usage(format!("{file}: cluster_lock.{name}: {allowed}"))
    };
    let time = |name: &str, read: fn(&str) -> std::result::Result<Duration, String>| {
        php.get(name).map(read).transpose().map_err(|allowed| refused(name, allowed))
    };
    if let Some(prefix) = php.get("prefix") {
        check_prefix(prefix).map_err(|allowed| refused("prefix", allowed))?;
        prefix.clone_into(&mut config.prefix);
    }
    if let Some(node) = php.get("node") {
        config.node = check_node(node).map_err(|allowed| refused("node", allowed))?;
    }
    config.connect_timeout = time("connect_timeout", time_out)?.unwrap_or(config.connect_timeout);
    config.command_timeout = time("command_timeout", time_out)?.unwrap_or(config.command_timeout);
    config.retry_after = time("retry_after", seconds)?.unwrap_or(config.retry_after);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    const ELSEWHERE: &str = "cluster_lock.dsn = \"redis://u:hunter2@10.0.0.6\"";

    #[test]
    fn the_php_that_serves_is_taken_and_that_another_leads_elsewhere_is_said() {
        let root = root(&[
            ("etc/php/8.2/cli/php.ini", ELSEWHERE),
            ("etc/php/8.2/fpm/php.ini", "cluster_lock.dsn = \"redis://u:hunter2@10.0.0.5\""),
            ("etc/php/8.1/fpm/php.ini", "memory_limit = 1G"),
        ]);
        let (taken, notes) = installed(root.path());
        assert_eq!(taken.get("dsn"), Some("redis://u:hunter2@10.0.0.5"));
        let [note] = &notes[..] else { panic!("{notes:?}") };
        for word in [
            "8.2/fpm leads to redis://u:***@10.0.0.5",
            "8.2/cli leads to redis://u:***@10.0.0.6",
            "--php-ini",
        ] {
            assert!(note.contains(word), "{note}");
        }
        assert!(!note.contains("hunter2"), "{note}");
    }

    #[test]
    fn where_all_agree_nothing_is_said() {
        let root = root(&[
            ("etc/php/8.2/cli/conf.d/20-cluster_lock.ini", ELSEWHERE),
            ("etc/php/8.2/cli/php.ini", ""),
            ("etc/php/8.2/fpm/php.ini", ELSEWHERE),
        ]);
        assert_eq!(installed(root.path()).1, [] as [&str; 0]);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_the_next_one_taken() {
        let root = root(&[
            ("etc/php/8.4/fpm/php.ini", "cluster_lock.dsn = redis://a?b=c"),
            ("etc/php/8.2/fpm/php.ini", ELSEWHERE),
        ]);
        let (taken, notes) = installed(root.path());
        assert_eq!(taken.get("dsn"), Some("redis://u:hunter2@10.0.0.6"));
        assert!(notes[0].contains("8.4/fpm/php.ini") && notes[0].contains("double quotes"), "{notes:?}");
    }
}
