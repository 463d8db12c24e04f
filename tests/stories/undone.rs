//! What a transaction sealed and never committed: its rows stay in files and logs, and must die like all others.

use std::collections::BTreeSet;

use lacuna::keys::adversary::Spoils;
use lacuna::model::{FieldType, SubjectId, Token, TokenFormat, TokenRow};
use lacuna::proto::v1;
use lacuna::store::Store;
use lacuna::store::index::{Bucket, Chunk};
use sqlx::Connection as _;

use crate::asks::{CARE, request_id, text, tokenize};
use crate::hoard::{Hoard, keys_now};
use crate::house::{House, field, on_both_stores};
use crate::process::{allow, forbid};
use crate::rotating::rotate;

/// The first leaf that is not the vault's own.
const FIRST: u32 = 16;

/// Every leaf that was handed out is named by a row, or gone, or not used yet, or goes with the next change of the root.
pub async fn assert_no_leaf_is_forgotten(store: &dyn Store) {
    let mut tx = store.read().await.unwrap();
    let head = tx.tree_head().await.unwrap().unwrap();
    let mut known: BTreeSet<u32> = tx.named_leaves(&[(FIRST, u32::MAX)]).await.unwrap().into_iter().collect();
    let dead = tx.punctured_after(0).await.unwrap().into_iter().map(|range| (range.first, range.last));
    let (spare, end) = tx.spare_leaves().await.unwrap();
    known.extend(spare..end);
    for (first, last) in dead.chain(tx.open_ranges().await.unwrap()) {
        known.extend(first..=last);
    }
    let forgotten: Vec<u32> = (FIRST..head.next_leaf).filter(|leaf| !known.contains(leaf)).collect();
    assert!(forgotten.is_empty(), "nobody will ever puncture {forgotten:?}");
}

async fn file_of(house: &House, table: &str) -> Vec<u8> {
    let url = house.config.database_url().unwrap().expose().to_owned();
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("CHECKPOINT").execute(&mut connection).await.unwrap();
    let read = "SELECT pg_read_binary_file(pg_relation_filepath($1))";
    sqlx::query_scalar(read).bind(table).fetch_one(&mut connection).await.unwrap()
}

/// Every version of a chunk of the index that lies in PostgreSQL's files, dead or alive.
async fn chunks_in_files(house: &House) -> Vec<Chunk> {
    const ENVELOPE: usize = 35 + 1 + 32 * 32;
    let file = file_of(house, "index_chunk").await;
    let header = u32::try_from((ENVELOPE + 4) << 2).unwrap().to_le_bytes();
    let number = |at: usize| u32::try_from(i64::from_le_bytes(file[at..at + 8].try_into().unwrap())).ok();
    let mut found = Vec::new();
    for at in (16..file.len() - ENVELOPE - 4).filter(|at| file[*at..].starts_with(&header)) {
        let blob = file[at + 4..at + 4 + ENVELOPE].to_vec();
        let Some((bucket, chunk)) = number(at - 16).zip(number(at - 8)) else { continue };
        let leaf = u32::from_be_bytes(blob[3..7].try_into().unwrap());
        found.push(Chunk { bucket: Bucket { bucket, leaf, chunks: 1, dirty: false }, chunk, blob });
    }
    found
}

/// The rows that these list and that the vault has never had.
async fn ghosts(house: &House, spoils: &Spoils, chunks: &[Chunk]) -> usize {
    let mut tx = house.running().vault.custody().store().read().await.unwrap();
    let rows: BTreeSet<TokenRow> =
        tx.scan_tokens(None, 10_000).await.unwrap().into_iter().map(|facts| facts.token.row).collect();
    let listed: BTreeSet<TokenRow> =
        chunks.iter().filter_map(|chunk| spoils.entries(chunk)).flatten().map(|entry| entry.row).collect();
    listed.difference(&rows).count()
}

/// Every version of a token that lies in PostgreSQL's files, dead or alive, of one with a single short text in one of
/// the classes.
async fn tokens_in_files(house: &House, classes: &[&str]) -> Vec<Token> {
    let file = file_of(house, "token").await;
    let blob = |at: usize| file.get(at..at + 17).filter(|blob| blob[0] == 17 << 1 | 1).map(|blob| &blob[1..]);
    let mut found = Vec::new();
    for at in 0..file.len() {
        let Some((row, subject)) = blob(at).zip(blob(at + 17)) else { continue };
        let row = TokenRow::from_slice(row).unwrap();
        let subject = SubjectId::from_bytes(subject.try_into().unwrap());
        let behind = &file[at + 34..file.len().min(at + 400)];
        for (from, header) in
            behind.windows(8).enumerate().filter(|(_, bytes)| bytes[0] & 1 == 1 && bytes[1..3] == [1, 1])
        {
            let length = usize::from(header[0] >> 1) - 1;
            let Some(sealed) = behind.get(from + 1..from + 1 + length) else { continue };
            let leaf = u32::from_be_bytes(header[4..8].try_into().unwrap());
            let token = |class: &&str| Token {
                row,
                subject,
                kind: FieldType::Text,
                class: (*class).to_owned(),
                format: TokenFormat::Opaque,
                shaped: None,
                tags: Vec::new(),
                expires_at: None,
                single_use: false,
                created_at: lacuna::model::Time::from_micros(0),
                leaf,
                key_version: 1,
                source: String::new(),
                version: 1,
                spent_at: None,
                deleted_at: None,
                ended_at: None,
                sealed: Some(sealed.to_vec()),
            };
            found.extend(classes.iter().map(token));
        }
    }
    found
}

/// The values that they can read of these.
fn read(spoils: &Spoils, tokens: &[Token]) -> BTreeSet<String> {
    // Its length stands before a text, which is padded.
    let text = |value: lacuna::model::Value| {
        let plain = value.encode();
        let length = usize::from(plain.expose()[5]);
        String::from_utf8_lossy(&plain.expose()[6..6 + length]).into_owned()
    };
    tokens.iter().filter_map(|token| spoils.value(token)).map(text).collect()
}

/// Asks to keep a text in a transaction that the database undoes in its last statement.
async fn undone(house: &mut House, subject: &str, class: &str, value: &str) {
    forbid(&house.url(), "INSERT", "request");
    let kept = v1::FieldInput { retention_class: class.to_owned(), ..text(value) };
    let found = field(v1::FieldType::Email, &format!("{}@example.com", value.replace(' ', ".")));
    let ask = v1::TokenizeRequest { request_id: request_id(7), ..tokenize(subject, vec![kept, found]) };
    house.tokens.tokenize(ask).await.unwrap_err();
    allow(&house.url(), "request");
}

on_both_stores! {
    async fn what_was_undone_dies_with_the_next_erasure(house: House) {
        let mut house = house;
        let ada = house.somebody("Ada Lovelace").await;
        let bob = house.somebody("Bob Noyce").await;
        // Of somebody whom the vault has, in a class that is new; then of somebody new.
        undone(&mut house, &ada.subject, "orders", "an order").await;
        undone(&mut house, "", "default", "a stranger").await;
        let again = v1::FieldInput { retention_class: "orders".to_owned(), ..text("an order, again") };
        let (_, kept) = house.tokenize(&bob.subject, vec![again]).await;
        let on_postgres = house.config.database_url().unwrap().expose().starts_with("postgres");
        let secret = BTreeSet::from(["an order".to_owned(), "a stranger".to_owned(), "an order, again".to_owned()]);

        let mut hoard = Hoard::default();
        hoard.collect(&house, "before").await;
        let (mut pile, mut chunks) = (Vec::new(), Vec::new());
        if on_postgres {
            let spoils = hoard.spoils(keys_now(&house).await);
            chunks = chunks_in_files(&house).await;
            assert!(ghosts(&house, &spoils, &chunks).await >= 1, "the index lists somebody who never was");
            pile = tokens_in_files(&house, &["default", "orders"]).await;
            assert_eq!(read(&spoils, &pile), secret, "all lies open");
        }
        assert_eq!(house.erase(&ada.subject).await.state(), v1::ErasureState::Shredded);
        hoard.collect(&house, "after").await;
        let spoils = hoard.spoils(keys_now(&house).await);
        if on_postgres {
            chunks.extend(chunks_in_files(&house).await);
            assert_eq!(ghosts(&house, &spoils, &chunks).await, 0);
            pile.extend(tokens_in_files(&house, &["default", "orders"]).await);
            assert_eq!(read(&spoils, &pile), BTreeSet::from(["an order, again".to_owned()]));
        }
        let store = house.running().vault.custody().store();
        assert_no_leaf_is_forgotten(store).await;
        let mut tx = store.read().await.unwrap();
        let (open, spare) = (tx.open_ranges().await.unwrap(), tx.spare_leaves().await.unwrap());
        let named = tx.named_leaves(&[(FIRST, u32::MAX)]).await.unwrap();
        let end = tx.tree_head().await.unwrap().unwrap().next_leaf;
        drop(tx);
        let derived = |leaf: &u32| spoils.leaf_seed(*leaf).is_some();
        let fresh = |leaf: &u32| (spare.0..spare.1).contains(leaf) || open.iter().any(|(first, last)| (first..=last).contains(&leaf));
        let stray: Vec<u32> = (FIRST..end).filter(derived).filter(|leaf| !fresh(leaf) && !named.contains(leaf)).collect();
        assert!(stray.is_empty(), "nobody names {stray:?}, and they can be derived");
        assert_eq!(house.reveal(&kept, CARE).await, [Ok("an order, again".to_owned())]);
        assert_eq!(house.reveal(&bob.tokens, CARE).await, bob.values());
    }

    async fn writes_amid_constant_changes_of_the_root_are_kept(house: House) {
        let house = house;
        let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let writers: Vec<_> = (0..4)
            .map(|number| {
                let (mut tokens, over) = (house.tokens.clone(), std::sync::Arc::clone(&over));
                tokio::spawn(async move {
                    let mut kept = Vec::new();
                    for round in 0.. {
                        let value = format!("{number} in round {round}");
                        let made = tokens.tokenize(tokenize("", vec![text(&value)])).await.unwrap().into_inner();
                        kept.push((made.tokens[0].token.clone(), value));
                        if over.load(std::sync::atomic::Ordering::SeqCst) {
                            return kept;
                        }
                    }
                    kept
                })
            })
            .collect();
        let mut keys = house.key_service().await;
        for _ in 0..40 {
            rotate(&mut keys, v1::RotationKind::Root, "", "").await.unwrap();
        }
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        let mut house = house;
        let mut kept = Vec::new();
        for writer in writers {
            kept.extend(writer.await.unwrap());
        }
        // Without any key that was made ready before.
        house.reopen().await;
        assert!(kept.len() > 40);
        for some in kept.chunks(500) {
            let (tokens, values): (Vec<_>, Vec<_>) = some.iter().cloned().map(|(token, value)| (token, Ok(value))).unzip();
            assert_eq!(house.reveal(&tokens, CARE).await, values);
        }
        assert_no_leaf_is_forgotten(house.running().vault.custody().store()).await;
    }
}
