//! Withdrawing by a link: without a login, once, and of one consent only.

use lacuna::proto::v1;
use tonic::{Code, Status};

use crate::consents::{NEWS, OFFERS, Office, allowed, denied};
use crate::house::{House, on_both_stores, reason};
use crate::restore::Yesterday;

impl Office {
    async fn link(&mut self, subject: &str, purpose: &str) -> String {
        let request = v1::CreateWithdrawalLinkRequest {
            subject: subject.to_owned(),
            purpose: purpose.to_owned(),
            channel: v1::Channel::Email.into(),
        };
        self.door.create_withdrawal_link(request).await.unwrap().into_inner().link
    }

    async fn follow(&mut self, link: &str, purpose: &str) -> Result<v1::WithdrawByLinkResponse, Status> {
        let request = v1::WithdrawByLinkRequest { link: link.to_owned(), purpose: purpose.to_owned() };
        Ok(self.door.withdraw_by_link(request).await?.into_inner())
    }

    pub async fn events(&mut self, subject: &str) -> Vec<v1::ConsentEvent> {
        let request = v1::ListConsentEventsRequest { subject: subject.to_owned(), ..Default::default() };
        self.door.list_consent_events(request).await.unwrap().into_inner().events
    }
}

fn is_refused(outcome: Result<v1::WithdrawByLinkResponse, Status>, why: &str) {
    let refused = outcome.map(|answer| answer.purpose).expect_err(why);
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "LINK_INVALID"), "{why}");
}

on_both_stores! {
    async fn a_link_withdraws_one_consent_and_following_it_again_changes_nothing(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await;
        for purpose in [NEWS, OFFERS] {
            office.say(&ada.subject, purpose, v1::ConsentEventKind::Give).await;
        }
        let link = office.link(&ada.subject, NEWS).await;
        assert_eq!(office.reveal(&ada, NEWS).await, Ok(ada.email.clone()));
        let first = office.follow(&link, NEWS).await.unwrap();
        assert_eq!((first.purpose.as_str(), first.state()), (NEWS, v1::ConsentState::Withdrawn));
        assert_eq!(office.answer(&ada.subject, NEWS).await, denied("CONSENT_WITHDRAWN"));
        assert_eq!(office.reveal(&ada, NEWS).await, Err("CONSENT_WITHDRAWN".to_owned()));
        assert_eq!(office.answer(&ada.subject, OFFERS).await, allowed(), "the other consent stands");
        let events = office.events(&ada.subject).await;
        let last = events.last().unwrap();
        assert_eq!((last.kind(), last.method()), (v1::ConsentEventKind::Withdraw, v1::ConsentMethod::Link));
        assert_eq!((last.actor(), last.effective_time), (v1::ConsentActor::Subject, first.withdraw_time));

        assert_eq!(office.follow(&link, "").await.unwrap(), first, "the same answer");
        assert_eq!(office.events(&ada.subject).await, events, "and no second event");
        office.say(&ada.subject, NEWS, v1::ConsentEventKind::Give).await;
        assert_ne!(office.follow(&link, NEWS).await.unwrap(), first, "a new yes can be taken back by the old link");
        assert_eq!(office.answer(&ada.subject, NEWS).await, denied("CONSENT_WITHDRAWN"));
    }

    async fn a_link_that_is_altered_foreign_or_for_something_else_is_refused(house: House) {
        let mut office = Office::open(house).await;
        let bob = office.house.somebody("Bob").await;
        office.say(&bob.subject, NEWS, v1::ConsentEventKind::Give).await;
        let link = office.link(&bob.subject, NEWS).await;
        assert_ne!(office.link(&bob.subject, NEWS).await, link, "two links cannot be told to be of one person");
        assert_eq!(office.link(&bob.subject, "marketing.email").await.len(), link.len(), "their length tells no purpose");
        is_refused(office.follow(&link, OFFERS).await, "another purpose");
        let missing = office.follow("", "").await.unwrap_err();
        assert_eq!(missing.code(), Code::InvalidArgument, "there is nothing to say about no link");
        is_refused(office.follow("bm90IG91cnM", "").await, "something else");
        is_refused(office.follow(&format!("{link}="), "").await, "another spelling");
        is_refused(office.follow(&link[..link.len() - 4], "").await, "cut short");
        for at in [0, 30, 60, 100, link.len() - 4] {
            let mut altered = link.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            is_refused(office.follow(str::from_utf8(&altered).unwrap(), "").await, "altered");
        }
        let mut other = Office::open(House::on_sqlite().await).await;
        let carol = other.house.somebody("Carol").await;
        let foreign = other.link(&carol.subject, NEWS).await;
        is_refused(office.follow(&foreign, "").await, "of another vault");
        assert_eq!(office.answer(&bob.subject, NEWS).await, allowed());
        let request = v1::CreateWithdrawalLinkRequest {
            subject: bob.subject.clone(),
            purpose: "customer_care".to_owned(),
            ..Default::default()
        };
        let refused = office.door.create_withdrawal_link(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "there is no consent to withdraw");
    }

    async fn a_link_outlives_the_root_a_restored_backup_and_the_person(house: House) {
        let mut office = Office::open(house).await;
        let [ada, bob] = [office.house.somebody("Ada").await, office.house.somebody("Bob").await];
        let mut links = Vec::new();
        for person in [&ada, &bob] {
            office.say(&person.subject, NEWS, v1::ConsentEventKind::Give).await;
            links.push(office.link(&person.subject, NEWS).await);
        }
        office.house.stop().await;
        let yesterday = Yesterday::of(&office.house);
        office.house.reopen().await;
        // Puts another root in the place of the one that the links were made under.
        office.house.erase(&bob.subject).await;
        office.house.stop().await;
        yesterday.put_back(&office.house);
        office.house.reopen().await;
        office.door = office.house.consents().await;
        let before = office.events(&bob.subject).await;
        for _ in 0..2 {
            let gone = office.follow(&links[1], NEWS).await.unwrap();
            assert_eq!((gone.purpose.as_str(), gone.state()), (NEWS, v1::ConsentState::Withdrawn));
            let erased = office.house.subject(&bob.subject).await.erase_time;
            assert_eq!(gone.withdraw_time, erased, "since then nothing is permitted");
        }
        assert_eq!(office.events(&bob.subject).await, before);
        assert_eq!(office.follow(&links[0], NEWS).await.unwrap().state(), v1::ConsentState::Withdrawn);
        assert_eq!(office.answer(&ada.subject, NEWS).await, denied("CONSENT_WITHDRAWN"));
    }
}
