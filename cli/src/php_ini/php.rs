//! Asks a PHP what a file of its configuration says.
//!
//! PHP itself reads it at its start (`-n -c`), so that sections, `${…}`, constants and whatever a later version
//! brings mean what they mean to it; `get_cfg_var()` then tells. No extension is loaded: the text that PHP is given
//! asks for none. It comes through a pipe, so that no copy with a password in it lies anywhere.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cluster_lock_core::settings::TABLE;

use super::Read;
use super::text::{Mention, without_extensions};
use crate::program;

/// It loads nothing, and starts within 50 ms. A machine in trouble may take longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a php.ini must not make of a PHP that only reads it: nothing to read or write elsewhere, nothing that is
/// printed unasked, no function taken away, no little memory.
const AS_IF: [&str; 14] = [
    "extension_dir=/dev/null",
    "memory_limit=-1",
    "log_errors=0",
    "error_log=",
    "display_errors=stderr",
    "display_startup_errors=0",
    "disable_functions=",
    "open_basedir=",
    "output_handler=",
    "zlib.output_compression=0",
    "browscap=",
    "ffi.preload=",
    "opcache.enable_cli=0",
    "opcache.preload=",
];

/// The PHP to be asked, or why there is none.
pub(super) struct Php {
    programs: Vec<PathBuf>,
    /// Of which the place is; another may read it in another way.
    version: Option<String>,
    /// The one that has answered, as it is told.
    asked: Option<String>,
    none: Option<String>,
}

impl fmt::Display for Php {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.none, &self.asked) {
            (None, Some(asked)) => f.write_str(asked),
            (Some(why), _) => write!(f, "cluster-lock itself ({why})"),
            (None, None) => f.write_str("nobody"),
        }
    }
}

/// What one PHP says.
struct Answer {
    version: String,
    /// `None`: an array, where there should be a text.
    settings: Vec<(String, Option<Vec<u8>>)>,
    /// In which line it gave up, and why.
    stopped: Option<(usize, String)>,
}

/// A line and what is wrong there.
type Wrong = (usize, String);

impl Php {
    /// Of this place: of its version, where its path says that (`/etc/php/8.2`), beside it where the place is under
    /// `/usr/local`, else the one that is called `php`.
    pub(super) fn of(place: &Path) -> Self {
        let version = version_of(place);
        let names = match &version {
            Some(version) => vec![format!("php{version}"), "php".to_owned()],
            None => vec!["php".to_owned()],
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        // An empty one would be the directory of whoever calls.
        let mut directories: Vec<PathBuf> =
            std::env::split_paths(&path).filter(|directory| directory.is_absolute()).collect();
        // Cron's PATH knows no /usr/local/bin, where Docker's images have it.
        if let Some(root) = place.ancestors().find(|above| above.ends_with("usr/local")) {
            directories.insert(0, root.join("bin"));
        }
        let programs: Vec<PathBuf> = names
            .iter()
            .flat_map(|name| directories.iter().map(move |directory| directory.join(name)))
            .filter(|program| program.is_file())
            .collect();
        let none = programs.is_empty().then(|| format!("there is no {} to be asked", names.join(" or ")));
        Self { programs, version, asked: None, none }
    }

    /// What a file says, with the line in which something is wrong.
    ///
    /// # Errors
    /// There is no PHP to be asked: why.
    pub(super) fn read(&mut self, bytes: &[u8], mentions: &[Mention]) -> Result<Result<Read, Wrong>, String> {
        while self.none.is_none() {
            let Some(program) = self.programs.first() else { break };
            match ask(program, bytes) {
                Ok(answer) if self.version.as_deref().is_none_or(|wanted| answer.is(wanted)) => {
                    let name = format!("PHP {} ({})", answer.version, cluster_lock_core::text::path(program));
                    let read = judge(answer, mentions, &name);
                    self.asked = Some(name);
                    return Ok(read);
                }
                Ok(answer) => {
                    let wanted = self.version.as_deref().unwrap_or_default();
                    self.skip(&format!("is PHP {}, and not {wanted}", answer.version));
                }
                Err(why) => self.skip(&format!("does not tell: {why}")),
            }
        }
        Err(self.none.clone().unwrap_or_default())
    }

    fn skip(&mut self, why: &str) {
        let program = self.programs.remove(0);
        if self.programs.is_empty() {
            self.none = Some(format!("{} {why}", cluster_lock_core::text::path(&program)));
        }
    }
}

/// `8.2` of `/etc/php/8.2/fpm`.
fn version_of(place: &Path) -> Option<String> {
    let names: Vec<&str> = place
        .components()
        .filter_map(|part| if let Component::Normal(name) = part { name.to_str() } else { None })
        .collect();
    let is_version = |text: &str| {
        text.split_once('.').is_some_and(|(major, minor)| {
            [major, minor].iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        })
    };
    names.windows(2).find_map(|pair| match pair {
        ["php", version] if is_version(version) => Some((*version).to_owned()),
        _ => None,
    })
}

impl Answer {
    fn is(&self, version: &str) -> bool {
        self.version.strip_prefix(version).is_some_and(|rest| rest.starts_with('.'))
    }
}

fn judge(answer: Answer, mentions: &[Mention], name: &str) -> Result<Read, Wrong> {
    if let Some((line, why)) = answer.stopped
        && let Some(left_out) = mentions.iter().rev().find(|mention| mention.line >= line)
    {
        let why = format!(
            "{name} reads no further: {why}; so cluster_lock.{} in line {} is left out, which can hardly be meant \
             (put values with other characters than letters and digits into double quotes)",
            left_out.name, left_out.line
        );
        return Err((line, why));
    }
    let mut read = Read::default();
    for (name, value) in answer.settings {
        let Some(value) = value else {
            let line = mentions.iter().find(|mention| mention.name == name).map_or(1, |mention| mention.line);
            return Err((line, format!("cluster_lock.{name}: a list, where one value is allowed")));
        };
        read.settings.push((name, String::from_utf8_lossy(&value).into_owned()));
    }
    Ok(read)
}

/// A PHP into which the extension is built does not do: that hides a password from `get_cfg_var()`.
fn ask(php: &Path, text: &[u8]) -> Result<Answer, String> {
    let names: Vec<String> = TABLE.iter().map(|setting| format!("'{}'", setting.name())).collect();
    let code = format!(
        "$reads = get_cfg_var('cfg_file_path') !== false && !extension_loaded('cluster_lock');\
         echo \"\\n:\", $reads ? PHP_VERSION : '', \"\\n\";\
         foreach ([{}] as $name) {{\
             $value = get_cfg_var(\"cluster_lock.$name\");\
             if ($value !== false) echo \":$name \", is_array($value) ? '-' : bin2hex($value), \"\\n\";\
         }}",
        names.join(",")
    );
    let mut command = Command::new(php);
    command.args(["-n", "-c", "/dev/stdin"]);
    for setting in AS_IF {
        command.args(["-d", setting]);
    }
    command.args(["-r", &code]);
    let said = program::ask(&mut command, without_extensions(text), PATIENCE)?;
    let answer = String::from_utf8_lossy(&said.out);
    let mut lines = answer.lines().filter_map(|line| line.strip_prefix(':'));
    let version =
        lines.next().filter(|version| !version.is_empty()).ok_or("it does not answer as PHP does")?;
    let settings = lines.map(setting).collect::<Option<_>>().ok_or("its answer makes no sense")?;
    let stopped = String::from_utf8_lossy(&said.err).lines().find_map(stop);
    Ok(Answer { version: version.to_owned(), settings, stopped })
}

/// `NAME HEX`, or `NAME -`.
fn setting(line: &str) -> Option<(String, Option<Vec<u8>>)> {
    let (name, value) = line.split_once(' ')?;
    let hex = |at: usize| u8::from_str_radix(value.get(at..at + 2)?, 16).ok();
    let value = match value {
        "-" => None,
        _ => Some((0..value.len()).step_by(2).map(hex).collect::<Option<_>>()?),
    };
    Some((name.to_owned(), value))
}

/// `PHP:  syntax error, unexpected '(' in /proc/1/fd/pipe:[2] on line 3`
fn stop(line: &str) -> Option<(usize, String)> {
    let (what, line) = line.strip_prefix("PHP:")?.rsplit_once(" on line ")?;
    let what = what.rsplit_once(" in ").map_or(what, |(what, _)| what);
    Some((line.trim().parse().ok()?, what.trim().to_owned()))
}
