//! What is to be done next: which shards this process asks for, and which it
//! gives back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::watcher::Event;

use super::{
    Settings,
    observed::{After, Free, Observed},
    shards::assign,
    tenancy::Ended,
};
use crate::term::Moment;

/// Decides from what is observed. Asks nobody, and waits for nothing.
#[derive(Debug)]
pub(super) struct Plan {
    settings: Arc<Settings>,
    observed: Observed,
    began: Moment,
    members: BTreeSet<String>,
    /// Who should hold each shard.
    assigned: Vec<String>,
    /// Members that let a shard run out, and who should hold each without
    /// them: as likely as not they are dead, and their own leases end later.
    failing: (BTreeSet<String>, Vec<String>),
    /// Shards that this process asks for, holds, or has not left yet.
    busy: BTreeSet<u32>,
    /// The one that is being given back.
    leaving: Option<u32>,
    /// When one was given back the last time.
    gave_back: Option<Moment>,
    /// Before when a shard is not asked for again.
    later: BTreeMap<u32, Moment>,
}

/// What to do now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decisions {
    pub(super) ask: BTreeMap<u32, Free>,
    pub(super) give_back: Option<u32>,
    /// Leases of members that went long ago: names and versions, to delete.
    pub(super) swept: Vec<(String, String)>,
    /// When to decide again, if nothing is shown before.
    pub(super) next: Option<Moment>,
}

// === impl Plan ===

impl Plan {
    pub(super) fn new(settings: Arc<Settings>, now: Moment) -> Self {
        let observed = Observed::new(&settings, now);
        let (members, assigned) = (BTreeSet::new(), Vec::new());
        let (busy, later) = (BTreeSet::new(), BTreeMap::new());
        Self {
            settings,
            observed,
            began: now,
            members,
            assigned,
            failing: Default::default(),
            busy,
            leaving: None,
            gave_back: None,
            later,
        }
    }

    /// The watch has shown something.
    pub(super) fn see(&mut self, event: Event<Lease>, now: Moment) {
        self.observed.see(event, now);
    }

    /// This process has nothing to do with the shard any more.
    pub(super) fn ended(&mut self, shard: u32, ended: &Ended, now: Moment) {
        self.busy.remove(&shard);
        if self.leaving == Some(shard) {
            self.leaving = None;
        }
        let duration = self.settings.duration;
        let pause = match ended {
            // The watch shows who has it now, if it has not yet.
            Ended::Refused => jitter(duration / 50, duration / 10),
            Ended::Failed(_) => jitter(duration / 10, self.settings.pause()),
            Ended::GivenBack | Ended::Lost => return,
        };
        self.later.insert(shard, now.plus(pause));
    }

    /// Whether the watch has shown nothing for too long.
    pub(super) fn is_deaf(&self, now: Moment) -> bool {
        self.observed.is_deaf(now)
    }

    /// The members that are there, this one among them.
    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// Decides, `held` being the shards that this process holds. What is
    /// decided counts as begun.
    pub(super) fn decide(&mut self, held: &BTreeSet<u32>, now: Moment) -> Decisions {
        let mut decisions = Decisions::default();
        if !self.observed.is_whole() {
            return decisions;
        }
        self.count_members(now);
        let mut next: Vec<_> = self.observed.next(now).into_iter().collect();
        let idle = (0..self.settings.shards).filter(|shard| !self.busy.contains(shard));
        let all: Vec<_> = idle.filter_map(|shard| Some((shard, self.observed.free(shard, now)?))).collect();
        self.count_failing(&all);
        for (shard, free) in all {
            // The other may be unable to take it; and one that has just come
            // does not know yet that it has run out.
            let patience = match free.after {
                _ if self.is_for_us(shard) => Duration::ZERO,
                After::Expired => self.settings.duration / 15,
                After::Free | After::Created => self.settings.pause(),
            };
            let from = free.since.plus(patience).max(self.later.get(&shard).copied().unwrap_or(free.since));
            match from <= now {
                true => drop(decisions.ask.insert(shard, free)),
                false => next.push(from),
            }
        }
        self.busy.extend(decisions.ask.keys());
        match self.surplus(held) {
            Some((shard, from)) if from <= now && !self.is_deaf(now) => {
                (self.leaving, self.gave_back) = (Some(shard), Some(now));
                decisions.give_back = Some(shard);
            }
            Some((_, from)) if from > now => next.push(from),
            _ => {}
        }
        decisions.swept = self.sweep(now);
        next.push(self.observed.deaf_at());
        decisions.next = next.into_iter().filter(|&moment| moment > now).min();
        decisions
    }

    fn count_members(&mut self, now: Moment) {
        // While it is deaf, nobody is known to have gone or to be there.
        if self.is_deaf(now) && !self.members.is_empty() {
            return;
        }
        let mut members = self.observed.members(now);
        members.insert(self.settings.identity.clone());
        if members != self.members {
            self.assigned = assign(self.settings.shards, &members);
            self.members = members;
            self.failing = Default::default();
        }
    }

    fn count_failing(&mut self, free: &[(u32, Free)]) {
        let expired = free.iter().filter(|(_, free)| free.after == After::Expired);
        let holders = expired.filter_map(|(_, free)| free.was.clone());
        let mut failing: BTreeSet<_> = holders.filter(|holder| self.members.contains(holder)).collect();
        failing.remove(&self.settings.identity);
        if failing != self.failing.0 {
            let assigned = assign(self.settings.shards, &(&self.members - &failing));
            self.failing = (failing, assigned);
        }
    }

    /// Whether we should ask for it.
    fn is_for_us(&self, shard: u32) -> bool {
        let assigned = if self.failing.0.is_empty() { &self.assigned } else { &self.failing.1 };
        assigned.get(shard as usize) == Some(&self.settings.identity)
    }

    /// Whether we should hold it.
    fn is_ours(&self, shard: u32) -> bool {
        self.assigned.get(shard as usize) == Some(&self.settings.identity)
    }

    /// A shard that another member should hold, and when to give it back: one
    /// after the other, as what moves is pulled by nobody for a moment, and not
    /// before the members that started together have seen each other.
    fn surplus(&self, held: &BTreeSet<u32>) -> Option<(u32, Moment)> {
        let duration = self.settings.duration;
        let shard = *held.iter().find(|&&shard| !self.is_ours(shard))?;
        let from = self.gave_back.map_or(self.began, |gave| gave.plus(duration / 5));
        self.leaving.is_none().then_some((shard, from.max(self.began.plus(duration))))
    }

    fn sweep(&mut self, now: Moment) -> Vec<(String, String)> {
        let long = (self.settings.duration * 10).max(LEAST_BEFORE_SWEPT);
        let gone = self.observed.gone_members(now).filter(|(.., since)| now.after(*since) > long);
        let swept: Vec<_> = gone.map(|(name, stored, _)| (name.clone(), stored.version.clone())).collect();
        swept.iter().for_each(|(name, _)| self.observed.forget(name));
        swept
    }
}

/// Not at the same time as others.
fn jitter(least: Duration, most: Duration) -> Duration {
    least + (most - least).mul_f32(fastrand::f32())
}

/// How long the lease of a member that is gone is kept for who looks for it.
const LEAST_BEFORE_SWEPT: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests;
