//! Conversations of other systems come in as calls, and calls go out as conversations: all of one, or what one party may have.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use lacuna::crypto::{SigningKey, SystemRandom};
use lacuna::model::PartId;
use lacuna::proto::v1;
use lacuna::proto::v1::import_vcon_response::Outcome;
use lacuna::proto::v1::{ConsentEventKind, PartKind, UpsertOutcome, VconView};
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::asks::CARE;
use crate::consents::{NEWS, Office};
use crate::house::{House, fields_at_fault, item_status, on_both_stores, reason};
use crate::parts::{part, written};
use crate::process::said;

/// A folder with more samples, in folders by their kind, if the tests were built with one.
const MORE: Option<&str> = option_env!("LACUNA_TEST_VCON");

/// The samples of this kind.
fn samples(kind: &str) -> Vec<PathBuf> {
    let own =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vcon").join(if kind == "fake" { "" } else { kind });
    let more = MORE.map(|folder| Path::new(folder).join(kind));
    let mut files = Vec::new();
    for folder in std::iter::once(own).chain(more).filter(|folder| folder.is_dir()) {
        files.extend(fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()));
    }
    files.retain(|file| file.extension().is_some_and(|ending| ending == "json" || ending == "vcon"));
    // One of the working group's files is no conversation, and one is their schema.
    files.retain(|file| !file.ends_with("vcon_json_schema.json") && !file.ends_with("simple-vcon.vcon"));
    files.sort();
    files
}

fn read_all(files: &[PathBuf]) -> Vec<Vec<u8>> {
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// The schema of the working group.
struct Schema(boon::Schemas, boon::SchemaIndex);

impl Schema {
    fn new() -> Self {
        let text = include_str!("../data/vcon/ietf/vcon_json_schema.json");
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.enable_format_assertions();
        compiler.add_resource("vcon", serde_json::from_str(text).unwrap()).unwrap();
        let index = compiler.compile("vcon", &mut schemas).unwrap();
        Self(schemas, index)
    }

    /// The document, if it is as the schema wants it.
    fn check(&self, bytes: &[u8]) -> Value {
        let document: Value = serde_json::from_slice(bytes).unwrap();
        self.0.validate(&document, self.1).unwrap_or_else(|error| panic!("{error:#}\n{document:#}"));
        document
    }
}

fn mapping() -> v1::VconMapping {
    v1::VconMapping { source_system: "recorder".to_owned(), ..Default::default() }
}

/// What became of a document: its call and the outcome, or the field at fault.
type Became = Result<v1::ImportedVcon, (String, Vec<String>)>;

impl House {
    async fn take_in(&self, mapping: v1::VconMapping, documents: &[Vec<u8>]) -> Vec<Became> {
        let document = |(number, content): (u64, &Vec<u8>)| v1::VconDocument { number, content: content.clone() };
        let mut mapping = Some(mapping);
        let asks: Vec<_> = (1..)
            .zip(documents)
            .map(|each| v1::ImportVconRequest { mapping: mapping.take(), document: Some(document(each)) })
            .collect();
        let mut answers = self.calls().await.import_vcon(tokio_stream::iter(asks)).await.unwrap().into_inner();
        let mut became = Vec::new();
        while let Some(answer) = answers.message().await.unwrap() {
            assert_eq!(answer.number, became.len() as u64 + 1, "in the order in which they were told");
            became.push(match answer.outcome.unwrap() {
                Outcome::Vcon(vcon) => Ok(vcon),
                Outcome::Error(error) => Err((reason(&item_status(&error)), fields_at_fault(&item_status(&error)))),
            });
        }
        became
    }

    async fn take_one(&self, document: &Value) -> Became {
        self.take_in(mapping(), &[document.to_string().into_bytes()]).await.remove(0)
    }

    async fn exported(&self, call: &str, for_subject: &str) -> Result<v1::ExportVconResponse, Status> {
        let view = if for_subject.is_empty() { VconView::Full } else { VconView::Redacted };
        let (call, for_subject, purpose) = (call.to_owned(), for_subject.to_owned(), CARE.to_owned());
        let ask = v1::ExportVconRequest { call, view: view.into(), for_subject, purpose, ..Default::default() };
        Ok(self.calls().await.export_vcon(ask).await?.into_inner())
    }

    async fn document(&self, call: &str, for_subject: &str) -> Value {
        Schema::new().check(&self.exported(call, for_subject).await.unwrap().document)
    }

    async fn described(&self, call: &str) -> v1::Call {
        let get = v1::GetCallRequest { call: call.to_owned(), ..Default::default() };
        self.calls().await.get_call(get).await.unwrap().into_inner().call.unwrap()
    }
}

/// A conversation of two, with everything that must not be kept.
fn call() -> Value {
    json!({
        "uuid": "01928e10-193e-8231-b9a2-279e0d16bc46",
        "created_at": "2026-01-31T09:30:00Z",
        "subject": "Refund for Diana",
        "parties": [
            { "name": "Ana Keller", "tel": "+4930555999", "mailto": "ana@kunde.example", "role": "customer" },
            { "name": "Diana Hernandez", "tel": "+15996393222", "mailto": "diana@firm.example", "role": "agent" },
        ],
        "dialog": [
            { "type": "text", "start": "2026-01-31T09:30:00Z", "parties": [1], "body": "Hello, Ana Keller here?" },
            { "type": "text", "start": "2026-01-31T09:30:10Z", "parties": [0], "body": "Yes, Diana, my parcel is lost." },
            { "type": "recording", "start": "2026-01-31T09:31:00Z", "duration": 30, "parties": [0, 1],
              "mediatype": "audio/wav", "url": "https://u:p@rec.example/a.wav?X-Signature=MARKED#t", "dtmf": "MARKED",
              "content_hash": "sha512-GLy6IPaIUM1GqzZqfIPZlWjaDsNgNvZM0iCONNThnH0a75fhUM6cYzLZ5GynSURREvZwmOh54-2lRRieyj82UQ",
              "party_history": [
                { "party": 1, "time": "2026-01-31T09:31:01Z", "event": "hold" },
                { "party": 0, "time": "2026-01-31T09:31:02Z", "event": "keydown", "button": "MARKED" },
                { "party": 1, "time": "2026-01-31T09:31:03Z", "event": "unhold" },
                { "party": 1, "time": "2026-01-31T09:31:05Z", "event": "pci_pause" },
                { "party": 1, "time": "2026-01-31T09:31:09Z", "event": "pci_resume" },
              ] },
        ],
        "analysis": [
            { "type": "summary", "dialog": [0, 1], "vendor": "x", "encoding": "none", "body": "Ana told Diana of a parcel." },
        ],
        "attachments": [
            { "purpose": "ticket", "party": 0, "dialog": 0, "start": "2026-01-31T09:31:09Z", "encoding": "none",
              "body": "Parcel 4711" },
        ],
    })
}

/// The conversation of two people whose roles nobody has told, in this order; the first one is the customer then.
fn of_equals(people: [&Value; 2], numbers: bool) -> Value {
    let mut document = call();
    let parties = people.map(|person| {
        let mut party = person.clone();
        if !numbers {
            party.as_object_mut().unwrap().remove("tel");
        }
        party
    });
    let says = |at: usize| {
        let body = format!("{} is who says this.", parties[at]["name"].as_str().unwrap());
        json!({ "type": "text", "start": "2026-01-31T09:30:00Z", "parties": [at], "body": body })
    };
    document["dialog"] = json!([says(0), says(1)]);
    document["subject"] = json!("A parcel");
    document["analysis"][0]["body"] = json!("Ana Keller told Bruno Feld of a parcel.");
    document["attachments"] = json!([]);
    document["parties"] = json!(parties);
    document["uuid"] = json!(format!("01928e10-193e-8231-b9a2-279e0d16bc5{}", u8::from(numbers)));
    document
}

/// The same conversation, later and with so many recordings.
fn with_recordings(revision: usize, count: usize) -> Value {
    let mut document = call();
    let mut recording = document["dialog"][2].clone();
    recording.as_object_mut().unwrap().remove("party_history");
    recording.as_object_mut().unwrap().remove("dtmf");
    let numbered = |number: usize| {
        let mut recording = recording.clone();
        recording["url"] = json!(format!("https://rec.example/{number}.wav"));
        recording
    };
    document["dialog"] = (0..count).map(numbered).collect();
    document["updated_at"] = json!(format!("2026-02-01T00:00:{revision:02}Z"));
    document["analysis"] = json!([]);
    document["attachments"] = json!([]);
    document
}

fn outcomes(became: &[Became]) -> Vec<UpsertOutcome> {
    became.iter().map(|one| one.as_ref().map_or_else(|error| panic!("{error:?}"), v1::ImportedVcon::outcome)).collect()
}

/// What is told of somebody, in lower case.
fn told(party: &Value) -> impl Iterator<Item = String> {
    let texts =
        ["name", "tel", "mailto", "email", "sip"].map(|name| party[name].as_str().unwrap_or_default().to_lowercase());
    texts.into_iter().filter(|text| !text.is_empty())
}

on_both_stores! {
    async fn every_sample_is_recorded_once_and_written_as_the_schema_wants_it(house: House) {
        let schema = Schema::new();
        let mut all = 0;
        for kind in ["fake", "ietf"].into_iter().chain(MORE.map(|_| "generated")) {
            let documents = read_all(&samples(kind));
            let fresh = house.take_in(mapping(), &documents).await;
            let calls: BTreeSet<String> = fresh.iter().map(|one| one.as_ref().unwrap_or_else(|error| panic!("{error:?}")).call.clone()).collect();
            let again = house.take_in(mapping(), &documents).await;
            let again = outcomes(&again);
            // Where there are several states of one conversation, only the last one stands.
            assert!(again.iter().all(|outcome| matches!(outcome, UpsertOutcome::Same | UpsertOutcome::Stale)), "{again:?}");
            all += calls.len();
            for ((became, document), _) in fresh.iter().zip(&documents).zip(&again).filter(|(_, again)| **again == UpsertOutcome::Same) {
                let call = &became.as_ref().unwrap().call;
                let whole = house.exported(call, "").await.unwrap();
                assert!(whole.left_out.is_empty(), "{:?}", whole.left_out);
                let (text, written) = (String::from_utf8_lossy(&whole.document).to_lowercase(), schema.check(&whole.document));
                let Ok(original) = serde_json::from_slice::<Value>(document) else { continue };
                if original.get("payload").is_some() {
                    continue;
                }
                assert_eq!(written["uuid"], original["uuid"]);
                for list in ["parties", "dialog", "analysis", "attachments"] {
                    let count = |document: &Value| document[list].as_array().map_or(0, Vec::len);
                    assert_eq!(count(&written), count(&original), "{list}");
                }
                let people = written["parties"].as_array().unwrap();
                for (party, given) in people.iter().zip(original["parties"].as_array().unwrap()) {
                    told(given).for_each(|value| assert!(text.contains(&value), "what was told of a party is in it"));
                    let mut others = people.iter().filter(|other| *other != party);
                    assert!(others.all(|other| other["name"] != party["name"] || other["name"].is_null()));
                }
                let described = house.described(call).await;
                for (at, subject) in described.parties.iter().map(|party| party.subject.clone()).enumerate() {
                    let redacted = house.exported(call, &subject).await.unwrap();
                    let text = String::from_utf8_lossy(&redacted.document).to_lowercase();
                    assert_eq!(schema.check(&redacted.document)["parties"].as_array().unwrap().len(), people.len());
                    let others = people.iter().enumerate().filter(|(other, _)| *other != at);
                    for value in others.flat_map(|(_, other)| told(other)) {
                        assert!(!text.contains(&value), "something of another party is in what {at} gets");
                    }
                }
            }
        }
        eprintln!("{all} conversations, each for two parties");
    }

    async fn malformed_documents_are_refused_by_the_name_of_the_field_and_keep_no_other_out(house: House) {
        let mut documents = read_all(&samples("invalid"));
        let bad = documents.len();
        documents.insert(3, call().to_string().into_bytes());
        let became = house.take_in(mapping(), &documents).await;
        assert!(became[3].is_ok());
        for refused in became.iter().filter_map(|one| one.as_ref().err()) {
            assert_eq!(refused.0, "VALUE_INVALID");
            assert!(!refused.1[0].is_empty() && refused.1[0] != "document", "{refused:?}");
        }
        assert_eq!(became.iter().filter(|one| one.is_err()).count(), bad);
        let listed = house.calls().await.list_calls(v1::ListCallsRequest::default()).await.unwrap().into_inner();
        assert_eq!(listed.calls.len(), 1, "and nothing is kept of them");
        let change = |pointer: &str, value: Value| {
            let mut document = call();
            *document.pointer_mut(pointer).unwrap() = value;
            document
        };
        for (document, field) in [
            (json!({ "uuid": call()["uuid"], "created_at": "2026-01-31T09:30:00Z", "parties": [] }), "parties"),
            (change("/dialog/0/parties/0", json!(7)), "dialog[0].parties[0]"),
            (change("/dialog/1/body", json!("my card is 4111 1111 1111 1111")), "dialog[1].body"),
            (change("/created_at", json!("1901-01-01T00:00:00Z")), "created_at"),
            (change("/parties/0/name", json!("a".repeat(400))), "parties[0].name"),
        ] {
            let refused = house.take_one(&document).await.unwrap_err();
            assert_eq!(refused.1, [field], "{refused:?}");
        }
        assert_eq!(house.take_in(mapping(), &[b"{".to_vec()]).await[0].as_ref().unwrap_err().1, ["document"]);
    }

    async fn a_stream_that_does_not_say_how_is_refused_as_a_whole(house: House) {
        let document = || Some(v1::VconDocument { number: 1, content: call().to_string().into_bytes() });
        for (told, field) in [
            (None, "mapping"),
            (Some(v1::VconMapping { source_system: "MARKED".to_owned(), ..mapping() }), "mapping.source_system"),
            (Some(v1::VconMapping { signers: b"MARKED".to_vec(), ..mapping() }), "mapping.signers"),
            (Some(v1::VconMapping { retention_class: "MARKED".to_owned(), ..mapping() }), "mapping.retention_class"),
        ] {
            let ask = v1::ImportVconRequest { mapping: told, document: document() };
            let refused = house.calls().await.import_vcon(tokio_stream::iter([ask])).await.unwrap_err();
            assert_eq!((refused.code(), fields_at_fault(&refused)), (Code::InvalidArgument, vec![field.to_owned()]));
            assert!(!refused.message().contains("MARKED"));
        }
    }

    async fn what_opens_a_recording_and_what_was_pressed_gets_nowhere(house: House) {
        let taken = house.take_one(&call()).await.unwrap();
        assert_eq!((taken.addresses_shortened, taken.digits_dropped, taken.outcome()), (1, 2, UpsertOutcome::Created));
        assert!(!house.everything().await.contains("MARKED"));
        let document = house.document(&taken.call, "").await;
        assert!(!document.to_string().contains("MARKED"));
        assert_eq!(document["dialog"][2]["url"], "https://rec.example/a.wav");
        assert_eq!(document["dialog"][2]["lacuna_gaps"][0]["start"], "2026-01-31T09:31:05.000000Z");
        assert_eq!(document["dialog"][1]["body"], "Yes, Diana, my parcel is lost.");
        assert_eq!(document["analysis"][0]["body"], "Ana told Diana of a parcel.");
        assert_eq!(document["subject"], "Refund for Diana");
        let told = house.described(&taken.call).await;
        let kinds: Vec<_> = told.parts.iter().map(v1::CallPart::kind).collect();
        for kind in [PartKind::Recording, PartKind::Transcript, PartKind::Summary, PartKind::Note] {
            assert!(kinds.contains(&kind), "{kinds:?}");
        }
        let events: Vec<_> = told.events.iter().map(|event| event.kind().as_str_name()).collect();
        let expected = ["HOLD", "RETRIEVE", "CARD_PAUSE", "CARD_RESUME"].map(|kind| format!("CALL_EVENT_KIND_{kind}"));
        assert_eq!(events, expected);
        assert_eq!((told.legs[0].hold_count, told.legs[0].hold_seconds), (1, 2));
        assert_eq!(told.legs[0].direction(), v1::CallDirection::Outbound, "the agent spoke first");
    }

    async fn a_higher_revision_takes_the_place_of_what_was_told_before(house: House) {
        let first = house.take_one(&call()).await.unwrap();
        let before = house.described(&first.call).await.parts;
        let mut document = call();
        document["analysis"][0]["body"] = json!("Nothing was lost.");
        let refused = house.take_one(&document).await.unwrap_err();
        assert_eq!(refused.0, "CALL_CONFLICT", "another content, and it says not that it was changed");
        document["updated_at"] = json!("2026-02-01T00:00:00Z");
        let second = house.take_one(&document).await.unwrap();
        assert_eq!((second.outcome(), &second.call), (UpsertOutcome::Merged, &first.call));
        assert_eq!(house.take_one(&document).await.unwrap().outcome(), UpsertOutcome::Same);
        assert_eq!(house.take_one(&call()).await.unwrap().outcome(), UpsertOutcome::Stale);
        let parts = house.described(&first.call).await.parts;
        assert_eq!(parts.len(), 2 * before.len());
        for part in &parts {
            let old = before.iter().any(|old| old.part == part.part);
            assert_eq!(part.gone == "PART_ERASED", old, "what was told before is deleted, and no more: {part:?}");
        }
        let written = house.document(&first.call, "").await;
        assert_eq!(written["analysis"][0]["body"], "Nothing was lost.");
        assert_eq!(written["analysis"].as_array().unwrap().len(), 1);
        assert_eq!(written["dialog"][2]["url"], "https://rec.example/a.wav");
    }

    async fn a_long_conversation_is_told_again_and_again_beside_what_was_attached(house: House) {
        let first = house.take_one(&with_recordings(1, 26)).await.unwrap();
        let parts = first.parts as usize;
        assert!(parts > 26, "twice as many would be too many: {parts}");
        for revision in 2..5 {
            let told = house.take_one(&with_recordings(revision, 26)).await.unwrap();
            assert_eq!((told.outcome(), told.parts as usize), (UpsertOutcome::Merged, parts));
        }
        let call = house.described(&first.call).await;
        let living = |call: &v1::Call| call.parts.iter().filter(|part| part.gone.is_empty()).count();
        assert_eq!((call.parts.len(), living(&call)), (4 * parts, parts));
        for number in parts..50 {
            house.attach(part(&call, PartKind::Note, written(&format!("Note {number}")))).await;
        }
        let one_more = part(&call, PartKind::Note, written("One more"));
        let refused = house.calls().await.attach_part(one_more).await.unwrap_err();
        assert_eq!((reason(&refused), fields_at_fault(&refused)), ("BATCH_TOO_LARGE".to_owned(), vec!["call".to_owned()]));
        assert_eq!(house.take_one(&with_recordings(5, 26)).await.unwrap().outcome(), UpsertOutcome::Merged, "it fits");
        let before = house.described(&first.call).await;
        let refused = house.take_one(&with_recordings(6, 27)).await.unwrap_err();
        assert_eq!(refused, ("BATCH_TOO_LARGE".to_owned(), vec!["document".to_owned()]));
        assert_eq!(house.described(&first.call).await, before, "and nothing of it was kept");
        assert_eq!(living(&before), 50);
        assert_eq!(house.take_one(&with_recordings(7, 20)).await.unwrap().outcome(), UpsertOutcome::Merged);
        let written = house.document(&first.call, "").await;
        assert_eq!(written["dialog"][19]["url"], "https://rec.example/19.wav");
    }

    async fn somebody_in_front_moves_what_happened_to_nobody_else(house: House) {
        let told = |front: usize| {
            let mut document = call();
            for dialog in document["dialog"].as_array_mut().unwrap() {
                for party in dialog["parties"].as_array_mut().unwrap() {
                    *party = json!(party.as_u64().unwrap() + front as u64);
                }
            }
            let join = |party| json!({ "party": party, "time": "2026-01-31T09:31:01Z", "event": "join" });
            document["dialog"][2]["party_history"] = (0..2 + front).map(join).collect();
            document["attachments"][0]["party"] = json!(front);
            document
        };
        let first = house.take_one(&told(0)).await.unwrap();
        let joined = |call: &v1::Call| call.events.iter().map(|event| event.party).collect::<BTreeSet<_>>();
        assert_eq!(joined(&house.described(&first.call).await), BTreeSet::from([1, 2]));
        let mut later = told(1);
        later["updated_at"] = json!("2026-02-01T00:00:00Z");
        let other = json!({ "name": "Carl Moll", "tel": "+4930555222", "role": "customer" });
        later["parties"].as_array_mut().unwrap().insert(0, other);
        for outcome in [UpsertOutcome::Merged, UpsertOutcome::Same] {
            assert_eq!(house.take_one(&later).await.unwrap().outcome(), outcome);
            let call = house.described(&first.call).await;
            assert_eq!((joined(&call), call.events.len()), (BTreeSet::from([1, 2, 3]), 3));
        }
    }

    async fn a_document_that_is_too_large_is_refused_and_keeps_no_other_out(house: House) {
        let most = 8 << 20;
        let mut full = call().to_string().into_bytes();
        full.resize(most, b' ');
        let became = house.take_in(mapping(), &[vec![b' '; most + 1], full]).await;
        assert_eq!(became[0].as_ref().unwrap_err(), &("VALUE_TOO_LARGE".to_owned(), vec!["document".to_owned()]));
        assert_eq!(became[1].as_ref().unwrap().outcome(), UpsertOutcome::Created);
        let folder = house.home().join("vcons");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("a.vcon"), call().to_string()).unwrap();
        fs::File::create(folder.join("b.vcon")).unwrap().set_len(20 << 20).unwrap();
        fs::write(folder.join("c.vcon"), call().to_string()).unwrap();
        let results = house.home().join("results.csv");
        let (folder, results) = (folder.to_str().unwrap(), results.to_str().unwrap());
        let output =
            house.ask(&["vcon", "import", "--system", "recorder", folder, "--output=json", "--results", results]);
        let sum: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} {}", said(&output)));
        assert_eq!((&sum["files"], &sum["outcomes"]["same"], &sum["refused"]), (&json!(3), &json!(2), &json!(1)));
        let rows = fs::read_to_string(results).unwrap();
        let row = rows.lines().find(|row| row.contains("refused")).unwrap();
        assert!(row.contains("b.vcon") && row.contains("larger than 8 MiB"), "{rows}");
    }

    async fn only_what_a_signer_has_signed_is_taken_when_there_are_some(house: House) {
        let encode = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
        let (key, _) = SigningKey::generate(&SystemRandom::new()).unwrap();
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(&key.public()) }).to_string();
        let signed = |document: &Value, key: &SigningKey| {
            let (payload, protected) = (encode(document.to_string().as_bytes()), encode(b"{\"alg\":\"EdDSA\"}"));
            let signature = encode(&key.sign(format!("{protected}.{payload}").as_bytes()));
            json!({ "payload": payload, "signatures": [{ "protected": protected, "signature": signature }] })
        };
        let good = signed(&call(), &key);
        let mut tampered = good.clone();
        let mut other = call();
        other["subject"] = json!("another");
        tampered["payload"] = json!(encode(other.to_string().as_bytes()));
        let foreign = signed(&call(), &SigningKey::generate(&SystemRandom::new()).unwrap().0);
        let documents = [&tampered, &foreign, &call(), &good].map(|document| document.to_string().into_bytes());
        let mapping = v1::VconMapping { signers: jwk.into_bytes(), ..mapping() };
        let became = house.take_in(mapping, &documents).await;
        let fields: Vec<_> = became.iter().filter_map(|one| Some(one.as_ref().err()?.1[0].clone())).collect();
        assert_eq!(fields, ["signatures[0].signature", "signatures[0].signature", "signatures"]);
        let taken = became[3].as_ref().unwrap();
        assert!(taken.signed && taken.left_out == ["signatures"], "{taken:?}");
    }

    async fn whoever_is_erased_is_a_placeholder_in_what_is_written(house: House) {
        let mut house = house;
        let taken = house.take_one(&call()).await.unwrap();
        let parties = house.described(&taken.call).await.parties;
        let (ana, diana) = (parties[0].subject.clone(), parties[1].subject.clone());
        let before = house.document(&taken.call, "").await.to_string();
        assert!(before.contains("Ana Keller") && before.contains("my parcel is lost") && before.contains("4711"));
        house.erase(&ana).await;
        let exported = house.exported(&taken.call, "").await.unwrap();
        let after = Schema::new().check(&exported.document);
        assert!(exported.left_out.contains(&"parties[0]".to_owned()), "{:?}", exported.left_out);
        assert_eq!(after["parties"][0], json!({ "name": "erased customer", "role": "customer" }));
        assert_eq!(after["uuid"], call()["uuid"]);
        assert_eq!(after["parties"][1]["name"], "Diana Hernandez");
        assert_eq!(after["dialog"][0]["body"], "Hello, Ana Keller here?", "what somebody else has said is theirs");
        for gone in ["4930555999", "ana@kunde", "my parcel is lost", "4711", "a.wav", "told Diana"] {
            assert!(!after.to_string().contains(gone), "{gone}");
        }
        // Nobody can find her name in it any more, so whoever gets less gets no words at all.
        let redacted = house.document(&taken.call, &diana).await.to_string();
        assert!(redacted.contains("Diana Hernandez") && !redacted.contains("Ana"), "{redacted}");
        assert!(house.exported(&taken.call, &ana).await.is_ok(), "there is nothing of hers, and no failure");
        let again = house.take_one(&call()).await.unwrap();
        assert_eq!(again.outcome(), UpsertOutcome::Same);
        assert!(!house.document(&taken.call, "").await.to_string().contains("my parcel is lost"), "and none comes back");
        house.erase(&diana).await;
        let nobody = house.document(&taken.call, "").await;
        assert_eq!(nobody["parties"][1]["name"], "former agent");
    }

    async fn what_systems_noted_of_somebody_who_is_erased_is_not_in_what_is_kept_with_others(house: House) {
        let mut house = house;
        let mut document = call();
        document["agent_name"] = json!("Diana, of the root");
        document["dialog"][2]["meta"] = json!({ "agent_name": "Diana, of the leg" });
        document["dialog"][2]["message_id"] = json!("diana@m");
        let taken = house.take_one(&document).await.unwrap();
        let before = house.document(&taken.call, "").await.to_string();
        let noted = ["Diana, of the root", "Diana, of the leg", "diana@m"];
        assert!(noted.iter().all(|note| before.contains(note)), "{before}");
        let parties = house.described(&taken.call).await.parties;
        house.erase(&parties[1].subject).await;
        let after = house.document(&taken.call, "").await.to_string();
        assert!(noted.iter().all(|note| !after.contains(note)) && after.contains("Yes, Diana, my parcel is lost."), "{after}");
    }

    async fn a_scorecard_goes_to_the_agent_whom_it_is_about(house: House) {
        let mut document = call();
        let score = json!({ "type": "agent_score", "vendor": "x", "dialog": [2], "encoding": "none", "body": "impatient" });
        document["analysis"].as_array_mut().unwrap().push(score);
        let taken = house.take_one(&document).await.unwrap();
        let attached = house.a_call("1.1").await;
        let card = v1::AttachPartRequest { party: 2, ..part(&attached, PartKind::Scorecard, written("impatient")) };
        house.attach(card).await;
        for name in [taken.call, attached.call] {
            assert!(house.document(&name, "").await.to_string().contains("impatient"));
            for party in house.described(&name).await.parties {
                let theirs = house.document(&name, &party.subject).await.to_string();
                let is_agent = party.role() == v1::PartyRole::Agent;
                assert_eq!(theirs.contains("impatient"), is_agent, "{:?}: {theirs}", party.role());
            }
        }
    }

    async fn a_person_who_is_erased_leaves_nothing_in_conversations_that_come_later(house: House) {
        let mut house = house;
        let taken = house.take_one(&call()).await.unwrap();
        house.erase(&house.described(&taken.call).await.parties[0].subject).await;
        let mut late = call();
        late["updated_at"] = json!("2026-02-01T00:00:00Z");
        let late = house.take_one(&late).await.unwrap();
        assert_eq!((late.outcome(), late.left_out), (UpsertOutcome::Merged, vec!["parties[0]".to_owned()]));
        let written = house.document(&taken.call, "").await.to_string();
        assert!(!written.contains("4930555999") && !written.contains("my parcel is lost"), "{written}");
    }

    async fn whoever_is_erased_stays_away_in_any_order_and_role_that_is_told_later(house: House) {
        let mut house = house;
        let ana = json!({ "name": "Ana Keller", "tel": "+4930555999", "mailto": "ana@kunde.example" });
        let bruno = json!({ "name": "Bruno Feld", "tel": "+4930555111", "mailto": "bruno@kunde.example" });
        let customer = |person: &Value| {
            let mut person = person.clone();
            person["role"] = json!("customer");
            person
        };
        for numbers in [true, false] {
            let taken = house.take_one(&of_equals([&ana, &bruno], numbers)).await.unwrap();
            let before = house.document(&taken.call, "").await.to_string();
            for theirs in ["Ana Keller", "ana@kunde", "Ana Keller is who", "Keller told Bruno", "Bruno Feld is who"] {
                assert!(before.contains(theirs), "{theirs}: {before}");
            }
            let parties = house.described(&taken.call).await.parties;
            house.erase(&parties[0].subject).await;
            let orders = [[bruno.clone(), ana.clone()], [customer(&ana), bruno.clone()], [customer(&bruno), customer(&ana)]];
            for (revision, people) in (1..).zip(&orders) {
                let mut later = of_equals([&people[0], &people[1]], numbers);
                later["updated_at"] = json!(format!("2026-02-0{revision}T00:00:00Z"));
                let told = house.take_one(&later).await.unwrap();
                assert_eq!(told.outcome(), UpsertOutcome::Merged);
                let written = house.document(&taken.call, "").await.to_string();
                for gone in ["4930555999", "ana@kunde", "Ana Keller"] {
                    assert!(!written.contains(gone), "revision {revision}: {gone} in {written}");
                }
                assert!(written.contains("Bruno Feld") && written.contains("bruno@kunde"), "{written}");
                // Where he comes first, what was made of all of it would be his.
                let is_second = people[1]["name"] == bruno["name"];
                assert_eq!(written.contains("Bruno Feld is who"), is_second, "{written}");
                let known = house.described(&taken.call).await;
                assert_eq!(known.parties.iter().filter(|party| party.erased).count(), 1);
                assert!(known.parties.iter().all(|party| party.erased || party.subject == parties[1].subject), "nobody is new");
            }
            assert_eq!(house.find(v1::FieldType::Phone, "+4930555999").await, Vec::<String>::new());
        }
    }

    async fn whoever_had_nothing_kept_of_them_is_named_to_nobody(house: House) {
        let mut house = house;
        let first = house.take_one(&call()).await.unwrap();
        let ana = house.described(&first.call).await.parties[0].subject.clone();
        let restrict = v1::RestrictSubjectRequest {
            subject: ana,
            ground: "objection_pending".to_owned(),
            ..Default::default()
        };
        house.subjects.restrict_subject(restrict).await.unwrap();
        let mut next = call();
        next["uuid"] = json!("01928e10-193e-8231-b9a2-279e0d16bc47");
        let taken = house.take_one(&next).await.unwrap();
        assert_eq!(taken.left_out, ["parties[0]"]);
        let whole = house.document(&taken.call, "").await.to_string();
        assert!(whole.contains("Hello, Ana Keller here?"), "what Diana has said is hers: {whole}");
        let diana = house.described(&taken.call).await.parties[1].subject.clone();
        let redacted = house.document(&taken.call, &diana).await.to_string();
        assert!(redacted.contains("Diana Hernandez") && !redacted.contains("Ana"), "{redacted}");
    }

    async fn two_with_one_number_are_not_taken_for_each_other(house: House) {
        let mut document = call();
        let carla = json!({ "name": "Carla Moll", "tel": "+4930555999", "role": "customer" });
        document["parties"].as_array_mut().unwrap().push(carla);
        document["dialog"][1]["body"] = json!("Yes, this is Carla and my parcel is lost.");
        let taken = house.take_one(&document).await.unwrap();
        assert_eq!(taken.left_out, ["parties[2]"], "whose name cannot be kept beside the other's");
        let parties = house.described(&taken.call).await.parties;
        assert_eq!(parties.len(), 2);
        let whole = house.document(&taken.call, "").await;
        assert_eq!((&whole["parties"][0]["name"], &whole["parties"][2]["name"]), (&json!("Ana Keller"), &Value::Null));
        for party in parties {
            let redacted = house.document(&taken.call, &party.subject).await.to_string();
            assert!(!redacted.contains("Carla"), "nobody knows what to look for: {redacted}");
        }
        let mut same = call();
        same["uuid"] = json!("01928e10-193e-8231-b9a2-279e0d16bc47");
        let ana = same["parties"][0].clone();
        same["parties"].as_array_mut().unwrap().push(ana);
        assert_eq!(house.take_one(&same).await.unwrap().left_out, Vec::<String>::new(), "one who is told twice is one");
    }

    async fn revisions_that_are_told_on_many_sides_at_once_leave_the_parts_of_one(house: House) {
        let told: Vec<Value> = (0..6)
            .map(|revision| {
                let mut document = call();
                document["updated_at"] = json!(format!("2026-02-01T00:00:0{revision}Z"));
                document["analysis"][0]["body"] = json!(format!("Told as {revision}."));
                let extra = (0..revision).map(|at| json!({ "type": "text", "start": "2026-01-31T09:32:00Z", "parties": [at % 2], "body": "More." }));
                document["dialog"].as_array_mut().unwrap().extend(extra);
                document
            })
            .collect();
        let taken = futures_util::future::join_all(told.iter().map(|document| house.take_one(document))).await;
        let taken: Vec<_> = taken.into_iter().map(Result::unwrap).collect();
        let newest = taken.last().unwrap();
        assert_ne!(newest.outcome(), UpsertOutcome::Stale);
        let living = house.described(&newest.call).await.parts.iter().filter(|part| part.gone.is_empty()).count();
        assert_eq!(living, usize::try_from(newest.parts).unwrap(), "and of no other: {taken:?}");
        let written = house.document(&newest.call, "").await;
        assert_eq!((&written["analysis"][0]["body"], written["dialog"].as_array().unwrap().len()), (&json!("Told as 5."), 8));
        assert_eq!(house.take_one(&told[5]).await.unwrap().outcome(), UpsertOutcome::Same);
    }

    async fn what_was_made_of_a_dialog_is_of_somebody_who_was_in_it(house: House) {
        let mut house = house;
        let mut document = call();
        let expert = json!({ "name": "Erik Holm", "tel": "+4930555777", "role": "thirdparty" });
        document["parties"].as_array_mut().unwrap().push(expert);
        document["dialog"][1]["parties"] = json!([2]);
        document["dialog"][1]["originator"] = json!(2);
        document["analysis"] = json!([{ "type": "transcript", "dialog": 1, "vendor": "acme", "body": "Erik knows more.", "encoding": "none" }]);
        let taken = house.take_one(&document).await.unwrap();
        let parties = house.described(&taken.call).await.parties;
        let erik = parties.iter().find(|party| party.role() == v1::PartyRole::ThirdParty).unwrap();
        let before = house.document(&taken.call, "").await.to_string();
        assert!(before.contains("Erik knows more."), "{before}");
        house.erase(&erik.subject).await;
        let after = house.document(&taken.call, "").await.to_string();
        assert!(!after.contains("Erik knows more."), "{after}");
    }

    async fn nothing_that_is_attached_passes_for_a_piece_of_a_conversation(house: House) {
        let call = house.a_call("1.1").await;
        let genuine = house.document(&call.call, "").await["uuid"].clone();
        let forged = v1::AttachPartRequest {
            part: PartId::told("pbx", "1.1", 1, 0).to_string(),
            ..part(&call, PartKind::Transcript, written("{\"head\":{\"subject\":\"forged\"}}"))
        };
        let piece = v1::AttachPartRequest { media_type: "application/vcon+json".to_owned(), ..forged.clone() };
        let refused = house.calls().await.attach_part(piece).await.unwrap_err();
        assert_eq!(fields_at_fault(&refused), ["media_type"]);
        house.attach(forged).await;
        let document = house.document(&call.call, "").await;
        assert_eq!((&document["uuid"], &document["subject"]), (&genuine, &Value::Null));
        assert_eq!(document["analysis"].as_array().unwrap().len(), 1, "it is what it was attached as");
    }

    async fn what_the_data_rests_on_is_written_of_those_whom_it_is_for(house: House) {
        let mut office = Office::open(house).await;
        let taken = office.house.take_one(&call()).await.unwrap();
        let parties = office.house.described(&taken.call).await.parties;
        let ana = parties[0].subject.clone();
        let none = office.house.document(&taken.call, &ana).await;
        assert!(!none.to_string().contains("lawful_basis"), "she has said nothing");
        let given = office.say(&ana, NEWS, ConsentEventKind::Give).await;
        for for_subject in ["", &ana] {
            let document = office.house.document(&taken.call, for_subject).await;
            let basis = document["attachments"].as_array().unwrap().last().unwrap();
            assert_eq!((&basis["purpose"], &basis["party"]), (&json!("lawful_basis"), &json!(0)));
            let body = &basis["body"];
            assert_eq!((&body["lawful_basis"], body["purpose_grants"][0]["purpose"].as_str()), (&json!("consent"), Some(NEWS)));
            assert_eq!(body["purpose_grants"][0]["granted"], json!(true));
            let proof = &body["proof_mechanisms"][0]["proof_data"];
            assert_eq!((proof["record_identifier"].as_str(), &proof["state"]), (Some(given[0].consent_event.as_str()), &json!("given")));
            assert!(document["extensions"].as_array().unwrap().contains(&json!("lawful_basis")));
        }
        let other = office.house.document(&taken.call, &parties[1].subject).await;
        assert!(!other.to_string().contains(NEWS), "what she said is nothing to the agent");
        office.say(&ana, NEWS, ConsentEventKind::Withdraw).await;
        let document = office.house.document(&taken.call, &ana).await;
        assert_eq!(document["attachments"].as_array().unwrap().last().unwrap()["body"]["purpose_grants"][0]["granted"], json!(false));
    }

    async fn a_call_that_never_was_a_document_is_written_as_one(house: House) {
        let call = house.a_call("1.1").await;
        house.attach(part(&call, PartKind::Note, written("Ada calls back."))).await;
        house.attach(part(&call, PartKind::Transcript, written("Ada: hello Bob."))).await;
        let document = house.document(&call.call, "").await;
        assert_eq!(document["parties"][0]["name"], "Ada");
        assert_eq!((&document["parties"][1]["uuid"], &document["parties"][1]["role"]), (&json!("a-7"), &json!("agent")));
        assert_eq!((&document["dialog"][0]["type"], &document["dialog"][0]["duration"]), (&json!("recording"), &json!(300)));
        assert_eq!(document["analysis"][0]["body"], "Ada: hello Bob.");
        assert_eq!(document["attachments"][0]["body"], "Ada calls back.");
        let redacted = house.document(&call.call, &call.parties[0].subject).await.to_string();
        assert!(redacted.contains("Ada calls back.") && !redacted.contains("Bob"), "{redacted}");
    }

    async fn a_question_that_makes_no_sense_is_refused_by_the_name_of_the_field(house: House) {
        let taken = house.take_one(&call()).await.unwrap();
        let good = || v1::ExportVconRequest {
            call: taken.call.clone(),
            view: VconView::Full.into(),
            purpose: CARE.to_owned(),
            ..Default::default()
        };
        let nobody = "sub_a4k3cj6b3f6twla36ga64eaaaa".to_owned();
        let redacted = VconView::Redacted.into();
        for (ask, field) in [
            (v1::ExportVconRequest { view: 0, ..good() }, "view"),
            (v1::ExportVconRequest { view: 9, ..good() }, "view"),
            (v1::ExportVconRequest { call: "MARKED".to_owned(), ..good() }, "call"),
            (v1::ExportVconRequest { view: redacted, ..good() }, "for_subject"),
            (v1::ExportVconRequest { for_subject: nobody.clone(), ..good() }, "for_subject"),
            (v1::ExportVconRequest { view: redacted, for_subject: "MARKED".to_owned(), ..good() }, "for_subject"),
            (v1::ExportVconRequest { view: redacted, for_subject: nobody, ..good() }, "for_subject"),
            (v1::ExportVconRequest { justification: "MARKED\n".to_owned(), ..good() }, "justification"),
        ] {
            let refused = house.calls().await.export_vcon(ask).await.unwrap_err();
            assert_eq!((refused.code(), fields_at_fault(&refused)), (Code::InvalidArgument, vec![field.to_owned()]));
            assert!(!refused.message().contains("MARKED"));
        }
        let without = v1::ExportVconRequest { purpose: String::new(), ..good() };
        assert_eq!(reason(&house.calls().await.export_vcon(without).await.unwrap_err()), "PURPOSE_REQUIRED");
        let unknown = v1::ExportVconRequest { call: "call_aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned(), ..good() };
        assert_eq!(reason(&house.calls().await.export_vcon(unknown).await.unwrap_err()), "CALL_UNKNOWN");
    }

    async fn folders_are_imported_and_calls_exported_from_a_shell(house: House) {
        let folder = house.home().join("vcons");
        fs::create_dir_all(folder.join("more")).unwrap();
        fs::write(folder.join("a.vcon"), call().to_string()).unwrap();
        fs::write(folder.join("more/b.json"), "{\"uuid\":\"MARKED\"}").unwrap();
        fs::write(folder.join("notes.txt"), "no conversation").unwrap();
        let (results, out) = (house.home().join("results.csv"), house.home().join("out.vcon"));
        let (folder, results, out) = (folder.to_str().unwrap(), results.to_str().unwrap(), out.to_str().unwrap());
        let import = |more: &[&str]| {
            let output = house.ask(&[&["vcon", "import", "--system", "recorder", folder, "--output=json"], more].concat());
            let sum: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} {}", said(&output)));
            assert_eq!(output.status.code(), Some(1), "one is refused");
            sum
        };
        let sum = import(&["--results", results]);
        assert_eq!((&sum["files"], &sum["outcomes"]["created"], &sum["refused"]), (&json!(2), &json!(1), &json!(1)));
        let rows = fs::read_to_string(results).unwrap();
        assert!(rows.contains("refused,,VALUE_INVALID,uuid,") && !rows.contains("MARKED"), "{rows}");
        assert_eq!(import(&[])["outcomes"]["same"], json!(1), "it goes on where it was");
        let name = rows.lines().find_map(|row| row.split(',').find(|cell| cell.starts_with("call_"))).unwrap().to_owned();
        let output = house.ask(&["vcon", "export", &name, "--purpose", CARE, "-o", out]);
        assert!(output.status.success(), "{}", said(&output));
        let document = Schema::new().check(&fs::read(out).unwrap());
        assert_eq!(document["parties"][0]["name"], "Ana Keller");
        fs::write(out, "another").unwrap();
        let refused = house.ask(&["vcon", "export", &name, "--purpose", CARE, "-o", out]);
        assert!(refused.status.code() == Some(2) && fs::read(out).unwrap() == b"another", "{}", said(&refused));
        let forced = house.ask(&["vcon", "export", &name, "--purpose", CARE, "-o", out, "--force"]);
        assert!(forced.status.success() && fs::read(out).unwrap() != b"another", "{}", said(&forced));
        let missing = house.ask(&["vcon", "import", "--system", "recorder", folder, "nowhere.vcon"]);
        assert!(missing.status.code() == Some(2) && said(&missing).contains("nowhere.vcon"), "{}", said(&missing));
        let human = said(&house.ask(&["vcon", "import", "--system", "recorder", folder]));
        assert!(human.contains("VALUE_INVALID: uuid: ") && !human.contains("(uuid: "), "told once: {human}");
        let ana = house.described(&name).await.parties[0].subject.clone();
        let redacted = house.ask(&["vcon", "export", &name, "--view", "redacted", "--for-subject", &ana, "--purpose", CARE]);
        assert!(redacted.status.success() && !said(&redacted).contains("Hernandez"), "{}", said(&redacted));
        assert!(!house.ask(&["vcon", "export", &name, "--view", "redacted", "--purpose", CARE]).status.success());
    }
}
