//! The servers of a quorum, and what a majority of them is.

use std::sync::Arc;
use std::time::Duration;

use super::round::{Kind, Node, Round, ask};
use crate::dsn::{Dsn, Server};
use crate::error::{Error, Result};
use crate::key::LockName;
use crate::report::{LockReport, TOLD};
use crate::settings::Config;
use crate::store::redis::RedisStore;
use crate::store::redis::grace::Grace;
use crate::store::redis::reply;
use crate::store::redis::route::One;
use crate::store::redis::script::{Call, INSPECT, Keys, Script};
use crate::wire::Pool;

pub(super) struct Members {
    pub(super) nodes: Vec<Node>,
    pub(super) prefix: String,
    pub(super) grace: Option<Arc<Grace>>,
    pub(super) label: String,
    /// The longest wait for their answers.
    pub(super) limit: Duration,
}

impl Members {
    pub(super) fn new(servers: &[Server], config: &Config) -> Self {
        Self {
            nodes: servers.iter().map(|server| Node::new(Pool::new(server.clone(), config))).collect(),
            prefix: config.prefix.clone(),
            grace: Grace::of(servers.first().and_then(|server| server.grace), &config.prefix),
            label: Dsn::Quorum(servers.to_vec()).redacted(),
            limit: config.command_timeout,
        }
    }

    pub(super) fn keys(&self, name: &LockName) -> Keys {
        Keys::new(&self.prefix, name, false, self.grace.as_ref())
    }

    pub(super) fn all(&self) -> Vec<&Node> {
        self.nodes.iter().collect()
    }

    /// The locks of one server, as if there were no others.
    pub(super) fn alone(&self, node: &Node) -> RedisStore {
        RedisStore::on(Box::new(One::sharing(&node.pool)), &self.prefix, self.grace.clone())
    }

    pub(super) fn majority(&self) -> usize {
        #[cfg(feature = "sabotage")]
        if crate::store::redis::sabotage::is("majority") {
            return self.nodes.len() / 2;
        }
        self.nodes.len() / 2 + 1
    }

    /// Runs a script everywhere.
    pub(super) fn run(
        &self,
        script: &Script,
        name: &LockName,
        argv: &[&[u8]],
        kind: Kind<'_>,
        enough: impl Fn(&Round) -> bool,
    ) -> Round {
        let keys = self.keys(name);
        ask(&self.all(), &Call::new(script, &keys, argv), kind, self.limit, enough)
    }

    /// So many servers failed that the others are no majority.
    pub(super) fn no_majority(&self, round: &Round) -> Error {
        self.no_majority_with(round, Vec::new())
    }

    /// The same; and why `others`, which answered, count as little.
    pub(super) fn no_majority_with(&self, round: &Round, others: Vec<String>) -> Error {
        let mut causes: Vec<String> = round.errors().map(ToString::to_string).collect();
        let mut failed = causes.len();
        if round.pending() > 0 && round.timed_out {
            failed += round.pending();
            causes.push(format!(
                "{} gave no answer within {:.3} s (cluster_lock.command_timeout)",
                round.pending(),
                self.limit.as_secs_f64()
            ));
        }
        causes.extend(others);
        self.too_few(failed, &causes)
    }

    pub(super) fn too_few(&self, failed: usize, causes: &[String]) -> Error {
        let (all, majority) = (self.nodes.len(), self.majority());
        self.error(format!(
            "{failed} of {all} servers failed, and {majority} are needed: {}",
            causes.join("; ")
        ))
    }

    pub(super) fn error(&self, cause: String) -> Error {
        Error::Connection { server: self.label.clone(), cause }
    }

    /// The reports of all servers that answer, with the servers' numbers; `None` where nobody holds it.
    pub(super) fn reports(&self, name: &LockName) -> Result<Vec<(usize, Option<LockReport>)>> {
        let majority = self.majority();
        let round = self.run(&INSPECT, name, &[TOLD.to_string().as_bytes()], Kind::Step, |round| {
            round.pending() == 0 || round.errors().count() > self.nodes.len() - majority
        });
        if round.values().count() < majority {
            return Err(self.no_majority(&round));
        }
        Ok(round.values().map(|(i, value)| (i, reply::report(name, value).ok().flatten())).collect())
    }
}
