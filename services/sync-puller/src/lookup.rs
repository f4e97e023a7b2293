//! What the name of a source stands for: one buffer, or several.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout};
use transport::Address;

use crate::report::Report;

/// Finds the addresses of a name.
pub(crate) type Resolver =
    Arc<dyn Fn(Address) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Which of a name's buffers one is; its files are staged by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Home {
    /// The name stands for this one alone.
    Only,
    /// One of several.
    At(IpAddr),
}

/// The buffers that a name stands for, each with the addresses that lead to
/// it.
pub(crate) type Buffers = BTreeMap<Home, Vec<SocketAddr>>;

/// The system's resolver.
pub(crate) fn system() -> Resolver {
    Arc::new(|address| Box::pin(async move { address.look_up().await }))
}

/// Each address of IPv4 is a buffer; those of IPv6 are other ways to the same
/// ones, and buffers only where there is none of IPv4. A single buffer is
/// reached by any of its addresses, unless it is what is left of `several`.
///
/// Nothing tells two addresses of one host from two hosts; but a name with
/// both kinds is, as a rule, one of hosts that have both.
pub(crate) fn buffers(found: &[SocketAddr], several: bool) -> Buffers {
    let of_kind = |v4: bool| -> BTreeSet<SocketAddr> {
        found.iter().copied().filter(|address| address.is_ipv4() == v4).collect()
    };
    let kind = Some(of_kind(true)).filter(|v4| !v4.is_empty()).unwrap_or_else(|| of_kind(false));
    match kind.len() {
        0 => Buffers::new(),
        1 if !several => [(Home::Only, found.to_vec())].into(),
        _ => kind.into_iter().map(|address| (Home::At(address.ip()), vec![address])).collect(),
    }
}

/// One name, looked up again and again.
pub(crate) struct Lookups {
    address: Address,
    resolver: Resolver,
    pause: Duration,
    patience: Duration,
    /// Of the lookup that is under way, its pause included.
    given: Duration,
    /// What was found the last time.
    found: BTreeSet<SocketAddr>,
    /// Whether the name has stood for several buffers: the one that is alone
    /// now is one of them, and tomorrow it may be another.
    several: bool,
    failed: Option<String>,
    report: Report,
    /// One at a time: a resolver that is silent holds one thread a name.
    under_way: BoxFuture<'static, io::Result<Vec<SocketAddr>>>,
}

impl Lookups {
    /// The first one now, each further one `pause` after the last. One that
    /// takes longer than `patience` is said, and waited for.
    pub(crate) fn new(
        address: Address,
        resolver: Resolver,
        (pause, patience): (Duration, Duration),
        report: Report,
    ) -> Self {
        let under_way = resolver(address.clone());
        let found = BTreeSet::new();
        let (given, several, failed) = (patience, false, None);
        Self { address, resolver, pause, patience, given, found, several, failed, report, under_way }
    }

    /// Waits until the name stands for something else than before. One that
    /// cannot be looked up stands for what it did: the resolver may be away
    /// for a while, the buffers not. May be dropped and called again.
    pub(crate) async fn changed(&mut self) -> Buffers {
        loop {
            let answer = match timeout(self.given, &mut self.under_way).await {
                Ok(answer) => answer,
                Err(_) => {
                    self.say(&format!("no answer within {} s", self.patience.as_secs_f32()));
                    continue;
                }
            };
            let (resolver, address, pause) = (Arc::clone(&self.resolver), self.address.clone(), self.pause);
            self.given = pause + self.patience;
            self.under_way = Box::pin(async move {
                sleep(pause).await;
                resolver(address).await
            });
            match answer {
                Err(error) => self.say(&error.to_string()),
                Ok(answer) => {
                    self.failed = None;
                    let found: BTreeSet<_> = answer.iter().copied().collect();
                    if found != self.found {
                        self.found = found;
                        let buffers = buffers(&answer, self.several);
                        self.several |= buffers.len() > 1;
                        return buffers;
                    }
                }
            }
        }
    }

    /// Once, until it changes.
    fn say(&mut self, why: &str) {
        // Nothing is pulled, so that no round tells.
        if self.found.is_empty() {
            self.report.failed(format!("{}: the name cannot be looked up: {why}", self.address));
        }
        if self.failed.as_deref() != Some(why) {
            tracing::warn!(source = %self.address, error = why, known = self.found.len(), "the name cannot be looked up; the addresses that are known stay");
            self.failed = Some(why.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;
    use crate::report::State;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 41121)).collect()
    }

    fn homes(texts: &[&str]) -> Vec<Home> {
        buffers(&addresses(texts), false).into_keys().collect()
    }

    fn at(text: &str) -> Home {
        Home::At(text.parse().unwrap())
    }

    #[test]
    fn each_address_is_a_buffer_and_a_second_kind_of_address_is_none() {
        assert_eq!(homes(&[]), []);
        assert_eq!(homes(&["10.0.0.1"]), [Home::Only]);
        assert_eq!(homes(&["::1"]), [Home::Only]);
        assert_eq!(homes(&["10.0.0.1", "10.0.0.1"]), [Home::Only]);
        assert_eq!(homes(&["10.0.0.2", "10.0.0.1"]), [at("10.0.0.1"), at("10.0.0.2")]);
        assert_eq!(homes(&["fd00::2", "fd00::1"]), [at("fd00::1"), at("fd00::2")]);
        let dual = ["fd00::2", "fd00::1", "10.0.0.1", "10.0.0.2"];
        assert_eq!(homes(&dual), [at("10.0.0.1"), at("10.0.0.2")]);
    }

    #[test]
    fn a_host_with_both_kinds_is_one_buffer_and_reached_in_the_resolvers_order() {
        let found = addresses(&["fd00::1", "10.0.0.1"]);
        assert_eq!(buffers(&found, false), [(Home::Only, found)].into());
    }

    /// Gives these answers in turn, then none for ever.
    fn scripted(answers: Vec<io::Result<Vec<SocketAddr>>>) -> (Resolver, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, answers) = (Arc::clone(&asked), std::sync::Mutex::new(answers.into_iter()));
        let resolver: Resolver = Arc::new(move |_| {
            count.fetch_add(1, SeqCst);
            let answer = answers.lock().unwrap().next();
            Box::pin(async move {
                match answer {
                    Some(answer) => answer,
                    None => std::future::pending().await,
                }
            })
        });
        (resolver, asked)
    }

    fn lookups(resolver: Resolver) -> Lookups {
        let second = Duration::from_secs(1);
        Lookups::new("buffers".parse().unwrap(), resolver, (second, second), Report::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_keeps_its_addresses_while_it_cannot_be_looked_up() {
        let (one, two) = (addresses(&["10.0.0.1"]), addresses(&["10.0.0.1", "10.0.0.2"]));
        let error = || Err(io::Error::other("temporary failure"));
        let (resolver, asked) = scripted(vec![Ok(one.clone()), error(), error(), Ok(one), Ok(two)]);
        let mut lookups = lookups(resolver);
        assert_eq!(lookups.changed().await.len(), 1);
        assert_eq!(lookups.changed().await.len(), 2);
        assert_eq!(asked.load(SeqCst), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_stands_for_nothing_yet_is_told_to_fail() {
        let error = || Err(io::Error::other("no such name"));
        let (resolver, _) = scripted(vec![error(), error(), Ok(addresses(&["10.0.0.1"])), error()]);
        let mut lookups = lookups(resolver);
        let standing = lookups.report.watch();
        lookups.changed().await;
        let told = "buffers:41121: the name cannot be looked up: no such name".to_owned();
        assert_eq!(standing.borrow().state, State::Failing(told));
        // Once it has stood for something, rounds tell.
        lookups.report.round("buffers", (0, 0), 0, None);
        assert!(timeout(Duration::from_secs(600), lookups.changed()).await.is_err());
        assert_eq!(standing.borrow().state, State::Well);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_one_of_several_is_still_that_one() {
        let (one, two) = (addresses(&["10.0.0.1"]), addresses(&["10.0.0.1", "10.0.0.2"]));
        let (resolver, _) = scripted(vec![Ok(one.clone()), Ok(two), Ok(one)]);
        let mut lookups = lookups(resolver);
        for homes in [vec![Home::Only], vec![at("10.0.0.1"), at("10.0.0.2")], vec![at("10.0.0.1")]] {
            assert_eq!(lookups.changed().await.into_keys().collect::<Vec<_>>(), homes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_resolver_is_asked_one_question_at_a_time() {
        let (resolver, asked) = scripted(Vec::new());
        let mut lookups = lookups(resolver);
        for _ in 0..3 {
            assert!(timeout(Duration::from_secs(600), lookups.changed()).await.is_err());
        }
        assert_eq!(asked.load(SeqCst), 1);
    }
}
