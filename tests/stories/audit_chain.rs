//! Nobody changes the record unseen: whatever is done to the database, the first place is named, by the database itself or by the
//! checkpoints outside it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lacuna::keys::receipt;
use lacuna::keys::sink::DirectorySink;
use lacuna::model::Time;
use lacuna::proto::v1;
use lacuna::store::Tx;
use lacuna::store::audit::Batch;
use lacuna::vault::audit::checkpoint::Checkpoint;
use lacuna::vault::audit::walk::{FaultKind, Verified, Witness, verify};
use lacuna::vault::audit::{hash, outside, proof};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

use crate::asks::CARE;
use crate::audit::chains;
use crate::outside::{Door, Outside, outside_on_both_stores};
use crate::process::{run, setting};

/// How often somebody tampers with the database.
const TIMES: u32 = 1000;

fn places(vault: &Outside) -> PathBuf {
    vault.place.slot().join("audit")
}

fn public_keys(vault: &Outside) -> Vec<Vec<u8>> {
    receipt::public_keys(&fs::read_to_string(vault.place.slot().join("receipt-signing.pub")).unwrap()).unwrap()
}

async fn checkpoints(vault: &Outside) -> Vec<Checkpoint> {
    let places = outside::Outside::new(vec![Arc::new(DirectorySink::new(&places(vault)))]);
    let known = places.read(&public_keys(vault)).await;
    assert_eq!(known.troubles, Vec::<String>::new());
    known.checkpoints
}

/// Holds a database against checkpoints from outside.
async fn held(tx: &mut dyn Tx, vault: &Outside, checkpoints: &[Checkpoint]) -> Verified {
    let (keys, now) = (public_keys(vault), Time::from_micros(i64::MAX));
    let witness = Witness { vault: checkpoints[0].vault, keys: &keys, checkpoints, now };
    verify(tx, &witness).await.unwrap()
}

async fn walk(vault: &Outside, checkpoints: &[Checkpoint]) -> Verified {
    let store = lacuna::store::open(&vault.url()).await.unwrap();
    let verified = held(&mut *store.read().await.unwrap(), vault, checkpoints).await;
    store.close().await;
    verified
}

async fn batches(vault: &Outside) -> Vec<Batch> {
    let store = lacuna::store::open(&vault.url()).await.unwrap();
    let batches = store.read().await.unwrap().list_audit_batches(None, 10_000).await.unwrap();
    store.close().await;
    batches
}

/// Reveals one after the other, then several at once, so that a batch has several entries.
async fn busy(door: &mut Door) {
    let ada = door.tokenize("ada").await;
    for _ in 0..6 {
        door.reveal(&ada).await;
    }
    let ask = || v1::DetokenizeRequest { tokens: ada.tokens.clone(), purpose: CARE.to_owned(), ..Default::default() };
    let calls: Vec<_> = (0..24)
        .map(|_| {
            let (mut tokens, ask) = (door.tokens.clone(), ask());
            tokio::spawn(async move { tokens.detokenize(ask).await.map(drop) })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

/// What somebody does to batch `n` and perhaps `m`, and where it must show.
fn tampering(random: &mut ChaCha8Rng, last: u64) -> (String, u64) {
    let mut pick = || 1 + u64::from(random.next_u32()) % last;
    let (n, m) = (pick(), pick());
    let set = |what: &str| (format!("UPDATE audit_batch SET {what} WHERE seq = {n}"), n);
    let m = if n == m { n % last + 1 } else { m };
    match random.next_u32() % 13 {
        0 => set("body = replace(body, 'development', 'nobody')"),
        1 => set("body = ''"),
        2 => set("body = body || '{}'"),
        3 => set("entries = entries + 1"),
        4 => set("merkle = prev_hash"),
        5 => set("prev_hash = merkle"),
        6 => set("created_at = created_at + 1"),
        7 => set("marks = merkle"),
        8 => set("seq = seq + 1000"),
        9 => (format!("DELETE FROM audit_batch WHERE seq = {n}"), n),
        10 => (format!("DELETE FROM audit_batch WHERE seq >= {n}"), n),
        11 => (
            format!(
                "UPDATE audit_batch SET seq = -seq WHERE seq IN ({n}, {m});
                 UPDATE audit_batch SET seq = CASE -seq WHEN {n} THEN {m} ELSE {n} END WHERE seq < 0"
            ),
            n.min(m),
        ),
        _ => {
            let take = |column: &str, other: u64| format!("{column} = (SELECT {column} FROM kept WHERE seq = {other})");
            let content = |other| ["body", "merkle", "entries", "marks"].map(|column| take(column, other)).join(", ");
            let (ours, theirs) = (content(m), content(n));
            let swap = format!(
                "UPDATE audit_batch SET {ours} WHERE seq = {n}; UPDATE audit_batch SET {theirs} WHERE seq = {m}"
            );
            (swap, n.min(m))
        }
    }
}

const RESTORE: &str = "DELETE FROM audit_batch; INSERT INTO audit_batch SELECT * FROM kept";

outside_on_both_stores! {
    async fn a_thousand_tamperings_are_found_out_and_the_first_place_is_named(vault: Outside) {
        let mut door = vault.start();
        for _ in 0..3 {
            busy(&mut door).await;
            door.audits.get_checkpoint(v1::GetCheckpointRequest::default()).await.unwrap();
        }
        busy(&mut door).await;
        assert!(door.server.stop().success());
        let known = checkpoints(&vault).await;
        let (whole, written) = (walk(&vault, &known).await, batches(&vault).await);
        assert_eq!((whole.faults.len(), whole.unvouched, whole.chains), (0, 0, 1));
        assert!(known.len() >= 4 && whole.checkpoints == known.len() as u64, "{known:?}");
        let (node, last) = (written[0].node, written.len() as u64);
        vault.sql("CREATE TABLE kept AS SELECT * FROM audit_batch");

        let seed = setting("LACUNA_TEST_SEED").map_or(42, |seed| seed.parse().unwrap());
        println!("LACUNA_TEST_SEED={seed}");
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let store = lacuna::store::open(&vault.url()).await.unwrap();
        for time in 0..TIMES {
            let (change, shows) = tampering(&mut random, last);
            vault.sql(&format!("{RESTORE}; {change}"));
            let found = held(&mut *store.read().await.unwrap(), &vault, &known).await;
            let first = found.faults.first().unwrap_or_else(|| panic!("{time}: nobody sees {change}"));
            assert_eq!((first.node, first.batch), (node, shows), "{time}: {change}: {first}");
        }
        vault.sql(RESTORE);

        // One entry of several: it is named.
        let several = written.iter().find(|batch| batch.entries > 2).expect("no two calls shared a commit");
        let second = several.body.lines().nth(1).unwrap();
        vault.sql(&format!(
            "UPDATE audit_batch SET body = replace(body, '{second}', '{}') WHERE seq = {}", second.replace(CARE, "breach_notice"), several.seq
        ));
        let found = walk(&vault, &known).await;
        assert_eq!((found.faults[0].batch, found.faults[0].entry), (several.seq, Some(2)));

        // Somebody who knows how it is done computes the rest of the chain anew: only the checkpoints tell.
        for from in [1, 3, last] {
            let mut forged = written.clone();
            let at = usize::try_from(from).unwrap() - 1;
            let mut before = if at == 0 { [0; 32] } else { hash(&forged[at - 1]) };
            for batch in &mut forged[at..] {
                batch.created_at = batch.created_at.plus(Duration::from_secs(1));
                batch.prev_hash = before;
                before = hash(batch);
            }
            vault.sql("DELETE FROM audit_batch");
            let mut tx = store.write().await.unwrap();
            for batch in &forged {
                tx.insert_audit_batch(batch).await.unwrap();
            }
            tx.commit().await.unwrap();
            assert_eq!(chains(&mut *store.read().await.unwrap()).await.faults, [], "it fits together");
            let found = held(&mut *store.read().await.unwrap(), &vault, &known).await;
            let sure = known.iter().map(|known| known.size).filter(|size| *size < from).max().unwrap_or(0);
            let fault = &found.faults[0];
            assert!(fault.batch > sure && fault.batch <= from, "{from}: {fault:?}");
            assert!(matches!(fault.kind, FaultKind::Rewritten | FaultKind::Altered), "{from}: {fault:?}");
        }
        store.close().await;
    }

    async fn what_is_kept_outside_says_whose_log_it_is_and_is_missed_when_it_is_gone(vault: Outside) {
        let mut door = vault.start();
        busy(&mut door).await;
        assert!(door.server.stop().success());
        let known = checkpoints(&vault).await;
        assert!(walk(&vault, &known).await.is_intact());
        // A database that says that it is another vault is not held against nothing.
        vault.sql("CREATE TABLE kept AS SELECT * FROM vault; DELETE FROM vault");
        let found = walk(&vault, &known).await;
        assert!(!found.is_intact() && found.checkpoints > 0, "{found:?}");
        vault.sql("INSERT INTO vault SELECT * FROM kept");
        // Nor does the place outside disappear unnoticed.
        let offline = || {
            let url = vault.url();
            let ask = ["audit", "verify", "--database", &url, "--checkpoints", "slot/audit", "--public-key", "slot/receipt-signing.pub"];
            let said = crate::process::lacuna().args(ask).current_dir(vault.place.path()).output().unwrap();
            (said.status.code(), String::from_utf8(said.stdout).unwrap())
        };
        let (status, said) = offline();
        assert!(status == Some(0) && said.starts_with("INTACT"), "{said}");
        fs::remove_dir_all(places(&vault)).unwrap();
        let (status, said) = offline();
        assert!(status == Some(1) && said.starts_with("NOT PROVEN"), "{said}");
        fs::create_dir(places(&vault)).unwrap();
        let (status, said) = offline();
        assert!(status == Some(1) && said.starts_with("NOT PROVEN"), "{said}");
    }

    async fn an_older_database_is_found_out_and_goes_on_in_a_chain_of_its_own(vault: Outside) {
        let mut door = vault.start();
        busy(&mut door).await;
        assert!(door.server.stop().success());
        let (node, last) = { let all = batches(&vault).await; (all[0].node, all.len() as u64) };
        vault.sql(&format!("DELETE FROM audit_batch WHERE seq > {}", last - 3));
        vault.sql("DELETE FROM audit_mark");
        let found = walk(&vault, &checkpoints(&vault).await).await;
        assert_eq!((found.faults[0].kind, found.faults[0].batch), (FaultKind::CutOff, last - 2));

        let mut door = vault.start();
        busy(&mut door).await;
        let told = door.audits.verify_audit_chain(v1::VerifyAuditChainRequest {}).await.unwrap().into_inner();
        assert!(!told.intact);
        assert!(door.server.stop().success());
        let found = walk(&vault, &checkpoints(&vault).await).await;
        assert_eq!((found.chains, found.faults.len()), (2, 1), "{found:?}");
        assert_eq!((found.faults[0].node, found.faults[0].batch), (node, last - 2), "what was lost stays lost");

        let url = vault.url();
        let offline = ["audit", "verify", "--database", &url, "--checkpoints", "slot/audit", "--public-key", "slot/receipt-signing.pub", "--output", "json"];
        let mut command = crate::process::lacuna();
        let said = run(command.args(offline).current_dir(vault.place.path()));
        assert_eq!(said.status.code(), Some(1));
        let told: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
        assert_eq!((&told["faults"][0]["kind"], &told["faults"][0]["batch"]), (&"CUT_OFF".into(), &(last - 2).into()));
    }

    async fn an_entry_is_proven_to_whoever_has_the_public_key(vault: Outside) {
        let mut door = vault.start();
        busy(&mut door).await;
        let listed = door.audits.list_audit_entries(v1::ListAuditEntriesRequest::default()).await.unwrap().into_inner();
        assert!(listed.entries.len() > 20);
        let keys = public_keys(&vault);
        for entry in &listed.entries {
            let ask = v1::ProveAuditEntryRequest { entry: entry.entry.clone() };
            let proven = door.audits.prove_audit_entry(ask).await.unwrap().into_inner().proof;
            let holds = proof::check(&proven, &keys).unwrap();
            assert_eq!((holds.id.to_string(), &holds.line), (entry.entry.clone(), &entry.line));
            let text = String::from_utf8(proven).unwrap();
            let elsewhere = [("\"batch\": ", "\"batch\": 1"), ("\"entries\": ", "\"entries\": 1"), ("\"version\": ", "\"version\": 1")];
            let otherwise = [("customer_care", "breach_notice"), ("Tokenize", "Tokenise")];
            for (from, to) in elsewhere.into_iter().chain(otherwise) {
                let other = text.replace(from, to);
                assert!(other == text || proof::check(other.as_bytes(), &keys).is_err(), "{from} as {to}");
            }
            assert!(proof::check(text.as_bytes(), &[vec![7; 32]]).is_err(), "by another key");
        }
    }
}
