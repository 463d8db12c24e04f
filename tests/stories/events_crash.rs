//! Events and crashes: there is either both, the change and that it is told, or neither.

use lacuna::proto::v1;
use lacuna::proto::v1::EventKind;

use crate::crash::{TELLING, after, points_of};
use crate::events::all;
use crate::outside::{Door, Person, outside_on_both_stores};

/// Points that only come by where several nodes may share the database.
const SHARED: [&str; 2] = ["outbox::before-place", "outbox::placed"];

async fn restrict(door: &mut Door, person: &Person) -> Result<(), tonic::Status> {
    let request = v1::RestrictSubjectRequest {
        subject: person.subject.clone(),
        ground: "art18_1_a".to_owned(),
        ..Default::default()
    };
    door.subjects.restrict_subject(request).await.map(drop)
}

/// How often each kind was told of a person.
async fn told(door: &mut Door, person: &Person) -> Vec<EventKind> {
    let events = all(&mut door.events).await;
    events.iter().filter(|(event, _)| event.subject == person.subject).map(|(event, _)| event.kind()).collect()
}

outside_on_both_stores! {
    async fn a_change_is_told_if_and_only_if_it_was_made(vault: Outside) {
        let mut door = vault.start();
        let ada = door.tokenize("ada").await;
        door.kill();
        for point in points_of(&vault, &TELLING, &[]) {
            let shared = SHARED.contains(&point.as_str());
            if shared && vault.database.is_none() {
                continue;
            }
            let vault = vault.copy();
            let mut door = vault.try_start(&[(&point, after(0))]).unwrap();
            let answered = restrict(&mut door, &ada).await;
            assert!(shared || answered.is_err(), "{point}");
            door.aborted();
            let mut door = vault.start();
            let restricted = door.subject(&ada).await.state() == v1::SubjectState::Restricted;
            assert_eq!(restricted, point != "outbox::before-commit", "{point}");
            // In the end: what the process left, this one tells.
            let begun = std::time::Instant::now();
            let mut found = told(&mut door, &ada).await;
            while restricted && found.is_empty() && begun.elapsed() < crate::outside::PATIENCE {
                found = told(&mut door, &ada).await;
            }
            assert_eq!(found, vec![EventKind::SubjectRestricted; usize::from(restricted)], "{point}");
        }
    }

    async fn an_erasure_is_told_once_wherever_it_was_interrupted(vault: Outside) {
        let mut door = vault.start();
        let people = [door.tokenize("ada").await, door.tokenize("bob").await];
        door.kill();
        for point in
            ["shred::written", "shred::advanced", "shred::before-settlement", "shred::settled", "outbox::before-commit"]
        {
            let vault = vault.copy();
            let mut door = vault.try_start(&[(point, after(0))]).unwrap();
            door.try_erase(&people[0], "").await.unwrap_err();
            door.aborted();
            let mut door = vault.start();
            let erasure = door.subject(&people[0]).await.erasure;
            door.shredded(&erasure).await;
            let begun = std::time::Instant::now();
            let mut found = told(&mut door, &people[0]).await;
            while found.is_empty() && begun.elapsed() < crate::outside::PATIENCE {
                found = told(&mut door, &people[0]).await;
            }
            assert_eq!(found, [EventKind::SubjectErased], "{point}");
            assert!(told(&mut door, &people[1]).await.is_empty());
        }
    }
}
