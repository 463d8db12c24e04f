//! Everything that can be copied of a vault, copied again and again: what an adversary may have piled up.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use lacuna::crypto::{Aad, Key, Secret, SystemRandom, open};
use lacuna::keys::adversary::{Loot, Spoils};
use lacuna::keys::kek::{Absent, LocalKek};
use lacuna::keys::slot::{FileSlot, RootSlot as _};
use lacuna::model::{SubjectId, Token, TokenRow};
use lacuna::store::index::{Chunk, Generation};
use lacuna::store::key::{Page, PageId, SubjectKey};
use lacuna::store::subject::Filter;
use lacuna::store::{self, Store};
use sqlx::Connection as _;
use tempfile::TempDir;

use crate::house::House;
use crate::process::setting;

/// One database as one copy had it.
#[derive(Default)]
struct Rows {
    pages: Vec<Page>,
    subject_keys: Vec<SubjectKey>,
    tokens: Vec<Token>,
    chunks: Vec<Chunk>,
    generations: Vec<Generation>,
}

/// All copies that were ever made.
#[derive(Default)]
pub struct Hoard {
    tree: [u8; 16],
    rows: Rows,
    /// What every copied file held, with the name under which it was met first.
    files: HashMap<Vec<u8>, String>,
    /// Copies of the slot's directory, by the moment they were made. Not part of the loot unless a test says so.
    slots: BTreeMap<String, TempDir>,
    /// Commits in SQLite's log that were looked at already.
    commits: HashSet<Vec<u8>>,
}

impl Hoard {
    /// Copies everything there is at this moment, byte for byte, and reads the copies.
    pub async fn collect(&mut self, house: &House, moment: &str) {
        let (copy, slot) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let config = &house.config;
        // Before the rest: an erasure that is tried again meanwhile leaves what this slot opens in place.
        copy_tree(&config.slot_dir(), &slot.path().join("slot"));
        let url = config.database_url().unwrap().expose().to_owned();
        let database = url.strip_prefix("sqlite:").map(PathBuf::from);
        // Between two commits, so that the files belong together; that is how a snapshot of a volume finds them.
        let still = match &database {
            Some(path) => Some(keep_still(path).await),
            None => None,
        };
        copy_tree(&config.data_dir(), &copy.path().join("data"));
        if let Some(mut still) = still {
            sqlx::raw_sql("ROLLBACK").execute(&mut still).await.unwrap();
            still.close().await.unwrap();
        }
        for (at, sink) in config.sink_directories().iter().enumerate() {
            copy_tree(sink, &copy.path().join(format!("sink-{at}")));
        }
        if database.is_none() {
            let dump = copy.path().join("vault.sql");
            run(pg("pg_dump", &url).arg("--file").arg(&dump));
        }
        fs::write(copy.path().join("configuration"), format!("{config:?}")).unwrap();
        self.read_database(&url, copy.path()).await;
        self.take_files(copy.path(), moment);
        self.take_files(slot.path(), &format!("{moment}: slot"));
        self.slots.insert(moment.to_owned(), slot);
    }

    /// Reads a database that was brought up from a physical copy.
    pub async fn read_url(&mut self, url: &str) {
        let store = store::open(url).await.unwrap();
        self.read_rows(&*store).await.unwrap();
        store.close().await;
    }

    /// Adds whatever files lie below `path`, for [`Hoard::occurrences`].
    pub fn take_files(&mut self, path: &Path, moment: &str) {
        for file in files(path) {
            let bytes = fs::read(&file).unwrap_or_default();
            if file.to_string_lossy().contains(".checkpoint") {
                self.rows.pages.extend(pages_of(&bytes));
            }
            let name = format!("{moment}: {}", file.strip_prefix(path).unwrap().display());
            self.files.entry(bytes).or_insert(name);
        }
    }

    async fn read_database(&mut self, url: &str, copy: &Path) {
        if url.starts_with("sqlite:") {
            self.read_log_states(&copy.join("data")).await;
            // A copy of the copy: opening it changes it.
            self.read_copy(&copy.join("data"), None).await.unwrap();
        } else {
            self.read_url(url).await;
        }
    }

    /// Reads SQLite's files from a directory, with the log as it is or as it once was.
    async fn read_copy(&mut self, from: &Path, log: Option<&[u8]>) -> anyhow::Result<()> {
        let scratch = tempfile::tempdir()?;
        for name in ["vault.db", "vault.db-wal"] {
            if from.join(name).exists() {
                fs::copy(from.join(name), scratch.path().join(name))?;
            }
        }
        if let Some(log) = log {
            fs::write(scratch.path().join("vault.db-wal"), log)?;
        }
        let store = store::open(&format!("sqlite:{}", scratch.path().join("vault.db").display())).await?;
        let read = self.read_rows(&*store).await;
        store.close().await;
        read
    }

    /// The log tells every state that was committed since it began: each is a database of its own.
    async fn read_log_states(&mut self, from: &Path) {
        let log = fs::read(from.join("vault.db-wal")).unwrap_or_default();
        let Some(size) = log.get(8..12).map(|size| u32::from_be_bytes(size.try_into().unwrap()) as usize) else {
            return;
        };
        let mut end = 32;
        while let Some(frame) = log.get(end..end + 24 + size) {
            end += frame.len();
            let (is_commit, is_of_this_log) = (frame[4..8] != [0; 4], frame[8..16] == log[16..24]);
            // The first sixty-four bytes hold salt and checksum of the frame.
            if is_commit && is_of_this_log && self.commits.insert(frame[..64].to_vec()) {
                // What came before the schema, or before a checkpoint moved pages, is no whole database.
                let _ = self.read_copy(from, Some(&log[..end])).await;
            }
        }
    }

    async fn read_rows(&mut self, store: &dyn Store) -> anyhow::Result<()> {
        let mut tx = store.read().await?;
        let vault = tx.vault().await?.ok_or_else(|| anyhow::anyhow!("no vault"))?;
        self.tree = vault.tree;
        self.rows.pages.extend(tx.key_pages().await?);
        let subjects: Vec<SubjectId> =
            tx.list_subjects(&Filter::default(), None, 10_000).await?.iter().map(|subject| subject.id).collect();
        self.rows.subject_keys.extend(tx.subject_keys(&subjects).await?);
        self.rows.tokens.extend(tx.scan_tokens(None, 10_000).await?.into_iter().map(|facts| facts.token));
        self.rows.tokens.extend(tx.held_of(&subjects).await?);
        for generation in tx.generations().await? {
            let buckets: Vec<u32> = generation.numbers().collect();
            self.rows.chunks.extend(tx.chunks(&buckets).await?);
            self.rows.generations.push(generation);
        }
        self.forget_twins();
        Ok(())
    }

    fn forget_twins(&mut self) {
        let Rows { pages, subject_keys, tokens, chunks, generations } = &mut self.rows;
        generations.sort_by_key(|generation| generation.leaf);
        generations.dedup_by_key(|generation| generation.leaf);
        pages.sort_by(|one, other| (one.id, &one.blob).cmp(&(other.id, &other.blob)));
        pages.dedup_by(|one, other| one.id == other.id && one.blob == other.blob);
        subject_keys.sort_by_key(|key| key.leaf);
        subject_keys.dedup();
        tokens.sort_by(|one, other| (one.row, &one.sealed).cmp(&(other.row, &other.sealed)));
        tokens.dedup_by(|one, other| one.row == other.row && one.sealed == other.sealed);
        chunks.sort_by(|one, other| one.blob.cmp(&other.blob));
        chunks.dedup_by(|one, other| one.blob == other.blob && one.bucket.leaf == other.bucket.leaf);
    }

    /// What all copies together come to with these keys.
    pub fn spoils(&self, keys: Vec<Secret<32>>) -> Spoils {
        let Rows { pages, subject_keys, tokens, chunks, generations } = &self.rows;
        let (pages, subject_keys, generations) = (pages.clone(), subject_keys.clone(), generations.clone());
        let (tokens, chunks) = (tokens.clone(), chunks.clone());
        Loot { tree: self.tree, pages, keys, subject_keys, tokens, chunks, generations }.closure()
    }

    /// The rows of a subject's tokens in any copy.
    pub fn rows_of(&self, subject: SubjectId) -> BTreeSet<TokenRow> {
        let own = self.rows.tokens.iter().filter(|token| token.subject == subject);
        own.map(|token| token.row).collect()
    }

    /// Every leaf that anybody or any bucket had in any copy.
    pub fn leaves(&self) -> BTreeSet<u32> {
        let people = self.rows.subject_keys.iter().map(|key| key.leaf);
        people.chain(self.bucket_leaves()).collect()
    }

    /// Every leaf that any bucket of the index had in any copy.
    pub fn bucket_leaves(&self) -> BTreeSet<u32> {
        self.rows.chunks.iter().map(|chunk| chunk.bucket.leaf).collect()
    }

    /// The generations of the index in any copy, by the leaf of their key.
    pub fn generations(&self) -> &[Generation] {
        &self.rows.generations
    }

    /// The leaves of a subject in any copy.
    pub fn leaves_of(&self, subject: SubjectId) -> BTreeSet<u32> {
        self.rows.subject_keys.iter().filter(|key| key.subject == subject).map(|key| key.leaf).collect()
    }

    /// Every key that the slot held at a moment, and all others that exist beside it.
    pub async fn keys_of(&self, house: &House, moment: &str) -> Vec<Secret<32>> {
        keys_in(&self.slots[moment].path().join("slot"), &house.config.data_dir()).await
    }

    /// Brings back the slot as it was at a moment.
    pub fn put_slot_back(&self, house: &House, moment: &str) {
        let place = house.config.slot_dir();
        if place.exists() {
            fs::remove_dir_all(&place).unwrap();
        }
        copy_tree(&self.slots[moment].path().join("slot"), &place);
    }

    /// Where any of the texts stands in any copied file, in any of the spellings that programs give a text.
    pub fn occurrences(&self, texts: &BTreeSet<Vec<u8>>) -> Vec<String> {
        let spelt: Vec<(Vec<u8>, &Vec<u8>)> =
            texts.iter().flat_map(|text| spellings(text).into_iter().map(move |spelling| (spelling, text))).collect();
        let mut beginning = vec![Vec::new(); 1 << 16];
        for (at, (spelling, _)) in spelt.iter().enumerate() {
            beginning[usize::from(u16::from_be_bytes([spelling[0], spelling[1]]))].push(at);
        }
        let mut found = Vec::new();
        for (bytes, name) in &self.files {
            for (from, pair) in bytes.array_windows::<2>().enumerate() {
                for at in &beginning[usize::from(u16::from_be_bytes(*pair))] {
                    if bytes[from..].starts_with(&spelt[*at].0) {
                        found.push(format!("{} in {name} at {from}", String::from_utf8_lossy(spelt[*at].1)));
                    }
                }
            }
        }
        found
    }
}

/// Every key that exists now: in the slot, beside it, and the credential.
pub async fn keys_now(house: &House) -> Vec<Secret<32>> {
    keys_in(&house.config.slot_dir(), &house.config.data_dir()).await
}

async fn keys_in(slot: &Path, data: &Path) -> Vec<Secret<32>> {
    keys_under(&slot.join("kek.key"), slot, data).await
}

/// The same of a slot whose wrapping key is kept elsewhere.
pub async fn keys_under(kek_file: &Path, slot: &Path, data: &Path) -> Vec<Secret<32>> {
    let kek = fs::read(kek_file).unwrap();
    // A format, the vault that it serves, the number of its only version, and the key.
    let (tree, kek): ([u8; 16], _) = (kek[1..17].try_into().unwrap(), Secret::from_slice(&kek[21..]).unwrap());
    let signing = fs::read(slot.join("receipt-signing.key")).unwrap();
    let signing = open(&Key::new(&kek), &Aad::new("lacuna/receipt-signing-key/v1").bytes(&tree), &signing).unwrap();
    // Wherever in its encoding the secret begins.
    let mut keys: Vec<Secret<32>> = signing.expose().windows(32).filter_map(Secret::from_slice).collect();
    let token = fs::read_to_string(data.join("dev-token")).unwrap();
    keys.extend(Secret::from_slice(&BASE64URL_NOPAD.decode(token.trim().as_bytes()).unwrap()));
    let wrapping = LocalKek::open(kek_file, tree, Absent::Refuse, Arc::new(SystemRandom::new())).unwrap();
    let content = FileSlot::look(&slot.join("root.slot"), &[], Arc::new(wrapping)).load().await.unwrap().unwrap();
    keys.push(content.current.key);
    keys.extend(content.next.map(|next| next.key));
    keys.push(kek);
    assert!(keys.len() >= 5, "the slot, the wrapping key, the signing key and the credential");
    keys
}

/// The pages in a checkpoint, read without its key.
fn pages_of(checkpoint: &[u8]) -> Vec<Page> {
    let statement = checkpoint.split(|byte| *byte == b'\n').next().unwrap();
    let Ok(statement) = serde_json::from_slice::<serde_json::Value>(statement) else { return Vec::new() };
    let page = |page: &serde_json::Value| {
        let number = |name: &str| u32::try_from(page[name].as_u64().unwrap()).unwrap();
        let version = data_encoding::HEXLOWER.decode(page["version"].as_str().unwrap().as_bytes()).unwrap();
        let (level, prefix) = (u8::try_from(number("level")).unwrap(), number("prefix"));
        let id = PageId { level, prefix, version: version.try_into().unwrap() };
        Page { id, blob: BASE64.decode(page["blob"].as_str().unwrap().as_bytes()).unwrap() }
    };
    statement["pages"].as_array().unwrap().iter().map(page).collect()
}

/// The forms in which a text may stand in a file.
pub fn spellings(text: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut all = BTreeSet::from([text.to_vec()]);
    all.insert(data_encoding::HEXLOWER.encode(text).into_bytes());
    all.insert(data_encoding::HEXUPPER.encode(text).into_bytes());
    // In base64 a text looks different after one or two bytes of something else; its last letters mix with what follows.
    for shift in 0..3 {
        let shifted = [&[0; 2][..shift], text].concat();
        for letters in [BASE64.encode(&shifted), data_encoding::BASE64URL.encode(&shifted)] {
            let (first, last) = ((shift * 8).div_ceil(6), shifted.len() * 8 / 6);
            all.insert(letters.as_bytes()[first..last].to_vec());
        }
    }
    if let Ok(text) = std::str::from_utf8(text) {
        all.insert(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
        all.insert(text.encode_utf16().flat_map(u16::to_be_bytes).collect());
        all.insert(serde_json::to_string(text).unwrap().trim_matches('"').as_bytes().to_vec());
        let escaped = |unit: u16| match u8::try_from(unit) {
            Ok(ascii) if ascii.is_ascii() => char::from(ascii).to_string(),
            _ => format!("\\u{unit:04x}"),
        };
        all.insert(text.encode_utf16().map(escaped).collect::<String>().into_bytes());
    }
    all
}

/// A connection that lets nobody else write to a SQLite database.
async fn keep_still(path: &Path) -> sqlx::SqliteConnection {
    let mut still = sqlx::SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    sqlx::raw_sql("PRAGMA busy_timeout = 10000; BEGIN IMMEDIATE").execute(&mut still).await.unwrap();
    still
}

/// Copies a directory, or whatever stands in its place, by another process: closing a file here would release the
/// locks that SQLite holds on it. A file may be renamed under its hands; then it begins again.
pub fn copy_tree(from: &Path, to: &Path) {
    for _ in 0..5 {
        if Command::new("cp").arg("-R").arg(from).arg(to).output().unwrap().status.success() {
            return;
        }
        let _ = fs::remove_dir_all(to);
    }
    run(Command::new("cp").arg("-R").arg(from).arg(to));
}

/// Every file below a directory; itself, if it is one.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return vec![path.to_owned()] };
    entries.flat_map(|entry| files(&entry.unwrap().path())).collect()
}

/// One of PostgreSQL's programs, connected to a database.
pub fn pg(program: &str, url: &str) -> Command {
    let mut url = url::Url::parse(url).unwrap();
    let mut command = Command::new(pg_program(program));
    if let Some(password) = url.password() {
        command.env("PGPASSWORD", password);
    }
    url.set_password(None).unwrap();
    command.args(["--dbname", url.as_str()]);
    command
}

/// Where one of PostgreSQL's programs is.
pub fn pg_program(program: &str) -> PathBuf {
    setting("LACUNA_TEST_PG_BIN").map_or_else(|| program.into(), |folder| Path::new(&folder).join(program))
}

/// Runs a program that must succeed, and answers what it said.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
