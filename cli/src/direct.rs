//! Speaks to one server directly, beside the engine, as the engine does: with its credentials, TLS and time-outs.

use cluster_lock_core::dsn::{Address, Server};
use cluster_lock_core::wire::{Connection, Dialer, Fault};
use cluster_lock_core::{Config, Dsn};

/// A server that a DSN names. What it says of credentials and TLS holds for all of them; where the locks are, behind
/// sentinels and in a cluster, is the servers' to tell.
pub(crate) fn model(dsn: &Dsn) -> Option<&Server> {
    match dsn {
        Dsn::Redis(server) => Some(server),
        Dsn::Quorum(servers) => servers.first(),
        Dsn::Sentinel(sentinel) => Some(&sentinel.primary),
        Dsn::Cluster(cluster) => cluster.seeds.first(),
        Dsn::Local(_) => None,
    }
}

/// How many replicas a lock waits for, where a server may be replaced by one of them.
pub(crate) fn replicas_waited_for(dsn: &Dsn) -> Option<u32> {
    match dsn {
        Dsn::Sentinel(sentinel) => Some(sentinel.wait),
        Dsn::Cluster(cluster) => Some(cluster.wait),
        Dsn::Redis(_) | Dsn::Quorum(_) | Dsn::Local(_) => None,
    }
}

/// How to speak to the server of a report, which `label` names.
pub(crate) fn server(dsn: &Dsn, label: &str) -> Option<Server> {
    match dsn {
        Dsn::Redis(server) => Some(server.clone()),
        Dsn::Quorum(servers) => servers.iter().find(|server| server.to_string() == label).cloned(),
        Dsn::Sentinel(_) | Dsn::Cluster(_) => {
            // Not as a DSN: where the password was is written that it is hidden.
            let place = label.split_once("://").map_or(label, |(_, rest)| rest);
            let place = place.rsplit_once('@').map_or(place, |(_, rest)| rest);
            let (host, port) = place.split('/').next()?.rsplit_once(':')?;
            let host = host.trim_matches(['[', ']']).to_owned();
            Some(model(dsn)?.at(Address::Tcp(host, port.parse().ok()?)))
        }
        Dsn::Local(_) => None,
    }
}

/// A connection of its own, which the server is told the name of.
///
/// # Errors
/// There is none to be had.
pub(crate) fn open(config: &Config, server: &Server, name: &str) -> Result<Connection, Fault> {
    let (connect, command) = (config.connect_timeout, config.command_timeout);
    Dialer::new(server.clone(), connect, command, name.to_owned()).open().map(|(connection, _)| connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_the_server_to_ask() {
        let dsn = Dsn::parse("redis+cluster://u:hunter2@a,b").unwrap();
        let found = server(&dsn, "redis://u:***@10.0.0.7:7001").unwrap();
        assert_eq!(found.address, Address::Tcp("10.0.0.7".into(), 7001));
        assert_eq!(found.password, model(&dsn).unwrap().password);
        assert_eq!(server(&dsn, "redis://[::1]:7001/2").unwrap().address, Address::Tcp("::1".into(), 7001));
    }
}
