//! What a client does, as in `engine/wait.rs`.

use cluster_lock_core::Mode;
use cluster_lock_core::store::machine::GRANT_LEASE;

use super::{
    Answer, CONFIRM_NOW_MS, Call, Delay, LEASE_MS, Line, MARGIN_MS, Phase, Request, SLICE, State, System,
    TICK_MS,
};
use crate::mutant::Mutant;

impl System {
    pub(super) fn ask(&self, s: &mut State, i: usize, place: u64, deadline: Option<u8>) {
        let last = deadline.is_some_and(|deadline| deadline <= s.now);
        let round = s.clients[i].round;
        s.clients[i].phase = Phase::Asking { sent: s.now, place, deadline, last };
        let mode = self.mode(i, &s.clients[i]);
        let converts = if s.clients[i].converted { s.clients[i].fence } else { 0 };
        let token = self.token(i, round);
        s.call(i, Line::Main, Request::Attempt { token, mode, place, last, converts });
    }

    pub(super) fn ask_again(&self, s: &mut State, i: usize) {
        let Phase::Queued { place, deadline, .. } = s.clients[i].phase else { unreachable!() };
        // The connection that waited goes, with what is in it.
        s.mail[i] = s.mail[i].take().filter(|mail| !mail.popped);
        self.ask(s, i, place, deadline);
    }

    pub(super) fn reply(&self, s: &mut State, i: usize, call: &Call) {
        let now = s.now;
        let client = &mut s.clients[i];
        match (call.request, call.answer.unwrap()) {
            (Request::Attempt { .. }, Answer::Held { fence }) => {
                client.fence = fence;
                let Phase::Asking { sent, .. } = client.phase else { unreachable!() };
                let from = if self.mutant == Some(Mutant::LeaseFromReceipt) { now } else { sent };
                let end_ms = lease_end(from, LEASE_MS);
                client.phase = Phase::Holding { since: now, end_ms, due: self.renews.then_some(sent + 1) };
            }
            (Request::Attempt { .. }, Answer::Busy { place }) => {
                let Phase::Asking { sent, deadline, last, .. } = client.phase else { unreachable!() };
                if last {
                    self.next_round(s, i);
                    return;
                }
                let slice_end = deadline.map_or(now + SLICE, |deadline| deadline.min(now + SLICE));
                client.phase = Phase::Queued { sent, place, deadline, slice_end };
                let token = self.token(i, client.round);
                if let Some(mail) = s.mail[i].as_mut().filter(|mail| mail.token == token) {
                    mail.popped = true;
                }
            }
            (Request::Attempt { .. }, Answer::Covered { run }) => self.covered(s, i, run),
            (Request::Attempt { .. }, Answer::Unfinished { place }) => {
                let Phase::Asking { deadline, .. } = client.phase else { unreachable!() };
                self.ask(s, i, place, deadline);
            }
            (Request::Release { token, .. }, Answer::Unfinished { .. }) => {
                s.call(i, Line::Main, Request::Release { token, held: None, run: None });
            }
            (Request::Renew { .. }, answer) => {
                let Phase::Holding { end_ms, due, .. } = &mut client.phase else { unreachable!() };
                // By its own word alone, perhaps.
                let counts = !self.grace || u64::from(now) * TICK_MS < *end_ms;
                if answer == Answer::Ours && counts {
                    *end_ms = lease_end(call.sent, LEASE_MS);
                    *due = Some(call.sent + 1);
                } else {
                    // It knows now, and has nothing to release.
                    self.next_round(s, i);
                }
            }
            (Request::Release { .. }, _) => self.next_round(s, i),
            (Request::Attempt { .. }, answer) => unreachable!("{answer:?}"),
        }
    }

    /// The connection broke: once more, or an error.
    pub(super) fn broken(&self, s: &mut State, i: usize, line: Line, call: &Call) {
        if call.tries == 1 {
            *s.line(i, line) = Some(Call { tries: 2, answer: None, delay: Delay::None, ..call.clone() });
            return;
        }
        let now = s.now;
        let token = self.token(i, s.clients[i].round);
        match call.request {
            Request::Attempt { .. } => {
                // The server may know us as a waiter, or even as the holder.
                s.clients[i].phase = Phase::Releasing;
                s.clients[i].arrived = None;
                s.call(i, Line::Main, Request::Release { token, held: None, run: None });
            }
            Request::Renew { .. } => {
                if let Phase::Holding { due, .. } = &mut s.clients[i].phase {
                    *due = Some(now + 1);
                }
            }
            Request::Release { .. } => self.next_round(s, i),
        }
    }

    pub(super) fn read_mail(&self, s: &mut State, i: usize) {
        let mail = s.mail[i].take().unwrap();
        if mail.covers {
            return self.covered(s, i, mail.fence);
        }
        let (now, now_ms) = (s.now, s.now_ms());
        let Phase::Queued { sent, .. } = s.clients[i].phase else { unreachable!() };
        let from = if self.mutant == Some(Mutant::LeaseFromReceipt) { now } else { sent };
        let grant_ms = u64::try_from(GRANT_LEASE.as_millis()).unwrap();
        let left = (u64::from(from) * TICK_MS + grant_ms).saturating_sub(now_ms);
        if self.renews && left > CONFIRM_NOW_MS {
            let end_ms = lease_end(from, grant_ms);
            s.clients[i].fence = mail.fence;
            s.clients[i].phase = Phase::Holding { since: now, end_ms, due: Some(now) };
        } else {
            self.ask_again(s, i);
        }
    }

    /// What it says of its lock to a server without its memory, unless the lease is over.
    fn held(&self, s: &State, i: usize) -> Option<(Mode, u64)> {
        let client = &s.clients[i];
        (self.grace && s.believes(client)).then(|| (self.mode(i, client), client.fence))
    }

    pub(super) fn renew(&self, s: &mut State, i: usize) {
        let now_ms = s.now_ms();
        let (token, held) = (self.token(i, s.clients[i].round), self.held(s, i));
        let Phase::Holding { end_ms, due, .. } = &mut s.clients[i].phase else { unreachable!() };
        if *end_ms <= now_ms {
            *due = None;
        } else {
            s.call(i, Line::Renewal, Request::Renew { token, held });
        }
    }

    pub(super) fn release(&self, s: &mut State, i: usize, complete: bool) {
        let (client, held) = (&s.clients[i], self.held(s, i));
        let token = self.token(i, client.round);
        let complete = complete && self.want(i, client).run && s.believes(client);
        let run = complete.then_some(client.fence);
        s.clients[i].phase = Phase::Releasing;
        s.abandon_renewal(i);
        s.call(i, Line::Main, Request::Release { token, held, run });
    }

    fn covered(&self, s: &mut State, i: usize, run: u64) {
        if run <= s.clients[i].called {
            s.flaw = Some("covered by a run that began before the call");
        }
        self.next_round(s, i);
    }

    pub(super) fn next_round(&self, s: &mut State, i: usize) {
        s.abandon_renewal(i);
        let rounds = self.wants[i].len();
        let client = &mut s.clients[i];
        client.round += 1;
        (client.converted, client.fence, client.called) = (false, 0, 0);
        (client.arrived, client.gave_up, client.excused) = (None, false, false);
        if usize::from(client.round) == rounds {
            client.round -= 1;
            client.phase = Phase::Finished;
        } else {
            client.phase = Phase::Idle;
        }
    }
}

/// When a lease that began at `sent` is over for its holder.
fn lease_end(sent: u8, lease_ms: u64) -> u64 {
    u64::from(sent) * TICK_MS + lease_ms - lease_ms / 100 - MARGIN_MS
}
