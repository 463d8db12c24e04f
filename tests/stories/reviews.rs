//! Which consents should be looked at, and what an auditor is told of all of them.

use std::time::Duration;

use lacuna::model::{Clock as _, Time};
use lacuna::proto::v1;
use lacuna::vault::audit::{Entry, Head, Touched};

use crate::asks::HOUR;
use crate::consents::{DAY, FORM, NEWS, OFFERS, Office, denied, notice, purpose};
use crate::house::on_both_stores;

const LETTER: &str = "marketing.letter";

fn days(count: u32) -> prost_types::Duration {
    prost_types::Duration { seconds: i64::from(count) * 86_400, nanos: 0 }
}

/// A consent that is due: whose, to what, and why.
type Found = (String, String, v1::ReviewReason);

impl Office {
    async fn due(&mut self, before: Option<prost_types::Timestamp>) -> Vec<Found> {
        let whole = self.due_in_pages(before, 0).await;
        assert_eq!(self.due_in_pages(before, 1).await, whole, "the same, one by one");
        whole
    }

    async fn due_in_pages(&mut self, before: Option<prost_types::Timestamp>, page_size: i32) -> Vec<Found> {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListDueForReviewRequest { before, page_size, page_token };
            let page = self.door.list_due_for_review(request).await.unwrap().into_inner();
            assert!(page_size == 0 || page.due.len() <= 1);
            found.extend(page.due.into_iter().map(|due| {
                let reason = due.reason();
                (due.subject, due.consent.unwrap().purpose, reason)
            }));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return found;
            }
        }
    }

    /// A purpose whose consents are reviewed after a year and end after two.
    async fn define_letter(&mut self) {
        let letter = v1::Purpose { review_after: Some(days(365)), expires_after: Some(days(730)), ..purpose(LETTER) };
        self.define(letter, v1::VersionChange::Major).await.unwrap();
    }

    /// The present version of a purpose.
    async fn present(&mut self, code: &str) -> v1::Purpose {
        let request = v1::GetPurposeRequest { code: code.to_owned(), version: 0 };
        self.door.get_purpose(request).await.unwrap().into_inner().purpose.unwrap()
    }

    /// Writes into the audit log, past the vault, that a value was revealed so long ago.
    async fn record_reveal(&self, subject: &str, purpose: &str, ago: Duration) {
        let now = self.house.clock.now();
        let time = Time::from_micros(now.micros() - i64::try_from(ago.as_micros()).unwrap());
        let touched = vec![Touched { subject: subject.to_owned().into(), outcome: "OK".into(), ..Touched::default() }];
        let entry = Entry {
            time: time.to_string(),
            caller: "somebody".to_owned(),
            deed: "Detokenize",
            purpose: purpose.to_owned(),
            touched,
            ..Entry::default()
        };
        let mut tx = self.house.running().vault.custody().store().write().await.unwrap();
        let head = Head::read(&mut *tx, [9; 16]).await.unwrap();
        head.append(&mut *tx, &[&entry], now).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn report(&mut self) -> v1::AuditConsentsResponse {
        self.door.audit_consents(v1::AuditConsentsRequest {}).await.unwrap().into_inner()
    }
}

fn counts(report: &v1::AuditConsentsResponse) -> Vec<(&str, v1::ConsentState, i64)> {
    report.counts.iter().map(|count| (count.purpose.as_str(), count.state(), count.count)).collect()
}

on_both_stores! {
    async fn consents_are_listed_before_their_review_and_their_end(house: House) {
        let mut office = Office::open(house).await;
        office.define_letter().await;
        let [ada, bob] = [office.house.somebody("Ada").await, office.house.somebody("Bob").await];
        office.say(&ada.subject, LETTER, v1::ConsentEventKind::Give).await;
        office.house.clock.advance(10 * DAY);
        office.say(&bob.subject, LETTER, v1::ConsentEventKind::Give).await;
        let found = |who: &str, why| (who.to_owned(), LETTER.to_owned(), why);
        assert_eq!(office.due(None).await, []);
        office.house.clock.advance(330 * DAY);
        let ada_review = found(&ada.subject, v1::ReviewReason::Review);
        assert_eq!(office.due(None).await, std::slice::from_ref(&ada_review), "25 days ahead, and the other 35");
        let later = Some(office.house.in_time(60 * DAY));
        let bob_review = found(&bob.subject, v1::ReviewReason::Review);
        assert_eq!(office.due(later).await, [ada_review, bob_review.clone()], "in the order of time");
        office.say(&ada.subject, LETTER, v1::ConsentEventKind::Renew).await;
        assert_eq!(office.due(later).await, std::slice::from_ref(&bob_review), "what was renewed is not due");

        office.house.clock.advance(380 * DAY);
        let ends = Some(office.house.in_time(30 * DAY));
        assert!(office.due(ends).await.contains(&bob_review), "it was never reviewed");
        office.house.clock.advance(30 * DAY);
        assert_eq!(office.answer(&bob.subject, LETTER).await, denied("CONSENT_EXPIRED"));
        assert_eq!(office.due(None).await, [found(&ada.subject, v1::ReviewReason::Review)], "what is over is over");
        let report = office.report().await;
        assert_eq!(
            counts(&report),
            [(LETTER, v1::ConsentState::Renewed, 1), (LETTER, v1::ConsentState::Expired, 1)]
        );
    }

    async fn an_end_is_listed_when_no_review_comes_first(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await;
        let short = v1::Purpose { expires_after: Some(days(40)), ..purpose(LETTER) };
        office.define(short, v1::VersionChange::Major).await.unwrap();
        office.say(&ada.subject, LETTER, v1::ConsentEventKind::Give).await;
        assert_eq!(office.due(None).await, []);
        office.house.clock.advance(15 * DAY);
        let ending = (ada.subject.clone(), LETTER.to_owned(), v1::ReviewReason::Expiry);
        assert_eq!(office.due(None).await, std::slice::from_ref(&ending));
        let sooner = v1::Purpose { review_after: Some(days(20)), ..office.present(LETTER).await };
        office.define(sooner, v1::VersionChange::Minor).await.unwrap();
        let reviewed = (ending.0, ending.1, v1::ReviewReason::Review);
        assert_eq!(office.due(None).await, [reviewed], "a period that was changed counts for consents given before");
    }

    async fn a_major_change_makes_consents_due_of_all_but_the_erased(house: House) {
        let mut office = Office::open(house).await;
        let mut people = Vec::new();
        for name in ["Ada", "Bob", "Eve"] {
            let somebody = office.house.somebody(name).await;
            office.say(&somebody.subject, NEWS, v1::ConsentEventKind::Give).await;
            people.push(somebody.subject);
        }
        office.say(&people[0], OFFERS, v1::ConsentEventKind::Refuse).await;
        office.house.clock.advance(DAY);
        office.publish(notice(), v1::VersionChange::Minor).await;
        assert_eq!(office.due(None).await, []);
        office.house.clock.advance(DAY);
        office.publish(notice(), v1::VersionChange::Major).await;
        office.house.erase(&people[2]).await;
        office.say(&people[1], NEWS, v1::ConsentEventKind::Renew).await;
        let asked_anew = (people[0].clone(), NEWS.to_owned(), v1::ReviewReason::Reconfirm);
        assert_eq!(office.due(None).await, [asked_anew]);
        let report = office.report().await;
        let expected = [
            (NEWS, v1::ConsentState::Renewed, 1),
            (NEWS, v1::ConsentState::ReconfirmDue, 1),
            (OFFERS, v1::ConsentState::Refused, 1),
        ];
        assert_eq!(counts(&report), expected);
    }

    async fn an_auditor_learns_of_reveals_after_a_consent_had_ended(house: House) {
        let mut office = Office::open(house).await;
        office.define_letter().await;
        let ada = office.house.somebody("Ada").await;
        for purpose in [NEWS, LETTER] {
            office.say(&ada.subject, purpose, v1::ConsentEventKind::Give).await;
            assert_eq!(office.reveal(&ada, purpose).await, Ok(ada.email.clone()));
        }
        office.house.clock.advance(DAY);
        office.reveal(&ada, NEWS).await.unwrap();
        office.say(&ada.subject, NEWS, v1::ConsentEventKind::Withdraw).await;
        office.house.clock.advance(DAY);
        assert_eq!(office.reveal(&ada, NEWS).await, Err("CONSENT_WITHDRAWN".to_owned()));
        assert_eq!(office.report().await.reveals_after_end, 0, "what came before the end, and what was refused");

        // A vault that reveals against its own ledger: nothing but the log could tell.
        office.record_reveal(&ada.subject, NEWS, HOUR).await;
        office.record_reveal(&ada.subject, "customer_care", HOUR).await;
        office.record_reveal(&ada.subject, LETTER, HOUR).await;
        assert_eq!(office.report().await.reveals_after_end, 1, "the contract and the other consent went on");
        office.record_reveal(&ada.subject, NEWS, DAY + HOUR).await;
        assert_eq!(office.report().await.reveals_after_end, 1, "an hour before the withdrawal");
        office.say(&ada.subject, NEWS, v1::ConsentEventKind::Give).await;
        office.house.clock.advance(DAY);
        office.reveal(&ada, NEWS).await.unwrap();
        assert_eq!(office.report().await.reveals_after_end, 1, "a new yes makes the new reveal good, not the old one");
        office.house.erase(&ada.subject).await;
        assert_eq!(office.report().await.reveals_after_end, 1, "what was done is not undone by an erasure");
        office.house.clock.advance(31 * DAY);
        assert_eq!(office.report().await.reveals_after_end, 0, "30 days are looked at");
        let bob = office.house.somebody("Bob").await;
        office.say(&bob.subject, LETTER, v1::ConsentEventKind::Give).await;
        office.house.clock.advance(731 * DAY);
        office.record_reveal(&bob.subject, LETTER, 2 * DAY).await;
        office.record_reveal(&bob.subject, LETTER, HOUR).await;
        assert_eq!(office.report().await.reveals_after_end, 1, "after it had expired");
    }

    async fn a_paper_that_is_entered_later_does_not_make_a_wrong_reveal_good(house: House) {
        let mut office = Office::open(house).await;
        office.define_point("paper:desk", v1::CollectionPointKind::Paper).await;
        let ada = office.house.somebody("Ada").await;
        office.say(&ada.subject, NEWS, v1::ConsentEventKind::Give).await;
        office.house.clock.advance(DAY);
        office.say(&ada.subject, NEWS, v1::ConsentEventKind::Withdraw).await;
        let withdrawn = office.house.in_time(HOUR);
        office.house.clock.advance(DAY);
        office.record_reveal(&ada.subject, NEWS, HOUR).await;
        assert_eq!(office.report().await.reveals_after_end, 1);
        let paper = v1::RecordConsentRequest {
            collection_point: "paper:desk".to_owned(),
            effective_time: Some(withdrawn),
            ..office.yes(&ada.subject, NEWS).await
        };
        office.record(paper).await.unwrap();
        office.reveal(&ada, NEWS).await.unwrap();
        assert_eq!(office.report().await.reveals_after_end, 1, "nobody knew of the paper then");
    }

    async fn an_auditor_learns_of_bad_methods_missing_notices_and_silent_points(house: House) {
        let mut office = Office::open(house).await;
        let [ada, bob] = [office.house.somebody("Ada").await, office.house.somebody("Bob").await];
        office.define_point("import:old", v1::CollectionPointKind::Import).await;
        let assumed = v1::RecordConsentRequest {
            method: v1::ConsentMethod::Assumed.into(),
            collection_point: "import:old".to_owned(),
            ..office.yes(&ada.subject, NEWS).await
        };
        office.record(assumed).await.unwrap();
        // The configuration's own purpose has no notice.
        let bare = v1::RecordConsentRequest {
            purpose: "marketing.email".to_owned(),
            notice: String::new(),
            notice_sha256: Vec::new(),
            ..office.yes(&bob.subject, NEWS).await
        };
        office.record(bare).await.unwrap();
        let report = office.report().await;
        assert_eq!((report.invalid_methods, report.without_notice), (1, 1));
        assert_eq!(report.purposes_without_notice, ["marketing.email"]);
        assert_eq!(report.silent_collection_points, Vec::<String>::new());
        office.house.clock.advance(29 * DAY);
        office.say(&ada.subject, OFFERS, v1::ConsentEventKind::Give).await;
        office.house.clock.advance(2 * DAY + Duration::from_hours(1));
        assert_eq!(office.report().await.silent_collection_points, ["import:old"], "{FORM} was used two days ago");
    }
}
