//! May this call be recorded? Whatever the parties' laws and purposes are, and whatever has been said.

use lacuna::config::Queue;
use lacuna::model::Agreement;
use lacuna::proto::v1;
use lacuna::proto::v1::call_service_client::CallServiceClient;
use lacuna::proto::v1::{ConsentEventKind as Kind, RecordingDecision as Decision, RecordingRole as Role};
use tonic::{Code, Status};

use crate::asks::CARE;
use crate::consents::{Office, notice, purpose};
use crate::house::{Bearer, House, fields_at_fault, on_both_stores, reason};
use crate::policies::{entries, with_roles};

pub const QUALITY: &str = "call.quality";
pub const DUTY: &str = "mifid.voice";
const PRINT: &str = "voice.print";
const NOTICE: &str = "recording";
const TEXT: &str = "Dürfen wir dieses Gespräch aufzeichnen?";

fn party(subject: &str, jurisdiction: &str, role: Role) -> v1::RecordingParty {
    v1::RecordingParty { subject: subject.to_owned(), jurisdiction: jurisdiction.to_owned(), role: role.into() }
}

fn ask(parties: Vec<v1::RecordingParty>, purposes: &[&str]) -> v1::DecideRecordingRequest {
    let purposes = purposes.iter().map(|code| (*code).to_owned()).collect();
    v1::DecideRecordingRequest { parties, purposes, ..Default::default() }
}

async fn decide(house: &House, ask: v1::DecideRecordingRequest) -> Result<v1::DecideRecordingResponse, Status> {
    decide_as(house, &house.bearer(), ask).await
}

async fn decide_as(
    house: &House,
    bearer: &str,
    ask: v1::DecideRecordingRequest,
) -> Result<v1::DecideRecordingResponse, Status> {
    let mut door = CallServiceClient::with_interceptor(house.channel().await, Bearer(bearer.to_owned()));
    Ok(door.decide_recording(ask).await?.into_inner())
}

/// What the first party's answer for the first purpose is, and why.
fn first(told: &v1::DecideRecordingResponse) -> (Decision, &str) {
    let verdict = &told.outcomes[0].parties[0];
    (verdict.decision(), verdict.reason.as_str())
}

/// A contact centre that records for quality on consent, orders by law, and knows voices.
pub async fn centre(mut house: House) -> Office {
    let queue = Queue { purposes: vec![DUTY.to_owned()] };
    house.config.recording.queues.insert("orders:de".to_owned(), queue);
    house.reopen().await;
    let mut office = Office::open(house).await;
    let texts = [("de", TEXT), ("en", "May we record this call?")];
    let texts = texts.map(|(language, text)| v1::NoticeText {
        language: language.to_owned(),
        text: text.to_owned(),
        sha256: Vec::new(),
    });
    let told = v1::Notice {
        notice: NOTICE.to_owned(),
        texts: texts.to_vec(),
        purposes: vec!["call".to_owned(), "voice".to_owned()],
        ..notice()
    };
    office.publish(told, v1::VersionChange::Major).await;
    let voice = |code: &str| v1::Purpose {
        channels: vec![v1::Channel::Voice.into()],
        notice: NOTICE.to_owned(),
        direct_marketing: false,
        ..purpose(code)
    };
    let print = v1::Purpose { explicit_consent: true, ..voice(PRINT) };
    let duty = v1::Purpose {
        basis: v1::LawfulBasis::LegalObligation.into(),
        title: "Recording of orders".to_owned(),
        assessment: "MiFID II Art. 16(7)".to_owned(),
        ..voice(DUTY)
    };
    for purpose in [voice(QUALITY), print, duty] {
        office.define(purpose, v1::VersionChange::Major).await.unwrap();
    }
    office
}

/// What somebody says on the telephone, under the notice that they were read.
pub async fn says(office: &mut Office, subject: &str, purpose: &str, kind: Kind, notice: &v1::RecordingNotice) {
    let form = office.yes(subject, purpose).await;
    let said = v1::RecordConsentRequest {
        channel: v1::Channel::Voice.into(),
        kind: kind.into(),
        method: v1::ConsentMethod::Oral.into(),
        affirmative_action: "answered the question".to_owned(),
        notice: notice.notice.clone(),
        notice_sha256: notice.sha256.clone(),
        explicit_consent: purpose == PRINT,
        ..form
    };
    office.record(said).await.unwrap();
}

on_both_stores! {
    async fn a_caller_is_asked_refuses_and_agrees(house: House) {
        let mut office = Box::pin(centre(house)).await;
        let ada = office.house.somebody("Ada").await.subject;
        let call = || {
            let parties = vec![party(&ada, "DE", Role::Caller), party("", "PL", Role::Agent)];
            let (language, call) = ("de-AT".to_owned(), "call 17".to_owned());
            v1::DecideRecordingRequest { language, call, ..ask(parties, &[QUALITY]) }
        };
        let told = decide(&office.house, call()).await.unwrap();
        assert_eq!((told.decision(), first(&told)), (Decision::Ask, (Decision::Ask, "NO_CONSENT")));
        assert_eq!((told.jurisdiction.as_str(), told.all_parties), ("DE", true), "the strictest law counts");
        assert!(told.law.contains("201"), "{}", told.law);
        assert!(told.explanation.contains("parties[0]"), "{}", told.explanation);
        let [notice] = told.notices.as_slice() else { panic!("{:?}", told.notices) };
        assert_eq!((notice.notice.as_str(), notice.version, notice.language.as_str()), (NOTICE, 1, "de"));
        let notice = notice.clone();

        says(&mut office, &ada, QUALITY, Kind::Refuse, &notice).await;
        let told = decide(&office.house, call()).await.unwrap();
        assert_eq!((told.decision(), first(&told)), (Decision::DoNotRecord, (Decision::DoNotRecord, "CONSENT_REFUSED")));
        assert!(told.notices.is_empty());
        assert_eq!(told.outcomes[0].parties[0].state(), v1::ConsentState::Refused);

        says(&mut office, &ada, QUALITY, Kind::Give, &notice).await;
        let told = decide(&office.house, call()).await.unwrap();
        assert_eq!((told.decision(), first(&told)), (Decision::Record, (Decision::Record, "")));
        assert!(told.outcomes[0].parties[0].evidence_event.starts_with("cev_"));

        says(&mut office, &ada, QUALITY, Kind::Withdraw, &notice).await;
        let told = decide(&office.house, call()).await.unwrap();
        assert_eq!((told.decision(), first(&told)), (Decision::DoNotRecord, (Decision::DoNotRecord, "CONSENT_WITHDRAWN")));

        let all = entries(&office.house).await;
        let all: Vec<_> = all.iter().filter(|entry| entry["deed"] == "DecideRecording").collect();
        let answers: Vec<_> = all.iter().map(|entry| entry["recording"]["decision"].as_str().unwrap()).collect();
        assert_eq!(answers, ["ASK", "DO_NOT_RECORD", "RECORD", "DO_NOT_RECORD"], "each is on record");
        let last = all.last().unwrap();
        assert_eq!((&last["purpose"], &last["justification"]), (&QUALITY.into(), &"call 17".into()));
        assert_eq!(last["recording"]["purposes"][QUALITY], "DO_NOT_RECORD");
        assert_eq!((&last["recording"]["parties"], last["touched"].as_array().unwrap().len()), (&2.into(), 1));
        assert_eq!((&last["touched"][0]["subject"], &last["touched"][0]["outcome"]), (&ada.into(), &"ConsentWithdrawn".into()));
    }

    async fn what_a_law_demands_is_recorded_and_the_refusal_is_told(house: House) {
        let mut office = Box::pin(centre(house)).await;
        let ada = office.house.somebody("Ada").await.subject;
        let parties = || vec![party(&ada, "DE", Role::Caller), party("", "PL", Role::Agent)];
        let orders = |purposes: &[&str]| v1::DecideRecordingRequest { queue: "orders:de".to_owned(), ..ask(parties(), purposes) };
        let told = decide(&office.house, orders(&[])).await.unwrap();
        assert_eq!((told.decision(), first(&told)), (Decision::MustRecord, (Decision::MustRecord, "")));
        let notice = told.notices[0].clone();
        for purpose in [DUTY, QUALITY] {
            says(&mut office, &ada, purpose, Kind::Refuse, &notice).await;
        }
        let told = decide(&office.house, orders(&[QUALITY])).await.unwrap();
        assert_eq!(told.decision(), Decision::MustRecord);
        let by_purpose: Vec<_> = told.outcomes.iter().map(|one| (one.purpose.as_str(), one.decision())).collect();
        assert_eq!(by_purpose, [(QUALITY, Decision::DoNotRecord), (DUTY, Decision::MustRecord)], "and not for quality");
        let duty = &told.outcomes[1].parties[0];
        assert_eq!((duty.reason.as_str(), duty.state()), ("CONSENT_REFUSED", v1::ConsentState::Refused));
        for word in [DUTY, "Recording of orders", "MiFID II Art. 16(7)", "parties[0]"] {
            assert!(told.explanation.contains(word), "{}", told.explanation);
        }
        let elsewhere = v1::DecideRecordingRequest { queue: "sales".to_owned(), ..ask(parties(), &[QUALITY]) };
        assert_eq!(decide(&office.house, elsewhere).await.unwrap().decision(), Decision::DoNotRecord);
    }

    async fn other_grounds_are_announced_until_somebody_objects(house: House) {
        let mut office = Box::pin(centre(house)).await;
        let ada = office.house.somebody("Ada").await.subject;
        let at = |place: &str, purpose: &str| ask(vec![party(&ada, place, Role::Caller)], &[purpose]);
        for (place, purpose) in [("DE", CARE), ("PL", "legal_claims"), ("", CARE)] {
            let told = decide(&office.house, at(place, purpose)).await.unwrap();
            assert_eq!((told.decision(), first(&told).1), (Decision::AnnounceThenRecord, ""), "{place} {purpose}");
        }
        let notice = decide(&office.house, at("DE", QUALITY)).await.unwrap().notices[0].clone();
        let bare = v1::RecordingNotice { notice: String::new(), sha256: Vec::new(), ..notice };
        says(&mut office, &ada, "legal_claims", Kind::Object, &bare).await;
        says(&mut office, &ada, CARE, Kind::Refuse, &bare).await;
        for (place, purpose, expected) in [
            ("PL", "legal_claims", (Decision::DoNotRecord, "OBJECTED")),
            ("PL", CARE, (Decision::AnnounceThenRecord, "CONSENT_REFUSED")),
            ("DE", CARE, (Decision::DoNotRecord, "CONSENT_REFUSED")),
            ("ZZ", CARE, (Decision::DoNotRecord, "CONSENT_REFUSED")),
        ] {
            let told = decide(&office.house, at(place, purpose)).await.unwrap();
            assert_eq!(first(&told), expected, "{place} {purpose}");
        }
        office.house.config.recording.jurisdictions.insert("DE".to_owned(), Agreement::OneParty);
        office.house.reopen().await;
        let told = decide(&office.house, at("DE", CARE)).await.unwrap();
        assert_eq!((told.decision(), told.law.as_str()), (Decision::AnnounceThenRecord, "the configuration of the vault"));
    }

    async fn a_voice_print_needs_an_explicit_yes_of_its_own(house: House) {
        let mut office = Box::pin(centre(house)).await;
        let ada = office.house.somebody("Ada").await.subject;
        let plain = || ask(vec![party(&ada, "DE", Role::Caller)], &[QUALITY]);
        let print = || v1::DecideRecordingRequest { biometrics: PRINT.to_owned(), ..plain() };
        let notice = decide(&office.house, plain()).await.unwrap().notices[0].clone();
        says(&mut office, &ada, QUALITY, Kind::Give, &notice).await;
        let without = decide(&office.house, plain()).await.unwrap();
        let with = decide(&office.house, print()).await.unwrap();
        assert_eq!((with.decision(), &with.outcomes), (Decision::Record, &without.outcomes), "nothing about the recording changes");
        assert_eq!((without.biometrics, with.biometrics.unwrap().decision()), (None, Decision::Ask));
        says(&mut office, &ada, PRINT, Kind::Give, &notice).await;
        assert_eq!(decide(&office.house, print()).await.unwrap().biometrics.unwrap().decision(), Decision::Record);
        let last = entries(&office.house).await.into_iter().rfind(|entry| entry["deed"] == "DecideRecording").unwrap();
        assert_eq!(last["recording"]["biometrics"][1], "RECORD");
        assert!(last["touched"][0].get("special").is_none(), "a recording is no special category");
        says(&mut office, &ada, QUALITY, Kind::Withdraw, &notice).await;
        let told = decide(&office.house, print()).await.unwrap();
        assert_eq!((told.decision(), told.biometrics.unwrap().decision()), (Decision::DoNotRecord, Decision::Record));
        for (purpose, purposes) in [(QUALITY, vec![CARE]), (CARE, vec![QUALITY]), (PRINT, vec![PRINT])] {
            let wrong = v1::DecideRecordingRequest {
                biometrics: purpose.to_owned(),
                ..ask(vec![party(&ada, "DE", Role::Caller)], &purposes)
            };
            let refused = decide(&office.house, wrong).await.unwrap_err();
            assert_eq!((reason(&refused).as_str(), fields_at_fault(&refused)), ("VALUE_INVALID", vec!["biometrics".to_owned()]));
        }
    }

    async fn who_is_gone_is_told_as_by_a_check(house: House) {
        let mut office = Box::pin(centre(house)).await;
        let ada = office.house.somebody("Ada").await.subject;
        let call = |purpose: &str| ask(vec![party("", "DE", Role::Agent), party(&ada, "DE", Role::Caller)], &[purpose]);
        let restrict = v1::RestrictSubjectRequest {
            subject: ada.clone(),
            ground: "art18_1_a".to_owned(),
            ..Default::default()
        };
        office.house.subjects.restrict_subject(restrict).await.unwrap();
        let told = decide(&office.house, call(CARE)).await.unwrap();
        let caller = &told.outcomes[0].parties[1];
        assert_eq!((told.decision(), caller.reason.as_str()), (Decision::DoNotRecord, "SUBJECT_RESTRICTED"));
        office.house.erase(&ada).await;
        for (purpose, expected) in
            [(QUALITY, Decision::DoNotRecord), (CARE, Decision::DoNotRecord), (DUTY, Decision::MustRecord)]
        {
            let told = decide(&office.house, call(purpose)).await.unwrap();
            let caller = &told.outcomes[0].parties[1];
            assert_eq!((told.decision(), caller.reason.as_str()), (expected, "SUBJECT_ERASED"), "{purpose}");
        }
        let nobody = lacuna::model::SubjectId::from_bytes([0; 16]).to_string();
        let parties = vec![party(&ada, "DE", Role::Caller), party(&nobody, "DE", Role::Other)];
        let refused = decide(&office.house, ask(parties, &[QUALITY])).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "SUBJECT_UNKNOWN"));
        assert_eq!(fields_at_fault(&refused), ["parties[1].subject"]);
    }

    async fn what_makes_no_sense_is_refused_by_name(house: House) {
        let office = Box::pin(centre(house)).await;
        let one = || vec![party("", "DE", Role::Caller)];
        let many = vec![party("", "DE", Role::Other); 33];
        let with = |change: fn(&mut v1::DecideRecordingRequest)| {
            let mut asked = ask(one(), &[QUALITY]);
            change(&mut asked);
            asked
        };
        for (asked, why, field) in [
            (ask(one(), &[QUALITY, "curiosity"]), "PURPOSE_UNKNOWN", "purposes[1]"),
            (ask(one(), &["No Code"]), "VALUE_INVALID", "purposes[0]"),
            (ask(one(), &[]), "VALUE_INVALID", "purposes"),
            (ask(one(), &[QUALITY; 17]), "BATCH_TOO_LARGE", "purposes"),
            (ask(Vec::new(), &[QUALITY]), "VALUE_INVALID", "parties"),
            (ask(many, &[QUALITY]), "BATCH_TOO_LARGE", "parties"),
            (ask(vec![party("", "PL", Role::Agent), party("", "Germany", Role::Caller)], &[QUALITY]), "VALUE_INVALID", "parties[1].jurisdiction"),
            (ask(vec![party("", "DE", Role::Unspecified)], &[QUALITY]), "VALUE_INVALID", "parties[0].role"),
            (ask(vec![party("Ada", "DE", Role::Caller)], &[QUALITY]), "VALUE_INVALID", "parties[0].subject"),
            (with(|ask| "Jane Doe".clone_into(&mut ask.queue)), "VALUE_INVALID", "queue"),
            (with(|ask| "d\u{e9}".clone_into(&mut ask.language)), "VALUE_INVALID", "language"),
            (with(|ask| "+49 30 1234567890".clone_into(&mut ask.call)), "VALUE_INVALID", "call"),
            (with(|ask| "curiosity".clone_into(&mut ask.biometrics)), "PURPOSE_UNKNOWN", "biometrics"),
        ] {
            let refused = decide(&office.house, asked).await.unwrap_err();
            assert_eq!((reason(&refused).as_str(), fields_at_fault(&refused)), (why, vec![field.to_owned()]), "{refused:?}");
        }
    }

    async fn a_purpose_that_is_not_granted_is_refused_before_anybody_is_looked_at(house: House) {
        let mut house = house;
        with_roles(&mut house, &["contact-centre-agent", "mailer"]).await;
        let nobody = lacuna::model::SubjectId::from_bytes([0; 16]).to_string();
        let parties = || vec![party(&nobody, "DE", Role::Caller)];
        let agent = "the-token-of-contact-centre-agent";
        let refused = decide_as(&house, agent, ask(parties(), &[CARE, "legal_claims"])).await.unwrap_err();
        assert_eq!((reason(&refused).as_str(), fields_at_fault(&refused)), ("PURPOSE_NOT_GRANTED", vec!["purposes[1]".to_owned()]));
        let refused = decide_as(&house, agent, ask(parties(), &[CARE])).await.unwrap_err();
        assert_eq!(reason(&refused), "SUBJECT_UNKNOWN");
        let refused = decide_as(&house, "the-token-of-mailer", ask(parties(), &[CARE])).await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_PERMITTED");
        let all = entries(&house).await;
        let refusals: Vec<_> =
            all.iter().filter(|entry| entry["deed"] == "DecideRecording").map(|entry| &entry["refused"]).collect();
        assert_eq!(refusals, ["PurposeNotGranted", "SubjectUnknown", "NotPermitted"]);
    }

    async fn decisions_are_found_in_the_audit_by_each_of_their_purposes(house: House) {
        let office = Box::pin(centre(house)).await;
        decide(&office.house, ask(vec![party("", "DE", Role::Caller)], &[QUALITY, CARE])).await.unwrap();
        for (purpose, count) in [(QUALITY, 1), (CARE, 1), (DUTY, 0)] {
            let filter = v1::AuditFilter {
                rpc: "DecideRecording".to_owned(),
                purpose: purpose.to_owned(),
                ..Default::default()
            };
            let list = v1::ListAuditEntriesRequest { filter: Some(filter), ..Default::default() };
            let listed = office.house.audits().await.list_audit_entries(list).await.unwrap().into_inner();
            assert_eq!(listed.entries.len(), count, "{purpose}");
        }
    }

    async fn the_command_line_says_what_to_do(house: House) {
        let mut office = Box::pin(centre(house)).await;
        let ada = office.house.somebody("Ada").await.subject;
        let caller = format!("caller:DE:{ada}");
        let asked = ["call", "decide", "--party", &caller, "--party", "agent:PL", "--purpose", QUALITY, "--language", "en"];
        let told = office.house.told(&asked);
        assert_eq!(told["decision"], "RECORDING_DECISION_ASK");
        assert_eq!((&told["notices"][0]["notice"], &told["notices"][0]["language"]), (&NOTICE.into(), &"en".into()));
        let shown = office.house.shown(&asked);
        assert!(shown.contains("ask") && shown.contains("recording 1 (en)") && shown.contains("DE all have to agree"), "{shown}");
        let orders = office.house.shown(&["call", "decide", "--party", "caller", "--queue", "orders:de", "--call", "call 17"]);
        assert!(orders.contains("must record") && orders.contains("MiFID II"), "{orders}");
    }
}
