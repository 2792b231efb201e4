//! PHP as it is installed here: what each of its programs says of itself (`-i`), so that it is PHP which
//! finds, reads and judges its own configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use crate::php_ini::pools::{self, Pool};
use crate::program;

/// A program that loads this many extensions may take its time on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Directories where php-fpm is, which are not in everybody's `PATH`.
const SYSTEM: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];

/// What the command line's PHP calls itself.
const CLI: &str = "Command Line Interface";

/// One of PHP's programs, and its settings.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Php {
    #[serde(serialize_with = "lossy")]
    pub(crate) binary: PathBuf,
    /// `cli`, `fpm-fcgi` …
    pub(crate) sapi: String,
    pub(crate) version: String,
    /// Whether `max_execution_time` counts waiting, too: a timer of the kernel's instead of used CPU time.
    #[serde(rename = "max_execution_time_counts_waiting")]
    pub(crate) counts_waiting: bool,
    /// Whether the extension is loaded.
    pub(crate) loaded: bool,
    pub(crate) ini_file: Option<PathBuf>,
    /// Where a file with settings goes.
    pub(crate) scan_dir: Option<PathBuf>,
    pub(crate) extension_dir: Option<PathBuf>,
    #[serde(rename = "max_execution_time_seconds")]
    pub(crate) max_execution_time: Option<f64>,
    /// `cluster_lock.*`, without that in front; credentials in the DSN are hidden by the extension.
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) pools: Vec<Pool>,
    /// What PHP complained about when it started, as far as it is about this extension.
    pub(crate) complaints: Vec<String>,
}

/// A path as JSON, which knows nothing but UTF-8.
pub(crate) fn lossy<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

impl Php {
    /// What a report calls it.
    pub(crate) fn name(&self) -> String {
        let short = match self.sapi.as_str() {
            CLI => "cli",
            "apache2handler" => "apache2",
            "FPM/FastCGI" => "fpm",
            other => other,
        };
        format!("PHP {} {short}", self.version)
    }
}

/// `php`, and every `php-fpm` there is.
pub(crate) fn find() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> =
        std::env::split_paths(&path).chain(SYSTEM.iter().map(PathBuf::from)).collect();
    let mut found: Vec<PathBuf> = Vec::new();
    let mut add = |candidate: PathBuf| {
        let real = std::fs::canonicalize(&candidate).unwrap_or_else(|_| candidate.clone());
        let known = found.iter().any(|other| std::fs::canonicalize(other).is_ok_and(|other| other == real));
        if real.is_file() && !known {
            found.push(candidate);
        }
    };
    if let Some(directory) = directories.iter().find(|directory| directory.join("php").is_file()) {
        add(directory.join("php"));
    }
    for directory in &directories {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names {
            if name.to_str().is_some_and(is_fpm) {
                add(directory.join(name));
            }
        }
    }
    found
}

/// `php-fpm`, `php-fpm8.2`, `php82-fpm`.
fn is_fpm(name: &str) -> bool {
    let number = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c == '.');
    name.strip_prefix("php-fpm").is_some_and(number)
        || name.strip_prefix("php").and_then(|rest| rest.strip_suffix("-fpm")).is_some_and(number)
}

/// What a program says of itself.
///
/// # Errors
/// In words: it cannot be run, says nothing in time, or is no PHP.
pub(crate) fn ask(binary: &Path) -> Result<Php, String> {
    ask_by(binary, Command::new(binary).arg("-i"))
}

/// Apache's PHP is no program to be asked. Where its configuration lies beside that of `cli`, as on Debian, the
/// latter reads it in its place.
pub(crate) fn apache(cli: &Php, root: &Path) -> Option<Result<Php, String>> {
    let mut version = cli.version.split('.');
    let version = format!("{}.{}", version.next()?, version.next()?);
    let directory = root.join("etc/php").join(version).join("apache2");
    let ini = directory.join("php.ini");
    if cli.sapi != CLI || !ini.is_file() {
        return None;
    }
    let mut command = Command::new(&cli.binary);
    command.env("PHP_INI_SCAN_DIR", directory.join("conf.d")).arg("-c").arg(ini).arg("-i");
    // The command line has no time limit, whatever is configured.
    let of_apache = |php| Php { sapi: "apache2handler".into(), max_execution_time: None, ..php };
    Some(ask_by(&cli.binary, &mut command).map(of_apache))
}

fn ask_by(binary: &Path, command: &mut Command) -> Result<Php, String> {
    let said = program::ask(command, Vec::new(), PATIENCE).map_err(|why| format!("{why} (-i)"))?;
    let (out, err) = (String::from_utf8_lossy(&said.out), String::from_utf8_lossy(&said.err));
    let mut php = parse(&out).ok_or("it does not answer as PHP does (-i)")?;
    binary.clone_into(&mut php.binary);
    php.complaints = complaints(&err).chain(complaints(&out)).collect();
    php.complaints.dedup();
    // What it complained about where this program cannot see it.
    for message in refused(&out) {
        if !php.complaints.iter().any(|complaint| complaint.contains(&message)) {
            php.complaints.push(message);
        }
    }
    if php.sapi.contains("FPM")
        && let Some(directory) = &config_directory(&out)
    {
        php.pools = pools::read(directory);
    }
    Ok(php)
}

/// The first value of a line `name => value` or `name => local value => master value`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line =
        text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(" => ")))?;
    line.split(" => ").nth(1).map(plain)
}

fn plain(value: &str) -> &str {
    match value.trim() {
        "no value" | "(none)" => "",
        other => other,
    }
}

fn config_directory(text: &str) -> Option<PathBuf> {
    value(text, "Configuration File (php.ini) Path").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Reads the text of `phpinfo()`.
fn parse(text: &str) -> Option<Php> {
    let path = |name: &str| value(text, name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let settings = text
        .lines()
        .filter_map(|line| line.strip_prefix("cluster_lock.")?.split_once(" => "))
        .map(|(name, values)| {
            (name.to_owned(), plain(values.split(" => ").next().unwrap_or_default()).to_owned())
        })
        .collect();
    // PHP_INI_SCAN_DIR may list several, of which an empty one is the compiled-in one: the last is read last.
    let scan = path("Scan this dir for additional .ini files");
    let scan_dir =
        scan.and_then(|list| std::env::split_paths(&list).filter(|p| !p.as_os_str().is_empty()).last());
    Some(Php {
        sapi: value(text, "Server API")?.to_owned(),
        version: value(text, "PHP Version")?.to_owned(),
        counts_waiting: value(text, "Zend Max Execution Timers") == Some("enabled"),
        loaded: value(text, "cluster_lock support") == Some("enabled"),
        ini_file: path("Loaded Configuration File"),
        scan_dir,
        extension_dir: path("extension_dir"),
        max_execution_time: value(text, "max_execution_time").and_then(|seconds| seconds.parse().ok()),
        settings,
        ..Php::default()
    })
}

fn complaints(text: &str) -> impl Iterator<Item = String> + '_ {
    let is_one =
        |line: &&str| line.contains("cluster_lock") && (line.contains("Warning:") || line.contains("Error:"));
    text.lines().filter(is_one).map(|line| cluster_lock_core::text::said(line.trim()))
}

/// Settings that the extension has refused, as it says in `phpinfo()`.
fn refused(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().filter_map(|line| line.strip_prefix("refused => ")).map(cluster_lock_core::text::said)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "phpinfo()
PHP Version => 8.4.1

Server API => FPM/FastCGI
Configuration File (php.ini) Path => /etc/php/8.4/fpm
Loaded Configuration File => (none)
Scan this dir for additional .ini files => /etc/php/8.4/fpm/conf.d
Additional .ini files parsed => /etc/php/8.4/fpm/conf.d/10-a.ini,
/etc/php/8.4/fpm/conf.d/20-b.ini

Thread Safety => enabled
Zend Max Execution Timers => enabled

cluster_lock

cluster_lock support => enabled
version => 0.1.0

Directive => Local Value => Master Value
cluster_lock.dsn => redis://u:***@h => redis://u:***@h
cluster_lock.intercept => no value => no value
cluster_lock.path_map => /mnt/a=/site => /mnt/a=/site

Core

PHP Version => 8.4.1

extension_dir => /usr/lib/php/20240924 => /usr/lib/php/20240924
max_execution_time => 60 => 30
";

    #[test]
    fn phpinfo_is_read() {
        let php = parse(INFO).unwrap();
        assert_eq!((php.name().as_str(), php.loaded, php.counts_waiting), ("PHP 8.4.1 fpm", true, true));
        assert_eq!(php.ini_file, None);
        assert_eq!(php.scan_dir.as_deref(), Some(Path::new("/etc/php/8.4/fpm/conf.d")));
        assert_eq!(php.extension_dir.as_deref(), Some(Path::new("/usr/lib/php/20240924")));
        assert_eq!(php.max_execution_time, Some(60.0));
        assert_eq!(php.settings["dsn"], "redis://u:***@h");
        assert_eq!(
            (php.settings["intercept"].as_str(), php.settings["path_map"].as_str()),
            ("", "/mnt/a=/site")
        );
        assert_eq!(config_directory(INFO).as_deref(), Some(Path::new("/etc/php/8.4/fpm")));
    }

    #[test]
    fn without_the_extension_there_are_no_settings() {
        let (before, after) = (INFO.find("cluster_lock\n").unwrap(), INFO.find("Core\n").unwrap());
        let php = parse(&format!("{}{}", &INFO[..before], &INFO[after..])).unwrap();
        assert!(!php.loaded && php.settings.is_empty());
        assert!(parse("hello").is_none());
    }

    #[test]
    fn complaints_are_those_about_this_extension() {
        let text = "PHP Warning:  PHP Startup: Unable to load dynamic library 'cluster_lock' (tried: /x)\n\
                    PHP Warning:  Module \"redis\" is already loaded\ncluster_lock.ttl => 1 => 1\n";
        assert_eq!(complaints(text).count(), 1);
    }

    #[test]
    fn what_phpinfo_says_is_refused_is_found() {
        let text = "dsn => x\nrefused => cluster_lock.ttl: \"10s\" is refused: why\nother => refused => x\n";
        assert_eq!(refused(text).collect::<Vec<_>>(), ["cluster_lock.ttl: \"10s\" is refused: why"]);
    }

    #[test]
    fn apaches_configuration_is_read_by_the_command_lines_php() {
        let binary = find().into_iter().next().expect("php is needed: run script/bootstrap");
        let cli = ask(&binary).unwrap();
        let root = tempfile::tempdir().unwrap();
        assert!(apache(&cli, root.path()).is_none());
        let version: Vec<&str> = cli.version.split('.').take(2).collect();
        let directory = root.path().join("etc/php").join(version.join(".")).join("apache2");
        std::fs::create_dir_all(directory.join("conf.d")).unwrap();
        std::fs::write(directory.join("php.ini"), "").unwrap();
        let php = apache(&cli, root.path()).unwrap().unwrap();
        assert_eq!(php.name(), format!("PHP {} apache2", cli.version));
        assert_eq!(php.ini_file.as_deref(), Some(directory.join("php.ini").as_path()));
        assert_eq!(php.scan_dir.as_deref(), Some(directory.join("conf.d").as_path()));
    }

    #[test]
    fn programs_are_known_by_name() {
        assert!(["php-fpm", "php-fpm8.2", "php82-fpm"].into_iter().all(is_fpm));
        assert!(!["php", "php8.2", "php-fpm-healthcheck", "phpdbg"].into_iter().any(is_fpm));
    }

    #[test]
    fn who_is_no_php_is_said_to_be_none() {
        assert!(ask(Path::new("/bin/true")).unwrap_err().contains("as PHP does"));
        assert!(ask(Path::new("/no/such/program")).is_err());
    }
}
