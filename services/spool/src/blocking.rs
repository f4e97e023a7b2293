//! Work that blocks, away from the threads that serve connections.

#[cfg(not(feature = "simulation"))]
pub use tokio::task::spawn_blocking;

/// Runs `work` as a task among others: a simulation has one thread, and what
/// it does in which order is the same each time.
#[cfg(feature = "simulation")]
pub fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(async move { work() })
}
