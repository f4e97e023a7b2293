//! The names of addresses, by the system's resolver.

use std::{
    fmt,
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use lru::LruCache;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout_at},
};

/// Looks names up, few at once, and keeps the answers for a while: how long
/// an answer takes is up to whoever owns the address.
pub(super) struct Names {
    look_up: Arc<dyn Fn(IpAddr) -> Option<String> + Send + Sync>,
    /// A permit a look-up, for as long as it takes.
    permits: Arc<Semaphore>,
    answers: Mutex<LruCache<IpAddr, Answer>>,
}

struct Answer {
    asked: Instant,
    /// Empty until it is there.
    name: Awaited,
}

type Awaited = watch::Receiver<Option<Option<String>>>;

// === impl Names ===

impl Names {
    /// By this function, which may block.
    pub(super) fn by(look_up: impl Fn(IpAddr) -> Option<String> + Send + Sync + 'static) -> Self {
        Self {
            look_up: Arc::new(look_up),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            answers: Mutex::new(LruCache::new(KEPT)),
        }
    }

    /// The name of an address in lower case, if it leads back to it: whoever
    /// owns an address writes its name. None, too, where no answer comes in
    /// time.
    pub(super) async fn of(&self, address: IpAddr) -> Option<String> {
        let ends = Instant::now() + PATIENCE;
        let mut name = match self.answer(address, None) {
            Some(name) => name,
            None => {
                let permit = timeout_at(ends, Arc::clone(&self.permits).acquire_owned()).await;
                let Ok(Ok(permit)) = permit else {
                    tracing::warn!(%address, "taken to have no name: too many are looked up at once");
                    return None;
                };
                self.answer(address, Some(permit))?
            }
        };
        timeout_at(ends, name.wait_for(Option::is_some)).await.ok()?.ok()?.clone()?
    }

    /// The answer that is kept or under way; else one that is asked for now,
    /// if there is a permit.
    fn answer(&self, address: IpAddr, permit: Option<OwnedSemaphorePermit>) -> Option<Awaited> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answers.get(&address).filter(|answer| answer.asked.elapsed() < FRESH) {
            return Some(answer.name.clone());
        }
        let permit = permit?;
        let (answer, name) = watch::channel(None);
        answers.put(address, Answer { asked: Instant::now(), name: name.clone() });
        let look_up = Arc::clone(&self.look_up);
        let work = move || {
            answer.send_replace(Some(look_up(address)));
            drop(permit);
        };
        // None of the runtime's threads, whose end it would wait for.
        if let Err(error) = thread::Builder::new().name("names".to_owned()).spawn(work) {
            tracing::error!(%address, %error, "taken to have no name: no thread looks it up");
        }
        Some(name)
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::by(look_up)
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names(..)")
    }
}

fn look_up(address: IpAddr) -> Option<String> {
    let name = dns_lookup::lookup_addr(&address).ok()?;
    // Without a name, the resolver gives the address back.
    let is_name = name.parse::<IpAddr>().is_err();
    let back = dns_lookup::lookup_host(&name).ok()?;
    let leads_back = back.into_iter().any(|found| found.to_canonical() == address);
    (is_name && leads_back).then(|| name.trim_end_matches('.').to_lowercase())
}

/// How long a name is waited for; then there is none.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long an answer is good for.
const FRESH: Duration = Duration::from_secs(60);

/// Look-ups at once, a thread each.
const AT_ONCE: usize = 16;

/// Answers that are kept: those that were asked for last.
const KEPT: NonZeroUsize = NonZeroUsize::new(4096).expect("it is not zero");

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    };

    use tokio::time;

    use super::*;

    /// Counts what it is asked for.
    fn counted() -> (Arc<AtomicUsize>, Names) {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let name = move |address: IpAddr| {
            counter.fetch_add(1, SeqCst);
            Some(address.to_string())
        };
        (count, Names::by(name))
    }

    fn numbered(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_a_minute() {
        let (count, names) = counted();
        let address = numbered(1);
        let both = tokio::join!(names.of(address), names.of(address));
        assert_eq!(both, (Some("0.0.0.1".to_owned()), Some("0.0.0.1".to_owned())));
        for (seconds, asked) in [(50, 1), (11, 2)] {
            time::pause();
            time::advance(Duration::from_secs(seconds)).await;
            time::resume();
            names.of(address).await.unwrap();
            assert_eq!(count.load(SeqCst), asked);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn few_are_looked_up_at_once_and_nobody_waits_for_long() {
        let (ends, end) = mpsc::channel::<()>();
        let (end, count) = (Mutex::new(end), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&count);
        let names = Arc::new(Names::by(move |address| {
            counter.fetch_add(1, SeqCst);
            let _ = end.lock().unwrap_or_else(PoisonError::into_inner).recv();
            Some(address.to_string())
        }));
        let began = Instant::now();
        let asks: Vec<_> = (0..100)
            .map(|number| {
                let names = Arc::clone(&names);
                // Each address twice.
                tokio::spawn(async move { names.of(numbered(number / 2)).await })
            })
            .collect();
        for ask in asks {
            assert_eq!(ask.await.unwrap(), None);
        }
        assert!(began.elapsed() < PATIENCE + Duration::from_secs(1));
        time::resume();
        assert_eq!(names.permits.available_permits(), 0);
        // All who wait are answered, and the permits come back.
        drop(ends);
        while names.permits.available_permits() < AT_ONCE {
            time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(count.load(SeqCst), AT_ONCE);
        // An answer that came late is there for who asks again.
        assert_eq!(names.of(numbered(0)).await.unwrap(), "0.0.0.0");
        assert_eq!(count.load(SeqCst), AT_ONCE);
    }

    #[tokio::test]
    async fn the_memory_for_answers_is_bounded() {
        let (_, names) = counted();
        for number in 0..5000 {
            names.of(numbered(number)).await.unwrap();
        }
        assert_eq!(names.answers.lock().unwrap().len(), 4096);
    }

    #[tokio::test]
    async fn a_name_leads_back_to_its_address() {
        let names = Names::default();
        assert_eq!(names.of("127.0.0.1".parse().unwrap()).await.as_deref(), Some("localhost"));
        // Nobody's (RFC 5737).
        assert_eq!(names.of("192.0.2.1".parse().unwrap()).await, None);
    }
}
