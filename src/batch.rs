//! Batching by nature: while one statement or commit is in flight, later callers gather and share the next.
//!
//! An idle batch adds no delay: the first caller's work starts at once. A busy one grows by itself, so that the cost
//! of a statement or an fsync is shared by whoever came meanwhile. This floor knows nothing of what the work is.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::{Mutex, mpsc, oneshot};

/// Why an item has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Too many items wait already.
    Full,
    /// The work fell over, or the batch has stopped.
    FellOver,
}

/// How much a batch takes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most weight that shares one piece of work. One item may weigh more by itself.
    pub weight: usize,
    /// How many pieces of work may be in flight at once.
    pub in_flight: usize,
    /// How many items may wait; one more is refused, so that a slow disk is not answered with memory.
    pub waiting: usize,
}

type Waiting<I, O> = (I, oneshot::Sender<O>);

/// A queue whose items are worked on together. Clones share the queue; the work ends when the last is dropped.
pub struct Batch<I, O> {
    queue: mpsc::Sender<Waiting<I, O>>,
}

impl<I, O> Clone for Batch<I, O> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<I: Send + 'static, O: Send + 'static> Batch<I, O> {
    /// Starts the workers. `work` is given the gathered items and answers one outcome for each, in their order;
    /// `weigh` tells how much an item counts against [`Limits::weight`].
    pub fn start<W, F>(limits: Limits, weigh: fn(&I) -> usize, work: W) -> Self
    where
        W: Fn(Vec<I>) -> F + Send + Sync + 'static,
        F: Future<Output = Vec<O>> + Send + 'static,
    {
        let (queue, items) = mpsc::channel(limits.waiting);
        let items = Arc::new(Mutex::new(Source { items, put_back: None }));
        let work = Arc::new(work);
        for _ in 0..limits.in_flight.max(1) {
            tokio::spawn(serve(limits.weight, weigh, Arc::clone(&items), Arc::clone(&work)));
        }
        Self { queue }
    }

    /// Waits for the outcome of one item.
    pub async fn call(&self, item: I) -> Result<O, Failed> {
        let (answer, outcome) = oneshot::channel();
        self.queue.try_send((item, answer)).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Failed::Full,
            mpsc::error::TrySendError::Closed(_) => Failed::FellOver,
        })?;
        outcome.await.map_err(|_| Failed::FellOver)
    }
}

/// The receiving end, with the item that did not fit into the last batch.
struct Source<I, O> {
    items: mpsc::Receiver<Waiting<I, O>>,
    put_back: Option<Waiting<I, O>>,
}

impl<I, O> Source<I, O> {
    /// Waits for one item, then takes what else is there, up to `weight`.
    async fn gather(&mut self, weight: usize, weigh: fn(&I) -> usize) -> Option<Vec<Waiting<I, O>>> {
        let first = match self.put_back.take() {
            Some(item) => item,
            None => self.items.recv().await?,
        };
        let mut total = weigh(&first.0);
        let mut gathered = vec![first];
        while let Ok(next) = self.items.try_recv() {
            if next.1.is_closed() {
                continue; // Nobody waits for it any more.
            }
            total += weigh(&next.0);
            if total > weight {
                self.put_back = Some(next);
                break;
            }
            gathered.push(next);
        }
        Some(gathered)
    }
}

async fn serve<I, O, W, F>(weight: usize, weigh: fn(&I) -> usize, source: Arc<Mutex<Source<I, O>>>, work: Arc<W>)
where
    W: Fn(Vec<I>) -> F,
    F: Future<Output = Vec<O>>,
{
    loop {
        let Some(gathered) = source.lock().await.gather(weight, weigh).await else { return };
        let (items, answers): (Vec<I>, Vec<_>) = gathered.into_iter().unzip();
        // Work that falls over drops its answers, which tells its callers; the next batch is not harmed.
        if let Ok(outcomes) = AssertUnwindSafe(work(items)).catch_unwind().await {
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                let _caller_gave_up = answer.send(outcome);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Semaphore;

    const ONE: Limits = Limits { weight: 100, in_flight: 1, waiting: 1000 };

    #[tokio::test]
    async fn callers_who_come_while_work_is_in_flight_share_the_next_piece() {
        let rounds = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Semaphore::new(0));
        let batch = {
            let (rounds, gate) = (Arc::clone(&rounds), Arc::clone(&gate));
            Batch::start(
                ONE,
                |_| 1,
                move |items: Vec<u32>| {
                    let (rounds, gate) = (Arc::clone(&rounds), Arc::clone(&gate));
                    async move {
                        rounds.fetch_add(1, Ordering::SeqCst);
                        gate.acquire().await.unwrap().forget();
                        items.into_iter().map(|n| n * 2).collect()
                    }
                },
            )
        };
        let calls: Vec<_> = (0..50)
            .map(|n| {
                let batch = batch.clone();
                tokio::spawn(async move { batch.call(n).await.unwrap() })
            })
            .collect();
        while rounds.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(50);
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap() as usize, n * 2);
        }
        assert!(rounds.load(Ordering::SeqCst) <= 3, "50 callers took {} rounds", rounds.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn work_that_falls_over_fails_its_callers_and_not_the_next_ones() {
        let batch = Batch::start(
            ONE,
            |_| 1,
            |items: Vec<u32>| async move {
                assert!(!items.contains(&13), "thirteen");
                items
            },
        );
        assert_eq!(batch.call(13).await, Err(Failed::FellOver));
        assert_eq!(batch.call(7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_instead_of_growing() {
        let gate = Arc::new(Semaphore::new(0));
        let limits = Limits { weight: 1, in_flight: 1, waiting: 1 };
        let batch = {
            let gate = Arc::clone(&gate);
            Batch::start(
                limits,
                |_| 1,
                move |items: Vec<u32>| {
                    let gate = Arc::clone(&gate);
                    async move {
                        gate.acquire().await.unwrap().forget();
                        items
                    }
                },
            )
        };
        let mut waiting: Vec<_> = (0..8).map(|n| Box::pin(batch.call(n))).collect();
        let mut refused = 0;
        for call in &mut waiting {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            if let Some(Err(error)) = call.now_or_never() {
                assert_eq!(error, Failed::Full);
                refused += 1;
            }
        }
        assert!(refused >= 5, "{refused} refused");
        gate.add_permits(8);
    }
}
