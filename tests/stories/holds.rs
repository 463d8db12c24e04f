//! Legal holds: copies that a case needs outlast whatever becomes of the values, open for two people together, and are noise
//! once the hold is released.

use futures_util::future::join_all;
use lacuna::keys::adversary::Spoils;
use lacuna::keys::receipt::{self, Kind};
use lacuna::model::{SubjectId, Verdict};
use lacuna::proto::v1;
use tonic::{Code, Status};

use crate::asks::{CARE, all_refused, correct, detokenize, erase, metadata, request_id};
use crate::claims::{NUMBER, claim};
use crate::events;
use crate::hoard::{Hoard, keys_now};
use crate::house::{House, Somebody, fields_at_fault, on_both_stores, reason};
use crate::kept::{AUTHORITY, CLAIMS, open, requested};
use crate::policies::{as_member, entries, with_roles};
use crate::process::{Place, lacuna, run, said};
use crate::restore::Yesterday;
use crate::rotating::{assert_done, ended};

const MATTER: &str = "smith-v-acme";

/// A hold over people.
pub fn over(subjects: &[&str]) -> v1::PlaceHoldRequest {
    v1::PlaceHoldRequest {
        matter: MATTER.to_owned(),
        subjects: subjects.iter().map(|id| (*id).to_owned()).collect(),
        basis: "GDPR Art. 17(3)(e)".to_owned(),
        ..Default::default()
    }
}

/// A hold over tokens.
fn over_tokens(tokens: &[String]) -> v1::PlaceHoldRequest {
    v1::PlaceHoldRequest { tokens: tokens.to_vec(), ..over(&[]) }
}

pub fn release(hold: &str) -> v1::ReleaseHoldRequest {
    v1::ReleaseHoldRequest { hold: hold.to_owned(), reason: "settled".to_owned(), ..Default::default() }
}

impl House {
    async fn try_hold(&self, ask: v1::PlaceHoldRequest) -> Result<v1::Hold, Status> {
        Ok(self.retention().await.place_hold(ask).await?.into_inner().hold.unwrap())
    }

    pub async fn hold(&self, ask: v1::PlaceHoldRequest) -> v1::Hold {
        self.try_hold(ask).await.unwrap()
    }

    async fn try_release(&self, ask: v1::ReleaseHoldRequest) -> Result<v1::ReleaseHoldResponse, Status> {
        Ok(self.retention().await.release_hold(ask).await?.into_inner())
    }

    async fn release(&self, hold: &v1::Hold) -> v1::ReleaseHoldResponse {
        let released = self.try_release(release(&hold.hold)).await.unwrap();
        assert_eq!(
            (released.pending_reason.as_str(), released.hold.as_ref().unwrap().state()),
            ("", v1::HoldState::Released)
        );
        released
    }

    async fn holds(&self, ask: v1::ListHoldsRequest) -> Vec<v1::Hold> {
        self.retention().await.list_holds(ask).await.unwrap().into_inner().holds
    }

    /// What the journal has to tell is in the sinks.
    async fn write_journal(&self) {
        self.running().vault.ship_journal().await.unwrap();
    }
}

/// Subject, copies and losses.
fn kept(hold: &v1::Hold) -> Vec<(&str, i64, i64)> {
    hold.subjects.iter().map(|held| (held.subject.as_str(), held.values, held.lost)).collect()
}

/// Copies open for claims and authorities, each time with an approval, and for nothing else.
async fn assert_held(house: &mut House, tokens: &[String], values: &[Result<String, String>], otherwise: &str) {
    for purpose in [AUTHORITY, CLAIMS] {
        let (shown, approval) = open(house, tokens, purpose).await;
        assert_eq!(shown, values, "{purpose}");
        assert!(approval.is_some(), "{purpose}: nobody has approved it");
    }
    for purpose in [CARE, "order_confirmation"] {
        assert_eq!(house.reveal(tokens, purpose).await, all_refused(tokens.len(), otherwise), "{purpose}");
    }
}

/// How many values of a person copies give away: all, and those that a hold keeps.
fn read(spoils: &Spoils, subject: &str) -> (usize, usize) {
    let id = SubjectId::parse(subject).unwrap();
    let own: Vec<_> = spoils.values().filter(|(token, _)| token.subject == id).collect();
    (own.len(), own.iter().filter(|(token, _)| token.class.starts_with("hold/")).count())
}

/// Verdict, reason and count of what an erasure plans for a matter.
fn planned(erasure: &v1::Erasure) -> Vec<(&str, &str, &str, u64)> {
    let items = erasure.plan.iter().filter(|item| !item.reason.is_empty());
    items
        .map(|item| {
            assert!(item.end_time.is_none(), "no time ends it");
            (item.retention_class.as_str(), item.verdict.as_str(), item.reason.as_str(), item.count)
        })
        .collect()
}

async fn delete(house: &mut House, token: &str) {
    let ask = v1::DeleteTokenRequest { token: token.to_owned(), ..Default::default() };
    house.tokens.delete_token(ask).await.unwrap();
}

/// A vault with a supervisor, and two people.
async fn with_two(house: &mut House) -> [Somebody; 2] {
    with_roles(house, &["supervisor", "contact-centre-agent"]).await;
    [house.somebody("Ada").await, house.somebody("Bob").await]
}

on_both_stores! {
    async fn what_a_case_needs_outlasts_an_erasure_until_the_hold_is_released(house: House) {
        let mut house = house;
        let [ada, bob] = with_two(&mut house).await;
        let before = house.everything().await;
        let looked = house.hold(v1::PlaceHoldRequest { validate_only: true, ..over(&[&ada.subject]) }).await;
        assert_eq!((looked.hold.as_str(), kept(&looked)), ("", vec![(ada.subject.as_str(), 3, 0)]));
        assert_eq!(house.everything().await, before, "nothing was changed");

        let hold = house.hold(over(&[&ada.subject])).await;
        assert_eq!((hold.state(), hold.matter.as_str(), hold.by_token), (v1::HoldState::Active, MATTER, false));
        assert_eq!(kept(&hold), [(ada.subject.as_str(), 3, 0)]);
        assert_eq!(house.reveal(&ada.tokens, CARE).await, ada.values(), "nothing is frozen");
        assert_eq!(open(&mut house, &ada.tokens, CLAIMS).await, (ada.values(), None), "of the living no approval is asked");
        let mut hoard = Hoard::default();
        hoard.collect(&house, "held").await;
        assert_eq!(read(&hoard.spoils(keys_now(&house).await), &ada.subject), (6, 3), "the copy opens");
        house.stop().await;
        let yesterday = Yesterday::of(&house);
        house.reopen().await;

        let shown = v1::EraseSubjectRequest { validate_only: true, ..erase(&ada.subject) };
        let shown = house.subjects.erase_subject(shown).await.unwrap().into_inner().erasure.unwrap();
        let done = house.erase(&ada.subject).await;
        assert_eq!(done.state(), v1::ErasureState::Shredded);
        let plan = [("hold/smith-v-acme", "KEEP_RESTRICTED", "LEGAL_HOLD", 3)];
        assert_eq!((planned(&shown), planned(&done)), (plan.to_vec(), plan.to_vec()));
        let said = receipt::verify(&done.receipt, None).unwrap().statement;
        let told: Vec<_> = said.plan.iter().filter(|item| item.verdict == Verdict::KeepRestricted).collect();
        assert_eq!((told.len(), told[0].count, told[0].reason.as_deref()), (1, 3, Some("LEGAL_HOLD")));
        let found = house.verified(&done).await;
        assert!(found.holds, "{found:?}");
        assert_held(&mut house, &ada.tokens, &ada.values(), "SUBJECT_ERASED").await;
        assert_eq!(house.find(v1::FieldType::Email, &ada.email).await, Vec::<String>::new());
        hoard.collect(&house, "erased").await;
        assert_eq!(read(&hoard.spoils(keys_now(&house).await), &ada.subject), (3, 3), "in no copy but what is held");

        house.go_back(&yesterday).await;
        assert_eq!(house.running().report.erasures_reapplied, 1);
        assert_held(&mut house, &ada.tokens, &ada.values(), "SUBJECT_ERASED").await;
        let again = house.erasure(&done.erasure).await;
        assert_eq!(planned(&again), plan);
        assert!(house.verified(&again).await.holds);

        let released = house.release(&hold).await;
        let said = receipt::verify(&released.receipt, None).unwrap().statement;
        assert_eq!((said.kind, said.hold.as_str(), said.reason.as_str()), (Kind::Hold, hold.hold.as_str(), "settled"));
        assert_eq!((said.plan.len(), said.plan[0].count, said.plan[0].verdict), (1, 3, Verdict::Destroy));
        for purpose in [AUTHORITY, CLAIMS, CARE] {
            assert_eq!(house.reveal(&ada.tokens, purpose).await, all_refused(3, "SUBJECT_ERASED"), "{purpose}");
        }
        assert!(house.verified(&again).await.holds);
        hoard.collect(&house, "released").await;
        assert_eq!(read(&hoard.spoils(keys_now(&house).await), &ada.subject), (0, 0), "in no copy");
        house.write_journal().await;
        house.go_back(&yesterday).await;
        assert_eq!(house.reveal(&ada.tokens, CLAIMS).await, all_refused(3, "SUBJECT_ERASED"), "nor after a restore");
        assert_eq!(house.holds(v1::ListHoldsRequest::default()).await[0].state(), v1::HoldState::Released);
        assert_eq!(house.reveal(&bob.tokens, CARE).await, bob.values());
    }

    async fn copies_of_tokens_outlast_their_correction_deletion_and_end(house: House) {
        let mut house = house;
        let [ada, bob] = with_two(&mut house).await;
        house.define("orders", "P1M").await;
        let ends = house.keep_in("orders", &ada.subject, &["ends@example.org"]).await;
        let asked = [ada.tokens[0].clone(), ada.tokens[1].clone(), bob.tokens[0].clone(), ends[0].clone()];
        let hold = house.hold(over_tokens(&asked)).await;
        let mut told = kept(&hold);
        told.sort_unstable();
        let mut expected = vec![(ada.subject.as_str(), 3, 0), (bob.subject.as_str(), 1, 0)];
        expected.sort_unstable();
        assert_eq!((told, hold.by_token), (expected, true));

        delete(&mut house, &asked[0]).await;
        house.tokens.update_token(correct(&asked[1], "+49 30 1112223")).await.unwrap();
        house.clock.advance(std::time::Duration::from_hours(24 * 70));
        assert_eq!(house.end_retention().await.len(), 1);
        assert_held(&mut house, &asked[..1], &ada.values()[..1], "TOKEN_UNKNOWN").await;
        assert_held(&mut house, &asked[3..], &[Ok("ends@example.org".to_owned())], "RETENTION_ENDED").await;
        let corrected = [Ok("+49 30 1112223".to_owned())];
        assert_eq!(house.reveal(&asked[1..2], CLAIMS).await, corrected, "what is there is shown as it is");
        // A rotation of the person's keys leaves the copies as they are.
        let rotate = v1::RotateSubjectKeyRequest { subject: ada.subject.clone(), ..Default::default() };
        let mut keys = house.key_service().await;
        let rotation = keys.rotate_subject_key(rotate).await.unwrap().into_inner().rotation;
        assert_done(&ended(&mut keys, rotation).await);
        assert_held(&mut house, &asked[3..], &[Ok("ends@example.org".to_owned())], "RETENTION_ENDED").await;
        house.erase(&ada.subject).await;
        let values: Vec<_> = ada.values()[..2].to_vec();
        assert_held(&mut house, &asked[..2], &values, "SUBJECT_ERASED").await;
        assert_eq!(house.reveal(&ada.tokens[2..], CLAIMS).await, all_refused(1, "SUBJECT_ERASED"), "it was not named");
        assert_eq!(house.end_retention().await, [], "a sweep leaves it");
        house.release(&hold).await;
        assert_eq!(house.reveal(&asked[..1], CLAIMS).await, all_refused(1, "SUBJECT_ERASED"));
        assert_eq!(house.reveal(&bob.tokens, CARE).await, bob.values(), "who is not erased keeps what they have");
    }

    async fn what_is_held_of_an_unknown_caller_stays_when_somebody_takes_them_over(house: House) {
        let mut house = house;
        let [ada, _] = with_two(&mut house).await;
        let unknown = house.a_noted_call("1.1").await.parties[0].subject.clone();
        let tokens = house.find(v1::FieldType::Phone, NUMBER).await;
        let hold = house.hold(over(&[&unknown])).await;
        let claimed = house.try_claim(claim(&unknown, &ada.subject)).await.unwrap();
        assert_eq!(planned(&claimed.erasure.unwrap()), [("hold/smith-v-acme", "KEEP_RESTRICTED", "LEGAL_HOLD", 4)]);
        assert_eq!(house.reveal(&tokens, CARE).await, [Ok(NUMBER.to_owned())]);
        house.erase(&ada.subject).await;
        assert_held(&mut house, &tokens, &[Ok(NUMBER.to_owned())], "SUBJECT_ERASED").await;
        house.release(&hold).await;
        assert_eq!(house.reveal(&tokens, CLAIMS).await, all_refused(1, "SUBJECT_ERASED"));
    }

    async fn the_copy_of_what_may_be_shown_once_is_shown_as_often_as_that_is_approved(house: House) {
        let mut house = house;
        let [ada, _] = with_two(&mut house).await;
        let once = v1::FieldInput { single_use: true, ..crate::asks::text("once") };
        let expires = v1::FieldInput { expire_time: Some(house.in_time(crate::asks::HOUR)), ..crate::asks::text("soon") };
        let tokens = house.tokenize(&ada.subject, vec![once, expires]).await.1;
        assert_eq!(house.reveal(&tokens[..1], CARE).await, [Ok("once".to_owned())]);
        house.hold(over_tokens(&tokens)).await;
        house.clock.advance(2 * crate::asks::HOUR);
        for purpose in [CLAIMS, AUTHORITY, CLAIMS] {
            let (shown, approval) = open(&mut house, &tokens, purpose).await;
            assert_eq!(shown, ["once", "soon"].map(|value| Ok(value.to_owned())), "{purpose}");
            assert!(approval.is_some(), "{purpose}");
        }
        assert_eq!(house.reveal(&tokens[..1], CARE).await, all_refused(1, "TOKEN_SPENT"));
        assert_eq!(house.reveal(&tokens[1..], CARE).await, all_refused(1, "TOKEN_EXPIRED"));
    }

    async fn a_hold_ends_when_the_last_of_its_matter_is_released(house: House) {
        let mut house = house;
        let [ada, _] = with_two(&mut house).await;
        let [first, second] = [house.hold(over(&[&ada.subject])).await, house.hold(over(&[&ada.subject])).await];
        let done = house.erase(&ada.subject).await;
        assert_eq!(planned(&done), [("hold/smith-v-acme", "KEEP_RESTRICTED", "LEGAL_HOLD", 6)]);
        house.release(&first).await;
        assert_held(&mut house, &ada.tokens, &ada.values(), "SUBJECT_ERASED").await;
        assert!(house.verified(&done).await.holds);
        house.release(&second).await;
        assert_eq!(house.reveal(&ada.tokens, CLAIMS).await, all_refused(3, "SUBJECT_ERASED"));
        let refused = house.try_release(release(&first.hold)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "HOLD_RELEASED"));
        assert_eq!(metadata(&refused)["hold"], first.hold);
    }

    async fn a_request_that_is_sent_twice_holds_once(house: House) {
        let mut house = house;
        let [ada, bob] = with_two(&mut house).await;
        let ask = v1::PlaceHoldRequest { request_id: request_id(1), ..over(&[&ada.subject, &bob.subject]) };
        let all = join_all((0..4).map(|_| house.try_hold(ask.clone()))).await;
        let all: Vec<v1::Hold> = all.into_iter().map(Result::unwrap).collect();
        assert!(all.iter().all(|hold| *hold == all[0]), "{all:?}");
        let other = v1::PlaceHoldRequest { subjects: vec![bob.subject.clone(), ada.subject.clone()], ..ask.clone() };
        assert_eq!(house.hold(other).await, all[0], "in whichever order");
        for other in [
            v1::PlaceHoldRequest { matter: "jones".to_owned(), ..ask.clone() },
            v1::PlaceHoldRequest { basis: "CASE-8".to_owned(), ..ask.clone() },
            v1::PlaceHoldRequest { subjects: vec![ada.subject.clone()], ..ask.clone() },
            v1::PlaceHoldRequest { tokens: ada.tokens.clone(), subjects: Vec::new(), ..ask.clone() },
        ] {
            assert_eq!(reason(&house.try_hold(other).await.unwrap_err()), "REQUEST_MISMATCH");
        }
        assert_eq!(house.holds(v1::ListHoldsRequest::default()).await, all[..1]);
        house.erase(&ada.subject).await;
        assert_eq!(house.hold(ask).await, all[0], "also when one was erased since");

        let ask = v1::ReleaseHoldRequest { request_id: request_id(2), ..release(&all[0].hold) };
        let released = join_all((0..4).map(|_| house.try_release(ask.clone()))).await;
        let released: Vec<_> = released.into_iter().map(Result::unwrap).collect();
        assert!(released.iter().all(|one| one.run == released[0].run && !one.run.is_empty()), "{released:?}");
        let other = v1::ReleaseHoldRequest { reason: "lost".to_owned(), ..ask };
        assert_eq!(reason(&house.try_release(other).await.unwrap_err()), "REQUEST_MISMATCH");
    }

    async fn what_cannot_be_held_is_refused_and_changes_nothing(house: House) {
        let mut house = house;
        let [ada, bob] = with_two(&mut house).await;
        let gone = house.somebody("Carl").await;
        house.erase(&gone.subject).await;
        delete(&mut house, &bob.tokens[0]).await;
        let before = house.everything().await;
        let nobody = "sub_aaaaaaaaaaaaaaaaaaaaaaaaaa";
        let unknown = "tok_aaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned();
        let named = |tokens: &[&String]| over_tokens(&tokens.iter().map(|token| (*token).clone()).collect::<Vec<_>>());
        for (ask, why, field) in [
            (over(&[]), "VALUE_INVALID", "subjects"),
            (v1::PlaceHoldRequest { tokens: ada.tokens.clone(), ..over(&[&ada.subject]) }, "VALUE_INVALID", "tokens"),
            (v1::PlaceHoldRequest { matter: String::new(), ..over(&[&ada.subject]) }, "VALUE_INVALID", "matter"),
            (v1::PlaceHoldRequest { matter: "Smith v. Acme".to_owned(), ..over(&[&ada.subject]) }, "VALUE_INVALID", "matter"),
            (v1::PlaceHoldRequest { basis: String::new(), ..over(&[&ada.subject]) }, "VALUE_INVALID", "basis"),
            (v1::PlaceHoldRequest { basis: "4111 1111 1111 1111".to_owned(), ..over(&[&ada.subject]) }, "CARD_DATA", "basis"),
            (v1::PlaceHoldRequest { request_id: "1".to_owned(), ..over(&[&ada.subject]) }, "VALUE_INVALID", "request_id"),
            (over(&[&ada.subject, "ada"]), "VALUE_INVALID", "subjects[1]"),
            (over(&vec![ada.subject.as_str(); 101]), "BATCH_TOO_LARGE", "subjects"),
            (over(&[&ada.subject, nobody]), "SUBJECT_UNKNOWN", "subjects[1]"),
            (over(&[&gone.subject]), "SUBJECT_ERASED", "subjects[0]"),
            (named(&[&ada.tokens[0], &unknown]), "TOKEN_UNKNOWN", "tokens[1]"),
            (named(&[&gone.tokens[0]]), "SUBJECT_ERASED", "tokens[0]"),
            (named(&[&bob.tokens[0]]), "TOKEN_UNKNOWN", "tokens[0]"),
            (named(&vec![&ada.tokens[0]; 1001]), "BATCH_TOO_LARGE", "tokens"),
        ] {
            let refused = house.try_hold(ask).await.unwrap_err();
            assert_eq!((reason(&refused).as_str(), fields_at_fault(&refused)), (why, vec![field.to_owned()]), "{refused:?}");
        }
        let none = "hold_aaaaaaaaaaaaaaaaaaaaaaaaaa";
        assert_eq!(reason(&house.try_release(release(none)).await.unwrap_err()), "HOLD_UNKNOWN");
        for (ask, field) in [
            (release("hold"), "hold"),
            (v1::ReleaseHoldRequest { reason: String::new(), ..release(none) }, "reason"),
        ] {
            assert_eq!(fields_at_fault(&house.try_release(ask).await.unwrap_err()), [field]);
        }
        let mut door = house.retention().await;
        let refused = door.define_retention_class(crate::retention::class("hold/x", "P1D")).await.unwrap_err();
        assert_eq!(fields_at_fault(&refused), ["retention_class.code"]);
        let field = v1::FieldInput { retention_class: "hold/x".to_owned(), ..crate::asks::text("x") };
        let refused = house.tokens.tokenize(crate::asks::tokenize(&ada.subject, vec![field])).await.unwrap_err();
        assert_eq!(fields_at_fault(&refused), ["fields[0].retention_class"]);
        assert_eq!(house.everything().await, before);
    }

    async fn only_who_may_places_sees_and_releases_holds_and_all_is_on_record(house: House) {
        let mut house = house;
        let [ada, _] = with_two(&mut house).await;
        let hold = house.hold(over(&[&ada.subject])).await;
        let token = "the-token-of-contact-centre-agent".to_owned();
        let link = crate::house::Bearer(token);
        let channel = house.channel().await;
        let mut door = v1::retention_service_client::RetentionServiceClient::with_interceptor(channel, link);
        let nobody = "sub_aaaaaaaaaaaaaaaaaaaaaaaaaa";
        for refused in [
            door.place_hold(over(&[nobody])).await.unwrap_err(),
            door.release_hold(release("hold_aaaaaaaaaaaaaaaaaaaaaaaaaa")).await.unwrap_err(),
            door.release_hold(release(&hold.hold)).await.unwrap_err(),
            door.list_holds(v1::ListHoldsRequest::default()).await.unwrap_err(),
        ] {
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "NOT_PERMITTED"));
        }
        house.erase(&ada.subject).await;
        let approval = requested(&house.tokens.detokenize(detokenize(&ada.tokens, CLAIMS)).await.unwrap_err());
        assert!(!approval.is_empty());
        as_member(&mut house, "contact-centre-agent").await;
        let refused = house.tokens.detokenize(detokenize(&ada.tokens, CLAIMS)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
        house.release(&hold).await;
        let entries = entries(&house).await;
        for (deed, why) in [("PlaceHold", "GDPR Art. 17(3)(e)"), ("ReleaseHold", "settled")] {
            let entry = entries.iter().find(|entry| entry["deed"] == deed && entry.get("refused").is_none()).unwrap();
            assert_eq!((&entry["justification"], &entry["caller"]), (&why.into(), &"owner".into()), "{entry}");
            assert!(entry.to_string().contains(&ada.subject), "{entry}");
        }
    }

    async fn holds_are_listed_and_told(house: House) {
        let mut house = house;
        let [ada, bob] = with_two(&mut house).await;
        let first = house.hold(over(&[&ada.subject])).await;
        house.clock.advance(std::time::Duration::from_secs(1));
        let second = house.hold(over(&[&ada.subject, &bob.subject])).await;
        house.clock.advance(std::time::Duration::from_secs(1));
        let third = house.hold(v1::PlaceHoldRequest { matter: "jones".to_owned(), ..over(&[&bob.subject]) }).await;
        house.release(&first).await;
        let listed = async |ask: v1::ListHoldsRequest| {
            let found = house.holds(ask).await;
            found.into_iter().map(|hold| hold.hold).collect::<Vec<_>>()
        };
        let all = [&first.hold, &second.hold, &third.hold].map(Clone::clone);
        assert_eq!(listed(v1::ListHoldsRequest::default()).await, all);
        let of = |matter: &str| v1::ListHoldsRequest { matter: matter.to_owned(), ..Default::default() };
        assert_eq!(listed(of(MATTER)).await, all[..2]);
        assert_eq!(listed(of("nothing")).await, [""; 0]);
        let subject = v1::ListHoldsRequest { subject: ada.subject.clone(), ..Default::default() };
        assert_eq!(listed(subject.clone()).await, all[..2]);
        let state = |state: v1::HoldState| v1::ListHoldsRequest { state: state.into(), ..subject.clone() };
        assert_eq!(listed(state(v1::HoldState::Active)).await, all[1..2]);
        assert_eq!(listed(state(v1::HoldState::Released)).await, all[..1]);
        let page = v1::ListHoldsRequest { page_size: 2, ..Default::default() };
        let answer = house.retention().await.list_holds(page.clone()).await.unwrap().into_inner();
        assert_eq!(answer.next_page_token, all[1]);
        assert_eq!(listed(v1::ListHoldsRequest { page_token: answer.next_page_token, ..page }).await, all[2..]);

        let told = events::all(&mut house.events().await).await;
        let told = told.iter().filter(|(event, _)| event.kind() == v1::EventKind::HoldChanged);
        let told: Vec<_> =
            told.map(|(event, _)| (event.hold.clone(), event.subject.clone(), event.released)).collect();
        let [a, b] = [&ada.subject, &bob.subject].map(Clone::clone);
        for one in [(&all[0], &a, false), (&all[1], &a, false), (&all[1], &b, false), (&all[2], &b, false), (&all[0], &a, true)] {
            assert!(told.contains(&(one.0.clone(), one.1.clone(), one.2)), "{one:?} {told:?}");
        }
        assert_eq!(told.len(), 5);
    }

    async fn a_restored_backup_neither_forgets_a_hold_nor_brings_one_back(house: House) {
        let mut house = house;
        let [ada, bob] = with_two(&mut house).await;
        let carl = house.somebody("Carl").await;
        let ended = house.hold(over(&[&carl.subject])).await;
        house.stop().await;
        let yesterday = Yesterday::of(&house);
        house.reopen().await;
        // Since then: two are held, of whom one is erased, and somebody new, and a hold ends.
        let whole = house.hold(over(&[&ada.subject, &bob.subject])).await;
        let single = house.hold(v1::PlaceHoldRequest { matter: "jones".to_owned(), ..over_tokens(&bob.tokens[..1]) }).await;
        let dora = house.somebody("Dora").await;
        let new = house.hold(over(&[&dora.subject])).await;
        let passing = house.hold(over(&[&bob.subject])).await;
        house.release(&passing).await;
        house.release(&ended).await;
        house.erase(&ada.subject).await;
        assert_held(&mut house, &ada.tokens, &ada.values(), "SUBJECT_ERASED").await;
        house.write_journal().await;
        for _ in 0..2 {
            house.go_back(&yesterday).await;
            let holds = house.holds(v1::ListHoldsRequest::default()).await;
            let found = |hold: &v1::Hold| holds.iter().find(|found| found.hold == hold.hold).unwrap();
            let mut over = kept(found(&whole));
            over.sort_unstable();
            let mut expected = vec![(ada.subject.as_str(), 0, 3), (bob.subject.as_str(), 3, 0)];
            expected.sort_unstable();
            assert_eq!(over, expected, "whoever is erased is lost with the copies, and that is told");
            assert_eq!(kept(found(&single)), [(bob.subject.as_str(), 1, 0)]);
            assert_eq!(found(&single).matter, "jones");
            assert_eq!(kept(found(&new)), [], "nobody is there any more");
            assert_eq!((found(&ended).state(), found(&passing).state()), (v1::HoldState::Released, v1::HoldState::Released));
            assert_eq!(found(&ended).release_reason, "settled");
            assert_eq!(house.reveal(&ada.tokens, CLAIMS).await, all_refused(3, "SUBJECT_ERASED"));
        }
        // What was copied again is held as before.
        let done = house.erase(&bob.subject).await;
        assert_eq!(planned(&done).iter().map(|item| item.3).sum::<u64>(), 4);
        assert!(house.verified(&done).await.holds);
        assert_held(&mut house, &bob.tokens, &bob.values(), "SUBJECT_ERASED").await;
        let done = house.erase(&carl.subject).await;
        assert_eq!(planned(&done), []);
        for hold in [&whole, &single] {
            house.release(hold).await;
        }
        assert_eq!(house.reveal(&bob.tokens, CLAIMS).await, all_refused(3, "SUBJECT_ERASED"));
        let mut hoard = Hoard::default();
        hoard.collect(&house, "the end").await;
        let spoils = hoard.spoils(keys_now(&house).await);
        assert_eq!([&ada, &bob, &carl].map(|one| read(&spoils, &one.subject)), [(0, 0); 3]);
    }

    async fn a_hold_and_an_erasure_at_once_leave_all_or_nothing(house: House) {
        let mut house = house;
        with_roles(&mut house, &["supervisor"]).await;
        for round in 0..6 {
            let ada = house.somebody(&format!("Ada {round}")).await;
            let (mut eraser, ask) = (house.subjects.clone(), erase(&ada.subject));
            let (_, answer, _) = futures_util::future::join3(
                async { eraser.erase_subject(ask).await.unwrap() },
                house.try_hold(over(&[&ada.subject])),
                house.tokens.clone().update_token(correct(&ada.tokens[0], "ada@example.org")),
            )
            .await;
            match answer {
                Ok(hold) => {
                    assert_eq!(kept(&hold), [(ada.subject.as_str(), 3, 0)]);
                    let (shown, approval) = open(&mut house, &ada.tokens, CLAIMS).await;
                    assert!(shown.iter().all(Result::is_ok) && approval.is_some(), "{shown:?}");
                    house.release(&hold).await;
                }
                Err(refused) => assert!(["ERASURE_PENDING", "SUBJECT_ERASED"].contains(&reason(&refused).as_str()), "{refused:?}"),
            }
            assert_eq!(house.reveal(&ada.tokens, CLAIMS).await, all_refused(3, "SUBJECT_ERASED"));
        }
    }
}

#[test]
fn holds_are_placed_and_released_from_a_shell() {
    let place = Place::new();
    let server = place.start(None);
    let try_to = |arguments: &[&str]| run(server.client(&place).args(arguments));
    let ask = |arguments: &[&str]| {
        let output = try_to(&[arguments, &["--output", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json
    };
    let opened = ask(&["subject", "create", "--source", "test"]);
    let subject = opened["subject"]["subject"].as_str().unwrap();
    let hold = ["hold", "place", MATTER, "--basis", "CASE-7", "--subject", subject];
    assert_eq!(ask(&[&hold[..], &["--dry-run"]].concat())["hold"]["hold"], "");
    let looked = said(&try_to(&[&hold[..], &["--dry-run"]].concat()));
    assert!(looked.contains("Nothing was changed."), "{looked}");
    let email = ["token", "create", "--source", "test", "--subject", subject, "email=ada@example.com"];
    ask(&email);
    let placed = ask(&hold);
    let id = placed["hold"]["hold"].as_str().unwrap();
    let both = try_to(&[&hold[..], &["--token", "tok_a"]].concat());
    assert!(!both.status.success(), "{}", said(&both));
    let listed = try_to(&["hold", "list", "--matter", MATTER, "--state", "active"]);
    assert!(said(&listed).contains(id), "{}", said(&listed));
    let end = ["hold", "release", id, "--reason", "settled"];
    let unsure = try_to(&end);
    assert!(!unsure.status.success() && said(&unsure).contains("--yes"), "{}", said(&unsure));
    assert!(!said(&unsure).contains("--dry-run"), "it has none: {}", said(&unsure));
    let erased = said(&try_to(&["subject", "erase", subject, "--reason", "art17_1_b", "--yes"]));
    assert!(
        erased.contains("1 value kept until a legal hold is released") && erased.contains("LEGAL_HOLD"),
        "{erased}"
    );
    let repeated = request_id(1);
    let sure = [&end[..], &["--yes", "--request-id", &repeated]].concat();
    let shown = said(&try_to(&sure));
    assert!(shown.contains("lacuna retention receipt rtn_"), "{shown}");
    let released = ask(&sure);
    assert_eq!(released["hold"]["state"], "HOLD_STATE_RELEASED");
    let receipt = place.path().join("receipt");
    let envelope = data_encoding::BASE64.decode(released["receipt"].as_str().unwrap().as_bytes()).unwrap();
    std::fs::write(&receipt, envelope).unwrap();
    let key = place.slot().join("receipt-signing.pub");
    let verified = ["receipt", "verify", receipt.to_str().unwrap(), "--public-key", key.to_str().unwrap()];
    let verified = said(&run(lacuna().args(verified)));
    for told in [id, MATTER, &format!("hold/{MATTER}"), "DESTROY", "signed by the expected key"] {
        assert!(verified.contains(told), "{told}: {verified}");
    }
    assert_eq!(ask(&["hold", "list", "--state", "active"])["holds"], serde_json::json!([]));
    assert!(server.stop().success());
}
