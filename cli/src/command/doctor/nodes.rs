//! This node beside another: whether both call the same files, and the same servers, by the same names.
//!
//! Files are told to be the same by what both nodes say when they mount them. Where one of them names the
//! server otherwise (by its address, or another of its names), the directory and the server's own number
//! for the file system tell.

use std::path::{Path, PathBuf};

use cluster_lock_core::text;
use serde::{Deserialize, Serialize};

use super::mountinfo::Mount;
use super::php::lossy;
use crate::finding::{Area, Finding, Severity};

/// What a node says of a network mount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mounted {
    /// The directory that is looked at.
    #[serde(serialize_with = "lossy")]
    pub(crate) path: PathBuf,
    #[serde(serialize_with = "lossy")]
    pub(crate) point: PathBuf,
    pub(crate) fstype: String,
    pub(crate) source: String,
    /// The directory of it that is mounted.
    #[serde(serialize_with = "lossy")]
    pub(crate) root: PathBuf,
    /// In words.
    pub(crate) described: String,
    /// The server's number for the file system, if it is NFS.
    pub(crate) fsid: Option<String>,
    /// The name that all nodes can share.
    pub(crate) shared: Option<PathBuf>,
    /// What the mount point is called in locks' names, by PHP's settings.
    #[serde(serialize_with = "lossy")]
    pub(crate) named: PathBuf,
}

/// What has to be the same on all nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// Whether PHP has the extension; else its settings are not known.
    pub(crate) loaded: bool,
    /// Credentials are hidden.
    pub(crate) dsn: String,
    /// `?grace=` in it, in seconds.
    #[serde(default)]
    pub(crate) grace: Option<u64>,
    pub(crate) prefix: String,
    pub(crate) flock_mode: String,
    pub(crate) mounts: Vec<Mounted>,
}

/// Reads another node's `cluster-lock doctor --json`.
///
/// # Errors
/// It is not that.
pub(crate) fn read(json: &str) -> Result<Node, String> {
    #[derive(Deserialize)]
    struct Report {
        this: Node,
    }
    serde_json::from_str::<Report>(json).map(|report| report.this).map_err(|error| error.to_string())
}

fn finding(id: &'static str, severity: Severity, subject: &str, says: impl Into<String>) -> Finding {
    Finding::new(Area::Nodes, id, severity, subject, says)
}

/// What is found.
pub(crate) fn compare(here: &Node, there: &Node) -> Vec<Finding> {
    let other = text::said(&there.name);
    let mut found = Vec::new();
    if !here.loaded || !there.loaded {
        let who = if here.loaded { &other } else { "this node" };
        let says = format!("PHP on {who} has no extension, so there is nothing to compare");
        found.push(finding("nodes.loaded", Severity::Warning, &other, says));
        return found;
    }
    for (name, ours, theirs) in [
        ("cluster_lock.dsn", &here.dsn, &there.dsn),
        ("cluster_lock.prefix", &here.prefix, &there.prefix),
        ("cluster_lock.flock_mode", &here.flock_mode, &there.flock_mode),
    ] {
        if ours != theirs {
            let severity = if name.ends_with("mode") { Severity::Warning } else { Severity::Problem };
            let means = match severity {
                Severity::Problem => {
                    "the nodes do not exclude each other, unless both lead to the same server"
                }
                _ => {
                    "with replace, a node takes no kernel lock, by which the other would be kept out if Redis fails"
                }
            };
            let says = format!("{} here, {} on {other}: {means}", text::said(ours), text::said(theirs));
            found.push(finding("nodes.setting", severity, name, says).advise("give all nodes the same"));
        }
    }
    if here.grace != there.grace {
        let told = |grace: Option<u64>| grace.map_or("none".into(), |grace| format!("{grace} s"));
        let says = format!(
            "{} here, {} on {other}: after a loss of its data a server lets somebody in when the shorter one is over, and at \
             once for who has none, while a holder with a longer lease may be at work",
            told(here.grace),
            told(there.grace)
        );
        let subject = "?grace= in cluster_lock.dsn";
        found
            .push(finding("nodes.grace", Severity::Problem, subject, says).advise("give all nodes the same"));
    }
    for mount in &here.mounts {
        let subject = text::path(&mount.path);
        let Some((theirs, rest)) =
            there.mounts.iter().find_map(|theirs| Some((theirs, same(mount, theirs)?)))
        else {
            let says = format!("nothing on {other} is known to be the same directory");
            found.push(finding("nodes.mount", Severity::Note, &subject, says));
            continue;
        };
        // One may have mounted a directory of what the other has.
        let (ours, its) = match rest {
            Rest::Same => (mount.named.clone(), theirs.named.clone()),
            Rest::Ours(rest) => (mount.named.clone(), theirs.named.join(rest)),
            Rest::Theirs(rest) => (mount.named.join(rest), theirs.named.clone()),
        };
        found.push(if ours == its {
            let says = format!("{} on {other} has the same name in locks: {}", text::path(&theirs.point), text::path(&ours));
            finding("nodes.name", Severity::Ok, &subject, says)
        } else {
            let says = format!(
                "the same files are called {} here and {} on {other}: locks on them do not exclude each other",
                text::path(&ours),
                text::path(&its)
            );
            finding("nodes.name", Severity::Problem, &subject, says)
                .advise("write the same behind = in cluster_lock.path_map of both")
        });
    }
    found
}

/// How two mounts of the same files lie to each other.
enum Rest {
    Same,
    /// Ours is this directory of theirs.
    Ours(PathBuf),
    Theirs(PathBuf),
}

fn same(ours: &Mounted, theirs: &Mounted) -> Option<Rest> {
    let (here, there) = (ours.shared.as_ref()?, theirs.shared.as_ref()?);
    let beneath = |here: &Path, there: &Path| {
        if here == there {
            Some(Rest::Same)
        } else if let Ok(rest) = here.strip_prefix(there) {
            Some(Rest::Ours(rest.to_owned()))
        } else {
            there.strip_prefix(here).ok().map(|rest| Rest::Theirs(rest.to_owned()))
        }
    };
    beneath(here, there).or_else(|| {
        // The server by another name: /nfs/NAME/directory.
        let directory = |name: &Path| name.components().skip(3).collect::<PathBuf>();
        let one_server = ours.fsid.is_some() && ours.fsid == theirs.fsid && ours.fstype == theirs.fstype;
        (one_server && directory(here) == directory(there)).then_some(Rest::Same)
    })
}

/// The server's number for the file system of an NFS mount: the same for all its clients.
pub(crate) fn fsid(mount: &Mount, volumes: &str) -> Option<String> {
    // NV SERVER PORT DEV FSID FSC
    volumes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(3);
        let (device, fsid) = (fields.next()?, fields.next()?);
        (device == mount.device).then(|| fsid.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::super::mountinfo::Mounts;
    use super::*;

    fn mounted(point: &str, shared: &str, named: &str) -> Mounted {
        Mounted {
            path: point.into(),
            point: point.into(),
            fstype: "nfs4".into(),
            source: "nas:/export".into(),
            root: "/".into(),
            described: String::new(),
            fsid: None,
            shared: Some(shared.into()),
            named: named.into(),
        }
    }

    fn node(mount: Mounted) -> Node {
        Node {
            name: "b".into(),
            loaded: true,
            dsn: "redis://h:6379".into(),
            grace: Some(30),
            prefix: "p:".into(),
            flock_mode: "gate".into(),
            mounts: vec![mount],
        }
    }

    fn found(here: Mounted, there: Mounted) -> (&'static str, Severity) {
        let found = compare(&node(here), &node(there));
        assert_eq!(found.len(), 1, "{found:?}");
        (found[0].id, found[0].severity)
    }

    #[test]
    fn the_same_files_must_have_the_same_name() {
        let good = ("nodes.name", Severity::Ok);
        let bad = ("nodes.name", Severity::Problem);
        for (here, there, expected) in [
            (mounted("/a", "/nfs/h/e", "/site"), mounted("/b", "/nfs/h/e", "/site"), good),
            (mounted("/a", "/nfs/h/e", "/a"), mounted("/b", "/nfs/h/e", "/b"), bad),
            (
                mounted("/a", "/nfs/h/e", "/a"),
                mounted("/b", "/nfs/i/e", "/b"),
                ("nodes.mount", Severity::Note),
            ),
            (mounted("/a", "/nfs/h/e/x", "/site/x"), mounted("/b", "/nfs/h/e", "/site"), good),
            (mounted("/a", "/nfs/h/e", "/site"), mounted("/b", "/nfs/h/e/x", "/site/x"), good),
            (mounted("/a", "/nfs/h/e", "/site"), mounted("/b", "/nfs/h/e/x", "/site"), bad),
        ] {
            assert_eq!(found(here.clone(), there.clone()), expected, "{here:?} {there:?}");
        }
    }

    #[test]
    fn a_server_may_have_two_names() {
        let with = |mount: Mounted, fsid: &str| Mounted { fsid: Some(fsid.into()), ..mount };
        let (a, b) = (mounted("/a", "/nfs/nas/e", "/a"), mounted("/b", "/nfs/10.0.0.9/e", "/b"));
        assert_eq!(found(with(a.clone(), "1:0"), with(b.clone(), "1:0")), ("nodes.name", Severity::Problem));
        assert_eq!(found(with(a, "1:0"), with(b, "2:0")), ("nodes.mount", Severity::Note));
    }

    #[test]
    fn settings_must_be_the_same() {
        let mount = mounted("/a", "/nfs/h/e", "/site");
        let (here, mut there) = (node(mount.clone()), node(mount.clone()));
        there.dsn = "redis://i:6379".into();
        there.flock_mode = "replace".into();
        let severities: Vec<_> = compare(&here, &there).iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, [Severity::Problem, Severity::Warning, Severity::Ok]);
        for grace in [None, Some(20)] {
            let there = Node { grace, ..node(mount.clone()) };
            let found: Vec<_> = compare(&here, &there).iter().map(|one| (one.id, one.severity)).collect();
            assert_eq!(found, [("nodes.grace", Severity::Problem), ("nodes.name", Severity::Ok)]);
        }
        let bare = Node { loaded: false, ..node(mount) };
        assert_eq!(compare(&here, &bare)[0].severity, Severity::Warning);
    }

    #[test]
    fn a_report_is_read_back() {
        let here = node(mounted("/a", "/nfs/h/e", "/site"));
        let json = serde_json::json!({"green": true, "this": here, "findings": []}).to_string();
        assert_eq!(read(&json).unwrap(), here);
        assert!(read("{}").is_err());
    }

    #[test]
    fn the_server_has_a_number_for_its_file_system() {
        let volumes = "NV SERVER   PORT DEV          FSID                              FSC\n\
                       v4 0a090001  801 0:45         f3a2:0                            no \n";
        let mounts = Mounts::parse(b"1 0 0:45 / /m rw - nfs4 h:/ rw\n2 0 0:46 / /n rw - nfs4 h:/ rw");
        let fsids: Vec<_> = mounts.visible().map(|mount| fsid(mount, volumes)).collect();
        assert_eq!(fsids, [Some("f3a2:0".to_owned()), None]);
    }
}
