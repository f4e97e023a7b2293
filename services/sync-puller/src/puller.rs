//! All sources: each that is wanted, and in a shard that is held, is pulled.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use runtime::drain::DrainWatch;
use security::CertificateCheck;
use spool::blocking::spawn_blocking;
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use transport::Address;

use crate::{
    bounds::Bounds, coordination::Held, destination::Destinations, lookup, options, report::Report,
    site::Site, term::Term,
};

/// A source that is to be pulled, and who is told how it stands.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) options: options::Source,
    pub(crate) report: Report,
}

/// All of them, each once.
pub(crate) type Sources = Arc<BTreeMap<Address, Wanted>>;

/// Pulls the sources.
pub(crate) struct Puller {
    pub(crate) sources: watch::Receiver<Sources>,
    pub(crate) held: watch::Receiver<Held>,
    /// In which shard a source is.
    pub(crate) shard_of: Box<dyn Fn(&Address) -> u32 + Send + Sync>,
    pub(crate) destinations: Arc<Destinations>,
    pub(crate) bounds: Bounds,
    pub(crate) certificates: Certificates,
}

/// Whether the certificates of the sources are in order. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Certificates(Arc<Mutex<HashMap<Address, CertificateCheck>>>);

/// What is being pulled.
#[derive(Default)]
struct Running {
    sources: HashMap<Address, Pulled>,
    tasks: JoinSet<()>,
}

/// A source that is being pulled.
struct Pulled {
    task: Id,
    wanted: Wanted,
    term: Term,
    ending: CancellationToken,
}

// === impl Puller ===

impl Puller {
    /// Pulls until the drain starts, and ends what is under way then.
    pub(crate) async fn run(mut self, drain: DrainWatch) {
        let mut running = Running::default();
        // What is there already is news, too.
        self.sources.mark_changed();
        while !(drain.is_started() && running.tasks.is_empty()) {
            tokio::select! {
                Ok(()) = self.sources.changed() => {}
                Ok(()) = self.held.changed() => {}
                Some(ended) = running.tasks.join_next_with_id() => {
                    let task = ended.map_or_else(|error| error.id(), |(id, ())| id);
                    running.sources.retain(|_, pulled| pulled.task != task);
                }
                () = drain.started(), if !drain.is_started() => {}
            }
            match drain.is_started() {
                true => running.sources.values().for_each(|pulled| pulled.ending.cancel()),
                false => self.follow(&mut running),
            }
        }
    }

    /// Ends what is not to be pulled any more, and begins what is. A source
    /// that changed begins anew when it has ended.
    fn follow(&mut self, running: &mut Running) {
        let (sources, held) =
            (self.sources.borrow_and_update().clone(), self.held.borrow_and_update().clone());
        for (address, pulled) in &running.sources {
            let wanted = sources.get(address).is_some_and(|wanted| wanted.is_same(&pulled.wanted));
            let held = held.get(&(self.shard_of)(address)).is_some_and(|term| term.is_same(&pulled.term));
            if !(wanted && held) {
                pulled.ending.cancel();
            }
        }
        let term_of = |address: &Address| held.get(&(self.shard_of)(address));
        let beginning: Vec<_> = sources
            .iter()
            .filter(|(address, _)| !running.sources.contains_key(*address))
            .filter_map(|(address, wanted)| Some((address, wanted, term_of(address)?)))
            .collect();
        let together = beginning.len();
        for (address, wanted, term) in beginning {
            let (ending, part) = term.part();
            let first = first_pause(together, wanted.options.interval);
            let (destinations, bounds) = (Arc::clone(&self.destinations), self.bounds.clone());
            let work = pull(wanted.clone(), part, destinations, bounds, self.certificates.clone(), first);
            let task = running.tasks.spawn(work).id();
            let pulled = Pulled { task, wanted: wanted.clone(), term: term.clone(), ending };
            running.sources.insert(address.clone(), pulled);
        }
    }
}

impl Wanted {
    fn is_same(&self, other: &Self) -> bool {
        self.options == other.options && self.report.is_same(&other.report)
    }
}

impl fmt::Debug for Puller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Puller(..)")
    }
}

/// Pulls one source until its term ends.
async fn pull(
    wanted: Wanted,
    term: Term,
    destinations: Arc<Destinations>,
    bounds: Bounds,
    certificates: Certificates,
    first: Duration,
) {
    let Wanted { options, report } = wanted;
    let address = options.address.clone();
    report.begun();
    while !term.is_ending() {
        let asked = term.clone();
        let made = make(options.clone(), &destinations, bounds.clone(), false, term.clone(), report.clone());
        let why = match made.await {
            Ok(site) => {
                certificates.put(&address, site.check());
                site.pull(first).await;
                break;
            }
            Err(error) => format!("{error:#}"),
        };
        tracing::error!(source = %address, error = why, "cannot be pulled");
        report.failed(why);
        tokio::select! {
            () = sleep(AGAIN_AFTER) => {}
            () = asked.ending() => {}
        }
    }
    certificates.put(&address, None);
    report.ended();
}

/// Makes a source ready to be pulled, for good or `once`.
pub(crate) async fn make(
    options: options::Source,
    destinations: &Destinations,
    bounds: Bounds,
    once: bool,
    term: Term,
    report: Report,
) -> anyhow::Result<Site> {
    let destination = destinations.open(&options.destination).await?;
    // Reads the files of certificates.
    spawn_blocking(move || Site::new(options, destination, bounds, lookup::system(), once, term, report))
        .await?
}

// === impl Certificates ===

impl Certificates {
    /// Whether all are in order: what is wrong with the first that is not.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.checks().values().try_for_each(|check| check())
    }

    /// What is to be asked for a source.
    pub(crate) fn put(&self, source: &Address, check: Option<CertificateCheck>) {
        match check {
            Some(check) => _ = self.checks().insert(source.clone(), check),
            None => _ = self.checks().remove(source),
        }
    }

    fn checks(&self) -> MutexGuard<'_, HashMap<Address, CertificateCheck>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Many sources that begin together do not do so in step.
fn first_pause(together: usize, interval: Duration) -> Duration {
    let span = BETWEEN.saturating_mul(u32::try_from(together - 1).unwrap_or(u32::MAX));
    span.min(interval).mul_f64(fastrand::f64())
}

/// What lies between the beginnings of two sources, on average.
const BETWEEN: Duration = Duration::from_millis(4);

/// How long a source waits whose files cannot be read.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
