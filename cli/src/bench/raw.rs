//! Bare round trips, to compare with.

use std::time::{Duration, Instant};

use cluster_lock_core::connection::{Connection, Fault, tls_config};
use cluster_lock_core::dsn::Server;
use cluster_lock_core::{Config, Dsn, Engine, Error};

use crate::outcome::{Failure, Result};

/// A connection of its own to the server that keeps the locks, or to one of them.
pub(super) struct Raw {
    connection: Connection,
    server: String,
}

impl Raw {
    pub(super) fn connect(config: &Config, engine: &Engine) -> Result<Self> {
        let server = server(config, engine)?;
        let label = server.to_string();
        let failed = |cause: String| Failure::Engine(Error::Connection { server: label.clone(), cause });
        let tls = server.tls.as_ref().map(tls_config).transpose().map_err(failed)?;
        let (connection, _) = Connection::open(
            &server,
            tls.as_ref(),
            config.connect_timeout,
            config.command_timeout,
            "cluster_lock@bench",
        )
        .map_err(|fault| failed(said(fault)))?;
        Ok(Self { connection, server: label })
    }

    /// So many round trips; the first ten do not count.
    pub(super) fn round_trips(&mut self, count: u32) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for i in 0..count + 10 {
            let began = Instant::now();
            // TIME, because who may lock may ask for it; PING is not among the rights that locks need.
            self.connection
                .call(&[b"TIME"])
                .map_err(|fault| Error::Connection { server: self.server.clone(), cause: said(fault) })?;
            if i >= 10 {
                times.push(began.elapsed());
            }
        }
        Ok(times)
    }
}

fn said(fault: Fault) -> String {
    match fault {
        Fault::Broken(cause) => cause,
        Fault::Refused(code, text) => format!("{code} {text}"),
    }
}

/// The server that keeps the locks; behind sentinels and in a cluster that is the servers' to tell.
fn server(config: &Config, engine: &Engine) -> Result<Server> {
    let model = match &config.dsn {
        Dsn::Redis(server) => return Ok(server.clone()),
        Dsn::Quorum(servers) => servers.first(),
        Dsn::Sentinel(sentinel) => Some(&sentinel.primary),
        Dsn::Cluster(cluster) => cluster.seeds.first(),
        Dsn::Local(_) => None,
    };
    let Some(model) = model else {
        return Err(Failure::Usage("local: has no server whose round trips could be compared with".into()));
    };
    let answering = engine.servers().into_iter().find(|report| report.error.is_none());
    match answering.map(|report| Dsn::parse(&report.server)) {
        Some(Ok(Dsn::Redis(found))) => Ok(model.at(found.address)),
        _ => Ok(model.clone()),
    }
}
