//! `lacuna collection-point`: where consent is collected.

use anyhow::anyhow;
use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Remote, Vault};
use super::failure::Result;
use super::names::PointKind;
use super::page::Paging;
use super::print::{self, Answer};
use super::table;
use crate::proto::v1;

/// Shown below the help of `define`.
const DEFINE: &str = "\
Examples:
  lacuna collection-point define web:signup --kind web-form --owner marketing --notice privacy
  lacuna collection-point define import:crm-2026 --kind import --owner operations";

/// What can be done with collection points.
#[derive(Subcommand)]
pub enum Verb {
    /// Define a collection point, or put another definition in place of it.
    #[command(after_help = DEFINE)]
    Define(Define),
    /// List collection points, by id.
    List(Paging),
    /// Disable a collection point: nothing may be collected there.
    Disable {
        /// Its id.
        collection_point: String,
    },
    /// Enable a collection point again, as it was defined.
    Enable {
        /// Its id.
        collection_point: String,
    },
}

/// What `collection-point define` defines.
#[derive(clap::Args)]
pub struct Define {
    /// Its id: `web:signup`
    collection_point: String,
    /// What it is; decisions of the past come from `import` and `paper` only
    #[arg(long, value_enum)]
    kind: PointKind,
    /// Who looks after it: a department rather than a person
    #[arg(long, default_value = "", hide_default_value = true)]
    owner: String,
    /// A notice that is shown there, any unless given; may be repeated
    #[arg(long = "notice", value_name = "NOTICE")]
    notices: Vec<String>,
}

/// Carries out a verb.
pub async fn run(remote: Remote, verb: Verb) -> Result<()> {
    let mut vault = remote.open().await?;
    let answer = match verb {
        Verb::Define(define) => {
            let point = v1::CollectionPoint {
                collection_point: define.collection_point,
                kind: define.kind.number(),
                owner: define.owner,
                notices: define.notices,
                disabled: false,
            };
            put(&mut vault, point).await?
        }
        Verb::List(paging) => {
            let listed = paging.collect(async |size, token| page(&mut vault, size, token).await).await?;
            let points: Vec<Value> = listed.entries.iter().map(point).collect();
            let json = json!({ "collection_points": points, "next_page_token": listed.next_page_token });
            Answer::new(json, listed.human("collection point", table))
        }
        Verb::Disable { collection_point } => switch(&mut vault, &collection_point, true).await?,
        Verb::Enable { collection_point } => switch(&mut vault, &collection_point, false).await?,
    };
    remote.output.show(&answer)
}

async fn page(
    vault: &mut Vault,
    page_size: i32,
    page_token: String,
) -> Result<(Vec<v1::CollectionPoint>, String), tonic::Status> {
    let request = v1::ListCollectionPointsRequest { page_size, page_token };
    let response = vault.consents.list_collection_points(request).await?.into_inner();
    Ok((response.collection_points, response.next_page_token))
}

/// Every collection point.
pub async fn all(vault: &mut Vault) -> Result<Vec<v1::CollectionPoint>> {
    Ok(Paging::default().collect(async |size, token| page(vault, size, token).await).await?.entries)
}

async fn put(vault: &mut Vault, given: v1::CollectionPoint) -> Result<Answer> {
    let request = v1::DefineCollectionPointRequest { collection_point: Some(given) };
    let defined = vault.consents.define_collection_point(request).await?.into_inner().collection_point;
    let defined = defined.unwrap_or_default();
    let human = table::record(&[
        ("collection point", defined.collection_point.clone()),
        ("kind", kind(&defined)),
        ("owner", defined.owner.clone()),
        ("notices", defined.notices.join(", ")),
        ("state", state(&defined)),
    ]);
    Ok(Answer::new(json!({ "collection_point": point(&defined) }), human))
}

/// Defines a collection point as it is, but for the switch.
async fn switch(vault: &mut Vault, id: &str, disabled: bool) -> Result<Answer> {
    let found = all(vault).await?.into_iter().find(|point| point.collection_point == id);
    let found =
        found.ok_or_else(|| anyhow!("there is no collection point {id}; `lacuna collection-point list` has all"))?;
    put(vault, v1::CollectionPoint { disabled, ..found }).await
}

fn table(points: &[v1::CollectionPoint]) -> String {
    let rows = points.iter().map(|point| {
        vec![point.collection_point.clone(), kind(point), state(point), point.owner.clone(), point.notices.join(", ")]
    });
    table::table(&["collection point", "kind", "state", "owner", "notices"], rows)
}

fn kind(point: &v1::CollectionPoint) -> String {
    table::short(&print::enum_name(point.kind, v1::CollectionPointKind::as_str_name), "COLLECTION_POINT_KIND_")
}

fn state(point: &v1::CollectionPoint) -> String {
    if point.disabled { "disabled" } else { "enabled" }.to_owned()
}

fn point(point: &v1::CollectionPoint) -> Value {
    json!({
        "collection_point": point.collection_point,
        "kind": print::enum_name(point.kind, v1::CollectionPointKind::as_str_name),
        "owner": point.owner,
        "notices": point.notices,
        "disabled": point.disabled,
    })
}
