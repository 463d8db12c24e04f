//! `lacuna consent`: what people decided, and what follows from it.

pub(crate) mod import;
mod link;
mod proof;
mod record;
mod review;
mod shown;

use std::path::PathBuf;

use clap::Subcommand;
use prost_types::Timestamp;
use serde_json::{Value, json};

use super::client::Remote;
use super::failure::Result;
use super::names::Channel;
use super::page::Paging;
use super::print::Answer;
use super::{table, value};
use crate::proto::v1;

/// What can be done with consents.
#[derive(Subcommand)]
pub enum Verb {
    /// Show what is permitted of a person: purposes down, channels across.
    #[command(after_help = "Example:\n  lacuna consent list sub_a4k3cj6b3f6twla36ga64eaaaa --long")]
    List {
        /// The person.
        subject: String,
        /// Show how each consent stands, since when and until when
        #[arg(long)]
        long: bool,
    },
    /// Ask whether a person's data may be used; exit status 1 when not.
    #[command(after_help = "\
Example:
  lacuna consent check sub_a4k3cj6b3f6twla36ga64eaaaa marketing.email --channel email --at 2026-03-03T10:00:00Z")]
    Check {
        #[command(flatten)]
        about: About,
        /// At this moment (RFC 3339); now unless given
        #[arg(long, value_name = "TIME", value_parser = value::time)]
        at: Option<Timestamp>,
    },
    /// List what was recorded of a person, oldest first; works after erasure.
    #[command(after_help = "Example:\n  lacuna consent events sub_a4k3cj6b3f6twla36ga64eaaaa --output json")]
    Events {
        /// The person.
        subject: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// Record what a person decided, or what became of a decision.
    #[command(after_help = record::EXAMPLES)]
    Record(Box<record::Record>),
    /// Record existing consents from CSV or JSON lines, and tell of each row what became of it.
    #[command(after_help = import::EXAMPLES)]
    Import(Box<import::Import>),
    /// Make a link by which a person withdraws one consent without logging in (RFC 8058).
    #[command(after_help = "\
Example:
  lacuna consent link sub_a4k3cj6b3f6twla36ga64eaaaa marketing.email --channel email")]
    Link {
        #[command(flatten)]
        about: About,
    },
    /// Withdraw by a link, as the person who follows it does; again changes nothing.
    #[command(after_help = "Example:\n  lacuna consent withdraw-by-link - --purpose marketing.email <link.txt")]
    WithdrawByLink {
        /// The link; standard input for -
        #[arg(value_name = "LINK|-", allow_hyphen_values = true)]
        link: String,
        /// The purpose that the person believes to withdraw from; another one than the link's is refused
        #[arg(long, default_value = "", hide_default_value = true)]
        purpose: String,
    },
    /// Fetch the signed proof of what was permitted at a moment, and on what evidence; works after erasure.
    #[command(after_help = "\
Example:
  lacuna consent prove sub_a4k3cj6b3f6twla36ga64eaaaa marketing.email --at 2026-03-03T10:00:00Z --file proof.json")]
    Prove {
        #[command(flatten)]
        about: About,
        /// At this moment (RFC 3339); now unless given
        #[arg(long, value_name = "TIME", value_parser = value::time)]
        at: Option<Timestamp>,
        /// Where to write it; standard output unless given
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Fetch a signed receipt of a person's consents (ISO/IEC TS 27560); works after erasure.
    #[command(after_help = "Example:\n  lacuna consent receipt sub_a4k3cj6b3f6twla36ga64eaaaa --file receipt.json")]
    Receipt {
        /// The person.
        subject: String,
        /// Where to write it; standard output unless given
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Check a proof or a receipt of consents offline: its signature and, of a proof, the chain, the texts and the decision
    #[command(after_help = "\
Example:
  lacuna consent verify proof.json --public-key lacuna-slot/receipt-signing.pub")]
    Verify {
        /// File with the signed bundle or receipt, as the API gave it
        file: PathBuf,
        /// File with the public keys of which one must have signed: receipt-signing.pub in the vault's slot directory
        #[arg(long, value_name = "FILE")]
        public_key: Option<PathBuf>,
    },
    /// List consents that should be looked at: to be reviewed, about to end, or under what has changed since.
    #[command(after_help = "Example:\n  lacuna consent due --before 2027-01-01T00:00:00Z")]
    Due {
        /// Due before this moment (RFC 3339); 30 days from now unless given
        #[arg(long, value_name = "TIME", value_parser = value::time)]
        before: Option<Timestamp>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Report on all consents what an auditor asks; takes time with the number of people.
    #[command(after_help = "Example:\n  lacuna consent audit --output json")]
    Audit,
}

/// Whose data, and what for.
#[derive(clap::Args)]
pub struct About {
    /// The person.
    subject: String,
    /// The purpose: `marketing.email`
    purpose: String,
    /// The channel; any unless given
    #[arg(long, value_enum)]
    channel: Option<Channel>,
}

impl About {
    fn channel(&self) -> i32 {
        self.channel.map_or(0, Channel::number)
    }
}

/// Carries out a verb.
pub async fn run(remote: Remote, verb: Verb) -> Result<()> {
    let answer = match verb {
        Verb::List { subject, long } => list(&remote, subject, long).await?,
        Verb::Check { about, at } => check(&remote, about, at).await?,
        Verb::Events { subject, paging } => events(&remote, subject, paging).await?,
        Verb::Record(record) => record.run(&remote).await?,
        Verb::Import(import) => return import.run(&remote).await,
        Verb::Link { about } => link::create(&remote, about).await?,
        Verb::WithdrawByLink { link, purpose } => link::follow(&remote, link, purpose).await?,
        Verb::Prove { about, at, file } => proof::prove(&remote, about, at, file.as_deref()).await?,
        Verb::Receipt { subject, file } => proof::receipt(&remote, subject, file.as_deref()).await?,
        Verb::Verify { file, public_key } => proof::check(&file, public_key)?,
        Verb::Due { before, paging } => review::due(&remote, before, paging).await?,
        Verb::Audit => review::audit(&remote).await?,
    };
    remote.output.show(&answer)
}

async fn list(remote: &Remote, subject: String, long: bool) -> Result<Answer> {
    let response = remote.open().await?.consents.list_consents(v1::ListConsentsRequest { subject }).await?.into_inner();
    let show = if long { shown::consents_table } else { shown::permissions };
    let mut human = show(&response.consents);
    if response.suppressed {
        human.push_str("\n\nThe person has objected to all direct marketing.");
    }
    let consents: Vec<Value> = response.consents.iter().map(shown::consent).collect();
    Ok(Answer::new(json!({ "consents": consents, "suppressed": response.suppressed }), human))
}

async fn check(remote: &Remote, about: About, at: Option<Timestamp>) -> Result<Answer> {
    let channel = about.channel();
    let request = v1::CheckPermissionRequest { subject: about.subject, purpose: about.purpose, channel, at };
    let response = remote.open().await?.consents.check_permission(request).await?.into_inner();
    let given = response.permission.unwrap_or_default();
    let human = table::record(&[
        ("permitted", if given.allowed { "yes".to_owned() } else { format!("no: {}", given.reason) }),
        ("consent", shown::state(given.state)),
        ("event", given.evidence_event.clone()),
        ("until", table::time(given.valid_until)),
    ]);
    Ok(Answer { json: json!({ "permission": shown::permission(&given) }), human, failed: !given.allowed })
}

async fn events(remote: &Remote, subject: String, paging: Paging) -> Result<Answer> {
    let mut vault = remote.open().await?;
    let page = async |page_size, page_token| {
        let request = v1::ListConsentEventsRequest { subject: subject.clone(), page_size, page_token };
        let response = vault.consents.list_consent_events(request).await?.into_inner();
        Ok((response.events, response.next_page_token))
    };
    let listed = paging.collect(page).await?;
    let events: Vec<Value> = listed.entries.iter().map(shown::event).collect();
    let json = json!({ "events": events, "next_page_token": listed.next_page_token });
    Ok(Answer::new(json, listed.human("event", shown::events_table)))
}
