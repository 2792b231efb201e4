//! Wrong rules, which the checker must find.

use cluster_lock_core::Mode;
use cluster_lock_core::store::machine::{Effects, Machine};
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A release frees the lock whoever holds it.
    ReleaseWithoutToken,
    /// The next one is let in, and nobody tells it.
    GrantWithoutMail,
    /// Mail from before an attempt stays in the mailbox.
    KeepsOldMail,
    /// A lease counts from the reply.
    LeaseFromReceipt,
    /// A waiter that was handed the lock has it for ever.
    EndlessGrant,
    /// A holder's token with the other mode always converts.
    ConvertsUnasked,
    /// Readers are let in before a writer that waits.
    ReadersFirst,
}

impl Mutant {
    pub(crate) fn place(self, mode: Mode, place: u64) -> u64 {
        if self == Self::ReadersFirst && mode == Mode::Shared { 1 } else { place }
    }

    pub(crate) fn released(self, machine: &Machine, token: Vec<u8>) -> Vec<u8> {
        let machine = serde_json::to_value(machine).unwrap();
        match &machine["writer"]["token"] {
            Value::String(holder) if self == Self::ReleaseWithoutToken => holder.clone().into_bytes(),
            _ => token,
        }
    }

    pub(crate) fn change(self, machine: &mut Machine, effects: &Effects) {
        if self != Self::EndlessGrant || effects.mail.is_empty() {
            return;
        }
        let mut changed = serde_json::to_value(&*machine).unwrap();
        if let Some(expiry) = changed["writer"].get_mut("expiry_ms") {
            *expiry = u64::MAX.into();
        }
        *machine = serde_json::from_value(changed).unwrap();
    }
}
