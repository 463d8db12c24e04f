//! Consent: what people decide, and that reveals obey it.

use std::time::Duration;

use lacuna::proto::v1;
use lacuna::proto::v1::consent_service_client::ConsentServiceClient;
use tonic::{Code, Status};

use crate::asks::detokenize;
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
        let point = v1::CollectionPoint {
            collection_point: FORM.to_owned(),
            kind: v1::CollectionPointKind::WebForm.into(),
            ..Default::default()
        };
        let request = v1::DefineCollectionPointRequest { collection_point: Some(point) };
        office.door.define_collection_point(request).await.unwrap();
        office
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
}
