//! A place that may never answer: what is mounted over a network hangs, and each call that waits for it holds a thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::keys::sink::CheckpointSink;
use crate::model::{Error, Reason, Result};

/// How long a place may take for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many calls of a place may be waited for at once, and so how many may hang.
pub const AT_ONCE: usize = 16;

/// A place outside.
#[derive(Clone)]
pub struct Place {
    sink: Arc<dyn CheckpointSink>,
    calls: Arc<Semaphore>,
    /// Calls that were given up. While one of them has not come back, no other is made.
    given_up: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Place {
    /// What is kept there is kept in `sink`.
    #[must_use]
    pub fn new(sink: Arc<dyn CheckpointSink>) -> Self {
        let calls = Arc::new(Semaphore::new(AT_ONCE));
        Self { sink, calls, given_up: Arc::default() }
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

    /// Waits for an answer, and not for ever. What is given up goes on by itself, and until it has come back the place is
    /// taken to hang.
    async fn ask<T, F>(&self, call: impl FnOnce(Arc<dyn CheckpointSink>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let late = || Error::new(Reason::KeyCustodianUnavailable, "does not answer");
        let _one_of_few = self.calls.acquire().await.map_err(Error::internal)?;
        if self.hangs() {
            return Err(late());
        }
        let call = tokio::spawn(call(Arc::clone(&self.sink)));
        let handle = call.abort_handle();
        let Ok(answer) = tokio::time::timeout(PATIENCE, call).await else {
            self.given_up().push(handle);
            return Err(late());
        };
        answer.map_err(Error::internal)?
    }

    fn hangs(&self) -> bool {
        let mut given_up = self.given_up();
        given_up.retain(|call| !call.is_finished());
        !given_up.is_empty()
    }

    fn given_up(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
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
        while place.hangs() {
            tokio::task::yield_now().await;
        }
        assert_eq!(place.get("a").await.unwrap(), None);
        place.make().await.unwrap();
    }
}
