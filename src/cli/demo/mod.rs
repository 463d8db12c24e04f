//! `lacuna demo`: the vault's job on real input, and the attack that it is for, from beginning to end in a temporary
//! folder. Every claim is checked; one that does not hold makes the exit status 1.

mod attack;
mod people;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;

use super::client::{Bearer, Vault};
use super::custodian::{look_at_slot, vault_in};
use super::failure::{Failure, Result};
use super::print::line;
use super::serve::Running;
use crate::config::Config;
use crate::crypto::{Random as _, SystemRandom};
use crate::keys::adversary::Spoils;
use crate::keys::checkpoint::hex;
use crate::keys::receipt;
use crate::model::SystemClock;
use crate::proto::v1;

use people::Person;

/// The purpose that the demo reveals for.
const PURPOSE: &str = "customer_care";

/// Arguments of `lacuna demo`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of vCon conversations (*.json); a few that come with the program when not given
    folder: Option<PathBuf>,
    /// Keep the temporary folder, to look around in
    #[arg(long)]
    keep: bool,
}

/// A person whom the vault knows.
struct Known {
    person: Person,
    subject: String,
    tokens: Vec<String>,
}

/// The demo as it goes along.
struct Demo {
    home: PathBuf,
    config: Config,
    vault: Vault,
    claims: Vec<(String, bool)>,
}

/// Runs the demo.
pub async fn run(args: Args) -> Result<()> {
    let mut name = [0; 8];
    SystemRandom::new().fill(&mut name);
    let home = std::env::temp_dir().join(format!("lacuna-demo-{}", hex(&name)));
    let told = tell(&home, args.folder.as_deref()).await;
    if !home.exists() {
        return told;
    }
    if args.keep {
        line(&format!("\neverything is in {}", home.display()))?;
    } else {
        fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))?;
    }
    told
}

async fn tell(home: &Path, folder: Option<&Path>) -> Result<()> {
    let begun = Instant::now();
    let (conversations, people) = people::read(folder)?;
    fs::create_dir_all(home).map_err(anyhow::Error::from)?;
    let config = Config {
        data_dir: Some(home.join("lacuna-data")),
        listen: Some(([127, 0, 0, 1], 0).into()),
        ..Config::default()
    };
    line(&format!("1. An embedded vault, made in {}", home.display()))?;
    let running = Running::start(&config, Arc::new(SystemClock)).await?;
    let vault = connect(&running).await?;
    let mut demo = Demo { home: home.to_owned(), config, vault, claims: Vec::new() };
    let known = demo.import(conversations, people).await?;
    demo.look_up(&known).await?;
    let (gone, rest) = choose(&known)?;
    let before = demo.copy_everything()?;
    demo.attack_before(&before, gone, rest).await?;
    demo.erase(gone).await?;
    demo.attack_live(gone, rest).await?;
    demo.attack_copies(&before, gone, rest).await?;
    demo.attack_with_old_slot(&before, gone).await?;
    running.stop().await?;
    demo.restore(&before, gone, rest).await?;
    demo.conclude(begun)
}

async fn connect(running: &Running) -> Result<Vault> {
    let path = running.dev_token_file.as_ref().context("the vault has no development credential")?;
    let token = fs::read_to_string(path).map_err(anyhow::Error::from)?;
    let address = Channel::from_shared(format!("http://{}", running.address)).map_err(anyhow::Error::from)?;
    let channel = address.connect().await.map_err(|error| Failure::Unreachable(error.to_string()))?;
    Ok(Vault::new(channel, Bearer::new(token.trim())?))
}

/// The person to be erased, and everybody else. Somebody with a number, so that the look-up by number can be shown.
fn choose(known: &[Known]) -> anyhow::Result<(&Known, &[Known])> {
    let (gone, rest) = known.split_first().context("the conversations name nobody")?;
    ensure!(!rest.is_empty(), "the conversations name one person only; the demo needs somebody who stays");
    Ok((gone, rest))
}

impl Demo {
    fn claim(&mut self, holds: bool, claim: impl Into<String>) -> Result<()> {
        let claim = claim.into();
        line(&format!("   {} {claim}", if holds { "yes:" } else { "NO: " }))?;
        self.claims.push((claim, holds));
        Ok(())
    }

    async fn import(&mut self, conversations: usize, people: Vec<Person>) -> Result<Vec<Known>> {
        line(&format!("\n2. {conversations} conversations: names, numbers and addresses become tokens"))?;
        let bar = ProgressBar::new(people.len() as u64);
        let style = ProgressStyle::with_template("   {wide_bar} {pos}/{len} people");
        bar.set_style(style.map_err(anyhow::Error::from)?);
        let requests: Vec<_> = people.iter().map(tokenize).collect();
        let (begun, mut known) = (Instant::now(), Vec::with_capacity(people.len()));
        let mut answers = self.vault.tokens.tokenize_stream(tokio_stream::iter(requests)).await?.into_inner();
        let mut people = people.into_iter();
        while let (Some(person), Some(answer)) = (people.next(), answers.next().await) {
            match answer?.outcome {
                Some(v1::tokenize_stream_response::Outcome::Response(response)) => known.push(Known {
                    person,
                    subject: response.subject,
                    tokens: response.tokens.into_iter().map(|token| token.token).collect(),
                }),
                Some(v1::tokenize_stream_response::Outcome::Error(error)) => {
                    let refusal = super::failure::Refusal::of_item(&error);
                    line(&format!("   refused: {}", refusal.brief()))?;
                }
                None => {}
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let values: usize = known.iter().map(|known| known.tokens.len()).sum();
        let spent = begun.elapsed();
        line(&format!("   {} people, {values} values, in {spent:.1?}", known.len()))?;
        // Those with a number first: the demo looks one up by it.
        known.sort_by_key(|known| known.person.value(v1::FieldType::Phone).is_none());
        Ok(known)
    }

    async fn look_up(&mut self, known: &[Known]) -> Result<()> {
        line(&format!("\n3. Tokens and a purpose ({PURPOSE}) give the values back, as much as is asked for"))?;
        let someone = known.first().context("the conversations name nobody")?;
        for redaction in [v1::Redaction::PlainText, v1::Redaction::Masked] {
            let shown = self.reveal(&someone.tokens, redaction).await?;
            line(&format!("   {}", shown.into_iter().flatten().collect::<Vec<_>>().join(", ")))?;
        }
        let all = self.readable(known).await?;
        self.claim(all == known.len(), format!("all {} people can be read", known.len()))?;
        let Some(number) = someone.person.value(v1::FieldType::Phone) else { return Ok(()) };
        let respelt = number.replacen('+', "00 ", 1);
        let found = self.find(v1::FieldType::Phone, &respelt).await?;
        let holds = found.contains(&someone.subject);
        self.claim(holds, format!("whoever calls from \"{respelt}\" is found"))
    }

    fn copy_everything(&self) -> Result<PathBuf> {
        line("\n4. Somebody copies every file of the vault: database, logs, checkpoints, credential")?;
        let copy = self.home.join("copy-before");
        let files = attack::copy_folder(&self.config.data_dir(), &copy)?;
        attack::copy_folder(&self.config.slot_dir(), &self.home.join("slot-before"))?;
        line(&format!("   {files} files (and, apart from them, the root slot: by definition nobody should have it)"))?;
        Ok(copy)
    }

    async fn attack_before(&mut self, copy: &Path, gone: &Known, rest: &[Known]) -> Result<()> {
        line("\n5. The attack, first as it is before the erasure: the copy, with every key that exists")?;
        let read = self.plunder(&[copy], &self.config).await?;
        self.claim(read.all_of(gone), "the attack reads the person who will be erased, so it is a real attack")?;
        let others = rest.iter().filter(|other| read.all_of(other)).count();
        self.claim(others == rest.len(), format!("and the {others} others"))
    }

    async fn erase(&mut self, gone: &Known) -> Result<()> {
        line(&format!("\n6. {} is erased", gone.subject))?;
        let begun = Instant::now();
        let request =
            v1::EraseSubjectRequest { subject: gone.subject.clone(), reason: "demo".to_owned(), ..Default::default() };
        let erasure = self.vault.subjects.erase_subject(request).await?.into_inner().erasure.unwrap_or_default();
        let spent = begun.elapsed();
        self.claim(
            erasure.state() == v1::ErasureState::Shredded,
            format!("the answer is SHREDDED, after {spent:.1?}"),
        )?;
        let verified = receipt::verify(&erasure.receipt, None);
        self.claim(verified.is_ok_and(|found| found.statement.subject == gone.subject), "its signed receipt verifies")
    }

    async fn attack_live(&mut self, gone: &Known, rest: &[Known]) -> Result<()> {
        line("\n7. The attack on the live vault")?;
        let shown = self.reveal(&gone.tokens, v1::Redaction::PlainText).await?;
        let refused = shown.iter().all(|value| value.as_ref().is_err_and(|why| why.contains("SUBJECT_ERASED")));
        self.claim(refused, "every token of the erased person answers SUBJECT_ERASED")?;
        let (kind, value) = gone.person.values.first().context("the person has no value")?;
        let found = self.find(*kind, value).await?;
        self.claim(!found.contains(&gone.subject), "a search for their value does not lead to them")?;
        let others = self.readable(rest).await?;
        self.claim(others == rest.len(), format!("all {others} others can be read"))
    }

    async fn attack_copies(&mut self, before: &Path, gone: &Known, rest: &[Known]) -> Result<()> {
        line(
            "\n8. The attack on the copy from before the erasure, and one from after, with every key that still exists",
        )?;
        let after = self.home.join("copy-after");
        attack::copy_folder(&self.config.data_dir(), &after)?;
        let read = self.plunder(&[before, &after], &self.config).await?;
        let (opened, sealed) = read.pages;
        line(&format!("   {opened} pages of the key tree open, {sealed} do not"))?;
        self.claim(!read.anything_of(gone), "of the erased person the attack reads nothing")?;
        self.claim(!read.listed.contains(&gone.subject), "no copy of the search index lists or confirms them")?;
        let others = rest.iter().filter(|other| read.all_of(other)).count();
        self.claim(others == rest.len(), format!("of the {} others it reads all, as any backup must", rest.len()))
    }

    async fn attack_with_old_slot(&mut self, before: &Path, gone: &Known) -> Result<()> {
        line("\n9. The limit of the promise: the same copy together with a copy of the root slot from before")?;
        let old = Config {
            slot: crate::config::Slot { directory: Some(self.home.join("slot-before")), ..Default::default() },
            ..self.config.clone()
        };
        let read = self.plunder(&[before], &old).await?;
        let claim = "whoever kept the old slot can read the erased person: never copy the slot";
        self.claim(read.all_of(gone), claim)
    }

    async fn restore(&mut self, before: &Path, gone: &Known, rest: &[Known]) -> Result<()> {
        line("\n10. The copy from before is put in place, as after a disaster")?;
        let data = self.config.data_dir();
        for ending in ["", "-wal", "-shm"] {
            let file = format!("vault.db{ending}");
            let _not_there = fs::remove_file(data.join(&file));
            if before.join(&file).exists() {
                fs::copy(before.join(&file), data.join(&file)).map_err(anyhow::Error::from)?;
            }
        }
        let running = Running::start(&self.config, Arc::new(SystemClock)).await?;
        self.vault = connect(&running).await?;
        let reapplied = running.report.erasures_reapplied;
        self.claim(reapplied == 1, "the vault applies the erasure to the old database by itself")?;
        let shown = self.reveal(&gone.tokens, v1::Redaction::PlainText).await?;
        let refused = shown.iter().all(|value| value.as_ref().is_err_and(|why| why.contains("SUBJECT_ERASED")));
        self.claim(refused, "the erased person stays erased")?;
        let others = self.readable(rest).await?;
        self.claim(others == rest.len(), format!("all {others} others are back"))?;
        running.stop().await?;
        Ok(())
    }

    fn conclude(&self, begun: Instant) -> Result<()> {
        let failed: Vec<_> = self.claims.iter().filter(|(_, holds)| !holds).collect();
        let spent = begun.elapsed();
        if failed.is_empty() {
            return line(&format!("\nAll {} claims hold ({spent:.1?}).", self.claims.len()));
        }
        line(&format!("\n{} of {} claims do NOT hold:", failed.len(), self.claims.len()))?;
        for (claim, _) in failed {
            line(&format!("   {claim}"))?;
        }
        Err(Failure::Told(1))
    }

    async fn plunder(&self, copies: &[&Path], config: &Config) -> Result<Read> {
        // The database is read in a copy of the copy: opening it may write to its log.
        let mut scratch = Vec::new();
        for (at, copy) in copies.iter().enumerate() {
            let place = self.home.join(format!("scratch-{at}"));
            let _not_there = fs::remove_dir_all(&place);
            attack::copy_folder(copy, &place)?;
            scratch.push(place);
        }
        let store = crate::store::open(config.database_url()?.expose()).await.map_err(anyhow::Error::from)?;
        let vault = vault_in(&*store).await?;
        store.close().await;
        let slot = look_at_slot(config, vault).await?;
        Ok(Read::of(&attack::plunder(&scratch, attack::keys(&*slot, config).await?).await?))
    }

    /// For each token its value, or the reason why not.
    async fn reveal(&self, tokens: &[String], redaction: v1::Redaction) -> Result<Vec<Result<String, String>>> {
        use v1::detokenize_result::Outcome;
        let request = v1::DetokenizeRequest {
            tokens: tokens.to_vec(),
            purpose: PURPOSE.to_owned(),
            redaction: redaction.into(),
            ..Default::default()
        };
        let response = self.vault.tokens.clone().detokenize(request).await?.into_inner();
        let shown = |result: v1::DetokenizeResult| match result.outcome {
            Some(Outcome::Value(value)) => Ok(value),
            Some(Outcome::Error(error)) => Err(super::failure::Refusal::of_item(&error).brief()),
            _ => Err("no text".to_owned()),
        };
        Ok(response.results.into_iter().map(shown).collect())
    }

    /// The subjects with a value.
    async fn find(&self, kind: v1::FieldType, value: &str) -> Result<Vec<String>> {
        let request =
            v1::FindTokensRequest { r#type: kind.into(), value: value.to_owned(), purpose: PURPOSE.to_owned() };
        let response = self.vault.tokens.clone().find_tokens(request).await?.into_inner();
        Ok(response.tokens.into_iter().map(|token| token.subject).collect())
    }

    /// How many people give back exactly what was given for them.
    async fn readable(&self, known: &[Known]) -> Result<usize> {
        let mut readable = 0;
        for part in known.chunks(200) {
            let tokens: Vec<String> = part.iter().flat_map(|known| known.tokens.clone()).collect();
            let mut shown = self.reveal(&tokens, v1::Redaction::PlainText).await?.into_iter();
            for person in part {
                let values: Vec<_> = shown.by_ref().take(person.tokens.len()).collect();
                let given = person.person.values.iter().map(|(_, value)| Ok(value.clone()));
                readable += usize::from(values.into_iter().eq(given));
            }
        }
        Ok(readable)
    }
}

fn tokenize(person: &Person) -> v1::TokenizeRequest {
    let field = |(kind, value): &(v1::FieldType, String)| v1::FieldInput {
        r#type: (*kind).into(),
        content: Some(v1::field_input::Content::Value(value.clone())),
        ..Default::default()
    };
    v1::TokenizeRequest {
        source: "import:vcon".to_owned(),
        fields: person.values.iter().map(field).collect(),
        ..Default::default()
    }
}

/// What an attack has read: for each subject the values that came out, and the subjects that an index lists.
struct Read {
    values: HashMap<String, HashSet<String>>,
    listed: HashSet<String>,
    pages: (usize, usize),
}

impl Read {
    fn of(spoils: &Spoils) -> Self {
        let mut values: HashMap<String, HashSet<String>> = HashMap::new();
        for (token, value) in spoils.values() {
            values.entry(token.subject.to_string()).or_default().insert(value.text().to_owned());
        }
        let rows = spoils.listed();
        let tokens = spoils.tokens().iter().filter(|token| rows.contains(&token.row));
        let listed = tokens.map(|token| token.subject.to_string()).collect();
        Self { values, listed, pages: spoils.pages() }
    }

    fn all_of(&self, known: &Known) -> bool {
        let read = self.values.get(&known.subject);
        known.person.values.iter().all(|(_, value)| read.is_some_and(|read| read.contains(value)))
    }

    fn anything_of(&self, known: &Known) -> bool {
        self.values.contains_key(&known.subject)
    }
}
