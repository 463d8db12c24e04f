//! The audit: who did what to whom is on record before anybody is answered, and nobody can change the record unseen.

use std::fs;
use std::process::Command;

use lacuna::model::Time;
use lacuna::proto::v1;
use lacuna::store::Tx;
use lacuna::vault::audit::walk::{Verified, Witness, verify};
use serde_json::{Value, json};

use crate::house::reason;
use crate::outside::{Outside, PATIENCE, outside_on_both_stores};
use crate::process::{allow, forbid};

/// Every entry, oldest first, read from the database past the vault.
async fn entries(vault: &Outside) -> Vec<Value> {
    let store = lacuna::store::open(&vault.url()).await.unwrap();
    let batches = store.read().await.unwrap().list_audit_batches(None, 10_000).await.unwrap();
    store.close().await;
    batches.iter().flat_map(|batch| batch.body.lines()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the chains of a database tell of themselves, with nothing that was signed.
pub async fn chains(tx: &mut dyn Tx) -> Verified {
    let vault = tx.vault().await.unwrap().unwrap().tree;
    let witness = Witness { vault, keys: &[], checkpoints: &[], now: Time::from_micros(0) };
    verify(tx, &witness).await.unwrap()
}

async fn entries_that_fit(vault: &Outside) -> Result<u64, String> {
    let store = lacuna::store::open(&vault.url()).await.unwrap();
    let verified = chains(&mut *store.read().await.unwrap()).await;
    store.close().await;
    verified.faults.first().map_or(Ok(verified.entries), |fault| Err(fault.to_string()))
}

/// Every entry but those of values that were kept.
async fn deeds(vault: &Outside) -> Vec<Value> {
    let mut entries = entries(vault).await;
    entries.retain(|entry| entry["deed"] != "Tokenize");
    entries
}

/// An entry without what differs from run to run.
fn told(entry: &Value) -> Value {
    let mut entry = entry.as_object().unwrap().clone();
    assert!(entry.remove("time").is_some());
    assert_eq!(entry.remove("request").unwrap().as_str().unwrap().len(), 16);
    assert_eq!(entry.remove("caller"), Some(json!("development")));
    for touched in entry.get_mut("touched").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(row) = touched.as_object_mut().unwrap().remove("row") {
            assert_eq!(row.as_str().unwrap().len(), 32);
        }
    }
    Value::Object(entry)
}

fn reveal(tokens: &[String], purpose: &str) -> v1::DetokenizeRequest {
    v1::DetokenizeRequest { tokens: tokens.to_vec(), purpose: purpose.to_owned(), ..Default::default() }
}

outside_on_both_stores! {
    async fn a_reveal_is_on_record_with_caller_purpose_and_pseudonyms_and_without_values(vault: Outside) {
        let mut door = vault.start();
        let (ada, bob) = (door.tokenize("ada").await, door.tokenize("bob").await);
        let justified = v1::DetokenizeRequest {
            justification: "CASE-118".to_owned(),
            redaction: v1::Redaction::Masked.into(),
            ..reveal(&ada.tokens, "customer_care")
        };
        door.tokens.detokenize(justified).await.unwrap();
        door.find(v1::FieldType::Email, "bob@example.com").await;
        let restrict = v1::RestrictSubjectRequest {
            subject: bob.subject.clone(),
            ground: "objection_pending".to_owned(),
            ..Default::default()
        };
        door.subjects.restrict_subject(restrict).await.unwrap();
        let mixed = [ada.tokens[0].clone(), bob.tokens[0].clone(), "tok_nobody".to_owned()];
        door.tokens.detokenize(reveal(&mixed, "customer_care")).await.unwrap();
        door.tokens.detokenize(reveal(&ada.tokens, "curiosity")).await.unwrap_err();

        let one = |person: &crate::outside::Person, kind: &str, outcome: &str| {
            json!({ "subject": person.subject, "type": kind, "outcome": outcome })
        };
        let ok = |person, kind| one(person, kind, "OK");
        let found: Vec<_> = deeds(&vault).await.iter().map(told).collect();
        assert_eq!(found, [
            json!({
                "deed": "Detokenize", "purpose": "customer_care", "redaction": "MASKED", "justification": "CASE-118",
                "touched": [ok(&ada, "EMAIL"), ok(&ada, "PERSON_NAME")],
            }),
            json!({ "deed": "FindTokens", "purpose": "customer_care", "touched": [ok(&bob, "EMAIL")] }),
            json!({ "deed": "RestrictSubject", "touched": [{ "subject": bob.subject, "outcome": "ASKED" }] }),
            json!({
                "deed": "Detokenize", "purpose": "customer_care", "redaction": "PLAIN_TEXT",
                "touched": [ok(&ada, "EMAIL"), one(&bob, "EMAIL", "SubjectRestricted")], "unknown": 1,
            }),
            json!({ "deed": "Detokenize", "refused": "PurposeUnknown" }),
        ]);
        let all = format!("{:?}", entries(&vault).await);
        for value in ada.values.iter().chain(&bob.values).filter(|value| value.contains('@')) {
            assert!(!all.contains(value), "{value} is in the audit");
        }
    }

    async fn every_change_to_a_person_or_token_is_on_record_before_it_is_made(vault: Outside) {
        let mut door = vault.start();
        let (ada, bob) = (door.tokenize("ada").await, door.tokenize("bob").await);
        let subject = || ada.subject.clone();
        let ground = "claims".to_owned();
        let restrict = v1::RestrictSubjectRequest { subject: subject(), ground, ..Default::default() };
        door.subjects.restrict_subject(restrict).await.unwrap();
        let informed = Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 });
        let lift = v1::LiftRestrictionRequest { subject: subject(), subject_informed_time: informed, ..Default::default() };
        door.subjects.lift_restriction(lift).await.unwrap();
        let profiling = v1::SetProfilingRequest { subject: subject(), ..Default::default() };
        door.subjects.set_profiling(profiling).await.unwrap();
        let update = v1::UpdateTokenRequest {
            token: ada.tokens[0].clone(),
            content: Some(v1::update_token_request::Content::Value("ada2@example.com".to_owned())),
            source: "call:7".to_owned(),
            ..Default::default()
        };
        door.tokens.update_token(update).await.unwrap();
        let delete = v1::DeleteTokenRequest { token: ada.tokens[1].clone(), ..Default::default() };
        door.tokens.delete_token(delete).await.unwrap();
        let later = Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 });
        let erase = v1::EraseSubjectRequest {
            subject: subject(),
            reason: "t-1".to_owned(),
            execute_time: later,
            ..Default::default()
        };
        let scheduled = door.subjects.erase_subject(erase).await.unwrap().into_inner().erasure.unwrap();
        let cancel = v1::CancelErasureRequest { erasure: scheduled.erasure };
        door.subjects.cancel_erasure(cancel).await.unwrap();
        door.erase(&bob).await;

        let found = deeds(&vault).await;
        let deeds: Vec<_> = found.iter().map(|entry| entry["deed"].as_str().unwrap()).collect();
        assert_eq!(deeds, [
            "RestrictSubject", "LiftRestriction", "SetProfiling", "UpdateToken", "DeleteToken", "EraseSubject",
            "CancelErasure", "EraseSubject",
        ]);
        for entry in &found {
            let person = if entry == found.last().unwrap() { &bob } else { &ada };
            let touched = &told(entry)["touched"];
            assert_eq!((&touched[0]["subject"], &touched[0]["outcome"]), (&json!(person.subject), &json!("ASKED")));
            assert_eq!(touched.as_array().unwrap().len(), 1);
        }
        assert_eq!(entries_that_fit(&vault).await, Ok(10));
    }

    async fn without_a_record_there_is_no_reveal(vault: Outside) {
        let mut door = vault.start();
        let ada = door.tokenize("ada").await;
        door.assert_there(&ada).await;
        let before = entries(&vault).await.len();
        forbid(&vault.url(), "INSERT", "audit_batch");
        let refused = door.tokens.detokenize(reveal(&ada.tokens, "customer_care")).await.unwrap_err();
        assert_eq!((reason(&refused).as_str(), refused.code()), ("AUDIT_UNAVAILABLE", tonic::Code::Unavailable));
        let refused = door.tokens.detokenize(reveal(&ada.tokens, "curiosity")).await.unwrap_err();
        assert_eq!(reason(&refused), "AUDIT_UNAVAILABLE", "even a refusal is not told without a record");
        let find = v1::FindTokensRequest {
            r#type: v1::FieldType::Email.into(),
            value: ada.values[0].clone(),
            purpose: "customer_care".to_owned(),
        };
        assert_eq!(reason(&door.tokens.find_tokens(find).await.unwrap_err()), "AUDIT_UNAVAILABLE");
        let get = v1::GetSubjectRequest { subject: ada.subject.clone() };
        assert_eq!(reason(&door.subjects.get_subject(get).await.unwrap_err()), "AUDIT_UNAVAILABLE");
        assert_eq!(entries(&vault).await.len(), before);
        door.serving(false).await;
        allow(&vault.url(), "audit_batch");
        door.serving(true).await;
        door.assert_there(&ada).await;
        let after = entries(&vault).await;
        assert_eq!(after[before]["deed"], "ResumeAudit", "the vault has tried by itself");
        assert_eq!(entries_that_fit(&vault).await, Ok(after.len() as u64));
    }
}

#[tokio::test]
async fn on_a_full_disk_there_is_no_reveal_and_nothing_hangs() {
    let vault = Outside::on_sqlite();
    let serve = vault.serve();
    let mut heedless = Command::new("sh");
    heedless.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\" 2>>log"]).arg(serve.get_program()).args(serve.get_args());
    heedless.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(vault.place.path());
    let mut door = vault.start_with(heedless, &[]).unwrap();
    let ada = door.tokenize("ada").await;
    let log = fs::metadata(vault.place.data().join("vault.db-wal")).unwrap().len();
    door.server.limit_files(Some(log + (128 << 10)));
    let mut given = Vec::new();
    let refused = async {
        loop {
            match door.tokens.detokenize(reveal(&ada.tokens, "customer_care")).await {
                Ok(answer) => given.push(answer.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned()),
                Err(refused) => return refused,
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("it hangs, or the disk is never full");
    assert_eq!((reason(&refused).as_str(), refused.code()), ("AUDIT_UNAVAILABLE", tonic::Code::Unavailable));
    assert!(!given.is_empty());
    door.serving(false).await;
    for _ in 0..8 {
        let asked = door.tokens.detokenize(reveal(&ada.tokens, "customer_care"));
        let refused = tokio::time::timeout(PATIENCE, asked).await.expect("it hangs").unwrap_err();
        assert_eq!(reason(&refused), "AUDIT_UNAVAILABLE");
    }

    door.server.limit_files(None);
    door.serving(true).await;
    door.assert_there(&ada).await;
    let entries = entries(&vault).await;
    let recorded = |id: &String| entries.iter().any(|entry| entry["request"] == id.as_str());
    assert!(given.iter().all(recorded), "what was given before is on record");
    assert_eq!(entries_that_fit(&vault).await, Ok(entries.len() as u64));
}

mod after_a_crash {
    use crate::outside::outside_on_both_stores;

    outside_on_both_stores! {
        async fn a_reveal_that_was_decided_and_never_answered_is_on_record(vault: Outside) {
            let mut door = vault.start();
            let ada = door.tokenize("ada").await;
            door.kill();
            let mut door = vault.try_start(&[("write::after-commit", "return".to_owned())]).unwrap();
            let ask = super::reveal(&ada.tokens, "customer_care");
            door.tokens.detokenize(ask).await.unwrap_err();
            door.aborted();
            let found = super::deeds(&vault).await;
            assert_eq!(found.len(), 1);
            assert_eq!(super::told(&found[0])["deed"], "Detokenize");
            assert_eq!(found[0]["touched"][0]["outcome"], "OK");
        }
    }
}

mod power {
    use super::{entries, reveal};
    use crate::outside::outside_on_both_stores;

    outside_on_both_stores! {
        async fn whatever_a_client_was_given_before_the_power_went_is_on_record(vault: Outside) {
            let mut door = vault.start();
            let mut people = Vec::new();
            for number in 0..8 {
                people.push(door.tokenize(&format!("person{number}")).await);
            }
            let (told, given) = std::sync::mpsc::channel();
            let asking: Vec<_> = people
                .iter()
                .cloned()
                .map(|person| {
                    let (mut tokens, told) = (door.tokens.clone(), told.clone());
                    tokio::spawn(async move {
                        while let Ok(answer) = tokens.detokenize(reveal(&person.tokens, "customer_care")).await {
                            let id = answer.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();
                            assert!(answer.into_inner().results.iter().all(|result| crate::house::outcome(result).is_ok()));
                            told.send((id, person.subject.clone())).unwrap();
                        }
                    })
                })
                .collect();
            // So many answers, and then the power goes while others are under way.
            let mut received: Vec<(String, String)> = (0..200).map(|_| given.recv().unwrap()).collect();
            door.kill();
            for asked in asking {
                asked.await.unwrap();
            }
            drop(told);
            received.extend(given.iter());
            let found = entries(&vault).await;
            for (id, subject) in &received {
                let entry = found.iter().find(|entry| entry["request"] == id.as_str()).unwrap_or_else(|| panic!("{id} is not on record"));
                let touched = entry["touched"].as_array().unwrap();
                assert!(touched.iter().all(|one| one["subject"] == subject.as_str() && one["outcome"] == "OK"), "{entry}");
            }
            assert!(received.len() >= 200);
        }
    }
}
