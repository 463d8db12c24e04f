//! The log on the command line, by an auditor and by whoever is woken in the night: what it says is what the vault recorded.

use serde_json::{Value, json};

use crate::asks::{CARE, detokenize, erase, tokenize};
use crate::house::{House, field, on_both_stores};
use crate::process::lacuna;
use lacuna::proto::v1::FieldType;

/// Two people, of whom one is erased after both were shown. Answers their pseudonyms, the erased one first.
async fn shown_and_erased(house: &mut House) -> [String; 2] {
    let mut people = Vec::new();
    for name in ["MARKED-ada", "MARKED-grace"] {
        let fields = vec![field(FieldType::PersonName, name), field(FieldType::Email, &format!("{name}@example.com"))];
        let kept = house.tokens.tokenize(tokenize("", fields)).await.unwrap().into_inner();
        let tokens: Vec<String> = kept.tokens.into_iter().map(|token| token.token).collect();
        house.tokens.detokenize(detokenize(&tokens, CARE)).await.unwrap();
        people.push(kept.subject);
    }
    house.subjects.erase_subject(erase(&people[0])).await.unwrap();
    people.try_into().unwrap()
}

on_both_stores! {
    async fn an_auditor_lists_exports_and_proves_what_happened(house: House) {
        let mut house = house;
        let [erased, _] = shown_and_erased(&mut house).await;

        let listed = house.told(&["audit", "list", "--rpc", "Detokenize", "--subject", &erased]);
        let [entry] = listed["entries"].as_array().unwrap().as_slice() else { panic!("{listed}") };
        assert_eq!((&entry["purpose"], &entry["touched"][0]["outcome"]), (&json!(CARE), &json!("OK")));
        let table = house.shown(&["audit", "list", "--rpc", "Detokenize"]);
        assert!(table.contains(entry["entry"].as_str().unwrap()) && table.contains("1 more"), "{table}");

        let exported = house.shown(&["audit", "export", "--subject", &erased]);
        let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let seen = lines.iter().find(|line| line["event"]["action"] == "Detokenize").unwrap();
        assert_eq!((&seen["event"]["type"][0], &seen["event"]["outcome"]), (&json!("access"), &json!("success")));
        assert_eq!((&seen["event"]["id"], &seen["user"]["name"]), (&entry["entry"], &entry["caller"]));
        assert_eq!(seen["http"]["request"]["id"], entry["request_id"]);
        assert_eq!(seen["lacuna"]["subjects"], json!([erased]));
        assert!(lines.iter().any(|line| line["event"]["type"][0] == "change"));
        assert!(!exported.contains("MARKED"));

        let proof = house.home().join("entry.proof");
        house.shown(&["audit", "prove", entry["entry"].as_str().unwrap(), "--file", proof.to_str().unwrap()]);
        let (keys, url) = (house.config.slot_dir().join("receipt-signing.pub"), house.url());
        let check = |file: &std::path::Path| {
            let arguments = ["audit", "check-proof", file.to_str().unwrap(), "--public-key", keys.to_str().unwrap()];
            let said = lacuna().args(arguments).arg("--output=json").output().unwrap();
            (said.status.code(), serde_json::from_slice::<Value>(&said.stdout).unwrap())
        };
        let (status, proven) = check(&proof);
        assert_eq!((status, &proven["valid"], &proven["entry"]), (Some(0), &json!(true), &entry["entry"]));
        assert_eq!(proven["says"]["deed"], "Detokenize");
        let forged = house.home().join("forged.proof");
        let text = std::fs::read_to_string(&proof).unwrap();
        assert!(text.contains(CARE));
        std::fs::write(&forged, text.replace(CARE, "marketing.email")).unwrap();
        let (status, refused) = check(&forged);
        assert_eq!((status, &refused["valid"]), (Some(1), &json!(false)), "{refused}");

        let verified = house.told(&["audit", "verify"]);
        assert_eq!(verified["intact"], true, "{verified}");
        assert!(verified["checkpoints"].as_u64().unwrap() > 0, "the proof had one signed");
        let notes = house.shown(&["audit", "checkpoint"]);
        assert!(notes.starts_with("lacuna/audit/") && notes.contains("\n\u{2014} lacuna/audit/"), "{notes}");
        let (status, field) = house.refused(&["audit", "prove", "aud_nonsense"]);
        assert_eq!((status.as_str(), field.as_str()), ("VALUE_INVALID", "entry"));

        // A copy of the database tells the same, with no vault running.
        house.stop().await;
        let offline = lacuna().args(["audit", "export", "--database", &url, "--subject", &erased]).output().unwrap();
        let before: Vec<&str> = exported.lines().collect();
        let after = String::from_utf8(offline.stdout).unwrap();
        assert_eq!(after.lines().take(before.len()).collect::<Vec<_>>(), before);
    }

    async fn a_breach_is_reported_from_the_log_with_its_72_hours(house: House) {
        let mut house = house;
        let [erased, other] = shown_and_erased(&mut house).await;

        let affected = house.told(&["audit", "affected", "--rpc", "Detokenize", "--since", "2001-01-01T00:00:00Z"]);
        assert_eq!((&affected["subjects"], &affected["erased"], &affected["reveals"]), (&json!(2), &json!(1), &json!(4)));
        let people = affected["affected_subjects"].as_array().unwrap();
        let erased_since = |who: &str| {
            let person = people.iter().find(|person| person["subject"] == who).unwrap();
            person["erase_time"].as_str().is_some_and(|time| !time.is_empty())
        };
        assert!(erased_since(&erased) && !erased_since(&other));
        let table = house.shown(&["audit", "affected", "--type", "EMAIL"]);
        assert!(table.contains(&erased) && table.contains("2, of whom 1 were erased since"), "{table}");

        let aware = ["audit", "breach", "--rpc", "Detokenize", "--since", "2001-01-01T00:00:00Z", "--aware", "2026-11-22T07:00:00Z"];
        let report = house.told(&aware);
        assert_eq!(report["notify_by"], "2026-11-25T07:00:00.000000Z");
        assert_eq!((&report["subjects"], &report["measures"]), (&json!(2), &Value::Null));
        let emails = report["categories"].as_array().unwrap().iter().find(|of| of["type"] == "FIELD_TYPE_EMAIL").unwrap();
        assert_eq!((&emails["subjects"], &emails["values"], &emails["reveals"]), (&json!(2), &json!(2), &json!(2)));
        let text = house.shown(&aware);
        for part in ["(a)", "(b)", "(c)", "(d)"] {
            assert!(text.contains(&format!("Art. 33(3){part}")), "{part} in {text}");
        }
        assert!(text.contains("**2026-11-25T07:00:00.000000Z**") && text.contains("rpc Detokenize"), "{text}");
        assert!(!text.contains("MARKED"));
        let everything = house.refused(&["audit", "breach", "--rpc", "Detokenize"]);
        assert_eq!(everything, ("VALUE_INVALID".to_owned(), "filter".to_owned()), "nobody counts everything by mistake");

        // The same from the database alone.
        let url = house.url();
        house.stop().await;
        let offline = lacuna().args(aware).args(["--database", &url, "--output=json"]).output().unwrap();
        let offline: Value = serde_json::from_slice(&offline.stdout).unwrap();
        for key in ["subjects", "erased", "reveals", "categories", "affected_subjects", "notify_by", "first_time"] {
            assert_eq!(offline[key], report[key], "{key}");
        }
    }
}
