//! `lacuna purpose`: what personal data may be used for.

mod define;

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::Remote;
use super::failure::Result;
use super::page::Paging;
use super::print::{self, Answer};
use super::{document, table};
use crate::proto::v1;
use define::Define;

/// What can be done with purposes.
#[derive(Subcommand)]
pub enum Verb {
    /// Define a purpose, or a new version of one: the whole of it, from flags or from a file.
    #[command(after_help = define::EXAMPLES)]
    Define(Box<Define>),
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
pub async fn run(remote: Remote, verb: Verb) -> Result<()> {
    let answer = match verb {
        Verb::Define(define) => {
            // The file is read first: what is wrong with it needs no vault to be told.
            let request = define.request()?;
            one(remote.open().await?.consents.define_purpose(request).await?.into_inner().purpose)
        }
        Verb::List(paging) => list(&remote, paging).await?,
        Verb::Show { code, version } => {
            let request = v1::GetPurposeRequest { code, version };
            one(remote.open().await?.consents.get_purpose(request).await?.into_inner().purpose)
        }
        Verb::Retire { code } => {
            let request = v1::RetirePurposeRequest { code };
            one(remote.open().await?.consents.retire_purpose(request).await?.into_inner().purpose)
        }
    };
    remote.output.show(&answer)
}

async fn list(remote: &Remote, paging: Paging) -> Result<Answer> {
    let mut vault = remote.open().await?;
    let page = async |page_size, page_token| {
        let response =
            vault.consents.list_purposes(v1::ListPurposesRequest { page_size, page_token }).await?.into_inner();
        Ok((response.purposes, response.next_page_token))
    };
    let listed = paging.collect(page).await?;
    let purposes: Vec<Value> = listed.entries.iter().map(purpose).collect();
    let json = json!({ "purposes": purposes, "next_page_token": listed.next_page_token });
    Ok(Answer::new(json, listed.human("purpose", purposes_table)))
}

fn one(given: Option<v1::Purpose>) -> Answer {
    let given = given.unwrap_or_default();
    let yes = |flag: bool| if flag { "yes".to_owned() } else { String::new() };
    let channels: Vec<String> = given.channels.iter().map(|number| table::channel(*number)).collect();
    let categories: Vec<String> = given.data_categories.iter().map(|number| table::field_type(*number)).collect();
    let human = table::record(&[
        ("purpose", given.code.clone()),
        ("version", given.version.to_string()),
        ("title", given.title.clone()),
        ("basis", basis(&given)),
        ("mode", table::short(&print::enum_name(given.mode, v1::ConsentMode::as_str_name), "CONSENT_MODE_")),
        ("state", state(&given)),
        ("notice", given.notice.clone()),
        ("channels", channels.join(", ")),
        ("reads", categories.join(", ")),
        ("recipients", given.recipients.join(", ")),
        ("kept", given.retention.clone()),
        ("assessment", given.assessment.clone()),
        ("direct marketing", yes(given.direct_marketing)),
        ("profiling", yes(given.profiling)),
        ("automated decision", yes(given.automated_decision)),
        ("despite restriction", yes(given.despite_restriction)),
        ("explicit consent", yes(given.explicit_consent)),
        ("double opt-in", yes(given.double_opt_in)),
        ("age rule", yes(given.age_rule)),
        ("review after", document::period(given.review_after)),
        ("expires after", document::period(given.expires_after)),
        ("grace", document::period(given.grace)),
        ("ask again after", document::period(given.ask_again_after)),
        ("vocabulary", given.dpv_term.clone()),
        ("this version is", table::change(given.change)),
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
    let category = |number: &i32| print::enum_name(*number, v1::FieldType::as_str_name);
    json!({
        "code": purpose.code,
        "version": purpose.version,
        "title": purpose.title,
        "basis": print::enum_name(purpose.basis, v1::LawfulBasis::as_str_name),
        "mode": print::enum_name(purpose.mode, v1::ConsentMode::as_str_name),
        "explicit_consent": purpose.explicit_consent,
        "direct_marketing": purpose.direct_marketing,
        "profiling": purpose.profiling,
        "automated_decision": purpose.automated_decision,
        "despite_restriction": purpose.despite_restriction,
        "double_opt_in": purpose.double_opt_in,
        "channels": purpose.channels.iter().map(channel).collect::<Vec<_>>(),
        "data_categories": purpose.data_categories.iter().map(category).collect::<Vec<_>>(),
        "recipients": purpose.recipients,
        "retention": purpose.retention,
        "notice": purpose.notice,
        "review_after": print::duration(purpose.review_after),
        "expires_after": print::duration(purpose.expires_after),
        "grace": print::duration(purpose.grace),
        "ask_again_after": print::duration(purpose.ask_again_after),
        "age_rule": purpose.age_rule,
        "assessment": purpose.assessment,
        "dpv_term": purpose.dpv_term,
        "state": print::enum_name(purpose.state, v1::PurposeState::as_str_name),
        "change": print::enum_name(purpose.change, v1::VersionChange::as_str_name),
        "define_time": print::time(purpose.define_time),
    })
}
