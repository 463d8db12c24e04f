//! A ciphertext opens where it was sealed and nowhere else: whoever can write to the database can break values, and
//! never make the vault answer one person's value for another's.

use std::collections::HashMap;

use lacuna::proto::v1;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

use crate::house::{House, field, on_both_stores, reason};

const CARE: &str = "customer_care";

/// The database behind a vault's back.
enum Raw {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

/// A row of `token`, with all that a seal is bound to.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
struct Row {
    id: Vec<u8>,
    subject: Vec<u8>,
    r#type: i64,
    class: String,
    leaf: i64,
    key_version: i64,
    version: i64,
    sealed: Vec<u8>,
}

const ROWS: &str = "SELECT id, subject, type, class, leaf, key_version, version, sealed FROM token \
                    WHERE sealed IS NOT NULL ORDER BY id";

impl Raw {
    async fn open(house: &House) -> Self {
        let url = house.config.database_url().unwrap().expose().to_owned();
        if url.starts_with("sqlite:") {
            let mut sqlite = SqliteConnection::connect(&url).await.unwrap();
            sqlx::raw_sql("PRAGMA busy_timeout = 10000").execute(&mut sqlite).await.unwrap();
            return Self::Sqlite(sqlite);
        }
        Self::Postgres(PgConnection::connect(&url).await.unwrap())
    }

    async fn rows(&mut self) -> Vec<Row> {
        match self {
            Self::Postgres(postgres) => sqlx::query_as(ROWS).fetch_all(postgres).await.unwrap(),
            Self::Sqlite(sqlite) => sqlx::query_as(ROWS).fetch_all(sqlite).await.unwrap(),
        }
    }

    /// Rows of a number that names them and a blob.
    async fn blobs(&mut self, sql: &'static str) -> Vec<(i64, Vec<u8>)> {
        match self {
            Self::Postgres(postgres) => sqlx::query_as(sql).fetch_all(postgres).await.unwrap(),
            Self::Sqlite(sqlite) => sqlx::query_as(sql).fetch_all(sqlite).await.unwrap(),
        }
    }

    async fn run(&mut self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Postgres(postgres) => sqlx::raw_sql(sql).execute(postgres).await.map(drop).unwrap(),
            Self::Sqlite(sqlite) => sqlx::raw_sql(sql).execute(sqlite).await.map(drop).unwrap(),
        }
    }

    fn blob(&self, bytes: &[u8]) -> String {
        let hex = data_encoding::HEXLOWER.encode(bytes);
        match self {
            Self::Postgres(_) => format!("'\\x{hex}'::bytea"),
            Self::Sqlite(_) => format!("X'{hex}'"),
        }
    }

    /// Makes the row `id` say what `row` says.
    async fn put(&mut self, id: &[u8], row: &Row) {
        let Row { r#type, class, leaf, key_version, version, .. } = row;
        let (id, subject, sealed) = (self.blob(id), self.blob(&row.subject), self.blob(&row.sealed));
        self.run(&format!(
            "UPDATE token SET subject = {subject}, type = {type}, class = '{class}', leaf = {leaf}, \
             key_version = {key_version}, version = {version}, sealed = {sealed} WHERE id = {id}"
        ))
        .await;
    }

    async fn put_chunk(&mut self, bucket: i64, blob: &[u8]) {
        let blob = self.blob(blob);
        self.run(&format!("UPDATE index_chunk SET blob = {blob} WHERE bucket = {bucket} AND chunk = 0")).await;
    }
}

/// What of a row is taken from another.
type Graft = fn(&Row, &Row) -> Row;

/// From the ciphertext alone to everything but the row's own id.
const GRAFTS: [(&str, Graft); 4] = [
    ("the ciphertext", |to, from| Row { sealed: from.sealed.clone(), ..to.clone() }),
    ("the ciphertext with its leaf and versions", |to, from| Row { id: to.id.clone(), ..described(to, from) }),
    ("the ciphertext, its leaf, type and class", |to, from| Row {
        r#type: from.r#type,
        class: from.class.clone(),
        ..described(to, from)
    }),
    ("the whole row", |to, from| Row { id: to.id.clone(), ..from.clone() }),
];

fn described(to: &Row, from: &Row) -> Row {
    let Row { leaf, key_version, version, sealed, .. } = from.clone();
    Row { leaf, key_version, version, sealed, ..to.clone() }
}

/// Tokens with the rows they stand for. The rows are told apart by what they reveal, one after the other.
async fn people(house: &mut House) -> Vec<(String, String)> {
    let in_class = |class: &str, value: &str| v1::FieldInput {
        retention_class: class.to_owned(),
        ..field(v1::FieldType::Text, value)
    };
    let mut all = Vec::new();
    for name in ["ada", "bob"] {
        let mail = format!("{name}@example.com");
        let values = [mail, format!("{name} says hello"), format!("{name} orders"), format!("{name} orders more")];
        let fields = vec![
            field(v1::FieldType::Email, &values[0]),
            field(v1::FieldType::Text, &values[1]),
            in_class("orders", &values[2]),
            in_class("orders", &values[3]),
        ];
        let (_, tokens) = house.tokenize("", fields).await;
        all.extend(tokens.into_iter().zip(values));
    }
    all
}

async fn revealed(house: &mut House, tokens: &[(String, String)]) -> Vec<Result<String, String>> {
    let names: Vec<_> = tokens.iter().map(|(token, _)| token.clone()).collect();
    house.reveal(&names, CARE).await
}

/// What is expected when exactly the tokens at `broken` do not open.
fn all_but(tokens: &[(String, String)], broken: &[usize]) -> Vec<Result<String, String>> {
    let outcome = |(at, (_, value)): (usize, &(String, String))| {
        if broken.contains(&at) { Err("SEAL_BROKEN".to_owned()) } else { Ok(value.clone()) }
    };
    tokens.iter().enumerate().map(outcome).collect()
}

/// Which token stands for which row: breaking the row breaks the token.
async fn rows_of(house: &mut House, raw: &mut Raw, tokens: &[(String, String)]) -> Vec<Row> {
    let mut found = HashMap::new();
    for row in raw.rows().await {
        let mut broken = row.clone();
        broken.sealed[20] ^= 1;
        raw.put(&row.id, &broken).await;
        let at = revealed(house, tokens).await.iter().position(|outcome| *outcome == Err("SEAL_BROKEN".to_owned()));
        raw.put(&row.id, &row).await;
        found.insert(at.expect("a changed bit breaks a seal"), row);
    }
    (0..tokens.len()).map(|at| found.remove(&at).unwrap()).collect()
}

on_both_stores! {
    async fn a_ciphertext_in_another_place_never_opens(house: House) {
        let mut house = house;
        let tokens = people(&mut house).await;
        let mut raw = Raw::open(&house).await;
        let rows = rows_of(&mut house, &mut raw, &tokens).await;
        assert_eq!(revealed(&mut house, &tokens).await, all_but(&tokens, &[]), "everything opens where it belongs");

        for (to, target) in rows.iter().enumerate() {
            for (from, donor) in rows.iter().enumerate().filter(|(from, _)| *from != to) {
                for (what, graft) in GRAFTS {
                    raw.put(&target.id, &graft(target, donor)).await;
                    let outcome = revealed(&mut house, &tokens).await;
                    assert_eq!(outcome, all_but(&tokens, &[to]), "{what} of {from} in the place of {to}");
                }
                raw.put(&target.id, target).await;
            }
        }
        // Two that changed places, all in one request.
        raw.put(&rows[0].id, &Row { sealed: rows[4].sealed.clone(), ..rows[0].clone() }).await;
        raw.put(&rows[4].id, &Row { sealed: rows[0].sealed.clone(), ..rows[4].clone() }).await;
        assert_eq!(revealed(&mut house, &tokens).await, all_but(&tokens, &[0, 4]));
        for row in &rows {
            raw.put(&row.id, row).await;
        }
        assert_eq!(revealed(&mut house, &tokens).await, all_but(&tokens, &[]), "and back in its place it opens again");
    }

    async fn a_former_value_does_not_come_back(house: House) {
        let mut house = house;
        let (_, tokens) = house.tokenize("", vec![field(v1::FieldType::Text, "before")]).await;
        let mut raw = Raw::open(&house).await;
        let before = raw.rows().await.remove(0);
        let update = v1::UpdateTokenRequest {
            token: tokens[0].clone(),
            content: Some(v1::update_token_request::Content::Value("after".to_owned())),
            source: "call:2026".to_owned(),
            ..Default::default()
        };
        house.tokens.update_token(update).await.unwrap();
        let after = raw.rows().await.remove(0);
        assert_eq!(house.reveal(&tokens, CARE).await, [Ok("after".to_owned())]);
        raw.put(&after.id, &Row { sealed: before.sealed.clone(), ..after.clone() }).await;
        assert_eq!(house.reveal(&tokens, CARE).await, [Err("SEAL_BROKEN".to_owned())]);
        // The whole row as it was is an old copy of the database, and that opens, as a restored backup does.
        raw.put(&after.id, &before).await;
        assert_eq!(house.reveal(&tokens, CARE).await, [Ok("before".to_owned())]);
        raw.put(&after.id, &after).await;
        assert_eq!(house.reveal(&tokens, CARE).await, [Ok("after".to_owned())]);
    }

    async fn the_erased_do_not_come_back_in_the_place_of_others(house: House) {
        let mut house = house;
        let tokens = people(&mut house).await;
        let mut raw = Raw::open(&house).await;
        let rows = rows_of(&mut house, &mut raw, &tokens).await;
        let (ada, bob) = (tokens[..4].to_vec(), tokens[4..].to_vec());
        let about = house.tokens.get_token(v1::GetTokenRequest { token: ada[0].0.clone() }).await.unwrap();
        house.erase(&about.into_inner().token.unwrap().subject).await;

        for (what, graft) in GRAFTS {
            raw.put(&rows[4].id, &graft(&rows[4], &rows[0])).await;
            let outcome = revealed(&mut house, &bob).await;
            // With the erased subject's own name in the row, the vault says who that is.
            let refused = Err(if what == "the whole row" { "SUBJECT_ERASED" } else { outcome_of(what) }.to_owned());
            assert_eq!(outcome[0], refused, "{what}");
            assert_eq!(outcome[1..], all_but(&bob, &[])[1..], "{what}");
            raw.put(&rows[4].id, &rows[4]).await;
        }
        // And nobody else's value is shown for an erased person's token.
        for (what, graft) in &GRAFTS[..3] {
            raw.put(&rows[0].id, &graft(&rows[0], &rows[4])).await;
            assert_eq!(revealed(&mut house, &ada).await, vec![Err("SUBJECT_ERASED".to_owned()); 4], "{what}");
        }
        assert_eq!(revealed(&mut house, &bob).await, all_but(&bob, &[]));
    }

    async fn another_vaults_ciphertext_opens_nowhere(house: House) {
        let mut house = house;
        let tokens = people(&mut house).await;
        let mut raw = Raw::open(&house).await;
        let rows = rows_of(&mut house, &mut raw, &tokens).await;
        let mut other = House::on_sqlite().await;
        let foreign = people(&mut other).await;
        let mut other_raw = Raw::open(&other).await;
        let others = rows_of(&mut other, &mut other_raw, &foreign).await;
        for (at, (row, donor)) in rows.iter().zip(&others).enumerate() {
            for (what, graft) in &GRAFTS[..3] {
                raw.put(&row.id, &graft(row, donor)).await;
                let outcome = revealed(&mut house, &tokens).await;
                assert_eq!(outcome, all_but(&tokens, &[at]), "{what} of another vault in the place of {at}");
            }
            raw.put(&row.id, row).await;
        }
        assert_eq!(revealed(&mut house, &tokens).await, all_but(&tokens, &[]));
    }

    async fn a_chunk_of_the_index_in_another_place_finds_nothing(house: House) {
        let mut house = house;
        // Many, so that most of the 64 buckets have an entry.
        let mails: Vec<_> = (0..200).map(|number| format!("person{number}@example.com")).collect();
        let fields = mails.iter().map(|mail| field(v1::FieldType::Email, mail)).collect();
        let (_, tokens) = house.tokenize("", fields).await;
        let mut raw = Raw::open(&house).await;
        let chunks = raw.blobs("SELECT bucket, blob FROM index_chunk WHERE chunk = 0 ORDER BY bucket").await;
        assert_eq!(chunks.len(), 64);
        for (mail, token) in mails.iter().zip(&tokens) {
            assert_eq!(house.find(v1::FieldType::Email, mail).await, std::slice::from_ref(token));
        }
        // Every bucket gets its neighbour's chunk.
        for (at, (bucket, _)) in chunks.iter().enumerate() {
            raw.put_chunk(*bucket, &chunks[(at + 1) % chunks.len()].1).await;
        }
        for mail in mails.iter().take(40) {
            let ask = v1::FindTokensRequest {
                r#type: v1::FieldType::Email.into(),
                value: mail.clone(),
                purpose: CARE.to_owned(),
            };
            assert_eq!(reason(&house.tokens.find_tokens(ask).await.unwrap_err()), "SEAL_BROKEN");
        }
        let outcome = house.reveal(&tokens, CARE).await;
        assert!(outcome.iter().zip(&mails).all(|(outcome, mail)| outcome.as_ref() == Ok(mail)), "values go on");
        for (bucket, blob) in &chunks {
            raw.put_chunk(*bucket, blob).await;
        }
        assert_eq!(house.find(v1::FieldType::Email, &mails[0]).await, tokens[..1]);

        // An erasure writes buckets anew under fresh leaves; the old chunk does not open there any more.
        let somebody = house.somebody("Ada Lovelace").await;
        let before = raw.blobs("SELECT bucket, blob FROM index_chunk WHERE chunk = 0 ORDER BY bucket").await;
        house.erase(&somebody.subject).await;
        let after = raw.blobs("SELECT bucket, blob FROM index_chunk WHERE chunk = 0 ORDER BY bucket").await;
        for (bucket, blob) in &before {
            raw.put_chunk(*bucket, blob).await;
        }
        let ask = v1::FindTokensRequest {
            r#type: v1::FieldType::Email.into(),
            value: somebody.email.clone(),
            purpose: CARE.to_owned(),
        };
        assert_eq!(reason(&house.tokens.find_tokens(ask).await.unwrap_err()), "SEAL_BROKEN");
        for (bucket, blob) in &after {
            raw.put_chunk(*bucket, blob).await;
        }
        assert_eq!(house.find(v1::FieldType::Email, &somebody.email).await, Vec::<String>::new());
    }

    async fn a_page_of_the_key_tree_in_another_place_does_not_open(house: House) {
        let mut house = house;
        let (ada, bob) = (house.somebody("Ada Lovelace").await, house.somebody("Bob Noyce").await);
        house.erase(&ada.subject).await;
        let mut raw = Raw::open(&house).await;
        // After an erasure the tree has a page on each of its five levels.
        let pages = raw.blobs("SELECT level, blob FROM key_page ORDER BY level").await;
        let levels: std::collections::BTreeSet<_> = pages.iter().map(|(level, _)| *level).collect();
        assert!(levels.into_iter().eq(0..5));
        house.stop().await;
        for (level, blob) in &pages {
            let neighbour = &pages[usize::try_from(level + 1).unwrap() % pages.len()].1;
            let (own, neighbour) = (raw.blob(blob), raw.blob(neighbour));
            raw.run(&format!("UPDATE key_page SET blob = {neighbour} WHERE level = {level}")).await;
            // A sink has what the database lacks.
            house.reopen().await;
            assert!(house.running().report.from_checkpoint, "level {level}");
            assert_eq!(house.reveal(&bob.tokens, CARE).await, bob.values(), "level {level}");
            assert_eq!(house.reveal(&ada.tokens, CARE).await, vec![Err("SUBJECT_ERASED".to_owned()); 3]);
            house.stop().await;
            // Without one, the vault says so and changes nothing.
            raw.run(&format!("UPDATE key_page SET blob = {neighbour} WHERE level = {level}")).await;
            let checkpoints = house.config.data_dir().join("checkpoints");
            std::fs::rename(&checkpoints, checkpoints.with_extension("away")).unwrap();
            let Err(refused) = house.try_reopen().await else { panic!("it started without its key state") };
            assert!(format!("{refused:#}").contains("key state"), "level {level}: {refused:#}");
            std::fs::rename(checkpoints.with_extension("away"), &checkpoints).unwrap();
            raw.run(&format!("UPDATE key_page SET blob = {own} WHERE level = {level}")).await;
        }
        house.reopen().await;
        assert_eq!(house.reveal(&bob.tokens, CARE).await, bob.values());
    }

    async fn another_vaults_slot_opens_nothing(house: House) {
        let mut house = house;
        let bob = house.somebody("Bob Noyce").await;
        let mut other = House::on_sqlite().await;
        house.stop().await;
        other.stop().await;
        let (own, foreign) = (house.config.slot_dir(), other.config.slot_dir());
        let file = |name: &str| own.join(name);
        let keep: Vec<_> =
            ["root.slot", "kek.key"].map(|name| (name, std::fs::read(file(name)).unwrap())).into_iter().collect();
        std::fs::copy(foreign.join("root.slot"), file("root.slot")).unwrap();
        let Err(refused) = house.try_reopen().await else { panic!("it started with a slot of another key") };
        assert!(format!("{refused:#}").contains("does not open under"), "{refused:#}");
        // With its key it opens, and is recognised.
        for name in ["kek.key", "receipt-signing.key", "receipt-signing.pub"] {
            std::fs::copy(file(name), file(&format!("{name}.away"))).unwrap();
            std::fs::copy(foreign.join(name), file(name)).unwrap();
        }
        let Err(refused) = house.try_reopen().await else { panic!("it started with the slot of another vault") };
        assert!(format!("{refused:#}").contains("another vault"), "{refused:#}");
        for name in ["kek.key", "receipt-signing.key", "receipt-signing.pub"] {
            std::fs::copy(file(&format!("{name}.away")), file(name)).unwrap();
        }
        for (name, bytes) in keep {
            std::fs::write(file(name), bytes).unwrap();
        }
        house.reopen().await;
        assert_eq!(house.reveal(&bob.tokens, CARE).await, bob.values());
    }

    async fn no_nonce_is_used_twice(house: House) {
        let mut house = house;
        let mut raw = Raw::open(&house).await;
        let mut seen: HashMap<[u8; 12], Vec<u8>> = HashMap::new();
        for round in 0..25 {
            let fields = (0..100).map(|number| field(v1::FieldType::Text, &format!("note {number} of {round}"))).collect();
            let (subject, tokens) = house.tokenize("", fields).await;
            collect_nonces(&mut raw, &mut seen).await;
            for token in tokens.iter().take(2) {
                let update = v1::UpdateTokenRequest {
                    token: token.clone(),
                    content: Some(v1::update_token_request::Content::Value("the same for everybody".to_owned())),
                    source: "call:2026".to_owned(),
                    ..Default::default()
                };
                house.tokens.update_token(update).await.unwrap();
                collect_nonces(&mut raw, &mut seen).await;
            }
            if round % 5 == 0 {
                house.erase(&subject).await;
                collect_nonces(&mut raw, &mut seen).await;
            }
        }
        assert!(seen.len() > 3000, "{} envelopes were seen", seen.len());
    }
}

/// A ciphertext of an erased person in a row of somebody else.
fn outcome_of(what: &str) -> &'static str {
    match what {
        // Under the row's own leaf there is a key, and it is the wrong one.
        "the ciphertext" => "SEAL_BROKEN",
        // The leaf that the row names now is gone, and its subject is not erased.
        _ => "KEY_RETIRED",
    }
}

/// Every envelope in the database: one nonce is one envelope.
async fn collect_nonces(raw: &mut Raw, seen: &mut HashMap<[u8; 12], Vec<u8>>) {
    let mut envelopes: Vec<Vec<u8>> = raw.rows().await.into_iter().map(|row| row.sealed).collect();
    for sql in ["SELECT level, blob FROM key_page", "SELECT bucket, blob FROM index_chunk"] {
        envelopes.extend(raw.blobs(sql).await.into_iter().map(|(_, blob)| blob));
    }
    for envelope in envelopes {
        assert_eq!(envelope[..2], [1, 1], "an envelope of version 1 under AES-256-GCM");
        let nonce: [u8; 12] = envelope[7..19].try_into().unwrap();
        let first = seen.entry(nonce).or_insert_with(|| envelope.clone());
        assert_eq!(*first, envelope, "two envelopes have the nonce {nonce:?}");
    }
}
