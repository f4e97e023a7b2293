//! What the watch shows of the leases, and since when. No clock of another
//! machine is asked: a lease has run out when nothing has changed in it for
//! its duration since this process saw it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::watcher::Event;

use super::{Settings, lease::Stored};
use crate::term::Moment;

/// All leases of one name.
#[derive(Debug)]
pub(super) struct Observed {
    shards: u32,
    /// How the names of shards' and members' leases begin.
    prefixes: (String, String),
    leases: BTreeMap<String, Seen>,
    /// Since when all leases are known.
    whole: Option<Moment>,
    /// The names of a listing that has not ended.
    listing: Option<BTreeSet<String>>,
    /// When the watch has shown something the last time. It shows this
    /// process's own renewals too.
    heard: Moment,
    /// After so long without anything shown, the watch is deaf.
    patience: Duration,
}

/// A lease as it was shown.
#[derive(Clone, Debug)]
struct Seen {
    holder: Option<String>,
    duration: Duration,
    /// None once it is deleted.
    stored: Option<Stored>,
    at: Moment,
}

/// A shard that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Free {
    pub(super) since: Moment,
    pub(super) after: After,
    /// Who held it.
    pub(super) was: Option<String>,
    /// None where there is no lease.
    pub(super) stored: Option<Stored>,
}

/// Why a shard can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Free,
    Expired,
    Created,
}

// === impl Observed ===

impl Observed {
    pub(super) fn new(settings: &Settings, now: Moment) -> Self {
        Self {
            shards: settings.shards,
            prefixes: (format!("{}-shard-", settings.name), format!("{}-member-", settings.name)),
            leases: BTreeMap::new(),
            whole: None,
            listing: None,
            heard: now,
            patience: settings.pause() * 2,
        }
    }

    pub(super) fn see(&mut self, event: Event<Lease>, now: Moment) {
        if self.is_deaf(now) {
            // Others may have renewed what was not shown; and if the server
            // was away, nobody could.
            self.leases.values_mut().for_each(|seen| seen.at = now);
        }
        self.heard = now;
        match event {
            Event::Init => self.listing = Some(BTreeSet::new()),
            Event::InitApply(lease) => {
                if let (Some(listing), Some(name)) = (&mut self.listing, &lease.metadata.name) {
                    listing.insert(name.clone());
                }
                self.apply(&lease, now);
            }
            Event::InitDone => {
                let listed = self.listing.take().unwrap_or_default();
                let gone: Vec<_> =
                    self.leases.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                gone.iter().for_each(|name| self.gone(name, now));
                self.whole.get_or_insert(now);
            }
            Event::Apply(lease) => self.apply(&lease, now),
            Event::Delete(lease) => self.gone(&lease.metadata.name.unwrap_or_default(), now),
        }
    }

    /// Whether all leases are known.
    pub(super) fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    /// Whether the watch has shown nothing for so long that nothing follows
    /// from what it does not show.
    pub(super) fn is_deaf(&self, now: Moment) -> bool {
        now.after(self.heard) > self.patience
    }

    /// When it is deaf, unless it shows something before.
    pub(super) fn deaf_at(&self) -> Moment {
        self.heard.plus(self.patience)
    }

    /// The members whose leases have not run out.
    pub(super) fn members(&self, now: Moment) -> BTreeSet<String> {
        let live = self.of_members().filter(|(_, seen)| !self.has_run_out(seen, now));
        live.filter_map(|(_, seen)| seen.holder.clone()).collect()
    }

    /// The leases of members that have run out, with their versions and when
    /// they did.
    pub(super) fn gone_members(&self, now: Moment) -> impl Iterator<Item = (&String, &Stored, Moment)> {
        let out = self.of_members().filter(move |(_, seen)| self.has_run_out(seen, now));
        out.filter_map(|(name, seen)| Some((name, seen.stored.as_ref()?, seen.runs_out())))
    }

    /// The lease of a member is about to be deleted.
    pub(super) fn forget(&mut self, name: &str) {
        self.leases.remove(name);
    }

    /// Whether a shard can be asked for.
    pub(super) fn free(&self, shard: u32, now: Moment) -> Option<Free> {
        let Some(seen) = self.leases.get(&format!("{}{shard}", self.prefixes.0)) else {
            return Some(Free { since: self.whole?, after: After::Created, was: None, stored: None });
        };
        let (stored, was) = (seen.stored.clone(), seen.holder.clone());
        if was.is_none() {
            return Some(Free { since: seen.at, after: After::Free, was, stored });
        }
        let expired = Free { since: seen.runs_out(), after: After::Expired, was, stored };
        self.has_run_out(seen, now).then_some(expired)
    }

    /// The next moment when one of the leases runs out.
    pub(super) fn next(&self, now: Moment) -> Option<Moment> {
        let held = self.leases.values().filter(|seen| seen.holder.is_some());
        held.map(Seen::runs_out).filter(|&moment| moment > now).min()
    }

    fn of_members(&self) -> impl Iterator<Item = (&String, &Seen)> {
        self.leases.iter().filter(|(name, _)| name.starts_with(&self.prefixes.1))
    }

    fn has_run_out(&self, seen: &Seen, now: Moment) -> bool {
        now >= seen.runs_out() && !self.is_deaf(now)
    }

    fn apply(&mut self, lease: &Lease, now: Moment) {
        let name = lease.metadata.name.clone().unwrap_or_default();
        if !self.is_known(&name) {
            return;
        }
        let stored = Stored::of(lease);
        if self.leases.get(&name).is_some_and(|seen| seen.stored.as_ref() == Some(&stored)) {
            return; // A listing shows what was seen already.
        }
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.filter(|holder| !holder.is_empty());
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default();
        let duration = Duration::from_secs(seconds);
        self.leases.insert(name, Seen { holder, duration, stored: Some(stored), at: now });
    }

    /// A holder whose lease was deleted by somebody else goes on for its term.
    fn gone(&mut self, name: &str, now: Moment) {
        match self.leases.get_mut(name) {
            Some(seen) if seen.holder.is_some() && name.starts_with(&self.prefixes.0) => {
                if seen.stored.take().is_some() {
                    seen.at = now;
                }
            }
            _ => drop(self.leases.remove(name)),
        }
    }

    fn is_known(&self, name: &str) -> bool {
        let shard = name.strip_prefix(&self.prefixes.0).and_then(|number| number.parse::<u32>().ok());
        shard.is_some_and(|shard| shard < self.shards) || name.starts_with(&self.prefixes.1)
    }
}

// === impl Seen ===

impl Seen {
    fn runs_out(&self) -> Moment {
        self.at.plus(self.duration)
    }
}
