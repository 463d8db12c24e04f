//! The memory of a server that runs: after an erasure neither the values nor the keys of whoever was erased are left in
//! it, freed memory and the stacks of its threads included.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lacuna::crypto::{Random as _, Secret, SystemRandom, derive};
use lacuna::keys::adversary::Loot;
use lacuna::keys::kek::{Absent, LocalKek};
use lacuna::keys::slot::{FileSlot, RootSlot as _};
use lacuna::model::SubjectId;
use lacuna::proto::v1;
use lacuna::store;

use crate::hoard::spellings;
use crate::house::{field, outcome};
use crate::outside::{Door, Outside, outside_on_both_stores};
use crate::process::Server;

/// How long a server may take to let go of what it held for connections that are closed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Memory is compared and skipped by the page, and read by so many of them.
const PAGE: usize = 4096;
const PAGES: usize = 64;

/// A text that was never in any file or other process: kept under a mask, and in the clear only on its way.
struct Canary {
    name: &'static str,
    mask: [u8; 48],
    masked: [u8; 48],
}

impl Canary {
    fn new(name: &'static str) -> Self {
        let (mut mask, mut masked) = ([0; 48], [0; 48]);
        SystemRandom::new().fill(&mut mask);
        SystemRandom::new().fill(&mut masked);
        for (byte, mask) in masked.iter_mut().zip(mask) {
            *byte = (b'a' + *byte % 26) ^ mask;
        }
        Self { name, mask, masked }
    }

    fn text(&self) -> String {
        self.masked.iter().zip(self.mask).map(|(byte, mask)| char::from(byte ^ mask)).collect()
    }
}

/// What is looked for: names with bytes.
type Needles = Vec<(String, Vec<u8>)>;

/// A text in every spelling, and in parts, because what frees memory may overwrite the beginning or the end.
fn of_text(canary: &Canary) -> Needles {
    let text = canary.text();
    let mut all: BTreeSet<Vec<u8>> = spellings(text.as_bytes());
    all.insert(text.to_uppercase().into_bytes());
    all.extend(text.as_bytes().chunks(16).map(<[u8]>::to_vec));
    all.into_iter().map(|bytes| (format!("the {}", canary.name), bytes)).collect()
}

/// A key as it is, in halves and in letters.
fn of_key(name: &str, key: &[u8; 32]) -> Needles {
    let mut all: BTreeSet<Vec<u8>> = spellings(key);
    all.extend(key.chunks(16).map(<[u8]>::to_vec));
    all.into_iter().map(|bytes| (name.to_owned(), bytes)).collect()
}

/// Everything in the memory of a process that it could write to, and where each needle is in it.
fn scan(process: u32, needles: &Needles) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap();
    let mut beginning = vec![Vec::new(); 1 << 16];
    for (at, (_, bytes)) in needles.iter().enumerate() {
        beginning[usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))].push(at);
    }
    let longest = needles.iter().map(|(_, bytes)| bytes.len()).max().unwrap();
    let mut found = BTreeSet::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, mode) = (words.next().unwrap(), words.next().unwrap());
        if !mode.starts_with("rw") {
            continue;
        }
        let place = words.nth(3).unwrap_or("anonymous memory");
        let (from, to) = range.split_once('-').unwrap();
        let (mut from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let place = format!("{place} of {} KiB", (to - from) >> 10);
        // What the last part ended with, so that nothing is missed that spans two.
        let mut text = Vec::new();
        while from < to {
            let mut part = vec![0; usize::try_from(to - from).unwrap().min(PAGES * PAGE)];
            // What cannot be read, as memory of a device, is not the heap.
            if memory.read_exact_at(&mut part, from).is_err() {
                part.fill(0);
            }
            from += part.len() as u64;
            if part.chunks(PAGE).all(|page| *page == [0; PAGE][..page.len()]) {
                text.clear();
                continue;
            }
            text.extend_from_slice(&part);
            for (at, pair) in text.array_windows::<2>().enumerate() {
                for needle in &beginning[usize::from(u16::from_be_bytes(*pair))] {
                    let (name, bytes) = &needles[*needle];
                    if text[at..].starts_with(bytes) {
                        found.insert(format!("{name}, {} bytes, in {place}", bytes.len()));
                    }
                }
            }
            text.drain(..text.len().saturating_sub(longest));
        }
    }
    found.into_iter().collect()
}

/// Looks until nothing is found: what a closed connection held goes a moment after it.
fn forgotten(server: &Server, needles: &Needles) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let found = scan(server.id(), needles);
        if found.is_empty() || begin.elapsed() > PATIENCE {
            return found;
        }
    }
}

/// Every key by which the values of a subject can be read, as somebody derives them who has everything.
async fn keys_of(vault: &Outside, subject: &str) -> Needles {
    let store = store::open(&vault.url()).await.unwrap();
    let mut tx = store.read().await.unwrap();
    let tree = tx.vault().await.unwrap().unwrap().tree;
    let wrapping = LocalKek::open(&vault.kek(), tree, Absent::Refuse, Arc::new(SystemRandom::new())).unwrap();
    let slots = vault.slots();
    let slot = FileSlot::look(&slots[0], &slots[1..], Arc::new(wrapping)).load().await.unwrap().unwrap();
    let mut needles = of_key("the root key", slot.current.key.expose());
    let (pages, subject) = (tx.key_pages().await.unwrap(), SubjectId::parse(subject).unwrap());
    let keys = tx.subject_keys(&[subject]).await.unwrap();
    drop(tx);
    store.close().await;
    let root = Secret::from_slice(slot.current.key.expose()).unwrap();
    let spoils = Loot { tree, pages, keys: vec![root], ..Loot::default() }.closure();
    for key in keys {
        let seed = spoils.leaf_seed(key.leaf).unwrap();
        for above in spoils.seeds_above(key.leaf) {
            needles.extend(of_key("a seed above the leaf", above.expose()));
        }
        let own = derive::subject_key(&seed, &tree, subject.as_bytes(), &key.class, key.version);
        needles.extend(of_key("the seed of the leaf", seed.expose()));
        needles.extend(of_key(SUBJECT_KEY, own.expose()));
    }
    needles
}

const SUBJECT_KEY: &str = "the subject's key";

/// A person of marked values.
struct Marked {
    subject: String,
    tokens: Vec<String>,
    canaries: Vec<Canary>,
}

fn tokenize(fields: Vec<v1::FieldInput>) -> v1::TokenizeRequest {
    v1::TokenizeRequest { source: "web_form:checkout".to_owned(), fields, ..Default::default() }
}

fn detokenize(tokens: &[String]) -> v1::DetokenizeRequest {
    let purpose = "customer_care".to_owned();
    v1::DetokenizeRequest { tokens: tokens.to_vec(), purpose, ..Default::default() }
}

impl Marked {
    /// Values go in and out in every way there is.
    async fn arrives(door: &mut Door) -> Self {
        let names = ["text", "e-mail address", "JSON", "bytes", "text before it was corrected", "text of a stream"];
        let canaries: Vec<_> = names.into_iter().map(Canary::new).collect();
        let values: Vec<String> = canaries.iter().map(Canary::text).collect();
        let bytes = v1::field_input::Content::BytesValue(values[3].clone().into_bytes());
        let fields = vec![
            field(v1::FieldType::Text, &values[0]),
            field(v1::FieldType::Email, &format!("{}@example.com", values[1])),
            field(v1::FieldType::Json, &format!("{{\"note\": \"{}\"}}", values[2])),
            v1::FieldInput { r#type: v1::FieldType::Bytes.into(), content: Some(bytes), ..Default::default() },
            field(v1::FieldType::Text, &values[4]),
        ];
        let kept = door.tokens.tokenize(tokenize(fields.clone())).await.unwrap().into_inner();
        let subject = kept.subject;
        let mut tokens: Vec<String> = kept.tokens.into_iter().map(|token| token.token).collect();
        // Wrongly, rightly, twice.
        let wrong = v1::FieldInput { r#type: v1::FieldType::Iban.into(), ..fields[0].clone() };
        door.tokens.tokenize(tokenize(vec![wrong])).await.unwrap_err();
        let again = v1::FieldInput { deduplicate: true, ..fields[1].clone() };
        let again = v1::TokenizeRequest { subject: subject.clone(), ..tokenize(vec![again]) };
        door.tokens.tokenize(again).await.unwrap();
        let update = v1::UpdateTokenRequest {
            token: tokens[4].clone(),
            content: Some(v1::update_token_request::Content::Value("nothing to hide".to_owned())),
            source: "call:2026".to_owned(),
            ..Default::default()
        };
        door.tokens.update_token(update).await.unwrap();
        let one = field(v1::FieldType::Text, &values[5]);
        let one = v1::TokenizeRequest { subject: subject.clone(), ..tokenize(vec![one]) };
        let mut stream = door.tokens.tokenize_stream(tokio_stream::iter([one])).await.unwrap().into_inner();
        while let Some(answer) = stream.message().await.unwrap() {
            use v1::tokenize_stream_response::Outcome;
            let Some(Outcome::Response(response)) = answer.outcome else { panic!("refused") };
            tokens.extend(response.tokens.into_iter().map(|token| token.token));
        }
        for redaction in [v1::Redaction::PlainText, v1::Redaction::Masked, v1::Redaction::LastFour] {
            let ask = v1::DetokenizeRequest { redaction: redaction.into(), ..detokenize(&tokens) };
            door.tokens.detokenize(ask).await.unwrap();
        }
        assert_eq!(door.find(v1::FieldType::Email, &format!("{}@example.com", values[1])).await.len(), 1);
        Self { subject, tokens, canaries }
    }

    fn needles(&self) -> Needles {
        self.canaries.iter().flat_map(of_text).collect()
    }

    /// Asks for more than a connection takes at once and leaves it there; answers where the values are meanwhile.
    async fn held_up(&self, door: &mut Door, needles: &Needles) -> Vec<String> {
        let tokens: Vec<_> = self.tokens.iter().cycle().take(996).cloned().collect();
        let asks = (0..4).map(|_| detokenize(&tokens)).collect::<Vec<_>>();
        let mut stream = door.tokens.detokenize_stream(tokio_stream::iter(asks)).await.unwrap().into_inner();
        let begin = Instant::now();
        let found = loop {
            let found = scan(door.server.id(), needles);
            if !found.is_empty() || begin.elapsed() > PATIENCE {
                break found;
            }
        };
        // It was the answer that was found, and it is right.
        let first = stream.message().await.unwrap().unwrap();
        let Some(v1::detokenize_stream_response::Outcome::Response(response)) = first.outcome else {
            panic!("refused")
        };
        assert_eq!(outcome(&response.results[0]), Ok(self.canaries[0].text()));
        found
    }
}

/// Closes every connection to a server, which goes on.
fn hang_up(door: Door) -> Server {
    let Door { server, tokens, subjects, channel, .. } = door;
    drop((tokens, subjects, channel));
    server
}

async fn story(vault: &Outside, mut door: Door, more: Needles) {
    let (ada, bob) = (Marked::arrives(&mut door).await, Marked::arrives(&mut door).await);
    let (values, keys) = (ada.needles(), keys_of(vault, &ada.subject).await);

    // It works: what is used is found.
    let held = ada.held_up(&mut door, &values).await;
    assert!(!held.is_empty(), "values on their way are in memory");
    let found = scan(door.server.id(), &keys);
    assert!(found.iter().any(|found| found.starts_with(SUBJECT_KEY)), "a key that is ready is in memory: {found:?}");

    let request =
        v1::EraseSubjectRequest { subject: ada.subject.clone(), reason: "art17_1_b".to_owned(), ..Default::default() };
    let erased = door.subjects.erase_subject(request).await.unwrap().into_inner().erasure.unwrap();
    assert_eq!(erased.state(), v1::ErasureState::Shredded, "{}", erased.pending_reason);
    // Bob's keys after it, by the new root.
    door.tokens.detokenize(detokenize(&bob.tokens)).await.unwrap();
    let others = keys_of(vault, &bob.subject).await;
    let server = hang_up(door);

    let left = forgotten(&server, &[values, keys, bob.needles(), more].concat());
    assert!(left.is_empty(), "left in memory:\n{}", left.join("\n"));
    let found = scan(server.id(), &others);
    assert!(found.iter().any(|found| found.starts_with(SUBJECT_KEY)), "the others' keys are still there: {found:?}");
    assert!(server.stop().success());
}

outside_on_both_stores! {
    async fn memory_forgets_with_the_vault(vault: Outside) {
        vault.configure("[process]\ncore_dumps = 'allow'\n");
        let door = vault.start();
        story(&vault, door, Needles::new()).await;
    }

    async fn memory_forgets_after_a_panic_too(vault: Outside) {
        vault.configure("[process]\ncore_dumps = 'allow'\n");
        // In the midst of writing somebody's values.
        let mut door = vault.try_start(&[("write::before-commit", "1*panic->off".to_owned())]).unwrap();
        let lost = Canary::new("value that a panic lost");
        let refused = door.tokens.tokenize(tokenize(vec![field(v1::FieldType::Text, &lost.text())])).await;
        assert!(refused.is_err(), "the write was interrupted");
        assert!(vault.place.log().contains("write::before-commit"), "by a panic: {}", vault.place.log());
        story(&vault, door, of_text(&lost)).await;
    }
}
