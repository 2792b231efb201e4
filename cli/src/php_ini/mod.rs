//! What php.ini says of `cluster_lock.*`, read as PHP reads it: the file, then what lies in its `conf.d`.

mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use cluster_lock_core::text;
use configparser::ini::{Ini, IniDefault};

use crate::outcome::{Failure, Result};

/// What names of settings begin with.
const OURS: &str = "cluster_lock.";

/// One PHP's configuration: of a SAPI, or as the user put it together.
#[derive(Clone, Debug, Default)]
pub(crate) struct PhpIni {
    /// Where it is: a file or a directory, for messages.
    pub(crate) place: PathBuf,
    /// All files that were read, in PHP's order.
    pub(crate) files: Vec<PathBuf>,
    /// What is set, without `cluster_lock.`
    settings: BTreeMap<String, Setting>,
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
    /// Reads files and directories, in this order; what comes later counts.
    ///
    /// # Errors
    /// One of them cannot be read, or not be understood.
    pub(crate) fn read(places: &[PathBuf]) -> Result<Self> {
        let mut ini = Self { place: places.first().cloned().unwrap_or_default(), ..Self::default() };
        for place in places {
            let files = if place.is_dir() { files_in(place)? } else { vec![place.clone()] };
            for file in files {
                ini.read_file(&file)?;
            }
        }
        Ok(ini)
    }

    fn read_file(&mut self, file: &Path) -> Result<()> {
        let bytes = std::fs::read(file).map_err(Failure::system(text::path(file)))?;
        let bad = |why: &str| Failure::Usage(format!("{}: {}", text::path(file), text::said(why)));
        let sections = reader().read(String::from_utf8_lossy(&bytes).into_owned()).map_err(|e| bad(&e))?;
        // Sections are decoration, but for those of a host or a directory.
        let general = sections.into_iter().filter(|(section, _)| {
            let section = section.to_ascii_uppercase();
            !section.starts_with("HOST=") && !section.starts_with("PATH=")
        });
        for (name, raw) in general.flat_map(|(_, settings)| settings) {
            let Some(short) = name.strip_prefix(OURS) else { continue };
            let value = value::read(&raw.unwrap_or_default(), |name| std::env::var(name).ok())
                .map_err(|why| bad(&format!("{name}: {why}")))?;
            self.settings.insert(short.to_owned(), Setting { value, file: file.to_owned() });
        }
        self.files.push(file.to_owned());
        Ok(())
    }

    /// The value of `cluster_lock.NAME`, if it is set to something.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(|setting| setting.value.as_str()).filter(|value| !value.is_empty())
    }

    /// The file in which `cluster_lock.NAME` is set.
    pub(crate) fn file_of(&self, name: &str) -> Option<&Path> {
        self.settings.get(name).map(|setting| setting.file.as_path())
    }

    /// Whether anything of ours is set.
    pub(crate) fn is_ours(&self) -> bool {
        !self.settings.is_empty()
    }

    /// Whether both lead to the same locks.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        ["dsn", "prefix"].iter().all(|name| self.get(name) == other.get(name))
    }
}

fn reader() -> Ini {
    let mut rules = IniDefault::default();
    rules.comment_symbols = vec![';'];
    rules.delimiters = vec!['='];
    rules.case_sensitive = true;
    rules.multiline = false;
    // A ; within quotes is none: php_ini::value takes them out.
    rules.enable_inline_comments = false;
    Ini::new_from_defaults(rules)
}

/// `php.ini` and `conf.d/*.ini`, or, where there is no php.ini, all `*.ini`.
fn files_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let main = dir.join("php.ini");
    if !main.is_file() {
        return ini_files(dir);
    }
    let mut files = vec![main];
    if dir.join("conf.d").is_dir() {
        files.extend(ini_files(&dir.join("conf.d"))?);
    }
    Ok(files)
}

fn ini_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(Failure::system(text::path(dir)))?;
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "ini") && path.is_file())
        .collect();
    files.sort();
    Ok(files)
}

/// The configurations of the PHPs that are installed below `root`, those that serve requests first, newer ones
/// before older ones.
pub(crate) fn usual_places(root: &Path) -> Vec<PathBuf> {
    let mut versions: Vec<_> = std::fs::read_dir(root.join("etc/php"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    let number = |path: &PathBuf| -> Option<(u32, u32)> {
        let (major, minor) = path.file_name()?.to_str()?.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    versions.sort_by_key(|path| std::cmp::Reverse(number(path)));
    let debian = ["fpm", "apache2", "cli"]
        .iter()
        .flat_map(|sapi| versions.iter().map(move |version| version.join(sapi)).collect::<Vec<_>>());
    // Docker's images, and those that build it themselves.
    debian.chain([root.join("usr/local/etc/php")]).filter(|place| place.is_dir()).collect()
}

#[cfg(test)]
mod tests;
