//! Names that all nodes have for a path, whatever their mount points.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::key::LockName;
use crate::text;

/// Local path prefixes and the names that all nodes share for them (`cluster_lock.path_map`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathMap(Vec<(PathBuf, PathBuf)>);

impl PathMap {
    /// Parses `/mnt/a=/srv/www:/mnt/b=/srv/media`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the entry that is not `/local=/shared` with absolute paths.
    pub fn parse(text: &str) -> Result<Self> {
        let mut entries = Vec::new();
        for entry in text.split(':').map(str::trim).filter(|e| !e.is_empty()) {
            match entry.split_once('=') {
                Some((local, shared)) if local.starts_with('/') && shared.starts_with('/') => {
                    entries.push((PathBuf::from(local), PathBuf::from(shared)));
                }
                _ => {
                    return Err(Error::Invalid(format!(
                        "\"{}\" is not of the form /local/prefix=/shared/name (both absolute)",
                        text::said(entry)
                    )));
                }
            }
        }
        Ok(Self::sorted(entries))
    }

    /// The longest local prefix wins, wherever it stands in the setting.
    fn sorted(mut entries: Vec<(PathBuf, PathBuf)>) -> Self {
        entries.sort_by_key(|(local, _)| std::cmp::Reverse(local.as_os_str().len()));
        Self(entries)
    }

    /// This map, with the places added that symbolic links in its local prefixes lead to now: lock names
    /// are made from real paths.
    #[must_use]
    pub fn resolved(&self) -> Self {
        let both = self.0.iter().flat_map(|(local, shared)| {
            as_written_and_real(local).into_iter().map(|local| (local, shared.clone()))
        });
        Self::sorted(both.collect())
    }

    /// The shared name of a local path; the path itself where no prefix matches.
    pub fn apply(&self, path: &Path) -> PathBuf {
        for (local, shared) in &self.0 {
            if let Ok(rest) = path.strip_prefix(local) {
                return if rest.as_os_str().is_empty() { shared.clone() } else { shared.join(rest) };
            }
        }
        path.to_path_buf()
    }
}

/// A path prefix as it was written, and where the symbolic links in it lead to, if anywhere else.
pub(crate) fn as_written_and_real(prefix: &Path) -> Vec<PathBuf> {
    let written = prefix.to_path_buf();
    match std::fs::canonicalize(prefix) {
        Ok(real) if real != written => vec![written, real],
        _ => vec![written],
    }
}

impl LockName {
    /// The name of the lock on a file, equal on all nodes whatever their mount points.
    ///
    /// `path` must be absolute and resolved (no symlinks, no `..`).
    pub fn for_path(path: &Path, map: &PathMap) -> Self {
        Self::of_shared_path(&map.apply(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_map_takes_the_longest_prefix_and_whole_components() {
        let map = PathMap::parse("/mnt=/x:/mnt/a=/srv/www").unwrap();
        assert_eq!(map.apply(Path::new("/mnt/a/b.css")), Path::new("/srv/www/b.css"));
        assert_eq!(map.apply(Path::new("/mnt/ab.css")), Path::new("/x/ab.css"));
        assert_eq!(map.apply(Path::new("/mntx/b")), Path::new("/mntx/b"));
        assert_eq!(map.apply(Path::new("/mnt/a")), Path::new("/srv/www"));
        assert!(PathMap::parse("relative=/x").is_err());
    }

    #[test]
    fn path_map_follows_links_in_its_prefixes() {
        let dir = tempfile::tempdir().unwrap();
        let dir = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir(dir.join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.join("link")).unwrap();
        let map = PathMap::parse(&format!("{}=/srv/www", dir.join("link").display())).unwrap();
        let file = dir.join("real/a.css");
        assert_eq!(map.apply(&file), file);
        assert_eq!(map.resolved().apply(&file), Path::new("/srv/www/a.css"));
    }
}
