//! The engines of a process, one for each configuration, and what a fork does to them.
//!
//! Most processes have one. A process that serves virtual hosts with configurations of their own has
//! one for each of them, so that none uses the server, the user or the prefix of another.
//!
//! An engine that has been shut down stays in the list, unused: a process in which PHP starts a second time (an embedding
//! program's, a reload of `FrankenPHP`) makes new ones.
//!
//! Engines are leaked on purpose: a `&'static` survives a fork that must not close its parent's
//! sockets, and the renewal thread may hold it while the process ends.

use once_cell::sync::OnceCell;

use crate::engine::Engine;
use crate::error::Result;
use crate::settings::Config;

/// The engines made by this process and by those it was forked from, oldest first. Append-only
/// and lock-free to read, so that a child finds it usable whatever its parent's threads did at
/// the moment of the fork.
static FIRST: OnceCell<Box<Link>> = OnceCell::new();

struct Link {
    config: Config,
    engine: Engine,
    next: OnceCell<Box<Link>>,
}

impl Link {
    /// Made by this process (not its parent), since it was last shut down.
    fn is_usable(&self) -> bool {
        self.engine.is_own() && !self.engine.has_ended()
    }
}

/// The engines that this process can use.
fn own() -> impl Iterator<Item = &'static Link> {
    let links = std::iter::successors(FIRST.get(), |link| link.next.get());
    links.map(Box::as_ref).filter(|link| link.is_usable())
}

/// The engine of this process for a configuration, made at the first call. A forked child makes new
/// ones and leaves its parent's alone.
///
/// # Errors
/// What [`Engine::new`] says; the next call tries again.
pub fn engine(config: &Config) -> Result<&'static Engine> {
    if let Some(engine) = existing(config) {
        return Ok(engine);
    }
    let engine = Engine::new(config)?;
    let mut new = Box::new(Link { config: config.clone(), engine, next: OnceCell::new() });
    let mut end: &'static OnceCell<Box<Link>> = &FIRST;
    loop {
        match end.try_insert(new) {
            Ok(link) => return Ok(&link.engine),
            // Another thread's, perhaps for the same configuration.
            Err((link, _)) if link.is_usable() && link.config == *config => return Ok(&link.engine),
            Err((link, mine)) => (end, new) = (&link.next, mine),
        }
    }
}

/// The engine for a configuration, if this process (not its parent) has made one.
pub fn existing(config: &Config) -> Option<&'static Engine> {
    own().find(|link| link.config == *config).map(|link| &link.engine)
}

/// Ends all that this process has made. It is about to end, or to start anew.
pub fn shutdown() {
    own().for_each(|link| link.engine.shutdown());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dsn::Dsn;

    #[test]
    fn a_configuration_has_one_engine_and_another_has_another() {
        let config = |dsn: &str| Config::new(Dsn::parse(dsn).unwrap());
        let first = config("redis://u:one@127.0.0.1");
        // The same server and user, as far as any message tells.
        let second = config("redis://u:two@127.0.0.1");
        let third = Config { prefix: "other:".into(), ..first.clone() };
        assert!(existing(&first).is_none());
        let engines = [&first, &second, &third].map(|config| engine(config).unwrap());
        for (config, made) in [&first, &second, &third].into_iter().zip(engines) {
            assert!(std::ptr::eq(engine(config).unwrap(), made));
            assert!(std::ptr::eq(existing(config).unwrap(), made));
        }
        for (a, b) in [(0, 1), (1, 2), (0, 2)] {
            assert!(!std::ptr::eq(engines[a], engines[b]));
        }
    }

    #[test]
    fn threads_that_ask_at_once_get_the_same_engine() {
        let config = Config { prefix: "threads:".into(), ..Config::new(Dsn::Local(None)) };
        let (config, barrier) = (&config, &std::sync::Barrier::new(8));
        let ask = || {
            barrier.wait();
            std::ptr::from_ref(engine(config).unwrap()) as usize
        };
        let engines: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(engines.iter().all(|engine| *engine == engines[0]), "{engines:?}");
    }
}
