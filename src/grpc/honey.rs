//! Honey on the wire.

use super::parse;
use super::subject::subject_id;
use crate::model::{Result, SubjectId};
use crate::policy::Caller;
use crate::proto::v1;
use crate::store::brake::Honey;
use crate::vault::{Vault, page_size};

/// Makes honey of a subject.
pub async fn place(vault: &Vault, by: &Caller, ask: v1::PlaceHoneyRequest) -> Result<v1::PlaceHoneyResponse> {
    let (subject, label) = (subject_id(&ask.subject)?, parse::reference("label", &ask.label)?);
    let placed = vault.place_honey(by, subject, label.as_ref()).await?;
    Ok(v1::PlaceHoneyResponse { honey: Some(wire(placed)) })
}

/// Makes a subject like any other of it.
pub async fn lift(vault: &Vault, by: &Caller, ask: v1::LiftHoneyRequest) -> Result<v1::LiftHoneyResponse> {
    vault.lift_honey(by, subject_id(&ask.subject)?).await?;
    Ok(v1::LiftHoneyResponse {})
}

/// Lists what there is.
pub async fn list(vault: &Vault, ask: v1::ListHoneyRequest) -> Result<v1::ListHoneyResponse> {
    let after = parse::page_token(&ask.page_token, SubjectId::parse)?;
    let size = usize::try_from(page_size(ask.page_size)?).unwrap_or(usize::MAX);
    let found = vault.list_honey().await?;
    let mut later = found.into_iter().filter(|honey| after.is_none_or(|after| honey.subject > after));
    let page: Vec<Honey> = later.by_ref().take(size).collect();
    let next = later.next().and(page.last()).map(|last| last.subject.to_string());
    Ok(v1::ListHoneyResponse { honey: page.into_iter().map(wire).collect(), next_page_token: next.unwrap_or_default() })
}

fn wire(honey: Honey) -> v1::Honey {
    v1::Honey {
        subject: honey.subject.to_string(),
        label: honey.label,
        placed_by: honey.placed_by,
        create_time: Some(parse::wire_time(honey.placed_at)),
    }
}
