//! Where PHP's configuration lies.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cluster_lock_core::text;

use crate::outcome::{Failure, Result};
use crate::program;

/// The configuration of a PHP that is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where its php.ini is, if there is one: Docker's images come without.
    pub(crate) dir: PathBuf,
    /// Where further files are.
    scan: Vec<PathBuf>,
}

impl Place {
    /// `php.ini` in this directory, and `*.ini` in `conf.d` there.
    pub(crate) fn at(dir: PathBuf) -> Self {
        Self { scan: vec![dir.join("conf.d")], dir }
    }

    /// All files, in PHP's order.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>> {
        let main = self.dir.join("php.ini");
        let mut files = if is_there(&main)? { vec![main] } else { Vec::new() };
        for dir in &self.scan {
            if is_there(dir)? {
                files.extend(ini_files(dir)?);
            }
        }
        Ok(files)
    }
}

/// The files that a path stands for: itself, or `php.ini` and `conf.d/*.ini` in it, or `*.ini`.
///
/// # Errors
/// There is nothing, or it cannot be read.
pub(super) fn files_named(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Place::at(path.to_owned()).files()?;
    if files.is_empty() {
        files = ini_files(path)?;
    }
    if files.is_empty() {
        let path = text::path(path);
        return Err(Failure::Usage(format!("{path}: there is neither a php.ini nor any other *.ini in it")));
    }
    Ok(files)
}

/// Whether it exists. That it may not be looked at is no answer.
fn is_there(path: &Path) -> Result<bool> {
    match path.metadata() {
        Ok(_) => Ok(true),
        Err(error) if is_absence(&error) => Ok(false),
        Err(error) => Err(Failure::System(text::path(path), error)),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn ini_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Failure::system(text::path(dir)))? {
        let file = entry.map_err(Failure::system(text::path(dir)))?.path();
        // PHP passes over links that lead nowhere.
        if file.extension().is_some_and(|ext| ext == "ini") && is_there(&file)? && !file.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// The configurations of the PHPs that are installed below `root`, those that serve requests first, newer ones
/// before older ones. `scan_dir` is `PHP_INI_SCAN_DIR`, which Docker's images are told by.
///
/// # Errors
/// It cannot be found out.
pub(crate) fn usual_places(root: &Path, scan_dir: Option<&OsStr>) -> Result<Vec<Place>> {
    let debian = root.join("etc/php");
    let mut versions = Vec::new();
    match std::fs::read_dir(&debian) {
        Ok(entries) => {
            for entry in entries {
                versions.push(entry.map_err(Failure::system(text::path(&debian)))?.path());
            }
        }
        Err(error) if is_absence(&error) => {}
        Err(error) => return Err(Failure::System(text::path(&debian), error)),
    }
    let number = |path: &PathBuf| -> Option<(u32, u32)> {
        let (major, minor) = path.file_name()?.to_str()?.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    versions.sort_by_key(|path| std::cmp::Reverse(number(path)));
    let of = |sapi: &'static str| versions.iter().map(move |version| version.join(sapi));
    // The PHP of FrankenPHP's packages has one for all.
    let threaded = root.join("etc/php-zts");
    let mut places = Vec::new();
    for dir in of("fpm").chain(of("apache2")).chain([threaded]).chain(of("cli")) {
        if is_there(&dir)? {
            places.push(Place::at(dir));
        }
    }
    // Docker's images, and those that build it themselves.
    let docker = root.join("usr/local/etc/php");
    if is_there(&docker)? {
        places.push(match scan_dir {
            Some(list) => Place { scan: scanned(list, &docker.join("conf.d")), dir: docker },
            None => Place::at(docker),
        });
    }
    Ok(places)
}

/// The directories of `PHP_INI_SCAN_DIR`, of which an empty one is the one that was compiled in.
fn scanned(list: &OsStr, compiled_in: &Path) -> Vec<PathBuf> {
    let or_own = |dir: PathBuf| if dir.as_os_str().is_empty() { compiled_in.to_owned() } else { dir };
    if list.is_empty() { Vec::new() } else { std::env::split_paths(list).map(or_own).collect() }
}

/// Where the `php` of this `PATH` has its configuration, if there is one: other distributions have other places.
pub(crate) fn of_php() -> Option<Place> {
    const CODE: &str = "echo \"\\n:\", PHP_CONFIG_FILE_PATH, \"\\n:\", PHP_CONFIG_FILE_SCAN_DIR, \"\\n\";";
    let said =
        program::ask(Command::new("php").args(["-n", "-r", CODE]), Vec::new(), Duration::from_secs(10))
            .ok()?;
    let answer = String::from_utf8(said.out).ok()?;
    let mut lines = answer.lines().filter_map(|line| line.strip_prefix(':'));
    let (dir, scan) = (lines.next()?, lines.next()?);
    Some(Place { dir: dir.into(), scan: scanned(OsStr::new(scan), Path::new("")) })
}
