//! Whether locks are safe on the servers that keep them.

use std::time::Duration;

use cluster_lock_core::{Config, Dsn, ServerReport};

use super::finding::{Area, Finding, Severity};
use super::network::is_loopback;

/// So far apart no reader of a report wonders.
const CLOCK: f64 = 5.0;

/// Each lock costs two round trips; of this length they are felt.
const FAR: Duration = Duration::from_millis(10);

/// What is found in what the servers say. `network`: whether files are shared with other nodes.
pub(crate) fn look(config: &Config, reports: &[ServerReport], network: bool) -> Vec<Finding> {
    let mut found = setup(config, network);
    found.extend(reports.iter().flat_map(|report| server(config, report)));
    found.extend(majority(config, reports));
    found
}

fn finding(id: &'static str, severity: Severity, subject: &str, says: impl Into<String>) -> Finding {
    Finding::new(Area::Server, id, severity, subject, says)
}

/// What the DSN alone tells.
fn setup(config: &Config, network: bool) -> Vec<Finding> {
    let dsn = config.dsn.redacted();
    let mut found = Vec::new();
    let (server, loopback) = match &config.dsn {
        Dsn::Local(_) => {
            let says = "locks are this machine's kernel's";
            found.push(if network {
                finding(
                    "server.local",
                    Severity::Problem,
                    &dsn,
                    format!("{says}: other nodes are not kept out"),
                )
                .advise("name a server that all nodes reach: cluster_lock.dsn")
            } else {
                finding("server.local", Severity::Note, &dsn, format!("{says}: enough for one machine"))
            });
            return found;
        }
        Dsn::Redis(server) => (Some(server), true),
        Dsn::Sentinel(sentinel) => (Some(&sentinel.primary), false),
        Dsn::Cluster(cluster) => (cluster.seeds.first(), false),
        Dsn::Quorum(servers) => (servers.first(), false),
    };
    let Some(server) = server else { return found };
    let here = match &server.address {
        cluster_lock_core::dsn::Address::Tcp(host, _) => is_loopback(host),
        cluster_lock_core::dsn::Address::Unix(_) => true,
    };
    if here && loopback && network {
        let says = "the server is on this machine: right only if all other nodes name this machine, and none a server \
                    of its own";
        found.push(finding("server.loopback", Severity::Note, &dsn, says));
    }
    if !here && server.tls.is_none() {
        let secret = if server.password.is_some() { "the password and " } else { "" };
        let says = format!("no TLS: {secret}the names of locks and of those who hold them travel in clear");
        found.push(finding("server.tls", Severity::Note, &dsn, says));
    }
    let wait = match &config.dsn {
        Dsn::Sentinel(sentinel) => Some(sentinel.wait),
        Dsn::Cluster(cluster) => Some(cluster.wait),
        _ => None,
    };
    if wait == Some(0) {
        let says = "replicas are not waited for: in a fail-over the new primary may not know of the last locks, and \
                    two may hold one at once (the later has the greater fencing token)";
        found.push(
            finding("server.wait", Severity::Note, &dsn, says)
                .advise("?wait=N, with N the replicas that may take over"),
        );
    }
    found
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
            let says = format!("this user gets no lock: {error}");
            found.push(
                finding("server.grants", severity, name, says).advise(
                    "look as PHP's user, whose directory that is: sudo -u www-data cluster-lock doctor",
                ),
            );
            return found;
        }
        Some(error) if report.round_trip.is_some() => {
            let says = format!("it answers, and grants no lock: {error}");
            found.push(
                finding("server.grants", severity, name, says)
                    .advise("do what stands in brackets; docs/errors has a page on each of these messages"),
            );
        }
        Some(error) => {
            found.push(
                finding("server.reachable", severity, name, error.clone())
                    .advise("is it running, may this node reach it, and are user and password right?"),
            );
            return found;
        }
        None => {
            let says = "a lock was taken there, and given back";
            found.push(finding("server.grants", Severity::Ok, name, says));
        }
    }
    if let Some(round_trip) = report.round_trip {
        let took = format!("answers within {}", crate::units::span(round_trip));
        let version =
            report.version.as_deref().map_or(String::new(), |version| format!(", version {version}"));
        found.push(if round_trip >= FAR {
            let says = format!("{took}{version}: taking and giving back a free lock takes twice that");
            finding("server.reachable", Severity::Note, name, says)
        } else {
            finding("server.reachable", Severity::Ok, name, format!("{took}{version}"))
        });
    }
    found.extend(version(report));
    found.extend(role(report));
    found.extend(memory(report));
    if let Some(foreign) = report.foreign_keys.filter(|foreign| *foreign > 0) {
        let sampled = report.sampled_keys.unwrap_or(foreign);
        let says = format!(
            "the database is shared: {foreign} of {sampled} keys looked at do not start with \"{}\". Whoever empties \
             it (FLUSHDB, a cache's \"flush\") takes all locks away",
            config.prefix
        );
        found.push(
            finding("server.shared", Severity::Warning, name, says)
                .advise("a database of its own, such as …/1 in the DSN; against FLUSHALL and eviction, a server of its own"),
        );
    } else if report.foreign_keys.is_some() {
        found.push(finding(
            "server.shared",
            Severity::Ok,
            name,
            "the database is used for locks alone, as far as looked at",
        ));
    }
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

fn version(report: &ServerReport) -> Option<Finding> {
    let version = report.version.as_deref()?;
    let major: u32 = version.split('.').next()?.parse().ok()?;
    (major < 6).then(|| {
        finding("server.version", Severity::Problem, &report.server, format!("version {version} is too old"))
            .advise("Redis 6 or newer, or Valkey")
    })
}

fn role(report: &ServerReport) -> Option<Finding> {
    let role = report.role.as_deref()?;
    (role == "slave" || role == "replica").then(|| {
        finding("server.role", Severity::Problem, &report.server, "it is a replica: it refuses every lock")
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
                Some(0) => (Severity::Warning, "it has no memory limit now; as soon as it has one, "),
                _ => (Severity::Problem, "when its memory is full, "),
            };
            let says = format!("maxmemory-policy is {policy}: {when}locks that are held are thrown away");
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
    use super::*;

    fn config(dsn: &str) -> Config {
        Config::new(Dsn::parse(dsn).unwrap())
    }

    fn good() -> ServerReport {
        ServerReport {
            server: "redis://10.0.0.5:6379".into(),
            round_trip: Some(Duration::from_micros(300)),
            clock_ahead: Some(0.1),
            version: Some("7.0.15".into()),
            role: Some("master".into()),
            maxmemory: Some(0),
            maxmemory_policy: Some("noeviction".into()),
            used_memory: Some(1 << 20),
            evicted_keys: Some(0),
            append_only: Some(true),
            replicas: Some(0),
            sampled_keys: Some(3),
            foreign_keys: Some(0),
            error: None,
        }
    }

    /// Ids and severities of what is not well.
    fn found(dsn: &str, reports: &[ServerReport], network: bool) -> Vec<(&'static str, Severity)> {
        let all = look(&config(dsn), reports, network);
        assert!(
            all.iter()
                .all(|f| f.severity != Severity::Problem || f.advice.is_some() || f.id == "server.majority")
        );
        all.iter().filter(|f| f.severity != Severity::Ok).map(|f| (f.id, f.severity)).collect()
    }

    #[test]
    fn each_server_in_its_turn() {
        use Severity::{Note, Problem, Warning};
        let text = |text: &str| Some(text.to_owned());
        for (report, expected) in [
            (good(), vec![]),
            (
                ServerReport { error: text("refused"), ..ServerReport::default() },
                vec![("server.reachable", Problem)],
            ),
            (ServerReport { error: text("NOPERM"), ..good() }, vec![("server.grants", Problem)]),
            (ServerReport { round_trip: Some(FAR), ..good() }, vec![("server.reachable", Note)]),
            (ServerReport { version: text("5.0.14"), ..good() }, vec![("server.version", Problem)]),
            (ServerReport { version: text("255.255.255"), ..good() }, vec![]),
            (ServerReport { role: text("slave"), ..good() }, vec![("server.role", Problem)]),
            (ServerReport { maxmemory_policy: None, ..good() }, vec![("server.eviction", Note)]),
            (
                ServerReport { maxmemory_policy: text("allkeys-lru"), ..good() },
                vec![("server.eviction", Warning)],
            ),
            (
                ServerReport { maxmemory_policy: text("volatile-ttl"), maxmemory: Some(1 << 30), ..good() },
                vec![("server.eviction", Problem)],
            ),
            (ServerReport { evicted_keys: Some(1), ..good() }, vec![("server.evicted", Warning)]),
            (
                ServerReport { maxmemory: Some(1000), used_memory: Some(950), ..good() },
                vec![("server.memory", Warning)],
            ),
            (ServerReport { maxmemory: Some(1 << 30), ..good() }, vec![]),
            (ServerReport { foreign_keys: Some(1), ..good() }, vec![("server.shared", Warning)]),
            (ServerReport { clock_ahead: Some(-90.0), ..good() }, vec![("server.clock", Note)]),
            (ServerReport { append_only: Some(false), ..good() }, vec![("server.persistence", Note)]),
        ] {
            assert_eq!(
                found("rediss://10.0.0.5", std::slice::from_ref(&report), true),
                expected,
                "{report:?}"
            );
        }
    }

    #[test]
    fn each_topology_in_its_turn() {
        use Severity::{Note, Problem, Warning};
        let down = || ServerReport { error: Some("refused".into()), ..ServerReport::default() };
        let refuses = || ServerReport { error: Some("NOPERM".into()), ..good() };
        for (dsn, reports, network, expected) in [
            ("redis://10.0.0.5", vec![good()], true, vec![("server.tls", Note)]),
            ("redis://127.0.0.1", vec![good()], true, vec![("server.loopback", Note)]),
            ("redis://127.0.0.1", vec![good()], false, vec![]),
            ("redis+unix:///run/r.sock", vec![good()], true, vec![("server.loopback", Note)]),
            ("rediss+sentinel://a,b/m", vec![good()], true, vec![("server.wait", Note)]),
            ("rediss+sentinel://a,b/m?wait=1", vec![good()], true, vec![]),
            ("rediss+cluster://a,b?wait=1", vec![good(), good()], true, vec![]),
            (
                "rediss+quorum://a,b,c",
                vec![good(), good(), down()],
                true,
                vec![("server.reachable", Warning)],
            ),
            (
                "rediss+quorum://a,b,c",
                vec![good(), down(), down()],
                true,
                vec![
                    ("server.reachable", Warning),
                    ("server.reachable", Warning),
                    ("server.majority", Problem),
                ],
            ),
            ("local:", vec![], true, vec![("server.local", Problem)]),
            ("local:", vec![], false, vec![("server.local", Note)]),
            ("local:", vec![down()], false, vec![("server.local", Note), ("server.grants", Warning)]),
            (
                "rediss+quorum://a,b,c",
                vec![good(), good(), refuses()],
                true,
                vec![("server.grants", Warning)],
            ),
        ] {
            assert_eq!(found(dsn, &reports, network), expected, "{dsn}");
        }
    }
}
