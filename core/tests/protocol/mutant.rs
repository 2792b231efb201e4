//! Wrong rules, which the checker must find.

use cluster_lock_core::Mode;
use cluster_lock_core::store::machine::{Effects, Machine, Now};
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
    /// Whoever releases does not go on with what the step has left.
    LeavesTheRest,
    /// A lock that nobody holds is taken by whoever comes, also where a step has left work.
    TakesUnfinished,
    /// A server that has lost its data lets in whoever comes.
    NoGrace,
    /// What was put back and has left again leaves a lock that is known to be free.
    LeftIsFree,
    /// A server of a quorum takes every attempt for a new one.
    LateQuestions,
    /// A claim that was let in by mail does not say which attempt was its newest.
    ConfirmsNoAttempt,
    /// A run covers whoever waits when it is complete.
    CoversEverybody,
    /// Ranks do not go beyond the fencing tokens that were given out.
    RankBelowFence,
    /// A run counts whoever holds the lock.
    FormerHolderCompletes,
    /// Who asks again is not told that a run covers it.
    BlindToRuns,
    /// On a quorum a claim's rank is the greatest that a server gave it, whatever the fencing tokens of those that let it in.
    RankOfTheBusy,
    /// A server of a quorum confirms a fencing token although it has given the claim a greater one.
    ConfirmsLess,
}

/// A queue that is not looked at.
pub(crate) struct Hidden(Value);

impl Hidden {
    pub(crate) fn put_back(self, machine: &mut Machine) {
        let mut changed = serde_json::to_value(&*machine).unwrap();
        changed["queue"] = self.0;
        *machine = serde_json::from_value(changed).unwrap();
    }
}

impl Mutant {
    pub(crate) fn place(self, machine: &Machine, now: Now, mode: Mode, place: u64) -> u64 {
        match self {
            Self::ReadersFirst if mode == Mode::Shared => 1,
            Self::RankBelowFence if place == 0 => {
                let machine = serde_json::to_value(machine).unwrap();
                let last = machine["queue"].as_array().unwrap().last();
                now.unix_us.max(last.map_or(0, |waiter| waiter["place"].as_u64().unwrap()) + 1)
            }
            _ => place,
        }
    }

    /// Before a run's end is looked at.
    pub(crate) fn complete(self, machine: &mut Machine, run: Option<u64>) {
        let Some(run) = run else { return };
        let mut changed = serde_json::to_value(&*machine).unwrap();
        match self {
            Self::CoversEverybody => {
                for (place, waiter) in (1..).zip(changed["queue"].as_array_mut().unwrap()) {
                    waiter["place"] = place.into();
                }
            }
            Self::FormerHolderCompletes => changed["run"] = run.into(),
            _ => return,
        }
        *machine = serde_json::from_value(changed).unwrap();
    }

    /// The newest run, hidden while somebody asks.
    pub(crate) fn hides_run(self, machine: &mut Machine) -> u64 {
        let run = machine.run();
        if self != Self::BlindToRuns || run == 0 {
            return 0;
        }
        let mut changed = serde_json::to_value(&*machine).unwrap();
        changed["run"] = 0.into();
        *machine = serde_json::from_value(changed).unwrap();
        run
    }

    pub(crate) fn shows_run(machine: &mut Machine, run: u64) {
        if run > 0 {
            let mut changed = serde_json::to_value(&*machine).unwrap();
            changed["run"] = run.into();
            *machine = serde_json::from_value(changed).unwrap();
        }
    }

    pub(crate) fn hidden(self, machine: &mut Machine, now: Now) -> Option<Hidden> {
        let mut changed = serde_json::to_value(&*machine).unwrap();
        let held = changed["writer"]["expiry_ms"].as_u64().is_some_and(|end| end > now.lease_ms);
        if self != Self::TakesUnfinished
            || held
            || changed["readers"].as_object().is_some_and(|r| !r.is_empty())
        {
            return None;
        }
        let queue = std::mem::replace(&mut changed["queue"], Value::Array(Vec::new()));
        *machine = serde_json::from_value(changed).unwrap();
        Some(Hidden(queue))
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
