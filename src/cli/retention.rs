//! `lacuna retention`: how long values are kept.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Remote;
use super::failure::Result;
use super::names::{Counting, Ground};
use super::page::Paging;
use super::print::{self, Answer};
use super::table;
use crate::proto::v1;

/// Shown below the help of `define`.
const DEFINE: &str = "\
Examples:
  lacuna retention define call.ops --basis contract --period P90D
  lacuna retention define tax.de --basis legal-obligation --period P10Y --counting from-end-of-year
  lacuna retention define orders --basis contract";

/// What can be done about retention.
#[derive(Subcommand)]
pub enum Verb {
    /// Define a retention class, or a new version of one.
    #[command(after_help = DEFINE)]
    Define(Define),
    /// List retention classes, by code.
    List(Paging),
}

/// What `retention define` defines.
#[derive(clap::Args)]
pub struct Define {
    /// Its code: `call.ops`
    code: String,
    /// What people call it
    #[arg(long, default_value = "", hide_default_value = true)]
    title: String,
    /// On what ground its values are kept
    #[arg(long, value_enum)]
    basis: Ground,
    /// How long, as P90D, P6M or P5Y; until the person is erased unless given
    #[arg(long, default_value = "", hide_default_value = true)]
    period: String,
    /// From when the period counts [default: from-creation]
    #[arg(long, value_enum, requires = "period")]
    counting: Option<Counting>,
    /// A UUID; repeating the call with the same one gives the first answer
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

/// Carries out a verb.
pub async fn run(remote: Remote, verb: Verb) -> Result<()> {
    let mut vault = remote.open().await?;
    let answer = match verb {
        Verb::Define(define) => {
            let class = v1::RetentionClass {
                code: define.code,
                title: define.title,
                basis: define.basis.number(),
                period: define.period,
                counting: define.counting.map_or(0, Counting::number),
                ..Default::default()
            };
            let (retention_class, request_id) = (Some(class), define.request_id);
            let request = v1::DefineRetentionClassRequest { retention_class, request_id };
            one(vault.retention.define_retention_class(request).await?.into_inner().retention_class)
        }
        Verb::List(paging) => {
            let page = async |page_size, page_token| {
                let request = v1::ListRetentionClassesRequest { page_size, page_token };
                let response = vault.retention.list_retention_classes(request).await?.into_inner();
                Ok((response.retention_classes, response.next_page_token))
            };
            let listed = paging.collect(page).await?;
            let classes: Vec<Value> = listed.entries.iter().map(class).collect();
            let json = json!({ "retention_classes": classes, "next_page_token": listed.next_page_token });
            Answer::new(json, listed.human("retention class", classes_table))
        }
    };
    remote.output.show(&answer)
}

fn one(given: Option<v1::RetentionClass>) -> Answer {
    let given = given.unwrap_or_default();
    let human = table::record(&[
        ("retention class", given.code.clone()),
        ("version", given.version.to_string()),
        ("title", given.title.clone()),
        ("basis", basis(&given)),
        ("period", given.period.clone()),
        ("counting", counting(&given)),
        ("defined", table::time(given.define_time)),
    ]);
    Answer::new(json!({ "retention_class": class(&given) }), human)
}

fn classes_table(classes: &[v1::RetentionClass]) -> String {
    let rows = classes.iter().map(|class| {
        vec![class.code.clone(), class.version.to_string(), basis(class), class.period.clone(), counting(class)]
    });
    table::table(&["retention class", "version", "basis", "period", "counting"], rows)
}

fn basis(class: &v1::RetentionClass) -> String {
    table::short(&print::enum_name(class.basis, v1::RetentionBasis::as_str_name), "RETENTION_BASIS_")
}

fn counting(class: &v1::RetentionClass) -> String {
    let name = print::enum_name(class.counting, v1::RetentionCounting::as_str_name);
    if class.period.is_empty() { String::new() } else { table::short(&name, "RETENTION_COUNTING_") }
}

fn class(class: &v1::RetentionClass) -> Value {
    json!({
        "code": class.code,
        "version": class.version,
        "title": class.title,
        "basis": print::enum_name(class.basis, v1::RetentionBasis::as_str_name),
        "period": class.period,
        "counting": print::enum_name(class.counting, v1::RetentionCounting::as_str_name),
        "define_time": print::time(class.define_time),
    })
}
