//! The locks that are measured with.

use std::time::Duration;

use cluster_lock_core::{Acquire, Acquired, Config, Engine, Error, Identity, Lease, LockName, Mode};

use crate::outcome::Result;

/// Nobody else's lock.
pub(super) fn named(what: &str) -> Result<LockName> {
    Ok(LockName::new(format!("cluster-lock bench {what} {}", std::process::id()).as_bytes())?)
}

pub(super) fn identity(config: &Config) -> Box<[u8]> {
    let (node, pid) = (config.node.clone(), std::process::id());
    Identity { node, pid, sapi: "cluster-lock bench".into(), ..Identity::default() }.encode()
}

/// Takes the lock, with patience.
pub(super) fn acquire(
    engine: &Engine,
    name: &LockName,
    identity: &[u8],
) -> std::result::Result<Lease, Error> {
    let how = Acquire {
        mode: Mode::Exclusive,
        run: false,
        timeout: Some(Duration::from_secs(30)),
        ttl: Duration::from_secs(10),
        auto_renew: true,
        max_hold: None,
        identity,
        interrupted: &|| false,
    };
    match engine.acquire(name, &how)? {
        Acquired::Held { lease, .. } => Ok(lease),
        _ => Err(Error::Invalid("it was not free within 30 s: who holds it (cluster-lock info)?".into())),
    }
}
