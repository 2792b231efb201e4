//! What was sent and not answered: it may have been carried out, or be carried out yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::store::Token;
use crate::thread::lock;
use crate::wire::Pool;

/// So many tokens are remembered, and then none: nobody asks again after so many.
const TOKENS: usize = 1000;

/// A request of a token.
pub(super) enum Sent {
    /// An acquire.
    Acquire,
    /// The first release, and where it was sent.
    Release(Arc<Pool>),
}

/// The last words of tokens, as far as they matter when the token is presented again.
#[derive(Default)]
pub(super) struct Unanswered(Mutex<HashMap<Vec<u8>, Sent>>);

impl Unanswered {
    pub(super) fn remember(&self, token: &[u8], sent: Sent) {
        let mut tokens = lock(&self.0);
        if tokens.len() >= TOKENS {
            tokens.clear();
        }
        match tokens.get_mut(token) {
            None => drop(tokens.insert(token.to_vec(), sent)),
            Some(before @ Sent::Acquire) => *before = sent,
            Some(Sent::Release(_)) => {}
        }
    }

    /// There is an answer now; what was there before?
    pub(super) fn settle(&self, token: &Token) -> Option<Sent> {
        lock(&self.0).remove(token.as_bytes())
    }

    pub(super) fn contains(&self, token: &Token) -> bool {
        lock(&self.0).contains_key(token.as_bytes())
    }
}
