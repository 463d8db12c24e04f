//! The journal: what was decided after a backup counts in the restored vault too.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use lacuna::config::Sink;
use lacuna::proto::v1;
use lacuna::proto::v1::ConsentEventKind::{Give, Object, Withdraw};

use crate::consents::{NEWS, OFFERS, Office, allowed, denied, purpose};
use crate::house::{House, Somebody, on_both_stores};
use crate::restore::Yesterday;

const CARE: &str = "customer_care";
const RAFFLE: &str = "marketing.email.raffle";
const DAY: Duration = Duration::from_hours(24);

/// The journal's files in a directory.
pub fn entries(sink: &PathBuf) -> Vec<PathBuf> {
    let files = fs::read_dir(sink).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("journal-")).collect();
    found.sort();
    found
}

/// The directory of its only sink.
pub fn sink(house: &House) -> PathBuf {
    house.config.data_dir().join("checkpoints")
}

async fn restrict(house: &mut House, subject: &str) {
    let ground = "accuracy_contested".to_owned();
    let request = v1::RestrictSubjectRequest { subject: subject.to_owned(), ground, ..Default::default() };
    house.subjects.restrict_subject(request).await.unwrap();
}

async fn profile(house: &mut House, subject: &str, enabled: bool) {
    let request = v1::SetProfilingRequest { subject: subject.to_owned(), enabled, ..Default::default() };
    house.subjects.set_profiling(request).await.unwrap();
}

async fn schedule(house: &mut House, subject: &str, by: Duration) -> v1::Erasure {
    let execute_time = Some(house.in_time(by));
    let request = v1::EraseSubjectRequest { execute_time, ..crate::asks::erase(subject) };
    house.subjects.erase_subject(request).await.unwrap().into_inner().erasure.unwrap()
}

async fn cancel(house: &mut House, erasure: &str) {
    let request = v1::CancelErasureRequest { erasure: erasure.to_owned() };
    house.subjects.cancel_erasure(request).await.unwrap();
}

async fn may_be_read(house: &mut House, person: &Somebody) -> bool {
    house.reveal(&person.tokens, CARE).await == person.values()
}

/// Puts yesterday's database in place of today's.
async fn go_back(office: &mut Office, yesterday: &Yesterday) {
    office.house.go_back(yesterday).await;
    office.door = office.house.consents().await;
}

on_both_stores! {
    async fn a_restored_backup_learns_what_was_decided_since(house: House) {
        let mut office = Office::open(house).await;
        let mut people = Vec::new();
        for name in ["Ada", "Bob", "Carol", "Dora", "Emil", "Fred"] {
            let person = office.house.somebody(name).await;
            for purpose in [NEWS, OFFERS] {
                office.say(&person.subject, purpose, Give).await;
            }
            people.push(person);
        }
        let [ada, bob, carol, dora, emil, fred] = people.try_into().ok().unwrap();
        let scheduled = schedule(&mut office.house, &emil.subject, 30 * DAY).await;
        office.house.stop().await;
        let yesterday = Yesterday::of(&office.house);
        office.house.reopen().await;
        office.door = office.house.consents().await;
        let known_yesterday = entries(&sink(&office.house));

        office.say(&ada.subject, NEWS, Withdraw).await;
        restrict(&mut office.house, &bob.subject).await;
        profile(&mut office.house, &carol.subject, false).await;
        let new = schedule(&mut office.house, &dora.subject, 60 * DAY).await;
        cancel(&mut office.house, &scheduled.erasure).await;
        office.say(&fred.subject, OFFERS, Object).await;
        let raffle = v1::Purpose { title: "Raffle".to_owned(), ..purpose(RAFFLE) };
        office.define(raffle, v1::VersionChange::Major).await.unwrap();
        office.say(&ada.subject, RAFFLE, Give).await;
        let newcomer = office.house.somebody("Zoe").await;
        restrict(&mut office.house, &newcomer.subject).await;
        let mut told = office.events(&ada.subject).await;
        let terms = [&bob, &carol, &fred].map(|person| person.subject.clone());
        let mut before = Vec::new();
        for subject in &terms {
            before.push(office.house.subject(subject).await);
        }
        office.house.stop().await;

        // Without the journal the old database has the last word: that is the attack.
        let aside = tempfile::tempdir().unwrap();
        let since: Vec<_> =
            entries(&sink(&office.house)).into_iter().filter(|path| !known_yesterday.contains(path)).collect();
        assert!(!since.is_empty());
        for entry in &since {
            fs::rename(entry, aside.path().join(entry.file_name().unwrap())).unwrap();
        }
        yesterday.put_back(&office.house);
        office.house.reopen().await;
        office.door = office.house.consents().await;
        assert_eq!(office.answer(&ada.subject, NEWS).await, allowed());
        assert!(may_be_read(&mut office.house, &bob).await);

        office.house.stop().await;
        for entry in &since {
            fs::rename(aside.path().join(entry.file_name().unwrap()), entry).unwrap();
        }
        for _ in 0..2 {
            go_back(&mut office, &yesterday).await;
            assert_eq!(office.answer(&ada.subject, NEWS).await, denied("CONSENT_WITHDRAWN"));
            assert_eq!(office.answer(&ada.subject, RAFFLE).await, allowed());
            assert_eq!(office.events(&ada.subject).await, told, "the chain goes on, event by event");
            assert!(!may_be_read(&mut office.house, &bob).await);
            assert_eq!(office.answer(&fred.subject, NEWS).await, denied("SUPPRESSED"));
            for (subject, before) in terms.iter().zip(&before) {
                assert_eq!(office.house.subject(subject).await, *before);
            }
            let state = async |house: &mut House, person: &Somebody| house.subject(&person.subject).await.state();
            assert_eq!(state(&mut office.house, &dora).await, v1::SubjectState::Scheduled);
            assert_eq!(office.house.subject(&dora.subject).await.erasure, new.erasure);
            assert_eq!(state(&mut office.house, &emil).await, v1::SubjectState::Active);
            assert!(may_be_read(&mut office.house, &emil).await);
            // And life goes on from there.
            office.say(&ada.subject, OFFERS, Withdraw).await;
            let now = office.events(&ada.subject).await;
            assert_eq!(now.len(), told.len() + 1);
            told = now;
            assert_eq!(office.answer(&carol.subject, NEWS).await, allowed());
            office.house.reopen().await;
            office.door = office.house.consents().await;
            assert_eq!(office.answer(&ada.subject, OFFERS).await, denied("CONSENT_WITHDRAWN"), "also in the second round");
        }
    }

    async fn the_suppression_list_comes_back_also_for_whoever_was_erased_since(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await;
        office.house.stop().await;
        let yesterday = Yesterday::of(&office.house);
        office.house.reopen().await;
        office.door = office.house.consents().await;
        office.say(&ada.subject, NEWS, Object).await;
        office.house.erase(&ada.subject).await;
        go_back(&mut office, &yesterday).await;
        // Somebody of the same address, from a list that was bought.
        let again = office.house.somebody("Ada").await;
        assert_eq!(office.answer(&again.subject, NEWS).await, denied("SUPPRESSED"));
        let bob = office.house.somebody("Bob").await;
        assert_eq!(office.answer(&bob.subject, NEWS).await, denied("NO_CONSENT"));
    }

    async fn what_could_not_be_read_at_the_start_is_read_before_anything_is_written(house: House) {
        let mut office = Office::open(house).await;
        let [ada, bob] = [office.house.somebody("Ada").await, office.house.somebody("Bob").await];
        office.say(&ada.subject, NEWS, Give).await;
        office.house.stop().await;
        let yesterday = Yesterday::of(&office.house);
        office.house.reopen().await;
        office.door = office.house.consents().await;
        office.say(&ada.subject, NEWS, Withdraw).await;
        office.house.stop().await;
        yesterday.put_back(&office.house);
        // A disk that is not mounted.
        let (there, away) = (sink(&office.house), office.house.home().join("away"));
        fs::rename(&there, &away).unwrap();
        office.house.reopen().await;
        office.door = office.house.consents().await;
        assert_eq!(office.answer(&ada.subject, NEWS).await, allowed(), "nobody could tell");
        restrict(&mut office.house, &bob.subject).await;
        office.house.running().vault.ship_journal().await.unwrap_err();
        fs::rename(&away, &there).unwrap();
        office.house.running().vault.ship_journal().await.unwrap();
        assert_eq!(office.answer(&ada.subject, NEWS).await, denied("CONSENT_WITHDRAWN"));
        go_back(&mut office, &yesterday).await;
        assert_eq!(office.answer(&ada.subject, NEWS).await, denied("CONSENT_WITHDRAWN"));
        assert!(!may_be_read(&mut office.house, &bob).await);
    }

    async fn what_happened_around_a_scheduled_erasure_is_done_again_in_its_order(house: House) {
        let mut office = Office::open(house).await;
        let [ada, bob] = [office.house.somebody("Ada").await, office.house.somebody("Bob").await];
        office.house.stop().await;
        let yesterday = Yesterday::of(&office.house);
        office.house.reopen().await;
        office.door = office.house.consents().await;
        profile(&mut office.house, &ada.subject, false).await;
        schedule(&mut office.house, &ada.subject, 30 * DAY).await;
        let of_bob = schedule(&mut office.house, &bob.subject, 30 * DAY).await;
        cancel(&mut office.house, &of_bob.erasure).await;
        office.say(&bob.subject, NEWS, Object).await;
        office.house.running().vault.ship_journal().await.unwrap();
        restrict(&mut office.house, &ada.subject).await;
        restrict(&mut office.house, &bob.subject).await;
        office.house.running().vault.ship_journal().await.unwrap();
        profile(&mut office.house, &bob.subject, false).await;
        let mut before = Vec::new();
        for person in [&ada, &bob] {
            before.push(office.house.subject(&person.subject).await);
        }
        go_back(&mut office, &yesterday).await;
        for (person, before) in [&ada, &bob].into_iter().zip(before) {
            assert_eq!(office.house.subject(&person.subject).await, before);
        }
        assert_eq!(office.answer(&bob.subject, NEWS).await, denied("SUPPRESSED"));
    }

    async fn many_small_entries_become_few_and_tell_the_same(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await;
        office.house.stop().await;
        let yesterday = Yesterday::of(&office.house);
        office.house.reopen().await;
        office.door = office.house.consents().await;
        for round in 0..150 {
            profile(&mut office.house, &ada.subject, round % 2 == 0).await;
            office.house.running().vault.ship_journal().await.unwrap();
        }
        let few = entries(&sink(&office.house)).len();
        assert!(few < 64 + 4, "{few} entries");
        let told = office.house.subject(&ada.subject).await;
        go_back(&mut office, &yesterday).await;
        assert_eq!(office.house.subject(&ada.subject).await, told);
    }

    async fn the_journal_waits_for_a_sink_and_holds_nobody_up(house: House) {
        let mut office = Office::open(house).await;
        let (first, second) = (sink(&office.house), office.house.home().join("second"));
        fs::create_dir(&second).unwrap();
        office.house.config.sinks = [first.clone(), second.clone()].map(Sink::in_directory).to_vec();
        office.house.reopen().await;
        let ada = office.house.somebody("Ada").await;
        office.house.stop().await;
        let yesterday = Yesterday::of(&office.house);
        office.house.reopen().await;
        // In one step: the vault may be writing there.
        fs::rename(&second, office.house.home().join("lost")).unwrap();
        fs::write(&second, "a file where a directory should be").unwrap();
        restrict(&mut office.house, &ada.subject).await;
        assert!(!may_be_read(&mut office.house, &ada).await, "it counts at once");
        let error = office.house.running().vault.ship_journal().await.unwrap_err();
        assert!(error.to_string().contains("second"), "{error}");

        fs::remove_file(&second).unwrap();
        fs::create_dir(&second).unwrap();
        // A sink that has failed is left alone for a while, but not when it is needed.
        office.house.running().vault.ship_journal().await.unwrap();
        let names = |sink: &PathBuf| {
            entries(sink).into_iter().map(|path| path.file_name().unwrap().to_owned()).collect::<Vec<_>>()
        };
        office.house.reopen().await;
        profile(&mut office.house, &ada.subject, false).await;
        office.house.running().vault.ship_journal().await.unwrap();
        assert_eq!(names(&first), names(&second), "what it had lost it got from the other");
        // Either is enough.
        for entry in entries(&first) {
            fs::remove_file(entry).unwrap();
        }
        go_back(&mut office, &yesterday).await;
        assert!(!may_be_read(&mut office.house, &ada).await);
    }

    async fn a_damaged_or_foreign_entry_is_told_and_hurts_nobody(house: House) {
        let mut office = Office::open(house).await;
        let [ada, bob] = [office.house.somebody("Ada").await, office.house.somebody("Bob").await];
        office.house.stop().await;
        let yesterday = Yesterday::of(&office.house);
        office.house.reopen().await;
        let known = entries(&sink(&office.house));
        restrict(&mut office.house, &ada.subject).await;
        office.house.running().vault.ship_journal().await.unwrap();
        let damaged = entries(&sink(&office.house)).into_iter().find(|path| !known.contains(path)).unwrap();
        restrict(&mut office.house, &bob.subject).await;
        office.house.stop().await;
        let mut bytes = fs::read(&damaged).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&damaged, bytes).unwrap();
        // A name as the vault would write it, with something else in it.
        // Twice, the second time as if everything had been put together in it.
        let strange = b"not sealed by this vault";
        for (first, level) in [(i64::MAX - 1, 0), (0, 255)] {
            let name = lacuna::keys::sink::Entry::of((first, i64::MAX - 1), level, 1, strange).to_string();
            fs::write(sink(&office.house).join(name), strange).unwrap();
        }
        let there = entries(&sink(&office.house));

        yesterday.put_back(&office.house);
        office.house.reopen().await;
        assert!(may_be_read(&mut office.house, &ada).await, "what is lost is lost");
        assert!(!may_be_read(&mut office.house, &bob).await);
        assert!(!fs::read(&damaged).unwrap().is_empty(), "it stays for whoever investigates");
        // A start looks through the sink when it first writes there.
        profile(&mut office.house, &ada.subject, false).await;
        office.house.running().vault.ship_journal().await.unwrap();
        let now = entries(&sink(&office.house));
        assert!(there.iter().all(|entry| now.contains(entry)), "nothing goes because of a name alone");
    }

    async fn an_entry_tells_nobody_who_has_no_key(house: House) {
        let mut office = Office::open(house).await;
        let ada = office.house.somebody("Ada").await;
        office.say(&ada.subject, NEWS, Give).await;
        restrict(&mut office.house, &ada.subject).await;
        office.house.stop().await;
        let entries = entries(&sink(&office.house));
        assert!(!entries.is_empty());
        for entry in entries {
            let bytes = fs::read(&entry).unwrap();
            let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            for text in [ada.subject.as_str(), NEWS, "accuracy_contested", "record"] {
                assert!(!holds(text), "{text} stands in {}", entry.display());
            }
        }
    }
}
