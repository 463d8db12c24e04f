//! `lacuna bench permission`: what the permission decision costs a reveal.
//!
//! The same tokens are revealed under a purpose that rests on a contract, under one that rests on consent, which everybody
//! has given, and under the contract again, in short turns one after the other: whatever else the machine does is met by
//! all three. The second contract tells what of a difference is chance.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::json;
use tonic::{Code, Status};

use super::What;
use super::load::{Corpus, PURPOSE};
use super::measure::Pace;
use super::report::cores;
use super::turns::{Side, TURN, Turns};
use crate::cli::client::{Remote, Vault};
use crate::cli::failure::Result;
use crate::cli::print::Answer;
use crate::proto::v1;

/// The purpose that rests on consent, the notice that tells of it, and where the consent is collected.
const CONSENT: (&str, &str, &str) = ("bench.consent", "bench", "bench:load");

/// Measures all sides and compares them.
pub async fn run(remote: &Remote, pace: Pace) -> Result<Answer> {
    let vault = remote.open().await?;
    eprintln!("permission: preparing people and their consents");
    let contract = Corpus::prepare(&vault, What::Reveal, pace).await?;
    give_consents(&vault, &contract, pace).await?;
    let purposes = [("contract", PURPOSE), ("consent", CONSENT.0), ("contract again", PURPOSE)];
    let side = |(name, purpose)| Side::of(name, What::Reveal, vault.clone(), contract.for_purpose(purpose));
    let mut turns = Turns { sides: purposes.into_iter().map(side).collect::<anyhow::Result<_>>()? };
    turns.take("permission", pace).await?;
    Ok(answer(remote.address(), pace, &turns))
}

/// Has everybody in the corpus say yes to a purpose that is made for it.
async fn give_consents(vault: &Vault, corpus: &Corpus, pace: Pace) -> Result<()> {
    let digest = define(vault).await?;
    let (purpose, notice, point) = CONSENT;
    let give = |subject: &String| {
        let request = v1::RecordConsentRequest {
            subject: subject.clone(),
            purpose: purpose.to_owned(),
            kind: v1::ConsentEventKind::Give.into(),
            method: v1::ConsentMethod::Api.into(),
            affirmative_action: "called the interface".to_owned(),
            notice: notice.to_owned(),
            notice_sha256: digest.clone(),
            collection_point: point.to_owned(),
            ..Default::default()
        };
        let mut consents = vault.consents.clone();
        async move { consents.record_consent(request).await.map(drop) }
    };
    let calls: Vec<_> = corpus.subjects().iter().map(give).collect();
    let in_flight = usize::try_from(pace.in_flight).unwrap_or(1);
    stream::iter(calls).buffer_unordered(in_flight).try_collect::<()>().await?;
    Ok(())
}

/// Defines what a consent needs, unless an earlier run has; answers the digest of the notice.
async fn define(vault: &Vault) -> Result<Vec<u8>, Status> {
    let (purpose, notice, point) = CONSENT;
    let mut consents = vault.consents.clone();
    let asked = v1::GetNoticeRequest { notice: notice.to_owned(), version: 0 };
    let published = match consents.get_notice(asked).await {
        Err(status) if status.code() == Code::FailedPrecondition => {
            let notice = Some(told(notice, purpose));
            let request = v1::PublishNoticeRequest { notice, ..Default::default() };
            consents.publish_notice(request).await?.into_inner().notice
        }
        found => found?.into_inner().notice,
    };
    let asked = v1::GetPurposeRequest { code: purpose.to_owned(), version: 0 };
    if consents.get_purpose(asked).await.is_err_and(|status| status.code() == Code::InvalidArgument) {
        let purpose = v1::Purpose {
            code: purpose.to_owned(),
            basis: v1::LawfulBasis::Consent.into(),
            notice: notice.to_owned(),
            ..Default::default()
        };
        let request = v1::DefinePurposeRequest { purpose: Some(purpose), ..Default::default() };
        consents.define_purpose(request).await?;
    }
    let collection_point = v1::CollectionPoint {
        collection_point: point.to_owned(),
        kind: v1::CollectionPointKind::Api.into(),
        ..Default::default()
    };
    let request = v1::DefineCollectionPointRequest { collection_point: Some(collection_point) };
    consents.define_collection_point(request).await?;
    let texts = published.unwrap_or_default().texts;
    Ok(texts.into_iter().next().unwrap_or_default().sha256)
}

/// What synthetic people are told.
fn told(notice: &str, purpose: &str) -> v1::Notice {
    let text = "Synthetic people are told of a measurement.".to_owned();
    v1::Notice {
        notice: notice.to_owned(),
        texts: vec![v1::NoticeText { language: "en".to_owned(), text, sha256: Vec::new() }],
        categories: vec!["synthetic values".to_owned()],
        purposes: vec![purpose.to_owned()],
        recipients: vec!["nobody".to_owned()],
        retention: "for the run".to_owned(),
        ..Default::default()
    }
}

fn answer(address: &str, pace: Pace, turns: &Turns<Vault>) -> Answer {
    let json = json!({
        "machine": { "cores": cores() },
        "parameters": {
            "address": address,
            "in_flight": pace.in_flight,
            "seconds": pace.span.as_secs(),
            "turn_ms": TURN.as_millis(),
            "connections": 1,
        },
        "results": turns.json(),
    });
    Answer { json, human: turns.human("reveals under", pace), failed: turns.failed() }
}
