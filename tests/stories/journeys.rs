//! Whole ways through the vault, as those who decide about it want to see them.

use std::collections::BTreeMap;

use lacuna::config::{Caller, Seed};
use lacuna::model::Basis;
use lacuna::proto::v1;
use lacuna::proto::v1::{ConsentEventKind as Kind, FieldType};
use lacuna::vault::consent::bundle;
use tonic::Code;

use crate::asks::{CARE, detokenize, refusal, tokenize};
use crate::consents::{DAY, FORM, NEWS, NOTICE, Office, TEXT, allowed, denied, notice, purpose};
use crate::house::{House, field, fields_at_fault, fresh_database, on_both_stores, outcome, reason};

const PERSONA: &str = "marketing.persona";
const SIGNAL: &str = "web:gpc";

fn days(count: u32) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::from(count) * 86_400, nanos: 0 }
}

impl Office {
    async fn due_now(&mut self) -> Vec<(String, v1::ReviewReason)> {
        let due = self.door.list_due_for_review(v1::ListDueForReviewRequest::default()).await.unwrap().into_inner().due;
        due.into_iter().map(|due| (due.subject.clone(), due.reason())).collect()
    }

    async fn count(&mut self, purpose: &str, state: v1::ConsentState) -> i64 {
        let report = self.door.audit_consents(v1::AuditConsentsRequest {}).await.unwrap().into_inner();
        let found = report.counts.iter().find(|count| count.purpose == purpose && count.state() == state);
        found.map_or(0, |count| count.count)
    }

    async fn open_for(&mut self, jurisdiction: &str, birth: &str) -> String {
        let request = v1::CreateSubjectRequest {
            source: "web_form:signup".to_owned(),
            jurisdiction: jurisdiction.to_owned(),
            ..Default::default()
        };
        let subject = self.house.subjects.create_subject(request).await.unwrap().into_inner().subject.unwrap().subject;
        self.house.tokenize(&subject, vec![field(FieldType::DateOfBirth, birth)]).await;
        subject
    }
}

/// What `Sec-GPC: 1` comes to.
fn signal(subject: &str, purpose: &str, kind: Kind) -> v1::RecordConsentRequest {
    v1::RecordConsentRequest {
        subject: subject.to_owned(),
        purpose: purpose.to_owned(),
        kind: kind.into(),
        method: v1::ConsentMethod::BrowserSignal.into(),
        collection_point: SIGNAL.to_owned(),
        ..Default::default()
    }
}

fn caller(name: &str, purposes: Option<Vec<String>>) -> Caller {
    let token = Some(format!("the-token-of-{name}").into());
    Caller { name: name.to_owned(), token, purposes, ..Caller::default() }
}

on_both_stores! {
    async fn services_exchange_tokens_for_a_purpose(house: House) {
        let mut house = house;
        house.config.callers = vec![
            caller("orders", Some(Vec::new())),
            caller("mailer", Some(vec!["order_confirmation".to_owned(), "marketing.email".to_owned()])),
            caller("analytics", Some(vec!["breach_notice".to_owned()])),
        ];
        house.reopen().await;
        let create = v1::CreateSubjectRequest { source: "web_form:checkout".to_owned(), ..Default::default() };
        let subject = house.subjects.create_subject(create).await.unwrap().into_inner().subject.unwrap().subject;
        let values = ["ada@example.com", "+493012345678", "Ada Lovelace"];
        let kinds = [FieldType::Email, FieldType::Phone, FieldType::PersonName];
        let fields = kinds.iter().zip(values).map(|(kind, value)| field(*kind, value)).collect();
        let kept = house.tokens.tokenize(tokenize(&subject, fields)).await.unwrap().into_inner();
        assert!(values.iter().all(|value| !format!("{kept:?}").contains(value)), "nothing of the values comes back");
        let mut tokens: Vec<String> = kept.tokens.into_iter().map(|token| token.token).collect();
        let nameless = v1::TokenizeRequest { source: String::new(), ..tokenize(&subject, vec![field(kinds[0], values[0])]) };
        assert_eq!(reason(&house.tokens.tokenize(nameless).await.unwrap_err()), "SOURCE_REQUIRED");

        let (mut mailer, _) = house.connect_as("the-token-of-mailer").await;
        let (mut analytics, _) = house.connect_as("the-token-of-analytics").await;
        let revealed = mailer.detokenize(detokenize(&tokens, "order_confirmation")).await.unwrap().into_inner();
        let told: Vec<_> = revealed.results.iter().map(outcome).collect();
        assert_eq!(told, values.map(|value| Ok(value.to_owned())));
        let marketing = mailer.detokenize(detokenize(&tokens, "marketing.email")).await.unwrap().into_inner();
        for result in &marketing.results {
            assert_eq!((refusal(result).code(), reason(&refusal(result)).as_str()), (Code::PermissionDenied, "NO_CONSENT"));
        }
        let none = mailer.detokenize(detokenize(&tokens, "")).await.unwrap_err();
        assert_eq!((none.code(), reason(&none).as_str()), (Code::InvalidArgument, "PURPOSE_REQUIRED"));
        let other = analytics.detokenize(detokenize(&tokens, "order_confirmation")).await.unwrap_err();
        assert_eq!((other.code(), reason(&other).as_str()), (Code::PermissionDenied, "PURPOSE_NOT_GRANTED"));

        tokens.resize(1000, tokens[0].clone());
        "tok_aaaaaaaaaaaaaaaaaaaaaaaaaa".clone_into(&mut tokens[10]);
        "no token".clone_into(&mut tokens[500]);
        tokens[999].clear();
        let all = mailer.detokenize(detokenize(&tokens, "order_confirmation")).await.unwrap().into_inner().results;
        let bad: Vec<(usize, String)> = all
            .iter()
            .map(outcome)
            .enumerate()
            .filter_map(|(at, outcome)| Some((at, outcome.err()?)))
            .collect();
        assert_eq!(bad, [10, 500, 999].map(|at| (at, "TOKEN_UNKNOWN".to_owned())), "and 997 values");
        assert_eq!(all.len(), 1000);
    }

    async fn a_consent_outlives_a_typing_error_is_asked_anew_and_ends_after_two_years(house: House) {
        let mut office = Office::open(house).await;
        let news = v1::Purpose { expires_after: Some(days(730)), ..purpose(NEWS) };
        office.define(news, v1::VersionChange::Minor).await.unwrap();
        let ada = office.house.somebody("Ada").await;
        let given = office.say(&ada.subject, NEWS, Kind::Give).await.remove(0);
        office.house.clock.advance(3 * DAY);
        let third_day = office.house.in_time(std::time::Duration::ZERO);
        office.house.clock.advance(DAY);
        let corrected = v1::NoticeText { text: TEXT.replace("Ihnen", "Ihnen,"), ..notice().texts.remove(0) };
        office.publish(v1::Notice { texts: vec![corrected.clone()], ..notice() }, v1::VersionChange::Minor).await;
        assert_eq!(office.answer(&ada.subject, NEWS).await, allowed());
        assert_eq!(office.count(NEWS, v1::ConsentState::Given).await, 1);
        let wider = v1::Notice {
            recipients: vec!["the mailing service".to_owned(), "an advertising agency".to_owned()],
            texts: vec![corrected],
            ..notice()
        };
        let published = office.publish(wider, v1::VersionChange::Major).await;
        assert_eq!(office.answer(&ada.subject, NEWS).await, denied("RECONFIRM_DUE"));
        assert_eq!(office.reveal(&ada, NEWS).await, Err("RECONFIRM_DUE".to_owned()));
        assert_eq!(office.count(NEWS, v1::ConsentState::ReconfirmDue).await, 1);
        assert_eq!(office.due_now().await, [(ada.subject.clone(), v1::ReviewReason::Reconfirm)]);
        // Under the text of yesterday nobody says yes again.
        let stale = v1::RecordConsentRequest {
            kind: Kind::Renew.into(),
            notice_sha256: given.notice_sha256.clone(),
            ..office.yes(&ada.subject, NEWS).await
        };
        assert_eq!(reason(&office.record(stale).await.unwrap_err()), "NOTICE_UNKNOWN");
        let renewed = office.say(&ada.subject, NEWS, Kind::Renew).await.remove(0);
        assert_eq!((renewed.state(), renewed.notice_version), (v1::ConsentState::Renewed, published.version));
        assert_eq!(office.answer(&ada.subject, NEWS).await, allowed());
        assert_eq!(office.count(NEWS, v1::ConsentState::Renewed).await, 1);

        office.house.clock.advance(699 * DAY);
        assert_eq!(office.due_now().await, [], "31 days before the end");
        office.house.clock.advance(DAY);
        assert_eq!(office.due_now().await, [(ada.subject.clone(), v1::ReviewReason::Expiry)]);
        office.house.clock.advance(29 * DAY);
        assert_eq!(office.reveal(&ada, NEWS).await, Ok(ada.email.clone()), "to the last day");
        office.house.clock.advance(DAY);
        assert_eq!(office.answer(&ada.subject, NEWS).await, denied("CONSENT_EXPIRED"));
        assert_eq!(office.reveal(&ada, NEWS).await, Err("CONSENT_EXPIRED".to_owned()));
        assert_eq!(office.count(NEWS, v1::ConsentState::Expired).await, 1);
        assert_eq!(office.count(NEWS, v1::ConsentState::Renewed).await, 0);
        assert_eq!(office.due_now().await, [], "what is over is over");
        let late = v1::RecordConsentRequest { kind: Kind::Renew.into(), ..office.yes(&ada.subject, NEWS).await };
        assert_eq!(reason(&office.record(late).await.unwrap_err()), "CONSENT_STATE_MISMATCH", "it has to be given again");

        let request = v1::ProveConsentRequest {
            subject: ada.subject.clone(),
            purpose: NEWS.to_owned(),
            channel: v1::Channel::Email.into(),
            at: Some(third_day),
        };
        let proof = office.door.prove_consent(request).await.unwrap().into_inner();
        let proof = bundle::verify(&proof.bundle, None).unwrap().statement;
        assert!(proof.decision.allowed);
        assert_eq!((proof.decision.notice_version, &proof.decision.evidence_event), (1, &given.consent_event));
        let first = proof.notices.iter().find(|notice| notice.version == 1).unwrap();
        assert_eq!((first.notice.as_str(), first.texts[0].text.as_str()), (NOTICE, TEXT), "byte by byte");
    }

    async fn with_profiling_off_nothing_profiles_and_everything_else_goes_on(house: House) {
        let mut office = Office::open(house).await;
        let persona = v1::Purpose { profiling: true, direct_marketing: false, ..purpose(PERSONA) };
        office.define(persona, v1::VersionChange::Major).await.unwrap();
        let ada = office.house.somebody("Ada").await;
        office.say(&ada.subject, PERSONA, Kind::Give).await;
        let score = office.house.one(&ada.subject, field(FieldType::Score, "0.93")).await.token;
        assert_eq!(office.answer(&ada.subject, PERSONA).await, allowed());
        assert_eq!(office.house.reveal(std::slice::from_ref(&score), CARE).await, [Ok("0.93".to_owned())]);

        let off = v1::SetProfilingRequest { subject: ada.subject.clone(), enabled: false, ..Default::default() };
        let off = office.house.subjects.set_profiling(off).await.unwrap().into_inner();
        assert_eq!((off.scores_destroyed, off.pending_reason.as_str()), (1, ""));
        let permission = office.check(&ada.subject, PERSONA).await;
        assert_eq!((permission.allowed, permission.reason.as_str()), (false, "PROFILING_OFF"), "though consent is given");
        let results = office.house.results(&[score], CARE).await;
        let gone = refusal(&results[0]);
        assert_eq!((gone.code(), reason(&gone).as_str()), (Code::NotFound, "VALUE_PURGED"));
        for service in [CARE, "order_confirmation"] {
            assert_eq!(office.answer(&ada.subject, service).await, allowed());
            assert_eq!(office.house.reveal(&ada.tokens, service).await, ada.values());
        }
        let again = tokenize(&ada.subject, vec![field(FieldType::Score, "0.5")]);
        let refused = office.house.tokens.tokenize(again).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "PROFILING_OFF"));
    }

    async fn the_signal_of_a_browser_is_recorded_and_obeyed_and_never_says_yes(house: House) {
        let mut office = Office::open(house).await;
        office.define_point(SIGNAL, v1::CollectionPointKind::BrowserSignal).await;
        let segments = v1::Purpose {
            basis: v1::LawfulBasis::LegitimateInterests.into(),
            assessment: "LIA-7".to_owned(),
            profiling: true,
            direct_marketing: false,
            ..purpose("segments")
        };
        office.define(segments, v1::VersionChange::Major).await.unwrap();
        let [ada, bob] = [office.house.somebody("Ada").await, office.house.somebody("Bob").await];
        for person in [&ada, &bob] {
            office.say(&person.subject, NEWS, Kind::Give).await;
            assert_eq!(office.answer(&person.subject, "segments").await, allowed());
        }
        let events = office.record(signal(&ada.subject, "segments", Kind::Object)).await.unwrap();
        assert_eq!((events[0].kind(), events[0].method()), (Kind::Object, v1::ConsentMethod::BrowserSignal));
        assert_eq!((events[0].actor(), events[0].collection_point.as_str()), (v1::ConsentActor::Subject, SIGNAL));
        assert_eq!(office.answer(&ada.subject, "segments").await, denied("OBJECTED"));
        assert_eq!(office.reveal(&ada, "segments").await, Err("OBJECTED".to_owned()));
        assert_eq!(office.answer(&ada.subject, NEWS).await, allowed(), "it was about its own purposes");
        office.record(signal(&ada.subject, NEWS, Kind::Withdraw)).await.unwrap();
        assert_eq!(office.reveal(&ada, NEWS).await, Err("CONSENT_WITHDRAWN".to_owned()));
        office.record(signal(&bob.subject, NEWS, Kind::Object)).await.unwrap();
        assert_eq!(office.reveal(&bob, NEWS).await, Err("SUPPRESSED".to_owned()), "marketing is objected to as a whole");

        // It comes from nowhere else, and nothing else comes from there.
        for point in [FORM, ""] {
            let elsewhere = v1::RecordConsentRequest {
                collection_point: point.to_owned(),
                ..signal(&ada.subject, "segments", Kind::Object)
            };
            assert_eq!(fields_at_fault(&office.record(elsewhere).await.unwrap_err()), ["collection_point"]);
        }
        for method in [0, v1::ConsentMethod::Form.into()] {
            let other = v1::RecordConsentRequest { method, ..signal(&ada.subject, "segments", Kind::Object) };
            assert_eq!(fields_at_fault(&office.record(other).await.unwrap_err()), ["method"]);
        }
        let by_another = v1::RecordConsentRequest {
            actor: v1::ConsentActor::Agent.into(),
            ..signal(&ada.subject, "segments", Kind::Object)
        };
        assert_eq!(fields_at_fault(&office.record(by_another).await.unwrap_err()), ["actor"]);
        let yes = office.yes(&ada.subject, NEWS).await;
        for kind in [Kind::Give, Kind::Renew, Kind::Confirm, Kind::WithdrawObjection, Kind::Acknowledge] {
            let signalled = v1::RecordConsentRequest {
                kind: kind.into(),
                method: v1::ConsentMethod::BrowserSignal.into(),
                collection_point: SIGNAL.to_owned(),
                ..yes.clone()
            };
            let refused = office.record(signalled).await.unwrap_err();
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "INVALID_METHOD"), "{kind:?}");
        }
        assert_eq!(office.answer(&ada.subject, NEWS).await, denied("CONSENT_WITHDRAWN"));
        assert_eq!(office.answer(&bob.subject, NEWS).await, denied("SUPPRESSED"));
    }

    async fn a_child_of_thirteen_is_spoken_for_until_they_are_sixteen(house: House) {
        let mut office = Office::open(house).await;
        let ruled = v1::Purpose { age_rule: true, ..purpose(NEWS) };
        office.define(ruled, v1::VersionChange::Minor).await.unwrap();
        let [german, belgian] = [office.open_for("DE", "2013-03-14").await, office.open_for("BE", "2013-03-14").await];
        let own = office.yes(&german, NEWS).await;
        let refused = office.record(own.clone()).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "GUARDIAN_REQUIRED"));
        let elsewhere = office.yes(&belgian, NEWS).await;
        assert_eq!(office.record(elsewhere).await.unwrap()[0].state(), v1::ConsentState::Given, "of age there");

        let guardian = v1::RecordConsentRequest { actor: v1::ConsentActor::Guardian.into(), ..own.clone() };
        assert_eq!(office.record(guardian.clone()).await.unwrap()[0].state(), v1::ConsentState::Pending);
        assert_eq!(office.answer(&german, NEWS).await, denied("NO_CONSENT"));
        let confirm = v1::RecordConsentRequest { kind: Kind::Confirm.into(), ..guardian.clone() };
        let child = v1::RecordConsentRequest { actor: v1::ConsentActor::Subject.into(), ..confirm.clone() };
        let refused = office.record(child).await.unwrap_err();
        assert_eq!(reason(&refused), "GUARDIAN_REQUIRED", "or the child would be their own guardian");
        office.house.clock.advance(4 * DAY);
        let late = office.record(confirm.clone()).await.unwrap_err();
        assert_eq!(reason(&late), "CONSENT_STATE_MISMATCH", "nobody confirmed in time");
        office.record(guardian).await.unwrap();
        assert_eq!(office.record(confirm).await.unwrap()[0].state(), v1::ConsentState::Given);
        assert_eq!(office.answer(&german, NEWS).await, allowed());
        let renew = v1::RecordConsentRequest { kind: Kind::Renew.into(), ..own.clone() };
        assert_eq!(reason(&office.record(renew).await.unwrap_err()), "GUARDIAN_REQUIRED");
        office.say(&german, NEWS, Kind::Withdraw).await;
        assert_eq!(office.answer(&german, NEWS).await, denied("CONSENT_WITHDRAWN"), "saying no needs nobody");
        let again = v1::RecordConsentRequest { actor: v1::ConsentActor::Guardian.into(), ..own.clone() };
        office.record(again.clone()).await.unwrap();
        office.record(v1::RecordConsentRequest { kind: Kind::Confirm.into(), ..again }).await.unwrap();

        // They are sixteen in March of 2029, and asked from the first of April.
        assert_eq!(office.due_now().await, []);
        office.house.clock.advance(830 * DAY);
        assert_eq!(office.due_now().await, [(german.clone(), v1::ReviewReason::Reconfirm)], "a task, 30 days ahead");
        assert_eq!(office.answer(&german, NEWS).await, allowed());
        office.house.clock.advance(30 * DAY);
        assert_eq!(office.answer(&german, NEWS).await, denied("RECONFIRM_DUE"));
        assert_eq!(office.count(NEWS, v1::ConsentState::ReconfirmDue).await, 1);
        office.record(own).await.unwrap();
        assert_eq!(office.answer(&german, NEWS).await, allowed());
        assert_eq!(office.due_now().await, []);
    }

    async fn the_purposes_of_the_configuration_are_what_a_new_vault_begins_with_and_no_more(house: House) {
        let mut house = house;
        let seed = |basis| Seed { basis, despite_restriction: false, profiling: false };
        let codes = async |house: &House| {
            let request = v1::ListPurposesRequest::default();
            let found = house.consents().await.list_purposes(request).await.unwrap().into_inner().purposes;
            found.into_iter().map(|purpose| (purpose.code.clone(), purpose.version, purpose.basis())).collect::<Vec<_>>()
        };
        let built_in = codes(&house).await;
        assert!(built_in.iter().any(|(code, ..)| code == CARE));
        // Of a vault that is there already they change nothing.
        house.config.purposes = BTreeMap::from([("billing".to_owned(), seed(Basis::Contract))]);
        house.reopen().await;
        assert_eq!(codes(&house).await, built_in);

        house.stop().await;
        if house.config.database_url.is_some() {
            house.config.database_url = fresh_database().await.map(Into::into);
        }
        house.config.data_dir = Some(house.home().join("another/lacuna-data"));
        house.reopen().await;
        let configured = [("billing".to_owned(), 1, v1::LawfulBasis::Contract)];
        assert_eq!(codes(&house).await, configured, "instead of the built-in ones");
        let ada = house.somebody("Ada").await;
        assert_eq!(house.reveal(&ada.tokens, "billing").await, ada.values());
        let refused = house.tokens.detokenize(detokenize(&ada.tokens, CARE)).await.unwrap_err();
        assert_eq!(reason(&refused), "PURPOSE_UNKNOWN");
        let retire = v1::RetirePurposeRequest { code: "billing".to_owned() };
        house.consents().await.retire_purpose(retire).await.unwrap();
        house.config.purposes.insert("delivery".to_owned(), seed(Basis::Contract));
        house.reopen().await;
        assert_eq!(codes(&house).await, [("billing".to_owned(), 2, v1::LawfulBasis::Contract)]);
        let refused = house.reveal(&ada.tokens, "billing").await;
        assert_eq!(refused, vec![Err("PURPOSE_INACTIVE".to_owned()); 3], "what was retired is not brought back");
    }
}
