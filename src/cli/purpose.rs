//! `lacuna purpose`: what personal data may be used for.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Remote;
use super::failure::Result;
use super::page::Paging;
use super::print::{self, Answer};
use super::table;
use crate::proto::v1;

/// A noun's connection and verb.
#[derive(clap::Args)]
pub struct Args {
    /// Which vault, and how to show its answer.
    #[command(flatten)]
    pub remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

/// What can be done with purposes.
#[derive(Subcommand)]
enum Verb {
    /// List purposes, by code.
    List(Paging),
    /// Describe a purpose.
    Show {
        /// Its code.
        code: String,
        /// Which version; the present one unless given
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        version: i32,
    },
    /// Retire a purpose: nothing is permitted for it any more.
    Retire {
        /// Its code.
        code: String,
    },
}

/// Carries out a verb.
pub async fn run(args: Args) -> Result<()> {
    let remote = args.remote;
    let mut vault = remote.open().await?;
    let answer = match args.verb {
        Verb::List(paging) => {
            let page = async |page_size, page_token| {
                let response =
                    vault.consents.list_purposes(v1::ListPurposesRequest { page_size, page_token }).await?.into_inner();
                Ok((response.purposes, response.next_page_token))
            };
            let listed = paging.collect(page).await?;
            let purposes: Vec<Value> = listed.entries.iter().map(purpose).collect();
            let json = json!({ "purposes": purposes, "next_page_token": listed.next_page_token });
            Answer::new(json, listed.human("purpose", purposes_table))
        }
        Verb::Show { code, version } => {
            let request = v1::GetPurposeRequest { code, version };
            one(vault.consents.get_purpose(request).await?.into_inner().purpose)
        }
        Verb::Retire { code } => {
            one(vault.consents.retire_purpose(v1::RetirePurposeRequest { code }).await?.into_inner().purpose)
        }
    };
    remote.output.show(&answer)
}

fn one(given: Option<v1::Purpose>) -> Answer {
    let given = given.unwrap_or_default();
    let yes = |flag: bool| if flag { "yes".to_owned() } else { String::new() };
    let human = table::record(&[
        ("purpose", given.code.clone()),
        ("version", given.version.to_string()),
        ("title", given.title.clone()),
        ("basis", basis(&given)),
        ("state", state(&given)),
        ("notice", given.notice.clone()),
        ("recipients", given.recipients.join(", ")),
        ("kept", given.retention.clone()),
        ("direct marketing", yes(given.direct_marketing)),
        ("profiling", yes(given.profiling)),
        ("despite restriction", yes(given.despite_restriction)),
        ("defined", table::time(given.define_time)),
    ]);
    Answer::new(json!({ "purpose": purpose(&given) }), human)
}

fn purposes_table(purposes: &[v1::Purpose]) -> String {
    let rows = purposes.iter().map(|purpose| {
        vec![purpose.code.clone(), purpose.version.to_string(), basis(purpose), state(purpose), purpose.notice.clone()]
    });
    table::table(&["purpose", "version", "basis", "state", "notice"], rows)
}

fn basis(purpose: &v1::Purpose) -> String {
    table::short(&print::enum_name(purpose.basis, v1::LawfulBasis::as_str_name), "LAWFUL_BASIS_")
}

fn state(purpose: &v1::Purpose) -> String {
    table::short(&print::enum_name(purpose.state, v1::PurposeState::as_str_name), "PURPOSE_STATE_")
}

fn purpose(purpose: &v1::Purpose) -> Value {
    let channel = |number: &i32| print::enum_name(*number, v1::Channel::as_str_name);
    json!({
        "code": purpose.code,
        "version": purpose.version,
        "title": purpose.title,
        "basis": print::enum_name(purpose.basis, v1::LawfulBasis::as_str_name),
        "state": print::enum_name(purpose.state, v1::PurposeState::as_str_name),
        "change": print::enum_name(purpose.change, v1::VersionChange::as_str_name),
        "channels": purpose.channels.iter().map(channel).collect::<Vec<_>>(),
        "recipients": purpose.recipients,
        "retention": purpose.retention,
        "notice": purpose.notice,
        "direct_marketing": purpose.direct_marketing,
        "profiling": purpose.profiling,
        "despite_restriction": purpose.despite_restriction,
        "define_time": print::time(purpose.define_time),
    })
}
