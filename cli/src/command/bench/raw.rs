//! Bare round trips, to compare with.

use std::time::{Duration, Instant};

use cluster_lock_core::dsn::Server;
use cluster_lock_core::wire::{Connection, Fault};
use cluster_lock_core::{Config, Engine, Error};

use crate::direct;
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
        match direct::open(config, &server, "cluster_lock@bench") {
            Ok(connection) => Ok(Self { connection, server: label }),
            Err(fault) => Err(Error::Connection { server: label, cause: said(fault) }.into()),
        }
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

/// The server that keeps the locks, or one of them.
fn server(config: &Config, engine: &Engine) -> Result<Server> {
    let dsn = &config.dsn;
    let Some(model) = direct::model(dsn) else {
        return Err(Failure::Usage("local: has no server whose round trips could be compared with".into()));
    };
    let answering = engine.servers().into_iter().find(|report| report.error.is_none());
    let found = answering.and_then(|report| direct::server(dsn, &report.server));
    Ok(found.unwrap_or_else(|| model.clone()))
}
