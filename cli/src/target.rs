//! Where the locks live: `--dsn`, else `CLUSTER_LOCK_DSN`, else what php.ini says.
#![allow(clippy::doc_markdown)] // the options' help is printed as it is

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster_lock_core::dsn::redact;
use cluster_lock_core::settings::{DSN, Values, read};
use cluster_lock_core::{Config, Dsn, Engine, text};

use crate::outcome::{Failure, Result};
use crate::output::Output;
use crate::php_ini::pools;
use crate::php_ini::{PhpIni, Place, of_php, usual_places};

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
    #[arg(long, global = true, value_name = "SECONDS", value_parser = read::time_out)]
    connect_timeout: Option<Duration>,

    /// The longest wait for the answer to one command
    #[arg(long, global = true, value_name = "SECONDS", value_parser = read::time_out)]
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

/// What to do where it is not known which server is meant.
const NAME_IT: &str = "name the server with --dsn or CLUSTER_LOCK_DSN, or the settings with --php-ini";

impl Target {
    /// From the command line, the environment, and php.ini.
    ///
    /// # Errors
    /// None of them says it, or in a way that cannot be used, or one that may say it cannot be read.
    pub(crate) fn find(args: &ServerArgs, out: &Output) -> Result<Self> {
        let installed = if !args.php_ini.is_empty() {
            Installed { php: PhpIni::read(&args.php_ini)?, ..Installed::default() }
        } else if args.dsn.is_some() {
            Installed::default()
        } else {
            installed(Path::new("/"), std::env::var_os("PHP_INI_SCAN_DIR").as_deref(), of_php)?
        };
        let target = Self::of(args, installed.php, &installed.pools)?;
        for note in installed.notes {
            out.note(note);
        }
        Ok(target)
    }

    /// `pools` of php-fpm that name a server of their own.
    fn of(args: &ServerArgs, php: PhpIni, pools: &[String]) -> Result<Self> {
        let (dsn, source) = match (&args.dsn, php.get("dsn"), php.file_of("dsn")) {
            (Some(dsn), ..) => (dsn.as_str(), Source::Given),
            (None, Some(dsn), Some(file)) => (dsn, Source::PhpIni(file.to_owned())),
            _ => {
                let place = text::path(&php.place);
                if let Some(failure) = only_for_some(&php, "dsn", NAME_IT) {
                    return Err(failure);
                }
                if let [pool, ..] = pools {
                    return Err(Failure::Usage(format!(
                        "{place}: pools of php-fpm have servers of their own ({pool}), and no php.ini names one for \
                         all, so it is not known which server is meant: {NAME_IT}"
                    )));
                }
                (DSN.default, Source::Default)
            }
        };
        if args.prefix.is_none()
            && let Some(failure) = only_for_some(&php, "prefix", "say which is meant with --prefix")
        {
            return Err(failure);
        }
        let parsed = Dsn::parse(dsn).map_err(|error| match &source {
            Source::PhpIni(_) if dsn.trim().is_empty() => Failure::Usage(format!(
                "{source}: cluster_lock.dsn is empty, which PHP refuses, too (a ${{VARIABLE}} in it may be in the \
                 environment of PHP's service and not in this one): {NAME_IT}"
            )),
            _ => Failure::Usage(format!("{source}: {error}")),
        })?;
        let mut config = values(&php)?.config(parsed);
        let option = |name: &'static str| move |allowed| Failure::Usage(format!("{name}: {allowed}"));
        if let Some(prefix) = &args.prefix {
            config.prefix = read::prefix(prefix).map_err(option("--prefix"))?;
        }
        if let Some(node) = &args.node {
            config.node = read::node(node).map_err(option("--node"))?;
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

/// What is set for some requests and for no others is not to be taken for all of them, nor left out.
fn only_for_some(php: &PhpIni, name: &str, remedy: &str) -> Option<Failure> {
    let file = text::path(php.only_for_some(name)?);
    Some(Failure::Usage(format!(
        "{file}: cluster_lock.{name} is not set for all requests: to PHP it belongs to a host or a directory ([HOST=] and \
         [PATH=] last until the end of the file) or to another value: {remedy}"
    )))
}

/// What the PHPs of this machine say.
#[derive(Default)]
struct Installed {
    /// Of the first that sets anything of ours.
    php: PhpIni,
    /// Its pools that name a server of their own.
    pools: Vec<String>,
    /// What the user should know about the others.
    notes: Vec<String>,
}

/// The configuration of the PHP that is installed, the first that sets anything of ours. `elsewhere` is asked for
/// where it is when it is in none of the usual places.
///
/// # Errors
/// One that comes before it cannot be read: it may set something, too.
fn installed(
    root: &Path,
    scan_dir: Option<&OsStr>,
    elsewhere: impl FnOnce() -> Option<Place>,
) -> Result<Installed> {
    let unread = |failure: Failure| {
        Failure::Usage(format!(
            "{failure}. Where the locks live may be said there (cluster_lock.dsn), so no server is taken for granted: \
             mend that, run this as somebody who may read it (root), or {NAME_IT}"
        ))
    };
    let mut notes = Vec::new();
    let mut found: Vec<(PhpIni, Vec<String>)> = Vec::new();
    let mut look = |place: &Place, found: &mut Vec<(PhpIni, Vec<String>)>| match PhpIni::of(place) {
        Ok(ini) => {
            let pools = pools::read(&place.dir).into_iter().filter(|pool| pool.has_dsn);
            let pools: Vec<String> = pools.map(|pool| format!("pool {}", text::said(&pool.name))).collect();
            if ini.is_ours() || !pools.is_empty() {
                found.push((ini, pools));
            }
            Ok(())
        }
        Err(failure) if found.is_empty() => Err(unread(failure)),
        Err(failure) => {
            notes.push(format!("{failure} (this PHP's settings are left out)"));
            Ok(())
        }
    };
    let places = usual_places(root, scan_dir).map_err(unread)?;
    for place in &places {
        look(place, &mut found)?;
    }
    if found.is_empty()
        && let Some(place) = elsewhere().filter(|place| !places.contains(place))
    {
        look(&place, &mut found)?;
    }
    let mut found = found.into_iter();
    let Some((taken, pools)) = found.next() else { return Ok(Installed { notes, ..Installed::default() }) };
    let leads = |ini: &PhpIni| {
        let prefix =
            ini.get("prefix").map_or_else(String::new, |prefix| format!(", prefix {}", text::said(prefix)));
        format!(
            "{} leads to {}{prefix}",
            text::path(&ini.place),
            redact(ini.get("dsn").unwrap_or(DSN.default))
        )
    };
    for (other, _) in found.filter(|(other, _)| !taken.agrees(other)) {
        notes.push(format!("{}, and is taken; {} (--php-ini chooses)", leads(&taken), leads(&other)));
    }
    if taken.get("dsn").is_some() && !pools.is_empty() {
        let pools = pools.join(", ");
        notes.push(format!(
            "{}, and is taken; php-fpm's {pools} goes elsewhere (--dsn chooses)",
            leads(&taken)
        ));
    }
    Ok(Installed { php: taken, pools, notes })
}

/// What php.ini says besides where the server is.
fn values(php: &PhpIni) -> Result<Values> {
    let mut values = Values::default();
    for name in Config::SETTINGS {
        if let Some(value) = php.get(name) {
            values.set(name, value).map_err(|allowed| {
                let file = php.file_of(name).map(text::path).unwrap_or_default();
                Failure::Usage(format!("{file}: cluster_lock.{name}: {allowed}"))
            })?;
        }
    }
    Ok(values)
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
        let Installed { php, notes, .. } = found(&root).unwrap();
        assert_eq!(php.get("dsn"), Some("redis://u:hunter2@10.0.0.5"));
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
        assert_eq!(found(&root).unwrap().notes, [] as [&str; 0]);
    }

    fn found(root: &tempfile::TempDir) -> Result<Installed> {
        installed(root.path(), None, || None)
    }

    fn refused(root: &tempfile::TempDir) -> String {
        let failure = found(root).err().expect("it is refused");
        assert_eq!(failure.code(), 2);
        failure.to_string()
    }

    #[test]
    fn docker_images_have_no_php_ini_and_a_conf_d() {
        let root = root(&[
            ("usr/local/etc/php/php.ini-production", ELSEWHERE),
            ("usr/local/etc/php/conf.d/zz-lock.ini", "cluster_lock.dsn = redis://10.0.0.5"),
        ]);
        assert_eq!(found(&root).unwrap().php.get("dsn"), Some("redis://10.0.0.5"));
        // As PHP has it: an empty one of several is the compiled-in one.
        let more = tempfile::tempdir().unwrap();
        std::fs::write(more.path().join("a.ini"), "cluster_lock.node = a").unwrap();
        let list = std::env::join_paths(["".as_ref(), more.path()]).unwrap();
        let php = installed(root.path(), Some(&list), || None).unwrap().php;
        assert_eq!((php.get("dsn"), php.get("node")), (Some("redis://10.0.0.5"), Some("a")));
        assert!(!installed(root.path(), Some("".as_ref()), || None).unwrap().php.is_ours());
    }

    #[test]
    fn what_cannot_be_understood_is_refused_and_only_told_where_another_one_counts() {
        let root = root(&[
            ("etc/php/8.4/fpm/php.ini", "cluster_lock.dsn = redis://a?b=c"),
            ("etc/php/8.2/fpm/php.ini", ELSEWHERE),
        ]);
        let told = refused(&root);
        for word in ["8.4/fpm/php.ini", "line 1", "double quotes", "cluster_lock.dsn", "--php-ini"] {
            assert!(told.contains(word), "{word}: {told}");
        }
        let (old, new) = (root.path().join("etc/php/8.4/fpm"), root.path().join("etc/php/8.4/cli"));
        std::fs::rename(old, new).unwrap();
        let Installed { php, notes, .. } = found(&root).unwrap();
        assert_eq!(php.get("dsn"), Some("redis://u:hunter2@10.0.0.6"));
        assert!(notes[0].contains("8.4/cli/php.ini"), "{notes:?}");
    }

    #[test]
    fn a_file_that_cannot_be_looked_at_is_refused() {
        let root =
            root(&[("usr/local/etc/php/conf.d/a.ini", "x = y"), ("etc/php/8.2/cli/php.ini", ELSEWHERE)]);
        // Permissions would stop nobody who runs this as root.
        std::os::unix::fs::symlink("b.ini", root.path().join("usr/local/etc/php/conf.d/b.ini")).unwrap();
        let Installed { php, notes, .. } = found(&root).unwrap();
        assert!(php.is_ours() && notes[0].contains("conf.d/b.ini"), "{notes:?}");
        std::fs::remove_dir_all(root.path().join("etc/php/8.2")).unwrap();
        let told = refused(&root);
        for word in
            ["conf.d/b.ini", "Too many levels", "cluster_lock.dsn", "root", "--dsn", "CLUSTER_LOCK_DSN"]
        {
            assert!(told.contains(word), "{word}: {told}");
        }
        // PHP passes over a link that leads nowhere.
        std::fs::remove_file(root.path().join("usr/local/etc/php/conf.d/b.ini")).unwrap();
        std::os::unix::fs::symlink("none", root.path().join("usr/local/etc/php/conf.d/b.ini")).unwrap();
        assert!(!found(&root).unwrap().php.is_ours());
    }

    #[test]
    fn a_server_for_some_hosts_or_pools_is_none_for_the_command() {
        let args = || ServerArgs {
            dsn: None,
            php_ini: Vec::new(),
            prefix: None,
            node: None,
            connect_timeout: None,
            command_timeout: None,
        };
        let target = |root: &tempfile::TempDir| {
            let Installed { php, pools, notes } = found(root).unwrap();
            Target::of(&args(), php, &pools).map(|target| (target, notes))
        };
        let php_ini = "etc/php/8.2/fpm/php.ini";
        let pool =
            ("etc/php/8.2/fpm/php-fpm.conf", "[shop]\nphp_admin_value[cluster_lock.dsn] = redis://h\n");
        for (files, word) in [
            (vec![(php_ini, "[HOST=a]\ncluster_lock.dsn = redis://a\n[PHP]\nx=1\n")], "[HOST=]"),
            (vec![(php_ini, "[PATH=/a]\ncluster_lock.prefix = a\n")], "--prefix"),
            (vec![pool], "pool shop"),
        ] {
            let told = target(&root(&files)).unwrap_err().to_string();
            assert!(told.contains(word) && told.contains("8.2/fpm"), "{told}");
        }
        let (target, notes) = target(&root(&[pool, (php_ini, "cluster_lock.dsn = redis://g")])).unwrap();
        assert_eq!(target.config.dsn.redacted(), "redis://g:6379");
        assert!(notes[0].contains("pool shop"), "{notes:?}");
    }

    #[test]
    fn where_php_itself_has_it_is_asked_when_it_is_nowhere_else() {
        let root = root(&[("opt/php.ini", "cluster_lock.dsn = redis://h")]);
        let place = Place::at(root.path().join("opt"));
        let php = installed(&root.path().join("none"), None, || Some(place)).unwrap().php;
        assert_eq!(php.get("dsn"), Some("redis://h"));
    }
}
