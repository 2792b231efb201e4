//! The lines for php.ini: what differs from what is set, ready to be pasted.

use std::fmt::Write;

use cluster_lock_core::dsn::Password;
use cluster_lock_core::{Config, Dsn, text};

use super::network::is_sayable;
use super::places::{Place, View};
use crate::direct;
use crate::finding::{Finding, Severity};

/// A setting, and what it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    name: String,
    value: String,
    /// Why, or what to do about it.
    comment: Option<String>,
}

/// What is to be set so that nothing of it is found again.
pub(crate) fn propose(
    places: &[Place],
    views: &[View],
    config: Option<&Config>,
    findings: &[Finding],
) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let wanted = || findings.iter().filter(|f| f.severity >= Severity::Warning).flat_map(|f| &f.ini);
    if wanted().any(|(name, _)| *name == "extension") {
        lines.push(Line { name: "extension".into(), value: "cluster_lock".into(), comment: None });
    }
    lines.extend(dsn(views, config));
    lines.extend(intercept(places, views));
    lines.extend(path_map(places, views));
    for (name, value) in wanted().filter(|(name, _)| *name != "extension") {
        // Of two wishes for one limit the smaller keeps both.
        let smaller = |line: &Line| line.value.parse::<f64>().ok() <= value.parse::<f64>().ok();
        if let Some(known) = lines.iter().position(|line| line.name == *name) {
            if lines.get(known).is_some_and(smaller) {
                continue;
            }
            lines.remove(known);
        }
        lines.push(Line { name: (*name).to_owned(), value: value.clone(), comment: None });
    }
    lines
}

/// Those lines as text; empty when there are none.
pub(crate) fn text(lines: &[Line]) -> String {
    let mut ini = String::new();
    for Line { name, value, comment } in lines {
        for line in comment.iter().flat_map(|comment| comment.lines()) {
            let _ = writeln!(ini, "; {line}");
        }
        let bare = value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        let _ = if bare { writeln!(ini, "{name} = {value}") } else { writeln!(ini, "{name} = \"{value}\"") };
    }
    ini
}

/// The server, where it is not PHP's already. A password is never printed.
fn dsn(views: &[View], config: Option<&Config>) -> Option<Line> {
    let config = config?;
    let ours = config.dsn.redacted();
    if !views.is_empty() && views.iter().all(|view| view.loaded && shown_dsn(view) == ours) {
        return None;
    }
    let name = "cluster_lock.dsn".to_owned();
    if let Some(value) = whole(&config.dsn) {
        return Some(Line { name, value, comment: None });
    }
    let comment = format!(
        "{ours}, with its password, in CLUSTER_LOCK_DSN in the environment of PHP's service;\n\
         or write it here instead"
    );
    Some(Line { name, value: "${CLUSTER_LOCK_DSN}".into(), comment: Some(comment) })
}

/// The server that PHP uses. With a password in it PHP is shown a form without, perhaps with a number behind it.
pub(crate) fn shown_dsn(view: &View) -> String {
    let shown = view.setting("dsn");
    let known = Dsn::parse(shown).map(|dsn| dsn.redacted());
    known.unwrap_or_else(|_| text::said(shown.split('#').next().unwrap_or_default()))
}

/// A DSN as it is written, if there is no secret in it: its redacted form says nothing of what stands behind `?`.
fn whole(dsn: &Dsn) -> Option<String> {
    if dsn.is_secret() {
        return None;
    }
    let wait = direct::replicas_waited_for(dsn).unwrap_or_default();
    let mut told = dsn.redacted();
    let mut add = |name: &str, value: &str| {
        told.push(if told.contains('?') { '&' } else { '?' });
        told.push_str(name);
        told.push('=');
        told.push_str(value);
    };
    let server = direct::model(dsn);
    if let Some(Password::File(path)) = server.and_then(|server| server.password.as_ref()) {
        add("password_file", path.to_str()?);
    }
    let tls = server.and_then(|server| server.tls.as_ref());
    let files = tls.map(|tls| [&tls.ca, &tls.cert, &tls.key]);
    for (name, file) in ["ca", "cert", "key"].into_iter().zip(files.into_iter().flatten()) {
        if let Some(file) = file {
            add(name, file.to_str()?);
        }
    }
    if let Some(name) = tls.and_then(|tls| tls.name.as_deref()) {
        add("tls_name", name);
    }
    if wait > 0 {
        add("wait", &wait.to_string());
    }
    if let Some(grace) = dsn.grace() {
        add("grace", &grace.as_secs().to_string());
    }
    // What had to be encoded when it was written is left to whoever has written it.
    let sayable = !told.contains(['"', '$', '\\']);
    (sayable && Dsn::parse(&told).ok().as_ref() == Some(dsn)).then_some(told)
}

/// The first value that any of PHP's programs has.
fn present<'a>(views: &'a [View], name: &str) -> &'a str {
    views.iter().map(|view| view.setting(name)).find(|value| !value.is_empty()).unwrap_or_default()
}

/// What is set, and more behind it.
fn extended(present: &str, more: Vec<String>) -> String {
    let known: Vec<&str> = present.split(':').map(str::trim).filter(|entry| !entry.is_empty()).collect();
    let mut entries: Vec<String> = known.iter().map(|entry| (*entry).to_owned()).collect();
    for entry in more {
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    entries.join(":")
}

fn intercept(places: &[Place], views: &[View]) -> Option<Line> {
    let open: Vec<&Place> = places
        .iter()
        .filter(|place| views.is_empty() || !views.iter().all(|view| view.intercepts(place)))
        // Whoever has named directories in it has made a choice.
        .filter(|place| views.iter().all(|view| view.intercepts_below(place).is_empty()))
        .collect();
    if open.is_empty() {
        return None;
    }
    let entry = |place: &&Place| {
        if place.is_mount_point() && place.kind.is_at_network() {
            Some("@network".to_owned())
        } else {
            place.path.to_str().filter(|_| is_sayable(&place.path)).map(str::to_owned)
        }
    };
    let value = extended(present(views, "intercept"), open.iter().filter_map(entry).collect());
    (!value.is_empty()).then(|| Line { name: "cluster_lock.intercept".into(), value, comment: None })
}

fn path_map(places: &[Place], views: &[View]) -> Option<Line> {
    let open = places.iter().filter(|place| views.is_empty() || !views.iter().all(|view| view.maps(place)));
    let entry = |place: &Place| {
        let shared = place.shared.as_ref()?;
        Some(format!("{}={}", place.mount.point.to_str()?, shared.to_str()?))
    };
    let entries: Vec<String> = open.filter_map(entry).collect();
    if entries.is_empty() {
        return None;
    }
    let value = extended(present(views, "path_map"), entries);
    let comment = "right of each =: the same on all nodes; left: where this node mounts it";
    Some(Line { name: "cluster_lock.path_map".into(), value, comment: Some(comment.into()) })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::mountinfo::Mounts;
    use super::super::mountinfo::tests::SAMPLE;
    use super::super::places::{self, tests::view};
    use super::*;
    use crate::finding::Area;

    fn places(points: &[&str]) -> Vec<Place> {
        let points: Vec<PathBuf> = points.iter().map(PathBuf::from).collect();
        places::find(&Mounts::parse(SAMPLE.as_bytes()), &points)
    }

    fn proposed(points: &[&str], views: &[View]) -> String {
        text(&propose(&places(points), views, None, &[]))
    }

    const COMMENT: &str = "; right of each =: the same on all nodes; left: where this node mounts it\n";

    #[test]
    fn what_is_set_is_not_proposed() {
        let set = view(&[("intercept", "@network"), ("path_map", "/srv/v40=/site")]);
        assert_eq!(proposed(&["/srv/v40"], &[set]), "");
        assert_eq!(proposed(&[], &[]).lines().count(), 3);
    }

    #[test]
    fn a_mount_that_is_not_covered_is() {
        let expected = format!(
            "cluster_lock.intercept = \"@network\"\n{COMMENT}cluster_lock.path_map = \"/srv/v40=/nfs/10.9.0.1\"\n"
        );
        assert_eq!(proposed(&["/srv/v40"], &[view(&[])]), expected);
        // Also when one of several programs covers it.
        let set = view(&[("intercept", "@network"), ("path_map", "/srv/v40=/nfs/10.9.0.1")]);
        assert_eq!(proposed(&["/srv/v40"], &[set, view(&[])]), expected);
    }

    #[test]
    fn what_is_there_is_kept() {
        let set = view(&[("intercept", "/data"), ("path_map", "/data=/d")]);
        let ini = proposed(&["/srv/v40/wp-content", "/mnt/gluster"], &[set]);
        assert!(ini.contains("intercept = \"/data:/srv/v40/wp-content:/mnt/gluster\""), "{ini}");
        assert!(
            ini.contains("path_map = \"/data=/d:/srv/v40=/nfs/10.9.0.1:/mnt/gluster=/glusterfs/web\""),
            "{ini}"
        );
        // Who has named a part of a mount has made a choice.
        let part = view(&[("intercept", "/srv/v40/wp-content"), ("path_map", "/srv=/s")]);
        assert_eq!(proposed(&["/srv/v40"], &[part]), "");
    }

    #[test]
    fn what_is_proposed_covers() {
        let all = places(&[]);
        let lines = propose(&all, &[view(&[])], None, &[]);
        let value = |name: &str| lines.iter().find(|line| line.name == name).unwrap().value.clone();
        let cured = view(&[
            ("intercept", &value("cluster_lock.intercept")),
            ("path_map", &value("cluster_lock.path_map")),
        ]);
        for place in &all {
            assert!(cured.intercepts(place), "{:?}", place.path);
            assert!(cured.maps(place), "{:?}", place.path);
        }
        assert!(text(&propose(&all, &[cured], None, &[])).is_empty());
    }

    #[test]
    fn a_password_is_never_printed() {
        for (dsn, expected) in [
            ("redis://10.9.0.1", "cluster_lock.dsn = \"redis://10.9.0.1:6379\"\n"),
            (
                "rediss+sentinel://a,b/m/1?ca=/etc/ca.pem&wait=1",
                "cluster_lock.dsn = \"rediss+sentinel://a:26379,b:26379/m/1?ca=/etc/ca.pem&wait=1\"\n",
            ),
            ("redis+unix:///run/r.sock?db=2", "cluster_lock.dsn = \"redis+unix:///run/r.sock?db=2\"\n"),
            ("redis://h?grace=30", "cluster_lock.dsn = \"redis://h:6379?grace=30\"\n"),
            (
                "rediss://u@h?password_file=/run/secrets/redis&tls_name=redis.example",
                "cluster_lock.dsn = \"rediss://u@h:6379?password_file=/run/secrets/redis&tls_name=redis.example\"\n",
            ),
            ("rediss://h?ca=/a%26b.pem", "= \"${CLUSTER_LOCK_DSN}\"\n"),
            ("redis://u:hunter2@h", "= \"${CLUSTER_LOCK_DSN}\"\n"),
        ] {
            let config = Config::new(Dsn::parse(dsn).unwrap());
            let ini = text(&propose(&[], &[view(&[])], Some(&config), &[]));
            assert!(ini.ends_with(expected), "{ini}");
            assert!(!ini.contains("hunter2"), "{ini}");
            let set = view(&[("dsn", &config.dsn.redacted())]);
            assert_eq!(text(&propose(&[], &[set], Some(&config), &[])), "", "{dsn}");
        }
    }

    #[test]
    fn wishes_of_findings_are_lines_once() {
        let wish =
            |severity, name, value: &str| Finding::new(Area::Php, "x", severity, "", "").set(name, value);
        let findings = [
            wish(Severity::Warning, "cluster_lock.timeout", "10"),
            wish(Severity::Warning, "extension", "cluster_lock"),
            wish(Severity::Warning, "cluster_lock.timeout", "5"),
            wish(Severity::Warning, "cluster_lock.timeout", "7"),
            wish(Severity::Note, "cluster_lock.ttl", "10"),
        ];
        let ini = text(&propose(&[], &[], None, &findings));
        assert_eq!(ini, "extension = cluster_lock\ncluster_lock.timeout = 5\n");
    }
}
