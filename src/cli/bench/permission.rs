//! `lacuna bench permission`: what the permission decision costs a reveal.
//!
//! The same tokens are revealed under a purpose that rests on a contract, under one that rests on consent, which everybody
//! has given, and under the contract again, in short turns one after the other: whatever else the machine does is met by
//! all three. The second contract tells what of a difference is chance.

use std::fmt::Write as _;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::What;
use super::load::{Corpus, PURPOSE};
use super::measure::{Measure, Pace, closed_loop};
use super::report::{PERCENTILES, cores, figures, whole};
use crate::cli::client::{Remote, Vault};
use crate::cli::failure::Result;
use crate::cli::print::Answer;
use crate::cli::table;
use crate::proto::v1;

/// How long a turn lasts.
const TURN: Duration = Duration::from_millis(500);
/// The purpose that rests on consent, the notice that tells of it, and where the consent is collected.
const CONSENT: (&str, &str, &str) = ("bench.consent", "bench", "bench:load");

/// Reveals under a purpose, turn after turn.
struct Side {
    name: &'static str,
    corpus: Corpus,
    measure: Measure,
    /// The rate of each turn.
    rates: Vec<f64>,
}

/// Measures all sides and compares them.
pub async fn run(remote: &Remote, pace: Pace) -> Result<Answer> {
    let vault = remote.open().await?;
    eprintln!("permission: preparing people and their consents");
    let contract = Corpus::prepare(&vault, What::Reveal, pace).await?;
    give_consents(&vault, &contract, pace).await?;
    let mut sides = Vec::new();
    for (name, purpose) in [("contract", PURPOSE), ("consent", CONSENT.0), ("contract again", PURPOSE)] {
        let corpus = contract.for_purpose(purpose);
        sides.push(Side { name, corpus, measure: Measure::empty()?, rates: Vec::new() });
    }
    let turns = (pace.span.as_millis() / TURN.as_millis()).max(1);
    eprintln!("permission: measuring {turns} turns of {} ms each", TURN.as_millis());
    for turn in 0..turns {
        // Every other time from behind, so that none always comes first.
        let order: Box<dyn Iterator<Item = &mut Side>> =
            if turn % 2 == 0 { Box::new(sides.iter_mut()) } else { Box::new(sides.iter_mut().rev()) };
        for side in order {
            let empty = Measure::empty()?;
            let pace = Pace { span: TURN, ..pace };
            let measured = closed_loop(&vault, What::Reveal, &side.corpus, pace, empty).await;
            side.rates.push(measured.rate());
            side.measure = side.measure.clone().then(measured);
        }
    }
    Ok(answer(remote.address(), pace, &sides))
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

fn answer(address: &str, pace: Pace, sides: &[Side]) -> Answer {
    let failed = sides.iter().any(|side| side.measure.errors > 0);
    let first = sides.first();
    let json = json!({
        "machine": { "cores": cores() },
        "parameters": {
            "address": address,
            "in_flight": pace.in_flight,
            "seconds": pace.span.as_secs(),
            "turn_ms": TURN.as_millis(),
            "connections": 1,
        },
        "results": sides.iter().map(|side| side.json(first)).collect::<Vec<_>>(),
    });
    Answer { json, human: human(pace, sides), failed }
}

fn human(pace: Pace, sides: &[Side]) -> String {
    let percentiles = PERCENTILES.map(|(name, _)| format!("{name} µs"));
    let head = ["reveals under", "reveals/s"].into_iter().chain(percentiles.iter().map(String::as_str));
    let head: Vec<_> = head.chain(["rate ratio", "turn by turn", "p50 ratio", "p99 ratio", "errors"]).collect();
    let mut text = table::table(&head, sides.iter().map(|side| side.cells(sides.first())));
    let _ = write!(
        text,
        "\n\n{}; {} in flight over 1 connection, {} s each in turns of {} ms; the client and a local vault share the machine.",
        table::count(cores(), "core"),
        pace.in_flight,
        pace.span.as_secs(),
        TURN.as_millis(),
    );
    for side in sides {
        if let Some(error) = &side.measure.first_error {
            let _ = write!(text, "\n{} failed first with {error}", side.name);
        }
    }
    text
}

impl Side {
    fn rate(&self, first: Option<&Self>) -> Option<f64> {
        let first = first?.measure.rate();
        (first > 0.0).then(|| self.measure.rate() / first)
    }

    #[expect(clippy::cast_precision_loss, reason = "microseconds are far below 2^52")]
    fn percentile(&self, first: Option<&Self>, at: f64) -> Option<f64> {
        let value = |side: &Self| side.measure.latencies.value_at_quantile(at) as f64;
        let first = value(first?);
        (first > 0.0).then(|| value(self) / first)
    }

    /// The quartiles of the ratios of turns that came together.
    fn quartiles(&self, first: Option<&Self>) -> Option<[f64; 3]> {
        let pairs = self.rates.iter().zip(&first?.rates);
        let mut ratios: Vec<f64> = pairs.filter(|(_, first)| **first > 0.0).map(|(own, first)| own / first).collect();
        ratios.sort_by(f64::total_cmp);
        let at = |quarter: usize| ratios.get(ratios.len().saturating_sub(1) * quarter / 4).copied();
        Some([at(1)?, at(2)?, at(3)?])
    }

    fn json(&self, first: Option<&Self>) -> Value {
        let mut json = figures(What::Reveal, &self.measure);
        if let Some(fields) = json.as_object_mut() {
            fields.shift_insert(0, "under".to_owned(), json!(self.name));
            fields.insert("rate_ratio".to_owned(), json!(self.rate(first)));
            fields.insert("rate_ratio_quartiles".to_owned(), json!(self.quartiles(first)));
            fields.insert("p50_ratio".to_owned(), json!(self.percentile(first, 0.5)));
            fields.insert("p99_ratio".to_owned(), json!(self.percentile(first, 0.99)));
        }
        json
    }

    fn cells(&self, first: Option<&Self>) -> Vec<String> {
        let ratio = |ratio: Option<f64>| ratio.map(|ratio| format!("{ratio:.3}")).unwrap_or_default();
        let quartiles = self.quartiles(first).map(|[low, _, high]| format!("{low:.2} to {high:.2}"));
        let percentiles = PERCENTILES.iter().map(|(_, at)| self.measure.latencies.value_at_quantile(*at).to_string());
        let head = [self.name.to_owned(), whole(self.measure.rate())].into_iter().chain(percentiles);
        head.chain([
            ratio(self.rate(first)),
            quartiles.unwrap_or_default(),
            ratio(self.percentile(first, 0.5)),
            ratio(self.percentile(first, 0.99)),
            self.measure.errors.to_string(),
        ])
        .collect()
    }
}
