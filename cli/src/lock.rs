//! A lock in words: who holds it, who waits, how long.

use std::time::Duration;

use cluster_lock_core::{Identity, LockReport, Mode, text};

use crate::units::{between, span};

/// How one who holds a lock or waits for it has it: `EX` and `SH`, as in flock(2); `RUN`: exclusively, for a run that does
/// for all who want it done.
pub(crate) fn mode(mode: Mode, who: &Identity) -> &'static str {
    match mode {
        Mode::Exclusive if who.run => "RUN",
        Mode::Exclusive => "EX",
        Mode::Shared => "SH",
    }
}

/// What somebody is doing: the request's path, else the script.
pub(crate) fn doing(who: &Identity) -> String {
    match (who.request_uri.as_str(), who.script.as_str()) {
        ("", "") => "-".into(),
        ("", script) => text::said(script),
        (uri, _) => text::said(uri),
    }
}

/// `web1 pid 4711 (fpm-fcgi) /wp-admin/options.php in compile() at /srv/theme/compiler.php:142`
pub(crate) fn who(identity: &Identity) -> String {
    if *identity == Identity::default() {
        return "somebody unknown (the server has lost its record, or its grace period runs)".into();
    }
    let call = &identity.call;
    let call = if call.is_unknown() { String::new() } else { format!(" in {call}") };
    process(identity) + &call
}

/// The same without the call.
pub(crate) fn process(identity: &Identity) -> String {
    let Identity { node, pid, sapi, .. } = identity;
    let node = if node.is_empty() { "an unknown node" } else { node };
    let sapi = if sapi.is_empty() { String::new() } else { format!(" ({})", text::said(sapi)) };
    format!("{} pid {pid}{sapi} {}", text::said(node), doing(identity))
}

/// Why nothing was broken: who holds it instead, if that is still so.
pub(crate) fn another(report: Option<&LockReport>, now: f64) -> String {
    let who = report.map_or_else(
        || " (it has given it back since)".to_owned(),
        |report| format!(" (fence {}). {}", report.fence, held(report, now)),
    );
    format!("nothing was broken: another holder has it by now{who}")
}

/// So many holders are named in a sentence.
const NAMED: usize = 10;

/// Who holds it, and how many wait, in a sentence.
pub(crate) fn held(report: &LockReport, now: f64) -> String {
    let mut holders: Vec<_> = report
        .holders
        .iter()
        .take(NAMED)
        .map(|holder| format!("{} for {}", who(&holder.identity), span(between(holder.since, now))))
        .collect();
    let others = report.holding().saturating_sub(holders.len());
    if others > 0 {
        holders.push(format!("and {others} more"));
    }
    let waiters = match report.waiting() {
        0 => "nobody waits".to_owned(),
        1 => "1 waits".to_owned(),
        n => format!("{n} wait"),
    };
    format!("Held by {}; {waiters}.", holders.join(", "))
}

/// How long the first of its queue has been waiting at `now`; `None` when nobody waits, or of those that are told of only
/// the dead.
pub(crate) fn longest_wait(lock: &LockReport, now: f64) -> Option<Duration> {
    lock.waiters.iter().map(|waiter| between(waiter.since, now)).max()
}
