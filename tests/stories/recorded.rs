//! Nobody is answered who is not on record: every rpc that there is, by the descriptors, so that a new one cannot be
//! forgotten.

use std::collections::BTreeSet;

use lacuna::model::{Approval, ApprovalId, ApprovalState, Bulk, Channel, Clock as _, Redaction};
use lacuna::proto::v1;
use lacuna::vault::audit::call::UNRECORDED;
use prost::Message as _;
use serde_json::Value;
use tonic::Code;

use crate::asks::{CARE, HOUR, correct, detokenize, erase, text, tokenize};
use crate::consents::{FORM, NEWS, NOTICE, Office, notice, purpose};
use crate::doors::{call, credential, rpcs};
use crate::house::{House, Somebody, field, on_both_stores, reason};
use crate::lookups::PATIENT;

/// Every entry of the audit, oldest first, read past the vault.
async fn entries(house: &House) -> Vec<Value> {
    let mut tx = house.running().vault.custody().store().read().await.unwrap();
    let batches = tx.list_audit_batches(None, 10_000).await.unwrap();
    batches.iter().flat_map(|batch| batch.body.lines()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What there is to ask about.
struct There {
    ada: Somebody,
    /// A scheduled erasure of somebody else.
    erasure: String,
    /// A complete one.
    done: String,
    yes: v1::RecordConsentRequest,
    link: String,
    cursor: String,
    entry: String,
    rotation: String,
    approval: String,
    call: String,
    part: String,
    hold: String,
    /// A caller whom nobody knows.
    unknown: String,
    later: prost_types::Timestamp,
    past: prost_types::Timestamp,
}

/// A request for approval that somebody else has made.
async fn of_somebody_else(house: &House) -> String {
    let (now, day) = (house.clock.now(), HOUR * 24);
    let bulk = Bulk::new("agent", CARE, Redaction::Masked, Channel::Any, "", &["tok".to_owned()]);
    let asked = Approval {
        id: ApprovalId::from_bytes([7; 16]),
        bulk,
        requested_at: now,
        expires_at: now.plus(day),
        state: ApprovalState::Pending,
        decided_by: String::new(),
        decided_at: None,
        reason: String::new(),
        used_at: None,
    };
    let mut tx = house.running().vault.custody().store().write().await.unwrap();
    tx.insert_approval(&asked).await.unwrap();
    tx.commit().await.unwrap();
    asked.id.to_string()
}

/// A recording of whoever called.
fn recording_of(call: &str) -> v1::AttachPartRequest {
    let (call, kind) = (call.to_owned(), v1::PartKind::Recording.into());
    v1::AttachPartRequest { call, party: 1, kind, ..Default::default() }
}

/// A call from a number.
fn row_of(number: &str) -> v1::ImportCdrRequest {
    let mapping = v1::CdrMapping {
        format: v1::CdrFormat::Twilio.into(),
        source_system: "twilio".to_owned(),
        ..Default::default()
    };
    let content = format!(
        "{{\"sid\":\"CA1\",\"direction\":\"inbound\",\"from\":\"{number}\",\"start_time\":\"2026-11-21T12:00:00Z\"}}"
    );
    v1::ImportCdrRequest { mapping: Some(mapping), row: Some(v1::CdrRow { row: 1, content }) }
}

/// A conversation with somebody of this number.
fn document_of(number: &str) -> v1::ImportVconRequest {
    let content = serde_json::json!({
        "uuid": "01928e10-193e-8231-b9a2-279e0d16bc46",
        "created_at": "2026-01-31T09:30:00Z",
        "parties": [{ "tel": number, "role": "customer" }],
    });
    let mapping = v1::VconMapping { source_system: "recorder".to_owned(), ..Default::default() };
    let document = v1::VconDocument { number: 1, content: content.to_string().into_bytes() };
    v1::ImportVconRequest { mapping: Some(mapping), document: Some(document) }
}

fn told_by(number: &str) -> v1::UpsertCallRequest {
    crate::calls::leg("recorded.1", 1, vec![crate::calls::customer(number, "")])
}

impl There {
    async fn of(office: &mut Office) -> Self {
        let ada = office.house.somebody("Ada").await;
        let (bob, eve) = (office.house.somebody("Bob").await, office.house.somebody("Eve").await);
        let later = office.house.in_time(HOUR);
        let ask = v1::EraseSubjectRequest { execute_time: Some(later), ..erase(&bob.subject) };
        let erasure = office.house.subjects.erase_subject(ask).await.unwrap().into_inner().erasure.unwrap().erasure;
        let done = office.house.erase(&eve.subject).await.erasure;
        let yes = office.yes(&ada.subject, NEWS).await;
        let ask = v1::CreateWithdrawalLinkRequest {
            subject: ada.subject.clone(),
            purpose: NEWS.to_owned(),
            channel: v1::Channel::Email.into(),
        };
        let link = office.door.create_withdrawal_link(ask).await.unwrap().into_inner().link;
        let mut watching =
            office.house.events().await.watch_events(crate::events::oldest()).await.unwrap().into_inner();
        let cursor = watching.message().await.unwrap().unwrap().cursor;
        let mut audits = office.house.audits().await;
        let listed = audits.list_audit_entries(v1::ListAuditEntriesRequest::default()).await.unwrap().into_inner();
        let entry = listed.entries[0].entry.clone();
        let ask = v1::RotateSigningKeyRequest::default();
        let mut keys = office.house.key_service().await;
        let rotation = keys.rotate_signing_key(ask).await.unwrap().into_inner().rotation.unwrap().rotation;
        let past = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 };
        let approval = of_somebody_else(&office.house).await;
        let told = told_by(&ada.phone);
        let call = office.house.calls().await.upsert_call(told).await.unwrap().into_inner().call.unwrap().call;
        let of_nobody = crate::calls::leg("recorded.2", 1, vec![crate::calls::customer("+49 89 7654321", "")]);
        let of_nobody = office.house.upsert(of_nobody).await.0;
        let attached = office.house.attach(recording_of(&call)).await;
        let held = office.house.hold(crate::holds::over(&[&ada.subject])).await;
        Self {
            part: attached.part,
            hold: held.hold,
            unknown: of_nobody.parties[0].subject.clone(),
            ada,
            erasure,
            done,
            yes,
            link,
            cursor,
            entry,
            rotation,
            approval,
            call,
            later,
            past,
        }
    }

    /// A request that makes sense.
    fn ask(&self, rpc: &str) -> Vec<u8> {
        let (subject, token) = (|| self.ada.subject.clone(), |at: usize| self.ada.tokens[at].clone());
        match rpc {
            "Tokenize" | "TokenizeStream" => tokenize(&subject(), vec![text("x")]).encode_to_vec(),
            "Detokenize" | "DetokenizeStream" => detokenize(&self.ada.tokens[..1], CARE).encode_to_vec(),
            "FindTokens" => v1::FindTokensRequest {
                r#type: v1::FieldType::Email.into(),
                value: self.ada.email.clone(),
                purpose: CARE.to_owned(),
            }
            .encode_to_vec(),
            "GetToken" => v1::GetTokenRequest { token: token(0) }.encode_to_vec(),
            "ListTokens" => v1::ListTokensRequest { subject: subject(), ..Default::default() }.encode_to_vec(),
            "UpdateToken" => correct(&token(2), "Ada K.").encode_to_vec(),
            "DeleteToken" => v1::DeleteTokenRequest { token: token(1), ..Default::default() }.encode_to_vec(),
            "CreateSubject" => {
                let (source, jurisdiction) = ("web_form:x".to_owned(), "DE".to_owned());
                v1::CreateSubjectRequest { source, jurisdiction, ..Default::default() }.encode_to_vec()
            }
            "GetSubject" => v1::GetSubjectRequest { subject: subject() }.encode_to_vec(),
            "RestrictSubject" => {
                let ground = "claims".to_owned();
                v1::RestrictSubjectRequest { subject: subject(), ground, ..Default::default() }.encode_to_vec()
            }
            "LiftRestriction" => {
                let subject_informed_time = Some(self.past);
                v1::LiftRestrictionRequest { subject: subject(), subject_informed_time, ..Default::default() }
                    .encode_to_vec()
            }
            "SetProfiling" => v1::SetProfilingRequest { subject: subject(), ..Default::default() }.encode_to_vec(),
            "EraseSubject" => {
                v1::EraseSubjectRequest { execute_time: Some(self.later), ..erase(&subject()) }.encode_to_vec()
            }
            "ClaimSubject" => v1::ClaimSubjectRequest {
                subject: self.unknown.clone(),
                assurance: v1::CallerAssurance::Verified.into(),
                evidence: "ticket 4".to_owned(),
                ..Default::default()
            }
            .encode_to_vec(),
            "GetErasure" => v1::GetErasureRequest { erasure: self.done.clone() }.encode_to_vec(),
            "GetReceipt" => v1::GetReceiptRequest { erasure: self.done.clone() }.encode_to_vec(),
            "CancelErasure" => v1::CancelErasureRequest { erasure: self.erasure.clone() }.encode_to_vec(),
            "VerifyErasure" => v1::VerifyErasureRequest { erasure: self.done.clone() }.encode_to_vec(),
            "GetRotation" => v1::GetRotationRequest { rotation: self.rotation.clone() }.encode_to_vec(),
            "RotateSubjectKey" => {
                v1::RotateSubjectKeyRequest { subject: subject(), ..Default::default() }.encode_to_vec()
            }
            "ListDeliveries" => v1::ListDeliveriesRequest { subject: subject(), ..Default::default() }.encode_to_vec(),
            "DeleteConsumer" => v1::DeleteConsumerRequest { consumer: "crm".to_owned() }.encode_to_vec(),
            "AcknowledgeEvent" => {
                v1::AcknowledgeEventRequest { consumer: "crm".to_owned(), cursor: self.cursor.clone() }.encode_to_vec()
            }
            "WatchEvents" => crate::events::oldest().encode_to_vec(),
            "ListAffectedSubjects" => {
                let filter = Some(v1::AuditFilter { caller: "development".to_owned(), ..Default::default() });
                v1::ListAffectedSubjectsRequest { filter, ..Default::default() }.encode_to_vec()
            }
            "DisableCaller" | "EnableCaller" => {
                // Both messages name the caller first.
                v1::DisableCallerRequest { caller: "somebody-else".to_owned(), ..Default::default() }.encode_to_vec()
            }
            "ListWhoCanAccess" => {
                v1::ListWhoCanAccessRequest { subject: subject(), ..Default::default() }.encode_to_vec()
            }
            "SimulateAccess" => v1::SimulateAccessRequest {
                caller: "development".to_owned(),
                action: "reveal".to_owned(),
                purpose: CARE.to_owned(),
                r#type: v1::FieldType::Email.into(),
                ..Default::default()
            }
            .encode_to_vec(),
            "GetApproval" | "GrantApproval" | "RefuseApproval" => {
                // All three messages name the request first.
                v1::GetApprovalRequest { approval: self.approval.clone() }.encode_to_vec()
            }
            // Both messages name the subject first; the one is placed, then lifted.
            "PlaceHoney" | "LiftHoney" => {
                v1::PlaceHoneyRequest { subject: subject(), ..Default::default() }.encode_to_vec()
            }
            "ProveAuditEntry" => v1::ProveAuditEntryRequest { entry: self.entry.clone() }.encode_to_vec(),
            // The rest of the vault as a whole: nothing has to be said.
            "GetKeyStatus" | "AuditConsents" | "VerifyAuditChain" | "GetCheckpoint" | "PreviewRetention"
            | "RunRetention" => Vec::new(),
            whole if whole.starts_with("Rotate") || whole.starts_with("List") && !whole.contains("Consent") => {
                Vec::new()
            }
            "DefineRetentionClass" => {
                let (code, basis) = ("orders".to_owned(), v1::RetentionBasis::Contract.into());
                let class = v1::RetentionClass { code, basis, ..Default::default() };
                v1::DefineRetentionClassRequest { retention_class: Some(class), ..Default::default() }.encode_to_vec()
            }
            other => self.ask_about_calls(other),
        }
    }

    fn ask_about_calls(&self, rpc: &str) -> Vec<u8> {
        match rpc {
            "LookupByCaller" => {
                let (number, purpose) = (self.ada.phone.clone(), CARE.to_owned());
                v1::LookupByCallerRequest { number, purpose, ..Default::default() }.encode_to_vec()
            }
            "DecideRecording" => {
                let role = v1::RecordingRole::Caller.into();
                let parties =
                    vec![v1::RecordingParty { subject: self.ada.subject.clone(), role, ..Default::default() }];
                let purposes = vec![CARE.to_owned()];
                v1::DecideRecordingRequest { parties, purposes, ..Default::default() }.encode_to_vec()
            }
            "AppendCallEvent" => {
                crate::call_events::event("recorded.1", "1", v1::CallEventKind::Answer, 1).encode_to_vec()
            }
            "UpsertCall" => told_by(&self.ada.phone).encode_to_vec(),
            "AttachPart" => recording_of(&self.call).encode_to_vec(),
            "EraseParts" => {
                let (call, parts, reason) = (self.call.clone(), vec![self.part.clone()], "ticket 4".to_owned());
                v1::ErasePartsRequest { call, parts, reason, ..Default::default() }.encode_to_vec()
            }
            "RelinkCaller" => v1::RelinkCallerRequest {
                call: self.call.clone(),
                from_subject: self.ada.subject.clone(),
                reason: v1::RelinkReason::Mistaken.into(),
                evidence: "ticket 4".to_owned(),
                ..Default::default()
            }
            .encode_to_vec(),
            "GetMediaKey" => {
                let (part, purpose) = (self.part.clone(), CARE.to_owned());
                v1::GetMediaKeyRequest { part, purpose, ..Default::default() }.encode_to_vec()
            }
            "PlaceHold" => crate::holds::over(&[&self.ada.subject]).encode_to_vec(),
            "ReleaseHold" => crate::holds::release(&self.hold).encode_to_vec(),
            "ImportCdr" => row_of(&self.ada.phone).encode_to_vec(),
            "ImportVcon" => document_of(&self.ada.phone).encode_to_vec(),
            "ExportVcon" => {
                let (call, purpose, view) = (self.call.clone(), CARE.to_owned(), v1::VconView::Full.into());
                v1::ExportVconRequest { call, view, purpose, ..Default::default() }.encode_to_vec()
            }
            "GetCall" => v1::GetCallRequest { call: self.call.clone(), ..Default::default() }.encode_to_vec(),
            other => self.ask_about_consent(other),
        }
    }

    fn ask_about_consent(&self, rpc: &str) -> Vec<u8> {
        let subject = || self.ada.subject.clone();
        let check = v1::CheckPermissionRequest { subject: subject(), purpose: CARE.to_owned(), ..Default::default() };
        match rpc {
            "DefinePurpose" => {
                let purpose = Some(purpose("marketing.email.more"));
                v1::DefinePurposeRequest { purpose, change: v1::VersionChange::Major.into(), ..Default::default() }
                    .encode_to_vec()
            }
            "GetPurpose" => v1::GetPurposeRequest { code: NEWS.to_owned(), version: 0 }.encode_to_vec(),
            "RetirePurpose" => v1::RetirePurposeRequest { code: "marketing.email.more".to_owned() }.encode_to_vec(),
            "PublishNotice" => {
                let notice = Some(v1::Notice { notice: "other".to_owned(), ..notice() });
                v1::PublishNoticeRequest { notice, change: v1::VersionChange::Major.into(), ..Default::default() }
                    .encode_to_vec()
            }
            "GetNotice" => v1::GetNoticeRequest { notice: NOTICE.to_owned(), version: 0 }.encode_to_vec(),
            "DefineCollectionPoint" => {
                let kind = v1::CollectionPointKind::WebForm.into();
                let point = v1::CollectionPoint { collection_point: FORM.to_owned(), kind, ..Default::default() };
                v1::DefineCollectionPointRequest { collection_point: Some(point) }.encode_to_vec()
            }
            "RecordConsent" => self.yes.encode_to_vec(),
            "CheckPermission" => check.encode_to_vec(),
            "BatchCheckPermission" => v1::BatchCheckPermissionRequest { checks: vec![check] }.encode_to_vec(),
            "ListConsents" => v1::ListConsentsRequest { subject: subject() }.encode_to_vec(),
            "ListConsentEvents" => {
                v1::ListConsentEventsRequest { subject: subject(), ..Default::default() }.encode_to_vec()
            }
            "ProveConsent" => {
                let (purpose, channel) = (NEWS.to_owned(), v1::Channel::Email.into());
                v1::ProveConsentRequest { subject: subject(), purpose, channel, at: None }.encode_to_vec()
            }
            "IssueReceipt" => v1::IssueReceiptRequest { subject: subject() }.encode_to_vec(),
            "CreateWithdrawalLink" => {
                let (purpose, channel) = (NEWS.to_owned(), v1::Channel::Email.into());
                v1::CreateWithdrawalLinkRequest { subject: subject(), purpose, channel }.encode_to_vec()
            }
            "WithdrawByLink" => {
                v1::WithdrawByLinkRequest { link: self.link.clone(), ..Default::default() }.encode_to_vec()
            }
            new => panic!("say in tests/stories/recorded.rs how {new} is asked"),
        }
    }
}

/// Those that change what others need, last.
fn rank(rpc: &str) -> usize {
    let last = [
        "DeleteToken",
        "CancelErasure",
        "WithdrawByLink",
        "RestrictSubject",
        "LiftRestriction",
        "EraseSubject",
        "PlaceHoney",
        "LiftHoney",
    ];
    last.iter().position(|other| *other == rpc).map_or(0, |at| at + 1)
}

on_both_stores! {
    async fn every_rpc_is_on_record_before_it_is_answered(house: House) {
        let mut house = house;
        house.config.limits.lookup_milliseconds = PATIENT;
        house.reopen().await;
        let mut office = Office::open(house).await;
        let there = There::of(&mut office).await;
        let house = &office.house;
        let good = credential(house);
        let mut rpcs = rpcs();
        rpcs.sort_by_key(|rpc| rank(rpc.path.rsplit('/').next().unwrap()));
        let (mut succeeded, mut requests) = (0, BTreeSet::new());
        for rpc in &rpcs {
            let name = rpc.path.rsplit('/').next().unwrap();
            let before = entries(house).await.len();
            let answered = call(house, &rpc.path, there.ask(name), Some(&good)).await;
            let fresh = entries(house).await.split_off(before);
            let deed = name.strip_suffix("Stream").unwrap_or(name);
            let of_this: Vec<&Value> = fresh.iter().filter(|entry| entry["deed"] == deed).collect();
            match &answered {
                Ok(_) if UNRECORDED.iter().any(|(rpc, _)| *rpc == name) => assert!(of_this.is_empty(), "{name}: {fresh:?}"),
                Ok(_) => {
                    assert!(!of_this.is_empty(), "{name} was answered and is not on record: {fresh:?}");
                    assert!(of_this.iter().all(|entry| entry.get("refused").is_none()), "{name}: {fresh:?}");
                    succeeded += 1;
                }
                Err(refused) => {
                    assert_ne!(refused.code(), Code::InvalidArgument, "{name} is not asked in a way that makes sense: {refused:?}");
                    let told: Vec<_> = of_this.iter().filter(|entry| entry.get("refused").is_some()).collect();
                    assert_eq!(told.len(), 1, "{name} was refused with {} and that is not on record: {fresh:?}", reason(refused));
                }
            }
            for entry in of_this {
                assert_eq!(entry["caller"], "development");
                assert!(requests.insert(entry["request"].as_str().unwrap().to_owned()) || fresh.len() > 1, "{name}: {entry}");
            }
            if let Some(touched) = fresh.iter().find_map(|entry| entry["touched"].get(0)).filter(|_| name.contains("Token")) {
                assert_eq!(touched["subject"], there.ada.subject, "{name}");
            }
        }
        assert!(succeeded + UNRECORDED.len() + 5 > rpcs.len(), "only {succeeded} of {} were answered", rpcs.len());
        let all = format!("{:?}", entries(house).await);
        for value in [&there.ada.email, &there.ada.phone, &there.ada.name] {
            assert!(!all.contains(value), "{value} is in the audit");
        }
    }

    async fn every_refusal_is_on_record_with_its_reason(house: House) {
        let house = house;
        let good = credential(&house);
        let nobody = lacuna::model::SubjectId::from_bytes([0; 16]).to_string();
        let asks: [(&str, &str, Vec<u8>, &str); 6] = [
            ("Token", "GetToken", v1::GetTokenRequest { token: "tok_nobody".to_owned() }.encode_to_vec(), "TokenUnknown"),
            ("Token", "ListTokens", v1::ListTokensRequest { subject: nobody.clone(), ..Default::default() }.encode_to_vec(), "SubjectUnknown"),
            ("Token", "Tokenize", tokenize(&nobody, vec![text("x")]).encode_to_vec(), "SubjectUnknown"),
            ("Subject", "GetSubject", v1::GetSubjectRequest { subject: nobody.clone() }.encode_to_vec(), "SubjectUnknown"),
            ("Subject", "EraseSubject", erase(&nobody).encode_to_vec(), "SubjectUnknown"),
            ("Token", "Detokenize", detokenize(&["tok_nobody".to_owned()], "curiosity").encode_to_vec(), "PurposeUnknown"),
        ];
        for (service, rpc, message, why) in asks {
            let before = entries(&house).await.len();
            call(&house, &format!("/lacuna.v1.{service}Service/{rpc}"), message, Some(&good)).await.unwrap_err();
            let fresh = entries(&house).await.split_off(before);
            let refusals: Vec<_> = fresh.iter().filter(|entry| entry.get("refused").is_some()).collect();
            assert_eq!(refusals.len(), 1, "{rpc}: {fresh:?}");
            assert_eq!((&refusals[0]["deed"], &refusals[0]["refused"]), (&Value::from(rpc), &Value::from(why)));
        }
    }

    async fn what_breach_support_needs_is_in_the_entry_of_a_reveal(house: House) {
        let mut house = house;
        let source = "web_form:x".to_owned();
        let ask = v1::CreateSubjectRequest { source, jurisdiction: "FR".to_owned(), ..Default::default() };
        let subject = house.subjects.create_subject(ask).await.unwrap().into_inner().subject.unwrap().subject;
        let field = v1::FieldInput { tags: vec!["special_category:health".to_owned()], ..text("asthma") };
        let token = house.one(&subject, field).await.token;
        let answered = house.tokens.detokenize(detokenize(&[token], CARE)).await.unwrap();
        let id = answered.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();
        let all = entries(&house).await;
        let entry = all.last().unwrap();
        assert_eq!(entry["request"], id, "the caller is told the id by which the audit names the call");
        let touched = &entry["touched"][0];
        assert_eq!(
            (&touched["subject"], &touched["type"], &touched["jurisdiction"], &touched["special"], &touched["outcome"]),
            (&subject.into(), &"TEXT".into(), &"FR".into(), &true.into(), &"OK".into())
        );
        let kept = all.iter().find(|entry| entry["deed"] == "Tokenize").unwrap();
        assert_eq!(kept["touched"][0]["count"], 1);
        assert_eq!(kept["touched"][0]["jurisdiction"], "FR");
    }

    async fn a_value_that_was_not_shown_is_not_counted_as_shown(house: House) {
        let mut house = house;
        let once = v1::FieldInput { single_use: true, ..text("only one") };
        let token = house.one("", once).await.token;
        house.tokens.detokenize(detokenize(&[token.clone(), token.clone()], CARE)).await.unwrap();
        let all = entries(&house).await;
        let touched = all.last().unwrap()["touched"].as_array().unwrap();
        let outcomes: Vec<_> = touched.iter().map(|one| one["outcome"].as_str().unwrap()).collect();
        assert_eq!(outcomes, ["OK", "TokenSpent"]);
    }

    async fn whom_a_question_that_made_no_sense_tells_of_is_on_record(house: House) {
        let mut house = house;
        let ada = house.one("", field(v1::FieldType::Email, "ada@example.com")).await;
        let junk = correct(&ada.token, "no address");
        assert_eq!(reason(&house.tokens.update_token(junk).await.unwrap_err()), "VALUE_INVALID");
        let plan = v1::EraseSubjectRequest { validate_only: true, ..erase(&ada.subject) };
        house.subjects.erase_subject(plan).await.unwrap();
        let all = entries(&house).await;
        let [junk, plan] = &all[all.len() - 2..] else { panic!("{all:?}") };
        assert_eq!((&junk["deed"], &junk["refused"]), (&"UpdateToken".into(), &"ValueInvalid".into()));
        assert_eq!((&plan["deed"], &plan["touched"][0]["outcome"]), (&"EraseSubject".into(), &"OK".into()));
        for entry in [junk, plan] {
            assert_eq!(entry["touched"][0]["subject"], ada.subject);
        }
    }
}
