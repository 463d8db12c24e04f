//! Keys of recordings that lie elsewhere: given as values are, and gone with the person, from every copy of the vault.

use std::fs;

use lacuna::crypto::{Secret, SystemRandom};
use lacuna::formats::media;
use lacuna::keys::adversary::Spoils;
use lacuna::model::{PartId, SubjectId};
use lacuna::proto::v1;
use lacuna::proto::v1::PartKind;
use lacuna::proto::v1::attach_part_request::Body;
use tonic::{Code, Status};

use crate::asks::CARE;
use crate::hoard::{Hoard, keys_now};
use crate::house::{House, fields_at_fault, on_both_stores, reason};
use crate::parts::part;
use crate::process::{Place, run, said};
use crate::restore::Yesterday;

const UNKNOWN: &str = "prt_aiaqcaibaeaqcaibaeaqcaibae";

impl House {
    pub async fn media_key(&self, part: &str, purpose: &str) -> Result<v1::GetMediaKeyResponse, Status> {
        let (part, purpose) = (part.to_owned(), purpose.to_owned());
        let ask = v1::GetMediaKeyRequest { part, purpose, ..Default::default() };
        Ok(self.calls().await.get_media_key(ask).await?.into_inner())
    }

    pub async fn refused_key(&self, part: &str, purpose: &str) -> String {
        reason(&self.media_key(part, purpose).await.unwrap_err())
    }

    /// A call with a recording that lies elsewhere.
    pub async fn a_recording(&self, name: &str) -> (v1::Call, v1::CallPart) {
        let call = self.a_call(name).await;
        let lies = Some(Body::Uri("s3://calls/1.wav.lacuna".to_owned()));
        let recording = self.attach(part(&call, PartKind::Recording, lies)).await;
        (call, recording)
    }
}

fn sound() -> Vec<u8> {
    (0..50_000_u32).flat_map(u32::to_be_bytes).collect()
}

pub fn sealed(key: &[u8], part: &str) -> Vec<u8> {
    let (key, part) = (Secret::from_slice(key).unwrap(), PartId::parse(part).unwrap());
    let mut envelope = Vec::new();
    media::encrypt(&key, part, &SystemRandom::new(), &mut sound().as_slice(), &mut envelope).unwrap();
    envelope
}

/// Whether a key opens an envelope, wholly.
fn opens(key: &[u8], envelope: &[u8]) -> bool {
    let Some(key) = Secret::from_slice(key) else { return false };
    let mut opened = Vec::new();
    let outcome = media::decrypt(&key, None, &mut &*envelope, &mut opened);
    assert_eq!(outcome.is_ok(), opened == sound());
    outcome.is_ok()
}

/// Whether anything that an adversary has opens an envelope: each value, and each key.
pub fn opened_by(spoils: &Spoils, keys: &[Secret<32>], envelope: &[u8]) -> bool {
    spoils.values().any(|(_, value)| opens(value.raw(), envelope))
        || keys.iter().any(|key| opens(key.expose(), envelope))
}

on_both_stores! {
    async fn a_recordings_key_is_given_for_a_purpose_and_on_record(house: House) {
        let mut house = house;
        let (call, recording) = house.a_recording("1.1").await;
        let given = house.media_key(&recording.part, CARE).await.unwrap();
        assert_eq!((&given.part, &given.subject, given.media_key.len()), (&recording.part, &call.parties[0].subject, 32));
        assert_eq!(format!("{given:?}"), "v1::GetMediaKeyResponse { .. }");
        assert_eq!(house.media_key(&recording.part, CARE).await.unwrap(), given, "the same each time");
        let bare = house.attach(part(&call, PartKind::Screen, None)).await;
        let other = house.media_key(&bare.part, CARE).await.unwrap();
        assert_ne!(other.media_key, given.media_key);
        assert_eq!(bare.token, "", "nothing but the key is kept");

        let text = house.attach(part(&call, PartKind::Note, Some(Body::Text("A note.".to_owned())))).await;
        let refused = house.media_key(&text.part, CARE).await.unwrap_err();
        assert_eq!((refused.code(), fields_at_fault(&refused)), (Code::InvalidArgument, vec!["part".to_owned()]));
        assert_eq!(house.refused_key(UNKNOWN, CARE).await, "PART_UNKNOWN");
        assert_eq!(house.refused_key("recording-1", CARE).await, "VALUE_INVALID");
        assert_eq!(house.refused_key(&recording.part, "").await, "PURPOSE_REQUIRED");
        assert_eq!(house.refused_key(UNKNOWN, "telepathy").await, "PURPOSE_UNKNOWN");
        assert_eq!(house.refused_key(&recording.part, "marketing.email").await, "NO_CONSENT");
        let shown = house.call(&call, 0).await;
        assert!(!format!("{:?}", shown.parts[0].outcome).is_empty());
        assert!(shown.parts[1].outcome.is_none(), "GetCall shows no key");

        let listed = house.audits().await.list_audit_entries(v1::ListAuditEntriesRequest::default()).await.unwrap();
        let asked = listed.into_inner().entries.into_iter().filter(|entry| entry.rpc == "GetMediaKey");
        assert!(asked.count() >= 8, "each, whether given or refused");

        let (subject, ground) = (call.parties[0].subject.clone(), "objection_pending".to_owned());
        let restrict = v1::RestrictSubjectRequest { subject, ground, ..Default::default() };
        house.subjects.restrict_subject(restrict).await.unwrap();
        assert_eq!(house.refused_key(&recording.part, CARE).await, "SUBJECT_RESTRICTED");
    }

    async fn an_erased_callers_recording_is_noise_with_every_copy_of_the_vault(house: House) {
        let mut house = house;
        let (call, recording) = house.a_recording("2.1").await;
        let (_, spared) = house.a_recording("2.2").await;
        let agents = v1::AttachPartRequest { party: 2, ..part(&call, PartKind::Recording, None) };
        let agents = house.attach(agents).await;
        let given = house.media_key(&recording.part, CARE).await.unwrap();
        let of_agent = house.media_key(&agents.part, CARE).await.unwrap().media_key;
        let (envelope, agents_envelope) = (sealed(&given.media_key, &recording.part), sealed(&of_agent, &agents.part));
        let mut hoard = Hoard::default();
        hoard.collect(&house, "before").await;
        let yesterday = Yesterday::of(&house);
        let keys = hoard.keys_of(&house, "before").await;
        let spoils = hoard.spoils(hoard.keys_of(&house, "before").await);
        assert!(opens(&given.media_key, &envelope), "whoever is given the key opens it");
        assert!(opened_by(&spoils, &keys, &envelope), "and so does whoever has copied everything");
        assert!(hoard.occurrences(&[given.media_key.clone()].into()).is_empty(), "the key is nowhere in clear");

        house.erase(&call.parties[0].subject).await;
        assert_eq!(house.refused_key(&recording.part, CARE).await, "SUBJECT_ERASED");
        assert_eq!(house.refused_key(&spared.part, CARE).await, "SUBJECT_ERASED", "of the same caller");
        assert_eq!(house.media_key(&agents.part, CARE).await.unwrap().media_key, of_agent, "the agent's stays");
        hoard.collect(&house, "after").await;
        let (keys, spoils) = (keys_now(&house).await, hoard.spoils(keys_now(&house).await));
        assert!(!opened_by(&spoils, &keys, &envelope), "noise, with every copy and every key that exists");
        assert!(opened_by(&spoils, &keys, &agents_envelope));
        let erased = SubjectId::parse(&call.parties[0].subject).unwrap();
        assert!(!hoard.rows_of(erased).is_empty() && spoils.values().all(|(token, _)| token.subject != erased));

        house.go_back(&yesterday).await;
        assert_eq!(house.refused_key(&recording.part, CARE).await, "SUBJECT_ERASED", "after yesterday's backup as well");
        assert_eq!(house.media_key(&agents.part, CARE).await.unwrap().media_key, of_agent);
        assert_eq!(house.call(&call, 0).await.parts[0].gone, "SUBJECT_ERASED");
    }
}

#[test]
fn a_recording_is_sealed_and_opened_with_the_vaults_key_from_a_shell() {
    let place = Place::new();
    let server = place.start(None);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("parties"), "{\"role\":\"customer\",\"number\":\"+49301234567\"}\n").unwrap();
    fs::write(path("call.wav"), sound()).unwrap();
    let try_to = |arguments: &[&str]| run(server.client(&place).args(arguments).current_dir(folder.path()));
    let ask = |arguments: &[&str]| {
        let output = try_to(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json
    };
    let start = "2026-11-21T12:00:00Z";
    let json = ["--output", "json"];
    let upsert = ["call", "upsert", "1.1", "--system", "pbx", "--start", start, "--parties", "parties"];
    let told = ask(&[&upsert[..], &json].concat());
    let (call, ada) = (&told["call"]["call"], &told["call"]["parties"][0]["subject"]);
    let attach = ["call", "attach", call.as_str().unwrap(), "--party", "1", "--kind", "recording"];
    let attached = ask(&[&attach[..], &json].concat());
    let part = attached["part"]["part"].as_str().unwrap();
    let encrypt = ["media", "encrypt", "call.wav", "--part", part, "--purpose", CARE];
    assert_eq!(ask(&[&encrypt[..], &json].concat())["bytes"], sound().len());
    let decrypt = ["media", "decrypt", "call.wav.lacuna", "--purpose", CARE, "--out", "again.wav"];
    ask(&[&decrypt[..], &json].concat());
    assert!(fs::read(path("again.wav")).unwrap() == sound());
    fs::remove_file(path("again.wav")).unwrap();
    let other = try_to(&[&decrypt[..], &["--part", UNKNOWN]].concat());
    assert_eq!(other.status.code(), Some(2), "{}", said(&other));
    let neither = try_to(&["media", "decrypt", "call.wav.lacuna"]);
    assert_eq!(neither.status.code(), Some(2), "{}", said(&neither));

    ask(&["subject", "erase", ada.as_str().unwrap(), "--reason", "art17", "--yes", "--output", "json"]);
    let gone = try_to(&decrypt);
    assert_eq!(gone.status.code(), Some(1), "{}", said(&gone));
    assert!(said(&gone).contains("SUBJECT_ERASED") || said(&gone).contains("erased"), "{}", said(&gone));
    assert!(!folder.path().join("again.wav").exists());
    assert!(server.stop().success());
}
