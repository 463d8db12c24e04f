//! Four eyes: what one caller wants to read in bulk, another one has to approve.

use super::super::audit::Entry;
use super::super::write::Record;
use super::Vault;
use crate::model::{Approval, ApprovalId, ApprovalState, Bulk, Error, Reason, Reference, Result, Time};
use crate::policy::{self, Caller, Catalogue, Claim};
use crate::vault::read::Name;
use crate::vault::reveal::Detokenize;

/// How many requests of one caller may wait at once.
const MOST_PENDING: u64 = 100;

/// What becomes of a request, for the metrics.
pub const OUTCOMES: [&str; 4] = ["requested", "granted", "refused", "used"];

impl Vault {
    /// Lets a reveal of many values through that was approved, and uses the approval up. Any other leaves a request for
    /// one and is refused. Answers the approval; `None` for a reveal that needs none. A refusal is recorded.
    pub(in crate::vault) async fn check_bulk(&self, caller: &Caller, ask: &Detokenize) -> Result<Option<ApprovalId>> {
        let Some(&limit) = self.brakes.bulk.get(&caller.name) else { return Ok(None) };
        if ask.tokens.len() as u64 <= limit {
            return Ok(None);
        }
        let message = "so many values at once need the approval of another caller: have it granted, then ask for exactly the same again";
        let refusal = Error::new(Reason::ApprovalRequired, message).with("limit", limit);
        self.use_or_request(caller, ask, refusal).await.map(Some)
    }

    /// The approval of what outlasts an erasure: of a reveal for a purpose that opens it, whatever the number. Nothing else is
    /// looked at, so that asking for another purpose tells nothing of it.
    pub(in crate::vault) async fn check_outlasting(
        &self,
        claim: &Claim<'_>,
        ask: &Detokenize,
        catalogue: &Catalogue,
        approval: Option<ApprovalId>,
    ) -> Result<Option<ApprovalId>> {
        let now = self.clock.now();
        let admission = policy::admit(claim, &ask.purpose, catalogue, now)?;
        if approval.is_some() || !admission.opens_kept() {
            return Ok(approval);
        }
        let names = ask.tokens.iter().map(|text| Name::parse(text, &self.custody)).collect();
        let found = self.read_facts(&ask.purpose, names).await?;
        let refused = ask.tokens.iter().zip(&found).find_map(|(text, facts)| {
            let refused = policy::decide(&admission, ask.redaction, facts.as_deref()?, text, now).err()?;
            (refused.reason == Reason::ApprovalRequired).then_some(refused)
        });
        let Some(refused) = refused else { return Ok(None) };
        self.use_or_request(claim.caller, ask, refused).await.map(Some)
    }

    /// Uses an approval of exactly this up. Without one it leaves a request for it and refuses, on record.
    async fn use_or_request(&self, caller: &Caller, ask: &Detokenize, refusal: Error) -> Result<ApprovalId> {
        let justification = ask.justification.as_ref().map(Reference::as_str).unwrap_or_default();
        let (redaction, channel) = (ask.redaction, ask.channel);
        let bulk = Bulk::new(&caller.name, &ask.purpose, redaction, channel, justification, &ask.tokens);
        let now = self.clock.now();
        let mut tx = self.custody.store().read().await?;
        let known = tx.approvals_for(&caller.name, &bulk.digest, now).await?;
        drop(tx);
        for granted in known.iter().filter(|known| known.state == ApprovalState::Granted) {
            if self.may_approve(&granted.decided_by, now).await? && self.use_approval(granted.id, now).await? {
                return Ok(granted.id);
            }
        }
        let entry = self.entry_of_refusal(caller, ask, Reason::ApprovalRequired).await?;
        let pending = known.into_iter().find(|known| known.state == ApprovalState::Pending);
        let pending = match pending {
            Some(pending) => Ok(pending),
            None => self.request_approval(bulk.clone(), now).await,
        };
        let pending = match pending {
            Ok(pending) => pending,
            Err(error) => return Err(self.record_refused(Record::of(entry), error).await),
        };
        let refusal =
            refusal.with("approval", pending.id).with("expire_time", pending.expires_at).with("tokens", bulk.tokens);
        let entry = Entry { approval: pending.id.to_string(), ..entry };
        Err(self.record_refused(Record::of(entry), refusal).await)
    }

    /// Whether the grant of somebody counts: of somebody who is gone or disabled it is none. Asks what other nodes know, for it
    /// is asked rarely. (Rights may rest on groups that only a token names, so they are asked for when it is granted.)
    async fn may_approve(&self, name: &str, now: Time) -> Result<bool> {
        self.refresh_callers().await?;
        let registered = self.roll.registered().iter().find(|registered| registered.caller.name == name);
        let Some(registered) = registered else { return Ok(false) };
        Ok(self.authority.check_caller(&registered.caller, now).is_ok())
    }

    async fn use_approval(&self, id: ApprovalId, now: Time) -> Result<bool> {
        let mut tx = self.custody.store().write().await?;
        let used = tx.use_approval(id, now).await?;
        tx.commit().await?;
        if used {
            count("used");
        }
        Ok(used)
    }

    async fn request_approval(&self, bulk: Bulk, now: Time) -> Result<Approval> {
        let lifetime = self.brakes.approval_lifetime;
        let approval = Approval {
            id: ApprovalId::new(now, self.custody.ring.random()),
            bulk,
            requested_at: now,
            expires_at: now.plus(lifetime),
            state: ApprovalState::Pending,
            decided_by: String::new(),
            decided_at: None,
            reason: String::new(),
            used_at: None,
        };
        let mut tx = self.custody.store().write().await?;
        if tx.approvals_pending(&approval.bulk.caller, now).await? >= MOST_PENDING {
            let message = "as many requests of the caller wait for an approval as may; have some of them decided";
            return Err(Error::new(Reason::Overloaded, message).with("maximum", MOST_PENDING));
        }
        if !tx.insert_approval(&approval).await? {
            // The same call at the same moment, perhaps on another node, has left one.
            let same = tx.approvals_for(&approval.bulk.caller, &approval.bulk.digest, now).await?;
            let pending = same.into_iter().find(|one| one.state == ApprovalState::Pending);
            return pending
                .ok_or_else(|| Error::new(Reason::StoreUnavailable, "the request was decided just now; try again"));
        }
        tx.commit().await?;
        count("requested");
        Ok(approval)
    }

    /// Grants a request of another caller, or refuses it.
    pub async fn decide_approval(
        &self,
        by: &Caller,
        id: ApprovalId,
        granted: bool,
        reason: Option<&Reference>,
    ) -> Result<Approval> {
        let deed = if granted { "GrantApproval" } else { "RefuseApproval" };
        let seen = self.approval(id).await?;
        if granted && self.is_same(&by.name, &seen.bulk.caller) {
            let error = Error::new(Reason::FourEyes, "somebody else has to approve what you asked for yourself");
            return Err(self.record_refusal(by, deed, error.with("approval", id)).await);
        }
        let reason = reason.map(Reference::as_str).unwrap_or_default();
        let now = self.clock.now();
        let entry =
            Entry { approval: id.to_string(), justification: reason.to_owned(), ..Entry::new(&by.name, deed, now) };
        // What cannot be decided any more is not on record as decided.
        if let Err(error) = seen.clone().decide(granted, &by.name, reason, now) {
            return Err(self.record_refused(Record::of(entry), error).await);
        }
        self.record(Record::of(entry)).await?;
        let mut tx = self.custody.store().write().await?;
        let mut approval = tx.lock_approval(id).await?.ok_or_else(|| unknown(id))?;
        let before = approval.state;
        approval.decide(granted, &by.name, reason, now)?;
        tx.update_approval(&approval).await?;
        tx.commit().await?;
        if before != approval.state {
            count(if granted { "granted" } else { "refused" });
        }
        Ok(approval)
    }

    /// Whether two callers are one: by name, or because the register says that they stand for the same person.
    fn is_same(&self, one: &str, other: &str) -> bool {
        let person = |name: &str| {
            let known = self.roll.registered().iter().find(|known| known.caller.name == name)?;
            Some(known.person.trim().to_lowercase()).filter(|person| !person.is_empty())
        };
        one == other || person(one).is_some_and(|first| person(other) == Some(first))
    }

    /// A request for approval.
    pub async fn approval(&self, id: ApprovalId) -> Result<Approval> {
        self.custody.store().read().await?.approval(id).await?.ok_or_else(|| unknown(id))
    }

    /// A page of requests for approval, the newest first, and the one after which the next page begins.
    pub async fn list_approvals(
        &self,
        before: Option<ApprovalId>,
        open: bool,
        size: u32,
    ) -> Result<(Vec<Approval>, Option<ApprovalId>)> {
        let open = open.then(|| self.clock.now());
        let mut found = self.custody.store().read().await?.list_approvals(before, open, size + 1).await?;
        let more = found.len() > size as usize;
        found.truncate(size as usize);
        let next = found.last().map(|last| last.id).filter(|_| more);
        Ok((found, next))
    }

    /// Where a request is now.
    #[must_use]
    pub fn approval_state(&self, approval: &Approval) -> ApprovalState {
        approval.state_at(self.clock.now())
    }
}

fn unknown(id: ApprovalId) -> Error {
    Error::new(Reason::ApprovalUnknown, "there is no such request for approval").with("approval", id)
}

fn count(outcome: &'static str) {
    metrics::counter!("lacuna_approvals_total", "outcome" => outcome).increment(1);
}
