//! `lacuna hold`: copies of values that a case needs.

use clap::{Subcommand, ValueEnum};
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::client::Remote;
use super::confirm::{self, Sure};
use super::failure::Result;
use super::page::Paging;
use super::print::{self, Answer};
use super::{retention, table};
use crate::proto::v1;

/// Shown below the help of `place`.
const PLACE: &str = "\
Examples:
  lacuna hold place smith-v-acme --basis 'GDPR Art. 17(3)(e)' --subject sub_…
  lacuna hold place smith-v-acme --basis CASE-2026/118 --token tok_… --token tok_… --dry-run";

/// What can be done about legal holds.
#[derive(Subcommand)]
pub enum Verb {
    /// Copy values under a key of their own, whatever becomes of the values themselves.
    #[command(after_help = PLACE)]
    Place(Place),
    /// End a hold: its copies are destroyed.
    Release(Release),
    /// List holds, oldest first.
    List(List),
}

/// What `hold place` holds.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("over").required(true).multiple(true))]
pub struct Place {
    /// The case: `smith-v-acme`
    matter: String,
    /// A legal ground or a ticket
    #[arg(long, value_name = "TICKET")]
    basis: String,
    /// A subject, of whom every value is copied; may be said several times
    #[arg(long = "subject", value_name = "SUBJECT", group = "over", conflicts_with = "tokens")]
    subjects: Vec<String>,
    /// A token whose value is copied; may be said several times
    #[arg(long = "token", value_name = "TOKEN", group = "over")]
    tokens: Vec<String>,
    /// Only tell what would be copied
    #[arg(long)]
    dry_run: bool,
    /// A UUID; repeating the call with the same one gives the first answer
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

/// What `hold release` ends.
#[derive(clap::Args)]
pub struct Release {
    /// The hold.
    hold: String,
    /// A legal ground or a ticket; kept with the receipt
    #[arg(long, value_name = "TICKET")]
    reason: String,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    /// A UUID; repeating the call with the same one gives the first answer
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

/// Which holds `hold list` lists.
#[derive(clap::Args)]
pub struct List {
    /// Those of one matter
    #[arg(long, default_value = "", hide_default_value = true)]
    matter: String,
    /// Those over one subject
    #[arg(long, default_value = "", hide_default_value = true)]
    subject: String,
    /// Those that run, or those that were released
    #[arg(long, value_enum)]
    state: Option<State>,
    #[command(flatten)]
    paging: Paging,
}

/// Where a hold stands.
#[derive(Clone, Copy, ValueEnum)]
enum State {
    /// It runs.
    Active,
    /// It was released.
    Released,
}

impl State {
    const fn number(self) -> i32 {
        match self {
            Self::Active => v1::HoldState::Active as i32,
            Self::Released => v1::HoldState::Released as i32,
        }
    }
}

/// Carries out a verb and shows the answer.
pub async fn run(remote: Remote, verb: Verb) -> Result<()> {
    let answer = match verb {
        Verb::Place(place) => place.run(&remote).await,
        Verb::Release(release) => release.run(&remote).await,
        Verb::List(list) => list.run(&remote).await,
    };
    remote.output.show(&answer?)
}

impl Place {
    async fn run(self, remote: &Remote) -> Result<Answer> {
        let request = v1::PlaceHoldRequest {
            matter: self.matter,
            subjects: self.subjects,
            tokens: self.tokens,
            basis: self.basis,
            validate_only: self.dry_run,
            request_id: self.request_id,
        };
        let hold = remote.open().await?.retention.place_hold(request).await?.into_inner().hold.unwrap_or_default();
        let next = if self.dry_run { "\n\nNothing was changed. Without --dry-run this places the hold." } else { "" };
        Ok(Answer::new(json!({ "hold": as_json(&hold) }), format!("{}{next}", shown(&hold))))
    }
}

impl Release {
    async fn run(self, remote: &Remote) -> Result<Answer> {
        confirm::erasing(&Sure::without_looking(self.yes), "the hold's id", &self.hold)?;
        let request = v1::ReleaseHoldRequest { hold: self.hold, reason: self.reason, request_id: self.request_id };
        let released = remote.open().await?.retention.release_hold(request).await?.into_inner();
        let hold = released.hold.unwrap_or_default();
        let json = json!({
            "hold": as_json(&hold),
            "run": released.run,
            "pending_reason": released.pending_reason,
            "receipt": BASE64.encode(&released.receipt),
        });
        let next = retention::proof(&released.run, &released.pending_reason, &released.receipt);
        let run = table::record(&[("run", released.run), ("waits for", released.pending_reason)]);
        Ok(Answer::new(json, format!("{}\n\n{run}{next}", shown(&hold))))
    }
}

impl List {
    async fn run(self, remote: &Remote) -> Result<Answer> {
        let mut vault = remote.open().await?;
        let (matter, subject, state) = (self.matter, self.subject, self.state.map_or(0, State::number));
        let page = async |page_size, page_token| {
            let (matter, subject) = (matter.clone(), subject.clone());
            let request = v1::ListHoldsRequest { matter, subject, state, page_size, page_token };
            let response = vault.retention.list_holds(request).await?.into_inner();
            Ok((response.holds, response.next_page_token))
        };
        let listed = self.paging.collect(page).await?;
        let holds: Vec<Value> = listed.entries.iter().map(as_json).collect();
        let json = json!({ "holds": holds, "next_page_token": listed.next_page_token });
        Ok(Answer::new(json, listed.human("hold", holds_table)))
    }
}

fn shown(hold: &v1::Hold) -> String {
    let record = table::record(&[
        ("hold", hold.hold.clone()),
        ("matter", hold.matter.clone()),
        ("basis", hold.basis.clone()),
        ("state", state(hold)),
        ("placed", table::time(hold.place_time)),
        ("released", hold.release_time.map(|time| table::time(Some(time))).unwrap_or_default()),
    ]);
    let row = |held: &v1::HeldSubject| vec![held.subject.clone(), held.values.to_string(), held.lost.to_string()];
    format!("{record}\n{}", table::table(&["subject", "values", "lost"], hold.subjects.iter().map(row)))
}

fn holds_table(holds: &[v1::Hold]) -> String {
    let row = |hold: &v1::Hold| {
        let values: i64 = hold.subjects.iter().map(|held| held.values).sum();
        let (subjects, placed) = (hold.subjects.len().to_string(), table::time(hold.place_time));
        vec![hold.hold.clone(), hold.matter.clone(), state(hold), placed, subjects, values.to_string()]
    };
    table::table(&["hold", "matter", "state", "placed", "subjects", "values"], holds.iter().map(row))
}

fn state(hold: &v1::Hold) -> String {
    table::short(&print::enum_name(hold.state, v1::HoldState::as_str_name), "HOLD_STATE_")
}

fn as_json(hold: &v1::Hold) -> Value {
    let subject = |held: &v1::HeldSubject| json!({ "subject": held.subject, "values": held.values, "lost": held.lost });
    json!({
        "hold": hold.hold,
        "matter": hold.matter,
        "basis": hold.basis,
        "state": print::enum_name(hold.state, v1::HoldState::as_str_name),
        "by_token": hold.by_token,
        "place_caller": hold.place_caller,
        "place_time": print::time(hold.place_time),
        "subjects": hold.subjects.iter().map(subject).collect::<Vec<_>>(),
        "release_caller": hold.release_caller,
        "release_time": print::time(hold.release_time),
        "release_reason": hold.release_reason,
    })
}
