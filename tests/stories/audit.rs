//! The audit: who did what to whom is on record before anybody is answered, and nobody can change the record unseen.

use lacuna::proto::v1;
use serde_json::{Value, json};

use crate::house::reason;
use crate::outside::{Outside, outside_on_both_stores};
use crate::process::{allow, forbid};

/// Every entry, oldest first, read from the database past the vault.
async fn entries(vault: &Outside) -> Vec<Value> {
    let store = lacuna::store::open(&vault.url()).await.unwrap();
    let batches = store.read().await.unwrap().list_audit_batches(None, 10_000).await.unwrap();
    store.close().await;
    batches.iter().flat_map(|batch| batch.body.lines()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn verify(vault: &Outside) -> Result<u64, String> {
    let store = lacuna::store::open(&vault.url()).await.unwrap();
    let verified = lacuna::vault::audit::verify(&mut *store.read().await.unwrap()).await;
    store.close().await;
    verified.map_err(|error| format!("{error} {error:?}"))
}

/// An entry without what differs from run to run.
fn told(entry: &Value) -> Value {
    let mut entry = entry.as_object().unwrap().clone();
    assert!(entry.remove("time").is_some());
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

        let ok = |person: &crate::outside::Person| json!({ "subject": person.subject, "outcome": "OK" });
        let found: Vec<_> = entries(&vault).await.iter().map(told).collect();
        assert_eq!(found, [
            json!({
                "deed": "Detokenize", "purpose": "customer_care", "redaction": "MASKED", "justification": "CASE-118",
                "touched": [ok(&ada), ok(&ada)],
            }),
            json!({ "deed": "FindTokens", "purpose": "customer_care", "touched": [ok(&bob)] }),
            json!({ "deed": "RestrictSubject", "touched": [{ "subject": bob.subject, "outcome": "ASKED" }] }),
            json!({
                "deed": "Detokenize", "purpose": "customer_care", "redaction": "PLAIN_TEXT",
                "touched": [ok(&ada), { "subject": bob.subject, "outcome": "SubjectRestricted" }], "unknown": 1,
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

        let found = entries(&vault).await;
        let deeds: Vec<_> = found.iter().map(|entry| entry["deed"].as_str().unwrap()).collect();
        assert_eq!(deeds, [
            "RestrictSubject", "LiftRestriction", "SetProfiling", "UpdateToken", "DeleteToken", "EraseSubject",
            "CancelErasure", "EraseSubject",
        ]);
        for entry in &found {
            let person = if entry == found.last().unwrap() { &bob } else { &ada };
            assert_eq!(told(entry)["touched"], json!([{ "subject": person.subject, "outcome": "ASKED" }]));
        }
        assert_eq!(verify(&vault).await, Ok(8));
    }

    async fn whoever_alters_removes_or_moves_a_batch_is_found_out(vault: Outside) {
        let mut door = vault.start();
        let ada = door.tokenize("ada").await;
        for _ in 0..5 {
            door.reveal(&ada).await;
        }
        door.kill();
        assert_eq!(verify(&vault).await, Ok(5));
        vault.sql("CREATE TABLE kept AS SELECT * FROM audit_batch");
        // What is changed of batch n, and how many batches later it shows.
        let mut changes = Vec::new();
        for n in 1..=5 {
            let set = |what: &str| format!("UPDATE audit_batch SET {what} WHERE seq = {n}");
            changes.push((set("body = replace(body, 'customer_care', 'breach_notice')"), n));
            changes.push((set("body = ''"), n));
            changes.push((set("entries = entries + 1"), n));
            changes.push((set("merkle = prev_hash"), n));
            changes.push((set("prev_hash = merkle"), n));
            changes.push((set("seq = seq + 100"), if n == 5 { 105 } else { n + 1 }));
        }
        // The chain's end is held by nothing but itself: what follows a batch is what bears witness for it.
        for n in 1..5 {
            let other = if n == 4 { 1 } else { n + 1 };
            changes.push((format!("DELETE FROM audit_batch WHERE seq = {n}"), n + 1));
            changes.push((format!("UPDATE audit_batch SET created_at = created_at + 1 WHERE seq = {n}"), n + 1));
            changes.push((format!(
                "UPDATE audit_batch SET seq = -seq WHERE seq IN ({n}, {other});
                 UPDATE audit_batch SET seq = CASE -seq WHEN {n} THEN {other} ELSE {n} END WHERE seq < 0"
            ), n.min(other)));
            changes.push((format!(
                "UPDATE audit_batch SET body = (SELECT body FROM kept WHERE seq = {other}),
                        merkle = (SELECT merkle FROM kept WHERE seq = {other}) WHERE seq = {n}"
            ), n + 1));
        }
        for (change, shows) in changes {
            vault.sql(&change);
            let fault = verify(&vault).await.expect_err(&change);
            assert!(fault.contains(&format!("audit batch {shows} of node ")), "{change}: {fault}");
            vault.sql("DELETE FROM audit_batch; INSERT INTO audit_batch SELECT * FROM kept");
        }
        assert_eq!(verify(&vault).await, Ok(5));
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
        assert_eq!(entries(&vault).await.len(), before);
        allow(&vault.url(), "audit_batch");
        door.assert_there(&ada).await;
        assert_eq!(verify(&vault).await, Ok(before as u64 + 2));
    }
}

mod after_a_crash {
    use super::entries;
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
            let found = entries(&vault).await;
            assert_eq!(found.len(), 1);
            assert_eq!(super::told(&found[0])["deed"], "Detokenize");
            assert_eq!(found[0]["touched"][0]["outcome"], "OK");
        }
    }
}
