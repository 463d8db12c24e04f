//! Rotations as stories ask for them, and those who read all the while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lacuna::proto::v1;
use lacuna::proto::v1::RotationKind;
use lacuna::proto::v1::key_service_client::KeyServiceClient;
use tokio::task::JoinHandle;
use tonic::Status;

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
pub struct Readers {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Readers {
    pub fn of(house: &House, people: &[Somebody]) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tasks = (0..READERS)
            .map(|number| {
                let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
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
                        let answer = tokens.detokenize(ask).await.unwrap().into_inner();
                        let values: Vec<_> = answer.results.iter().map(outcome).collect();
                        assert_eq!(values, person.values(), "reader {number}");
                        if number % 8 == 0 {
                            let ask = v1::FindTokensRequest {
                                r#type: v1::FieldType::Email.into(),
                                value: person.email.clone(),
                                purpose: CARE.to_owned(),
                            };
                            let found = tokens.find_tokens(ask).await.unwrap().into_inner().tokens;
                            assert_eq!(found.len(), 1, "{} is found", person.email);
                        }
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        Self { stop, answered, tasks }
    }

    /// Waits until each has been answered about once more.
    pub async fn go_on(&self) {
        let until = self.answered.load(Ordering::SeqCst) + READERS as u64;
        while self.answered.load(Ordering::SeqCst) < until && self.tasks.iter().all(|task| !task.is_finished()) {
            tokio::task::yield_now().await;
        }
    }

    /// Ends, and fails if anybody was refused.
    pub async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        assert!(self.answered.load(Ordering::SeqCst) > READERS as u64);
    }
}
