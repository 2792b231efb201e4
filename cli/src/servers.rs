//! The servers that keep the locks: whether they answer, and what time it is there.

use cluster_lock_core::{Engine, ServerReport, text};

use crate::units::{now, span};

/// The clock by which `engine`'s server tells since when a lock is held, as Unix time in seconds.
pub(crate) fn now_there(engine: &Engine) -> f64 {
    now() + ahead(&engine.servers())
}

/// Seconds by which the first server that tells is ahead of this machine.
pub(crate) fn ahead(servers: &[ServerReport]) -> f64 {
    servers.iter().find_map(|report| report.clock_ahead).unwrap_or_default()
}

/// Whether it answers; after [`Engine::examine`], whether it grants locks.
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
