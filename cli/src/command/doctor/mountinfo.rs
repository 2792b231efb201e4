//! The mounts of this process, as the kernel lists them: `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    id: u32,
    /// The mount that this one lies on.
    parent: u32,
    /// Device numbers: equal for two mounts of one file system.
    pub(crate) device: String,
    /// Which directory of the file system is mounted; `/` unless it is a bind mount or the like.
    pub(crate) root: PathBuf,
    /// Where.
    pub(crate) point: PathBuf,
    /// `nfs4`, `fuse.glusterfs` …
    pub(crate) fstype: String,
    /// What: `server:/export` …
    pub(crate) source: String,
    /// Those of the mount, then those of the file system.
    pub(crate) options: Vec<(String, Option<String>)>,
}

impl Mount {
    /// A line of mountinfo(5): `36 35 98:0 /root /point rw,noatime master:1 - fstype source rw,…`.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|&b| b == b' ');
        let id = text(fields.next()?).parse().ok()?;
        let parent = text(fields.next()?).parse().ok()?;
        let device = text(fields.next()?);
        let root = path(fields.next()?);
        let point = path(fields.next()?);
        let of_mount = text(fields.next()?);
        // Optional fields, as many as there are, end with a hyphen.
        fields.by_ref().find(|field| *field == b"-")?;
        let fstype = text(fields.next()?);
        let source = text(fields.next()?);
        let of_filesystem = text(fields.next().unwrap_or_default());
        let options = of_mount
            .split(',')
            .chain(of_filesystem.split(','))
            .filter(|option| !option.is_empty())
            .map(|option| match option.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (option.to_owned(), None),
            })
            .collect();
        Some(Self { id, parent, device, root, point, fstype, source, options })
    }

    /// Whether an option without a value is set.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(option, _)| option == name)
    }

    /// The value of an option. The file system's own wins over the mount's.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(option, _)| option == name)?.1.as_deref()
    }

    /// A mount of a file system that can be written, or the other way round, counts as what it is here.
    pub(crate) fn is_read_only(&self) -> bool {
        self.has("ro")
    }
}

/// All mounts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mounts(Vec<Mount>);

impl Mounts {
    pub(crate) fn read() -> std::io::Result<Self> {
        std::fs::read("/proc/self/mountinfo").map(|text| Self::parse(&text))
    }

    pub(crate) fn parse(text: &[u8]) -> Self {
        Self(text.split(|&b| b == b'\n').filter_map(Mount::parse).collect())
    }

    /// The mount that a real path is on.
    pub(crate) fn of(&self, path: &Path) -> Option<&Mount> {
        self.visible()
            .filter(|mount| path.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.as_os_str().len())
    }

    /// Those that can be reached: no other mount lies over them.
    pub(crate) fn visible(&self) -> impl Iterator<Item = &Mount> {
        self.0.iter().filter(|mount| {
            let covers = |other: &&Mount| other.parent == mount.id && other.id != mount.id;
            let covered = self.0.iter().filter(covers).any(|other| other.point == mount.point);
            !covered && self.is_reachable(mount)
        })
    }

    /// Whether no mount lies over the place where this one, or one that it lies on, was mounted. A mount that
    /// came before, and a directory above, would be what this one lies on.
    fn is_reachable(&self, mount: &Mount) -> bool {
        let mut current = mount;
        // A list that goes in a circle is none; but it comes from outside.
        for _ in 0..self.0.len() {
            let mut beside =
                self.0.iter().filter(|other| other.parent == current.parent && other.id != current.id);
            if beside.any(|other| other.id != other.parent && current.point.starts_with(&other.point)) {
                return false;
            }
            match self.0.iter().find(|other| other.id == current.parent && other.id != current.id) {
                Some(parent) => current = parent,
                None => return true,
            }
        }
        true
    }
}

/// The kernel writes blanks, tabs, line ends and backslashes as `\040` and so on.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let code = if first == b'\\' { tail.get(..3).and_then(octal) } else { None };
        if let Some(byte) = code {
            plain.push(byte);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            plain.push(first);
            rest = tail;
        }
    }
    plain
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

fn path(field: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(field)).into()
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

#[cfg(test)]
#[path = "mountinfo_tests.rs"]
pub(crate) mod tests;
