//! What an auditor asks of all consents.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::check;
use crate::model::{Basis, ConsentEventId, ConsentState, PurposeState, Result, SubjectId, Time};
use crate::policy::{Caller, is_there};
use crate::vault::Vault;

/// After how long a collection point from which nothing comes is reported.
const SILENCE: Duration = Duration::from_hours(30 * 24);
/// How much is read in one go.
const PAGE: u32 = 1000;

/// A report. People who are erased are not in it: nothing is in force of them.
#[derive(Default)]
pub struct Report {
    /// Consents by purpose and state.
    pub counts: BTreeMap<(String, ConsentState), u64>,
    /// Consents that were recorded with a method that is none.
    pub invalid_methods: u64,
    /// Consents that are in force without a notice.
    pub without_notice: u64,
    /// Values that were revealed for a purpose that rests on consent after that had ended.
    pub reveals_after_end: u64,
    /// Purposes in use that rest on consent and have no notice.
    pub purposes_without_notice: Vec<String>,
    /// Collection points that are enabled and from which nothing came in 30 days.
    pub silent_points: Vec<String>,
}

impl Vault {
    /// Goes through all consents and reports.
    pub async fn audit_consents(&self, caller: &Caller) -> Result<Report> {
        self.record_deed(caller, "AuditConsents").await?;
        let mut tx = self.custody.store().read().await?;
        let now = self.clock.now();
        let catalogue = self.library.at_least(tx.catalogue_generation().await?).await?;
        let mut report = Report::default();
        let mut after = None;
        loop {
            let page = tx.scan_standings(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some((last.subject, last.purpose.clone()));
            let subjects: BTreeSet<SubjectId> = page.iter().map(|stood| stood.subject).collect();
            let people = tx.subjects(&subjects.into_iter().collect::<Vec<_>>()).await?;
            let there: BTreeSet<SubjectId> =
                people.iter().filter(|person| is_there(person.state)).map(|person| person.id).collect();
            for stood in page.iter().filter(|stood| there.contains(&stood.subject)) {
                let Some(purpose) = catalogue.purpose(&stood.purpose) else { continue };
                for consent in stood.standing.consents.values() {
                    let state = check::state(&catalogue, purpose, consent, now);
                    if state == ConsentState::Unknown {
                        continue;
                    }
                    *report.counts.entry((purpose.code.clone(), state)).or_default() += 1;
                    report.invalid_methods += u64::from(state == ConsentState::Invalid);
                    report.without_notice += u64::from(state.is_yes() && consent.notice.is_empty());
                }
            }
        }
        let silent = |purpose: &&crate::model::Purpose| {
            purpose.basis == Basis::Consent && purpose.state == PurposeState::Active && purpose.notice.is_empty()
        };
        report.purposes_without_notice =
            catalogue.purposes().filter(silent).map(|purpose| purpose.code.clone()).collect();
        let mut points: BTreeSet<String> =
            catalogue.points().filter(|point| !point.disabled).map(|point| point.id.clone()).collect();
        drop(tx);
        self.forget_lively(&mut points, now).await?;
        report.silent_points = points.into_iter().collect();
        report.reveals_after_end = self.count_reveals_after_end(&catalogue, now).await?;
        Ok(report)
    }

    /// Takes out the collection points from which something came not long ago.
    async fn forget_lively(&self, points: &mut BTreeSet<String>, now: Time) -> Result<()> {
        let begin = i64::try_from(SILENCE.as_micros()).unwrap_or(i64::MAX);
        let mut after = ConsentEventId::floor(Time::from_micros(now.micros().saturating_sub(begin)));
        let mut tx = self.custody.store().read().await?;
        while !points.is_empty() {
            let page = tx.consent_events_after(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.event.id;
            for recorded in &page {
                points.remove(&recorded.event.collection_point);
            }
        }
        Ok(())
    }
}
