//! Directories on network file systems, and what PHP's settings do with the locks on their files.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use cluster_lock_core::PathMap;
use cluster_lock_core::dsn::redact;
use cluster_lock_core::file::Intercept;
use cluster_lock_core::settings::{DSN, Setting, TABLE, Values};

use super::mountinfo::{Mount, Mounts};
use super::network::{self, Kind};
use super::php::Php;
use crate::php_ini::PhpIni;

/// A directory on a network file system that is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) mount: Mount,
    pub(crate) kind: Kind,
    /// Its real path: the mount point, unless a directory was named.
    pub(crate) path: PathBuf,
    /// The name of what is mounted that all nodes can share; `None` when there is none, or another mount
    /// of this node would get the same though it is another file system.
    pub(crate) shared: Option<PathBuf>,
    /// Whether its server answers. Whoever touches a mount whose server does not, waits.
    pub(crate) answers: bool,
}

impl Place {
    /// Whether it was named, rather than found.
    pub(crate) fn is_mount_point(&self) -> bool {
        self.path == self.mount.point
    }
}

/// All network mounts; or those that `wanted`, real paths, are on.
pub(crate) fn find(mounts: &Mounts, wanted: &[PathBuf]) -> Vec<Place> {
    let network: Vec<(&Mount, Kind, Option<PathBuf>)> = mounts
        .visible()
        .filter_map(|mount| {
            let kind = Kind::of(&mount.fstype)?;
            Some((mount, kind, network::shared_name(mount, kind)))
        })
        .collect();
    let of = |&(mount, kind, ref name): &(&Mount, Kind, Option<PathBuf>), path: &Path| {
        // One export may be mounted twice, with other options. What names no server is another one's.
        let same = |other: &Mount| {
            other.device == mount.device || (other.source == mount.source && !network::is_tunnelled(mount))
        };
        let taken = network.iter().any(|(other, _, its)| its.is_some() && its == name && !same(other));
        let shared = name.clone().filter(|_| !taken && network::is_sayable(&mount.point));
        Place { mount: mount.clone(), kind, path: path.to_owned(), shared, answers: true }
    };
    if wanted.is_empty() {
        return network.iter().map(|found| of(found, &found.0.point)).collect();
    }
    let on = |path: &PathBuf| {
        let mount = mounts.of(path)?;
        network.iter().find(|(other, ..)| *other == mount).map(|found| of(found, path))
    };
    wanted.iter().filter_map(on).collect()
}

/// The settings of one of PHP's programs, or of one of its pools.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) name: String,
    pub(crate) loaded: bool,
    pub(crate) settings: BTreeMap<String, String>,
    /// Whether symbolic links may be followed: not while a file server does not answer.
    pub(crate) follow: bool,
}

impl View {
    /// Of every program, and of every pool that says anything of its own.
    pub(crate) fn all(programs: &[Php], follow: bool) -> Vec<Self> {
        let of = |php: &Php| {
            let own = Self { name: php.name(), loaded: php.loaded, settings: php.settings.clone(), follow };
            let pools = php.pools.iter().filter(|pool| !pool.settings.is_empty()).map(|pool| {
                let mut settings = php.settings.clone();
                settings.extend(pool.settings.clone());
                Self { name: format!("{}, pool {}", php.name(), pool.name), settings, ..own.clone() }
            });
            std::iter::once(own.clone()).chain(pools).collect::<Vec<_>>()
        };
        programs.iter().flat_map(of).collect()
    }

    /// Of what php.ini says, where there is no PHP to ask (beside containers, say).
    pub(crate) fn of_ini(ini: &PhpIni, follow: bool) -> Self {
        let value = |setting: &Setting| {
            let name = setting.name();
            // Compared with that of another PHP, which says what is in force.
            let value = ini.get(name).or((name == "prefix").then_some(setting.default))?;
            // It goes no further than this with its password.
            let shown = if name == DSN.name() { redact(value) } else { value.to_owned() };
            Some((name.to_owned(), shown))
        };
        let settings = TABLE.iter().filter_map(value).collect();
        Self { name: cluster_lock_core::text::path(&ini.place), loaded: true, settings, follow }
    }

    /// What they mean. As PHP has it, the default stands in for what is not set, or not allowed.
    pub(crate) fn values(&self) -> Values {
        let mut values = Values::default();
        for (name, text) in &self.settings {
            let _ = values.set(name, text);
        }
        values
    }

    pub(crate) fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    /// Whether locks on files in a directory go through the cluster lock.
    pub(crate) fn intercepts(&self, place: &Place) -> bool {
        if !self.loaded {
            return false;
        }
        let text = self.setting("intercept");
        if self.follow
            && let Ok(directory) = File::open(&place.path)
        {
            return Intercept::parse(text).unwrap_or_default().resolved().matches(&place.path, &directory);
        }
        // Not to be opened: what kind it is is known all the same.
        text.split(':').map(str::trim).any(|entry| match entry {
            "@network" => place.kind.is_at_network(),
            prefix => !prefix.is_empty() && place.path.starts_with(prefix),
        })
    }

    /// Directories in this one of which that is true.
    pub(crate) fn intercepts_below(&self, place: &Place) -> Vec<PathBuf> {
        let entries = self.setting("intercept").split(':').map(|entry| PathBuf::from(entry.trim()));
        entries
            .filter(|entry| self.loaded && entry.starts_with(&place.path) && *entry != place.path)
            .collect()
    }

    pub(crate) fn path_map(&self) -> PathMap {
        let map = PathMap::parse(self.setting("path_map")).unwrap_or_default();
        if self.follow { map.resolved() } else { map }
    }

    /// Whether `path_map` has an entry for a directory, even one that changes nothing.
    pub(crate) fn maps(&self, place: &Place) -> bool {
        let locals = self.setting("path_map").split(':').filter_map(|entry| entry.trim().split_once('='));
        locals.into_iter().any(|(local, _)| {
            let leads_there = || std::fs::canonicalize(local).is_ok_and(|real| place.path.starts_with(real));
            place.path.starts_with(local) || (self.follow && leads_there())
        })
    }

    pub(crate) fn replaces(&self) -> bool {
        self.setting("flock_mode").eq_ignore_ascii_case("replace")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::mountinfo::tests::SAMPLE;
    use super::*;

    fn mounts() -> Mounts {
        Mounts::parse(SAMPLE.as_bytes())
    }

    pub(crate) fn view(settings: &[(&str, &str)]) -> View {
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        View { name: "PHP 8.2 cli".into(), loaded: true, settings, follow: false }
    }

    fn place(path: &str) -> Place {
        find(&mounts(), &[path.into()]).remove(0)
    }

    #[test]
    fn all_network_mounts_or_those_that_are_named() {
        assert_eq!(find(&mounts(), &[]).len(), 11);
        let named = find(&mounts(), &["/srv/v3/wp-content".into(), "/etc".into()]);
        assert_eq!(named.len(), 1);
        assert_eq!(named[0].mount.point, Path::new("/srv/v3"));
        assert!(!named[0].is_mount_point());
    }

    #[test]
    fn two_file_systems_get_no_name_in_common() {
        let tunnel = "50 22 0:90 / /mnt/second rw - nfs4 127.0.0.1:/ rw,vers=4.1\n";
        let both = Mounts::parse(format!("{SAMPLE}{tunnel}").as_bytes());
        assert_eq!(find(&both, &["/mnt/second".into()])[0].shared, None);
        assert_eq!(
            find(&mounts(), &["/mnt/efs-tls".into()])[0].shared.as_deref(),
            Some(Path::new("/nfs/127.0.0.1"))
        );
        // The same file system twice is no conflict, and neither is the same export of a server with other options.
        let v41 = "50 22 0:90 / /mnt/second rw - nfs4 10.9.0.1:/ rw,vers=4.1\n";
        let versions = Mounts::parse(format!("{SAMPLE}{v41}").as_bytes());
        assert_eq!(
            find(&versions, &["/mnt/second".into()])[0].shared.as_deref(),
            Some(Path::new("/nfs/10.9.0.1"))
        );
        let again = "50 22 0:57 / /mnt/second rw - nfs4 127.0.0.1:/ rw,vers=4.1\n";
        let twice = Mounts::parse(format!("{SAMPLE}{again}").as_bytes());
        assert!(find(&twice, &["/mnt/second".into()])[0].shared.is_some());
    }

    #[test]
    fn interception_is_by_kind_or_by_path() {
        for (intercept, path, expected) in [
            ("@network", "/srv/v3", true),
            ("@network", "/mnt/gluster", false),
            ("@network:/mnt/gluster", "/mnt/gluster", true),
            ("/srv", "/srv/v40", true),
            ("/srv/v4", "/srv/v40", false),
            ("", "/srv/v40", false),
        ] {
            assert_eq!(
                view(&[("intercept", intercept)]).intercepts(&place(path)),
                expected,
                "{intercept} {path}"
            );
        }
        let below = view(&[("intercept", "/srv/v3/wp-content:/srv/v3")]).intercepts_below(&place("/srv/v3"));
        assert_eq!(below, [Path::new("/srv/v3/wp-content")]);
        let unloaded = View { loaded: false, ..view(&[("intercept", "@network")]) };
        assert!(!unloaded.intercepts(&place("/srv/v3")));
    }

    #[test]
    fn links_lead_to_places() {
        let dir = tempfile::tempdir().unwrap();
        let dir = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir(dir.join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.join("link")).unwrap();
        let link = dir.join("link").display().to_string();
        let place = Place { path: dir.join("real"), ..place("/srv/v3") };
        for (follow, expected) in [(true, true), (false, false)] {
            let set = view(&[("intercept", &link), ("path_map", &format!("{link}=/site"))]);
            let set = View { follow, ..set };
            assert_eq!((set.intercepts(&place), set.maps(&place)), (expected, expected));
        }
        // The kernel knows better than the table of mounts.
        assert!(!View { follow: true, ..view(&[("intercept", "@network")]) }.intercepts(&place));
    }

    #[test]
    fn an_entry_of_the_path_map_counts_even_if_it_changes_nothing() {
        let view = view(&[("path_map", "/srv/v3=/srv/v3:/x=/y")]);
        assert!(view.maps(&place("/srv/v3/a")) && !view.maps(&place("/srv/v40")));
    }
}
