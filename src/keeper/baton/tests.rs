//! Every transition of the baton, and that there are never two holders.

use proptest::prelude::*;

use super::*;

const A: Peer = 1;
const B: Peer = 2;
const C: Peer = 3;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn claim(how: How, epoch: u64) -> Claim {
    Claim { how, epoch, alone: false }
}

fn succeed(peer: Peer) -> Event {
    Event::Take(peer, claim(How::Succeed, 0))
}

fn wait(peer: Peer) -> Event {
    Event::Take(peer, claim(How::Wait, 0))
}

fn grant(peer: Peer, epoch: u64) -> Vec<Effect> {
    vec![Effect::Page(epoch), Effect::Taken(peer, epoch)]
}

/// A holds epoch 1 since the 5th second.
fn held() -> Baton {
    let mut baton = Baton::new();
    assert_eq!(baton.on(wait(A), at(5)), grant(A, 1));
    baton
}

/// A was killed in the 6th second, and number 2 is nobody's.
fn dying() -> Baton {
    let mut baton = held();
    assert_eq!(baton.on(Event::Closed(A), at(6)), [Effect::Page(2), Effect::Kill(A)]);
    baton
}

#[test]
fn a_free_epoch_is_granted_at_once_and_above_what_is_known() {
    let mut baton = Baton::new();
    assert_eq!(baton.on(Event::Take(A, claim(How::Succeed, 41)), at(2)), grant(A, 42));
    assert!(baton.is_current(42));
    assert!(!baton.is_current(41) && !baton.is_current(43));
    assert_eq!(baton.holder(), Some(A));
}

#[test]
fn after_the_start_a_driver_that_held_it_comes_first() {
    let mut baton = Baton::new();
    assert_eq!(baton.on(succeed(A), at(0)), []);
    assert_eq!(baton.on(wait(B), at(0)), []);
    assert_eq!(baton.on(Event::Tick, at(1)), []);
    let resumed = baton.on(Event::Take(C, claim(How::Resume, 7)), at(1));
    assert_eq!(resumed, [Effect::Page(8), Effect::Taken(C, 8), Effect::Yield(C)]);

    let mut baton = Baton::new();
    assert_eq!(baton.on(succeed(A), at(0)), []);
    assert_eq!(baton.on(Event::Tick, at(2)), grant(A, 1), "nobody came to resume");

    let mut baton = Baton::new();
    let alone = Claim { how: How::Succeed, epoch: 0, alone: true };
    assert_eq!(baton.on(Event::Take(A, alone), at(0)), grant(A, 1));
}

#[test]
fn a_resume_does_not_push_a_holder_aside() {
    let mut baton = held();
    let refused = baton.on(Event::Take(B, claim(How::Resume, 1)), at(6));
    assert_eq!(refused, [Effect::Refuse(B, Why::Held)]);
    assert_eq!(baton.on(succeed(A), at(6)), [Effect::Refuse(A, Why::Held)], "it has it");
    let mad = baton.on(Event::Take(B, claim(How::Succeed, u64::MAX)), at(6));
    assert_eq!(mad, [Effect::Refuse(B, Why::Unsupported)]);
    assert!(!baton.is_urgent(), "none of them waits");
}

#[test]
fn a_holder_that_leaves_for_a_successor_is_not_killed() {
    let mut baton = held();
    assert_eq!(baton.on(succeed(B), at(6)), [Effect::Yield(A)]);
    assert_eq!(baton.on(Event::Beat, at(12)), []);
    assert_eq!(baton.on(Event::Left, at(13)), [Effect::Page(2)], "its threads may still serve");
    assert_eq!((baton.holder(), baton.watched()), (None, Some(A)));
    assert_eq!(baton.on(Event::Closed(A), at(14)), grant(B, 3));
    assert_eq!(baton.on(Event::Exited(A), at(15)), [], "A is nobody now");
}

#[test]
fn one_that_says_that_it_leaves_and_stays_is_killed() {
    let mut baton = held();
    baton.on(succeed(B), at(6));
    assert_eq!(baton.on(Event::Left, at(7)), [Effect::Page(2)]);
    assert_eq!(baton.on(Event::Tick, at(8)), []);
    assert_eq!(baton.on(Event::Tick, at(9)), [Effect::Page(3), Effect::Kill(A)]);
    assert_eq!(baton.on(Event::Exited(A), at(9)), grant(B, 4));
}

#[test]
fn once_somebody_has_held_it_the_start_is_over() {
    let mut baton = Baton::new();
    let alone = Claim { how: How::Succeed, epoch: 0, alone: true };
    assert_eq!(baton.on(Event::Take(A, alone), Duration::ZERO), grant(A, 1));
    assert_eq!(baton.on(succeed(B), Duration::ZERO), [Effect::Yield(A)]);
    baton.on(Event::Left, Duration::ZERO);
    assert_eq!(baton.on(Event::Closed(A), Duration::ZERO), grant(B, 3));
}

#[test]
fn a_holder_that_stays_is_killed_and_waited_for() {
    let mut baton = held();
    baton.on(succeed(B), at(6));
    baton.on(Event::Beat, at(13));
    assert_eq!(baton.on(Event::Tick, at(13)), []);
    assert_eq!(baton.on(Event::Tick, at(14)), [Effect::Page(2), Effect::Kill(A)]);
    assert!(!baton.is_current(1) && !baton.is_current(2), "nobody's");
    assert_eq!((baton.holder(), baton.watched()), (None, Some(A)));
    assert_eq!(baton.on(Event::Zombie(A), at(14)), [], "others of its threads may live");
    assert_eq!(baton.on(Event::Closed(A), at(14)), []);
    assert_eq!(baton.on(Event::Exited(A), at(15)), grant(B, 3));
}

#[test]
fn who_waits_disturbs_nobody() {
    let mut baton = held();
    assert_eq!(baton.on(wait(B), at(6)), []);
    baton.on(Event::Beat, at(14));
    assert_eq!(baton.on(Event::Tick, at(23)), []);
    baton.on(Event::Left, at(23));
    assert_eq!(baton.on(Event::Closed(A), at(23)), grant(B, 3));
}

#[test]
fn nobody_is_killed_for_a_successor_that_went_away() {
    let mut baton = held();
    assert_eq!(baton.on(succeed(B), at(6)), [Effect::Yield(A)]);
    assert_eq!(baton.on(Event::Closed(B), at(7)), []);
    baton.on(Event::Beat, at(15));
    assert_eq!(baton.on(Event::Tick, at(16)), []);
    assert_eq!(baton.on(succeed(C), at(17)), [Effect::Yield(A)], "and has its own eight seconds");
    baton.on(Event::Beat, at(24));
    assert_eq!(baton.on(Event::Tick, at(24)), []);
}

#[test]
fn the_newest_successor_is_first_and_who_waits_is_last() {
    let mut baton = held();
    for event in [wait(4), wait(5), succeed(B), succeed(C)] {
        baton.on(event, at(6));
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        let holder = baton.holder().unwrap();
        let left = baton.on(Event::Left, at(7)).into_iter();
        for effect in left.chain(baton.on(Event::Closed(holder), at(7))) {
            if let Effect::Taken(peer, _) = effect {
                order.push(peer);
            }
        }
    }
    assert_eq!(order, [C, B, 4, 5]);
}

#[test]
fn each_sign_of_death_ends_the_epoch_at_once() {
    assert_eq!(held().on(Event::Zombie(A), at(6)), [Effect::Page(2), Effect::Kill(A)]);
    assert_eq!(held().on(Event::Exited(A), at(6)), [Effect::Page(2)], "nothing to kill");
    let mut baton = held();
    assert_eq!(baton.on(Event::Beat, at(10)), []);
    assert_eq!(baton.on(Event::Tick, at(19)), []);
    assert_eq!(baton.on(Event::Tick, at(20)), [Effect::Page(2), Effect::Kill(A)], "silence");
    for other in [Event::Zombie(B), Event::Exited(B), Event::Closed(B)] {
        assert_eq!(held().on(other, at(6)), []);
    }
}

#[test]
fn one_that_is_stuck_in_the_kernel_is_not_waited_for() {
    let mut baton = held();
    assert_eq!(baton.on(Event::Stuck(A), at(6)), [Effect::Page(2), Effect::Kill(A)]);
    assert_eq!(baton.on(succeed(B), at(6)), []);
    assert_eq!(baton.on(Event::Stuck(C), at(6)), [], "another is meant");
    assert_eq!(baton.on(Event::Stuck(A), at(6)), grant(B, 3));
}

#[test]
fn a_killed_process_that_does_not_exit_holds_nobody_up() {
    let mut baton = dying();
    assert_eq!(baton.on(Event::Take(B, claim(How::Resume, 1)), at(6)), []);
    assert_eq!(baton.on(succeed(C), at(6)), []);
    assert!(baton.is_urgent());
    assert_eq!(baton.on(Event::Left, at(7)), [], "there is no holder");
    assert_eq!(baton.on(Event::Beat, at(7)), []);
    let resumed = baton.on(Event::Tick, at(8));
    assert_eq!(resumed, [Effect::Page(3), Effect::Taken(B, 3), Effect::Yield(B)]);
}

#[test]
fn vacancy_counts_from_the_end_of_the_last_holder() {
    let mut baton = Baton::new();
    assert_eq!(baton.vacant(at(3)), Some(at(3)));
    baton.on(wait(A), at(5));
    assert_eq!(baton.vacant(at(6)), None);
    baton.on(Event::Closed(A), at(6));
    assert_eq!(baton.vacant(at(7)), None, "it may still act");
    baton.on(Event::Exited(A), at(7));
    assert_eq!(baton.vacant(at(9)), Some(at(3)));
}

#[test]
fn a_responder_ends_before_a_driver_begins() {
    let mut baton = Baton::new();
    assert_eq!(baton.on(Event::ResponderRuns, at(30)), []);
    assert_eq!(baton.on(wait(A), at(31)), [Effect::StopResponder]);
    assert_eq!(baton.on(succeed(B), at(31)), []);
    assert_eq!(baton.on(Event::Tick, at(32)), []);
    assert_eq!(baton.vacant(at(32)), None, "no other is started");
    let granted = baton.on(Event::ResponderGone, at(32));
    assert_eq!(granted, grant(B, 1), "the best claim by then");

    let mut baton = Baton::new();
    baton.on(Event::ResponderRuns, at(30));
    baton.on(wait(A), at(31));
    assert_eq!(baton.on(Event::Tick, at(33)), grant(A, 1), "stuck in the kernel");

    let mut baton = Baton::new();
    baton.on(Event::ResponderRuns, at(30));
    baton.on(wait(A), at(31));
    assert_eq!(baton.on(Event::Closed(A), at(31)), []);
    assert_eq!(baton.on(Event::ResponderGone, at(31)), []);
    assert_eq!(baton.vacant(at(33)), Some(at(33)), "it is free again");
}

fn event() -> impl Strategy<Value = Event> {
    let peer = 1_u64..5;
    let how = prop_oneof![Just(How::Succeed), Just(How::Wait), Just(How::Resume)];
    prop_oneof![
        (peer.clone(), how, 0_u64..50, any::<bool>())
            .prop_map(|(peer, how, epoch, alone)| Event::Take(peer, Claim { how, epoch, alone })),
        Just(Event::Left),
        Just(Event::Beat),
        peer.clone().prop_map(Event::Closed),
        peer.clone().prop_map(Event::Exited),
        peer.clone().prop_map(Event::Stuck),
        peer.prop_map(Event::Zombie),
        Just(Event::ResponderRuns),
        Just(Event::ResponderGone),
        Just(Event::Tick),
    ]
}

proptest! {
    #[test]
    fn there_are_never_two_holders(steps in prop::collection::vec((event(), 0_u64..4000), 0..120)) {
        let (mut baton, mut now) = (Baton::new(), Duration::ZERO);
        let (mut page, mut holder, mut leaving) = (0, None, None);
        for (event, later) in steps {
            now += Duration::from_millis(later);
            if event == Event::Left {
                leaving = holder.map(|(peer, _)| peer).or(leaving);
            }
            if event == Event::Left || holder.is_some_and(|(peer, _)| event == Event::Exited(peer)) {
                holder = None;
            }
            for effect in baton.on(event, now) {
                match effect {
                    Effect::Page(epoch) => {
                        prop_assert!(epoch > page, "the number went from {page} to {epoch}");
                        page = epoch;
                    }
                    Effect::Taken(peer, epoch) => {
                        prop_assert_eq!(holder, None, "there is a holder");
                        prop_assert_eq!(epoch, page, "the page was written first");
                        holder = Some((peer, epoch));
                    }
                    Effect::Kill(peer) => {
                        let held = holder.take().map(|(holder, _)| holder);
                        prop_assert!(held == Some(peer) || leaving.take() == Some(peer));
                    }
                    Effect::Yield(peer) => {
                        prop_assert_eq!(holder.map(|(holder, _)| holder), Some(peer));
                    }
                    Effect::Refuse(..) | Effect::StopResponder => {}
                }
            }
            prop_assert_eq!(baton.holder(), holder.map(|(peer, _)| peer));
        }
    }
}
