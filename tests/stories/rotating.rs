//! Rotations as stories ask for them, and those who read all the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lacuna::proto::v1;
use lacuna::proto::v1::RotationKind;
use lacuna::proto::v1::key_service_client::KeyServiceClient;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use crate::asks::CARE;
use crate::house::{House, Link, Somebody, outcome};
use crate::outside::PATIENCE;

/// Every kind that there is.
pub const KINDS: [RotationKind; 5] =
    [RotationKind::Root, RotationKind::SubjectKey, RotationKind::IndexKey, RotationKind::Kek, RotationKind::SigningKey];

/// Asks for a rotation; `subject` counts for the kind that is about one.
pub async fn begin(
    keys: &mut KeyServiceClient<Link>,
    kind: RotationKind,
    subject: &str,
    request_id: &str,
) -> Result<v1::Rotation, Status> {
    let (subject, request_id) = (subject.to_owned(), request_id.to_owned());
    let begun = match kind {
        RotationKind::Root => {
            let ask = v1::RotateRootRequest { request_id, ..Default::default() };
            keys.rotate_root(ask).await?.into_inner().rotation
        }
        RotationKind::SubjectKey => {
            let ask = v1::RotateSubjectKeyRequest { subject, request_id, ..Default::default() };
            keys.rotate_subject_key(ask).await?.into_inner().rotation
        }
        RotationKind::IndexKey => {
            let ask = v1::RotateIndexKeyRequest { request_id, ..Default::default() };
            keys.rotate_index_key(ask).await?.into_inner().rotation
        }
        RotationKind::Kek => {
            let ask = v1::RotateKekRequest { request_id, ..Default::default() };
            keys.rotate_kek(ask).await?.into_inner().rotation
        }
        RotationKind::SigningKey => {
            let ask = v1::RotateSigningKeyRequest { request_id, ..Default::default() };
            keys.rotate_signing_key(ask).await?.into_inner().rotation
        }
        RotationKind::Unspecified => panic!("no rotation is of no kind"),
    };
    Ok(begun.unwrap())
}

/// Asks for a rotation and waits until it has ended.
pub async fn rotate(
    keys: &mut KeyServiceClient<Link>,
    kind: RotationKind,
    subject: &str,
    request_id: &str,
) -> Result<v1::Rotation, Status> {
    let begun = begin(keys, kind, subject, request_id).await?;
    try_ended(keys, &begun.rotation).await
}

/// A rotation when it has ended.
pub async fn ended(keys: &mut KeyServiceClient<Link>, rotation: Option<v1::Rotation>) -> v1::Rotation {
    try_ended(keys, &rotation.unwrap().rotation).await.unwrap()
}

async fn try_ended(keys: &mut KeyServiceClient<Link>, id: &str) -> Result<v1::Rotation, Status> {
    let waiting = async {
        loop {
            let ask = v1::GetRotationRequest { rotation: id.to_owned() };
            let rotation = keys.get_rotation(ask).await?.into_inner().rotation.unwrap();
            if rotation.state() != v1::RotationState::Running {
                return Ok(rotation);
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the rotation does not end")
}

pub fn assert_done(rotation: &v1::Rotation) {
    assert_eq!(rotation.state(), v1::RotationState::Done, "{rotation:?}");
    assert!(rotation.done == rotation.total && rotation.total > 0, "{rotation:?}");
    assert!(rotation.finish_time.is_some(), "{rotation:?}");
}

/// How the keys are.
pub async fn status(keys: &mut KeyServiceClient<Link>) -> v1::KeyStatus {
    keys.get_key_status(v1::GetKeyStatusRequest {}).await.unwrap().into_inner().status.unwrap()
}

/// So many people with three values each.
pub async fn people(house: &mut House, count: usize) -> Vec<Somebody> {
    let mut people = Vec::new();
    for number in 0..count {
        people.push(house.somebody(&format!("Person {number}")).await);
    }
    people
}

/// Readers in flight at any time.
const READERS: usize = 64;

/// Many who read the same people again and again, by token and by value, and must never be refused.
///
/// What is not answered in two seconds is never answered, and asked for again: when the machine stands still for so long,
/// it does to all of them once.
pub struct Readers {
    stop: Arc<AtomicBool>,
    answered: watch::Sender<usize>,
    late: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
}

fn is_late(refused: &Status) -> bool {
    refused.code() == Code::Unavailable && refused.message().contains("took too long")
}

impl Readers {
    pub fn of(house: &House, people: &[Somebody]) -> Self {
        let (stop, late) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let answered = watch::Sender::new(0);
        let tasks = (0..READERS)
            .map(|number| {
                let (stop, late, answered) = (Arc::clone(&stop), Arc::clone(&late), answered.clone());
                let (mut tokens, people) = (house.tokens.clone(), people.to_vec());
                tokio::spawn(async move {
                    for round in number.. {
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                        let person = &people[round % people.len()];
                        let ask = v1::DetokenizeRequest {
                            tokens: person.tokens.clone(),
                            purpose: CARE.to_owned(),
                            ..Default::default()
                        };
                        let answer = match tokens.detokenize(ask).await {
                            Ok(answer) => answer.into_inner(),
                            Err(refused) if is_late(&refused) => {
                                late.fetch_add(1, Ordering::SeqCst);
                                continue;
                            }
                            Err(refused) => panic!("reader {number} is refused: {refused:?}"),
                        };
                        let values: Vec<_> = answer.results.iter().map(outcome).collect();
                        assert_eq!(values, person.values(), "reader {number}");
                        if number % 8 == 0 {
                            let ask = v1::FindTokensRequest {
                                r#type: v1::FieldType::Email.into(),
                                value: person.email.clone(),
                                purpose: CARE.to_owned(),
                            };
                            let found = tokens.find_tokens(ask).await.map(|found| found.into_inner().tokens.len());
                            match found {
                                Ok(found) => assert!(found == 1, "{} is found", person.email),
                                Err(refused) if is_late(&refused) => {
                                    late.fetch_add(1, Ordering::SeqCst);
                                }
                                Err(refused) => panic!("reader {number} is refused: {refused:?}"),
                            }
                        }
                        answered.send_modify(|answered| *answered += 1);
                    }
                })
            })
            .collect();
        Self { stop, answered, late, tasks }
    }

    /// Waits until each has been answered about once more.
    pub async fn go_on(&self) {
        let until = *self.answered.borrow() + READERS;
        let mut answered = self.answered.subscribe();
        tokio::time::timeout(PATIENCE, answered.wait_for(|answered| *answered >= until)).await.unwrap().unwrap();
    }

    /// Ends, and fails if anybody was refused.
    pub async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        assert!(*self.answered.borrow() > READERS);
        let late = self.late.load(Ordering::SeqCst);
        assert!(late <= READERS, "{late} answers were late, which is more than each reader's once");
    }
}
