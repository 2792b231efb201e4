//! The Lua scripts, and the commands that run them.

use std::borrow::Cow;
use std::sync::Arc;

use once_cell::sync::Lazy;
use redis::Value;

use super::grace::Grace;
use crate::clock::millis;
use crate::key::{LockName, encode_into};
use crate::report::Mode;
use crate::store::machine::SLACK;
use crate::store::{Claim, IfBusy, Token};
use crate::wire::{Connection, Fault};

/// How long an idle name remembers its last fencing token: `RETAIN` of `common.lua`.
const RETAIN_MS: u64 = 60_000;

/// A Lua script.
pub(crate) struct Script {
    plain: Text,
    /// For a cluster: behind `guard.lua`.
    guarded: Text,
}

/// What is sent of a script, and the digest by which a server knows it.
struct Text {
    lua: String,
    sha1: String,
    /// A number with one bit set, of its own.
    bit: u32,
}

impl Script {
    fn new(text: &str, bit: u32) -> Self {
        let text = text.replace("--#include common.lua", include_str!("../scripts/common.lua"));
        #[cfg(feature = "sabotage")]
        let text = super::sabotage::spoil(text);
        let guard = include_str!("../scripts/guard.lua");
        Self {
            plain: Text::new([HEAD, &text].concat(), bit),
            guarded: Text::new([HEAD, guard, &text].concat(), bit),
        }
    }
}

impl Text {
    fn new(lua: String, bit: u32) -> Self {
        let sha1 = sha1_smol::Sha1::from(&lua).digest().to_string();
        Self { lua, sha1, bit }
    }
}

/// The first line of every script: a comment to all servers but Dragonfly, which lets no script use keys that it makes
/// up unless this is said there.
const HEAD: &str = include_str!("../scripts/head.lua");

const BREAK_BIT: u32 = 8;

/// So many words come before the second key, or the arguments.
const LOCK_ALONE: usize = 4;

macro_rules! script {
    ($name:ident, $file:literal, $bit:expr) => {
        pub(crate) static $name: Lazy<Script> = Lazy::new(|| Script::new(include_str!($file), $bit));
    };
}
script!(ACQUIRE, "../scripts/acquire.lua", 1);
script!(RELEASE, "../scripts/release.lua", 2);
script!(RENEW, "../scripts/renew.lua", 4);
script!(BREAK, "../scripts/break.lua", BREAK_BIT);
script!(INSPECT, "../scripts/inspect.lua", 16);

/// The keys of one lock, all in one hash slot.
pub(crate) struct Keys {
    /// Its record: `PREFIX{NAME}`. The scripts make the others from it.
    pub(crate) lock: String,
    /// The slot may be moved to another server.
    movable: bool,
    grace: Option<Arc<Grace>>,
}

impl Keys {
    /// `movable`: the slot may be moved to another server.
    pub(crate) fn new(prefix: &str, name: &LockName, movable: bool, grace: Option<&Arc<Grace>>) -> Self {
        let mut lock = String::with_capacity(prefix.len() + name.as_bytes().len() + 8);
        lock.push_str(prefix);
        lock.push('{');
        encode_into(&mut lock, name.as_bytes());
        lock.push('}');
        Self { lock, movable, grace: grace.cloned() }
    }

    /// The list in which a waiter sleeps.
    pub(crate) fn mailbox(&self, token: &Token) -> Vec<u8> {
        let mut key = self.lock.clone().into_bytes();
        key.extend_from_slice(b":m:");
        key.extend_from_slice(token.as_bytes());
        key
    }
}

/// A script with what it is run on. Made on the stack for each command.
#[derive(Clone)]
pub(crate) struct Call<'a> {
    /// `None`: a plain command.
    script: Option<&'a Text>,
    /// `EVALSHA digest number-of-keys key… argument…`
    words: Vec<&'a [u8]>,
    /// It has no argument of its own.
    alone: bool,
}

impl<'a> Call<'a> {
    /// On one lock.
    pub(crate) fn new(script: &'a Script, keys: &'a Keys, arguments: &[&'a [u8]]) -> Self {
        let script = if keys.movable { &script.guarded } else { &script.plain };
        let mut words = Vec::with_capacity(LOCK_ALONE + 2 + arguments.len());
        words.extend([b"EVALSHA", script.sha1.as_bytes(), b"1", keys.lock.as_bytes()]);
        words.extend(arguments);
        let alone = arguments.is_empty();
        if let (Some(grace), Some(number)) = (&keys.grace, words.get_mut(2)) {
            *number = b"2";
            words.insert(LOCK_ALONE, grace.born.as_bytes());
            words.push(grace.millis.as_bytes());
        }
        Self { script: Some(script), words, alone }
    }

    /// A command that is no script.
    pub(crate) fn plain(words: &[&'a [u8]]) -> Self {
        Self { script: None, words: words.to_vec(), alone: false }
    }

    /// The bit of its script; 0 for a plain command.
    pub(crate) fn bit(&self) -> u32 {
        self.script.map_or(0, |script| script.bit)
    }

    /// Whether a second run, by the same caller, does what the first one did. A second break that means
    /// nobody in particular would take the lock from whoever was let in by the first.
    pub(crate) fn is_idempotent(&self) -> bool {
        !self.is_break() || !self.alone
    }

    pub(crate) fn is_break(&self) -> bool {
        self.bit() == BREAK_BIT
    }

    /// The command's words.
    pub(crate) fn words(&self) -> &[&'a [u8]] {
        &self.words
    }

    /// The server does not know the digest: from now on send the text.
    pub(crate) fn spell_out(&mut self) {
        if let ([verb, text, ..], Some(script)) = (self.words.as_mut_slice(), self.script) {
            (*verb, *text) = (b"EVAL", script.lua.as_bytes());
        }
    }

    /// Runs it: by digest, and by text when the server does not know the digest.
    pub(crate) fn run(&mut self, connection: &mut Connection) -> Result<Value, Fault> {
        match connection.call(self.words()) {
            Err(fault) if fault.is("NOSCRIPT") => {
                self.spell_out();
                connection.call(self.words())
            }
            Ok(value) => {
                connection.ran(self.bit());
                Ok(value)
            }
            refused => refused,
        }
    }
}

/// The arguments of `acquire.lua`, for as long as `then` runs. A quorum wants a certain fencing token, and puts the attempt's
/// number before the identity.
pub(crate) fn with_acquire<T>(
    claim: &Claim<'_>,
    if_busy: IfBusy,
    fence: Option<u64>,
    then: impl FnOnce(&[&[u8]]) -> T,
) -> T {
    let (mut ttl, mut keep, mut place) = (itoa::Buffer::new(), itoa::Buffer::new(), itoa::Buffer::new());
    let (mut slack, mut converts, mut wanted) =
        (itoa::Buffer::new(), itoa::Buffer::new(), itoa::Buffer::new());
    let lease = millis(claim.ttl);
    let numbered = match claim.attempt {
        0 => Cow::Borrowed(claim.identity),
        attempt => Cow::Owned([attempt.to_string().as_bytes(), b" ", claim.identity].concat()),
    };
    let arguments: [&[u8]; 10] = [
        claim.token.as_bytes(),
        match claim.mode {
            Mode::Exclusive if claim.run => b"O",
            Mode::Exclusive => b"X",
            Mode::Shared => b"S",
        },
        ttl.format(lease).as_bytes(),
        match if_busy {
            IfBusy::Queue => b"Q",
            IfBusy::GiveUp => b"G",
            IfBusy::Yield => b"Y",
        },
        place.format(claim.place).as_bytes(),
        &numbered,
        keep.format(lease + RETAIN_MS).as_bytes(),
        slack.format(millis(claim.slack)).as_bytes(),
        converts.format(claim.converts).as_bytes(),
        wanted.format(fence.unwrap_or(0)).as_bytes(),
    ];
    let [converting @ .., _] = &arguments;
    let [far @ .., _] = converting;
    let [usual @ .., _] = far;
    then(match (fence, claim.converts) {
        _ if claim.attempt > 0 => &arguments,
        (Some(_), _) => &arguments,
        (None, 0) if claim.slack == SLACK => usual,
        (None, 0) => far,
        (None, _) => converting,
    })
}

/// The arguments of `release.lua` at the end of a run that is complete, for as long as `then` runs.
pub(crate) fn with_end_of_run<T>(token: &Token, fence: u64, then: impl FnOnce(&[&[u8]]) -> T) -> T {
    then(&[token.as_bytes(), b"O", itoa::Buffer::new().format(fence).as_bytes()])
}

/// The arguments of `break.lua`, for as long as `then` runs.
pub(crate) fn with_break<T>(meant: Option<u64>, then: impl FnOnce(&[&[u8]]) -> T) -> T {
    let mut fence = itoa::Buffer::new();
    match meant {
        Some(meant) => then(&[fence.format(meant).as_bytes()]),
        None => then(&[]),
    }
}
