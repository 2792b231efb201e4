//! Time limits that contradict each other.

use std::time::Duration;

use cluster_lock_core::settings::Values;

use super::php::Php;
use super::places::View;
use crate::finding::{Area, Finding, Severity};

/// The limits of one of PHP's programs, in seconds.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Infinite: no limit.
    timeout: f64,
    ttl: f64,
    auto_renew: bool,
    /// 0: no limit.
    max_hold: f64,
    /// 0: off.
    slow_wait: f64,
    /// What one renewal may take.
    renewal: f64,
}

impl Limits {
    fn of(values: &Values) -> Self {
        Self {
            timeout: values.timeout.map_or(f64::INFINITY, seconds),
            ttl: seconds(values.ttl),
            auto_renew: values.auto_renew,
            max_hold: values.max_hold.map_or(0.0, seconds),
            slow_wait: values.slow_wait.map_or(0.0, seconds),
            renewal: seconds(values.connect_timeout) + seconds(values.command_timeout),
        }
    }
}

/// As it was written: no more than nine digits behind the point, and no row of nines.
#[allow(clippy::cast_precision_loss)] // exact for more than a hundred days
fn seconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e9
}

/// What is found in the settings of all of PHP's programs, and in what they mean on servers with this grace period; what is
/// the same in several is told once.
pub(crate) fn look(programs: &[Php], views: &[View], grace: Option<Duration>) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    let each = views.iter().filter(|view| view.loaded).flat_map(|view| among_themselves(view, grace));
    let killed = programs.iter().filter(|php| php.loaded).flat_map(|php| beside_php(php, views));
    for one in each.chain(killed) {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

fn among_themselves(view: &View, grace: Option<Duration>) -> Vec<Finding> {
    let (limits, default) = (Limits::of(&view.values()), Limits::of(&Values::default()));
    let mut found = Vec::new();
    let mut add = |finding| found.push(finding);
    // A renewal is due when a third of the lease has passed: two thirds are left for it.
    if limits.auto_renew && limits.renewal >= limits.ttl * 2.0 / 3.0 {
        let says = format!(
            "a lease of {} s is renewed after {} s, and connect_timeout and command_timeout let that take {} s: one \
             slow answer loses the lock",
            limits.ttl,
            short(limits.ttl / 3.0),
            limits.renewal
        );
        add(php("limits.ttl", Severity::Warning, "cluster_lock.ttl", says)
            .set("cluster_lock.ttl", short((limits.renewal * 3.0).ceil().max(default.ttl))));
    }
    if limits.auto_renew && limits.max_hold > 0.0 && limits.max_hold <= limits.ttl {
        let says =
            format!("max_hold is {} s, a lease {} s: no lease is ever renewed", limits.max_hold, limits.ttl);
        let longer = (limits.ttl * 10.0).max(default.max_hold);
        add(php("limits.max_hold", Severity::Warning, "cluster_lock.max_hold", says)
            .set("cluster_lock.max_hold", short(longer)));
    }
    if limits.slow_wait > 0.0 && limits.timeout > 0.0 && limits.slow_wait >= limits.timeout {
        let says = format!(
            "slow_wait is {} s, and no wait lasts longer than timeout, {} s: slow waits leave no line in the log",
            limits.slow_wait, limits.timeout
        );
        add(php("limits.slow_wait", Severity::Warning, "cluster_lock.slow_wait", says)
            .set("cluster_lock.slow_wait", short((limits.timeout / 2.0).min(default.slow_wait))));
    }
    if let Some(grace) = grace.map(seconds).filter(|grace| limits.ttl > *grace) {
        let says = format!(
            "a lease is {} s, and the servers' grace period {grace} s (?grace= in the DSN): every lock is refused whose \
             lease is longer than that",
            limits.ttl
        );
        add(php("limits.grace", Severity::Problem, "cluster_lock.ttl", says)
            .advise("the one shorter, or the other longer, on all nodes")
            .set("cluster_lock.ttl", short(grace.min(default.ttl))));
    }
    if limits.timeout.is_infinite() {
        let says = "waits have no limit: whoever holds a lock for long lets all workers stand and wait";
        add(php("limits.timeout", Severity::Note, "cluster_lock.timeout", says));
    }
    if !limits.auto_renew {
        let says =
            format!("leases are not renewed: whoever holds a lock for longer than {} s loses it", limits.ttl);
        add(php("limits.auto_renew", Severity::Note, "cluster_lock.auto_renew", says));
    }
    found
}

/// What ends a request that waits, before the wait ends.
fn beside_php(program: &Php, views: &[View]) -> Vec<Finding> {
    let own = program.name();
    let timeout_of = |name: &str| {
        let view = views
            .iter()
            .find(|view| view.name == name)
            .or_else(|| views.iter().find(|view| view.name == own));
        Limits::of(&view.map(View::values).unwrap_or_default()).timeout
    };
    let mut found = Vec::new();
    for pool in &program.pools {
        let Some(limit) = pool.request_terminate_timeout else {
            continue;
        };
        let timeout = timeout_of(&format!("{own}, pool {}", pool.name));
        if limit <= timeout {
            let says = format!(
                "pool {} kills a request after {limit} s (request_terminate_timeout), and a wait may take {timeout} s: \
                 whoever waits that long is killed, and what it holds stays locked until its lease has run out",
                pool.name
            );
            found.push(
                php("limits.request_terminate_timeout", Severity::Warning, &own, says)
                    .set("cluster_lock.timeout", short((limit / 2.0).ceil())),
            );
        }
    }
    let timeout = timeout_of(&own);
    if let Some(limit) = program.max_execution_time.filter(|limit| program.counts_waiting && *limit > 0.0)
        && limit <= timeout
    {
        let says = format!(
            "this build counts waiting as execution, max_execution_time is {limit} s and a wait may take {timeout} s: \
             whoever waits that long ends with a fatal error"
        );
        found.push(
            php("limits.max_execution_time", Severity::Warning, &own, says)
                .set("cluster_lock.timeout", short((limit / 2.0).ceil())),
        );
    }
    found
}

fn php(id: &'static str, severity: Severity, subject: &str, says: impl Into<String>) -> Finding {
    Finding::new(Area::Php, id, severity, subject, says)
}

/// A number without a row of nines.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::places::tests::view;
    use super::*;
    use crate::php_ini::pools::Pool;

    const GRACE: Duration = Duration::from_secs(100);

    #[test]
    fn each_contradiction_is_found_and_cured() {
        for (settings, expected) in [
            (&[][..], &[][..]),
            (&[("ttl", "3")], &["limits.ttl"]),
            (&[("command_timeout", "20")], &["limits.ttl"]),
            (&[("ttl", "3"), ("auto_renew", "Off")], &["limits.auto_renew"]),
            (&[("max_hold", "10")], &["limits.max_hold"]),
            (&[("max_hold", "0")], &[]),
            (&[("slow_wait", "30")], &["limits.slow_wait"]),
            (&[("slow_wait", "0"), ("timeout", "0.5")], &[]),
            (&[("timeout", "0.5")], &["limits.slow_wait"]),
            (&[("timeout", "0")], &[]),
            (&[("timeout", "INF")], &["limits.timeout"]),
            (&[("ttl", "100")], &[]),
            (&[("ttl", "100.5")], &["limits.grace"]),
        ] {
            let view = view(settings);
            let found = look(&[], std::slice::from_ref(&view), Some(GRACE));
            let ids: Vec<_> = found.iter().map(|finding| finding.id).collect();
            assert_eq!(ids, expected, "{settings:?}");
            // Who does what is advised has no such trouble any more.
            let mut cured = view;
            for (name, value) in found.into_iter().flat_map(|finding| finding.ini) {
                cured.settings.insert(name.trim_start_matches("cluster_lock.").to_owned(), value);
            }
            let left = look(&[], &[cured], Some(GRACE));
            assert!(left.iter().all(|finding| finding.severity < Severity::Warning), "{left:?}");
        }
    }

    #[test]
    fn what_is_the_same_everywhere_is_told_once() {
        let views = [view(&[("ttl", "3")]), View { name: "other".into(), ..view(&[("ttl", "3")]) }];
        assert_eq!(look(&[], &views, None).len(), 1);
        let unloaded = View { loaded: false, ..view(&[("ttl", "3")]) };
        assert_eq!(look(&[], &[unloaded], None), []);
    }

    #[test]
    fn a_pool_that_kills_before_the_wait_ends() {
        let pool = |limit| Pool { name: "www".into(), request_terminate_timeout: limit, ..Pool::default() };
        let program = |pool| Php {
            sapi: "FPM/FastCGI".into(),
            version: "8.2.1".into(),
            loaded: true,
            pools: vec![pool],
            ..Php::default()
        };
        for (limit, expected) in [(None, 0), (Some(20.0), 1), (Some(30.0), 1), (Some(60.0), 0)] {
            let programs = [program(pool(limit))];
            let found = look(&programs, &View::all(&programs, true), None);
            assert_eq!(found.len(), expected, "{limit:?}");
            assert!(found.iter().all(|finding| finding.says.contains("pool www")));
        }
        let mut own = pool(Some(20.0));
        own.settings.insert("timeout".into(), "5".into());
        let programs = [program(own)];
        assert_eq!(look(&programs, &View::all(&programs, true), None), []);
    }

    #[test]
    fn waiting_counts_where_php_has_timers_of_its_own() {
        for (counts_waiting, limit, expected) in
            [(true, 30.0, 1), (true, 0.0, 0), (true, 60.0, 0), (false, 30.0, 0)]
        {
            let program =
                Php { loaded: true, counts_waiting, max_execution_time: Some(limit), ..Php::default() };
            let programs = [program];
            assert_eq!(
                look(&programs, &View::all(&programs, true), None).len(),
                expected,
                "{counts_waiting} {limit}"
            );
        }
    }
}
