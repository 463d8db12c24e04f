//! Proofs and receipts of consent: what they hold, that they verify offline, and that they outlive the person.

use std::fs;
use std::time::Duration;

use lacuna::crypto::{SigningKey, SystemRandom, dsse};
use lacuna::keys::statement::{self, Verified};
use lacuna::proto::v1;
use lacuna::vault::consent::bundle::{self, Bundle};
use lacuna::vault::consent::receipt::Receipt;
use serde_json::{Value, json};
use tonic::Code;

use crate::consents::{DAY, NEWS, NOTICE, OFFERS, Office, TEXT, notice};
use crate::house::{on_both_stores, reason};
use crate::process::{lacuna, run, said};

/// What somebody does to a statement.
type Alteration = (&'static str, fn(&mut Value));

/// What a document has wrong by a schema that we publish.
fn faults(schema: &str, document: &str) -> String {
    let path = format!("{}/docs/schema/{schema}", env!("CARGO_MANIFEST_DIR"));
    let text: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.enable_format_assertions();
    compiler.add_resource(schema, text).unwrap();
    let index = compiler.compile(schema, &mut schemas).unwrap();
    let document: Value = serde_json::from_str(document).unwrap();
    schemas.validate(&document, index).map_or_else(|error| format!("{error:#}"), |()| String::new())
}

/// A statement that somebody alters who has a key to sign with.
fn forge<T: statement::Statement>(signed: &[u8], alter: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut statement: Value = serde_json::from_str(&statement::json(signed).unwrap()).unwrap();
    alter(&mut statement);
    let (key, _) = SigningKey::generate(&SystemRandom::new()).unwrap();
    statement["public_key"] = json!(data_encoding::BASE64.encode(&key.public()));
    serde_json::to_vec(&dsse::Envelope::sign(T::TYPE, statement.to_string().as_bytes(), &key)).unwrap()
}

impl Office {
    async fn prove(&mut self, subject: &str, purpose: &str, at: Option<prost_types::Timestamp>) -> Verified<Bundle> {
        bundle::verify(&self.proof(subject, purpose, at).await.bundle, None).unwrap()
    }

    async fn proof(
        &mut self,
        subject: &str,
        purpose: &str,
        at: Option<prost_types::Timestamp>,
    ) -> v1::ProveConsentResponse {
        let request = v1::ProveConsentRequest {
            subject: subject.to_owned(),
            purpose: purpose.to_owned(),
            channel: v1::Channel::Email.into(),
            at,
        };
        let proof = self.door.prove_consent(request).await.unwrap().into_inner();
        assert_eq!(faults("consent-bundle.json", &proof.json), "");
        assert_eq!(statement::json(&proof.bundle).unwrap(), proof.json);
        proof
    }

    async fn receipt(&mut self, subject: &str) -> (v1::IssueReceiptResponse, Value) {
        let request = v1::IssueReceiptRequest { subject: subject.to_owned() };
        let issued = self.door.issue_receipt(request).await.unwrap().into_inner();
        assert_eq!(faults("consent-receipt.json", &issued.json), "");
        let verified: Verified<Receipt> = statement::verify(&issued.document, None).unwrap();
        assert_eq!(verified.json, issued.json);
        (issued, verified.statement.0)
    }

    /// A moment ago.
    fn before(&self, ago: Duration) -> prost_types::Timestamp {
        let now = self.house.in_time(Duration::ZERO);
        prost_types::Timestamp { seconds: now.seconds - ago.as_secs().cast_signed(), ..now }
    }
}

/// A notice that says all that a receipt should.
fn whole_notice() -> v1::Notice {
    v1::Notice {
        controller: Some(v1::NoticeController {
            name: "Example GmbH".to_owned(),
            address: "Musterweg 1, Berlin".to_owned(),
            contact: "privacy@example.com".to_owned(),
            jurisdiction: "DE".to_owned(),
        }),
        storage_locations: vec!["Germany".to_owned()],
        withdrawal_method: "the link in every message".to_owned(),
        authority: "the authority of Berlin".to_owned(),
        ..notice()
    }
}

on_both_stores! {
    async fn a_proof_shows_what_was_permitted_then_with_the_very_text_that_was_shown(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await;
        office.say(&ada.subject, OFFERS, v1::ConsentEventKind::Refuse).await;
        let given = office.say(&ada.subject, NEWS, v1::ConsentEventKind::Give).await.remove(0);
        office.house.clock.advance(3 * DAY);
        let more = vec!["the mailing service".to_owned(), "an advertising agency".to_owned()];
        office.publish(v1::Notice { recipients: more, ..notice() }, v1::VersionChange::Major).await;

        let then = office.before(2 * DAY);
        let proof = office.prove(&ada.subject, NEWS, Some(then)).await.statement;
        assert!(proof.decision.allowed && proof.trace.steps.iter().all(|step| step.passed), "{proof:?}");
        assert_eq!((&proof.decision.evidence_event, proof.decision.notice_version), (&given.consent_event, 1));
        assert_eq!(proof.trace.events, std::slice::from_ref(&given.consent_event));
        let shown = |version: usize| proof.notices[version - 1].texts[0].text.as_str();
        assert_eq!((proof.notices.len(), shown(1)), (2, TEXT), "the very bytes");
        let documents: Vec<bool> = proof.chain.iter().map(|link| link.document.is_some()).collect();
        assert_eq!(documents, [false, true], "of the other purpose there are hashes only");

        for at in [None, Some(then)] {
            let asked = office.check_at(&ada.subject, NEWS, at).await;
            let decision = office.prove(&ada.subject, NEWS, at).await.statement.decision;
            assert_eq!((decision.allowed, &decision.reason), (asked.allowed, &asked.reason), "at {at:?}");
            assert_eq!(decision.evidence_event, asked.evidence_event);
        }
        let now = office.prove(&ada.subject, NEWS, None).await.statement;
        assert_eq!(now.decision.reason, "RECONFIRM_DUE");
        assert_eq!(now.trace.steps.last().map(|step| (step.rule.as_str(), step.passed)), Some(("basis", false)));
        let nothing = office.prove(&ada.subject, "customer_care", None).await.statement;
        assert!(nothing.decision.allowed && nothing.trace.events.is_empty());
        let request = v1::ProveConsentRequest {
            subject: ada.subject.clone(),
            purpose: NEWS.to_owned(),
            at: Some(office.house.in_time(DAY)),
            ..Default::default()
        };
        let refused = office.door.prove_consent(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "nothing can be proven of the future");
    }

    async fn an_altered_proof_is_refused_even_when_it_is_signed_anew(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await;
        for kind in [v1::ConsentEventKind::Give, v1::ConsentEventKind::Withdraw] {
            office.say(&ada.subject, NEWS, kind).await;
        }
        let proof = office.proof(&ada.subject, NEWS, None).await.bundle;
        let check = |forged: &[u8]| bundle::verify(forged, None).map(drop).map_err(|error| error.to_string());
        assert_eq!(check(&forge::<Bundle>(&proof, |_| {})), Ok(()), "one that is not altered verifies");
        let other = bundle::verify(&forge::<Bundle>(&proof, |_| {}), None).unwrap();
        let theirs = data_encoding::BASE64.decode(other.statement.public_key.as_bytes()).unwrap();
        assert!(bundle::verify(&proof, Some(&[theirs])).is_err(), "another key");
        let alterations: [Alteration; 8] = [
            ("the answer", |proof| proof["decision"]["allowed"] = json!(true)),
            ("the trace", |proof| proof["trace"]["events"] = json!([])),
            ("a withdrawal that is left out", |proof| drop(proof["chain"].as_array_mut().unwrap().pop())),
            ("an event that is left out", |proof| drop(proof["chain"].as_array_mut().unwrap().remove(0))),
            ("what an event says", |proof| {
                let said = proof["chain"][1]["document"].as_str().unwrap().replace("withdraw", "renew");
                proof["chain"][1]["document"] = json!(said);
            }),
            ("the text that was shown", |proof| proof["notices"][0]["texts"][0]["text"] = json!("other words")),
            ("a notice that is left out", |proof| proof["notices"] = json!([])),
            ("the person", |proof| proof["person"]["suppress_time"] = proof["at"].clone()),
        ];
        for (what, alter) in alterations {
            assert!(check(&forge::<Bundle>(&proof, alter)).is_err(), "{what}");
        }
    }

    async fn history_proof_and_receipt_outlive_the_person_and_the_personal_evidence_does_not(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await;
        let yes = office.yes(&ada.subject, NEWS).await;
        let evidence = v1::ConsentEvidence {
            kind: "recording_span".to_owned(),
            sha256: vec![7; 32],
            personal: "call 4711, from 00:31 to 00:35".to_owned(),
            ..Default::default()
        };
        let given = office.record(v1::RecordConsentRequest { evidence: vec![evidence], ..yes }).await.unwrap().remove(0);
        let token = vec![given.evidence[0].token.clone()];
        let pointer = office.house.reveal(&token, "customer_care").await;
        assert_eq!(pointer, [Ok("call 4711, from 00:31 to 00:35".to_owned())]);
        office.house.clock.advance(DAY);
        let then = office.before(DAY / 2);
        let history = v1::ListConsentEventsRequest { subject: ada.subject.clone(), ..Default::default() };
        let told = office.door.list_consent_events(history.clone()).await.unwrap().into_inner();
        let early = office.proof(&ada.subject, NEWS, Some(then)).await;
        assert!(!early.json.contains("4711"));

        office.house.erase(&ada.subject).await;
        assert_eq!(office.house.reveal(&token, "customer_care").await, [Err("SUBJECT_ERASED".to_owned())]);
        assert_eq!(office.door.list_consent_events(history).await.unwrap().into_inner(), told);
        assert!(bundle::verify(&early.bundle, None).is_ok(), "what was proven before stays proven");
        let late = office.prove(&ada.subject, NEWS, Some(then)).await.statement;
        assert!(late.decision.allowed, "it was permitted then");
        assert_eq!(late.chain[0].hash.to_vec(), given.hash);
        let now = office.prove(&ada.subject, NEWS, None).await.statement;
        assert_eq!((now.decision.reason.as_str(), now.trace.steps.len()), ("SUBJECT_ERASED", 1));
        let (_, receipt) = office.receipt(&ada.subject).await;
        assert!(!receipt.to_string().contains("4711"));
    }

    async fn a_receipt_has_what_the_standard_asks_for_and_says_what_the_notice_left_out(house: House) {
        let mut office = Office::open(house).await;
        let [ada, bob] = [office.house.somebody("Ada").await, office.house.somebody("Bob").await];
        let nothing = v1::IssueReceiptRequest { subject: ada.subject.clone() };
        let refused = office.door.issue_receipt(nothing).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "CONSENT_STATE_MISMATCH"));
        office.say(&bob.subject, NEWS, v1::ConsentEventKind::Give).await;
        office.publish(whole_notice(), v1::VersionChange::Minor).await;
        office.say(&ada.subject, NEWS, v1::ConsentEventKind::Give).await;
        office.say(&ada.subject, OFFERS, v1::ConsentEventKind::Refuse).await;
        office.say(&ada.subject, NEWS, v1::ConsentEventKind::Withdraw).await;

        let (issued, receipt) = office.receipt(&ada.subject).await;
        assert_eq!(receipt["dct:identifier"], issued.receipt.as_str());
        assert_eq!(receipt["@type"], "dpv:ConsentReceipt");
        let records = receipt["dpv:hasRecordOfActivity"].as_array().unwrap();
        assert_eq!(records.len(), 2, "one a purpose");
        let of = |purpose: &str| {
            let name = format!("{}:{purpose}", ada.subject);
            records.iter().find(|record| record["dct:identifier"] == name.as_str()).unwrap()
        };
        let statuses = |record: &Value| -> Vec<String> {
            let all = record["dpv:hasConsentStatus"].as_array().unwrap();
            all.iter().map(|status| status["@type"][0].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(statuses(of(NEWS)), ["dpv:ConsentGiven", "dpv:ConsentWithdrawn"], "past states as well");
        assert_eq!(statuses(of(OFFERS)), ["dpv:ConsentRefused"]);
        let news = of(NEWS);
        assert_eq!(news["dpv:hasNotice"][0]["schema:text"], TEXT);
        assert_eq!(news["dpv:hasNotice"][0]["dct:identifier"], format!("{NOTICE}@2"));
        assert_eq!(news["dpv:hasNotice"][0]["dct:language"], "de");
        assert_eq!(news["dpv:hasEntity"][0]["dpv:hasName"], "Example GmbH");
        assert_eq!(news["dpv:hasJurisdiction"], json!(["loc:DE"]));
        assert_eq!(news["dpv:hasConsentControl"]["dpv:isExercisedAt"], "the link in every message");
        assert_eq!(news["lacuna:presently"], json!([{ "lacuna:channel": "email", "lacuna:state": "withdrawn" }]));
        assert_eq!(news.get("lacuna:notStated"), None);

        let (_, receipt) = office.receipt(&bob.subject).await;
        let missing = &receipt["dpv:hasRecordOfActivity"][0]["lacuna:notStated"];
        assert!(missing.as_array().unwrap().contains(&json!("controller.name")), "{missing}");
    }

    async fn the_program_checks_proofs_and_receipts_without_a_server(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await;
        office.say(&ada.subject, NEWS, v1::ConsentEventKind::Give).await;
        let proof = office.proof(&ada.subject, NEWS, None).await.bundle;
        let receipt = office.receipt(&ada.subject).await.0.document;
        office.house.stop().await;
        let published = office.house.config.slot_dir().join("receipt-signing.pub");
        let file = office.house.home().join("statement");
        let verify = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            let mut command = lacuna();
            command.args(["consent", "verify", "--output=json"]).arg(&file).arg("--public-key").arg(&published);
            run(&mut command)
        };
        for (signed, key) in [(&proof, "decision"), (&receipt, "dpv:hasRecordOfActivity")] {
            let good = verify(signed);
            assert!(good.status.success(), "{}", said(&good));
            let answer: Value = serde_json::from_slice(&good.stdout).unwrap();
            assert_eq!((&answer["valid"], &answer["trusted"]), (&json!(true), &json!(true)));
            assert!(answer["statement"].get(key).is_some(), "{answer}");
        }
        for bad in [forge::<Bundle>(&proof, |_| {}), b"{}".to_vec(), proof[..proof.len() / 2].to_vec()] {
            let refused = verify(&bad);
            assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
            let answer: Value = serde_json::from_slice(&refused.stdout).unwrap();
            assert_eq!(answer["valid"], false);
        }
    }
}
