//! A place that may never answer: what is mounted over a network hangs, and each call that waits for it holds a thread.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::keys::sink::CheckpointSink;
use crate::model::{Error, Reason, Result};

/// How long a place may take for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many calls of a place may be under way at once, those included that nobody waits for any more.
pub const AT_ONCE: usize = 16;

/// A place outside.
#[derive(Clone)]
pub struct Place {
    sink: Arc<dyn CheckpointSink>,
    calls: Arc<Semaphore>,
    /// When calls were made that may be under way. While one of them takes too long, no other is made.
    made: Arc<Mutex<Vec<(Instant, AbortHandle)>>>,
}

impl Place {
    /// What is kept there is kept in `sink`.
    #[must_use]
    pub fn new(sink: Arc<dyn CheckpointSink>) -> Self {
        let calls = Arc::new(Semaphore::new(AT_ONCE));
        Self { sink, calls, made: Arc::default() }
    }

    /// Where it is, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        self.sink.describe()
    }

    /// Makes the place.
    pub async fn make(&self) -> Result<()> {
        self.ask(|sink| async move { sink.make().await }).await
    }

    /// What is kept under a name.
    pub async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let name = name.to_owned();
        self.ask(|sink| async move { sink.get(&name).await }).await
    }

    /// Keeps something, if the place is there.
    pub async fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (name, bytes) = (name.to_owned(), bytes.to_vec());
        self.ask(|sink| async move {
            sink.is_there().await?;
            sink.put(&name, &bytes).await
        })
        .await
    }

    /// The names of all that is kept of a kind, in order; refuses when the place is not there.
    pub async fn list(&self, kind: &'static str) -> Result<Vec<String>> {
        self.ask(move |sink| async move {
            sink.is_there().await?;
            sink.list(kind).await
        })
        .await
    }

    /// Removes what is kept under a name.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.ask(|sink| async move { sink.remove(&name).await }).await
    }

    /// Waits for an answer, and not for ever. What nobody waits for any more goes on by itself, and when it takes too long the
    /// place is taken to hang until it has come back.
    async fn ask<T, F>(&self, call: impl FnOnce(Arc<dyn CheckpointSink>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let late = || Error::new(Reason::KeyCustodianUnavailable, "does not answer");
        let asked = async {
            let one_of_few = Arc::clone(&self.calls).acquire_owned().await.map_err(Error::internal)?;
            if self.hangs() {
                return Err(late());
            }
            let call = call(Arc::clone(&self.sink));
            let call = tokio::spawn(async move {
                let answer = call.await;
                drop(one_of_few);
                answer
            });
            self.note(call.abort_handle());
            call.await.map_err(Error::internal)?
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(late()))
    }

    fn note(&self, call: AbortHandle) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), call));
    }

    fn hangs(&self) -> bool {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|(_, call)| !call.is_finished());
        made.iter().any(|(at, _)| at.elapsed() >= PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;

    /// A place that answers when it is let.
    struct Stuck {
        asked: AtomicUsize,
        open: Semaphore,
    }

    #[async_trait]
    impl CheckpointSink for Stuck {
        async fn make(&self) -> Result<()> {
            Ok(())
        }

        async fn put(&self, _: &str, _: &[u8]) -> Result<()> {
            Ok(())
        }

        async fn get(&self, _: &str) -> Result<Option<Vec<u8>>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let _let_through = self.open.acquire().await.map_err(Error::internal)?;
            Ok(None)
        }

        async fn list(&self, _: &str) -> Result<Vec<String>> {
            Ok(Vec::new())
        }

        async fn remove(&self, _: &str) -> Result<()> {
            Ok(())
        }

        async fn is_there(&self) -> Result<()> {
            Ok(())
        }

        fn describe(&self) -> String {
            "stuck".to_owned()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_hangs_is_asked_no_more_until_it_has_come_back() {
        let stuck = Arc::new(Stuck { asked: AtomicUsize::new(0), open: Semaphore::new(0) });
        let place = Place::new(Arc::clone(&stuck) as Arc<dyn CheckpointSink>);
        for _ in 0..100 {
            place.get("a").await.unwrap_err();
        }
        assert_eq!(stuck.asked.load(Ordering::Relaxed), 1);
        stuck.open.add_permits(1);
        come_back(&place).await;
        assert_eq!(place.get("a").await.unwrap(), None);
        place.make().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_nobody_waits_for_are_few_and_not_forgotten() {
        let stuck = Arc::new(Stuck { asked: AtomicUsize::new(0), open: Semaphore::new(0) });
        let place = Place::new(Arc::clone(&stuck) as Arc<dyn CheckpointSink>);
        for _ in 0..100 {
            let given_up = tokio::time::timeout(Duration::from_millis(1), place.get("a")).await;
            assert!(given_up.is_err(), "it is given up before the place is taken to hang");
        }
        assert_eq!(stuck.asked.load(Ordering::Relaxed), AT_ONCE);
        tokio::time::advance(PATIENCE).await;
        assert!(place.hangs());
        stuck.open.add_permits(1);
        come_back(&place).await;
        place.make().await.unwrap();
    }

    async fn come_back(place: &Place) {
        while place.hangs() {
            tokio::task::yield_now().await;
        }
    }
}
