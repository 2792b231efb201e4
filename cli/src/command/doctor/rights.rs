//! Which commands the user in the DSN may not use, though locks need them.
//!
//! Each command is sent as one that changes nothing: with a key that is not there, or with an argument
//! that is refused once the user was found to be allowed. It works on every server from Redis 6 on, and
//! asks for no right of its own, as `ACL GETUSER` or `ACL DRYRUN` would.

use cluster_lock_core::dsn::Server;
use cluster_lock_core::store::Token;
use cluster_lock_core::wire::{Connection, Fault};
use cluster_lock_core::{Config, Dsn, ServerReport};

use crate::direct;
use crate::finding::{Area, Finding, Severity};

/// A right, as `ACL SETUSER` calls it, and a command that needs it.
struct Probe {
    right: &'static str,
    /// `KEY` stands for a key that nobody has.
    command: &'static [&'static str],
}

const KEY: &str = "\0key";

const fn probe(right: &'static str, command: &'static [&'static str]) -> Probe {
    Probe { right, command }
}

/// What every server has to allow. `hello` and `select` are not among them: without these there is no
/// connection to ask on, and its error says so.
const ALWAYS: [Probe; 22] = [
    probe("set", &["SET", KEY, "doctor", "PX", "5000"]),
    probe("rpush", &["RPUSH", KEY, "x"]),
    probe("get", &["GET", KEY]),
    probe("setrange", &["SETRANGE", KEY, "x", "x"]),
    probe("exists", &["EXISTS", KEY]),
    probe("pexpire", &["PEXPIRE", KEY, "x"]),
    probe("evalsha", &["EVALSHA", "0000000000000000000000000000000000000000", "1", KEY]),
    probe("eval", &["EVAL", "return 1", "1", KEY]),
    probe("blpop", &["BLPOP", KEY, "x"]),
    probe("scan", &["SCAN", "0", "COUNT", "1"]),
    probe("time", &["TIME"]),
    probe("zadd", &["ZADD", KEY, "x", "x"]),
    probe("zrem", &["ZREM", KEY, "x"]),
    probe("zscore", &["ZSCORE", KEY, "x"]),
    probe("zcard", &["ZCARD", KEY]),
    probe("zrank", &["ZRANK", KEY, "x"]),
    probe("zrange", &["ZRANGE", KEY, "0", "0"]),
    probe("zrangebyscore", &["ZRANGEBYSCORE", KEY, "0", "0"]),
    probe("hset", &["HSET", KEY, "x", "x", "x"]),
    probe("hget", &["HGET", KEY, "x"]),
    probe("hdel", &["HDEL", KEY, "x"]),
    // Last, to tidy up.
    probe("del", &["DEL", KEY]),
];

const CLUSTER: Probe = probe("cluster|slots", &["CLUSTER", "SLOTS"]);
const WAIT: Probe = probe("wait", &["WAIT", "0", "1"]);

/// What is found on the servers of a configuration. Two round trips to each.
pub(crate) fn look(config: &Config, reports: &[ServerReport]) -> Vec<Finding> {
    let asked = reports.iter().filter(|report| report.round_trip.is_some());
    asked
        .filter_map(|report| {
            Some(look_at(config, &report.server, &direct::server(&config.dsn, &report.server)?))
        })
        .collect()
}

fn finding(id: &'static str, severity: Severity, label: &str, says: impl Into<String>) -> Finding {
    Finding::new(Area::Server, id, severity, label, says)
}

fn look_at(config: &Config, label: &str, server: &Server) -> Finding {
    let probes = ALWAYS
        .iter()
        .chain(matches!(config.dsn, Dsn::Cluster(_)).then_some(&CLUSTER))
        .chain((direct::replicas_waited_for(&config.dsn) > Some(0)).then_some(&WAIT));
    let probes: Vec<&Probe> = probes.collect();
    match refused(config, server, &probes) {
        Ok(Refused { commands, keys: false }) if commands.is_empty() => {
            finding("server.rights", Severity::Ok, label, "the user may use every command that locks need")
        }
        Ok(refused) => {
            let user = server.user.as_deref().unwrap_or("default");
            let mut rights: Vec<String> = refused.commands.iter().map(|right| format!("+{right}")).collect();
            if refused.keys {
                rights.insert(0, format!("~{}*", config.prefix));
            }
            let says = format!("the user {user} lacks rights that locks need: {}", rights.join(" "));
            let advice = format!("ACL SETUSER {user} {}", rights.join(" "));
            finding("server.rights", Severity::Problem, label, says).advise(advice)
        }
        Err(Fault::Broken(cause) | Fault::Refused(_, cause)) => {
            let says = format!("the user's rights could not be looked at: {cause}");
            finding("server.rights", Severity::Note, label, says)
        }
    }
}

/// What a user may not do.
struct Refused {
    commands: Vec<&'static str>,
    /// The keys themselves.
    keys: bool,
}

fn refused(config: &Config, server: &Server, probes: &[&Probe]) -> Result<Refused, Fault> {
    let mut connection = direct::open(config, server, "cluster_lock@doctor")?;
    let random = Token::random();
    let key = format!("{}{{doctor:{}}}", config.prefix, String::from_utf8_lossy(random.as_bytes()));
    let mut result = Refused { commands: Vec::new(), keys: false };
    // `set` by itself: where it is refused, `rpush` would find no key there, and leave one.
    let (first, rest) = probes.split_at(1);
    ask(&mut connection, &key, first.iter().copied(), &mut result)?;
    let set = result.commands.is_empty() && !result.keys;
    ask(
        &mut connection,
        &key,
        rest.iter().copied().filter(|probe| set || probe.right != "rpush"),
        &mut result,
    )?;
    Ok(result)
}

fn ask<'a>(
    connection: &mut Connection,
    key: &str,
    probes: impl Iterator<Item = &'a Probe> + Clone,
    result: &mut Refused,
) -> Result<(), Fault> {
    connection.begin();
    for probe in probes.clone() {
        let words: Vec<&[u8]> = probe
            .command
            .iter()
            .map(|word| if *word == KEY { key.as_bytes() } else { word.as_bytes() })
            .collect();
        connection.add(&words);
    }
    connection.send()?;
    for probe in probes {
        match connection.receive() {
            Err(Fault::Refused(code, text)) if code == "NOPERM" => {
                if is_about_keys(&text) {
                    result.keys = true;
                } else {
                    result.commands.push(probe.right);
                }
            }
            Ok(_) | Err(Fault::Refused(..)) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

/// `… no permissions to access one of the keys used as arguments`, or `… a key`; of a command it says `to run`.
fn is_about_keys(text: &str) -> bool {
    text.contains("key") && !text.contains("to run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_right_of_the_readme_is_looked_at() {
        // What a cluster needs besides stands in the guide.
        let text: String = ["README.md", "docs/install.md"]
            .map(|page| std::fs::read_to_string(format!("{}/../{page}", env!("CARGO_MANIFEST_DIR"))).unwrap())
            .concat();
        let lines: Vec<&str> =
            text.lines().filter(|line| line.starts_with("ACL SETUSER cluster_lock")).collect();
        let rights = |line: &str| -> Vec<String> {
            line.split_whitespace().filter_map(|word| word.strip_prefix('+')).map(str::to_owned).collect()
        };
        let mut always: Vec<_> = rights(lines[0]);
        always.retain(|right| right != "hello" && right != "select" && right != "info");
        let mut looked: Vec<_> = ALWAYS.iter().map(|probe| probe.right.to_owned()).collect();
        always.sort();
        looked.sort();
        assert_eq!(always, looked);
        assert_eq!(rights(lines[1]), [CLUSTER.right, WAIT.right]);
    }

    #[test]
    fn what_is_refused_is_told_apart() {
        assert!(is_about_keys("No permissions to access a key"));
        assert!(is_about_keys("this user has no permissions to access one of the keys used as arguments"));
        assert!(!is_about_keys("User u has no permissions to run the 'keys' command"));
    }
}
