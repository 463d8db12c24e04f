//! The switch of profiling: off, it destroys what was inferred about the person, in every backup too.

use std::fs;

use lacuna::keys::adversary::Spoils;
use lacuna::model::{FieldType as Kind, SubjectId, Token};
use lacuna::proto::v1;
use lacuna::proto::v1::FieldType::{self, Score};
use tonic::Code;

use crate::asks::{CARE, correct, metadata, text, tokenize};
use crate::hoard::{Hoard, keys_now};
use crate::house::{House, field, fields_at_fault, on_both_stores, reason};
use crate::restore::Yesterday;

impl House {
    async fn profile(&mut self, subject: &str, enabled: bool) -> v1::SetProfilingResponse {
        let request = v1::SetProfilingRequest { subject: subject.to_owned(), enabled, ..Default::default() };
        self.subjects.set_profiling(request).await.unwrap().into_inner()
    }

    /// Keeps a score for a person, in a class; answers its token.
    async fn score(&mut self, subject: &str, class: &str, value: &str) -> String {
        let score = v1::FieldInput { retention_class: class.to_owned(), ..field(Score, value) };
        self.one(subject, score).await.token
    }

    async fn state(&mut self, token: &str) -> v1::TokenState {
        self.token(token).await.state()
    }
}

fn purged(count: usize) -> Vec<Result<String, String>> {
    vec![Err("VALUE_PURGED".to_owned()); count]
}

/// What of a person's values a copy gives away, scores and others.
fn read(spoils: &Spoils, subject: &str) -> (usize, usize) {
    let id = SubjectId::parse(subject).unwrap();
    let read: Vec<&Token> = spoils.values().map(|(token, _)| token).filter(|token| token.subject == id).collect();
    let scores = read.iter().filter(|token| token.kind == Kind::Score).count();
    (scores, read.len() - scores)
}

on_both_stores! {
    async fn switching_off_destroys_the_scores_of_one_person_in_every_copy(house: House) {
        let mut house = house;
        let [ada, bob] = [house.somebody("Ada").await, house.somebody("Bob").await];
        let mut scores = vec![house.score(&ada.subject, "", "0.75").await];
        scores.push(house.score(&ada.subject, "credit", "612").await);
        let other = house.score(&bob.subject, "", "0.5").await;
        assert_eq!(house.reveal(&scores, CARE).await, [Ok("0.75".to_owned()), Ok("612".to_owned())]);
        let mut hoard = Hoard::default();
        hoard.collect(&house, "before").await;
        let spoils = hoard.spoils(keys_now(&house).await);
        assert_eq!([read(&spoils, &ada.subject), read(&spoils, &bob.subject)], [(2, 3), (1, 3)], "the copy opens");
        let epoch = house.keys().await.epoch;
        house.stop().await;
        let yesterday = Yesterday::of(&house);
        house.reopen().await;

        let off = house.profile(&ada.subject, false).await;
        assert_eq!((off.scores_destroyed, off.pending_reason.as_str()), (2, ""));
        assert!(!off.subject.unwrap().profiling);
        assert!(house.keys().await.epoch > epoch, "the root has changed before it answers");
        assert_eq!(house.reveal(&scores, CARE).await, purged(2));
        assert_eq!(house.reveal(&ada.tokens, CARE).await, ada.values(), "nothing else is touched");
        assert_eq!(house.reveal(std::slice::from_ref(&other), CARE).await, [Ok("0.5".to_owned())]);
        assert_eq!(house.state(&scores[0]).await, v1::TokenState::Purged);
        hoard.collect(&house, "after").await;
        let spoils = hoard.spoils(keys_now(&house).await);
        assert_eq!([read(&spoils, &ada.subject), read(&spoils, &bob.subject)], [(0, 3), (1, 3)], "in no copy");

        house.go_back(&yesterday).await;
        assert_eq!(house.reveal(&scores, CARE).await, purged(2), "the journal tells the backup");
        assert_eq!(house.state(&scores[0]).await, v1::TokenState::Purged);
        assert_eq!(house.reveal(&ada.tokens, CARE).await, ada.values());
        assert_eq!(house.reveal(&[other], CARE).await, [Ok("0.5".to_owned())]);
    }

    async fn switching_off_without_scores_changes_no_key(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let epoch = house.keys().await.epoch;
        let off = house.profile(&ada.subject, false).await;
        assert_eq!((off.scores_destroyed, off.pending_reason.as_str()), (0, ""));
        assert_eq!(house.keys().await.epoch, epoch);
    }

    async fn what_was_destroyed_stays_so_and_new_scores_can_be_kept(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let old = house.score(&ada.subject, "", "0.75").await;
        house.profile(&ada.subject, false).await;
        let again = house.profile(&ada.subject, false).await;
        assert_eq!((again.scores_destroyed, again.pending_reason.as_str()), (0, ""));
        house.profile(&ada.subject, true).await;
        assert_eq!(house.reveal(std::slice::from_ref(&old), CARE).await, purged(1));
        let refused = house.tokens.update_token(correct(&old, "0.9")).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "VALUE_PURGED"));
        assert_eq!(metadata(&refused)["token"], old);
        let new = house.score(&ada.subject, "", "0.2").await;
        assert_eq!(house.reveal(std::slice::from_ref(&new), CARE).await, [Ok("0.2".to_owned())]);
        house.profile(&ada.subject, false).await;
        assert_eq!(house.reveal(&[old.clone(), new], CARE).await, purged(2));
        let request = v1::DeleteTokenRequest { token: old.clone(), ..Default::default() };
        house.tokens.delete_token(request).await.unwrap();
        assert_eq!(house.reveal(&[old], CARE).await, [Err("TOKEN_UNKNOWN".to_owned())]);
        assert_eq!(house.erase(&ada.subject).await.state(), v1::ErasureState::Shredded);
    }

    async fn scores_are_in_classes_where_nothing_else_is(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        for (asked, kept) in [("", "score/default"), ("credit", "score/credit"), ("score/credit", "score/credit")] {
            let token = house.score(&ada.subject, asked, "1").await;
            assert_eq!(house.token(&token).await.retention_class, kept);
        }
        let beside = v1::FieldInput { retention_class: "score/credit".to_owned(), ..text("no score") };
        let refused = house.tokens.tokenize(tokenize(&ada.subject, vec![text("x"), beside])).await.unwrap_err();
        assert_eq!(reason(&refused), "VALUE_INVALID");
        assert_eq!(fields_at_fault(&refused), ["fields[1].retention_class"]);
        let about = v1::FieldInput { retention_class: "scores".to_owned(), ..field(FieldType::Text, "about scores") };
        assert_eq!(house.one(&ada.subject, about).await.retention_class, "scores");
    }

    async fn scores_of_a_restricted_person_stay_unread_until_that_is_lifted(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        let score = [house.score(&ada.subject, "", "0.75").await];
        let restrict = v1::RestrictSubjectRequest {
            subject: ada.subject.clone(),
            ground: "needed_for_claims".to_owned(),
            ..Default::default()
        };
        house.subjects.restrict_subject(restrict).await.unwrap();
        assert_eq!(house.reveal(&score, "legal_claims").await, [Ok("0.75".to_owned())]);
        let off = house.profile(&ada.subject, false).await;
        assert_eq!(off.scores_destroyed, 0);
        assert!(off.pending_reason.contains("Art. 18"), "{}", off.pending_reason);
        assert_eq!(house.reveal(&score, "legal_claims").await, [Err("PROFILING_OFF".to_owned())]);
        let lift = v1::LiftRestrictionRequest {
            subject: ada.subject.clone(),
            subject_informed_time: Some(house.in_time(std::time::Duration::ZERO)),
            ..Default::default()
        };
        let epoch = house.keys().await.epoch;
        house.subjects.lift_restriction(lift).await.unwrap();
        assert_eq!(house.reveal(&score, "legal_claims").await, purged(1));
        assert!(house.keys().await.epoch > epoch);
    }

    async fn what_waits_for_a_custodian_is_told_and_goes_on(house: House) {
        let mut house = house;
        let [ada, bob] = [house.somebody("Ada").await, house.somebody("Bob").await];
        let scores = [house.score(&ada.subject, "", "0.75").await, house.score(&bob.subject, "", "0.5").await];
        let mut hoard = Hoard::default();
        hoard.collect(&house, "before").await;
        let checkpoints = house.config.data_dir().join("checkpoints");
        let away = house.home().join("away");
        fs::rename(&checkpoints, &away).unwrap();
        fs::write(&checkpoints, "no directory").unwrap();
        for (person, destroyed) in [(&ada, 1), (&ada, 0), (&bob, 1)] {
            let off = house.profile(&person.subject, false).await;
            assert_eq!(off.scores_destroyed, destroyed);
            assert!(off.pending_reason.contains("checkpoints"), "{}", off.pending_reason);
        }
        assert_eq!(house.reveal(&scores, CARE).await, purged(2), "at once, whatever holds the keys");
        fs::remove_file(&checkpoints).unwrap();
        fs::rename(&away, &checkpoints).unwrap();
        let off = house.profile(&ada.subject, false).await;
        assert_eq!((off.scores_destroyed, off.pending_reason.as_str()), (0, ""));
        // Upkeep may be changing the root as well.
        house.reopen().await;
        hoard.collect(&house, "after").await;
        let spoils = hoard.spoils(keys_now(&house).await);
        assert_eq!([read(&spoils, &ada.subject), read(&spoils, &bob.subject)], [(0, 3), (0, 3)]);
    }

    async fn nobody_has_to_ask_again(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada").await;
        house.score(&ada.subject, "", "0.75").await;
        let checkpoints = house.config.data_dir().join("checkpoints");
        let away = house.home().join("away");
        fs::rename(&checkpoints, &away).unwrap();
        fs::write(&checkpoints, "no directory").unwrap();
        assert_ne!(house.profile(&ada.subject, false).await.pending_reason, "");
        house.running().vault.upkeep().await.unwrap();
        fs::remove_file(&checkpoints).unwrap();
        fs::rename(&away, &checkpoints).unwrap();
        let epoch = house.keys().await.epoch;
        house.running().vault.upkeep().await.unwrap();
        assert!(house.keys().await.epoch > epoch);
        assert_eq!(house.profile(&ada.subject, false).await.pending_reason, "");
    }
}
