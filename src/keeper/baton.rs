//! [`Baton`]: who holds the epoch. A pure state machine, `(state, event, now) -> effects`.
//!
//! `now` is how long the keeper has been awake, not the clock: a keeper that slept for a minute must not take
//! a driver for dead that could not be heard. There are never two holders: a new one is granted the epoch only
//! after the old one left, or was killed and has exited (or has not within [`EXIT`], stuck in the kernel, with
//! its number gone from the page).

use std::time::Duration;

use super::Why;
use super::protocol::{Claim, How};

#[cfg(test)]
mod tests;

/// A connection.
pub(super) type Peer = u64;

/// How long a holder may take to leave for a successor.
pub(super) const YIELD: Duration = Duration::from_secs(8);
/// How long a killed process may take to exit.
pub(super) const EXIT: Duration = Duration::from_secs(2);
/// How long a holder may be silent.
pub(super) const SILENCE: Duration = Duration::from_secs(10);
/// How long, after the keeper's start, only a driver gets the epoch that held it before, or that is alone.
pub(super) const START: Duration = Duration::from_secs(2);
/// A claim above this is nobody's honest number; it would leave no room to count.
const HIGHEST: u64 = u64::MAX / 2;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A driver claims the epoch.
    Take(Peer, Claim),
    /// The current holder gave it up. (Whether the number is current is asked of [`Baton::is_current`].)
    Left,
    /// The current holder is alive.
    Beat,
    /// A connection is over.
    Closed(Peer),
    /// The process behind a connection has exited.
    Exited(Peer),
    /// Its first thread has; others may be stuck in the kernel.
    Zombie(Peer),
    /// All that is left of it is stuck in the kernel, until a successor answers.
    Stuck(Peer),
    /// A responder was started.
    ResponderRuns,
    /// It was reaped.
    ResponderGone,
    /// Time goes by.
    Tick,
}

/// What the loop has to do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Write this number on the epoch page.
    Page(u64),
    /// Tell it that the epoch is its own.
    Taken(Peer, u64),
    /// Answer its claim with no.
    Refuse(Peer, Why),
    /// Tell it that a successor waits.
    Yield(Peer),
    /// Kill the process behind it.
    Kill(Peer),
    /// Kill the responder.
    StopResponder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody's.
    Free { since: Duration },
    /// Nobody's, and a responder has to end before somebody's.
    Clearing { since: Duration, until: Duration },
    /// Nobody's; who had it gave it up and still has its connection. Its threads may still serve until that is over.
    Leaving { peer: Peer, since: Duration },
    /// Somebody's.
    Held { peer: Peer, beat: Duration, asked: Option<Duration> },
    /// Nobody's; who had it was killed and has not exited.
    Dying { peer: Peer, since: Duration },
}

/// The epoch, who holds it and who waits for it.
#[derive(Debug)]
pub(super) struct Baton {
    epoch: u64,
    phase: Phase,
    /// In the order in which they came.
    waiting: Vec<(Peer, Claim)>,
    responder: bool,
    /// Somebody has held it: a driver that lives through our restart is no longer waited for.
    held: bool,
}

impl Baton {
    /// Nobody holds number 0.
    pub(super) fn new() -> Self {
        let phase = Phase::Free { since: Duration::ZERO };
        Self { epoch: 0, phase, waiting: Vec::new(), responder: false, held: false }
    }

    /// The number on the page.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether this number gives the right to act.
    pub(super) fn is_current(&self, epoch: u64) -> bool {
        matches!(self.phase, Phase::Held { .. }) && epoch == self.epoch
    }

    /// Who holds the epoch.
    pub(super) fn holder(&self) -> Option<Peer> {
        match self.phase {
            Phase::Held { peer, .. } => Some(peer),
            Phase::Free { .. }
            | Phase::Clearing { .. }
            | Phase::Leaving { .. }
            | Phase::Dying { .. } => None,
        }
    }

    /// Whose process must be looked at: the holder, or the one that is killed.
    pub(super) fn watched(&self) -> Option<Peer> {
        match self.phase {
            Phase::Held { peer, .. } | Phase::Leaving { peer, .. } | Phase::Dying { peer, .. } => {
                Some(peer)
            }
            Phase::Free { .. } | Phase::Clearing { .. } => None,
        }
    }

    /// Whether somebody waits, so that it pays to look often.
    pub(super) fn is_urgent(&self) -> bool {
        !self.waiting.is_empty()
            || matches!(
                self.phase,
                Phase::Clearing { .. } | Phase::Leaving { .. } | Phase::Dying { .. }
            )
    }

    /// How long the epoch has been nobody's and nobody wants it.
    pub(super) fn vacant(&self, now: Duration) -> Option<Duration> {
        match self.phase {
            Phase::Free { since } if self.waiting.is_empty() => Some(now.saturating_sub(since)),
            Phase::Free { .. }
            | Phase::Clearing { .. }
            | Phase::Leaving { .. }
            | Phase::Held { .. }
            | Phase::Dying { .. } => None,
        }
    }

    /// Takes an event and tells what to do.
    pub(super) fn on(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Take(peer, claim) => self.claimed(peer, claim, &mut effects),
            Event::Left => self.left(now, &mut effects),
            Event::Beat => {
                if let Phase::Held { beat, .. } = &mut self.phase {
                    *beat = now;
                }
            }
            Event::Closed(peer) => {
                self.waiting.retain(|(waiting, _)| *waiting != peer);
                match self.phase {
                    Phase::Held { peer: holder, .. } if holder == peer => {
                        self.died(peer, now, &mut effects);
                    }
                    // All its threads are gone, or the connection would not be.
                    Phase::Leaving { peer: leaving, since } if leaving == peer => {
                        self.phase = Phase::Free { since };
                    }
                    Phase::Free { .. }
                    | Phase::Clearing { .. }
                    | Phase::Leaving { .. }
                    | Phase::Held { .. }
                    | Phase::Dying { .. } => {}
                }
            }
            Event::Zombie(peer) if self.holder() == Some(peer) => {
                self.died(peer, now, &mut effects);
            }
            Event::Zombie(_) => {}
            Event::Stuck(peer) => match self.phase {
                Phase::Held { peer: holder, .. } if holder == peer => {
                    self.died(peer, now, &mut effects);
                }
                // It is waited for in vain: it reads nothing, and its number is gone from the page.
                Phase::Dying { peer: dying, since } if dying == peer => {
                    self.phase = Phase::Free { since };
                }
                Phase::Free { .. }
                | Phase::Clearing { .. }
                | Phase::Leaving { .. }
                | Phase::Held { .. }
                | Phase::Dying { .. } => {}
            },
            Event::Exited(peer) => self.exited(peer, now, &mut effects),
            Event::ResponderRuns => self.responder = true,
            Event::ResponderGone => {
                self.responder = false;
                self.cleared();
            }
            Event::Tick => self.ticked(now, &mut effects),
        }
        self.settle(now, &mut effects);
        effects
    }

    fn claimed(&mut self, peer: Peer, claim: Claim, effects: &mut Vec<Effect>) {
        let held = self.holder();
        if claim.epoch > HIGHEST {
            effects.push(Effect::Refuse(peer, Why::Unsupported));
        } else if held == Some(peer) || (held.is_some() && claim.how == How::Resume) {
            effects.push(Effect::Refuse(peer, Why::Held));
        } else {
            self.waiting.push((peer, claim));
        }
    }

    /// The number is nobody's from now on, and nobody's number is on the page.
    fn burn(&mut self, effects: &mut Vec<Effect>) {
        self.epoch += 1;
        effects.push(Effect::Page(self.epoch));
    }

    fn left(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if let Some(peer) = self.holder() {
            self.burn(effects);
            self.phase = Phase::Leaving { peer, since: now };
        }
    }

    fn died(&mut self, peer: Peer, now: Duration, effects: &mut Vec<Effect>) {
        self.burn(effects);
        effects.push(Effect::Kill(peer));
        self.phase = Phase::Dying { peer, since: now };
    }

    fn exited(&mut self, gone: Peer, now: Duration, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Held { peer, .. } if peer == gone => {
                self.burn(effects);
                self.phase = Phase::Free { since: now };
            }
            Phase::Leaving { peer, since } | Phase::Dying { peer, since } if peer == gone => {
                self.phase = Phase::Free { since };
            }
            Phase::Free { .. }
            | Phase::Clearing { .. }
            | Phase::Leaving { .. }
            | Phase::Held { .. }
            | Phase::Dying { .. } => {}
        }
    }

    fn cleared(&mut self) {
        if let Phase::Clearing { since, .. } = self.phase {
            self.phase = Phase::Free { since };
        }
    }

    fn ticked(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Held { peer, beat, asked } => {
                let silent = now.saturating_sub(beat) >= SILENCE;
                let stays = asked.is_some_and(|asked| now.saturating_sub(asked) >= YIELD);
                if silent || stays {
                    self.died(peer, now, effects);
                }
            }
            // It said that it leaves and does not.
            Phase::Leaving { peer, since } if now.saturating_sub(since) >= EXIT => {
                self.died(peer, now, effects);
            }
            // A task in the kernel may never exit: its number is gone from the page, and that must do.
            Phase::Dying { since, .. } if now.saturating_sub(since) >= EXIT => {
                self.phase = Phase::Free { since };
            }
            Phase::Clearing { until, .. } if now >= until => {
                self.responder = false;
                self.cleared();
            }
            Phase::Free { .. }
            | Phase::Clearing { .. }
            | Phase::Leaving { .. }
            | Phase::Dying { .. } => {}
        }
    }

    /// What follows from the state alone: asking the holder to leave, or the next grant.
    fn settle(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let wanted = self.waiting.iter().any(|(_, claim)| claim.how == How::Succeed);
        match &mut self.phase {
            Phase::Held { peer, asked, .. } => match (wanted, *asked) {
                (true, None) => {
                    *asked = Some(now);
                    effects.push(Effect::Yield(*peer));
                }
                // Who wanted it is gone: nobody is killed for that.
                (false, Some(_)) => *asked = None,
                (true, Some(_)) | (false, None) => {}
            },
            Phase::Free { since } => {
                let since = *since;
                let Some(next) = self.next(now) else { return };
                if self.responder {
                    effects.push(Effect::StopResponder);
                    self.phase = Phase::Clearing { since, until: now.saturating_add(EXIT) };
                    return;
                }
                let (peer, claim) = self.waiting.remove(next);
                self.epoch = self.epoch.max(claim.epoch) + 1;
                effects.push(Effect::Page(self.epoch));
                effects.push(Effect::Taken(peer, self.epoch));
                self.held = true;
                self.phase = Phase::Held { peer, beat: now, asked: None };
                self.settle(now, effects);
            }
            Phase::Clearing { .. } | Phase::Leaving { .. } | Phase::Dying { .. } => {}
        }
    }

    /// Whose turn it is: who resumes, else the newest that succeeds, else the oldest that waits.
    fn next(&self, now: Duration) -> Option<usize> {
        let early = now < START && !self.held;
        let may = |claim: &Claim| !early || claim.alone || claim.how == How::Resume;
        let is = |how: How| move |(_, claim): &(Peer, Claim)| claim.how == how && may(claim);
        let waiting = self.waiting.iter();
        waiting
            .clone()
            .position(is(How::Resume))
            .or_else(|| waiting.clone().rposition(is(How::Succeed)))
            .or_else(|| waiting.clone().position(is(How::Wait)))
    }
}
