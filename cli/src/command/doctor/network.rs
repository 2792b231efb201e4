//! Which mounts are network file systems, and the name that all nodes can share for what is mounted.
//!
//! The name is made from what every node says when it mounts: the server and the exported directory. It
//! is equal on all nodes by construction, wherever they mount it, as long as they call the server by the
//! same name. What is known to differ between nodes that use the same file system is left out: the zone
//! in the name of an EFS mount target, the server of a Gluster pool or Ceph cluster that was asked first.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::mountinfo::Mount;

/// A family of file systems whose server is another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nfs,
    Smb,
    Ceph,
    Gluster,
    /// Another that `@network` knows.
    Other,
    /// Behind FUSE, where the kernel cannot tell local from remote: `@network` does not know it.
    Fuse,
}

/// FUSE file systems that are known to have a server.
const FUSE: [&str; 16] = [
    "fuse.sshfs",
    "fuse.s3fs",
    "fuse.mountpoint-s3",
    "fuse.gcsfuse",
    "fuse.blobfuse",
    "fuse.blobfuse2",
    "fuse.rclone",
    "fuse.goofys",
    "fuse.ceph-fuse",
    "fuse.juicefs",
    "fuse.moosefs",
    "fuse.mfs",
    "fuse.lizardfs",
    "fuse.seaweedfs",
    "fuse.davfs",
    "fuse.beegfs",
];

impl Kind {
    /// `None` for a local file system.
    pub(crate) fn of(fstype: &str) -> Option<Self> {
        Some(match fstype {
            "nfs" | "nfs4" => Self::Nfs,
            "cifs" | "smb3" | "smbfs" => Self::Smb,
            "ceph" => Self::Ceph,
            "fuse.glusterfs" => Self::Gluster,
            "afs" | "coda" | "9p" | "lustre" | "gpfs" => Self::Other,
            "beegfs" | "pvfs2" | "orangefs" => Self::Fuse,
            // JuiceFS writes its volume behind a colon.
            other if FUSE.contains(&other.split(':').next().unwrap_or(other)) => Self::Fuse,
            _ => return None,
        })
    }

    /// Whether `cluster_lock.intercept = "@network"` means it.
    pub(crate) fn is_at_network(self) -> bool {
        !matches!(self, Self::Gluster | Self::Fuse)
    }
}

/// The server and the directory that an NFS, SMB or Gluster mount names.
pub(crate) fn server_and_export(source: &str) -> Option<(&str, &str)> {
    if let Some(rest) = source.strip_prefix("//") {
        return Some(rest.split_once('/').unwrap_or((rest, "")));
    }
    if let Some(rest) = source.strip_prefix('[') {
        let (server, export) = rest.split_once("]:")?;
        return Some((server, export));
    }
    source.split_once(':')
}

/// The name that all nodes can share for what is mounted; `None` when it cannot be told from the mount.
pub(crate) fn shared_name(mount: &Mount, kind: Kind) -> Option<PathBuf> {
    let source = mount.source.as_str();
    let (family, server, export) = match kind {
        Kind::Nfs => {
            let (server, export) = server_and_export(source)?;
            ("nfs", Some(canonical_host(server)), export.to_owned())
        }
        Kind::Smb => {
            let (server, export) = server_and_export(source)?;
            // Shares are found without regard to case; paths in them are told by whoever mounts.
            let (share, path) = export.split_once('/').unwrap_or((export, ""));
            ("smb", Some(canonical_host(server)), format!("{}/{path}", share.to_lowercase()))
        }
        Kind::Gluster => ("glusterfs", None, server_and_export(source)?.1.to_owned()),
        Kind::Ceph => {
            let at = source.rfind(":/").or_else(|| source.rfind("=/"))?;
            let (who, path) = (source.get(..at)?, source.get(at + 1..)?);
            // `user@cluster.filesystem=/path`, or monitors and the file system as an option.
            let named = who.split_once('@').and_then(|(_, rest)| rest.split_once('.')).map(|(_, name)| name);
            let filesystem = named.or(mount.option("mds_namespace")).or(mount.option("fs"));
            ("ceph", filesystem.map(str::to_owned), path.to_owned())
        }
        Kind::Other | Kind::Fuse => {
            let family = mount.fstype.strip_prefix("fuse.").unwrap_or(&mount.fstype);
            if source.is_empty() || source == "none" || source == family {
                return None;
            }
            (family, None, source.to_owned())
        }
    };
    let mut name = PathBuf::from("/");
    let parts = [family.to_owned(), server.unwrap_or_default(), export];
    let parts = parts.iter().map(Path::new).chain([mount.root.as_path()]);
    for component in parts.flat_map(Path::components) {
        match component {
            Component::Normal(part) => name.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    // What separates entries cannot stand in one.
    let safe: Vec<u8> =
        name.as_os_str().as_bytes().iter().map(|&b| if b == b':' { b'-' } else { b }).collect();
    let safe = PathBuf::from(String::from_utf8(safe).ok()?);
    is_sayable(&safe).then_some(safe)
}

/// A host by the name that nodes have in common.
fn canonical_host(server: &str) -> String {
    let host = server.trim_end_matches('.').to_lowercase();
    // us-east-1a.fs-0123.efs.us-east-1.amazonaws.com: the mount target of one zone.
    match host.split_once('.') {
        Some((_, rest)) if rest.starts_with("fs-") && rest.contains(".efs.") => rest.to_owned(),
        _ => host,
    }
}

/// Whether a mount goes through a tunnel that ends on this node (stunnel, efs-proxy): then the name of
/// the server is not in it.
pub(crate) fn is_tunnelled(mount: &Mount) -> bool {
    server_and_export(&mount.source).is_some_and(|(server, _)| is_loopback(server))
}

/// Whether a host is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a path can stand in `cluster_lock.path_map` and `.intercept`, between quotes in php.ini.
pub(crate) fn is_sayable(path: &Path) -> bool {
    path.to_str().is_some_and(|text| {
        text.trim() == text
            && !text.chars().any(|c| c.is_control() || matches!(c, ':' | '=' | '"' | '\\' | '$'))
    })
}

#[cfg(test)]
mod tests {
    use super::super::mountinfo::Mounts;
    use super::super::mountinfo::tests::SAMPLE;
    use super::*;

    fn mount(fstype: &str, source: &str, root: &str, options: &str) -> Mount {
        let line = format!("1 0 0:1 {root} /mnt rw - {fstype} {source} {options}");
        Mounts::parse(line.as_bytes()).visible().next().unwrap().clone()
    }

    fn name(fstype: &str, source: &str) -> Option<String> {
        named(&mount(fstype, source, "/", "rw"))
    }

    fn named(mount: &Mount) -> Option<String> {
        shared_name(mount, Kind::of(&mount.fstype).unwrap()).map(|name| name.to_str().unwrap().to_owned())
    }

    #[test]
    fn network_file_systems_are_told_from_local_ones() {
        let mounts = Mounts::parse(SAMPLE.as_bytes());
        let network: Vec<_> = mounts
            .visible()
            .filter(|mount| Kind::of(&mount.fstype).is_some())
            .map(|mount| mount.point.to_str().unwrap())
            .collect();
        assert_eq!(
            network,
            [
                "/srv/v3",
                "/srv/nolock",
                "/srv/v40",
                "/srv/v42",
                "/mnt/efs",
                "/mnt/efs-tls",
                "/mnt/smb",
                "/mnt/ceph",
                "/mnt/gluster",
                "/var/www/my site/wp-content",
                "/shared/home",
            ]
        );
        assert!(Kind::of("fuse.juicefs:volume") == Some(Kind::Fuse) && !Kind::Fuse.is_at_network());
    }

    #[test]
    fn names_are_the_server_and_what_it_exports() {
        for (fstype, source, expected) in [
            ("nfs4", "10.9.0.1:/", "/nfs/10.9.0.1"),
            ("nfs", "NAS1.example.com.:/vol/web/", "/nfs/nas1.example.com/vol/web"),
            ("nfs4", "[2001:db8::9]:/export", "/nfs/2001-db8--9/export"),
            ("cifs", "//NAS1/Web/Sites", "/smb/nas1/web/Sites"),
            ("cifs", "//nas1/web", "/smb/nas1/web"),
            ("ceph", "10.0.0.1:6789,10.0.0.2:6789:/web", "/ceph/web"),
            ("ceph", "web@0123-45.fsname=/sites", "/ceph/fsname/sites"),
            ("fuse.glusterfs", "gl1:/web", "/glusterfs/web"),
            ("fuse.glusterfs", "gl2:web", "/glusterfs/web"),
            ("lustre", "10.0.0.1@tcp:/scratch", "/lustre/10.0.0.1@tcp-/scratch"),
            ("fuse.sshfs", "web@host:/srv", "/sshfs/web@host-/srv"),
        ] {
            assert_eq!(name(fstype, source).as_deref(), Some(expected), "{source}");
        }
    }

    #[test]
    fn zones_of_efs_have_one_name() {
        let zones = ["eu-west-1a.fs-01.efs.eu-west-1.amazonaws.com:/", "fs-01.efs.eu-west-1.amazonaws.com:/"];
        for zone in zones {
            assert_eq!(name("nfs4", zone).unwrap(), "/nfs/fs-01.efs.eu-west-1.amazonaws.com");
        }
        assert!(is_tunnelled(&mount("nfs4", "127.0.0.1:/", "/", "rw,port=20449")));
        assert!(!is_tunnelled(&mount("nfs4", "10.0.0.1:/", "/", "rw")));
    }

    #[test]
    fn a_bind_mount_is_a_directory_of_what_is_mounted() {
        assert_eq!(named(&mount("nfs4", "nas:/export", "/site/a", "rw")).unwrap(), "/nfs/nas/export/site/a");
        assert_eq!(named(&mount("ceph", "m1:/", "/a", "rw,mds_namespace=two")).unwrap(), "/ceph/two/a");
    }

    #[test]
    fn what_cannot_be_named_is_not() {
        assert_eq!(named(&mount("nfs4", "nas:/a=b", "/", "rw")), None);
        assert_eq!(named(&mount("nfs4", "nas:/a/../b", "/", "rw")), None);
        assert_eq!(named(&mount("nfs4", "nowhere", "/", "rw")), None);
        assert_eq!(name("fuse.s3fs", "s3fs"), None);
        assert!(
            is_sayable(Path::new("/a b/c"))
                && !is_sayable(Path::new("/a:b"))
                && !is_sayable(Path::new("/a${B}"))
        );
    }
}
