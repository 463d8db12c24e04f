//! `lacuna retention`: how long values are kept.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Subcommand;
use data_encoding::BASE64;
use prost_types::Timestamp;
use serde_json::{Value, json};

use super::client::{Remote, Vault};
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
  lacuna retention define mifid.voice --basis legal-obligation --period P5Y --outlasts-erasure
  lacuna retention define orders --basis contract";

/// What can be done about retention.
#[derive(Subcommand)]
pub enum Verb {
    /// Define a retention class, or a new version of one.
    #[command(after_help = DEFINE)]
    Define(Define),
    /// List retention classes, by code.
    List(Paging),
    /// See what is kept for a time, by class and month, and what of it is overdue.
    Preview,
    /// Destroy what was kept long enough, as the vault does by itself every hour.
    Run(Run),
    /// List runs, newest first, those of the vault itself too.
    Runs(Paging),
    /// Fetch the signed receipt of a run.
    Receipt {
        /// Its id.
        run: String,
        /// Write it to a file
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
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
    /// Whether an erasure leaves its values until their period is over, because a law demands them
    #[arg(long, requires = "period")]
    outlasts_erasure: bool,
    /// A UUID; repeating the call with the same one gives the first answer
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

/// What `retention run` is told.
#[derive(clap::Args)]
pub struct Run {
    /// Say what day it is, by another clock than that of the vault, after that one has moved by more than a day at once
    #[arg(long, value_name = "DATE", value_parser = noon)]
    confirm_date: Option<Timestamp>,
    /// A UUID; repeating the call with the same one gets the first run
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

/// Noon of a day, in UTC: what the vault takes for that day wherever it is typed.
fn noon(text: &str) -> Result<Timestamp, String> {
    let day: jiff::civil::Date = text.parse().map_err(|_| "not a day: write it as 2026-11-23".to_owned())?;
    let noon = day.at(12, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| "no such day".to_owned())?;
    Ok(Timestamp { seconds: noon.timestamp().as_second(), nanos: 0 })
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
                outlasts_erasure: define.outlasts_erasure,
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
        Verb::Preview => {
            let request = v1::PreviewRetentionRequest {};
            preview(&vault.retention.preview_retention(request).await?.into_inner().cohorts)
        }
        Verb::Run(run) => {
            let request = v1::RunRetentionRequest { confirm_time: run.confirm_date, request_id: run.request_id };
            let response = vault.retention.run_retention(request).await?.into_inner();
            done(&response.run.unwrap_or_default(), &response.pending_reason)
        }
        Verb::Runs(paging) => {
            let listed = paging.collect(async |size, token| runs(&mut vault, size, token).await).await?;
            let found: Vec<Value> = listed.entries.iter().map(run_json).collect();
            let json = json!({ "runs": found, "next_page_token": listed.next_page_token });
            Answer::new(json, listed.human("run", runs_table))
        }
        Verb::Receipt { run, file } => {
            let listed = Paging::default().collect(async |size, token| runs(&mut vault, size, token).await).await?;
            let found = listed.entries.into_iter().find(|found| found.run == run && !found.receipt.is_empty());
            let found = found.ok_or_else(|| anyhow!("no run {run} has a receipt; `lacuna retention runs` has all"))?;
            let human = print::signed(&found.receipt, "receipt", file.as_deref(), "lacuna receipt verify")?;
            Answer::new(json!({ "receipt": BASE64.encode(&found.receipt) }), human)
        }
    };
    remote.output.show(&answer)
}

async fn runs(
    vault: &mut Vault,
    page_size: i32,
    page_token: String,
) -> Result<(Vec<v1::RetentionRun>, String), tonic::Status> {
    let request = v1::ListRetentionRunsRequest { page_size, page_token };
    let response = vault.retention.list_retention_runs(request).await?.into_inner();
    Ok((response.runs, response.next_page_token))
}

fn preview(cohorts: &[v1::RetentionCohort]) -> Answer {
    let json = |cohort: &v1::RetentionCohort| {
        json!({
            "retention_class": cohort.retention_class,
            "month": cohort.month,
            "end_time": print::time(cohort.end_time),
            "overdue": cohort.overdue,
            "restricted": cohort.restricted,
            "erased": cohort.erased,
            "subjects": cohort.subjects,
            "values": cohort.values,
        })
    };
    let state = |cohort: &v1::RetentionCohort| {
        let states =
            [(cohort.overdue, "overdue"), (cohort.restricted, "restricted"), (cohort.erased, "outlasts an erasure")];
        states.into_iter().filter(|(is_so, _)| *is_so).map(|(_, state)| state).collect::<Vec<_>>().join(", ")
    };
    let rows = cohorts.iter().map(|cohort| {
        vec![
            cohort.retention_class.clone(),
            cohort.month.clone(),
            table::time(cohort.end_time),
            state(cohort),
            cohort.subjects.to_string(),
            cohort.values.to_string(),
        ]
    });
    let human = match cohorts {
        [] => "Nothing is kept for a time.".to_owned(),
        _ => table::table(&["retention class", "month", "ends", "state", "subjects", "values"], rows),
    };
    Answer::new(json!({ "cohorts": cohorts.iter().map(json).collect::<Vec<Value>>() }), human)
}

fn done(run: &v1::RetentionRun, pending: &str) -> Answer {
    let human = table::record(&[
        ("run", run.run.clone()),
        ("state", run_state(run)),
        ("waits for", pending.to_owned()),
        ("destroyed", items(run)),
    ]);
    let next = proof(&run.run, pending, &run.receipt);
    Answer::new(json!({ "run": run_json(run), "pending_reason": pending }), format!("{human}{next}"))
}

/// How to fetch the receipt of a run, which is there when nothing is waited for any more; nothing where nothing was destroyed.
pub fn proof(run: &str, pending: &str, receipt: &[u8]) -> String {
    match (pending, receipt) {
        ("", []) => String::new(),
        ("", _) => format!("Fetch the proof with: lacuna retention receipt {run}"),
        _ => format!("When that is over, fetch the proof with: lacuna retention receipt {run}"),
    }
}

fn runs_table(runs: &[v1::RetentionRun]) -> String {
    let row = |run: &v1::RetentionRun| {
        vec![run.run.clone(), run_state(run), run.start_caller.clone(), table::time(run.start_time), items(run)]
    };
    table::table(&["run", "state", "caller", "started", "destroyed"], runs.iter().map(row))
}

fn items(run: &v1::RetentionRun) -> String {
    let item = |item: &v1::RetentionRunItem| format!("{} of {}: {}", item.retention_class, item.month, item.values);
    let items: Vec<String> = run.items.iter().map(item).collect();
    if items.is_empty() { "nothing".to_owned() } else { items.join(", ") }
}

fn run_state(run: &v1::RetentionRun) -> String {
    table::short(&print::enum_name(run.state, v1::RetentionRunState::as_str_name), "RETENTION_RUN_STATE_")
}

fn run_json(run: &v1::RetentionRun) -> Value {
    let item = |item: &v1::RetentionRunItem| {
        json!({
            "retention_class": item.retention_class,
            "month": item.month,
            "keys": item.keys,
            "values": item.values,
        })
    };
    json!({
        "run": run.run,
        "state": print::enum_name(run.state, v1::RetentionRunState::as_str_name),
        "start_caller": run.start_caller,
        "start_time": print::time(run.start_time),
        "end_time": print::time(run.end_time),
        "items": run.items.iter().map(item).collect::<Vec<Value>>(),
        "epoch": run.epoch,
        "receipt": BASE64.encode(&run.receipt),
        "call": run.call,
        "hold": run.hold,
        "reason": run.reason,
    })
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
        ("outlasts an erasure", outlasts(&given).to_owned()),
        ("defined", table::time(given.define_time)),
    ]);
    Answer::new(json!({ "retention_class": class(&given) }), human)
}

fn classes_table(classes: &[v1::RetentionClass]) -> String {
    let rows = classes.iter().map(|class| {
        let (code, version, outlasts) = (class.code.clone(), class.version.to_string(), outlasts(class).to_owned());
        vec![code, version, basis(class), class.period.clone(), counting(class), outlasts]
    });
    table::table(&["retention class", "version", "basis", "period", "counting", "outlasts an erasure"], rows)
}

const fn outlasts(class: &v1::RetentionClass) -> &'static str {
    if class.outlasts_erasure { "yes" } else { "no" }
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
        "outlasts_erasure": class.outlasts_erasure,
        "define_time": print::time(class.define_time),
    })
}
