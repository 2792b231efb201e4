//! What PHP code and the log are told, in words. (What is wrong with an argument stands in `arguments`, and what the core
//! reports comes as it is.)

use std::fmt::{self, Display};
use std::path::Path;
use std::time::Duration;

use cluster_lock_core::{Error, Identity, LockName, Loss, Mode, text};

/// The one form of every message about a lock.
pub(crate) fn about(name: &LockName, what: impl Display) -> String {
    format!("Lock \"{name}\": {what}")
}

/// Who was in the way of a lock.
pub(crate) enum Blocker {
    /// Another holder of the cluster lock.
    Holder(cluster_lock_core::Blocker),
    /// Somebody who has the kernel's lock and not the cluster's: a process without the extension.
    Kernel,
}

impl Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holder(cluster_lock_core::Blocker { holder, .. }) => write!(f, "held by {}", who(holder)),
            Self::Kernel => f.write_str("held by the kernel's flock() of a process without cluster_lock"),
        }
    }
}

/// Of whom the server knows nothing, and whom it keeps a lock for all the same.
const UNKNOWN: &str = "somebody unknown: a server that may have lost its memory lets nobody in until its grace period is \
                       over (?grace= in cluster_lock.dsn), or its record of the holder was lost";

/// A holder, for people: `node web2, pid 123 (fpm-fcgi), compile() at /srv/compiler.php:142, for /compile`. Where it is not
/// known what has called, `node web2, pid 123 (fpm-fcgi) /srv/compile.php /compile`. Escaped and cut, since another node
/// wrote it and it goes to the log.
fn who(identity: &Identity) -> String {
    if *identity == Identity::default() {
        return UNKNOWN.into();
    }
    let mut out = format!("node {}, pid {}", text::said(&identity.node), identity.pid);
    if !identity.sapi.is_empty() {
        out = format!("{out} ({})", text::said(&identity.sapi));
    }
    if !identity.call.is_unknown() {
        // The URL says more than the script that all URLs have.
        let task = if identity.request_uri.is_empty() { &identity.script } else { &identity.request_uri };
        let is_said = task.is_empty() || *task == identity.call.file;
        let task = if is_said { String::new() } else { format!(", for {}", text::said(task)) };
        return format!("{out}, {}{task}", identity.call);
    }
    for part in [&identity.script, &identity.request_uri] {
        if !part.is_empty() {
            out.push(' ');
            out.push_str(&text::said(part));
        }
    }
    out
}

fn by(blocker: Option<&Blocker>) -> String {
    blocker.map(|blocker| format!("; {blocker}")).unwrap_or_default()
}

/// How many had come before.
fn behind(blocker: Option<&Blocker>) -> String {
    match blocker {
        Some(Blocker::Holder(cluster_lock_core::Blocker { ahead: 1, .. })) => " behind 1 other".into(),
        Some(Blocker::Holder(cluster_lock_core::Blocker { ahead: ahead @ 2.., .. })) => {
            format!(" behind {ahead} others")
        }
        _ => String::new(),
    }
}

/// `waited 2.3 s for lock "file:/site/a.css" (/mnt/a/a.css) behind 3 others; held by node …`
pub(crate) fn slow(
    name: &LockName,
    path: Option<&Path>,
    waited: Duration,
    blocker: Option<&Blocker>,
) -> String {
    let (behind, by) = (behind(blocker), by(blocker));
    let path = path.map(|path| format!(" ({})", text::path(path))).unwrap_or_default();
    format!("cluster_lock: waited {:.1} s for lock \"{name}\"{path}{behind}{by}", waited.as_secs_f64())
}

/// The time is up.
pub(crate) fn timed_out(name: &LockName, waited: Duration, blocker: Option<&Blocker>) -> String {
    let by = by(blocker);
    about(name, format_args!("not acquired within {:.1} s{by}", waited.as_secs_f64()))
}

/// The time is up for the lock of a file that was to be written.
pub(crate) fn not_written(name: &LockName, waited: Duration) -> String {
    about(name, format_args!("not acquired within {:.1} s, nothing is written", waited.as_secs_f64()))
}

/// An earlier hold of the same was lost, which is told when it is asked for again.
pub(crate) fn lost_before(loss: &Loss) -> String {
    format!("it was held and is lost: {loss}")
}

/// A hold was lost, which is told when it is given back.
pub(crate) fn lost_at_the_end(name: &LockName, loss: &Loss) -> String {
    about(name, format_args!("was lost before it was released: {loss}"))
}

/// A lock that was to guard a write is lost before that begins.
pub(crate) fn lost_guard(name: &LockName, loss: &Loss) -> String {
    about(name, format_args!("was lost: {loss}"))
}

pub(crate) const NOT_HELD: &str = "is not held by this request";
pub(crate) const NOT_HELD_ANY_MORE: &str = "is not held by this request any more";
pub(crate) const NOT_HELD_BY_OBJECT: &str = "is not held by this object";
pub(crate) const OTHER_FIBER: &str = "is held by another fiber of this request, which alone can give it back";
pub(crate) const UNLOCKED_BY_CALLBACK: &str = "was unlocked, or lost and acquired again, by the callback";
pub(crate) const NOT_RUN: &str = "nothing is done: the function has returned a Generator, which nobody runs; with a yield in it, \
     to call it does no more than make one";
pub(crate) const STALE: &str =
    "another node has replaced or deleted the file: open it again (stale file handle)";
pub(crate) const NOT_OPEN_FOR_IT: &str = "the kernel's flock() failed: not open for that";
pub(crate) const OBJECT_IS_OVER: &str = "The request of this ClusterLock object has ended";
pub(crate) const WRITE_IS_GONE: &str = "The write has been aborted";

/// The server could not be told.
pub(crate) fn not_given_back(name: &LockName, error: &Error) -> String {
    about(name, format_args!("not given back, it comes free when its lease runs out: {error}"))
}

/// There is no cluster lock, and the kernel's is taken all the same.
pub(crate) fn kernel_alone(error: &Error) -> String {
    format!("{error}; falling back on the kernel's lock alone")
}

/// The kernel refuses its lock.
pub(crate) fn kernel_failed(error: impl Display) -> String {
    format!("the kernel's flock() failed: {error}")
}

/// The kernel does not take its lock back.
pub(crate) fn kernel_kept(error: impl Display) -> String {
    format!("the kernel's lock was not given back: {error}")
}

/// For the log: the cluster's lock alone is held.
pub(crate) fn without_kernel(name: &LockName, mode: Mode) -> String {
    let only = if mode == Mode::Exclusive { "reading" } else { "writing" };
    format!(
        "cluster_lock: lock \"{name}\" is held without the kernel's lock, which NFS does not give on a file opened only \
         for {only}"
    )
}

/// The server of a network file does not take what was written.
pub(crate) fn not_flushed(error: impl Display) -> String {
    format!("what was written under the lock may be lost: {error}")
}

/// A network file's cache stays.
pub(crate) fn not_refreshed(error: impl Display) -> String {
    format!("what this node has cached cannot be refreshed: {error}")
}

/// A lock was lost before the rename.
pub(crate) fn unchanged(target: &Path, name: &LockName, error: &Error) -> String {
    format!("{} is unchanged: {}", text::path(target), about(name, error))
}

/// What was to make the file has returned something of another type.
pub(crate) fn not_built(target: &Path, returned: &str) -> String {
    format!(
        "{} is not built: the function has returned {}, and not a string",
        text::path(target),
        text::said(returned)
    )
}

/// A lock was lost during a write that cannot be taken back.
pub(crate) fn written_unguarded(target: &Path, name: &LockName, error: &Error) -> String {
    format!(
        "{} was written in place, but {}; others may have written to it at the same time",
        text::path(target),
        about(name, error)
    )
}

/// The server does not tell.
pub(crate) fn not_listed(error: &Error) -> String {
    format!("The locks cannot be listed: {error}")
}

/// A setting stays what it was.
pub(crate) fn refused(setting: &str, value: &str, allowed: &str) -> String {
    format!("{setting}: \"{value}\" is refused: {allowed}")
}

/// A mistake of ours.
pub(crate) fn internal(place: &str) -> String {
    format!("cluster_lock: internal error, please report it: {place}")
}
