//! What php.ini says of `cluster_lock.*`: the file, then what lies in its `conf.d`.
//!
//! PHP is asked what a file says ([`php`]), where there is one; else it is read here ([`own`]), and what is not
//! certain is refused. A file that names no setting of ours is not interpreted at all. Beside it: php-fpm's [`pools`].

mod own;
mod php;
mod place;
pub(crate) mod pools;
mod read;
mod text;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::outcome::{Failure, Result};

use php::Php;
pub(crate) use place::{Place, of_php, usual_places};
use text::Mention;

/// One PHP's configuration: of a SAPI, or as the user put it together.
#[derive(Clone, Debug, Default)]
pub(crate) struct PhpIni {
    /// Where it is: a file or a directory, for messages.
    pub(crate) place: PathBuf,
    /// Who has read it, if there was anything to be read: `PHP 8.2.7 (/usr/bin/php8.2)`.
    pub(crate) reader: Option<String>,
    /// What is set, without `cluster_lock.`
    settings: BTreeMap<String, Setting>,
    /// What is set for some requests only: in sections of a host or a directory.
    for_some: BTreeMap<String, PathBuf>,
}

/// A setting, and where it stands.
#[derive(Clone, PartialEq, Eq)]
struct Setting {
    /// As PHP understands it.
    value: String,
    file: PathBuf,
}

impl fmt::Debug for Setting {
    /// The value may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Setting(in {})", self.file.display())
    }
}

impl PhpIni {
    /// Reads files and directories that the user has named, in this order; what comes later counts.
    ///
    /// # Errors
    /// One of them cannot be read, or not be understood.
    pub(crate) fn read(places: &[PathBuf]) -> Result<Self> {
        let mut ini = Self { place: places.first().cloned().unwrap_or_default(), ..Self::default() };
        let mut names = BTreeSet::new();
        for place in places {
            let files = place::files_named(place)?;
            ini.read_files(&files, &mut Php::of(place), &mut names)?;
        }
        Ok(ini)
    }

    /// Reads the configuration of a PHP that is installed.
    ///
    /// # Errors
    /// A file of it cannot be read, or not be understood.
    pub(crate) fn of(place: &Place) -> Result<Self> {
        let mut ini = Self { place: place.dir.clone(), ..Self::default() };
        ini.read_files(&place.files()?, &mut Php::of(&place.dir), &mut BTreeSet::new())?;
        Ok(ini)
    }

    /// `names`: what the files before have set, which `${NAME}` refers to.
    fn read_files(&mut self, files: &[PathBuf], php: &mut Php, names: &mut BTreeSet<String>) -> Result<()> {
        for file in files {
            let bytes = std::fs::read(file).map_err(Failure::system(cluster_lock_core::text::path(file)))?;
            let mentions = text::mentions(&bytes);
            if !mentions.is_empty() {
                self.read_file(file, &bytes, &mentions, php, names)?;
            }
            names.extend(text::labels(&bytes));
        }
        Ok(())
    }

    fn read_file(
        &mut self,
        file: &Path,
        bytes: &[u8],
        mentions: &[Mention],
        php: &mut Php,
        names: &BTreeSet<String>,
    ) -> Result<()> {
        let bad = |line: usize, why: &str| {
            let file = cluster_lock_core::text::path(file);
            Failure::Usage(format!("{file}, line {line}: {}", cluster_lock_core::text::said(why)))
        };
        for Mention { line, name, rest } in mentions {
            if let Some(other) = text::variables(rest).find(|other| names.contains(other)) {
                let why = format!(
                    "cluster_lock.{name}: ${{{other}}} is a setting of another file, not of the environment: \
                     write its value here"
                );
                return Err(bad(*line, &why));
            }
        }
        let read = match php.read(bytes, mentions) {
            Ok(read) => read.map_err(|(line, why)| bad(line, &why))?,
            Err(why) => own::read(bytes, |name| std::env::var(name).ok()).map_err(|(line, what)| {
                bad(line, &format!("{what} (cluster-lock has read it itself: {why})"))
            })?,
        };
        self.reader = Some(php.to_string());
        for Mention { name, .. } in mentions {
            if !read.settings.iter().any(|(set, _)| set == name) {
                self.for_some.insert(name.clone(), file.to_owned());
            }
        }
        for (name, value) in read.settings {
            self.settings.insert(name, Setting { value, file: file.to_owned() });
        }
        Ok(())
    }

    /// The value of `cluster_lock.NAME`, if it is set, perhaps to nothing.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(|setting| setting.value.as_str())
    }

    /// The file in which `cluster_lock.NAME` is set.
    pub(crate) fn file_of(&self, name: &str) -> Option<&Path> {
        self.settings.get(name).map(|setting| setting.file.as_path())
    }

    /// The file in which it is set for the requests of some host or directory, and nowhere for the others.
    pub(crate) fn only_for_some(&self, name: &str) -> Option<&Path> {
        self.for_some.get(name).filter(|_| self.get(name).is_none()).map(PathBuf::as_path)
    }

    /// Whether anything of ours is set.
    pub(crate) fn is_ours(&self) -> bool {
        !self.settings.is_empty() || !self.for_some.is_empty()
    }

    /// Whether both lead to the same locks.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        ["dsn", "prefix"].iter().all(|name| self.get(name) == other.get(name))
    }
}

#[cfg(test)]
mod tests;
