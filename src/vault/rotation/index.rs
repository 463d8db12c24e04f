//! A new key for the search index, and with it a new index.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Next, Step, Worker, row_after};
use crate::keys::checkpoint::hex;
use crate::keys::doubt::Doubt;
use crate::keys::index::{self, Entry};
use crate::keys::{condemn, destroy_buckets, next_generation};
use crate::model::{Error, Facts, Reason, Result, Rotation, RotationState, SubjectId, SubjectState, TokenRow};
use crate::store::Tx;
use crate::store::index::{Generation, Stage};

/// Buckets made, waited for or destroyed in one transaction.
const BUCKETS: u32 = 64;

/// Tokens put into the new index in one transaction.
const TOKENS: u32 = 64;

/// Where the rotation of the index key stands.
#[derive(Serialize, Deserialize)]
pub struct Fill {
    /// The generation that is built.
    new: u32,
    /// The generation that it takes the place of.
    old: u32,
    phase: Phase,
    /// Values that did not open.
    skipped: u64,
}

/// What is done to the generations. Numbers are of buckets, in both generations counted from the first.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// Makes the empty buckets of the new one, under leaves from `leaf` on. Nobody uses it.
    Prepare { next: u32, leaf: u32 },
    /// Has everybody write both. Waits, bucket by bucket of the old one, for those who did not know yet.
    Announce { next: u32 },
    /// Puts what was there before into the new one.
    Tokens { after: Option<String> },
    /// Has everybody read and write the new one only, and destroys the old one.
    Destroy { next: u32 },
}

/// What there is to do.
pub struct Plan {
    /// The generation that is read now.
    pub current: Generation,
    /// How many buckets the new one is to have.
    pub buckets: u32,
    /// Values that may have an entry.
    pub values: u64,
}

impl Plan {
    /// How much that is, with the change of the root at the end.
    pub const fn total(&self) -> u64 {
        self.buckets as u64 + 2 * self.current.buckets as u64 + self.values + 1
    }
}

impl Fill {
    /// What a rotation of the index key would do.
    pub async fn plan(tx: &mut dyn Tx, buckets: Option<u32>) -> Result<Plan> {
        let generations = tx.generations().await?;
        let lost = || Error::internal("the database has no search index");
        let current = *index::current(&generations).ok_or_else(lost)?;
        Ok(Plan { current, buckets: buckets.unwrap_or(current.buckets), values: tx.count_sealed().await? })
    }

    /// The first step of a plan.
    pub async fn begin(tx: &mut dyn Tx, plan: &Plan) -> Result<Step> {
        let generations = tx.generations().await?;
        // Nothing is sealed under them before this is committed, and from then on the generation names them.
        let leaf = tx.take_leaves(plan.buckets.saturating_add(1)).await?;
        let new = next_generation(&generations, leaf, plan.buckets, Stage::Preparing);
        tx.put_generation(&new).await?;
        let phase = Phase::Prepare { next: 0, leaf: leaf.saturating_add(1) };
        Ok(Step::Fill(Self { new: new.generation, old: plan.current.generation, phase, skipped: 0 }))
    }

    fn then(self, phase: Phase) -> Step {
        Step::Fill(Self { phase, ..self })
    }
}

impl Worker {
    /// Goes on building the new index.
    pub(super) async fn fill(&self, seen: &Rotation, step: Fill) -> Result<()> {
        // Read before the transaction, which then looks again at what can have changed.
        let page = match &step.phase {
            Phase::Tokens { after } => {
                self.custody.store().read().await?.scan_tokens(row_after(after.as_deref())?, TOKENS).await?
            }
            _ => Vec::new(),
        };
        let Some((mut tx, rotation)) = self.lock(seen).await? else { return Ok(()) };
        let generations = tx.generations().await?;
        let find = |number| generations.iter().find(|generation| generation.generation == number).copied();
        let mut doubt = None;
        let next = match (step.phase.clone(), find(step.new), find(step.old)) {
            (Phase::Prepare { next, leaf }, Some(new), _) => self.prepare(&mut *tx, step, new, next, leaf).await?,
            (Phase::Announce { next }, Some(_), Some(old)) => announce(&mut *tx, step, old, next).await?,
            (Phase::Tokens { .. }, Some(new), Some(old)) => {
                self.tokens(&mut *tx, step, (new, old), &page, &mut doubt).await?
            }
            (Phase::Destroy { next }, _, Some(old)) => destroy(&mut *tx, step, old, next).await?,
            _ => Next::End(RotationState::Failed, "a generation of the search index is not there any more".to_owned()),
        };
        self.settle(tx, rotation, next).await?;
        doubt.into_iter().for_each(Doubt::resolve);
        Ok(())
    }

    async fn prepare(&self, tx: &mut dyn Tx, step: Fill, new: Generation, next: u32, leaf: u32) -> Result<Next> {
        let end = new.buckets.min(next + BUCKETS);
        let numbers = new.first_bucket + next..new.first_bucket + end;
        index::prepare(&self.custody.ring, tx, numbers, leaf + next).await?;
        if end < new.buckets {
            return Ok(Next::Step(step.then(Phase::Prepare { next: end, leaf }), u64::from(end - next)));
        }
        tx.put_generation(&Generation { stage: Stage::Building, ..new }).await?;
        Ok(Next::Step(step.then(Phase::Announce { next: 0 }), u64::from(end - next)))
    }

    /// Puts a page of tokens into the new generation; after the last, everybody reads that one.
    async fn tokens(
        &self,
        tx: &mut dyn Tx,
        mut step: Fill,
        (new, old): (Generation, Generation),
        page: &[Facts],
        doubt: &mut Option<Doubt>,
    ) -> Result<Next> {
        let Some(last) = page.last() else {
            tx.put_generation(&Generation { stage: Stage::Current, ..new }).await?;
            tx.put_generation(&Generation { stage: Stage::Retired, ..old }).await?;
            return Ok(Next::Step(step.then(Phase::Destroy { next: 0 }), 0));
        };
        let after = Some(hex(last.token.row.as_bytes()));
        let with_value = page.iter().filter(|facts| facts.token.sealed.is_some());
        let (mut rows, mut subjects) = (Vec::new(), BTreeSet::<SubjectId>::new());
        for facts in with_value {
            rows.push(facts.token.row);
            subjects.insert(facts.token.subject);
        }
        // Nobody can change or erase these values until the commit.
        tx.lock_subjects(&subjects.into_iter().collect::<Vec<_>>()).await?;
        let looked_at = rows.len() as u64;
        let entries = self.entries(tx, &rows, new, &mut step.skipped).await?;
        let buckets = index::buckets(&entries);
        tx.lock_buckets(&buckets.iter().copied().collect::<Vec<_>>()).await?;
        *doubt = Some(self.custody.doubt(buckets));
        if !entries.is_empty() {
            index::insert(&self.custody.ring, tx, &entries).await?;
        }
        Ok(Next::Step(step.then(Phase::Tokens { after }), looked_at))
    }

    async fn entries(
        &self,
        tx: &mut dyn Tx,
        rows: &[TokenRow],
        new: Generation,
        skipped: &mut u64,
    ) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for facts in tx.facts(rows, &[]).await? {
            let token = &facts.token;
            let dying = matches!(facts.state, SubjectState::Shredding | SubjectState::Shredded);
            if dying || token.sealed.is_none() || !self.custody.ring.is_live(token.leaf)? {
                continue;
            }
            match self.custody.spots_of(token, &[new]) {
                Ok(spots) => entries.extend(spots.into_iter().map(|spot| Entry { spot, row: token.row })),
                Err(error) if error.reason == Reason::SealBroken => {
                    tracing::error!(subject = %token.subject, ?error, "a value cannot be indexed");
                    *skipped += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }
}

/// Waits for whoever holds one of the next buckets of the old generation: they may not know of the new one. Those who
/// come later do.
async fn announce(tx: &mut dyn Tx, step: Fill, old: Generation, next: u32) -> Result<Next> {
    let end = old.buckets.min(next + BUCKETS);
    let numbers: Vec<u32> = (old.first_bucket + next..old.first_bucket + end).collect();
    tx.lock_buckets(&numbers).await?;
    let phase = if end < old.buckets { Phase::Announce { next: end } } else { Phase::Tokens { after: None } };
    Ok(Next::Step(step.then(phase), u64::from(end - next)))
}

async fn destroy(tx: &mut dyn Tx, step: Fill, old: Generation, next: u32) -> Result<Next> {
    let end = old.buckets.min(next + BUCKETS);
    let numbers: Vec<u32> = (old.first_bucket + next..old.first_bucket + end).collect();
    destroy_buckets(tx, &numbers).await?;
    let done = u64::from(end - next);
    if end < old.buckets {
        return Ok(Next::Step(step.then(Phase::Destroy { next: end }), done));
    }
    condemn(tx, vec![old.leaf]).await?;
    tx.delete_generation(old.generation).await?;
    let skipped = match step.skipped {
        0 => String::new(),
        skipped => format!(", without {skipped} values that do not open"),
    };
    Ok(Next::Step(Step::Renew { detail: format!("generation {} of the index{skipped}", step.new) }, done))
}
