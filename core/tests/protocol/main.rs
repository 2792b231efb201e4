//! The protocol between clients and server, checked exhaustively: every order of steps, with a bounded
//! number of faults. The server is the state machine of the product.
//!
//! `PROTOCOL_FAULTS=3 cargo test --release --test protocol -- --ignored --nocapture` looks further.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::struct_excessive_bools,
    missing_docs
)]

mod mutant;
mod quorum;
mod runs;
mod system;

use std::fmt::Debug;
use std::hash::Hash;

use cluster_lock_core::Mode;
use mutant::Mutant;
use quorum::Quorum;
use runs::{Action as Act, Runs};
use stateright::{Checker, HasDiscoveries, Model, Property};
use system::{Action, Fault, State, System, Want};

const EXCLUSION: &str = "mutual exclusion";
const END: &str = "a history comes to its end";
const RULES: &str = "fenced, fair, woken, soon of use again";

impl Model for System {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.initial()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        System::actions(self, state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        self.step(&mut next, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(EXCLUSION, |m: &Self, s: &State| m.excludes(s)),
            // Fencing tokens grow in the order of the grants; nobody who waits and is heard of is overtaken;
            // no waiter sleeps through its turn; no fault keeps the lock from everybody for more than a
            // lease and a second.
            Property::always(RULES, |_: &Self, s: &State| s.flaw.is_none()),
            Property::always("clean at the end", |m: &Self, s: &State| {
                s.faults_left < m.faults || !s.all_finished() || s.is_clean()
            }),
            Property::eventually("everybody is served", |_: &Self, s: &State| s.all_finished()),
            Property::sometimes(END, |_: &Self, s: &State| s.all_finished()),
        ]
    }
}

/// Checks it all, up to the first flaw that ends the search; returns that.
fn check<M>(system: M, ends: HasDiscoveries, flaw: fn(&M::State) -> Option<&'static str>) -> Option<String>
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let began = std::time::Instant::now();
    let checker = system.checker().finish_when(ends).threads(2).spawn_dfs().join();
    println!(
        "{name}: {} states, {} of them unique, depth {}, {:.1} s",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64()
    );
    let mut found = checker.discoveries();
    assert!(found.remove(END).is_some(), "no history comes to its end");
    let first = found.remove(EXCLUSION).map(|path| (EXCLUSION, path)).or_else(|| found.into_iter().next());
    first.map(|(property, path)| {
        let last = path.last_state().clone();
        let actions: Vec<String> = path.into_actions().iter().map(|a| format!("{a:?}")).collect();
        format!("{property}: {:?} after {}\n{last:?}", flaw(&last), actions.join(", "))
    })
}

fn holds(system: System) {
    if let Some(flaw) = check(system, HasDiscoveries::AnyFailures, |s| s.flaw) {
        panic!("{flaw}");
    }
}

const X: Want = Want { mode: Mode::Exclusive, then: None, run: false };
const S: Want = Want { mode: Mode::Shared, then: None, run: false };
const UP: Want = Want { mode: Mode::Shared, then: Some(Mode::Exclusive), run: false };
const DOWN: Want = Want { mode: Mode::Exclusive, then: Some(Mode::Shared), run: false };
const RUN: Want = Want { mode: Mode::Exclusive, then: None, run: true };

/// How many faults a history has at most: more take longer.
fn faults(at_least: u8) -> u8 {
    std::env::var("PROTOCOL_FAULTS").map_or(at_least, |n| n.parse::<u8>().unwrap().max(at_least))
}

#[test]
fn two_writers_with_two_faults() {
    holds(System::new(&[&[X], &[X]], faults(2)));
}

#[test]
fn two_writers_come_again() {
    holds(System::new(&[&[X, X], &[X]], faults(1)));
}

#[test]
fn a_writer_and_two_readers() {
    let system = System::new(&[&[X], &[S], &[S]], faults(1));
    holds(System { kinds: &[Fault::Process], ..system });
}

#[test]
fn three_writers_one_of_which_gives_up() {
    let system = System::new(&[&[X], &[X], &[X]], faults(1));
    holds(System { timeouts: vec![None, None, Some(1)], kinds: &[Fault::Process], ..system });
}

#[test]
fn leases_that_are_not_renewed() {
    holds(System { renews: false, longest_hold: 4, ..System::new(&[&[X], &[X]], faults(2)) });
}

#[test]
fn an_administrator_and_a_server_that_loses_everything() {
    let system = System::new(&[&[X, X], &[X]], faults(2));
    holds(System { kinds: &[Fault::Server], ..system });
}

#[test]
fn readers_that_become_writers() {
    holds(System::new(&[&[UP], &[UP]], faults(1)));
}

#[test]
fn a_writer_that_becomes_a_reader() {
    holds(System::new(&[&[DOWN], &[X]], faults(1)));
    holds(System::new(&[&[DOWN], &[S]], faults(1)));
}

/// Each step does as little as it can.
fn in_small_steps(system: System) -> System {
    System { work: 1, kinds: &[Fault::Process], ..system }
}

#[test]
fn steps_that_leave_work() {
    holds(in_small_steps(System::new(&[&[X], &[X], &[X]], faults(1))));
    let system = in_small_steps(System::new(&[&[X], &[X]], faults(2)));
    holds(System { timeouts: vec![None, Some(1)], ..system });
}

#[test]
fn readers_that_are_let_in_one_by_one() {
    holds(in_small_steps(System::new(&[&[X], &[S], &[S]], faults(1))));
}

/// A lock is held for a moment: whoever waits has to be told all the same, and there are fewer orders of steps.
fn short(system: System) -> System {
    System { longest_hold: 1, ..system }
}

/// Whoever is told that a run covers it was called before that run's holder was let in, who had the lock until the run
/// was complete; and every run covers all who came before it.
#[test]
fn runs_with_two_faults() {
    holds(short(System::new(&[&[RUN], &[RUN]], faults(2))));
    holds(System { fails: true, ..System::new(&[&[RUN], &[RUN]], faults(1)) });
}

#[test]
fn three_that_want_runs() {
    let system = System::new(&[&[RUN], &[RUN], &[RUN]], faults(0));
    holds(System { fails: true, ..short(system) });
    let system = short(System::new(&[&[RUN], &[RUN], &[RUN]], faults(1)));
    holds(System { kinds: &[Fault::Process], timeouts: vec![None, None, Some(1)], ..system });
}

#[test]
fn runs_and_a_writer() {
    holds(System::new(&[&[RUN], &[X], &[RUN]], faults(0)));
    holds(in_small_steps(System::new(&[&[RUN], &[X], &[RUN]], faults(0))));
}

#[test]
fn runs_while_the_servers_clock_is_set_back() {
    let system = System::new(&[&[RUN, RUN], &[RUN]], faults(2));
    holds(System { kinds: &[Fault::Clock], ..system });
    let system = System::new(&[&[RUN], &[RUN], &[RUN]], faults(1));
    holds(System { kinds: &[Fault::Clock], ..system });
}

#[test]
fn runs_and_a_server_that_loses_everything() {
    let system = System::new(&[&[RUN, RUN], &[RUN]], faults(1));
    holds(System { kinds: &[Fault::Server], ..system });
}

#[test]
fn runs_in_small_steps() {
    let system = System::new(&[&[RUN], &[RUN], &[RUN]], faults(0));
    holds(System { timeouts: vec![None, None, Some(1)], ..in_small_steps(system) });
    holds(in_small_steps(System::new(&[&[RUN], &[RUN]], faults(1))));
}

#[test]
#[ignore = "minutes, and gigabytes of memory"]
fn further_three_that_want_runs() {
    holds(System { fails: true, ..System::new(&[&[RUN], &[RUN], &[RUN]], faults(2)) });
}

#[test]
#[ignore = "minutes, and gigabytes of memory"]
fn further_three_writers() {
    holds(System::new(&[&[X], &[X], &[X]], faults(2)));
}

#[test]
#[ignore = "minutes, and gigabytes of memory"]
fn further_two_writers_twice_each() {
    holds(System::new(&[&[X, X], &[X, X]], faults(2)));
}

#[test]
#[ignore = "minutes, and gigabytes of memory"]
fn further_a_writer_and_two_readers() {
    holds(System::new(&[&[X], &[S], &[S]], faults(2)));
}

#[test]
#[ignore = "minutes, and gigabytes of memory"]
fn further_two_that_give_up() {
    let system = System::new(&[&[X], &[X], &[X]], faults(2));
    holds(System { timeouts: vec![None, Some(1), Some(2)], ..system });
}

#[test]
#[ignore = "minutes, and gigabytes of memory"]
fn further_an_administrator_and_a_network() {
    let system = System::new(&[&[X], &[X], &[S]], faults(2));
    holds(System { kinds: &[Fault::Network, Fault::Server], ..system });
}

fn finds(system: System, mutant: Mutant, property: &'static str, flaws: &[&str]) {
    let ends = HasDiscoveries::AllOf([property].into());
    let found = check(System { mutant: Some(mutant), ..system }, ends, |s| s.flaw)
        .expect("the checker finds nothing");
    assert!(flaws.iter().any(|flaw| found.contains(flaw)), "{found}");
}

#[test]
fn the_checker_finds_a_release_that_does_not_compare_the_token() {
    let system = System { kinds: &[Fault::Process], ..System::new(&[&[X, X], &[X]], 1) };
    finds(system, Mutant::ReleaseWithoutToken, EXCLUSION, &[EXCLUSION]);
}

#[test]
fn the_checker_finds_a_lease_that_counts_from_the_reply() {
    let system = System::new(&[&[X], &[X]], 2);
    finds(system, Mutant::LeaseFromReceipt, EXCLUSION, &[EXCLUSION]);
}

#[test]
fn the_checker_finds_mail_that_is_believed_too_late() {
    let system = System::new(&[&[X], &[X], &[X]], 1);
    let system = System { kinds: &[Fault::Server], ..system };
    finds(system, Mutant::KeepsOldMail, EXCLUSION, &[EXCLUSION]);
}

#[test]
fn the_checker_finds_a_waiter_that_nobody_wakes() {
    let flaws = ["a waiter whose turn it is sleeps on", "the lock is of use to nobody for too long"];
    finds(System::new(&[&[X], &[X]], 0), Mutant::GrantWithoutMail, RULES, &flaws);
}

#[test]
fn the_checker_finds_a_dead_waiter_that_was_handed_the_lock_for_ever() {
    let system = System { kinds: &[Fault::Process], ..System::new(&[&[X], &[X], &[X]], 1) };
    finds(system, Mutant::EndlessGrant, RULES, &["the lock is of use to nobody for too long"]);
}

#[test]
fn the_checker_finds_a_late_request_that_undoes_a_conversion() {
    let system = System { kinds: &[Fault::Network], ..System::new(&[&[UP], &[S]], 1) };
    finds(system, Mutant::ConvertsUnasked, EXCLUSION, &[EXCLUSION]);
}

#[test]
fn the_checker_finds_readers_that_overtake_a_writer() {
    finds(System::new(&[&[X], &[X], &[S]], 0), Mutant::ReadersFirst, RULES, &["somebody was overtaken"]);
}

#[test]
fn the_checker_finds_a_release_that_does_not_go_on() {
    let system = in_small_steps(System::new(&[&[X], &[X], &[X], &[X]], 2));
    finds(system, Mutant::LeavesTheRest, RULES, &["a waiter whose turn it is sleeps on"]);
}

#[test]
fn the_checker_finds_whoever_takes_a_lock_that_others_are_next_for() {
    let system = in_small_steps(System::new(&[&[X], &[X], &[X], &[X]], 1));
    finds(system, Mutant::TakesUnfinished, RULES, &["somebody was overtaken"]);
}

/// A server that loses everything, with a grace period.
fn graced(wants: &[&[Want]], faults: u8) -> System {
    System { grace: true, kinds: &[Fault::Server], ..System::new(wants, faults) }
}

/// The same, with requests that arrive late.
fn graced_and_late(wants: &[&[Want]], faults: u8) -> System {
    System { kinds: &[Fault::Server, Fault::Network], ..graced(wants, faults) }
}

#[test]
fn a_server_that_loses_everything_with_a_grace_period() {
    holds(graced(&[&[X, X], &[X]], faults(2)));
    holds(graced(&[&[S], &[X], &[S]], faults(1)));
    holds(graced(&[&[UP], &[S]], faults(1)));
    holds(graced(&[&[DOWN], &[X]], faults(1)));
}

#[test]
fn what_is_late_where_everything_was_lost() {
    holds(graced_and_late(&[&[X], &[X]], faults(2)));
}

#[test]
#[ignore = "minutes, and gigabytes of memory"]
fn further_what_is_late_where_everything_was_lost() {
    holds(graced_and_late(&[&[X], &[S], &[X]], faults(2)));
}

#[test]
fn the_checker_finds_a_server_that_lets_in_whoever_comes() {
    finds(graced(&[&[X], &[X]], 1), Mutant::NoGrace, EXCLUSION, &[EXCLUSION]);
}

#[test]
fn the_checker_finds_a_lock_that_counts_as_free_when_one_reader_has_left() {
    finds(graced(&[&[S], &[S], &[X]], 1), Mutant::LeftIsFree, EXCLUSION, &[EXCLUSION]);
}

#[test]
fn the_checker_finds_a_run_that_covers_who_came_after_it() {
    let flaws = ["covered by a run that began before the call"];
    finds(System::new(&[&[RUN], &[RUN]], 0), Mutant::CoversEverybody, RULES, &flaws);
}

#[test]
fn the_checker_finds_ranks_below_the_fencing_tokens() {
    let system = System { kinds: &[Fault::Clock], ..System::new(&[&[RUN], &[RUN]], 1) };
    finds(system, Mutant::RankBelowFence, RULES, &["covered by a run that began before the call"]);
}

#[test]
fn the_checker_finds_a_run_that_a_former_holder_completes() {
    let flaws = ["a run counts whose holder had lost the lock"];
    let system = System { kinds: &[Fault::Server], ..System::new(&[&[RUN], &[RUN]], 1) };
    finds(system, Mutant::FormerHolderCompletes, RULES, &flaws);
}

#[test]
fn the_checker_finds_who_is_not_told_that_a_run_covers_it() {
    let system = in_small_steps(System::new(&[&[RUN], &[RUN], &[RUN], &[RUN]], 1));
    let flaws = ["nobody tells a waiter that a run covers it"];
    finds(system, Mutant::BlindToRuns, RULES, &flaws);
}

#[test]
fn questions_to_a_quorum_that_are_late() {
    for held in [false, true] {
        let flaw = check(Quorum::new([1, 3, 2], 1, held, None), HasDiscoveries::AnyFailures, |_| None);
        assert_eq!(flaw, None);
    }
}

#[test]
#[ignore = "minutes, and gigabytes of memory"]
fn further_questions_to_a_quorum_that_are_late() {
    let flaw = check(Quorum::new([1, 4, 3], 2, true, None), HasDiscoveries::AnyFailures, |_| None);
    assert_eq!(flaw, None);
}

#[test]
fn the_checker_finds_a_late_question_that_takes_the_lock_back() {
    for (held, mutant) in [(false, Mutant::LateQuestions), (true, Mutant::ConfirmsNoAttempt)] {
        let quorum = Quorum::new([1, 3, 2], 1, held, Some(mutant));
        let found = check(quorum, HasDiscoveries::AllOf([EXCLUSION, END].into()), |_| None);
        assert!(found.is_some_and(|flaw| flaw.contains(EXCLUSION)), "{mutant:?}");
    }
}

/// The servers' clocks, where they agree and where not.
const CLOCKS: [[u64; 3]; 2] = [[100; 3], [150, 50, 100]];

/// Whoever is told that a run covers it was called before that began; and a run counts only when its holder had the lock
/// until it was complete.
fn holds_on_a_quorum(runs: Runs) {
    if let Some(flaw) = check(runs, HasDiscoveries::AnyFailures, |s| s.flaw) {
        panic!("{flaw}");
    }
}

#[test]
fn runs_on_a_quorum() {
    for clocks in CLOCKS {
        holds_on_a_quorum(Runs { far: 1, ..Runs::new(&[1, 2, 2], clocks) });
        holds_on_a_quorum(Runs { held: false, ..Runs::new(&[2, 3], clocks) });
    }
    let two = || Runs { fails: true, ..Runs::new(&[1, 2], CLOCKS[1]) };
    holds_on_a_quorum(Runs { deaths: 1, ..two() });
    holds_on_a_quorum(Runs { failures: 1, ..two() });
    holds_on_a_quorum(Runs { breaks: 1, ..two() });
    holds_on_a_quorum(Runs { held: false, apart: true, ..Runs::new(&[2, 2], CLOCKS[1]) });
}

#[test]
#[ignore = "minutes"]
fn further_runs_on_a_quorum() {
    for clocks in CLOCKS {
        holds_on_a_quorum(Runs { fails: true, ..Runs::new(&[1, 2, 2], clocks) });
        for (deaths, failures, breaks) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            holds_on_a_quorum(Runs { far: 1, deaths, failures, breaks, ..Runs::new(&[1, 2, 2], clocks) });
            holds_on_a_quorum(Runs { deaths, failures, breaks, ..Runs::new(&[2, 3], clocks) });
        }
    }
}

fn finds_on_a_quorum(runs: Runs, mutant: Mutant, flaw: &str) {
    let ends = HasDiscoveries::AllOf([RULES, END].into());
    let found = check(Runs { mutant: Some(mutant), ..runs }, ends, |s| s.flaw);
    assert!(found.as_ref().is_some_and(|found| found.contains(flaw)), "{mutant:?}: {found:?}");
}

#[test]
fn the_checker_finds_wrong_rules_of_runs_on_a_quorum() {
    let three = || Runs { far: 1, ..Runs::new(&[1, 2, 2], CLOCKS[1]) };
    let flaw = "covered by a run that began before the call";
    finds_on_a_quorum(three(), Mutant::CoversEverybody, flaw);
    finds_on_a_quorum(three(), Mutant::RankBelowFence, flaw);
    finds_on_a_quorum(three(), Mutant::BlindToRuns, "nobody tells a waiter that a run covers it");
    let two = Runs { far: 1, breaks: 1, ..Runs::new(&[1, 2], CLOCKS[1]) };
    finds_on_a_quorum(two, Mutant::FormerHolderCompletes, "a run counts whose holder had lost the lock");
}

/// One server alone knows of the run that is complete by now, and lets in who comes; another has somebody else.
#[test]
fn the_checker_finds_a_rank_that_leaves_out_who_lets_it_in() {
    const BEFORE: &[Act] = &[
        Act::Start(1),
        Act::Serve(1, 1),
        Act::Complete(0),
        Act::Serve(0, 0),
        Act::Start(2),
        Act::Serve(2, 2),
    ];
    let runs = Runs { failures: 1, before: BEFORE, ..Runs::new(&[1, 2, 2], CLOCKS[1]) };
    finds_on_a_quorum(runs, Mutant::RankOfTheBusy, "covered by a run that began before the call");
}

/// A question of each of two waiters is late, and two servers have let each of them in before.
#[test]
fn the_checker_finds_a_token_that_is_less_than_what_was_given() {
    const BEFORE: &[Act] = &[
        Act::Start(2),
        Act::Serve(2, 1),
        Act::Start(1),
        Act::Serve(1, 0),
        Act::Serve(0, 2),
        Act::Serve(1, 1),
        Act::Serve(1, 1),
        Act::Complete(0),
        Act::Serve(0, 2),
        Act::Mail(1, 2),
        Act::Serve(0, 0),
        Act::Serve(2, 2),
        Act::Serve(2, 2),
    ];
    let runs = Runs { before: BEFORE, ..Runs::new(&[1, 2, 2], CLOCKS[0]) };
    finds_on_a_quorum(runs, Mutant::ConfirmsLess, "a fencing token that is not greater than all before");
}
