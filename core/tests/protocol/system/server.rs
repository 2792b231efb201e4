//! What the server does: the product's state machine, and mailboxes.

use cluster_lock_core::clock::Instant;
use cluster_lock_core::store::machine::{Effects, GRANT_LEASE, Machine, Now, SLACK};
use cluster_lock_core::store::{Attempt, Claim, IfBusy, Reclaim};
use cluster_lock_core::{Mode, Standing};

use super::{Answer, Client, Delay, LEASE, Mail, Phase, Request, State, System};
use crate::mutant::Mutant;

/// How long a letter lies in its box that says that a run covers its reader.
const RUN_MAIL_MS: u64 = 10_000;

/// Of those who wait for a run.
fn greatest_rank(machine: &Machine) -> u64 {
    let machine = serde_json::to_value(machine).unwrap();
    let runners = machine["queue"].as_array().unwrap().iter().filter(|waiter| waiter["run"] == true);
    runners.map(|waiter| waiter["place"].as_u64().unwrap()).max().unwrap_or(0)
}

/// Whether it is held by this token, and that fencing token was given for it.
fn holds(machine: &Machine, token: &[u8], fence: u64) -> bool {
    let writer = &serde_json::to_value(machine).unwrap()["writer"];
    writer["token"].as_str().is_some_and(|holder| holder.as_bytes() == token) && writer["fence"] == fence
}

impl System {
    pub(super) fn serve(&self, s: &mut State, request: Request) -> Answer {
        let now = self.look(s);
        match request {
            Request::Attempt { token, mode, place, last, converts } => {
                let owner = self.owner(token);
                let run = self.want(owner, &s.clients[owner]).run;
                let place = self.mutant.map_or(place, |mutant| mutant.place(&s.machine, now, mode, place));
                let claim = Claim {
                    name: &self.name,
                    token: &self.tokens[usize::from(token)],
                    mode,
                    run,
                    ttl: LEASE,
                    identity: &self.identities[owner],
                    converts: if self.mutant == Some(Mutant::ConvertsUnasked) { u64::MAX } else { converts },
                    place,
                    slack: SLACK,
                    attempt: 0,
                };
                let if_busy = if last { IfBusy::GiveUp } else { IfBusy::Queue };
                let queue = self.mutant.and_then(|mutant| mutant.hidden(&mut s.machine, now));
                let hidden = self.mutant.map_or(0, |mutant| mutant.hides_run(&mut s.machine));
                let (answer, effects) = s.machine.attempt(now, &claim, if_busy);
                Mutant::shows_run(&mut s.machine, hidden);
                if let Some(queue) = queue {
                    queue.put_back(&mut s.machine);
                }
                if let Attempt::Busy { place, .. } = answer
                    && run
                    && place < s.machine.run()
                {
                    s.flaw = Some("nobody tells a waiter that a run covers it");
                }
                self.saved(s, now);
                if self.mutant != Some(Mutant::KeepsOldMail) {
                    s.mail[owner] = s.mail[owner].take().filter(|mail| mail.popped || mail.token != token);
                }
                let mut grants = self.post(s, now, effects);
                if let Attempt::Held(grant) = answer {
                    grants.push((grant.fence, token));
                }
                self.granted(s, grants);
                match answer {
                    Attempt::Held(grant) => Answer::Held { fence: grant.fence },
                    Attempt::Busy { place, .. } => {
                        self.queued(s, token, last);
                        Answer::Busy { place }
                    }
                    Attempt::Covered { fence } => Answer::Covered { run: fence },
                    Attempt::Unfinished { place } => {
                        self.queued(s, token, false);
                        Answer::Unfinished { place }
                    }
                }
            }
            Request::Renew { token, held } => {
                let reclaim = self.reclaim(token, held);
                let token = self.tokens[usize::from(token)].as_bytes();
                let (standing, effects) = s.machine.renew(now, token, LEASE, 0, reclaim.as_ref(), s.known);
                if standing == Standing::Ours {
                    self.saved(s, now);
                }
                let grants = self.post(s, now, effects);
                self.granted(s, grants);
                if standing == Standing::Ours { Answer::Ours } else { Answer::Lost }
            }
            Request::Release { token, held, run } => {
                let reclaim = self.reclaim(token, held);
                let counts =
                    run.filter(|run| holds(&s.machine, self.tokens[usize::from(token)].as_bytes(), *run));
                let token = self.tokens[usize::from(token)].as_bytes().to_vec();
                let token = self.mutant.map_or(token.clone(), |mutant| mutant.released(&s.machine, token));
                if let Some(mutant) = self.mutant {
                    mutant.complete(&mut s.machine, run);
                }
                let (standing, effects) = s.machine.release(now, &token, run, reclaim.as_ref(), s.known);
                if standing == Standing::Ours {
                    self.saved(s, now);
                }
                if run.is_some_and(|run| {
                    counts.is_none() && s.machine.run() == run && !s.complete.contains(&run)
                }) {
                    s.flaw = Some("a run counts whose holder had lost the lock");
                }
                s.complete.extend(counts.filter(|run| !s.complete.contains(run)));
                let unfinished =
                    (effects.unfinished || effects.left_over) && self.mutant != Some(Mutant::LeavesTheRest);
                let grants = self.post(s, now, effects);
                self.granted(s, grants);
                match standing {
                    _ if unfinished => Answer::Unfinished { place: 0 },
                    Standing::Ours => Answer::Ours,
                    Standing::Lost(_) => Answer::Lost,
                }
            }
        }
    }

    fn reclaim(&self, token: u8, held: Option<(Mode, u64)>) -> Option<Reclaim<'_>> {
        let (mode, fence) = held?;
        // Whether it is over the client has looked.
        let until = Instant::from_nanos(u64::MAX);
        Some(Reclaim { mode, fence, identity: &self.identities[self.owner(token)], until })
    }

    /// Puts the mail into its boxes; returns the fencing tokens, and whose they are.
    pub(super) fn post(&self, s: &mut State, now: Now, effects: Effects) -> Vec<(u64, u8)> {
        let lease_ms = u64::try_from(GRANT_LEASE.as_millis()).unwrap();
        if let Some(mutant) = self.mutant {
            mutant.change(&mut s.machine, &effects);
        }
        let mut grants = Vec::new();
        let granted = effects.mail.into_iter().map(|(token, grant)| (token, grant.fence, lease_ms));
        let covered = effects.covered.into_iter().map(|(token, run)| (token, run, 0));
        for (token, fence, lease_ms) in granted.chain(covered) {
            let covers = lease_ms == 0;
            let token = self.tokens.iter().position(|t| t.as_bytes() == token.as_bytes()).unwrap();
            let token = u8::try_from(token).unwrap();
            if covers {
                // It waits no more.
                s.clients[self.owner(token)].arrived = None;
            } else {
                grants.push((fence, token));
            }
            if self.mutant == Some(Mutant::GrantWithoutMail) {
                continue;
            }
            let owner = self.owner(token);
            let client = &s.clients[owner];
            let popped = self.waits(s, token) && matches!(client.phase, Phase::Queued { .. });
            let until_ms = now.lease_ms + if covers { RUN_MAIL_MS } else { lease_ms };
            s.mail[owner] = Some(Mail { token, fence, covers, popped, until_ms, delay: Delay::None });
        }
        grants
    }

    /// Whether a client wants something under this token, and waits for it.
    pub(super) fn waits(&self, s: &State, token: u8) -> bool {
        let owner = self.owner(token);
        let client = &s.clients[owner];
        let waits = matches!(client.phase, Phase::Asking { .. } | Phase::Queued { .. });
        waits && !client.dead && self.token(owner, client.round) == token
    }

    pub(super) fn queued(&self, s: &mut State, token: u8, last: bool) {
        let owner = self.owner(token);
        if !self.waits(s, token) {
            return;
        }
        if last {
            // Its place may still be taken up by an earlier request that is late.
            s.clients[owner].gave_up = true;
        } else if s.clients[owner].arrived.is_none() {
            s.arrivals += 1;
            s.clients[owner].arrived = Some(s.arrivals);
        }
    }

    pub(super) fn granted(&self, s: &mut State, mut grants: Vec<(u64, u8)>) {
        grants.sort_unstable();
        for (fence, token) in grants {
            let owner = self.owner(token);
            if s.clients[owner].granted == Some((token, fence)) {
                continue; // told again
            }
            // What nobody waits for may be told again that was put back.
            if fence <= s.last_fence && (!self.grace || self.waits(s, token)) {
                s.flaw = Some("a fencing token that is not greater than all before");
            }
            s.last_fence = fence.max(s.last_fence);
            s.clients[owner].granted = Some((token, fence));
            if self.want(owner, &s.clients[owner]).run && greatest_rank(&s.machine) >= fence {
                s.flaw = Some("a run does not cover all who came before it");
            }
            if !self.waits(s, token) {
                continue; // a late request
            }
            if s.clients[owner].converted && self.want(owner, &s.clients[owner]).mode == Mode::Exclusive {
                continue; // a holder that lets readers in, too
            }
            let arrived = s.clients[owner].arrived.take();
            let waits_longer = |c: &Client| match (c.arrived, arrived) {
                (Some(theirs), Some(mine)) => theirs < mine,
                (theirs, _) => theirs.is_some(),
            };
            if s.clients.iter().any(|c| c.clean && !c.gave_up && waits_longer(c)) {
                s.flaw = Some("somebody was overtaken");
            }
        }
    }
}
