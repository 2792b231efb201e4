//! The servers that keep the locks: what they say of themselves, and whether locks are safe there.
//!
//! `status` and the doctor judge by what stands here, and the plugin for `WordPress` by the same rules:
//! `cli/tests/servers.json` states them for both.

use std::time::Duration;

use cluster_lock_core::{Config, Dsn, Engine, Error, Grace, ServerReport, text};

use crate::finding::{Area, Finding, Severity};
use crate::units::{now, span};

/// So far apart no reader of a report wonders.
const CLOCK: f64 = 5.0;

/// Each lock costs two round trips; of this length they are felt.
const FAR: Duration = Duration::from_millis(10);

/// The clock by which `engine`'s server tells since when a lock is held, as Unix time in seconds.
pub(crate) fn now_there(engine: &Engine) -> f64 {
    now() + ahead(&engine.servers())
}

/// Seconds by which the first server that tells is ahead of this machine.
pub(crate) fn ahead(servers: &[ServerReport]) -> f64 {
    servers.iter().find_map(|report| report.clock_ahead).unwrap_or_default()
}

/// Whether it answers; after [`Engine::examine`], whether locks work there.
pub(crate) fn is_up(report: &ServerReport) -> bool {
    report.error.is_none()
}

/// `redis://10.0.0.5:6379: version 7.0.15, master, round trip 80 µs`
pub(crate) fn headline(report: &ServerReport) -> String {
    let server = text::said(&report.server);
    if let Some(error) = &report.error {
        return format!("{server}: {}", text::said(error));
    }
    let facts = [
        report.version.as_ref().map(|version| format!("version {}", text::said(version))),
        report.role.as_ref().map(|role| text::said(role)),
        report.round_trip.map(|time| format!("round trip {}", span(time))),
    ];
    format!("{server}: {}", facts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// How it stands with its grace period, in which it lets nobody in.
pub(crate) fn stands(grace: Grace) -> String {
    match grace {
        Grace::NotBegun => {
            "not begun: with its first lock it lets nobody in for that long (cluster-lock init)".into()
        }
        Grace::Runs(left) => format!("runs for {} more, in which nobody is let in", span(left)),
        Grace::Over => "over".into(),
    }
}

/// Whether its grace period lets nobody in, or would.
pub(crate) fn is_closed(report: &ServerReport) -> bool {
    matches!(report.grace, Some(Grace::NotBegun | Grace::Runs(_)))
}

/// Whether it says that it is a primary.
pub(crate) fn is_primary(report: &ServerReport) -> Option<bool> {
    report.role.as_deref().map(|role| role == "master" || role == ACTIVE_REPLICA)
}

/// The role of a primary of `KeyDB` that takes in the writes of another one besides.
const ACTIVE_REPLICA: &str = "active-replica";

/// Whether it says that it throws nothing away for want of memory.
pub(crate) fn keeps_all(report: &ServerReport) -> Option<bool> {
    report.maxmemory_policy.as_deref().map(|policy| policy == "noeviction")
}

/// Why not every lock can be had, by what an [examination](Engine::examine) has found: with several servers each keeps some of
/// the locks, and one that is tried out says nothing of the others. Of a quorum a majority says that, and not one of them.
pub(crate) fn refusal(config: &Config, reports: &[ServerReport]) -> Option<Error> {
    if matches!(config.dsn, Dsn::Quorum(_)) {
        return None;
    }
    reports.iter().find_map(|report| {
        let (server, cause) = (report.server.clone(), report.error.clone()?);
        Some(Error::Server { server, cause })
    })
}

/// What is found in what the servers say.
pub(crate) fn judge(config: &Config, reports: &[ServerReport]) -> Vec<Finding> {
    reports.iter().flat_map(|report| server(config, report)).chain(majority(config, reports)).collect()
}

fn finding(id: &'static str, severity: Severity, subject: &str, says: impl Into<String>) -> Finding {
    Finding::new(Area::Server, id, severity, subject, says)
}

/// What one server says of itself.
fn server(config: &Config, report: &ServerReport) -> Vec<Finding> {
    let mut found = Vec::new();
    let name = report.server.as_str();
    let severity = match &config.dsn {
        Dsn::Quorum(_) | Dsn::Local(_) => Severity::Warning,
        _ => Severity::Problem,
    };
    match &report.error {
        Some(error) if matches!(config.dsn, Dsn::Local(_)) => {
            let says = format!("this user gets no lock: {}", text::said(error));
            found.push(
                finding("server.grants", severity, name, says).advise(
                    "look as PHP's user, whose directory that is: sudo -u www-data cluster-lock doctor",
                ),
            );
            return found;
        }
        Some(error) if report.round_trip.is_some() => {
            let says = format!("it answers, and locks do not work there: {}", text::said(error));
            let advice = if is_closed(report) && error.contains("?grace=") {
                "wait until that is over; when it is known that nothing is held, as on a new server: cluster-lock init"
            } else {
                "do what stands in brackets; docs/errors has a page on each of these messages"
            };
            found.push(finding("server.grants", severity, name, says).advise(advice));
        }
        Some(error) => {
            found.push(
                finding("server.reachable", severity, name, text::said(error))
                    .advise("is it running, may this node reach it, and are user and password right?"),
            );
            return found;
        }
        None => {
            let says = "a lock was taken there, waited for, handed over and given back";
            found.push(finding("server.grants", Severity::Ok, name, says));
        }
    }
    if let Some(round_trip) = report.round_trip {
        let took = format!("answers within {}", span(round_trip));
        let version = report
            .version
            .as_deref()
            .map_or(String::new(), |version| format!(", version {}", text::said(version)));
        found.push(if round_trip >= FAR {
            // No more than a note: who asks may be elsewhere than PHP is.
            let says = format!("{took}{version}: taking and giving back a free lock takes twice that");
            finding("server.reachable", Severity::Note, name, says)
                .advise("a server in the data centre of the web servers")
        } else {
            finding("server.reachable", Severity::Ok, name, format!("{took}{version}"))
        });
    }
    found.extend(version(report, severity));
    found.extend(role(report, severity));
    found.extend(memory(report));
    found.push(database(config, report));
    if let Some(ahead) = report.clock_ahead.filter(|ahead| ahead.abs() > CLOCK) {
        let way = if ahead > 0.0 { "ahead of" } else { "behind" };
        let says = format!(
            "its clock is {:.0} s {way} this node's: \"held since\" in reports is by its clock. Leases do not mind",
            ahead.abs()
        );
        found
            .push(finding("server.clock", Severity::Note, name, says).advise("let both machines follow NTP"));
    }
    if report.append_only == Some(false) {
        let says = "writes no append-only file: a restart forgets locks. Those who hold them learn of it at their next \
                    renewal or write; fencing tokens go on growing";
        found.push(finding("server.persistence", Severity::Note, name, says));
    }
    found
}

fn version(report: &ServerReport, severity: Severity) -> Option<Finding> {
    let version = report.version.as_deref()?;
    let major: u32 = version.split('.').next()?.parse().ok()?;
    (major < 6).then(|| {
        let says = format!("version {} is too old", text::said(version));
        finding("server.version", severity, &report.server, says).advise("Redis 6 or newer, or Valkey")
    })
}

fn role(report: &ServerReport, severity: Severity) -> Option<Finding> {
    if report.role.as_deref() == Some(ACTIVE_REPLICA) {
        let says = "it is one of several servers that accept writes (active-replica): each grants the same lock, and nobody \
                    is kept out";
        return Some(finding("server.role", severity, &report.server, says).advise(
            "one of them alone: active-replica no on the others; or redis+quorum:// over three of their own",
        ));
    }
    (is_primary(report) == Some(false)).then(|| {
        finding("server.role", severity, &report.server, "it is a replica: it refuses every lock")
            .advise("name its primary in cluster_lock.dsn; or the sentinels, which know who that is")
    })
}

fn memory(report: &ServerReport) -> Vec<Finding> {
    let name = report.server.as_str();
    let mut found = Vec::new();
    match (report.maxmemory_policy.as_deref(), report.maxmemory) {
        (None, _) => {
            let says = "it is not known what happens when its memory is full: the user may not ask (INFO)";
            found.push(finding("server.eviction", Severity::Note, name, says).advise("ACL SETUSER … +info"));
        }
        (Some("noeviction"), _) => {
            let says = "maxmemory-policy is noeviction: no lock is thrown away for want of memory";
            found.push(finding("server.eviction", Severity::Ok, name, says));
        }
        (Some(policy), limit) => {
            let (severity, when) = match limit {
                // Whoever sets one looks for a limit then, and not for this.
                Some(0) => {
                    (Severity::Warning, "it has no memory limit now (maxmemory 0); as soon as it has one, ")
                }
                _ => (Severity::Problem, "when its memory is full, "),
            };
            let says = format!(
                "maxmemory-policy is {}, and noeviction is right: {when}locks that are held are thrown away",
                text::said(policy)
            );
            found.push(
                finding("server.eviction", severity, name, says)
                    .advise("CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"),
            );
        }
    }
    if let Some(evicted) = report.evicted_keys.filter(|evicted| *evicted > 0) {
        let says = format!(
            "{evicted} keys have been thrown away for want of memory since it started; locks may be among them"
        );
        found.push(
            finding("server.evicted", Severity::Warning, name, says)
                .advise("noeviction; then CONFIG RESETSTAT, or a restart, sets this count back"),
        );
    }
    if let (Some(limit), Some(used)) = (report.maxmemory.filter(|limit| *limit > 0), report.used_memory)
        && used >= limit / 10 * 9
    {
        let percent = used.saturating_mul(100) / limit;
        let says =
            format!("{percent} % of its memory limit is used: when it is full, new locks are refused (OOM)");
        found.push(
            finding("server.memory", Severity::Warning, name, says)
                .advise("raise maxmemory, or find what fills it"),
        );
    }
    found
}

/// Who else uses the database.
fn database(config: &Config, report: &ServerReport) -> Finding {
    let of = |severity, says: String| finding("server.shared", severity, &report.server, says);
    match report.foreign_keys {
        None => of(
            Severity::Note,
            "it is not known who else uses this database: the user may not ask (SCAN)".into(),
        )
        .advise("ACL SETUSER … +scan"),
        Some(0) => of(Severity::Ok, "the database is used for locks alone, as far as looked at".into()),
        Some(foreign) => of(
            Severity::Warning,
            format!(
                "somebody else uses this database: {foreign} of {} keys looked at do not start with \"{}\". Whoever \
                 empties it (FLUSHDB, a cache's \"flush\") takes all locks away",
                report.sampled_keys.unwrap_or(foreign),
                config.prefix
            ),
        )
        .advise("a database of its own, such as …/1 in the DSN; against FLUSHALL and eviction, a server of its own"),
    }
}

/// Whether enough servers of a quorum answer.
fn majority(config: &Config, reports: &[ServerReport]) -> Option<Finding> {
    let Dsn::Quorum(servers) = &config.dsn else { return None };
    let up = reports.iter().filter(|report| report.error.is_none()).count();
    (up * 2 <= servers.len()).then(|| {
        let says =
            format!("{up} of {} servers grant locks: no majority, so none can be taken", servers.len());
        finding("server.majority", Severity::Problem, &config.dsn.redacted(), says)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cluster_lock_core::Dsn;
    use serde_json::{Map, Value};

    use super::*;

    const TABLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers.json"));

    /// A server of the table.
    fn report(facts: &Map<String, Value>) -> ServerReport {
        let text = |name: &str| facts[name].as_str().map(str::to_owned);
        let number = |name: &str| facts[name].as_u64();
        ServerReport {
            server: text("server").unwrap(),
            error: text("error"),
            grace: None,
            round_trip: facts["round_trip"].as_f64().map(Duration::from_secs_f64),
            clock_ahead: facts["clock_ahead"].as_f64(),
            version: text("version"),
            role: text("role"),
            maxmemory: number("maxmemory"),
            maxmemory_policy: text("maxmemory_policy"),
            used_memory: number("used_memory"),
            evicted_keys: number("evicted_keys"),
            append_only: facts["append_only"].as_bool(),
            replicas: number("replicas"),
            sampled_keys: number("sampled_keys"),
            foreign_keys: number("foreign_keys"),
        }
    }

    /// What Site Health has to make of it: its tests that are not good.
    fn health(findings: &[Finding], reports: &[ServerReport]) -> BTreeMap<&'static str, &'static str> {
        let mut health = BTreeMap::new();
        if reports.iter().any(|report| report.round_trip.is_none()) {
            health.extend([("eviction", "recommended"), ("database", "recommended")]);
        }
        for finding in findings {
            let test = match finding.id {
                "server.eviction" | "server.evicted" | "server.memory" => "eviction",
                "server.shared" => "database",
                _ => "server",
            };
            match finding.severity {
                Severity::Problem => drop(health.insert(test, "critical")),
                Severity::Note if finding.advice.is_none() => {}
                Severity::Warning | Severity::Note => drop(health.entry(test).or_insert("recommended")),
                Severity::Ok => {}
            }
        }
        health
    }

    #[test]
    fn each_server_in_its_turn() {
        let table: Value = serde_json::from_str(TABLE).unwrap();
        for case in table["cases"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let of = |server: &Value| {
                let base = server.as_str().unwrap_or("good");
                let mut facts = table[base].as_object().unwrap().clone();
                facts.extend(server.as_object().cloned().unwrap_or_default());
                report(&facts)
            };
            let reports: Vec<_> = case["servers"].as_array().unwrap().iter().map(of).collect();
            let config = Config::new(Dsn::parse(case["dsn"].as_str().unwrap()).unwrap());
            let mut found = judge(&config, &reports);
            found.retain(|finding| finding.severity != Severity::Ok);

            let expected = case["findings"].as_array().unwrap();
            assert_eq!(found.len(), expected.len(), "{name}: {found:?}");
            for (finding, expected) in found.iter().zip(expected) {
                assert_eq!(finding.id, expected[0].as_str().unwrap(), "{name}");
                assert_eq!(
                    serde_json::to_value(finding.severity).unwrap(),
                    expected[1],
                    "{name}: {}",
                    finding.id
                );
                let said = format!("{} {}", finding.says, finding.advice.as_deref().unwrap_or_default());
                assert!(said.contains(expected[2].as_str().unwrap_or_default()), "{name}: {said}");
                assert!(
                    finding.severity < Severity::Problem
                        || finding.advice.is_some()
                        || finding.id == "server.majority",
                    "{name}"
                );
            }
            if case.get("differs").is_none() {
                let health = serde_json::to_value(health(&found, &reports)).unwrap();
                assert_eq!(health, case["health"], "{name}");
            }
        }
    }

    #[test]
    fn alerts_have_the_same_limits() {
        let alerts = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/alerts.yml"));
        let far = format!("cluster_lock_server_round_trip_seconds > {}\n", FAR.as_secs_f64());
        for limit in [&far, "used_memory_bytes > 0.9 * ", "noeviction == 0", "foreign_keys > 0"] {
            assert!(alerts.contains(limit), "{limit}");
        }
    }

    #[test]
    fn what_a_server_says_drives_no_terminal() {
        let evil = || Some("6\x1b[2J".to_owned());
        for error in [None, evil()] {
            let report = ServerReport {
                round_trip: Some(FAR),
                version: evil(),
                role: evil(),
                maxmemory_policy: evil(),
                error,
                ..ServerReport::default()
            };
            let found = judge(&Config::new(Dsn::parse("redis://h").unwrap()), &[report]);
            assert!(found.iter().all(|finding| !finding.says.contains('\x1b')), "{found:?}");
        }
    }
}
