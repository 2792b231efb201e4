//! What the DSN alone tells, and the password file that it names, before any server is asked.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cluster_lock_core::dsn::{Address, Password};
use cluster_lock_core::{Config, Dsn, text};

use super::network::is_loopback;
use crate::direct;
use crate::finding::{Area, Finding, Severity};

fn finding(id: &'static str, severity: Severity, subject: &str, says: impl Into<String>) -> Finding {
    Finding::new(Area::Server, id, severity, subject, says)
}

/// What the DSN alone tells. `network`: whether files are shared with other nodes.
pub(crate) fn look(config: &Config, network: bool) -> Vec<Finding> {
    let dsn = config.dsn.redacted();
    let mut found = Vec::new();
    let Some(server) = direct::model(&config.dsn) else {
        let says = "locks are this machine's kernel's";
        found.push(if network {
            finding("server.local", Severity::Problem, &dsn, format!("{says}: other nodes are not kept out"))
                .advise("name a server that all nodes reach: cluster_lock.dsn")
        } else {
            finding("server.local", Severity::Note, &dsn, format!("{says}: enough for one machine"))
        });
        return found;
    };
    let alone = matches!(config.dsn, Dsn::Redis(_));
    let here = match &server.address {
        Address::Tcp(host, _) => is_loopback(host),
        Address::Unix(_) => true,
    };
    if here && alone && network {
        let says = "the server is on this machine: right only if all other nodes name this machine, and none a server \
                    of its own";
        found.push(finding("server.loopback", Severity::Note, &dsn, says));
    }
    if !here && server.tls.is_none() {
        let secret = if server.password.is_some() { "the password and " } else { "" };
        let says = format!("no TLS: {secret}the names of locks and of those who hold them travel in clear");
        found.push(finding("server.tls", Severity::Note, &dsn, says));
    }
    found.extend(password_files(&config.dsn).iter().filter_map(|path| password_file(path)));
    if direct::replicas_waited_for(&config.dsn) == Some(0) {
        let says = "replicas are not waited for: in a fail-over the new primary may not know of the last locks, and \
                    two may hold one at once (the later has the greater fencing token)";
        found.push(
            finding("server.wait", Severity::Note, &dsn, says)
                .advise("?wait=N, with N the replicas that may take over"),
        );
    }
    found
}

fn password_files(dsn: &Dsn) -> Vec<PathBuf> {
    let sentinel = match dsn {
        Dsn::Sentinel(sentinel) => sentinel.sentinels.first(),
        _ => None,
    };
    let servers = direct::model(dsn).into_iter().chain(sentinel);
    let mut files: Vec<_> = servers
        .filter_map(|server| match &server.password {
            Some(Password::File(path)) => Some(path.clone()),
            _ => None,
        })
        .collect();
    files.dedup();
    files
}

/// What is wrong with it.
fn password_file(path: &Path) -> Option<Finding> {
    if let Err(why) = Password::File(path.to_owned()).now() {
        return Some(
            finding("server.password_file", Severity::Problem, &text::path(path), why)
                .advise("a file that PHP's user can read, with the password and nothing else in it"),
        );
    }
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o004 != 0).then(|| {
        let says = format!("everybody on this machine can read it (mode {:04o})", mode & 0o7777);
        finding("server.password_file", Severity::Warning, &text::path(path), says)
            .advise("mode 0640, and PHP's group")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_file_is_looked_at() {
        use Severity::{Problem, Warning};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let found = |dsn: &str| {
            let dsn = dsn.replace("FILE", path.to_str().unwrap());
            let found = look(&Config::new(Dsn::parse(&dsn).unwrap()), false);
            let about = found.into_iter().filter(|f| f.id == "server.password_file");
            about
                .map(|f| {
                    assert!(!f.says.contains("hunter2") && f.advice.is_some(), "{}", f.says);
                    f.severity
                })
                .collect::<Vec<_>>()
        };
        let dsn = "rediss://u@h?password_file=FILE";
        assert_eq!(found(dsn), [Problem]);
        std::fs::write(&path, "hunter2").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(found(dsn), [Warning]);
        assert_eq!(found("rediss+sentinel://a,b/m?sentinel_password_file=FILE"), [Warning]);
        assert_eq!(
            found("rediss+sentinel://a,b/m?password_file=FILE&sentinel_password_file=FILE"),
            [Warning]
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(found(dsn), []);
    }

    #[test]
    fn each_topology_in_its_turn() {
        use Severity::{Note, Problem};
        for (dsn, network, expected) in [
            ("redis://10.0.0.5", true, vec![("server.tls", Note)]),
            ("redis://127.0.0.1", true, vec![("server.loopback", Note)]),
            ("redis://127.0.0.1", false, vec![]),
            ("redis+unix:///run/r.sock", true, vec![("server.loopback", Note)]),
            ("rediss+sentinel://a,b/m", true, vec![("server.wait", Note)]),
            ("rediss+sentinel://a,b/m?wait=1", true, vec![]),
            ("rediss+cluster://a,b?wait=1", true, vec![]),
            ("rediss+quorum://a,b,c", true, vec![]),
            ("local:", true, vec![("server.local", Problem)]),
            ("local:", false, vec![("server.local", Note)]),
        ] {
            let found = look(&Config::new(Dsn::parse(dsn).unwrap()), network);
            assert!(found.iter().all(|f| f.severity != Problem || f.advice.is_some()));
            let found: Vec<_> = found.iter().map(|f| (f.id, f.severity)).collect();
            assert_eq!(found, expected, "{dsn}");
        }
    }
}
