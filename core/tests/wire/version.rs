//! The scripts of one version, and how that version calls them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use redis::{Connection, Value, cmd};

/// Said by every version to ask a lock's server.
pub(crate) const KEY: &str = "cluster_lock:{lock}";

pub(crate) struct Version {
    pub(crate) name: String,
    /// By step: the digest of its script, and what stands in its arguments.
    calls: HashMap<String, (String, Vec<String>)>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire")
}

/// Those whose scripts are kept: all that may be met on a server.
pub(crate) fn kept() -> Vec<String> {
    let folders = fs::read_dir(folder()).unwrap().map(Result::unwrap);
    let mut names: Vec<String> = folders
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no version is kept");
    names
}

impl Version {
    /// What this source would send.
    pub(crate) fn todays(redis: &mut Connection) -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/scripts");
        Self::read("today", &scripts, &folder().join("calls"), redis)
    }

    /// What a version has sent.
    pub(crate) fn of(name: &str, redis: &mut Connection) -> Self {
        let scripts = folder().join(name);
        Self::read(name, &scripts, &scripts.join("calls"), redis)
    }

    fn read(name: &str, scripts: &Path, calls: &Path, redis: &mut Connection) -> Self {
        let text = |file: &str| fs::read_to_string(scripts.join(file)).unwrap();
        // The oldest had no first line for all of them.
        let head = fs::read_to_string(scripts.join("head.lua")).unwrap_or_default();
        let calls = fs::read_to_string(calls).unwrap();
        let lines = calls.lines().filter(|line| !line.starts_with('#'));
        let calls = lines.map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            let (step, script) = (words.next().unwrap(), words.next().unwrap());
            let script = text(&format!("{script}.lua"));
            let script = head.clone() + &script.replace("--#include common.lua", &text("common.lua"));
            let digest: String = cmd("SCRIPT").arg("LOAD").arg(script).query(redis).unwrap();
            (step, (digest, words.collect()))
        });
        Self { name: name.to_owned(), calls: calls.collect() }
    }

    /// Whether it has runs: what one holder does for all who want it done by then.
    pub(crate) fn has_runs(&self) -> bool {
        self.knows("complete")
    }

    pub(crate) fn knows(&self, step: &str) -> bool {
        self.calls.contains_key(step)
    }

    /// Does a step as this version does it; of `said` it says what it knows.
    pub(crate) fn ask(&self, step: &str, said: &[(&str, String)], redis: &mut Connection) -> Value {
        let (digest, words) = &self.calls[step];
        let mut call = cmd("EVALSHA");
        call.arg(digest).arg(1).arg(KEY);
        for word in words {
            if let Some(literal) = word.strip_prefix('\'') {
                call.arg(literal.trim_end_matches('\''));
            } else {
                let (_, value) = said.iter().find(|(name, _)| name == word).expect(word);
                call.arg(value);
            }
        }
        call.query(redis).unwrap_or_else(|error| panic!("{}: {step}: {error}", self.name))
    }
}
