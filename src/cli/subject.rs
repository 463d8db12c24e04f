//! `lacuna subject`: people, their restriction and their erasure.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use prost_types::Timestamp;
use serde_json::json;

use super::client::Remote;
use super::confirm::{self, Sure};
use super::failure::Result;
use super::page::Paging;
use super::print::{self, Answer};
use super::{erasure, table, value};
use crate::model::{Clock as _, SystemClock};
use crate::proto::v1;

/// What can be done with people.
#[derive(Subcommand)]
pub enum Verb {
    /// Open a subject; `token create` without --subject does the same.
    Create(Create),
    /// Describe a subject; works after erasure.
    Show {
        /// The subject.
        subject: String,
    },
    /// List subjects, oldest first.
    List(List),
    /// Restrict processing (Art. 18 GDPR).
    Restrict {
        #[command(flatten)]
        target: Target,
        /// Why: `accuracy_contested`, `unlawful_processing`, `needed_for_claims`, `objection_pending`
        #[arg(long)]
        ground: String,
    },
    /// Lift a restriction; the person must have been told before (Art. 18(3) GDPR).
    Lift {
        #[command(flatten)]
        target: Target,
        /// When the person was told (RFC 3339)
        #[arg(long, value_name = "TIME", value_parser = value::time)]
        informed_at: Timestamp,
    },
    /// Switch profiling of a person on or off.
    Profiling {
        #[command(flatten)]
        target: Target,
        /// On or off.
        switch: Switch,
    },
    /// Erase a person: destroy the keys to their data in every copy and backup. Nobody can undo it.
    Erase(Erase),
    /// Have a person take over a provisional subject who was verified to be them.
    Claim(Claim),
    /// Call off an erasure that is still scheduled: everything is as it was.
    Restore {
        /// The subject.
        subject: String,
    },
}

/// Whose record changes.
#[derive(clap::Args)]
pub struct Target {
    /// The subject.
    subject: String,
    /// Refuse when the subject has changed since this etag was read
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
}

/// What `subject create` opens.
#[derive(clap::Args)]
pub struct Create {
    /// Where the subject came from: `web_form:checkout`
    #[arg(long)]
    source: String,
    /// What the person is; `customer` unless given
    #[arg(long, default_value = "", hide_default_value = true)]
    kind: String,
    /// ISO 3166 code of the law that applies: DE, US-CA
    #[arg(long, default_value = "", hide_default_value = true)]
    jurisdiction: String,
    /// A UUID; repeating the call with the same one gives the first answer
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

/// What `subject list` lists.
#[derive(clap::Args)]
pub struct List {
    /// Only subjects in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only subjects of this kind
    #[arg(long, default_value = "", hide_default_value = true)]
    kind: String,
    #[command(flatten)]
    paging: Paging,
}

/// Where a person is in the vault, as `subject_service.proto` documents it; the help shows the names alone.
#[derive(Clone, Copy, ValueEnum)]
pub enum State {
    Active,
    Restricted,
    Scheduled,
    Shredding,
    Shredded,
}

/// A switch.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// The person may be profiled.
    On,
    /// The person may not be profiled.
    Off,
}

/// What `subject erase` erases.
#[derive(clap::Args)]
pub struct Erase {
    /// The subject.
    subject: String,
    /// Why: a ground of Art. 17(1) GDPR or a ticket. Kept in clear for ever, so it names no person
    #[arg(long)]
    reason: String,
    /// Erase at this time instead of now (RFC 3339); restricted and cancellable until then
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    at: Option<Timestamp>,
    /// Erase after so many days instead of now; until then `subject restore` brings everything back
    #[arg(long, value_name = "DAYS", conflicts_with = "at", value_parser = clap::value_parser!(u16).range(1..=366))]
    in_days: Option<u16>,
    #[command(flatten)]
    sure: Sure,
    /// A UUID; repeating the call with the same one gives the first answer
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

/// What `subject claim` claims.
#[derive(clap::Args)]
pub struct Claim {
    /// The provisional subject.
    subject: String,
    /// The person whom it turned out to be; a new customer unless given
    #[arg(long, value_name = "SUBJECT", default_value = "", hide_default_value = true)]
    by: String,
    /// What shows it: a ticket or the method; kept with the audit entry
    #[arg(long, value_name = "TICKET")]
    evidence: String,
    /// That they were asked what they alone know
    #[arg(long, required = true)]
    verified: bool,
    /// A UUID; repeating the call with the same one gives the first answer
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

/// Carries out a verb and shows the answer.
pub async fn run(remote: Remote, verb: Verb) -> Result<()> {
    let answer = match verb {
        Verb::Create(create) => create.run(&remote).await,
        Verb::Show { subject } => show(&remote, subject).await,
        Verb::List(list) => list.run(&remote).await,
        Verb::Restrict { target, ground } => restrict(&remote, target, ground).await,
        Verb::Lift { target, informed_at } => lift(&remote, target, informed_at).await,
        Verb::Profiling { target, switch } => profiling(&remote, target, switch).await,
        Verb::Erase(erase) => erase.run(&remote).await,
        Verb::Claim(claim) => claim.run(&remote).await,
        Verb::Restore { subject } => restore(&remote, subject).await,
    };
    remote.output.show(&answer?)
}

impl Create {
    async fn run(self, remote: &Remote) -> Result<Answer> {
        let request = v1::CreateSubjectRequest {
            kind: self.kind,
            jurisdiction: self.jurisdiction,
            source: self.source,
            request_id: self.request_id,
        };
        let subject = remote.open().await?.subjects.create_subject(request).await?.into_inner().subject;
        let id = subject.as_ref().map(|subject| subject.subject.clone()).unwrap_or_default();
        let next = format!("Seal values with: lacuna token create --subject {id} --source SOURCE email=@FILE");
        Ok(answer(subject, &next))
    }
}

impl List {
    async fn run(self, remote: &Remote) -> Result<Answer> {
        let mut vault = remote.open().await?;
        let state = self.state.map_or(v1::SubjectState::Unspecified, State::number);
        let filter = v1::SubjectFilter { state: state.into(), kind: self.kind };
        let page = async |page_size, page_token| {
            let request = v1::ListSubjectsRequest { filter: Some(filter.clone()), page_size, page_token };
            let response = vault.subjects.list_subjects(request).await?.into_inner();
            Ok((response.subjects, response.next_page_token))
        };
        let listed = self.paging.collect(page).await?;
        let subjects: Vec<_> = listed.entries.iter().map(print::subject).collect();
        let json = json!({ "subjects": subjects, "next_page_token": listed.next_page_token });
        Ok(Answer::new(json, listed.human("subject", table::subjects)))
    }
}

impl State {
    /// As the API has it.
    pub const fn number(self) -> v1::SubjectState {
        match self {
            Self::Active => v1::SubjectState::Active,
            Self::Restricted => v1::SubjectState::Restricted,
            Self::Scheduled => v1::SubjectState::Scheduled,
            Self::Shredding => v1::SubjectState::Shredding,
            Self::Shredded => v1::SubjectState::Shredded,
        }
    }
}

impl Erase {
    async fn run(self, remote: &Remote) -> Result<Answer> {
        confirm::erasing(&self.sure, "the subject's id", &self.subject)?;
        let in_days = self.in_days.map(|days| {
            let time = SystemClock.now().plus(Duration::from_hours(24 * u64::from(days)));
            Timestamp { seconds: time.micros().div_euclid(1_000_000), nanos: 0 }
        });
        let request = v1::EraseSubjectRequest {
            subject: self.subject,
            reason: self.reason,
            execute_time: self.at.or(in_days),
            validate_only: self.sure.dry_run,
            request_id: self.request_id,
        };
        let erasure = remote.open().await?.subjects.erase_subject(request).await?.into_inner().erasure;
        Ok(erasure::answer(erasure, self.sure.dry_run.then_some(confirm::LOOKED)))
    }
}

impl Claim {
    async fn run(self, remote: &Remote) -> Result<Answer> {
        let request = v1::ClaimSubjectRequest {
            subject: self.subject,
            claimant: self.by,
            assurance: v1::CallerAssurance::Verified.into(),
            evidence: self.evidence,
            request_id: self.request_id,
        };
        let claimed = remote.open().await?.subjects.claim_subject(request).await?.into_inner();
        let (claimant, erasure) = (claimed.claimant.unwrap_or_default(), claimed.erasure.unwrap_or_default());
        let told = match erasure.pending_reason.as_str() {
            "" => "What was kept of the provisional subject is theirs, under keys of theirs; the old keys are gone."
                .to_owned(),
            why => format!("What was kept is theirs. That the old keys are gone waits for this: {why}."),
        };
        let json = json!({ "claimant": print::subject(&claimant), "erasure": print::erasure(&erasure) });
        Ok(Answer::new(json, format!("{}\n{told}", table::subject(&claimant))))
    }
}

async fn show(remote: &Remote, subject: String) -> Result<Answer> {
    let request = v1::GetSubjectRequest { subject };
    let subject = remote.open().await?.subjects.get_subject(request).await?.into_inner().subject;
    let state = subject.as_ref().map_or(v1::SubjectState::Unspecified, v1::Subject::state);
    let erasure = subject.as_ref().map(|subject| subject.erasure.clone()).unwrap_or_default();
    let id = subject.as_ref().map(|subject| subject.subject.clone()).unwrap_or_default();
    let next = match state {
        v1::SubjectState::Scheduled => format!("Call the erasure off with: lacuna subject restore {id}"),
        v1::SubjectState::Shredded => format!("Erased. Fetch the proof with: lacuna erasure receipt {erasure}"),
        _ => String::new(),
    };
    Ok(answer(subject, &next))
}

/// Cancels the erasure that the subject waits for.
async fn restore(remote: &Remote, subject: String) -> Result<Answer> {
    let mut vault = remote.open().await?;
    let request = v1::GetSubjectRequest { subject };
    let found = vault.subjects.get_subject(request).await?.into_inner().subject.unwrap_or_default();
    if found.erasure.is_empty() {
        return Err(anyhow::anyhow!("no erasure of the subject is scheduled").into());
    }
    let request = v1::CancelErasureRequest { erasure: found.erasure };
    Ok(erasure::answer(vault.subjects.cancel_erasure(request).await?.into_inner().erasure, None))
}

async fn restrict(remote: &Remote, target: Target, ground: String) -> Result<Answer> {
    let next = format!("Restricted. Lift it with: lacuna subject lift {} --informed-at TIME", target.subject);
    let request = v1::RestrictSubjectRequest { subject: target.subject, ground, etag: target.etag };
    let subject = remote.open().await?.subjects.restrict_subject(request).await?.into_inner().subject;
    Ok(answer(subject, &next))
}

async fn lift(remote: &Remote, target: Target, informed_at: Timestamp) -> Result<Answer> {
    let request = v1::LiftRestrictionRequest {
        subject: target.subject,
        subject_informed_time: Some(informed_at),
        etag: target.etag,
    };
    let subject = remote.open().await?.subjects.lift_restriction(request).await?.into_inner().subject;
    Ok(answer(subject, "The restriction is lifted."))
}

async fn profiling(remote: &Remote, target: Target, switch: Switch) -> Result<Answer> {
    let enabled = switch == Switch::On;
    let request = v1::SetProfilingRequest { subject: target.subject, enabled, etag: target.etag };
    let response = remote.open().await?.subjects.set_profiling(request).await?.into_inner();
    let subject = response.subject.unwrap_or_default();
    let told = match (enabled, response.pending_reason.as_str()) {
        (true, _) => String::new(),
        (false, "") => format!("{} scores were destroyed, in every backup too.", response.scores_destroyed),
        (false, why) => format!(
            "{} scores were deleted. That no backup opens them waits for this: {why}.\nRun the same command again.",
            response.scores_destroyed
        ),
    };
    let json = json!({
        "subject": print::subject(&subject),
        "scores_destroyed": response.scores_destroyed,
        "pending_reason": response.pending_reason,
    });
    Ok(Answer::new(json, format!("{}\n{told}", table::subject(&subject))))
}

/// A subject in both forms, and the next step for people.
fn answer(subject: Option<v1::Subject>, next: &str) -> Answer {
    let subject = subject.unwrap_or_default();
    Answer::new(json!({ "subject": print::subject(&subject) }), format!("{}\n{next}", table::subject(&subject)))
}
