//! What the DSN alone tells, before any server is asked.

use cluster_lock_core::dsn::Address;
use cluster_lock_core::{Config, Dsn};

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

#[cfg(test)]
mod tests {
    use super::*;

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
