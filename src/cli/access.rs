//! `lacuna access`: who may do what, why, and an end to it.

use clap::{Subcommand, ValueEnum};
use prost_types::Timestamp;
use serde_json::{Value, json};

use super::client::{Remote, Vault};
use super::failure::Result;
use super::page::Paging;
use super::print::{self, Answer};
use super::subject::State;
use super::token::Redaction;
use super::{table, value};
use crate::proto::v1;

/// What can be done with callers.
#[derive(Subcommand)]
pub enum Verb {
    /// List the callers, and whether they are disabled.
    Callers(Paging),
    /// Refuse a caller everything from now on, on every node.
    Disable {
        /// The caller.
        caller: String,
        /// Why: a code or a ticket
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Take that back.
    Enable {
        /// The caller.
        caller: String,
        /// Why: a code or a ticket
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// List who may see what of a person, and for which purpose.
    Who {
        /// The person.
        subject: String,
        #[command(flatten)]
        paging: Paging,
    },
    /// Ask what the policies would decide, and which of them.
    Simulate(Simulate),
    /// Write the register of authorised persons.
    Register {
        /// As what.
        #[arg(long, value_enum, default_value_t = Format::Csv)]
        format: Format,
    },
    /// Write the schema of policies.
    Schema,
}

/// A question that nobody has asked.
#[derive(clap::Args)]
pub struct Simulate {
    /// The caller.
    caller: String,
    /// The right, as `reveal`.
    action: String,
    /// For what purpose
    #[arg(long, default_value = "", hide_default_value = true)]
    purpose: String,
    /// To a value of which type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Of which retention class
    #[arg(long, default_value = "", hide_default_value = true)]
    class: String,
    /// Of a person under whose law
    #[arg(long, default_value = "", hide_default_value = true)]
    jurisdiction: String,
    /// Of a person in which state; active unless given
    #[arg(long, value_enum)]
    state: Option<State>,
    /// How much is asked for
    #[arg(long, value_enum, default_value = "plain-text")]
    redaction: Redaction,
    /// As if the token of an equal value were asked for
    #[arg(long)]
    deduplicate: bool,
    /// At this moment (RFC 3339); now unless given
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    at: Option<Timestamp>,
    /// As if the caller were in this group; may be given several times
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
}

/// What the register is written as.
#[derive(Clone, Copy, ValueEnum)]
pub enum Format {
    Csv,
    Json,
}

/// Carries out a verb.
pub async fn run(remote: Remote, verb: Verb) -> Result<()> {
    if matches!(verb, Verb::Schema) {
        return print::line(crate::policy::SCHEMA.trim_end());
    }
    let mut vault = remote.open().await?;
    let answer = match verb {
        Verb::Callers(paging) => {
            let page = async |page_size, page_token| {
                let request = v1::ListCallersRequest { page_size, page_token };
                let response = vault.access.list_callers(request).await?.into_inner();
                Ok((response.callers, response.next_page_token))
            };
            let listed = paging.collect(page).await?;
            let callers: Vec<Value> = listed.entries.iter().map(caller_json).collect();
            let json = json!({ "callers": callers, "next_page_token": listed.next_page_token });
            Answer::new(json, listed.human("caller", callers_table))
        }
        Verb::Disable { caller, reason } => {
            let request = v1::DisableCallerRequest { caller, reason };
            changed(&vault.access.disable_caller(request).await?.into_inner().caller.unwrap_or_default())
        }
        Verb::Enable { caller, reason } => {
            let request = v1::EnableCallerRequest { caller, reason };
            changed(&vault.access.enable_caller(request).await?.into_inner().caller.unwrap_or_default())
        }
        Verb::Who { subject, paging } => {
            let page = async |page_size, page_token| {
                let request = v1::ListWhoCanAccessRequest { subject: subject.clone(), page_size, page_token };
                let response = vault.access.list_who_can_access(request).await?.into_inner();
                Ok((response.entries, response.next_page_token))
            };
            let listed = paging.collect(page).await?;
            let entries: Vec<Value> = listed.entries.iter().map(entry_json).collect();
            let json = json!({ "entries": entries, "next_page_token": listed.next_page_token });
            Answer::new(json, listed.human("entry", entries_table))
        }
        Verb::Simulate(ask) => simulate(&mut vault, ask).await?,
        Verb::Register { format } => return register(&mut vault, format).await,
        Verb::Schema => return Ok(()),
    };
    remote.output.show(&answer)
}

async fn simulate(vault: &mut Vault, ask: Simulate) -> Result<Answer> {
    let kind = ask.kind.as_deref().map(value::field_type).transpose()?;
    let request = v1::SimulateAccessRequest {
        caller: ask.caller,
        groups: ask.groups,
        action: ask.action,
        purpose: ask.purpose,
        r#type: kind.map_or(0, Into::into),
        retention_class: ask.class,
        jurisdiction: ask.jurisdiction,
        state: ask.state.map_or(v1::SubjectState::Unspecified, State::number).into(),
        redaction: ask.redaction.number().into(),
        deduplicate: ask.deduplicate,
        time: ask.at,
    };
    let answer = vault.access.simulate_access(request).await?.into_inner();
    let policies: Vec<Value> =
        answer.policies.iter().map(|policy| json!({ "policy": policy.policy, "place": policy.place })).collect();
    let json = json!({
        "allowed": answer.allowed,
        "refusal": answer.refusal,
        "redaction": redaction_name(answer.redaction),
        "policies": policies,
    });
    let made = answer.policies.iter().map(|policy| format!("{} ({})", policy.policy, policy.place));
    let human = table::record(&[
        ("allowed", if answer.allowed { "yes".to_owned() } else { format!("no: {}", answer.refusal) }),
        ("shown", if answer.allowed { redaction_name(answer.redaction) } else { String::new() }),
        ("by", made.collect::<Vec<_>>().join(", ")),
    ]);
    Ok(Answer { failed: !answer.allowed, ..Answer::new(json, human) })
}

/// Every caller, as the register of authorised persons has them.
async fn register(vault: &mut Vault, format: Format) -> Result<()> {
    let (mut callers, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListCallersRequest { page_size: 1000, page_token };
        let mut response = vault.access.list_callers(request).await?.into_inner();
        callers.append(&mut response.callers);
        page_token = response.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if matches!(format, Format::Json) {
        let all: Vec<Value> = callers.iter().map(caller_json).collect();
        return print::line(&json!({ "authorised_persons": all }).to_string());
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = [
        "caller",
        "person",
        "groups",
        "rights",
        "purposes",
        "granted_by",
        "from",
        "until",
        "trained",
        "removed",
        "removed_by",
        "reason",
    ];
    writer.write_record(head).map_err(anyhow::Error::from)?;
    for caller in &callers {
        let authorization = caller.authorization.clone().unwrap_or_default();
        let removed = if caller.disabled { table::time(caller.change_time) } else { String::new() };
        let removed_by = if caller.disabled { caller.changed_by.clone() } else { String::new() };
        let row = [
            caller.caller.clone(),
            authorization.person,
            caller.groups.join(" "),
            caller.actions.join(" "),
            if caller.limited { caller.purposes.join(" ") } else { "any".to_owned() },
            authorization.granted_by,
            authorization.from_date,
            authorization.until_date,
            authorization.trained_date,
            removed,
            removed_by,
            caller.reason.clone(),
        ];
        writer.write_record(row.map(|cell| harmless(&cell))).map_err(anyhow::Error::from)?;
    }
    let bytes = writer.into_inner().map_err(|error| anyhow::anyhow!("{error}"))?;
    print::line(String::from_utf8_lossy(&bytes).trim_end())
}

/// A cell that no spreadsheet takes for a formula.
fn harmless(cell: &str) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell.to_owned() }
}

fn changed(caller: &v1::AccessCaller) -> Answer {
    let done = if caller.disabled { "is disabled, on every node" } else { "is enabled" };
    Answer::new(json!({ "caller": caller_json(caller) }), format!("{} {done}.", caller.caller))
}

fn redaction_name(redaction: i32) -> String {
    table::short(&print::enum_name(redaction, v1::Redaction::as_str_name), "REDACTION_")
}

fn caller_json(caller: &v1::AccessCaller) -> Value {
    let authorization = caller.authorization.clone().unwrap_or_default();
    json!({
        "caller": caller.caller,
        "configured": caller.configured,
        "groups": caller.groups,
        "actions": caller.actions,
        "limited": caller.limited,
        "purposes": caller.purposes,
        "person": authorization.person,
        "granted_by": authorization.granted_by,
        "from": authorization.from_date,
        "until": authorization.until_date,
        "trained": authorization.trained_date,
        "disabled": caller.disabled,
        "change_time": print::time(caller.change_time),
        "changed_by": caller.changed_by,
        "reason": caller.reason,
    })
}

fn callers_table(callers: &[v1::AccessCaller]) -> String {
    let head = ["caller", "groups", "purposes", "person", "until", "disabled", "by"];
    table::table(
        &head,
        callers.iter().map(|caller| {
            let authorization = caller.authorization.clone().unwrap_or_default();
            vec![
                caller.caller.clone(),
                caller.groups.join(", "),
                if caller.limited { caller.purposes.join(", ") } else { "any".to_owned() },
                authorization.person,
                authorization.until_date,
                if caller.disabled { table::time(caller.change_time) } else { String::new() },
                if caller.disabled { caller.changed_by.clone() } else { String::new() },
            ]
        }),
    )
}

fn entry_json(entry: &v1::AccessEntry) -> Value {
    json!({
        "caller": entry.caller,
        "purpose": entry.purpose,
        "type": print::enum_name(entry.r#type, v1::FieldType::as_str_name),
        "retention_class": entry.retention_class,
        "redaction": print::enum_name(entry.redaction, v1::Redaction::as_str_name),
        "policies": entry.policies,
        "refusal": entry.refusal,
    })
}

fn entries_table(entries: &[v1::AccessEntry]) -> String {
    let head = ["caller", "purpose", "type", "class", "shown", "refused now", "by"];
    table::table(
        &head,
        entries.iter().map(|entry| {
            vec![
                entry.caller.clone(),
                entry.purpose.clone(),
                table::field_type(entry.r#type),
                entry.retention_class.clone(),
                redaction_name(entry.redaction),
                entry.refusal.clone(),
                entry.policies.join(", "),
            ]
        }),
    )
}
