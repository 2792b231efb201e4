//! Which files' locks are intercepted, and what stands behind such a lock.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use glob::Pattern;

use super::nfs;
use super::path_map::as_written_and_real;
use crate::error::{Error, Result};
use crate::text;

/// What stands behind a lock on an open file (`cluster_lock.flock_mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlockMode {
    /// The cluster lock, and then the kernel's, for which nobody else waits by now.
    #[default]
    Gate,
    /// The cluster lock alone.
    Replace,
}

impl FlockMode {
    /// As php.ini says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Replace => "replace",
        }
    }
}

/// Which files' locks are intercepted (`cluster_lock.intercept`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intercept {
    network: bool,
    prefixes: Vec<PathBuf>,
}

impl Intercept {
    /// Parses absolute path prefixes, and `@network`, separated by `:`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the entry that is neither.
    pub fn parse(text: &str) -> Result<Self> {
        let mut rules = Self::default();
        for entry in text.split(':').map(str::trim).filter(|entry| !entry.is_empty()) {
            match entry {
                "@network" => rules.network = true,
                path if path.starts_with('/') => rules.prefixes.push(path.into()),
                other => {
                    return Err(Error::Invalid(format!(
                        "\"{}\" is neither an absolute path nor @network",
                        text::said(other)
                    )));
                }
            }
        }
        Ok(rules)
    }

    /// Whether there is nothing to intercept.
    pub fn is_empty(&self) -> bool {
        !self.network && self.prefixes.is_empty()
    }

    /// These rules, with the places added that symbolic links in their prefixes lead to now: open
    /// files are known by their real paths.
    #[must_use]
    pub fn resolved(&self) -> Self {
        let prefixes = self.prefixes.iter().flat_map(|prefix| as_written_and_real(prefix)).collect();
        Self { network: self.network, prefixes }
    }

    /// Whether a file is meant, by its real path.
    pub fn matches(&self, path: &Path, file: impl AsFd) -> bool {
        self.prefixes.iter().any(|prefix| path.starts_with(prefix)) || (self.network && nfs::is_network(file))
    }
}

/// Files that are never intercepted (`cluster_lock.intercept_exclude`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclude(Vec<Pattern>);

impl Exclude {
    /// Parses globs, separated by `:`. One without a slash is for file names, one with a slash for
    /// whole paths, where `*` stays within a directory and `**` does not.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the entry that is no glob.
    pub fn parse(text: &str) -> Result<Self> {
        let globs = text.split(':').map(str::trim).filter(|glob| !glob.is_empty());
        let parse = |glob: &str| {
            Pattern::new(glob)
                .map_err(|e| Error::Invalid(format!("\"{}\" is no glob: {}", text::said(glob), e.msg)))
        };
        globs.map(parse).collect::<Result<_>>().map(Self)
    }

    /// Whether a file is excluded, by its real path.
    pub fn matches(&self, path: &Path) -> bool {
        let within = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
        let whole = path.to_string_lossy();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.0.iter().any(|glob| {
            let text = if glob.as_str().contains('/') { &whole } else { &name };
            glob.matches_with(text, within)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn prefixes_are_whole_components_and_follow_links() {
        let dir = tempfile::tempdir().unwrap();
        let dir = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir(dir.join("real")).unwrap();
        symlink("real", dir.join("link")).unwrap();
        let file = tempfile::tempfile().unwrap();
        let rules = Intercept::parse(&format!("/a/b: {}/link/ :", dir.display())).unwrap();
        assert!(rules.matches(Path::new("/a/b/c"), &file));
        assert!(!rules.matches(Path::new("/a/bc"), &file));
        assert!(!rules.matches(&dir.join("real/f"), &file));
        assert!(rules.resolved().matches(&dir.join("real/f"), &file));
        assert!(!Intercept::parse("@network").unwrap().resolved().matches(&dir, &file));
        assert!(Intercept::parse("@network").is_ok_and(|rules| !rules.is_empty()));
        assert!(Intercept::parse(" : ").unwrap().is_empty());
        assert!(Intercept::parse("relative").is_err());
    }

    #[test]
    fn globs_are_for_names_or_whole_paths() {
        let globs = Exclude::parse("*.log:/srv/*/cache/**").unwrap();
        assert!(globs.matches(Path::new("/a/b.log")));
        assert!(!globs.matches(Path::new("/a.log/b")));
        assert!(!globs.matches(Path::new("/a/b.LOG")));
        assert!(globs.matches(Path::new("/srv/x/cache/y/z")));
        assert!(!globs.matches(Path::new("/srv/x/y/cache/z")));
        assert!(!Exclude::parse("").unwrap().matches(Path::new("/a")));
        assert!(Exclude::parse("[a").is_err());
    }
}
