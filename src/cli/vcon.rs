//! `lacuna vcon`: looks at conversations in files and makes of one what a party may have, for which no vault is asked; and records
//! them in a vault, and writes its calls.

mod export;
mod folder;
mod import;
mod out;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use self::out::Out;
use super::client::Remote;
use super::failure::Result;
use super::print::{self, Answer, Output};
use super::table;
use crate::crypto::SystemRandom;
use crate::formats::jwks::KeySet;
use crate::formats::vcon::{self, CardRule, Changes, Conversation, Read, Trust};
use crate::model::{Clock as _, Error, Reason, SystemClock};

/// Arguments of `lacuna vcon`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Read conversations and tell, file by file, what is wrong
    Check(Check),
    /// Write a conversation as one of its parties may have it: nothing of the others is in it
    Redact(Redact),
    /// Record conversations in a vault, each as a call; those that are there already are not recorded again
    #[command(after_help = import::EXAMPLES)]
    Import(import::Import),
    /// Write a call of a vault as a conversation: all of it, or what one party may have
    Export(export::Export),
}

/// Arguments of `lacuna vcon check`.
#[derive(clap::Args)]
struct Check {
    /// vCon files, and folders of files that end in .vcon or .json
    #[arg(required = true, value_name = "FILE|FOLDER")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    reading: Reading,
}

/// Arguments of `lacuna vcon redact`.
#[derive(clap::Args)]
struct Redact {
    /// vCon file
    file: PathBuf,
    /// Whom it is for: the number of a party, counted from 0, or a tel or mailto as it stands in the file
    #[arg(long = "for", value_name = "PARTY")]
    party: String,
    #[command(flatten)]
    out: Out,
    #[command(flatten)]
    reading: Reading,
}

/// How files are read.
#[derive(clap::Args)]
struct Reading {
    /// Public keys of which one must have signed: PEM, a JSON Web Key, or a set of them
    #[arg(long, value_name = "KEYFILE")]
    signer: Option<PathBuf>,
    /// What to do about payment card numbers
    #[arg(long, value_enum, default_value = "refuse")]
    cards: Cards,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Cards {
    /// Put a mask in their place.
    Mask,
    /// Refuse the file.
    Refuse,
}

impl Args {
    /// How to show the answer.
    pub const fn output(&self) -> Output {
        self.remote.output
    }
}

/// Carries a verb out and shows the answer.
pub async fn run(args: Args) -> Result<()> {
    let remote = args.remote;
    match args.verb {
        Verb::Check(check) => self::check(&check, remote.output),
        Verb::Redact(redact) => self::redact(redact, remote.output),
        Verb::Import(import) => import.run(&remote).await,
        Verb::Export(export) => export.run(&remote).await,
    }
}

impl Reading {
    fn keys(&self) -> anyhow::Result<Option<KeySet>> {
        let Some(path) = &self.signer else { return Ok(None) };
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Some(KeySet::of_file(&bytes).with_context(|| format!("in {}", path.display()))?))
    }

    fn read(&self, path: &Path, keys: Option<&KeySet>) -> anyhow::Result<Read, Error> {
        let rule = match self.cards {
            Cards::Mask => CardRule::Mask,
            Cards::Refuse => CardRule::Refuse,
        };
        let size = fs::metadata(path).map(|file| file.len()).unwrap_or_default();
        if size > vcon::MOST_BYTES as u64 {
            return Err(Error::invalid("document", "the file is larger than 32 MiB"));
        }
        let bytes = fs::read(path);
        let bytes =
            bytes.map_err(|error| Error::invalid("document", format!("the file cannot be read: {}", error.kind())))?;
        vcon::read(&bytes, keys.map_or(Trust::Anybody, Trust::Signers), rule)
    }
}

fn check(args: &Check, output: Output) -> Result<()> {
    let keys = args.reading.keys()?;
    let (mut rows, mut results, mut failed) = (Vec::new(), Vec::new(), false);
    for path in &folder::files(&args.paths)? {
        let name = path.display().to_string();
        match args.reading.read(path, keys.as_ref()) {
            Ok(read) => {
                let signed = match (read.signed, keys.is_some()) {
                    (false, _) => "no",
                    (true, false) => "not verified",
                    (true, true) => "verified",
                };
                rows.push(vec![name.clone(), "ok".to_owned(), String::new(), told(&read.changes, signed)]);
                results
                    .push(json!({ "file": name, "ok": true, "signature": signed, "changes": changes(&read.changes) }));
            }
            Err(error) => {
                failed = true;
                let field = error.field.clone().unwrap_or_default();
                rows.push(vec![name.clone(), "refused".to_owned(), field.clone(), error.message.to_string()]);
                let reason = if error.reason == Reason::CardData { "CARD_DATA" } else { "VALUE_INVALID" };
                results.push(
                    json!({ "file": name, "ok": false, "reason": reason, "field": field, "message": error.message }),
                );
            }
        }
    }
    let human = table::table(&["file", "result", "field", "remarks"], rows);
    output.show(&Answer { json: json!({ "files": results }), human, failed })
}

fn changes(changes: &Changes) -> Value {
    json!({
        "addresses_shortened": changes.addresses,
        "cards_masked": changes.cards,
        "digits_dropped": changes.digits,
        "times_without_zone": changes.zones,
    })
}

/// What would be changed on the way in, in words.
fn told(changes: &Changes, signed: &str) -> String {
    let counted = [
        (changes.addresses, "addresses shortened"),
        (changes.cards, "card numbers masked"),
        (changes.digits, "digits dropped"),
        (changes.zones, "times without a zone, taken for UTC"),
    ];
    let mut words: Vec<String> =
        counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{what}: {count}")).collect();
    if signed != "no" {
        words.push(format!("signature: {signed}"));
    }
    words.join("; ")
}

fn redact(args: Redact, output: Output) -> Result<()> {
    let out = args.out.begin()?;
    let keys = args.reading.keys()?;
    let name = args.file.display();
    let read = args.reading.read(&args.file, keys.as_ref()).with_context(|| format!("in {name}"))?;
    let party = party(&read.conversation, &args.party).with_context(|| format!("in {name}"))?;
    let redacted = vcon::redact(&read.conversation, party, SystemClock.now(), &SystemRandom::new());
    let redacted = redacted.map_err(anyhow::Error::from)?;
    let document = vcon::write(&redacted).map_err(anyhow::Error::from)?;
    let Some(out) = out else { return print::line(document.expose()) };
    let out = out.write(document.expose().as_bytes())?;
    let json = json!({ "file": out, "uuid": redacted.uuid, "party": party });
    output
        .show(&Answer::new(json, format!("{} is for party {party}, and nothing of the others is in it", out.display())))
}

/// The party that is meant.
fn party(conversation: &Conversation, meant: &str) -> anyhow::Result<usize> {
    let parties = &conversation.parties;
    if let Ok(at) = meant.parse::<usize>()
        && at < parties.len()
    {
        return Ok(at);
    }
    let known = |party: &vcon::Party| ["tel", "mailto"].iter().any(|name| party.get(name) == Some(meant));
    let mut found = parties.iter().enumerate().filter(|(_, party)| known(party)).map(|(at, _)| at);
    match (found.next(), found.next()) {
        (Some(at), None) => Ok(at),
        (Some(_), Some(_)) => bail!("--for: several parties have that; give the number of one, counted from 0"),
        (None, _) => bail!("--for: there is no such party; give a number from 0 to {}", parties.len().max(1) - 1),
    }
}
