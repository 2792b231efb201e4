//! php.ini's `cluster_lock.*`: checked when they are set, kept as what they mean.
//!
//! Kept for each thread, because PHP's ini entries are: with ZTS every thread is told every value.

use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster_lock_core::dsn::redact;
use cluster_lock_core::settings::Values;
use cluster_lock_core::{Config, Dsn, Engine, Error, registry};

use crate::reply::{Reply, Trouble};
use crate::{hidden_dsn, words};

/// The settings of this thread.
pub(crate) struct Settings {
    pub(crate) values: Values,
    /// As they were written, for the status.
    pub(crate) intercept_text: String,
    pub(crate) exclude_text: String,
    dsn: Result<Dsn, Error>,
    dsn_redacted: String,
    /// What PHP may keep as the DSN's value, when that is not what was set.
    dsn_shown: Option<String>,
    /// What is configured for this request, and cannot be.
    refused: Vec<Refused>,
    /// The engine for all this, once it was asked for.
    engine: Option<&'static Engine>,
}

impl Settings {
    fn new() -> Self {
        Self {
            values: Values::default(),
            intercept_text: String::new(),
            exclude_text: String::new(),
            dsn: Err(Error::Config("cluster_lock.dsn has not been set".into())),
            dsn_redacted: String::new(),
            dsn_shown: None,
            refused: Vec::new(),
            engine: None,
        }
    }

    /// The configuration of the engine.
    pub(crate) fn config(&self) -> Result<Config, Error> {
        Ok(self.values.config(self.dsn.clone()?))
    }

    /// The kind of backend, and the DSN without credentials.
    pub(crate) fn backend(&self) -> (&'static str, &str) {
        let kind = self.dsn.as_ref().map_or("none", Dsn::backend);
        (kind, &self.dsn_redacted)
    }

    fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        self.values.set(name, text)?;
        match name {
            "intercept" => self.intercept_text = text.into(),
            "intercept_exclude" => self.exclude_text = text.into(),
            _ => {}
        }
        Ok(())
    }

    /// A bad DSN is kept, too: the extension loads, and every call says what is wrong.
    fn set_dsn(&mut self, text: &str) -> Option<String> {
        let real = hidden_dsn::reveal(text);
        self.dsn = Dsn::parse(&real);
        self.dsn_redacted = redact(&real);
        self.dsn_shown = hidden_dsn::hide(&real);
        self.dsn.as_ref().err().map(ToString::to_string)
    }
}

/// The engine of this process for these settings.
///
/// # Errors
/// The settings are not usable.
pub(crate) fn engine() -> Result<&'static Engine, Error> {
    SETTINGS.with_borrow_mut(|settings| {
        if let Some(engine) = settings.engine.filter(|engine| engine.is_own()) {
            return Ok(engine);
        }
        let engine = registry::engine(&settings.config()?)?;
        settings.engine = Some(engine);
        Ok(engine)
    })
}

/// The engine for the present settings, if it has been made.
pub(crate) fn existing_engine() -> Option<&'static Engine> {
    with(Settings::config).ok().as_ref().and_then(registry::existing)
}

/// The lease, where a call does not say it.
pub(crate) fn ttl() -> Duration {
    with(|settings| settings.values.ttl)
}

thread_local! {
    static SETTINGS: RefCell<Settings> = RefCell::new(Settings::new());
}

/// The settings, to read.
pub(crate) fn with<T>(read: impl FnOnce(&Settings) -> T) -> T {
    SETTINGS.with_borrow(read)
}

/// Who sets an entry (`CLK_BY_…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// `ini_set()`, or PHP that takes it back: whoever does it is told, and nothing is to be mended elsewhere.
    Code,
    /// What is configured for this request: `.user.ini`, Apache's virtual host, a parameter of the web server.
    Request,
    /// php.ini, when PHP starts, which tells it where that is seen.
    Start,
    /// php-fpm's pool, before the first request of a process: what is said then is heard by nobody.
    Pool,
}

/// A setting that stands somewhere with a value that it cannot have.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) setting: String,
    /// Cut, and without credentials.
    pub(crate) value: String,
    pub(crate) message: String,
    /// It is to be logged with the next request.
    unheard: bool,
}

/// Of the process. Not of a thread, which PHP gives only those values that were accepted.
static REFUSED: Mutex<Vec<Refused>> = Mutex::new(Vec::new());

fn of_process() -> MutexGuard<'static, Vec<Refused>> {
    REFUSED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The module starts, perhaps not for the first time in this process.
pub(crate) fn begin() {
    of_process().clear();
}

/// What is refused, for the process and for this request.
pub(crate) fn refused() -> Vec<Refused> {
    let mut all = of_process().clone();
    with(|settings| all.extend(settings.refused.iter().cloned()));
    all
}

/// The next message that nobody has heard.
pub(crate) fn unheard() -> Option<String> {
    let mut refused = of_process();
    let next = refused.iter_mut().find(|one| one.unheard)?;
    next.unheard = false;
    Some(next.message.clone())
}

/// The request ends, and what is configured for it.
pub(crate) fn request_gone() {
    SETTINGS.with_borrow_mut(|settings| settings.refused.clear());
}

/// PHP sets an entry.
pub(crate) fn update(name: &[u8], value: &[u8], by: By) -> Reply {
    let name = String::from_utf8_lossy(name);
    let value = String::from_utf8_lossy(value);
    let short = name.strip_prefix("cluster_lock.").unwrap_or(&name);
    SETTINGS.with_borrow_mut(|settings| {
        settings.engine = None;
        let (outcome, shown, reply) = if short == "dsn" {
            let trouble = settings.set_dsn(&value);
            let reply = Reply { trouble: trouble.clone().map(Trouble::Warning), ..true.into() };
            (trouble, settings.dsn_redacted.clone(), reply)
        } else {
            let shown: String = value.chars().take(200).flat_map(char::escape_debug).collect();
            let refused = settings.set(short, value.trim()).err();
            let message = refused.map(|allowed| words::refused(&name, &shown, &allowed));
            let reply = message.clone().map_or_else(|| true.into(), Reply::failed);
            (message, shown, reply)
        };
        let refused = outcome.map(|message| Refused {
            setting: name.clone().into_owned(),
            value: shown,
            message,
            unheard: by == By::Pool,
        });
        match by {
            By::Code => {}
            By::Request => remember(&mut settings.refused, &name, refused),
            // After a value that was refused, PHP sets the default.
            By::Start if refused.is_none() => {}
            By::Start | By::Pool => remember(&mut of_process(), &name, refused),
        }
        reply
    })
}

/// One of each setting at most; none of one that has been set right.
fn remember(list: &mut Vec<Refused>, name: &str, refused: Option<Refused>) {
    list.retain(|other| other.setting != name);
    list.extend(refused);
}

/// What PHP is to keep as the DSN instead of what was set; `None`: that may stay.
pub(crate) fn dsn_shown<T>(read: impl FnOnce(Option<&str>) -> T) -> T {
    SETTINGS.with_borrow(|settings| read(settings.dsn_shown.as_deref()))
}
