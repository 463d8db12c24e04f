//! Transactions that callers share: all that they wait for in one, or, should that fail, each in its own.

use async_trait::async_trait;

use crate::model::{Error, Result};

/// How a transaction failed.
pub enum Failure {
    /// Before it was asked to commit: it has had no effect.
    Before(Error),
    /// While it was asked to commit: it may have had its effect.
    InCommit(Error),
    /// There was no transaction at all: the next attempt would wait as long, to no avail.
    NotBegun(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Before(error)
    }
}

/// What can be done for several callers in one transaction.
#[async_trait]
pub trait Together: Sync {
    /// What one caller asks for.
    type Item: Sync;
    /// What came of it.
    type Outcome: Send;

    /// Does all of it in one transaction; answers one outcome for each, in order. What is refused has written nothing.
    async fn transact(&self, items: &[&Self::Item]) -> Result<Vec<Result<Self::Outcome>>, Failure>;

    /// Does all in one transaction. Should that fail, each by itself, so that one cannot fail the others.
    async fn run(&self, items: &[Self::Item]) -> Vec<Result<Self::Outcome>> {
        let all: Vec<&Self::Item> = items.iter().collect();
        match self.transact(&all).await {
            Ok(outcomes) => outcomes,
            // Whether a commit that failed took effect nobody knows, so it must not be tried again.
            Err(Failure::InCommit(error) | Failure::NotBegun(error)) => {
                items.iter().map(|_| Err(error.share())).collect()
            }
            Err(Failure::Before(error)) if items.len() == 1 => vec![Err(error)],
            Err(Failure::Before(_)) => {
                let mut outcomes = Vec::with_capacity(items.len());
                for item in items {
                    let lost = || Err(Error::internal("a write left no outcome"));
                    outcomes.push(match self.transact(&[item]).await {
                        Ok(mut outcome) => outcome.pop().unwrap_or_else(lost),
                        Err(Failure::Before(error) | Failure::InCommit(error) | Failure::NotBegun(error)) => Err(error),
                    });
                }
                outcomes
            }
        }
    }
}
