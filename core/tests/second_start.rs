//! A process in which PHP starts a second time. A test binary of its own: shutting down concerns the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster_lock_core::{Acquire, Acquired, Config, Dsn, LockName, Mode, registry};

#[test]
fn leases_are_renewed_after_every_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::new(Dsn::parse(&format!("local://{}", dir.path().display())).unwrap());
    let name = LockName::new(b"a").unwrap();
    for round in 1..=3 {
        let engine = registry::engine(&config).unwrap();
        let acquired = engine
            .acquire(
                &name,
                &Acquire {
                    mode: Mode::Exclusive,
                    run: false,
                    timeout: Some(Duration::ZERO),
                    ttl: Duration::from_millis(600),
                    auto_renew: true,
                    max_hold: None,
                    identity: b"",
                    interrupted: &|| false,
                },
            )
            .unwrap();
        let Acquired::Held { lease, .. } = acquired else { panic!("round {round}: not held") };
        let renewals = || engine.counters().renewals.load(Ordering::Relaxed);
        let before = renewals();
        // Longer than one lease.
        while renewals() < before + 4 && lease.is_held() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(lease.loss(), None, "round {round}");
        lease.release().unwrap();
        registry::shutdown();
        assert!(registry::existing(&config).is_none(), "round {round}");
    }
}
