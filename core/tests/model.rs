//! The Lua scripts against the state machine: random steps, the same answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cluster_lock_core::clock::Instant;
use cluster_lock_core::store::machine::{Machine, Now};
use cluster_lock_core::store::{Attempt, Claim, IfBusy, RedisStore, Store, Token, Wake};
use cluster_lock_core::{Dsn, Identity, LockName, Mode, Standing};
use proptest::prelude::*;
use support::{RedisServer, config, until};

const CLIENTS: usize = 5;
const LEASE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
enum Step {
    Attempt { client: usize, shared: bool, give_up: bool },
    Release { client: usize },
    Renew { client: usize },
    Break,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        6 => (client.clone(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(client, shared, give_up)| Step::Attempt { client, shared, give_up }),
        4 => client.clone().prop_map(|client| Step::Release { client }),
        1 => client.prop_map(|client| Step::Renew { client }),
        1 => Just(Step::Break),
    ]
}

fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Now { lease_ms: Instant::now().as_nanos() / 1_000_000, unix_us: unix.as_micros().try_into().unwrap() }
}

/// What two answers have in common when only clocks differ.
fn outcome(attempt: &Attempt) -> &'static str {
    match attempt {
        Attempt::Held(_) => "held",
        Attempt::Busy { .. } => "busy",
    }
}

fn place(attempt: &Attempt, give_up: bool) -> u64 {
    match attempt {
        Attempt::Busy { place, .. } if !give_up => *place,
        _ => 0,
    }
}

fn summary(report: Option<cluster_lock_core::LockReport>) -> String {
    report.map_or("free".into(), |r| {
        format!(
            "{:?} held by {:?}, awaited by {:?}",
            r.mode,
            r.holders.iter().map(|h| &h.identity.node).collect::<Vec<_>>(),
            r.waiters.iter().map(|w| (&w.identity.node, w.mode)).collect::<Vec<_>>(),
        )
    })
}

fn run(store: &RedisStore, steps: &[Step]) {
    let lock = LockName::new(Token::random().as_bytes()).unwrap();
    let tokens: Vec<Token> = (0..CLIENTS).map(|_| Token::random()).collect();
    let identities: Vec<Box<[u8]>> =
        (0..CLIENTS).map(|i| Identity { node: i.to_string(), ..Identity::default() }.encode()).collect();
    let mut model = Machine::default();
    let mut model_places = [0; CLIENTS];
    let mut store_places = [0; CLIENTS];
    let mut known = false;
    let mut last_fence = 0;
    for (i, step) in steps.iter().enumerate() {
        let context = format!("step {i} of {steps:?}");
        let effects = match *step {
            Step::Attempt { client, shared, give_up } => {
                let mut claim = Claim {
                    name: &lock,
                    token: &tokens[client],
                    mode: if shared { Mode::Shared } else { Mode::Exclusive },
                    ttl: LEASE,
                    identity: &identities[client],
                    place: model_places[client],
                };
                let if_busy = if give_up { IfBusy::GiveUp } else { IfBusy::Queue };
                let (expected, effects) = model.attempt(now(), &claim, if_busy);
                claim.place = store_places[client];
                let before = store.info(&lock).unwrap();
                let actual = store.attempt(&claim, if_busy).unwrap();
                assert_eq!(outcome(&actual), outcome(&expected), "{context}");
                model_places[client] = place(&expected, give_up);
                store_places[client] = place(&actual, give_up);
                if let Attempt::Held(grant) = actual {
                    let again = before.is_some_and(|r| r.holders.iter().any(|h| h.fence == grant.fence));
                    assert!(again || grant.fence > last_fence, "{context}: fence {}", grant.fence);
                    last_fence = last_fence.max(grant.fence);
                }
                known = true;
                effects
            }
            Step::Release { client } => {
                let token = &tokens[client];
                let (expected, effects) = model.release(now(), token.as_bytes(), known);
                assert_eq!(store.release(&lock, token).unwrap(), expected, "{context}");
                known |= expected == Standing::Ours;
                effects
            }
            Step::Renew { client } => {
                let token = &tokens[client];
                let expected = model.renew(now(), token.as_bytes(), LEASE, known);
                assert_eq!(store.renew(&lock, token, LEASE).unwrap(), expected, "{context}");
                continue;
            }
            Step::Break => {
                let (expected, effects) = model.break_lock(now());
                assert_eq!(store.break_lock(&lock).unwrap(), expected, "{context}");
                effects
            }
        };
        for (mailed, _) in effects.mail {
            let client = tokens.iter().position(|t| t.as_bytes() == mailed.as_bytes()).unwrap();
            let claim = Claim {
                name: &lock,
                token: &tokens[client],
                mode: Mode::Exclusive,
                ttl: LEASE,
                identity: &[],
                place: 0,
            };
            match store.await_grant(&claim, Duration::from_millis(5), &|| false).unwrap() {
                Wake::Granted(grant) => {
                    assert!(grant.fence > last_fence, "{context}");
                    last_fence = grant.fence;
                }
                other => panic!("{context}: no mail for {client}, but {other:?}"),
            }
            (model_places[client], store_places[client]) = (0, 0);
        }
        assert_eq!(summary(store.info(&lock).unwrap()), summary(model.report(now(), &lock)), "{context}");
    }
    // Everybody leaves: nothing but the fencing record remains.
    for token in &tokens {
        let _ = store.release(&lock, token).unwrap();
        let _ = model.release(now(), token.as_bytes(), known);
    }
    assert!(model.is_idle());
    assert_eq!(store.info(&lock).unwrap(), None);
}

#[test]
fn scripts_do_what_the_model_does() {
    let server = RedisServer::start(&[]);
    let config = config(&server.unix_dsn());
    let Dsn::Redis(address) = config.dsn.clone() else { panic!("not redis") };
    let store = RedisStore::new(address, &config);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&prop::collection::vec(step(), 1..40), |steps| {
            run(&store, &steps);
            Ok(())
        })
        .unwrap();
    // Mail that nobody read expires with the lease that it announced.
    until("only fencing records remain", || server.keys().iter().all(|key| key.ends_with('}')));
}
