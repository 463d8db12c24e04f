//! `lacuna token`: values in, tokens out, and back.

use anyhow::anyhow;
use clap::{Subcommand, ValueEnum};
use prost_types::Timestamp;
use serde_json::json;

use super::client::{Remote, Vault};
use super::failure::Result;
use super::page::Paging;
use super::print::{self, Answer};
use super::value::{self, Content};
use super::{bulk, table};
use crate::proto::v1;

/// What can be done with tokens.
#[derive(Subcommand)]
pub enum Verb {
    /// Seal values and answer with tokens.
    Create(Box<Create>),
    /// Give back the values behind tokens, for a purpose.
    Reveal(Reveal),
    /// Find the tokens of a value.
    Find(Find),
    /// Describe a token; never its value.
    Show {
        /// The token.
        token: String,
    },
    /// List a subject's tokens, oldest first.
    List(List),
    /// Replace the value behind a token (rectification); the token stays.
    Update(Update),
    /// Delete a token and its value from the live vault; only `subject erase` reaches the backups too.
    Delete(Delete),
}

/// What `token create` seals.
#[derive(clap::Args)]
pub struct Create {
    /// Values as TYPE=VALUE: email=ada@example.com. TYPE=@FILE and TYPE=- keep a value out of the shell's history; a
    /// leading @ is written @@; bytes are given in base64 or from a file
    #[arg(value_name = "TYPE=VALUE", required_unless_present = "from", conflicts_with = "from")]
    values: Vec<String>,
    /// Where the values came from: `web_form:checkout`, `import:crm-2026-11`
    #[arg(long, required_unless_present = "from")]
    pub source: Option<String>,
    /// The subject the values are of; a new one is opened unless given
    #[arg(long, value_name = "SUBJECT")]
    pub subject: Option<String>,
    /// Seal in bulk, from a file or standard input (-), lines of JSON:
    /// `{"subject"?, "source"?, "request_id"?, "fields": [{"type", "value", …}]}`. --source and --subject serve lines that name none
    #[arg(long, value_name = "FILE|-")]
    pub from: Option<String>,
    #[command(flatten)]
    shape: Shape,
    /// A UUID; repeating the call with the same one gives the first answer
    #[arg(long, value_name = "UUID", conflicts_with = "from")]
    request_id: Option<String>,
}

/// What holds for every value of one call.
#[derive(clap::Args)]
pub struct Shape {
    /// What the tokens look like
    #[arg(long, value_enum, default_value = "opaque", conflicts_with = "from")]
    format: Format,
    /// Retention class; `default` unless given
    #[arg(long, value_name = "CLASS", default_value = "", hide_default_value = true, conflicts_with = "from")]
    class: String,
    /// A label on the tokens; may be repeated
    #[arg(long = "tag", value_name = "TAG", conflicts_with = "from")]
    tags: Vec<String>,
    /// When the tokens stop revealing (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = value::time, conflicts_with = "from")]
    expires: Option<Timestamp>,
    /// The first reveal is the last
    #[arg(long, conflicts_with = "from")]
    single_use: bool,
    /// Answer with the existing token of an equal value
    #[arg(long, conflicts_with = "from")]
    deduplicate: bool,
}

/// What a token looks like.
#[derive(Clone, Copy, ValueEnum)]
pub enum Format {
    /// `tok_` and 26 characters.
    Opaque,
    /// In the shape of the value.
    Shaped,
}

/// What `token reveal` asks for.
#[derive(clap::Args)]
pub struct Reveal {
    /// The tokens.
    #[arg(value_name = "TOKEN", required_unless_present = "from", conflicts_with = "from")]
    tokens: Vec<String>,
    /// What the values are needed for; decides whether they are given
    #[arg(long)]
    purpose: String,
    /// How much of each value is shown
    #[arg(long, value_enum, default_value = "plain-text")]
    redaction: Redaction,
    /// Ticket or case that says why; kept with the audit entry
    #[arg(long, value_name = "TICKET", default_value = "", hide_default_value = true)]
    justification: String,
    /// Reveal in bulk: one token a line, from a file or standard input (-)
    #[arg(long, value_name = "FILE|-")]
    pub from: Option<String>,
}

/// How much of a value is shown.
#[derive(Clone, Copy, ValueEnum)]
pub enum Redaction {
    /// The value as it was given.
    PlainText,
    /// Enough to recognise it.
    Masked,
    /// The last four letters or digits.
    LastFour,
    /// That there is a value.
    Redacted,
}

/// What `token find` looks for.
#[derive(clap::Args)]
pub struct Find {
    /// The value as TYPE=VALUE: phone=+4930123456; also TYPE=@FILE and TYPE=-
    #[arg(value_name = "TYPE=VALUE")]
    value: String,
    /// What the search is needed for
    #[arg(long)]
    purpose: String,
}

/// What `token list` lists.
#[derive(clap::Args)]
pub struct List {
    /// Whose tokens.
    subject: String,
    #[command(flatten)]
    paging: Paging,
}

/// What `token update` replaces.
#[derive(clap::Args)]
pub struct Update {
    /// The token.
    token: String,
    /// The new value as TYPE=VALUE, of the type the token has; also TYPE=@FILE and TYPE=-
    #[arg(value_name = "TYPE=VALUE")]
    value: String,
    /// Where the new value came from
    #[arg(long)]
    source: String,
    /// Refuse when the value has changed since this etag was read
    #[arg(long, default_value = "", hide_default_value = true)]
    etag: String,
    /// A UUID; repeating the call with the same one gives the first answer
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

/// What `token delete` deletes.
#[derive(clap::Args)]
pub struct Delete {
    /// The token.
    token: String,
    /// A UUID; repeating the call with the same one gives the first answer
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
}

/// Carries out a verb and shows the answer.
pub async fn run(remote: Remote, verb: Verb) -> Result<()> {
    let answer = match verb {
        Verb::Create(create) if create.from.is_some() => return bulk::create(&remote, *create).await,
        Verb::Create(create) => create.run(&remote).await,
        Verb::Reveal(reveal) if reveal.from.is_some() => return bulk::reveal(&remote, reveal).await,
        Verb::Reveal(reveal) => reveal.run(&remote).await,
        Verb::Find(find) => find.run(&remote).await,
        Verb::Show { token } => show(&remote, token).await,
        Verb::List(list) => list.run(&remote).await,
        Verb::Update(update) => update.run(&remote).await,
        Verb::Delete(delete) => delete.run(&remote).await,
    };
    remote.output.show(&answer?)
}

impl Create {
    async fn run(self, remote: &Remote) -> Result<Answer> {
        let fields = value::read_all(&self.values)?.into_iter().map(|given| self.shape.field(given)).collect();
        let request = v1::TokenizeRequest {
            subject: self.subject.unwrap_or_default(),
            source: self.source.unwrap_or_default(),
            fields,
            request_id: self.request_id.unwrap_or_default(),
        };
        let response = remote.open().await?.tokens.tokenize(request).await?.into_inner();
        let first = response.tokens.first().map(|token| token.token.as_str()).unwrap_or_default();
        let human = format!(
            "{}\n\nSubject {}. Read a value back with: lacuna token reveal --purpose PURPOSE {first}{}",
            table::tokens(&response.tokens),
            if response.subject.is_empty() { "unchanged: every value was known" } else { &response.subject },
            objection(response.suppressed),
        );
        Ok(Answer::new(print::tokenized(&response), human))
    }
}

impl Shape {
    fn field(&self, given: value::Given) -> v1::FieldInput {
        use v1::field_input::Content as Input;
        let content = match given.content {
            Content::Bytes(bytes) => Input::BytesValue(bytes),
            Content::Text(text) => Input::Value(text),
        };
        let format = match self.format {
            Format::Opaque => v1::TokenFormat::Opaque,
            Format::Shaped => v1::TokenFormat::Shaped,
        };
        v1::FieldInput {
            r#type: given.kind.into(),
            content: Some(content),
            format: format.into(),
            retention_class: self.class.clone(),
            deduplicate: self.deduplicate,
            tags: self.tags.clone(),
            expire_time: self.expires,
            single_use: self.single_use,
        }
    }
}

impl Redaction {
    /// As the API has it.
    pub const fn number(self) -> v1::Redaction {
        match self {
            Self::PlainText => v1::Redaction::PlainText,
            Self::Masked => v1::Redaction::Masked,
            Self::LastFour => v1::Redaction::LastFour,
            Self::Redacted => v1::Redaction::Redacted,
        }
    }
}

impl Reveal {
    /// The request for some tokens; purpose, redaction and justification are the same for all.
    pub fn request(&self, tokens: Vec<String>) -> v1::DetokenizeRequest {
        v1::DetokenizeRequest {
            channel: 0,
            tokens,
            purpose: self.purpose.clone(),
            redaction: self.redaction.number().into(),
            justification: self.justification.clone(),
        }
    }

    async fn run(mut self, remote: &Remote) -> Result<Answer> {
        let tokens = std::mem::take(&mut self.tokens);
        let results = remote.open().await?.tokens.detokenize(self.request(tokens)).await?.into_inner().results;
        let json = json!({ "results": results.iter().map(print::revealed).collect::<Vec<_>>() });
        Ok(Answer { json, human: table::revealed(&results), failed: results.iter().any(bulk::is_error) })
    }
}

impl Find {
    async fn run(self, remote: &Remote) -> Result<Answer> {
        let given = value::read(&self.value)?;
        let Content::Text(value) = given.content else {
            return Err(anyhow!("bytes cannot be searched: find the subject, then `lacuna token list SUBJECT`").into());
        };
        let request = v1::FindTokensRequest { r#type: given.kind.into(), value, purpose: self.purpose };
        let found = remote.open().await?.tokens.find_tokens(request).await?.into_inner().tokens;
        let json = json!({ "tokens": found.iter().map(print::token).collect::<Vec<_>>() });
        let human = if found.is_empty() {
            "No active token has this value.".to_owned()
        } else {
            let head = ["token", "subject", "source"];
            let rows = found.iter().map(|token| vec![token.token.clone(), token.subject.clone(), token.source.clone()]);
            format!("{}\n\n{} found.", table::table(&head, rows), table::count(found.len(), "token"))
        };
        Ok(Answer::new(json, human))
    }
}

impl List {
    async fn run(self, remote: &Remote) -> Result<Answer> {
        let mut vault = remote.open().await?;
        let subject = self.subject;
        let page = async |page_size, page_token| {
            let request = v1::ListTokensRequest { subject: subject.clone(), page_size, page_token };
            let response = vault.tokens.list_tokens(request).await?.into_inner();
            Ok((response.tokens, response.next_page_token))
        };
        let listed = self.paging.collect(page).await?;
        let tokens: Vec<_> = listed.entries.iter().map(print::token).collect();
        let json = json!({ "tokens": tokens, "next_page_token": listed.next_page_token });
        Ok(Answer::new(json, listed.human("token", table::tokens)))
    }
}

impl Update {
    /// The API takes the type from the token; what the caller believes it to be is compared before anything changes.
    async fn run(self, remote: &Remote) -> Result<Answer> {
        use v1::update_token_request::Content as Input;
        let given = value::read(&self.value)?;
        let mut vault = remote.open().await?;
        let known = get(&mut vault, &self.token).await?.r#type;
        if known != i32::from(given.kind) {
            let (known, asked) = (table::field_type(known), table::field_type(given.kind.into()));
            return Err(anyhow!("the token stands for type {known}, not {asked}: give {known}=VALUE").into());
        }
        let content = match given.content {
            Content::Bytes(bytes) => Input::BytesValue(bytes),
            Content::Text(text) => Input::Value(text),
        };
        let request = v1::UpdateTokenRequest {
            token: self.token,
            content: Some(content),
            source: self.source,
            etag: self.etag,
            request_id: self.request_id,
        };
        let response = vault.tokens.update_token(request).await?.into_inner();
        let token = response.token.unwrap_or_default();
        let human = format!("{}\nThe value was replaced.{}", table::token(&token), objection(response.suppressed));
        Ok(Answer::new(json!({ "token": print::token(&token), "suppressed": response.suppressed }), human))
    }
}

impl Delete {
    async fn run(self, remote: &Remote) -> Result<Answer> {
        let request = v1::DeleteTokenRequest { token: self.token, request_id: self.request_id };
        remote.open().await?.tokens.delete_token(request).await?;
        let human = "Deleted from the live vault. Backups keep it until the subject is erased: lacuna subject erase";
        Ok(Answer::new(json!({}), human.to_owned()))
    }
}

async fn show(remote: &Remote, token: String) -> Result<Answer> {
    let token = get(&mut remote.open().await?, &token).await?;
    Ok(Answer::new(json!({ "token": print::token(&token) }), table::token(&token)))
}

async fn get(vault: &mut Vault, token: &str) -> Result<v1::Token> {
    let request = v1::GetTokenRequest { token: token.to_owned() };
    Ok(vault.tokens.get_token(request).await?.into_inner().token.unwrap_or_default())
}

/// What people are told of somebody who objects to direct marketing.
const fn objection(suppressed: bool) -> &'static str {
    if suppressed { "\nSUPPRESSED: the person objects to direct marketing; nothing is permitted for that." } else { "" }
}
