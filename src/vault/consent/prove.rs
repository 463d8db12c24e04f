//! Proving what was permitted, and on what evidence. Works after erasure, because none of it is personal data.

use std::collections::BTreeSet;

use super::bundle::{Bundle, Decision, Link, Person, Trace};
use super::check::Check;
use super::library::read;
use crate::model::{
    Basis, CollectionPoint, ConsentEvent, ConsentState, Error, Notice, PersonFacts, Purpose, Result, SubjectId,
};
use crate::policy::{Caller, Catalogue, unknown_purpose};
use crate::store::Tx;
use crate::store::consent::{DocumentKind, Recorded};
use crate::vault::Vault;
use crate::vault::subject::unknown;

/// How many events are read in one go.
const PAGE: u32 = 1000;

/// All that is known of a person's consents.
pub(super) struct Ledger {
    pub person: PersonFacts,
    pub chain: Vec<Recorded>,
    pub catalogue: std::sync::Arc<Catalogue>,
}

impl Vault {
    /// Everything that was ever recorded of a person's consents.
    pub(super) async fn ledger(&self, tx: &mut dyn Tx, id: SubjectId) -> Result<Ledger> {
        let mut chain = Vec::new();
        loop {
            let after = chain.last().map_or(0, |last: &Recorded| last.number);
            let mut page = tx.consent_events(id, "", after, PAGE).await?;
            if page.is_empty() {
                break;
            }
            chain.append(&mut page);
        }
        let person = self.people(tx, &[id]).await?.remove(&id).ok_or_else(|| unknown(id))?;
        let catalogue = self.library.at_least(tx.catalogue_generation().await?).await?;
        Ok(Ledger { person, chain, catalogue })
    }

    /// A signed [`Bundle`] that answers a question and proves the answer.
    pub async fn prove_consent(&self, caller: &Caller, check: Check) -> Result<Vec<u8>> {
        let id = check.subject;
        let mut tx = self.custody.store().read().await?;
        if self.library.refreshed().await?.purpose(&check.purpose).is_some() {
            self.authority.check_purpose(caller, &check.purpose, self.clock.now())?;
        }
        if tx.subjects(&[id]).await?.is_empty() {
            return Err(unknown(id));
        }
        self.record_told(caller, "ProveConsent", id).await?;
        let ledger = self.ledger(&mut *tx, id).await?;
        let now = self.clock.now();
        let at = check.at.unwrap_or(now);
        if at > now {
            return Err(Error::invalid("at", "lies in the future, of which nothing can be proven"));
        }
        let mut purposes: Vec<Purpose> = Vec::new();
        for version in 1.. {
            let Some(found) = ledger.catalogue.purpose_version(&check.purpose, version) else { break };
            purposes.push(found.clone());
        }
        if purposes.is_empty() {
            return Err(unknown_purpose(&check.purpose));
        }
        let mut person = Person::from(&ledger.person);
        if !purposes.iter().any(|purpose| purpose.direct_marketing) {
            // It decides nothing there.
            person.suppress_time = None;
        }
        let of_purpose = || ledger.chain.iter().map(|one| &one.event).filter(|event| event.purpose == check.purpose);
        let events: Vec<&ConsentEvent> = of_purpose().collect();
        let notices = shown_notices(&mut *tx, &events).await?;
        let points: BTreeSet<&str> = events.iter().map(|event| event.collection_point.as_str()).collect();
        let points: Vec<CollectionPoint> =
            points.into_iter().filter_map(|id| ledger.catalogue.point(id)).cloned().collect();
        let undecided = Decision {
            allowed: false,
            reason: String::new(),
            basis: Basis::Consent,
            purpose_version: 0,
            channel: check.channel,
            state: ConsentState::Unknown,
            evidence_event: String::new(),
            notice_version: 0,
            valid_until: None,
        };
        let mut bundle = Bundle {
            version: Bundle::format(),
            subject: id,
            purpose: check.purpose.clone(),
            channel: check.channel,
            at,
            issue_time: now,
            decision: undecided,
            trace: Trace { steps: Vec::new(), events: Vec::new() },
            person,
            chain: ledger.chain.into_iter().map(|recorded| Link::of(recorded, &check.purpose)).collect(),
            purposes,
            notices,
            collection_points: points,
            public_key: String::new(),
        };
        (bundle.decision, bundle.trace) = bundle.decide().map_err(Error::internal)?;
        self.custody.state(|public_key| Bundle { public_key, ..bundle })
    }
}

/// The notices that events name, in all their versions, with the texts that people were shown.
pub(super) async fn shown_notices(tx: &mut dyn Tx, events: &[&ConsentEvent]) -> Result<Vec<Notice>> {
    let shown: BTreeSet<[u8; 32]> = events.iter().filter_map(|event| event.notice_sha256).collect();
    let names: BTreeSet<&str> =
        events.iter().map(|event| event.notice.as_str()).filter(|name| !name.is_empty()).collect();
    let mut notices = Vec::new();
    for name in names {
        for version in 1.. {
            let Some(found) = tx.document(DocumentKind::Notice, name, version).await? else { break };
            let mut notice: Notice = read(&found.document)?;
            for text in notice.texts.iter_mut().filter(|text| !shown.contains(&text.sha256)) {
                text.text.clear();
            }
            notices.push(notice);
        }
    }
    Ok(notices)
}
