//! What a mount and its options mean for locks. `docs/flock.md` says how the polling was measured; what
//! options do is what nfs(5), mount.cifs(8) and mount.lustre(8) say.

use std::fmt::Write;

use cluster_lock_core::text;

use super::mountinfo::Mount;
use super::network::{self, Kind};
use super::places::{Place, View};
use crate::finding::{Area, Finding, Severity};

const POLLED: &str = "after 1, 2, 4 … 30 seconds";

/// What is found at a place, by the settings of all of PHP's programs.
pub(crate) fn look(place: &Place, views: &[View]) -> Vec<Finding> {
    let cover = Cover::of(place, views);
    let mut found = vec![flock(place, &cover)];
    if !place.answers {
        let says = "its server does not answer: whoever touches a file there waits, and whoever holds a lock meanwhile \
                    keeps it";
        found.push(
            finding("mount.silent", Severity::Problem, place, says)
                .advise("is the file server up, and reachable?"),
        );
    }
    found.extend(local_locks(place, &cover));
    found.push(name(place, views));
    found.extend(options(place));
    found
}

fn finding(id: &'static str, severity: Severity, place: &Place, says: impl Into<String>) -> Finding {
    Finding::new(Area::Mount, id, severity, text::path(&place.path), says)
}

/// Which of PHP's programs send locks at a place through the cluster lock.
struct Cover {
    /// All of them, and there is one.
    whole: bool,
    /// Those that do not.
    without: Vec<String>,
    /// Directories in it where locks do.
    below: Vec<String>,
    /// Whole, and without the kernel's lock.
    replaced: bool,
}

impl Cover {
    fn of(place: &Place, views: &[View]) -> Self {
        let without: Vec<String> =
            views.iter().filter(|view| !view.intercepts(place)).map(|view| view.name.clone()).collect();
        let whole = !views.is_empty() && without.is_empty();
        let mut below: Vec<String> = views
            .iter()
            .flat_map(|view| view.intercepts_below(place))
            .map(|path| text::path(&path))
            .collect();
        below.sort();
        below.dedup();
        Self { whole, without, below, replaced: whole && views.iter().all(View::replaces) }
    }
}

/// Options that are told of a mount, in this order.
const TOLD: &str = "ro hard soft softerr nolock noac nocto nobrl localflock noflock proto port local_lock lookupcache \
                    actimeo acregmin acregmax acdirmax addr";

/// `NFS 4.1 from 10.9.0.1:/, hard, proto=tcp, local_lock=none`.
pub(crate) fn describe(mount: &Mount, kind: Kind) -> String {
    let mut told = match (kind, version(mount)) {
        (Kind::Nfs, Some(version)) => format!("NFS {version}"),
        (Kind::Nfs, None) => "NFS".into(),
        (Kind::Smb, Some(version)) => format!("SMB {version}"),
        _ => text::said(&mount.fstype),
    };
    let _ = write!(told, " from {}", text::said(&mount.source));
    if mount.root.as_os_str() != "/" {
        let _ = write!(told, ", of that {}", text::path(&mount.root));
    }
    for option in TOLD.split(' ').filter(|option| mount.has(option)) {
        let _ = match mount.option(option) {
            Some(value) => write!(told, ", {option}={}", text::said(value)),
            None => write!(told, ", {option}"),
        };
    }
    told
}

/// `3`, `4.0`, `4.1` …; older kernels say `vers=4,minorversion=1`.
fn version(mount: &Mount) -> Option<String> {
    let version = text::said(mount.option("vers")?);
    Some(match (version.as_str(), mount.option("minorversion")) {
        ("4", minor) => format!("4.{}", text::said(minor.unwrap_or("0"))),
        _ => version,
    })
}

/// AWS EFS by its name.
fn is_efs(mount: &Mount) -> bool {
    network::server_and_export(&mount.source).is_some_and(|(server, _)| server.contains(".efs."))
}

/// How long a contended `flock()` waits there, and whether that matters.
fn flock(place: &Place, cover: &Cover) -> Finding {
    let mount = &place.mount;
    let what = describe(mount, place.kind);
    if cover.whole {
        let says = format!("{what}: flock() and LOCK_EX go through the cluster lock");
        return finding("mount.flock", Severity::Ok, place, says);
    }
    let version = version(mount);
    let wait = match (place.kind, version.as_deref()) {
        _ if local_option(place).is_some() => "it wakes this node's programs, and no others".into(),
        (Kind::Nfs, Some("4.0")) => {
            format!("a contended flock() is polled, {POLLED}: NFS 4.0 cannot call a waiter back")
        }
        (Kind::Nfs, Some(_)) if is_efs(mount) => {
            format!("a contended flock() is polled, {POLLED}: EFS does not call waiters back")
        }
        (Kind::Nfs, Some("4.1" | "4.2")) => format!(
            "a contended flock() wakes the next within milliseconds if the server calls back (CB_NOTIFY_LOCK). If it \
             does not, it is polled, {POLLED}; if a firewall or tunnel swallows the call, it takes 30 seconds. The \
             options do not tell which"
        ),
        (Kind::Nfs, _) => {
            "locks take the way of NLM (lockd, statd): the server calls a waiter back, and where that \
             does not get through, the client asks again after 30 seconds"
                .into()
        }
        (Kind::Smb, _) => {
            "flock() is a lock of the server's on the file's bytes (Linux 5.5 or newer; before, it was \
             this node's alone), which also keeps out those who read or write without a lock"
                .into()
        }
        _ => "how long a contended flock() waits depends on its server".into(),
    };
    if !cover.below.is_empty() {
        let says = format!(
            "{what}: flock() goes through the cluster lock below {} only; elsewhere {wait}",
            cover.below.join(", ")
        );
        return finding("mount.flock", Severity::Note, place, says);
    }
    let who = match cover.without.as_slice() {
        [] => String::new(),
        names => format!(", in {}", names.join(" and ")),
    };
    finding("mount.flock", Severity::Warning, place, format!("{what}: flock() is the kernel's{who}; {wait}"))
        .advise("let the cluster lock take it over: cluster_lock.intercept")
}

/// What a mount says that makes a lock this node's alone, and what to mount it with instead.
fn local_option(place: &Place) -> Option<(&'static str, &'static str)> {
    let mount = &place.mount;
    match place.kind {
        Kind::Nfs if mount.has("nolock") => Some(("nolock", "lock")),
        Kind::Nfs if matches!(mount.option("local_lock"), Some("all" | "flock")) => {
            Some(("local_lock", "local_lock=none"))
        }
        Kind::Smb if mount.has("nobrl") => Some(("nobrl", "byte range locks (without nobrl)")),
        Kind::Other if mount.has("localflock") => Some(("localflock", "flock")),
        _ => None,
    }
}

/// Whether the kernel's locks are of any use between nodes.
fn local_locks(place: &Place, cover: &Cover) -> Option<Finding> {
    if place.mount.fstype == "lustre" && place.mount.has("noflock") {
        let says =
            "mounted with noflock: flock() fails there, and programs that ignore that write unprotected";
        return Some(
            finding("mount.local_lock", Severity::Problem, place, says).advise("mount it with flock"),
        );
    }
    let (option, cure) = local_option(place)?;
    let found = if cover.replaced {
        let says = format!(
            "mounted with {option}: the kernel's locks are this node's alone, and are not used: \
             cluster_lock.flock_mode is replace"
        );
        finding("mount.local_lock", Severity::Note, place, says)
    } else if cover.whole {
        let says = format!(
            "mounted with {option}: the kernel's lock excludes this node's programs alone, so a node without the \
             extension is not kept out, and when the lock server is down, nobody is"
        );
        finding("mount.local_lock", Severity::Warning, place, says).advise(format!(
            "mount it with {cure}; or, when all nodes have the extension, flock_mode = replace"
        ))
    } else {
        let says = format!(
            "mounted with {option}: flock() excludes this node's programs alone. Two nodes hold the same lock at \
             once, and undo each other's writes"
        );
        finding("mount.local_lock", Severity::Problem, place, says).advise(format!(
            "mount it with {cure}, and let the cluster lock take over: cluster_lock.intercept"
        ))
    };
    Some(found)
}

/// The name that its files' locks have, which must be the same on all nodes.
fn name(place: &Place, views: &[View]) -> Finding {
    let unmapped: Vec<&str> =
        views.iter().filter(|view| !view.maps(place)).map(|view| view.name.as_str()).collect();
    let mapped = views.iter().find(|view| view.maps(place));
    if let (Some(view), []) = (mapped, unmapped.as_slice()) {
        let shared = text::path(&view.path_map().apply(&place.path));
        return finding(
            "mount.name",
            Severity::Ok,
            place,
            format!("all nodes must call it {shared}, as this one does"),
        );
    }
    let here =
        "its files' locks are named after their path on this node: right only if all nodes mount it there";
    let Some(shared) = &place.shared else {
        let says = format!("{here}. A name for all cannot be made from what is mounted");
        return finding("mount.name", Severity::Warning, place, says)
            .advise("give it one on every node: cluster_lock.path_map = \"/mount/point=/name\"");
    };
    let mut says = here.to_owned();
    if network::is_tunnelled(&place.mount) {
        says.push_str(". Its server is behind a tunnel, so the name below says nothing of it");
    }
    finding("mount.name", Severity::Warning, place, says).advise(format!(
        "call it {} on every node: cluster_lock.path_map (change it on all nodes at once where flock_mode is replace)",
        text::path(shared)
    ))
}

/// Other options that change what a lock is worth.
fn options(place: &Place) -> Vec<Finding> {
    let mount = &place.mount;
    let mut found = Vec::new();
    let mut add = |id, severity, says: &str, advice: Option<&str>| {
        let one = finding(id, severity, place, says);
        found.push(match advice {
            Some(advice) => one.advise(advice),
            None => one,
        });
    };
    if mount.is_read_only() {
        add("mount.read_only", Severity::Note, "mounted read-only: nothing can be written there", None);
    }
    if place.kind != Kind::Nfs {
        return found;
    }
    if let Some(soft) = ["soft", "softerr"].into_iter().find(|option| mount.has(option)) {
        let says = format!(
            "mounted with {soft}: when the server is slow, a write fails, perhaps after write() has said that it \
             went well; nfs(5) warns of silent data corruption"
        );
        add("mount.soft", Severity::Warning, &says, Some("mount it with hard, where anything is written"));
    }
    if mount.has("nocto") {
        let old = version(mount).is_some_and(|version| version.starts_with('3') || version.starts_with('2'));
        let says = "mounted with nocto: a file that is opened under a lock may show what it was before another node \
                    wrote it";
        if old {
            add("mount.nocto", Severity::Warning, says, Some("mount it without nocto"));
        } else {
            let says = "mounted with nocto: new and deleted files are noticed late";
            add("mount.nocto", Severity::Note, says, None);
        }
    }
    let seconds = |name| mount.option(name).and_then(|value| value.parse::<u64>().ok());
    let oldest = seconds("actimeo").or(seconds("acregmax"));
    if mount.has("noac") {
        let says = "mounted with noac: other nodes' changes show at once; every look at a file is a round trip, and \
                    every write waits for the server";
        add("mount.noac", Severity::Note, says, None);
    } else if oldest == Some(0) {
        let says = "mounted without attribute cache: other nodes' changes show at once; every look at a file is a \
                    round trip";
        add("mount.noac", Severity::Note, says, None);
    } else if let Some(oldest) = oldest.filter(|oldest| *oldest > 60) {
        let says = format!(
            "mounted so that without a lock other nodes' changes may show after {oldest} s; \
             cluster_clearstatcache() asks the server at once"
        );
        add("mount.attributes", Severity::Note, &says, None);
    }
    if let Some("none" | "pos" | "positive") = mount.option("lookupcache") {
        let says = "lookupcache is restricted: files that another node has just made are found at once, for more \
                    round trips";
        add("mount.lookupcache", Severity::Note, says, None);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::mountinfo::Mounts;
    use super::super::mountinfo::tests::SAMPLE;
    use super::super::places::{self, tests::view};
    use super::*;

    /// What is found at a mount point, with these settings: id and severity, without what is well.
    fn found(point: &str, settings: &[&[(&str, &str)]]) -> Vec<(&'static str, Severity)> {
        let mounts = Mounts::parse(SAMPLE.as_bytes());
        let place = places::find(&mounts, &[PathBuf::from(point)]).remove(0);
        let views: Vec<View> = settings.iter().map(|settings| view(settings)).collect();
        let all = look(&place, &views);
        assert!(all.iter().all(|f| f.severity != Severity::Problem || f.advice.is_some()), "{all:#?}");
        all.iter().filter(|f| f.severity != Severity::Ok).map(|f| (f.id, f.severity)).collect()
    }

    #[test]
    fn each_mount_in_its_turn() {
        use Severity::{Note, Problem, Warning};
        let bare: [&[(&str, &str)]; 1] = [&[]];
        let network: [&[(&str, &str)]; 1] = [&[
            ("intercept", "@network:/mnt/gluster"),
            ("path_map", "/srv=/s:/mnt=/m:/var/www=/w:/shared=/h"),
        ]];
        let replace: [&[(&str, &str)]; 1] =
            [&[("intercept", "@network"), ("path_map", "/srv=/s:/mnt=/m"), ("flock_mode", "replace")]];
        let open = [("mount.flock", Warning), ("mount.name", Warning)];
        for (point, settings, expected) in [
            ("/srv/v3", &bare, open.to_vec()),
            ("/srv/v3", &network, vec![]),
            (
                "/srv/nolock",
                &bare,
                vec![
                    ("mount.flock", Warning),
                    ("mount.local_lock", Problem),
                    ("mount.name", Warning),
                    ("mount.soft", Warning),
                ],
            ),
            ("/srv/nolock", &network, vec![("mount.local_lock", Warning), ("mount.soft", Warning)]),
            ("/srv/nolock", &replace, vec![("mount.local_lock", Note), ("mount.soft", Warning)]),
            ("/srv/v40", &bare, open.to_vec()),
            ("/srv/v40", &network, vec![]),
            ("/srv/v42", &network, vec![("mount.noac", Note), ("mount.lookupcache", Note)]),
            ("/mnt/efs", &bare, open.to_vec()),
            ("/mnt/efs", &network, vec![]),
            ("/mnt/efs-tls", &bare, open.to_vec()),
            (
                "/mnt/smb",
                &bare,
                vec![("mount.flock", Warning), ("mount.local_lock", Problem), ("mount.name", Warning)],
            ),
            ("/mnt/smb", &network, vec![("mount.local_lock", Warning)]),
            ("/mnt/ceph", &network, vec![]),
            ("/mnt/gluster", &network, vec![]),
            ("/mnt/gluster", &replace, vec![("mount.flock", Warning)]),
            ("/var/www/my site/wp-content", &network, vec![]),
            ("/shared/home", &network, vec![]),
        ] {
            assert_eq!(found(point, settings), expected, "{point} with {settings:?}");
        }
    }

    #[test]
    fn every_program_counts() {
        let both = [("intercept", "@network"), ("path_map", "/srv=/s")];
        assert_eq!(found("/srv/v3", &[&both, &both]), []);
        let half = [("mount.flock", Severity::Warning), ("mount.name", Severity::Warning)];
        assert_eq!(found("/srv/v3", &[&both, &[]]), half);
        // Nobody to ask is nobody who intercepts.
        assert_eq!(found("/srv/v3", &[]), half);
    }

    #[test]
    fn a_part_of_a_mount_may_be_meant() {
        let part = [("intercept", "/srv/v3/wp-content"), ("path_map", "/srv=/s")];
        assert_eq!(found("/srv/v3", &[&part]), [("mount.flock", Severity::Note)]);
    }

    #[test]
    fn a_mount_is_described_as_administrators_know_it() {
        let mounts = Mounts::parse(SAMPLE.as_bytes());
        let told = |point: &str| {
            let place = places::find(&mounts, &[PathBuf::from(point)]).remove(0);
            describe(&place.mount, place.kind)
        };
        assert_eq!(
            told("/srv/v40"),
            "NFS 4.0 from 10.9.0.1:/, hard, proto=tcp, local_lock=none, addr=10.9.0.1"
        );
        assert!(told("/srv/nolock").starts_with("NFS 3 from nas1:/vol/nolock, soft, nolock"));
        assert!(told("/mnt/smb").starts_with("SMB 3.1.1 from //NAS1/Web, soft, nobrl"));
        assert!(told("/var/www/my site/wp-content").contains("of that /site 1/wp-content"));
    }

    #[test]
    fn what_polls_says_so() {
        let mounts = Mounts::parse(SAMPLE.as_bytes());
        for (point, words) in [
            ("/srv/v40", "NFS 4.0 cannot call"),
            ("/mnt/efs", "EFS does not call"),
            ("/srv/v42", "CB_NOTIFY_LOCK"),
            ("/srv/v3", "NLM"),
            ("/mnt/smb", "no others"),
        ] {
            let place = places::find(&mounts, &[PathBuf::from(point)]).remove(0);
            let says = &look(&place, &[])[0].says;
            assert!(says.contains(words), "{point}: {says}");
        }
    }

    #[test]
    fn lustre_may_lock_here_or_not_at_all() {
        for (options, expected) in [
            ("rw,flock", &["mount.flock", "mount.name"][..]),
            ("rw,localflock", &["mount.flock", "mount.local_lock", "mount.name"]),
            ("rw,noflock", &["mount.flock", "mount.local_lock", "mount.name"]),
        ] {
            let line = format!("1 0 0:1 / /m rw - lustre 10.0.0.1@tcp:/scratch {options}");
            let place = places::find(&Mounts::parse(line.as_bytes()), &[]).remove(0);
            let ids: Vec<_> = look(&place, &[]).iter().map(|finding| finding.id).collect();
            assert_eq!(ids, expected, "{options}");
        }
    }

    #[test]
    fn older_kernels_tell_the_minor_version_apart() {
        let line = b"1 0 0:1 / /m rw - nfs4 h:/ rw,vers=4,minorversion=1";
        let mount = Mounts::parse(line).visible().next().unwrap().clone();
        assert_eq!(version(&mount).unwrap(), "4.1");
    }
}
