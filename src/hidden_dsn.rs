//! What PHP is given to keep in the place of a DSN with a password.
//!
//! PHP shows its settings to everybody, by `phpinfo()`, `ini_get()`, `get_cfg_var()`. So it keeps a form
//! without credentials, and hands that back (a new thread, a virtual host's section, a restored value)
//! to be known again. DSNs that differ in nothing but their credentials are told apart by a number.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cluster_lock_core::Dsn;
use cluster_lock_core::dsn::redact;

struct Hidden {
    shown: String,
    real: String,
}

static HIDDEN: Mutex<Vec<Hidden>> = Mutex::new(Vec::new());

fn hidden() -> MutexGuard<'static, Vec<Hidden>> {
    HIDDEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The DSN that is meant: of what was shown, the real one; anything else is meant as it stands. No DSN
/// that can be used looks like one that was shown, because its password would be `***`.
pub(crate) fn reveal(text: &str) -> String {
    hidden().iter().find(|hidden| hidden.shown == text).map_or(text, |hidden| &hidden.real).to_owned()
}

/// What to show in the place of a DSN; `None`: there is nothing in it to hide.
pub(crate) fn hide(text: &str) -> Option<String> {
    let mut all = hidden();
    let known = |hidden: &&Hidden| hidden.real == text || hidden.shown == text;
    if let Some(known) = all.iter().find(known) {
        return Some(known.shown.clone());
    }
    // In what is no DSN anything may be a password.
    if Dsn::parse(text).is_ok_and(|dsn| !dsn.is_secret()) {
        return None;
    }
    let redacted = redact(text);
    let numbered = (2..).map(|number| format!("{redacted}#{number}"));
    let free = |shown: &String| all.iter().all(|hidden| hidden.shown != *shown);
    let shown = std::iter::once(redacted.clone()).chain(numbered).find(free)?;
    all.push(Hidden { shown: shown.clone(), real: text.to_owned() });
    Some(shown)
}
