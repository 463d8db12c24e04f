//! `lacuna honey`: people who do not exist, and whom nobody has a reason to touch.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Remote;
use super::failure::Result;
use super::page::Paging;
use super::print::{self, Answer};
use super::table;
use super::value::{self, Content};
use crate::proto::v1;

/// What can be done with honey.
#[derive(Subcommand)]
pub enum Verb {
    /// Make up a person, keep their values, and tell of whoever touches them.
    Create(Create),
    /// Make honey of a subject that is there.
    Place {
        /// The subject.
        subject: String,
        /// What it is for: a code or a ticket
        #[arg(long, default_value = "", hide_default_value = true)]
        label: String,
    },
    /// Make a subject like any other of it.
    Lift {
        /// The subject.
        subject: String,
    },
    /// List what honey there is.
    List(Paging),
}

/// Somebody who is made up.
#[derive(clap::Args)]
pub struct Create {
    /// Values as TYPE=VALUE that look like those of others: email=ada@example.com
    #[arg(value_name = "TYPE=VALUE", required = true)]
    values: Vec<String>,
    /// Where the values pretend to come from: as those of others
    #[arg(long)]
    source: String,
    /// Under whose law
    #[arg(long, default_value = "", hide_default_value = true)]
    jurisdiction: String,
    /// Delete the tokens at once: whoever asks for them is answered that there are none
    #[arg(long)]
    not_found: bool,
    /// What it is for: a code or a ticket
    #[arg(long, default_value = "", hide_default_value = true)]
    label: String,
}

/// Carries out a verb and shows the answer.
pub async fn run(remote: Remote, verb: Verb) -> Result<()> {
    let answer = match verb {
        Verb::Create(create) => create.run(&remote).await?,
        Verb::Place { subject, label } => {
            let request = v1::PlaceHoneyRequest { subject, label };
            let placed = remote.open().await?.access.place_honey(request).await?.into_inner().honey.unwrap_or_default();
            let human = format!("{} is honey: whoever touches it is told of.", placed.subject);
            Answer::new(json!({ "honey": as_json(&placed) }), human)
        }
        Verb::Lift { subject } => {
            let request = v1::LiftHoneyRequest { subject: subject.clone() };
            remote.open().await?.access.lift_honey(request).await?;
            Answer::new(json!({ "subject": subject }), format!("{subject} is like any other."))
        }
        Verb::List(paging) => {
            let mut vault = remote.open().await?;
            let page = async |page_size, page_token| {
                let request = v1::ListHoneyRequest { page_size, page_token };
                let response = vault.access.list_honey(request).await?.into_inner();
                Ok((response.honey, response.next_page_token))
            };
            let listed = paging.collect(page).await?;
            let honey: Vec<Value> = listed.entries.iter().map(as_json).collect();
            let json = json!({ "honey": honey, "next_page_token": listed.next_page_token });
            Answer::new(json, listed.human("subject", rows))
        }
    };
    remote.output.show(&answer)
}

impl Create {
    async fn run(self, remote: &Remote) -> Result<Answer> {
        let fields = self.values.iter().map(|text| Ok(field(value::read(text)?))).collect::<Result<Vec<_>>>()?;
        let mut vault = remote.open().await?;
        let (source, jurisdiction) = (self.source, self.jurisdiction);
        let request = v1::CreateSubjectRequest { source: source.clone(), jurisdiction, ..Default::default() };
        let subject = vault.subjects.create_subject(request).await?.into_inner().subject.unwrap_or_default().subject;
        let request = v1::TokenizeRequest { subject: subject.clone(), source, fields, ..Default::default() };
        let tokens = vault.tokens.tokenize(request).await?.into_inner().tokens;
        if self.not_found {
            for token in &tokens {
                let request = v1::DeleteTokenRequest { token: token.token.clone(), ..Default::default() };
                vault.tokens.delete_token(request).await?;
            }
        }
        // Last: nothing of this is a touch.
        let request = v1::PlaceHoneyRequest { subject, label: self.label };
        let placed = vault.access.place_honey(request).await?.into_inner().honey.unwrap_or_default();
        let names: Vec<&str> = tokens.iter().map(|token| token.token.as_str()).collect();
        let human = format!(
            "{}\n\nPut these where only a thief looks; whoever asks for one is told of. Subject {}.",
            names.join("\n"),
            placed.subject
        );
        Ok(Answer::new(json!({ "honey": as_json(&placed), "tokens": names }), human))
    }
}

fn field(given: value::Given) -> v1::FieldInput {
    use v1::field_input::Content as Input;
    let content = match given.content {
        Content::Bytes(bytes) => Input::BytesValue(bytes),
        Content::Text(text) => Input::Value(text),
    };
    v1::FieldInput { r#type: given.kind.into(), content: Some(content), ..Default::default() }
}

fn as_json(honey: &v1::Honey) -> Value {
    json!({
        "subject": honey.subject,
        "label": honey.label,
        "placed_by": honey.placed_by,
        "create_time": print::time(honey.create_time),
    })
}

fn rows(honey: &[v1::Honey]) -> String {
    let row = |one: &v1::Honey| {
        vec![one.subject.clone(), one.label.clone(), one.placed_by.clone(), table::time(one.create_time)]
    };
    table::table(&["subject", "label", "placed by", "placed"], honey.iter().map(row))
}
