//! `KeyService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::identity::caller;
use super::subject::{erasure_id, subject_id, wire_assurance};
use super::{answer, parse, status};
use crate::keys::kek::Kek;
use crate::keys::status::{Copy, Status as KeyStatus};
use crate::model::{
    Error, KeyEvent, KeyEventId, KeyEventKind, Result, Rotation, RotationId, RotationKind, RotationState,
};
use crate::policy::Caller;
use crate::proto::v1;
use crate::proto::v1::key_service_server::KeyService;
use crate::store::node::Node;
use crate::vault::Vault;
use crate::vault::audit::call::carry;
use crate::vault::key::{BUCKETS, Key, Rotate, Rotated};

/// The service.
pub struct Keys {
    vault: Arc<Vault>,
}

impl Keys {
    /// A door to this vault.
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    /// Rotates a key. The work goes on if the caller hangs up: what has begun is finished.
    async fn rotate(&self, caller: Caller, key: Key, validate_only: bool, request: &str) -> Result<v1::Rotation> {
        let ask = Rotate { key, validate_only, request: parse::request_id(request)? };
        let vault = Arc::clone(&self.vault);
        let rotated = tokio::spawn(carry(async move { vault.rotate(&caller, ask).await }));
        Ok(wire_rotated(rotated.await.map_err(Error::internal)??))
    }
}

/// An rpc that rotates one of the vault's own keys.
macro_rules! rotate {
    ($self:ident, $request:ident, $rpc:literal, $key:expr, $response:ident) => {{
        let caller = caller(&$request).map_err(|error| status::to_status(&error))?;
        answer($rpc, async {
            let ask = $request.into_inner();
            let rotation = $self.rotate(caller, $key, ask.validate_only, &ask.request_id).await?;
            Ok(v1::$response { rotation: Some(rotation) })
        })
        .await
    }};
}

#[tonic::async_trait]
impl KeyService for Keys {
    async fn get_key_status(
        &self,
        _: Request<v1::GetKeyStatusRequest>,
    ) -> Result<Response<v1::GetKeyStatusResponse>, Status> {
        answer("GetKeyStatus", async {
            let (found, nodes, rotations) = self.vault.key_status().await?;
            let custody = self.vault.custody();
            let status = v1::KeyStatus {
                kek: wire_kek(custody.kek()).await,
                signing_public_key: custody.signing_public_keys()?.into_iter().next().unwrap_or_default(),
                assurance: wire_assurance(custody.slot().assurance()).into(),
                nodes: nodes.into_iter().map(wire_node).collect(),
                rotations: rotations.into_iter().map(wire_rotation).collect(),
                ..wire_status(found)
            };
            Ok(v1::GetKeyStatusResponse { status: Some(status) })
        })
        .await
    }

    async fn rotate_root(
        &self,
        request: Request<v1::RotateRootRequest>,
    ) -> Result<Response<v1::RotateRootResponse>, Status> {
        rotate!(self, request, "RotateRoot", Key::Root, RotateRootResponse)
    }

    async fn rotate_subject_key(
        &self,
        request: Request<v1::RotateSubjectKeyRequest>,
    ) -> Result<Response<v1::RotateSubjectKeyResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("RotateSubjectKey", async {
            let ask = request.into_inner();
            let key = Key::Subject(subject_id(&ask.subject)?);
            let rotation = self.rotate(caller, key, ask.validate_only, &ask.request_id).await?;
            Ok(v1::RotateSubjectKeyResponse { rotation: Some(rotation) })
        })
        .await
    }

    async fn rotate_index_key(
        &self,
        request: Request<v1::RotateIndexKeyRequest>,
    ) -> Result<Response<v1::RotateIndexKeyResponse>, Status> {
        let caller = caller(&request).map_err(|error| status::to_status(&error))?;
        answer("RotateIndexKey", async {
            let ask = request.into_inner();
            let key = Key::Index(buckets(ask.buckets)?);
            let rotation = self.rotate(caller, key, ask.validate_only, &ask.request_id).await?;
            Ok(v1::RotateIndexKeyResponse { rotation: Some(rotation) })
        })
        .await
    }

    async fn rotate_kek(
        &self,
        request: Request<v1::RotateKekRequest>,
    ) -> Result<Response<v1::RotateKekResponse>, Status> {
        rotate!(self, request, "RotateKek", Key::Kek, RotateKekResponse)
    }

    async fn rotate_signing_key(
        &self,
        request: Request<v1::RotateSigningKeyRequest>,
    ) -> Result<Response<v1::RotateSigningKeyResponse>, Status> {
        rotate!(self, request, "RotateSigningKey", Key::Signing, RotateSigningKeyResponse)
    }

    async fn get_rotation(
        &self,
        request: Request<v1::GetRotationRequest>,
    ) -> Result<Response<v1::GetRotationResponse>, Status> {
        answer("GetRotation", async {
            let id = RotationId::parse(&request.into_inner().rotation)?;
            Ok(v1::GetRotationResponse { rotation: Some(wire_rotation(self.vault.rotation(id).await?)) })
        })
        .await
    }

    async fn list_rotations(
        &self,
        request: Request<v1::ListRotationsRequest>,
    ) -> Result<Response<v1::ListRotationsResponse>, Status> {
        answer("ListRotations", async {
            let ask = request.into_inner();
            let after = parse::page_token(&ask.page_token, RotationId::parse)?;
            let (rotations, next) = self.vault.list_rotations(after, crate::vault::page_size(ask.page_size)?).await?;
            Ok(v1::ListRotationsResponse {
                rotations: rotations.into_iter().map(wire_rotation).collect(),
                next_page_token: next.map(|id| id.to_string()).unwrap_or_default(),
            })
        })
        .await
    }

    async fn list_key_events(
        &self,
        request: Request<v1::ListKeyEventsRequest>,
    ) -> Result<Response<v1::ListKeyEventsResponse>, Status> {
        answer("ListKeyEvents", async {
            let ask = request.into_inner();
            let after = parse::page_token(&ask.page_token, KeyEventId::parse)?;
            let (events, next) = self.vault.list_key_events(after, crate::vault::page_size(ask.page_size)?).await?;
            Ok(v1::ListKeyEventsResponse {
                key_events: events.into_iter().map(wire_event).collect(),
                next_page_token: next.map(|id| id.to_string()).unwrap_or_default(),
            })
        })
        .await
    }

    async fn verify_erasure(
        &self,
        request: Request<v1::VerifyErasureRequest>,
    ) -> Result<Response<v1::VerifyErasureResponse>, Status> {
        answer("VerifyErasure", async {
            let findings = self.vault.verify_erasure(erasure_id(&request.into_inner().erasure)?).await?;
            Ok(v1::VerifyErasureResponse {
                holds: findings.iter().all(|finding| finding.passed),
                findings: findings
                    .into_iter()
                    .map(|finding| v1::ErasureFinding {
                        check: finding.check.to_owned(),
                        passed: finding.passed,
                        detail: finding.detail,
                    })
                    .collect(),
            })
        })
        .await
    }
}

fn buckets(asked: u32) -> Result<Option<u32>> {
    match asked {
        0 => Ok(None),
        asked if BUCKETS.contains(&asked) => Ok(Some(asked)),
        _ => Err(Error::invalid("buckets", "must lie between 64 and 1048576, or be 0")),
    }
}

fn wire_rotated(rotated: Rotated) -> v1::Rotation {
    let Rotated { rotation, real } = rotated;
    let (kind, subject) = (wire_kind(rotation.kind).into(), rotation.subject);
    if real {
        return wire_rotation(rotation);
    }
    v1::Rotation {
        kind,
        subject: subject.map(|subject| subject.to_string()).unwrap_or_default(),
        total: rotation.total,
        detail: rotation.detail,
        ..Default::default()
    }
}

fn wire_rotation(rotation: Rotation) -> v1::Rotation {
    v1::Rotation {
        rotation: rotation.id.to_string(),
        kind: wire_kind(rotation.kind).into(),
        subject: rotation.subject.map(|subject| subject.to_string()).unwrap_or_default(),
        state: wire_state(rotation.state).into(),
        done: rotation.done,
        total: rotation.total,
        requested_by: rotation.requested_by,
        create_time: Some(parse::wire_time(rotation.created_at)),
        update_time: Some(parse::wire_time(rotation.updated_at)),
        finish_time: rotation.finished_at.map(parse::wire_time),
        detail: rotation.detail,
    }
}

const fn wire_kind(kind: RotationKind) -> v1::RotationKind {
    match kind {
        RotationKind::Root => v1::RotationKind::Root,
        RotationKind::SubjectKey => v1::RotationKind::SubjectKey,
        RotationKind::IndexKey => v1::RotationKind::IndexKey,
        RotationKind::Kek => v1::RotationKind::Kek,
        RotationKind::SigningKey => v1::RotationKind::SigningKey,
    }
}

const fn wire_state(state: RotationState) -> v1::RotationState {
    match state {
        RotationState::Running => v1::RotationState::Running,
        RotationState::Done => v1::RotationState::Done,
        RotationState::Failed => v1::RotationState::Failed,
    }
}

fn wire_event(event: KeyEvent) -> v1::KeyEvent {
    let kind = match event.kind {
        KeyEventKind::RotationBegun => v1::KeyEventKind::RotationBegun,
        KeyEventKind::RotationDone => v1::KeyEventKind::RotationDone,
        KeyEventKind::RotationFailed => v1::KeyEventKind::RotationFailed,
        KeyEventKind::EpochAdvanced => v1::KeyEventKind::EpochAdvanced,
        KeyEventKind::NodeJoined => v1::KeyEventKind::NodeJoined,
        KeyEventKind::NodeLeft => v1::KeyEventKind::NodeLeft,
        KeyEventKind::KekChanged => v1::KeyEventKind::KekChanged,
        KeyEventKind::SigningKeyChanged => v1::KeyEventKind::SigningKeyChanged,
    };
    v1::KeyEvent {
        key_event: event.id.to_string(),
        time: Some(parse::wire_time(event.at)),
        actor: event.actor,
        kind: kind.into(),
        detail: event.detail,
    }
}

/// The key-encrypting key with its newest version, or why that cannot be told.
async fn wire_kek(kek: &dyn Kek) -> String {
    match kek.versions().await {
        Ok(versions) => format!("{}, version {}", kek.describe(), versions.last().map_or("none", String::as_str)),
        Err(error) => format!("{}: {}", kek.describe(), error.message),
    }
}

fn wire_status(found: KeyStatus) -> v1::KeyStatus {
    v1::KeyStatus {
        epoch: found.epoch,
        root_id: found.root_id,
        tree: found.tree,
        database_epoch: found.database_epoch,
        live_leaves: found.live_leaves,
        punctured_leaves: found.punctured_leaves,
        pages: found.pages,
        bytes: found.bytes,
        slot: found.slot,
        slot_copies: found.copies.into_iter().map(wire_copy).collect(),
        sinks: found.sinks.into_iter().map(wire_copy).collect(),
        erasures_pending: found.erasures_pending,
        ..Default::default()
    }
}

fn wire_node(node: Node) -> v1::KeyNode {
    v1::KeyNode {
        node: data_encoding::HEXLOWER.encode(&node.id),
        host: node.name,
        applied_epoch: node.epoch,
        seen_time: Some(parse::wire_time(node.seen_at)),
    }
}

fn wire_copy(copy: Copy) -> v1::KeyCopy {
    v1::KeyCopy { place: copy.place, epoch: copy.epoch, trouble: copy.trouble.unwrap_or_default() }
}
