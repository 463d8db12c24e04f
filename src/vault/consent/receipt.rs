//! Receipts of consent: a person's decisions as JSON-LD in the W3C Data Privacy Vocabulary's profile of ISO/IEC TS 27560,
//! signed. One record a purpose; docs/schema/consent-receipt.json has the fields. Works after erasure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::check;
use super::prove::{Ledger, shown_notices};
use crate::keys::statement::Statement;
use crate::model::{
    Actor, Basis, Channel, ConsentEvent, ConsentState, Controller, Error, EventKind, Method, Notice, Purpose, Reason,
    ReceiptId, Result, Standing, SubjectId, Time,
};
use crate::policy::Caller;
use crate::vault::Vault;
use crate::vault::subject::unknown;

/// Stands where the notice does not say what the standard asks for.
const NOT_STATED: &str = "not stated";

/// A receipt, as JSON-LD.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Receipt(pub Value);

impl Statement for Receipt {
    const TYPE: &'static str = "application/vnd.lacuna.consent-receipt+json";
    const NAME: &'static str = "consent receipt";

    fn public_key(&self) -> &str {
        self.0.get("lacuna:publicKey").and_then(Value::as_str).unwrap_or_default()
    }
}

/// A receipt that was issued.
pub struct Issued {
    /// Its name.
    pub id: ReceiptId,
    /// The signed document.
    pub document: Vec<u8>,
}

impl Vault {
    /// A signed receipt of all that a person has decided about purposes that rest on consent.
    pub async fn issue_receipt(&self, caller: &Caller, subject: SubjectId) -> Result<Issued> {
        let mut tx = self.custody.store().read().await?;
        if tx.subjects(&[subject]).await?.is_empty() {
            return Err(unknown(subject));
        }
        self.record_told(caller, "IssueReceipt", subject).await?;
        let ledger = self.ledger(&mut *tx, subject).await?;
        let now = self.clock.now();
        let mut records = Vec::new();
        for purpose in ledger.catalogue.purposes().filter(|purpose| purpose.basis == Basis::Consent) {
            let decided = |event: &&ConsentEvent| event.purpose == purpose.code && is_decision(event.kind);
            let events: Vec<&ConsentEvent> = ledger.chain.iter().map(|one| &one.event).filter(decided).collect();
            if !events.is_empty() {
                let notices = shown_notices(&mut *tx, &events).await?;
                records.push(Record { ledger: &ledger, purpose, events, notices, now }.write());
            }
        }
        if records.is_empty() {
            let message = "nothing was recorded of the person that a receipt could be of";
            return Err(Error::new(Reason::ConsentStateMismatch, message).with("subject", subject));
        }
        let id = ReceiptId::new(now, self.custody.ring.random());
        let document = self.custody.state(|public_key| {
            Receipt(json!({
                "@context": {
                    "dct": "http://purl.org/dc/terms/",
                    "dpv": "https://w3id.org/dpv#",
                    "eu-gdpr": "https://w3id.org/dpv/legal/eu/gdpr#",
                    "lacuna": "urn:lacuna:",
                    "loc": "https://w3id.org/dpv/loc#",
                    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
                    "schema": "https://schema.org/",
                },
                "@id": format!("urn:lacuna:{id}"),
                "@type": "dpv:ConsentReceipt",
                "dct:identifier": id.to_string(),
                "dct:conformsTo": "https://w3id.org/dpv/schema/dpv-27560#receipt-eu-gdpr",
                "dct:created": now.to_string(),
                "schema:recipient": "dpv:DataSubject",
                "dpv:hasRecordOfActivity": records,
                "lacuna:publicKey": public_key,
            }))
        })?;
        Ok(Issued { id, document })
    }
}

/// Whether it is about a consent, and not about an objection or a notice.
const fn is_decision(kind: EventKind) -> bool {
    use EventKind::{Acknowledge, Object, OverrideObjection, WithdrawObjection};
    !matches!(kind, Acknowledge | Object | OverrideObjection | WithdrawObjection)
}

/// What a person has decided about one purpose.
struct Record<'r> {
    ledger: &'r Ledger,
    purpose: &'r Purpose,
    events: Vec<&'r ConsentEvent>,
    /// Those that the events name, in all their versions.
    notices: Vec<Notice>,
    now: Time,
}

impl Record<'_> {
    fn write(&self) -> Value {
        let subject = self.ledger.person.subject;
        let notice = self.notice();
        let controller = notice.and_then(|notice| notice.controller.clone()).unwrap_or_default();
        let text = |of: fn(&Notice) -> &str| notice.map(of).unwrap_or_default();
        let withdrawal = text(|notice| &notice.withdrawal_method);
        let authority = text(|notice| &notice.authority);
        let jurisdiction = self.jurisdiction(&controller);
        let explicit = self.purpose.explicit_consent;
        let mut record = json!({
            "@id": format!("urn:lacuna:{subject}:{}", self.purpose.code),
            "@type": "dpv:ConsentRecord",
            "dct:identifier": format!("{subject}:{}", self.purpose.code),
            "dct:conformsTo": "https://w3id.org/dpv/schema/dpv-27560#record-eu-gdpr",
            "dpv:hasDataSubject": { "@id": format!("urn:lacuna:{subject}") },
            "dpv:hasDataController": { "@id": "urn:lacuna:controller" },
            "dpv:hasJurisdiction": jurisdiction,
            "dpv:hasApplicableLaw": "eu-gdpr:GDPR",
            "dpv:hasLegalBasis": if explicit { "eu-gdpr:A9-2-a" } else { "eu-gdpr:A6-1-a" },
            "dpv:hasProcess": self.process(notice),
            "dpv:hasConsentControl": { "@type": ["dpv:WithdrawConsent"], "dpv:isExercisedAt": stated(withdrawal) },
            "dpv:hasRight": [{
                "@type": ["dpv:DataSubjectRight", "eu-gdpr:A7-3"],
                "dct:title": "Right to withdraw consent",
                "dpv:isExercisedAt": stated(withdrawal),
            }, {
                "@type": ["dpv:DataSubjectRight", "eu-gdpr:A77"],
                "dct:title": "Right to complain to an authority",
                "dpv:isExercisedAt": stated(authority),
            }],
            "dpv:hasAuthority": { "@type": "dpv:DataProtectionAuthority", "dpv:hasName": stated(authority) },
            "dpv:hasNotice": self.shown(),
            "dpv:hasConsentStatus": self.events.iter().map(|event| status(event)).collect::<Vec<_>>(),
            "dpv:hasEntity": [entity(&controller), {
                "@id": format!("urn:lacuna:{subject}"),
                "@type": "dpv:DataSubject",
                "dpv:hasIdentifier": subject.to_string(),
                "dpv:hasName": "known to the controller by the identifier",
            }],
            "lacuna:presently": self.presently(),
        });
        let missing = self.missing(&controller, notice);
        if let Some(fields) = record.as_object_mut().filter(|_| !missing.is_empty()) {
            fields.insert("lacuna:notStated".to_owned(), json!(missing));
        }
        record
    }

    /// The newest notice that the person was shown.
    fn notice(&self) -> Option<&Notice> {
        let last = self.events.iter().rev().find(|event| event.notice_version > 0)?;
        self.notices.iter().find(|notice| notice.notice == last.notice && notice.version == last.notice_version)
    }

    /// The law that applies: the controller's, or else the person's, or else that of the profile.
    fn jurisdiction(&self, controller: &Controller) -> Vec<String> {
        let known = std::iter::once(&controller.jurisdiction)
            .chain(self.events.iter().rev().map(|event| &event.jurisdiction))
            .find(|known| !known.is_empty());
        vec![format!("loc:{}", known.map_or("EU", String::as_str))]
    }

    fn process(&self, notice: Option<&Notice>) -> Value {
        let list = |of: fn(&Notice) -> &Vec<String>| notice.map(|notice| of(notice).clone()).unwrap_or_default();
        let mut recipients: BTreeSet<String> = self.purpose.recipients.iter().cloned().collect();
        recipients.extend(list(|notice| &notice.recipients));
        let recipients: Vec<String> = recipients.into_iter().collect();
        let retention = notice.map_or(&self.purpose.retention, |notice| &notice.retention);
        let purpose = Some(&self.purpose.dpv_term).filter(|term| !term.is_empty());
        let title = if self.purpose.title.is_empty() { &self.purpose.code } else { &self.purpose.title };
        json!({
            "@type": "dpv:Process",
            "dpv:hasPurpose": {
                "@type": purpose.map_or("dpv:Purpose", String::as_str),
                "dct:identifier": format!("{}@{}", self.purpose.code, self.purpose.version),
                "dct:title": title,
            },
            "dpv:hasPersonalData": named("dpv:PersonalData", &list(|notice| &notice.categories)),
            "dpv:hasDataController": { "@id": "urn:lacuna:controller" },
            "dpv:hasRecipient": named("dpv:Recipient", &recipients),
            "dpv:hasStorageCondition": [{
                "@type": "dpv:StorageLocation",
                "dpv:hasLocation": named("dpv:Location", &list(|notice| &notice.storage_locations)),
            }, {
                "@type": "dpv:StorageDuration",
                "dpv:hasDuration": { "@type": "dpv:UntilEventDuration", "rdf:value": stated(retention) },
            }],
        })
    }

    /// The notices that the person was shown, with their texts.
    fn shown(&self) -> Vec<Value> {
        let mut seen = BTreeSet::new();
        let mut shown = Vec::new();
        for event in self.events.iter().filter(|event| event.notice_version > 0) {
            let of = |notice: &&Notice| notice.notice == event.notice && notice.version == event.notice_version;
            let Some(notice) = self.notices.iter().find(of) else { continue };
            let Some(text) = event.notice_sha256.and_then(|digest| notice.text(&digest)) else { continue };
            let name = format!("{}@{}", notice.notice, notice.version);
            if seen.insert((name.clone(), text.language.clone())) {
                shown.push(json!({
                    "@id": format!("urn:lacuna:notice:{name}"),
                    "@type": "dpv:ConsentNotice",
                    "dct:identifier": name,
                    "dct:date": Time::from_micros(notice.published_at).to_string(),
                    "dct:language": text.language,
                    "schema:text": text.text,
                    "lacuna:sha256": data_encoding::HEXLOWER.encode(&text.sha256),
                }));
            }
        }
        if shown.is_empty() {
            shown.push(json!({
                "@type": "dpv:ConsentNotice", "dct:identifier": NOT_STATED, "dct:language": "und",
            }));
        }
        shown
    }

    /// How the consents stand when the receipt is issued, time and changes of the purpose considered.
    fn presently(&self) -> Vec<Value> {
        let events: Vec<ConsentEvent> = self.events.iter().map(|event| (*event).clone()).collect();
        let standing = Standing::of(&events, self.now);
        let channel = |channel: &Channel| {
            let state = check::state(&self.ledger.catalogue, self.purpose, &standing.consent(*channel), self.now);
            json!({ "lacuna:channel": channel, "lacuna:state": state })
        };
        standing.consents.keys().map(channel).collect()
    }

    /// What the standard asks for and the notice does not say.
    fn missing(&self, controller: &Controller, notice: Option<&Notice>) -> Vec<&'static str> {
        let absent = |of: fn(&Notice) -> bool| notice.is_none_or(of);
        [
            ("notice", notice.is_none()),
            ("controller.name", controller.name.is_empty()),
            ("controller.address", controller.address.is_empty()),
            ("controller.contact", controller.contact.is_empty()),
            ("categories", absent(|notice| notice.categories.is_empty())),
            ("storage_locations", absent(|notice| notice.storage_locations.is_empty())),
            ("withdrawal_method", absent(|notice| notice.withdrawal_method.is_empty())),
            ("authority", absent(|notice| notice.authority.is_empty())),
            ("retention", notice.is_none() && self.purpose.retention.is_empty()),
        ]
        .into_iter()
        .filter_map(|(name, missing)| missing.then_some(name))
        .collect()
    }
}

fn stated(text: &str) -> &str {
    if text.is_empty() { NOT_STATED } else { text }
}

fn named(kind: &str, names: &[String]) -> Vec<Value> {
    let one = |name: &str| json!({ "@type": kind, "dct:title": name });
    if names.is_empty() { vec![one(NOT_STATED)] } else { names.iter().map(|name| one(name)).collect() }
}

fn entity(controller: &Controller) -> Value {
    json!({
        "@id": "urn:lacuna:controller",
        "@type": "dpv:DataController",
        "dpv:hasIdentifier": stated(&controller.name),
        "dpv:hasName": stated(&controller.name),
        "schema:contactPoint": { "@type": "schema:ContactPoint", "dct:description": stated(&controller.contact) },
        "schema:address": { "@type": "schema:PostalAddress", "dct:description": stated(&controller.address) },
    })
}

fn status(event: &ConsentEvent) -> Value {
    let kind = match event.method {
        _ if event.explicit_consent => "dpv:ExplicitlyExpressedConsent",
        Some(Method::PreTicked | Method::Assumed | Method::Silence) => "dpv:ImpliedConsent",
        _ => "dpv:ExpressedConsent",
    };
    let duration = match event.valid_until {
        Some(time) => json!({ "@type": "dpv:UntilTimeDuration", "rdf:value": time.to_string() }),
        None => json!({ "@type": "dpv:UntilEventDuration", "rdf:value": "the next decision" }),
    };
    json!({
        "@id": format!("urn:lacuna:{}", event.id),
        "@type": [state(event.state), kind],
        "dpv:isIndicatedBy": indicated_by(event.actor),
        "dpv:hasIndicationMethod": method(event),
        "dpv:isIndicatedAtTime": event.effective_at.to_string(),
        "dpv:hasDuration": duration,
        "lacuna:channel": event.channel,
        "lacuna:event": event.kind,
    })
}

const fn state(state: ConsentState) -> &'static str {
    match state {
        // A yes that waits for its confirmation is none yet.
        ConsentState::Requested | ConsentState::Pending | ConsentState::ReconfirmDue => "dpv:ConsentRequested",
        ConsentState::Deferred => "dpv:ConsentRequestDeferred",
        ConsentState::Given => "dpv:ConsentGiven",
        ConsentState::Renewed => "dpv:RenewedConsentGiven",
        ConsentState::Refused => "dpv:ConsentRefused",
        ConsentState::Withdrawn => "dpv:ConsentWithdrawn",
        ConsentState::Revoked => "dpv:ConsentRevoked",
        ConsentState::Invalidated => "dpv:ConsentInvalidated",
        ConsentState::Expired => "dpv:ConsentExpired",
        ConsentState::Unknown | ConsentState::Invalid => "dpv:ConsentUnknown",
    }
}

const fn indicated_by(actor: Actor) -> &'static str {
    match actor {
        // An employee writes down what the person said.
        Actor::Subject | Actor::Agent => "dpv:DataSubject",
        Actor::Guardian => "dpv:GuardianOfDataSubject",
        Actor::Representative => "dpv:Representative",
        Actor::Controller => "dpv:DataController",
        Actor::DataProtectionOfficer => "dpv:DataProtectionOfficer",
        Actor::Authority => "dpv:Authority",
    }
}

fn method(event: &ConsentEvent) -> String {
    let words = event.method.and_then(|method| serde_json::to_value(method).ok());
    let words = words.as_ref().and_then(Value::as_str).unwrap_or(NOT_STATED);
    if event.affirmative_action.is_empty() {
        return words.to_owned();
    }
    format!("{words}: {}", event.affirmative_action)
}
