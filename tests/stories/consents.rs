//! Consent: what people decide, and that reveals obey it.

use std::time::Duration;

use lacuna::proto::v1;
use lacuna::proto::v1::consent_service_client::ConsentServiceClient;
use tonic::{Code, Status};

use crate::asks::{detokenize, point, request_id};
use crate::house::{House, Link, Somebody, fields_at_fault, on_both_stores, outcome, reason};

pub const NEWS: &str = "marketing.email.product_updates";
pub const OFFERS: &str = "marketing.email.promotions";
pub const FORM: &str = "web:signup";
pub const NOTICE: &str = "privacy";
pub const TEXT: &str = "Wir schreiben Ihnen, wenn Sie das w\u{fc}nschen.";
pub const DAY: Duration = Duration::from_hours(24);

/// A house in which people are asked for two kinds of marketing.
pub struct Office {
    pub house: House,
    pub door: ConsentServiceClient<Link>,
}

pub fn purpose(code: &str) -> v1::Purpose {
    v1::Purpose {
        code: code.to_owned(),
        title: "News".to_owned(),
        basis: v1::LawfulBasis::Consent.into(),
        channels: vec![v1::Channel::Email.into()],
        recipients: vec!["the mailing service".to_owned()],
        notice: NOTICE.to_owned(),
        direct_marketing: true,
        ..Default::default()
    }
}

pub fn notice() -> v1::Notice {
    v1::Notice {
        notice: NOTICE.to_owned(),
        texts: vec![v1::NoticeText { language: "de".to_owned(), text: TEXT.to_owned(), sha256: Vec::new() }],
        categories: vec!["e-mail address".to_owned()],
        purposes: vec!["marketing".to_owned()],
        recipients: vec!["the mailing service".to_owned()],
        retention: "until you withdraw".to_owned(),
        ..Default::default()
    }
}

impl Office {
    pub async fn open(house: House) -> Self {
        let door = house.consents().await;
        let mut office = Self { house, door };
        office.publish(notice(), v1::VersionChange::Major).await;
        for code in [NEWS, OFFERS] {
            office.define(purpose(code), v1::VersionChange::Major).await.unwrap();
        }
        office.define_point(FORM, v1::CollectionPointKind::WebForm).await;
        office
    }

    pub async fn define_point(&mut self, name: &str, kind: v1::CollectionPointKind) {
        self.door.define_collection_point(point(name, kind)).await.unwrap();
    }

    pub async fn publish(&mut self, notice: v1::Notice, change: v1::VersionChange) -> v1::Notice {
        let request = v1::PublishNoticeRequest { notice: Some(notice), change: change.into(), ..Default::default() };
        self.door.publish_notice(request).await.unwrap().into_inner().notice.unwrap()
    }

    pub async fn define(&mut self, purpose: v1::Purpose, change: v1::VersionChange) -> Result<v1::Purpose, Status> {
        let request = v1::DefinePurposeRequest { purpose: Some(purpose), change: change.into(), ..Default::default() };
        Ok(self.door.define_purpose(request).await?.into_inner().purpose.unwrap())
    }

    /// A yes as the form gives it.
    pub async fn yes(&mut self, subject: &str, purpose: &str) -> v1::RecordConsentRequest {
        let request = v1::GetNoticeRequest { notice: NOTICE.to_owned(), version: 0 };
        let shown = self.door.get_notice(request).await.unwrap().into_inner().notice.unwrap();
        v1::RecordConsentRequest {
            subject: subject.to_owned(),
            purpose: purpose.to_owned(),
            channel: v1::Channel::Email.into(),
            kind: v1::ConsentEventKind::Give.into(),
            method: v1::ConsentMethod::Form.into(),
            affirmative_action: "ticked \"I agree\"".to_owned(),
            notice: NOTICE.to_owned(),
            notice_sha256: shown.texts[0].sha256.clone(),
            collection_point: FORM.to_owned(),
            ..Default::default()
        }
    }

    pub async fn record(&mut self, request: v1::RecordConsentRequest) -> Result<Vec<v1::ConsentEvent>, Status> {
        Ok(self.door.record_consent(request).await?.into_inner().events)
    }

    pub async fn say(&mut self, subject: &str, purpose: &str, kind: v1::ConsentEventKind) -> Vec<v1::ConsentEvent> {
        let yes = self.yes(subject, purpose).await;
        self.record(v1::RecordConsentRequest { kind: kind.into(), ..yes }).await.unwrap()
    }

    pub async fn check(&mut self, subject: &str, purpose: &str) -> v1::Permission {
        self.check_at(subject, purpose, None).await
    }

    pub async fn check_at(
        &mut self,
        subject: &str,
        purpose: &str,
        at: Option<prost_types::Timestamp>,
    ) -> v1::Permission {
        let request = v1::CheckPermissionRequest {
            subject: subject.to_owned(),
            purpose: purpose.to_owned(),
            channel: v1::Channel::Email.into(),
            at,
        };
        self.door.check_permission(request).await.unwrap().into_inner().permission.unwrap()
    }

    pub async fn answer(&mut self, subject: &str, purpose: &str) -> (bool, String) {
        let permission = self.check(subject, purpose).await;
        (permission.allowed, permission.reason)
    }

    /// What a reveal of the e-mail address for a purpose comes to.
    pub async fn reveal(&mut self, person: &Somebody, purpose: &str) -> Result<String, String> {
        let response = self.house.tokens.detokenize(detokenize(&person.tokens[..1], purpose)).await.unwrap();
        outcome(&response.into_inner().results[0])
    }
}

pub fn denied(reason: &str) -> (bool, String) {
    (false, reason.to_owned())
}

pub fn allowed() -> (bool, String) {
    (true, String::new())
}

on_both_stores! {
    async fn those_who_decide_at_once_share_a_transaction_and_no_refusal(house: House) {
        let mut office = Office::open(house).await;
        let mut asked = Vec::new();
        let mut subjects = Vec::new();
        for number in 0..8_u128 {
            let subject = office.house.somebody(&format!("Ada {number}")).await.subject;
            let yes = office.yes(&subject, NEWS).await;
            let first = v1::RecordConsentRequest { request_id: request_id(number), ..yes.clone() };
            let other = v1::RecordConsentRequest { purpose: OFFERS.to_owned(), ..yes.clone() };
            let confirm = v1::RecordConsentRequest { kind: v1::ConsentEventKind::Confirm.into(), ..yes.clone() };
            let nobody = v1::RecordConsentRequest { purpose: "no.such.purpose".to_owned(), ..yes };
            asked.extend([first.clone(), first, other, confirm, nobody]);
            subjects.push(subject);
        }
        let asking = asked.into_iter().map(|request| {
            let mut door = office.door.clone();
            tokio::spawn(async move { door.record_consent(request).await })
        });
        let mut answers = Vec::new();
        for task in asking.collect::<Vec<_>>() {
            answers.push(task.await.unwrap().map(|given| given.into_inner().events).map_err(|status| reason(&status)));
        }
        for (of_one, subject) in answers.chunks(5).zip(&subjects) {
            let [first, again, other, confirm, nobody] = of_one else { panic!("five were asked") };
            let [given] = &first.as_ref().unwrap()[..] else { panic!("one is given") };
            assert_eq!(again.as_ref().unwrap()[0].consent_event, given.consent_event, "the same request, once");
            assert_eq!(other.as_ref().unwrap()[0].purpose, OFFERS);
            assert_eq!(confirm, &Err("CONSENT_STATE_MISMATCH".to_owned()), "refused alone");
            assert_eq!(nobody, &Err("PURPOSE_UNKNOWN".to_owned()));
            let request = v1::ListConsentEventsRequest { subject: subject.clone(), ..Default::default() };
            assert_eq!(office.door.list_consent_events(request).await.unwrap().into_inner().events.len(), 2);
            for purpose in [NEWS, OFFERS] {
                assert_eq!(office.answer(subject, purpose).await, allowed());
            }
        }
    }

    async fn where_silence_permits_a_question_makes_no_silence_of_a_no(house: House) {
        let mut office = Office::open(house).await;
        let code = "marketing.email.survey";
        let mode = v1::ConsentMode::OptOut.into();
        let survey = v1::Purpose { mode, assessment: "DPIA-7".to_owned(), ..purpose(code) };
        office.define(survey, v1::VersionChange::Major).await.unwrap();
        let ada = office.house.somebody("Ada").await;
        let question = |yes: v1::RecordConsentRequest| v1::RecordConsentRequest {
            kind: v1::ConsentEventKind::Request.into(),
            actor: v1::ConsentActor::Controller.into(),
            ..yes
        };
        assert_eq!(office.answer(&ada.subject, code).await, allowed());
        let ask = question(office.yes(&ada.subject, code).await);
        office.record(ask.clone()).await.unwrap();
        assert_eq!(office.answer(&ada.subject, code).await, allowed(), "who is asked has not answered");
        office.house.clock.advance(2 * DAY);
        office.say(&ada.subject, code, v1::ConsentEventKind::Withdraw).await;
        assert_eq!(office.answer(&ada.subject, code).await, denied("CONSENT_WITHDRAWN"));
        let withdrawn = office.house.in_time(DAY);
        office.house.clock.advance(2 * DAY);
        office.record(ask.clone()).await.unwrap();
        assert_eq!(office.answer(&ada.subject, code).await, denied("NO_CONSENT"), "who said no is silent now");
        office.say(&ada.subject, code, v1::ConsentEventKind::Defer).await;
        assert_eq!(office.answer(&ada.subject, code).await, denied("NO_CONSENT"), "and puts it off");
        office.say(&ada.subject, code, v1::ConsentEventKind::Give).await;
        assert_eq!(office.answer(&ada.subject, code).await, allowed());

        let bob = office.house.somebody("Bob").await;
        office.record(v1::RecordConsentRequest { subject: bob.subject.clone(), ..ask }).await.unwrap();
        office.define_point("paper:desk", v1::CollectionPointKind::Paper).await;
        let letter = v1::RecordConsentRequest {
            kind: v1::ConsentEventKind::Withdraw.into(),
            collection_point: "paper:desk".to_owned(),
            effective_time: Some(withdrawn),
            ..office.yes(&bob.subject, code).await
        };
        assert_eq!(office.answer(&bob.subject, code).await, allowed());
        office.record(letter).await.unwrap();
        assert_eq!(office.answer(&bob.subject, code).await, denied("NO_CONSENT"), "a no that is entered late counts");
    }

    async fn one_yes_and_one_no_are_kept_apart_and_a_withdrawal_counts_at_once(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await;
        assert_eq!(office.answer(&ada.subject, NEWS).await, denied("NO_CONSENT"));
        assert_eq!(office.reveal(&ada, NEWS).await, Err("NO_CONSENT".to_owned()));
        let given = office.say(&ada.subject, NEWS, v1::ConsentEventKind::Give).await;
        office.say(&ada.subject, OFFERS, v1::ConsentEventKind::Refuse).await;
        assert_eq!(given[0].state(), v1::ConsentState::Given);
        assert_eq!((given[0].notice_version, given[0].language.as_str()), (1, "de"));
        let permission = office.check(&ada.subject, NEWS).await;
        assert_eq!((permission.allowed, &permission.evidence_event), (true, &given[0].consent_event));
        assert_eq!(office.answer(&ada.subject, OFFERS).await, denied("CONSENT_REFUSED"));
        assert_eq!(office.reveal(&ada, NEWS).await, Ok(ada.email.clone()));
        assert_eq!(office.reveal(&ada, OFFERS).await, Err("CONSENT_REFUSED".to_owned()));

        let withdrawn = v1::RecordConsentRequest {
            subject: ada.subject.clone(),
            purpose: NEWS.to_owned(),
            kind: v1::ConsentEventKind::Withdraw.into(),
            ..Default::default()
        };
        office.record(withdrawn).await.unwrap();
        assert_eq!(office.answer(&ada.subject, NEWS).await, denied("CONSENT_WITHDRAWN"));
        assert_eq!(office.reveal(&ada, NEWS).await, Err("CONSENT_WITHDRAWN".to_owned()));
        let found = office.house.find(v1::FieldType::Email, &ada.email).await;
        assert_eq!(found.len(), 1, "another purpose finds what it found");
    }

    async fn a_yes_without_what_makes_one_is_refused(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await;
        let good = office.yes(&ada.subject, NEWS).await;
        let cases = [
            (v1::RecordConsentRequest { notice_sha256: vec![7; 32], ..good.clone() }, "NOTICE_UNKNOWN", "notice_sha256"),
            (v1::RecordConsentRequest { notice: "other".to_owned(), ..good.clone() }, "NOTICE_UNKNOWN", "notice"),
            (v1::RecordConsentRequest { notice: String::new(), ..good.clone() }, "VALUE_INVALID", "notice"),
            (
                v1::RecordConsentRequest { method: v1::ConsentMethod::PreTicked.into(), ..good.clone() },
                "INVALID_METHOD",
                "method",
            ),
            (v1::RecordConsentRequest { method: 0, ..good.clone() }, "VALUE_INVALID", "method"),
            (v1::RecordConsentRequest { affirmative_action: String::new(), ..good.clone() }, "VALUE_INVALID", "affirmative_action"),
            (
                v1::RecordConsentRequest { collection_point: "web:gone".to_owned(), ..good.clone() },
                "COLLECTION_POINT_UNKNOWN",
                "collection_point",
            ),
            (v1::RecordConsentRequest { kind: v1::ConsentEventKind::Confirm.into(), ..good.clone() }, "CONSENT_STATE_MISMATCH", ""),
            (v1::RecordConsentRequest { kind: v1::ConsentEventKind::Renew.into(), ..good.clone() }, "CONSENT_STATE_MISMATCH", ""),
            (v1::RecordConsentRequest { kind: v1::ConsentEventKind::Revoke.into(), ..good.clone() }, "VALUE_INVALID", "reason"),
            (v1::RecordConsentRequest { channel: v1::Channel::Post.into(), ..good.clone() }, "VALUE_INVALID", "channel"),
        ];
        for (request, expected, field) in cases {
            let refused = office.record(request.clone()).await.unwrap_err();
            assert_eq!(reason(&refused), expected, "{refused:?}");
            assert_eq!(fields_at_fault(&refused).first().map_or("", String::as_str), field);
        }
        let request = v1::ListConsentEventsRequest { subject: ada.subject.clone(), ..Default::default() };
        assert!(office.door.list_consent_events(request).await.unwrap().into_inner().events.is_empty());
        assert_eq!(office.answer(&ada.subject, NEWS).await, denied("NO_CONSENT"));
    }

    async fn a_notice_without_its_four_parts_is_not_published(house: House) {
        let mut office = Office::open(house).await;
        let cases = [
            (v1::Notice { categories: Vec::new(), ..notice() }, "notice.categories"),
            (v1::Notice { purposes: Vec::new(), ..notice() }, "notice.purposes"),
            (v1::Notice { recipients: Vec::new(), ..notice() }, "notice.recipients"),
            (v1::Notice { retention: String::new(), ..notice() }, "notice.retention"),
            (v1::Notice { texts: Vec::new(), ..notice() }, "notice.texts"),
        ];
        for (notice, field) in cases {
            let request = v1::PublishNoticeRequest { notice: Some(notice), ..Default::default() };
            let refused = office.door.publish_notice(request).await.unwrap_err();
            assert_eq!((refused.code(), fields_at_fault(&refused)), (Code::InvalidArgument, vec![field.to_owned()]));
        }
    }

    async fn a_major_change_asks_anew_and_a_minor_one_does_not(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await;
        office.say(&ada.subject, NEWS, v1::ConsentEventKind::Give).await;
        office.house.clock.advance(DAY);
        let corrected = v1::NoticeText { text: format!("{TEXT} "), ..notice().texts.remove(0) };
        office.publish(v1::Notice { texts: vec![corrected], ..notice() }, v1::VersionChange::Minor).await;
        assert_eq!(office.answer(&ada.subject, NEWS).await, allowed());
        let more = vec!["the mailing service".to_owned(), "an advertising agency".to_owned()];
        office.publish(v1::Notice { recipients: more, ..notice() }, v1::VersionChange::Major).await;
        assert_eq!(office.answer(&ada.subject, NEWS).await, denied("RECONFIRM_DUE"));
        assert_eq!(office.reveal(&ada, NEWS).await, Err("RECONFIRM_DUE".to_owned()));
        let before = office.house.in_time(Duration::ZERO);
        let then = prost_types::Timestamp { seconds: before.seconds - 3600, ..before };
        assert!(office.check_at(&ada.subject, NEWS, Some(then)).await.allowed, "an hour ago it was permitted");
        office.say(&ada.subject, NEWS, v1::ConsentEventKind::Renew).await;
        assert_eq!(office.answer(&ada.subject, NEWS).await, allowed());
        assert_eq!(office.reveal(&ada, NEWS).await, Ok(ada.email.clone()));
    }

    async fn what_is_defined_is_there_in_every_version(house: House) {
        let mut office = Office::open(house).await;
        let more = v1::Purpose { recipients: vec!["an agency".to_owned()], ..purpose(NEWS) };
        let second = office.define(more.clone(), v1::VersionChange::Minor).await.unwrap();
        assert_eq!((second.version, second.change()), (2, v1::VersionChange::Major), "another recipient is no detail");
        let refused = office.define(more, v1::VersionChange::Major).await.unwrap_err();
        assert_eq!(reason(&refused), "VALUE_INVALID", "nothing is new about it");
        for (version, recipient) in [(0, "an agency"), (1, "the mailing service"), (2, "an agency")] {
            let request = v1::GetPurposeRequest { code: NEWS.to_owned(), version };
            let found = office.door.get_purpose(request).await.unwrap().into_inner().purpose.unwrap();
            assert_eq!(found.recipients, [recipient]);
        }
        let missing = v1::GetPurposeRequest { code: "nothing".to_owned(), version: 0 };
        assert_eq!(reason(&office.door.get_purpose(missing).await.unwrap_err()), "PURPOSE_UNKNOWN");
        let mut codes = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListPurposesRequest { page_size: 3, page_token };
            let page = office.door.list_purposes(request).await.unwrap().into_inner();
            codes.extend(page.purposes.into_iter().map(|purpose| purpose.code));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert!(codes.is_sorted() && codes.contains(&NEWS.to_owned()) && codes.len() == 8, "{codes:?}");
        let points = office.door.list_collection_points(v1::ListCollectionPointsRequest::default()).await.unwrap();
        assert_eq!(points.into_inner().collection_points[0].collection_point, FORM);

        let request = v1::RetirePurposeRequest { code: OFFERS.to_owned() };
        let retired = office.door.retire_purpose(request.clone()).await.unwrap().into_inner().purpose.unwrap();
        assert_eq!((retired.state(), retired.version), (v1::PurposeState::Retired, 2));
        let again = office.door.retire_purpose(request).await.unwrap().into_inner().purpose.unwrap();
        assert_eq!(again.version, 2);
        let ada = office.house.somebody("Ada").await;
        assert_eq!(office.answer(&ada.subject, OFFERS).await, denied("PURPOSE_INACTIVE"));
    }

    async fn many_questions_are_answered_each_for_itself(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await;
        office.say(&ada.subject, NEWS, v1::ConsentEventKind::Give).await;
        let ask = |subject: &str, purpose: &str| v1::CheckPermissionRequest {
            subject: subject.to_owned(),
            purpose: purpose.to_owned(),
            ..Default::default()
        };
        let nobody = "sub_aaaaaaaaaaaaaaaaaaaaaaaaaa";
        let checks = vec![
            ask(&ada.subject, NEWS),
            ask(nobody, NEWS),
            ask(&ada.subject, "nothing"),
            ask("rubbish", NEWS),
            ask(&ada.subject, "customer_care"),
        ];
        let request = v1::BatchCheckPermissionRequest { checks };
        let results = office.door.batch_check_permission(request).await.unwrap().into_inner().results;
        let told: Vec<_> = results
            .into_iter()
            .map(|result| match result.outcome.unwrap() {
                v1::batch_check_permission_result::Outcome::Permission(permission) => permission.allowed.to_string(),
                v1::batch_check_permission_result::Outcome::Error(error) => {
                    reason(&Status::with_details(error.code.into(), "", prost::Message::encode_to_vec(&error).into()))
                }
            })
            .collect();
        assert_eq!(told, ["true", "SUBJECT_UNKNOWN", "PURPOSE_UNKNOWN", "VALUE_INVALID", "true"]);
        let many = v1::BatchCheckPermissionRequest { checks: vec![ask(&ada.subject, NEWS); 1001] };
        let refused = office.door.batch_check_permission(many).await.unwrap_err();
        assert_eq!(reason(&refused), "BATCH_TOO_LARGE");
    }

    async fn an_objection_to_marketing_is_to_all_of_it_and_nothing_overrides_it(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await;
        for code in [NEWS, OFFERS] {
            office.say(&ada.subject, code, v1::ConsentEventKind::Give).await;
        }
        let object = v1::RecordConsentRequest {
            subject: ada.subject.clone(),
            purpose: NEWS.to_owned(),
            kind: v1::ConsentEventKind::Object.into(),
            ..Default::default()
        };
        office.record(object.clone()).await.unwrap();
        for code in [NEWS, OFFERS] {
            assert_eq!(office.answer(&ada.subject, code).await, denied("SUPPRESSED"));
            assert_eq!(office.reveal(&ada, code).await, Err("SUPPRESSED".to_owned()));
        }
        let request = v1::ListConsentsRequest { subject: ada.subject.clone() };
        let listed = office.door.list_consents(request).await.unwrap().into_inner();
        let news = listed.consents.iter().find(|consent| consent.purpose == NEWS).unwrap();
        assert!(listed.suppressed && news.objected && !news.permission.clone().unwrap().allowed);
        let care = listed.consents.iter().find(|consent| consent.purpose == "customer_care").unwrap();
        assert!(care.permission.clone().unwrap().allowed, "a contract goes on");
        let overriding = v1::RecordConsentRequest {
            kind: v1::ConsentEventKind::OverrideObjection.into(),
            reason: "CASE-1".to_owned(),
            collection_point: FORM.to_owned(),
            ..object.clone()
        };
        assert_eq!(reason(&office.record(overriding).await.unwrap_err()), "RIGHT_ABSOLUTE");
        let yes = office.yes(&ada.subject, NEWS).await;
        assert_eq!(reason(&office.record(yes).await.unwrap_err()), "SUPPRESSED");
        let taken_back = v1::RecordConsentRequest {
            kind: v1::ConsentEventKind::WithdrawObjection.into(),
            method: v1::ConsentMethod::Form.into(),
            affirmative_action: "ticked \"write to me again\"".to_owned(),
            collection_point: FORM.to_owned(),
            ..object
        };
        office.record(taken_back).await.unwrap();
        assert_eq!(office.answer(&ada.subject, NEWS).await, allowed());
    }

    async fn a_child_needs_a_guardian_and_decides_anew_when_grown(house: House) {
        let mut office = Office::open(house).await;
        let rule = v1::Purpose { age_rule: true, ..purpose(NEWS) };
        office.define(rule, v1::VersionChange::Minor).await.unwrap();
        let ada = office.house.somebody("Ada").await;
        let yes = office.yes(&ada.subject, NEWS).await;
        let unknown = office.record(yes.clone()).await.unwrap_err();
        assert_eq!(fields_at_fault(&unknown), ["birth_date"]);
        // The clock of the stories stands in 2026: somebody of thirteen, whose day of birth the vault keeps.
        let birth = crate::house::field(v1::FieldType::DateOfBirth, "2013-03-14");
        office.house.tokenize(&ada.subject, vec![birth]).await;
        assert_eq!(reason(&office.record(yes.clone()).await.unwrap_err()), "GUARDIAN_REQUIRED");
        let guardian = v1::RecordConsentRequest { actor: v1::ConsentActor::Guardian.into(), ..yes.clone() };
        let asked = office.record(guardian.clone()).await.unwrap();
        assert_eq!(asked[0].state(), v1::ConsentState::Pending);
        assert_eq!(office.answer(&ada.subject, NEWS).await, denied("NO_CONSENT"));
        let confirmed = v1::RecordConsentRequest { kind: v1::ConsentEventKind::Confirm.into(), ..guardian };
        office.record(confirmed).await.unwrap();
        assert_eq!(office.answer(&ada.subject, NEWS).await, allowed());
        assert!(office.check(&ada.subject, NEWS).await.valid_until.is_some(), "until they are sixteen");
        office.house.clock.advance(DAY * 366 * 3);
        assert_eq!(office.answer(&ada.subject, NEWS).await, denied("RECONFIRM_DUE"));
        office.record(yes).await.unwrap();
        assert_eq!(office.answer(&ada.subject, NEWS).await, allowed());
    }

    async fn a_late_yes_of_a_child_is_held_to_the_age_rule_that_there_was(house: House) {
        let mut office = Office::open(house).await;
        office.define_point("paper:desk", v1::CollectionPointKind::Paper).await;
        office.house.clock.advance(DAY);
        let rule = v1::Purpose { age_rule: true, ..purpose(NEWS) };
        office.define(rule, v1::VersionChange::Minor).await.unwrap();
        let under_the_rule = office.house.in_time(DAY);
        office.house.clock.advance(2 * DAY);
        office.define(purpose(NEWS), v1::VersionChange::Minor).await.unwrap();
        let ada = office.house.somebody("Ada").await;
        let late = v1::RecordConsentRequest {
            collection_point: "paper:desk".to_owned(),
            effective_time: Some(under_the_rule),
            ..office.yes(&ada.subject, NEWS).await
        };
        assert_eq!(fields_at_fault(&office.record(late.clone()).await.unwrap_err()), ["birth_date"]);
        let birth = crate::house::field(v1::FieldType::DateOfBirth, "2013-03-14");
        office.house.tokenize(&ada.subject, vec![birth]).await;
        assert_eq!(reason(&office.record(late).await.unwrap_err()), "GUARDIAN_REQUIRED");
        office.say(&ada.subject, NEWS, v1::ConsentEventKind::Give).await;
        assert_eq!(office.answer(&ada.subject, NEWS).await, allowed(), "today there is no rule");
    }

    async fn profiling_off_stops_what_profiles_and_nothing_else(house: House) {
        let mut office = Office::open(house).await;
        let persona = v1::Purpose { profiling: true, direct_marketing: false, ..purpose("marketing.persona") };
        office.define(persona, v1::VersionChange::Major).await.unwrap();
        let ada = office.house.somebody("Ada").await;
        office.say(&ada.subject, "marketing.persona", v1::ConsentEventKind::Give).await;
        assert_eq!(office.answer(&ada.subject, "marketing.persona").await, allowed());
        let off = v1::SetProfilingRequest { subject: ada.subject.clone(), enabled: false, etag: String::new() };
        office.house.subjects.set_profiling(off).await.unwrap();
        assert_eq!(office.answer(&ada.subject, "marketing.persona").await, denied("PROFILING_OFF"));
        assert_eq!(office.answer(&ada.subject, "customer_care").await, allowed());
    }

    async fn a_request_that_is_sent_twice_is_recorded_once_and_the_chain_holds(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await;
        let yes = office.yes(&ada.subject, NEWS).await;
        let evidence = v1::ConsentEvidence {
            kind: "form_hash".to_owned(),
            personal: "ada@example.com from 203.0.113.9".to_owned(),
            ..Default::default()
        };
        let once = v1::RecordConsentRequest {
            request_id: crate::asks::request_id(7),
            evidence: vec![evidence],
            ..yes
        };
        let first = office.record(once.clone()).await.unwrap();
        assert_eq!(office.record(once).await.unwrap(), first);
        office.say(&ada.subject, NEWS, v1::ConsentEventKind::Withdraw).await;
        let proof = first[0].evidence[0].token.clone();
        let shown = office.house.reveal(std::slice::from_ref(&proof), "legal_claims").await;
        assert_eq!(shown, [Ok("ada@example.com from 203.0.113.9".to_owned())]);
        office.house.erase(&ada.subject).await;
        let request = v1::ListConsentEventsRequest { subject: ada.subject.clone(), ..Default::default() };
        let events = office.door.list_consent_events(request).await.unwrap().into_inner().events;
        assert_eq!(events.len(), 2);
        assert!(events[0].previous_hash.is_empty() && events[1].previous_hash == events[0].hash);
        assert_eq!(office.house.reveal(&[proof], "legal_claims").await, [Err("SUBJECT_ERASED".to_owned())]);
        assert_eq!(office.answer(&ada.subject, NEWS).await, denied("SUBJECT_ERASED"));
        let late = v1::RecordConsentRequest {
            subject: ada.subject.clone(),
            purpose: NEWS.to_owned(),
            kind: v1::ConsentEventKind::Withdraw.into(),
            ..Default::default()
        };
        assert_eq!(reason(&office.record(late).await.unwrap_err()), "SUBJECT_ERASED");
    }
}
