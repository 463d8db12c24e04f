//! What a store promises, the same on both databases: every operation of every noun.

use lacuna::model::{
    Element, Erasure, ErasureId, ErasureState, FieldType, Jurisdiction, KeyEvent, KeyEventId, KeyEventKind, KeyState,
    Label, PartId, PlanItem, Reason, Reference, RequestId, Restriction, Rotation, RotationId, RotationKind,
    RotationState, Subject, SubjectId, SubjectState, Time, Token, TokenFormat, TokenRow, Verdict,
};
use lacuna::store::audit::Batch;
use lacuna::store::index::{Bucket, Chunk, Generation, Stage};
use lacuna::store::key::{Page, PageId, Punctured, SubjectKey, TreeHead, Vault};
use lacuna::store::request::Answer;
use lacuna::store::subject::Filter;
use lacuna::store::{Store, Tx};

use crate::house::fresh_database;

/// Writes a promise once and holds both stores to it.
macro_rules! promises {
    ($(async fn $name:ident($store:ident: Store) $body:block)+) => {
        $(async fn $name($store: &dyn Store) $body)+

        mod on_sqlite {
            $(#[tokio::test]
            async fn $name() {
                let home = tempfile::tempdir().unwrap();
                let url = format!("sqlite:{}", home.path().join("vault.db").display());
                let store = lacuna::store::open(&url).await.unwrap();
                store.migrate().await.unwrap();
                super::$name(&*store).await;
                store.close().await;
            })+
        }

        mod on_postgres {
            $(#[tokio::test]
            async fn $name() {
                let Some(url) = super::fresh_database().await else { return };
                let store = lacuna::store::open(&url).await.unwrap();
                store.migrate().await.unwrap();
                super::$name(&*store).await;
                store.close().await;
            })+
        }
    };
}

const AT: Time = Time::from_micros(1_795_262_400_123_456);
const LATER: Time = Time::from_micros(1_895_262_400_123_456);
const AWKWARD: &str = "it's \"so\" \\ \u{1f9d1}\u{200d}\u{1f680} \n\t%";

fn subject_id(number: u32) -> SubjectId {
    let mut bytes = [0xab; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    SubjectId::from_bytes(bytes)
}

fn row(number: u32) -> TokenRow {
    TokenRow::from_bytes(*subject_id(number).as_bytes())
}

fn erasure_id(number: u32) -> ErasureId {
    ErasureId::from_bytes(*subject_id(number).as_bytes())
}

fn subject(number: u32) -> Subject {
    Subject::open(subject_id(number), Label::stored("customer".into()), None, Label::stored("a:b".into()), true, AT)
}

/// A subject with nothing left out.
fn full_subject(number: u32) -> Subject {
    Subject {
        kind: Label::stored("agent".into()),
        jurisdiction: Some(Jurisdiction::stored("US-CA".into())),
        state: SubjectState::Restricted,
        restriction: Some(Restriction { ground: Reference::stored(AWKWARD.into()), since: LATER }),
        profiling: false,
        erasure: Some(erasure_id(number)),
        erased_at: Some(LATER),
        version: u64::from(u32::MAX) + 1,
        ..subject(number)
    }
}

/// A token with everything left out that can be.
fn token(number: u32, subject: u32) -> Token {
    Token {
        row: row(number),
        subject: subject_id(subject),
        kind: FieldType::Text,
        class: "default".to_owned(),
        format: TokenFormat::Opaque,
        shaped: None,
        tags: Vec::new(),
        expires_at: None,
        single_use: false,
        created_at: AT,
        leaf: 16,
        key_version: 1,
        source: "a:b".to_owned(),
        version: 1,
        spent_at: None,
        deleted_at: None,
        ended_at: None,
        sealed: Some(vec![0, 1, 2, 0xff]),
    }
}

fn erasure(number: u32, subject: u32) -> Erasure {
    let reason = Reference::stored(AWKWARD.into());
    Erasure::immediate(erasure_id(number), subject_id(subject), reason, "caller", AT)
}

fn page(level: u8, prefix: u32, root: u8) -> Page {
    Page { id: PageId { level, prefix, version: [root; 16] }, blob: vec![root, 0] }
}

fn answer(caller: &str, number: u8) -> Answer {
    let id = RequestId::parse(&uuid::Uuid::from_bytes([number; 16]).to_string()).unwrap();
    Answer { caller: caller.into(), id, deed: "Tokenize".into(), subject: None, answer: AWKWARD.into(), created_at: AT }
}

fn batch(node: u8, seq: u64) -> Batch {
    let (prev_hash, merkle) = ([1; 32], [2; 32]);
    let (marks, body) = (vec![7; 24], AWKWARD.to_owned());
    Batch { node: [node; 16], seq, prev_hash, merkle, entries: 3, marks, body, created_at: AT }
}

fn bucket(bucket: u32) -> Bucket {
    Bucket { bucket, leaf: 100 + bucket, chunks: 1, dirty: false }
}

fn chunk(bucket: Bucket, chunk: u32) -> Chunk {
    Chunk { bucket, chunk, blob: vec![u8::try_from(chunk).unwrap(); 64] }
}

/// Writes within one transaction that is committed.
async fn write<T>(store: &dyn Store, deed: impl AsyncFnOnce(&mut dyn Tx) -> T) -> T {
    let mut tx = store.write().await.unwrap();
    let done = deed(&mut *tx).await;
    tx.commit().await.unwrap();
    done
}

/// Adds subjects 0 to `count`.
async fn people(store: &dyn Store, count: u32) {
    let all: Vec<_> = (0..count).map(subject).collect();
    write(store, async |tx| tx.insert_subjects(&all).await.unwrap()).await;
}

/// What two values print is the same: for types that cannot be compared.
#[track_caller]
fn assert_alike<T: std::fmt::Debug>(found: &T, expected: &T) {
    assert_eq!(format!("{found:#?}"), format!("{expected:#?}"));
}

promises! {
    async fn it_is_durable_recent_and_tells_what_it_is(store: Store) {
        store.check().await.unwrap();
        assert!(store.readers() >= 1);
        let about = store.describe().await.unwrap();
        if let Some(version) = about.strip_prefix("SQLite ") {
            let numbers: Vec<u32> = version.split('.').map(|number| number.parse().unwrap()).collect();
            assert!(numbers >= vec![3, 51, 3], "{about}: older ones can lose a commit in the write-ahead log");
        } else {
            assert!(about.starts_with("PostgreSQL "), "{about}");
        }
    }

    async fn migrating_twice_is_migrating_once(store: Store) {
        assert!(store.is_migrated().await.unwrap());
        people(store, 3).await;
        store.migrate().await.unwrap();
        assert!(store.is_migrated().await.unwrap());
        let all = store.read().await.unwrap().list_subjects(&Filter::default(), None, 10).await.unwrap();
        assert_eq!(all.len(), 3, "nothing was lost");
    }

    async fn what_is_not_committed_never_was(store: Store) {
        let mut tx = store.write().await.unwrap();
        tx.insert_subjects(&[subject(1)]).await.unwrap();
        assert_eq!(tx.subjects(&[subject_id(1)]).await.unwrap().len(), 1, "the transaction sees its own");
        assert_eq!(store.read().await.unwrap().subjects(&[subject_id(1)]).await.unwrap(), [], "nobody else does");
        drop(tx);
        write(store, async |tx| {
            assert_eq!(tx.subjects(&[subject_id(1)]).await.unwrap(), []);
            tx.insert_subjects(&[subject(2)]).await.unwrap();
        })
        .await;
        assert_eq!(store.read().await.unwrap().subjects(&[subject_id(2)]).await.unwrap(), [subject(2)]);
    }

    async fn a_failed_transaction_leaves_nothing(store: Store) {
        people(store, 1).await;
        let mut tx = store.write().await.unwrap();
        tx.insert_subjects(&[subject(5)]).await.unwrap();
        let error = tx.insert_subjects(&[subject(0)]).await.unwrap_err();
        assert_eq!(error.reason, Reason::StoreUnavailable);
        drop(tx);
        let mut tx = store.read().await.unwrap();
        assert_eq!(tx.list_subjects(&Filter::default(), None, 10).await.unwrap(), [subject(0)]);
    }

    async fn nothing_asked_nothing_answered(store: Store) {
        write(store, async |tx| {
            tx.insert_subjects(&[]).await.unwrap();
            tx.update_subjects(&[]).await.unwrap();
            assert_eq!(tx.subjects(&[]).await.unwrap(), []);
            assert_eq!(tx.lock_subjects(&[]).await.unwrap(), []);
            assert_eq!(tx.insert_tokens(&[]).await.unwrap(), []);
            tx.update_tokens(&[]).await.unwrap();
            assert!(tx.facts(&[], &[]).await.unwrap().is_empty());
            assert_eq!(tx.spend_tokens(&[], AT).await.unwrap(), []);
            assert!(tx.sealed_tokens(&[]).await.unwrap().is_empty());
            tx.delete_values(&[]).await.unwrap();
            tx.insert_erasures(&[]).await.unwrap();
            tx.update_erasures(&[]).await.unwrap();
            assert_eq!(tx.erasures(&[]).await.unwrap(), []);
            assert_eq!(tx.lock_erasures(&[]).await.unwrap(), []);
            tx.put_buckets(&[]).await.unwrap();
            tx.put_chunks(&[]).await.unwrap();
            tx.delete_chunks(&[]).await.unwrap();
            tx.lock_buckets(&[]).await.unwrap();
            assert_eq!(tx.buckets_and_dirty(&[]).await.unwrap(), []);
            assert!(tx.tail_chunks(&[]).await.unwrap().is_empty());
            assert!(tx.chunks(&[]).await.unwrap().is_empty());
            tx.insert_pages(0, &[]).await.unwrap();
            tx.delete_pages(&[]).await.unwrap();
            tx.put_punctured(&[]).await.unwrap();
            tx.insert_subject_keys(&[]).await.unwrap();
            assert_eq!(tx.subject_keys(&[]).await.unwrap(), []);
            tx.insert_answers(&[]).await.unwrap();
            assert!(tx.answers(&[]).await.unwrap().is_empty());
        })
        .await;
        let mut tx = store.read().await.unwrap();
        assert_eq!(tx.vault().await.unwrap(), None);
        assert_eq!(tx.tree_head().await.unwrap(), None);
        assert!(tx.audit_head(&[0; 16]).await.unwrap().is_none());
        assert!(tx.list_audit_batches(None, 10).await.unwrap().is_empty());
        assert_eq!(tx.list_erasures(None, 10).await.unwrap(), []);
        assert!(tx.scan_tokens(None, 10).await.unwrap().is_empty());
        assert_eq!(tx.count_values(subject_id(1)).await.unwrap(), []);
        tx.commit().await.unwrap();
    }

    async fn subjects_come_back_as_they_were_written(store: Store) {
        people(store, 2).await;
        let mut tx = store.write().await.unwrap();
        let full = Subject { kind: subject(1).kind, jurisdiction: None, ..full_subject(1) };
        tx.update_subjects(std::slice::from_ref(&full)).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = store.write().await.unwrap();
        let mut locked = tx.lock_subjects(&[subject_id(1), subject_id(0), subject_id(7)]).await.unwrap();
        assert_eq!(
            locked,
            [subject(0), full.clone()],
            "in order, whatever was asked, without those that are not there"
        );
        locked[1] = subject(1);
        tx.update_subjects(&locked).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(store.read().await.unwrap().subjects(&[subject_id(1)]).await.unwrap(), [subject(1)], "NULL again");
    }

    async fn a_subject_keeps_what_is_immutable(store: Store) {
        let opened = Subject { kind: Label::stored("agent".into()), ..subject(1) };
        let opened = Subject { jurisdiction: Some(Jurisdiction::stored("DE".into())), ..opened };
        write(store, async |tx| tx.insert_subjects(std::slice::from_ref(&opened)).await.unwrap()).await;
        let changed =
            Subject { kind: Label::stored("x".into()), jurisdiction: None, created_at: LATER, ..opened.clone() };
        write(store, async |tx| tx.update_subjects(&[changed]).await.unwrap()).await;
        assert_eq!(store.read().await.unwrap().subjects(&[subject_id(1)]).await.unwrap(), [opened]);
    }

    async fn subjects_are_listed_in_order_by_page_and_condition(store: Store) {
        let all: Vec<_> = [5, 3, 1, 4, 2]
            .map(|number| match number {
                2 | 4 => Subject { restriction: None, erased_at: None, erasure: None, ..full_subject(number) },
                _ => subject(number),
            })
            .to_vec();
        write(store, async |tx| tx.insert_subjects(&all).await.unwrap()).await;
        let mut tx = store.read().await.unwrap();
        let ids = |found: Vec<Subject>| found.iter().map(|subject| subject.id).collect::<Vec<_>>();
        let any = Filter::default();
        let numbers = |numbers: &[u32]| numbers.iter().map(|number| subject_id(*number)).collect::<Vec<_>>();
        assert_eq!(ids(tx.list_subjects(&any, None, 10).await.unwrap()), numbers(&[1, 2, 3, 4, 5]));
        assert_eq!(ids(tx.list_subjects(&any, None, 2).await.unwrap()), numbers(&[1, 2]));
        assert_eq!(ids(tx.list_subjects(&any, Some(subject_id(2)), 2).await.unwrap()), numbers(&[3, 4]));
        assert_eq!(ids(tx.list_subjects(&any, Some(subject_id(5)), 2).await.unwrap()), []);
        assert_eq!(ids(tx.list_subjects(&any, None, 0).await.unwrap()), []);
        let restricted = Filter { state: Some(SubjectState::Restricted), kind: None };
        let restricted = tx.list_subjects(&restricted, None, 10).await.unwrap();
        let customers = Filter { state: Some(SubjectState::Active), kind: Some("customer".into()) };
        assert_eq!(ids(tx.list_subjects(&customers, Some(subject_id(1)), 10).await.unwrap()), numbers(&[3, 5]));
        let agents = Filter { state: None, kind: Some("agent".into()) };
        assert_eq!(ids(tx.list_subjects(&agents, None, 10).await.unwrap()), numbers(&[2, 4]));
        assert!(restricted.iter().all(|subject| subject.state == SubjectState::Restricted));
    }

    async fn tokens_come_back_with_what_decides_about_them(store: Store) {
        let person = Subject { erasure: Some(erasure_id(1)), ..subject(0) };
        let full = Token {
            kind: FieldType::Bytes,
            class: "invoices".into(),
            format: TokenFormat::Shaped,
            shaped: Some("1234".into()),
            tags: vec![AWKWARD.to_owned(), "b".to_owned()],
            expires_at: Some(LATER),
            single_use: true,
            leaf: u32::MAX,
            key_version: u32::MAX,
            version: 7,
            sealed: None,
            ..token(2, 0)
        };
        write(store, async |tx| {
            tx.insert_subjects(&[subject(0), subject(9)]).await.unwrap();
            tx.update_subjects(&[person, full_subject(9)]).await.unwrap();
            tx.insert_erasures(&[Erasure { execute_at: Some(LATER), ..erasure(1, 0) }]).await.unwrap();
            let mut added = tx.insert_tokens(&[token(1, 0), full.clone(), token(3, 9)]).await.unwrap();
            added.sort();
            assert_eq!(added, [row(1), row(2), row(3)]);
        })
        .await;
        let mut tx = store.read().await.unwrap();
        let mut found = tx.facts(&[row(3), row(1), row(8)], &["1234", "none"]).await.unwrap();
        found.sort_by_key(|facts| facts.token.row);
        assert_eq!(found.len(), 3);
        assert_alike(&found[0].token, &token(1, 0));
        assert_alike(&found[1].token, &full);
        let told =
            (found[0].state, found[0].profiling, found[0].restricted_at, found[0].erased_at, found[0].execute_at);
        assert_eq!(told, (SubjectState::Active, true, None, None, Some(LATER)));
        assert_eq!(found[0].erasure, Some(erasure_id(1)));
        let told =
            (found[2].state, found[2].profiling, found[2].restricted_at, found[2].erased_at, found[2].execute_at);
        assert_eq!(told, (SubjectState::Restricted, false, Some(LATER), Some(LATER), None));
    }

    async fn a_token_needs_its_subject_and_a_row_of_its_own(store: Store) {
        people(store, 1).await;
        write(store, async |tx| tx.insert_tokens(&[token(1, 0)]).await.unwrap()).await;
        for wrong in [token(2, 77), token(1, 0)] {
            let mut tx = store.write().await.unwrap();
            assert!(tx.insert_tokens(&[wrong]).await.is_err());
        }
        assert_eq!(store.read().await.unwrap().scan_tokens(None, 10).await.unwrap().len(), 1);
    }

    async fn a_shape_that_is_taken_is_left_out_and_the_others_are_not(store: Store) {
        people(store, 2).await;
        let shaped = |number, shape: &str| Token { shaped: Some(shape.to_owned()), ..token(number, 0) };
        write(store, async |tx| {
            assert_eq!(tx.insert_tokens(&[shaped(1, "a")]).await.unwrap(), [row(1)]);
            let mut added =
                tx.insert_tokens(&[shaped(2, "a"), shaped(3, "b"), shaped(4, "b"), token(5, 1)]).await.unwrap();
            added.sort();
            assert_eq!((added.len(), added.contains(&row(2)), added.contains(&row(5))), (2, false, true));
        })
        .await;
        let found = store.read().await.unwrap().facts(&[], &["a", "b"]).await.unwrap();
        assert_eq!(found.len(), 2);
    }

    async fn a_token_changes_only_in_what_may_change(store: Store) {
        people(store, 1).await;
        let changed = Token {
            leaf: 99,
            key_version: 2,
            source: AWKWARD.into(),
            version: 2,
            deleted_at: Some(LATER),
            sealed: None,
            ..token(1, 0)
        };
        let beyond = Token { class: "x".into(), tags: vec!["x".into()], single_use: true, ..changed.clone() };
        write(store, async |tx| {
            tx.insert_tokens(&[token(1, 0), token(2, 0)]).await.unwrap();
            tx.update_tokens(&[beyond]).await.unwrap();
        })
        .await;
        let mut found = store.read().await.unwrap().facts(&[row(1), row(2)], &[]).await.unwrap();
        found.sort_by_key(|facts| facts.token.row);
        assert_alike(&found[0].token, &changed);
        assert_alike(&found[1].token, &token(2, 0));
    }

    async fn a_token_is_spent_once(store: Store) {
        people(store, 1).await;
        write(store, async |tx| {
            tx.insert_tokens(&[token(1, 0), token(2, 0)]).await.unwrap();
            assert_eq!(tx.spend_tokens(&[row(1), row(9)], AT).await.unwrap(), [row(1)]);
        })
        .await;
        write(store, async |tx| assert_eq!(tx.spend_tokens(&[row(1), row(2)], LATER).await.unwrap(), [row(2)])).await;
        let found = store.read().await.unwrap().facts(&[row(1)], &[]).await.unwrap();
        assert_eq!(found[0].token.spent_at, Some(AT));
    }

    async fn tokens_are_listed_and_counted_by_subject_and_lose_their_values(store: Store) {
        people(store, 3).await;
        let other_class = Token { class: "invoices".into(), ..token(4, 0) };
        let empty = Token { sealed: None, ..token(5, 0) };
        write(store, async |tx| {
            let tokens = [token(3, 0), token(1, 0), token(2, 1), other_class, empty];
            assert_eq!(tx.insert_tokens(&tokens).await.unwrap().len(), 5);
        })
        .await;
        let mut tx = store.read().await.unwrap();
        let rows = |found: Vec<lacuna::model::Facts>| found.iter().map(|facts| facts.token.row).collect::<Vec<_>>();
        assert_eq!(rows(tx.list_tokens(subject_id(0), None, 10).await.unwrap()), [row(1), row(3), row(4), row(5)]);
        assert_eq!(rows(tx.list_tokens(subject_id(0), Some(row(1)), 2).await.unwrap()), [row(3), row(4)]);
        assert_eq!(rows(tx.list_tokens(subject_id(2), None, 10).await.unwrap()), []);
        assert_eq!(rows(tx.scan_tokens(None, 3).await.unwrap()), [row(1), row(2), row(3)]);
        assert_eq!(rows(tx.scan_tokens(Some(row(3)), 9).await.unwrap()), [row(4), row(5)]);
        let counts = tx.count_values(subject_id(0)).await.unwrap();
        assert_eq!(counts, [("default".to_owned(), 2), ("invoices".to_owned(), 1)]);
        assert_eq!(tx.sealed_tokens(&[subject_id(0), subject_id(2)]).await.unwrap().len(), 3);
        let sealed = tx.sealed_tokens(&[subject_id(0)]).await.unwrap();
        let leaves: Vec<u32> = sealed.iter().map(|token| token.leaf).chain([9999]).collect();
        assert_eq!(tx.count_under(subject_id(0), &leaves).await.unwrap(), sealed.len() as u64);
        assert_eq!(tx.count_under(subject_id(0), &[9999]).await.unwrap(), 0);
        let first = tx.tokens_under(subject_id(0), &leaves, None, 1).await.unwrap();
        let rest = tx.tokens_under(subject_id(0), &leaves, Some(first[0].row), 9).await.unwrap();
        assert_eq!((first.len(), rest.len()), (1, sealed.len() - 1));
        assert!(first[0].row < rest[0].row);
        assert_eq!(tx.count_sealed().await.unwrap(), 4);
        drop(tx);
        write(store, async |tx| tx.delete_values(&[subject_id(0), subject_id(2)]).await.unwrap()).await;
        let mut tx = store.read().await.unwrap();
        let all = [subject_id(0), subject_id(1), subject_id(2)];
        let left: Vec<_> = tx.sealed_tokens(&all).await.unwrap().iter().map(|token| token.row).collect();
        assert_eq!(left, [row(2)]);
        assert_eq!(tx.scan_tokens(None, 10).await.unwrap().len(), 5, "the tokens stay");
    }

    async fn erasures_come_back_as_they_were_written(store: Store) {
        people(store, 2).await;
        let plan = vec![
            PlanItem {
                element: Element::Fields,
                class: Some(AWKWARD.into()),
                cohort: Some("2026-11".into()),
                end_time: Some("2031-12-01T00:00:00Z".into()),
                reason: Some(AWKWARD.into()),
                verdict: Verdict::Destroy,
                count: u64::from(u32::MAX),
            },
            PlanItem::new(Element::Tokens, Verdict::KeepPseudonym, 0),
        ];
        let scheduled = Erasure { state: ErasureState::Scheduled, execute_at: Some(LATER), plan, ..erasure(2, 1) };
        write(store, async |tx| {
            tx.insert_erasures(&[scheduled.clone(), erasure(1, 0)]).await.unwrap();
            let again = Erasure { requested_by: "another".into(), ..erasure(1, 0) };
            tx.insert_erasures(&[again]).await.unwrap();
            assert_eq!(
                tx.lock_erasures(&[erasure_id(2), erasure_id(1), erasure_id(7)]).await.unwrap(),
                [erasure(1, 0), scheduled.clone()],
                "one that is there stays"
            );
        })
        .await;
        let done = Erasure {
            state: ErasureState::Shredded,
            epoch: Some(3),
            shredded_at: Some(LATER),
            receipt: Some(vec![0, 0xff]),
            pending_reason: Some(AWKWARD.into()),
            ..scheduled.clone()
        };
        write(store, async |tx| tx.update_erasures(std::slice::from_ref(&done)).await.unwrap()).await;
        let mut tx = store.read().await.unwrap();
        assert_eq!(tx.erasures(&[erasure_id(2)]).await.unwrap(), std::slice::from_ref(&done));
        assert_eq!(tx.list_erasures(None, 1).await.unwrap(), [erasure(1, 0)]);
        assert_eq!(tx.list_erasures(Some(erasure_id(1)), 5).await.unwrap(), std::slice::from_ref(&done));
        assert_eq!(tx.erasures_in(ErasureState::Pending, Time::from_micros(0)).await.unwrap(), [erasure(1, 0)]);
        assert_eq!(tx.erasures_in(ErasureState::Shredded, AT).await.unwrap(), [done]);
        drop(tx);
        write(store, async |tx| tx.update_erasures(std::slice::from_ref(&scheduled)).await.unwrap()).await;
        let mut tx = store.read().await.unwrap();
        assert_eq!(tx.erasures_in(ErasureState::Scheduled, AT).await.unwrap(), [], "not yet due");
        assert_eq!(tx.erasures_in(ErasureState::Scheduled, LATER).await.unwrap(), [scheduled]);
    }

    async fn there_is_one_vault_and_its_tree_moves_step_by_step(store: Store) {
        let vault = Vault { tree: [1; 16], created_at: AT };
        let head = TreeHead { root_id: [2; 16], epoch: 0, next_leaf: 80, fence: 0 };
        write(store, async |tx| tx.create_vault(&vault, &head).await.unwrap()).await;
        let mut tx = store.write().await.unwrap();
        assert!(tx.create_vault(&Vault { tree: [9; 16], ..vault.clone() }, &head).await.is_err());
        drop(tx);
        write(store, async |tx| {
            assert!(!tx.advance_tree(&[7; 16], &[8; 16], 1).await.unwrap());
            assert!(tx.advance_tree(&[2; 16], &[3; 16], 1).await.unwrap());
            assert_eq!(tx.take_leaves(20).await.unwrap(), 80);
            assert_eq!(tx.take_leaves(1).await.unwrap(), 100);
            tx.raise_next_leaf(50).await.unwrap();
            assert_eq!(tx.take_leaves(1).await.unwrap(), 101);
            tx.raise_next_leaf(1000).await.unwrap();
        })
        .await;
        let mut tx = store.read().await.unwrap();
        assert_eq!(tx.vault().await.unwrap(), Some(vault));
        assert_eq!(tx.tree_head().await.unwrap(), Some(TreeHead { root_id: [3; 16], epoch: 1, next_leaf: 1000, fence: 1 }));
        drop(tx);
        let mut tx = store.write().await.unwrap();
        tx.raise_next_leaf(u32::MAX).await.unwrap();
        assert!(tx.take_leaves(1).await.is_err(), "no leaf is ever handed out twice");
    }

    async fn a_vault_without_people_can_be_discarded(store: Store) {
        let vault = Vault { tree: [1; 16], created_at: AT };
        let head = TreeHead { root_id: [2; 16], epoch: 0, next_leaf: 80, fence: 0 };
        write(store, async |tx| {
            tx.create_vault(&vault, &head).await.unwrap();
            tx.insert_pages(0, &[page(0, 0, 1)]).await.unwrap();
            tx.put_buckets(&[bucket(1)]).await.unwrap();
            tx.put_chunks(&[chunk(bucket(1), 0)]).await.unwrap();
        })
        .await;
        write(store, async |tx| tx.discard_vault().await.unwrap()).await;
        let mut tx = store.read().await.unwrap();
        assert_eq!((tx.vault().await.unwrap(), tx.tree_head().await.unwrap()), (None, None));
        assert!(tx.key_pages().await.unwrap().is_empty() && tx.chunks(&[1]).await.unwrap().is_empty());
        drop(tx);
        write(store, async |tx| tx.create_vault(&vault, &head).await.unwrap()).await;
    }

    async fn leaves_taken_at_once_are_different(store: Store) {
        let vault = Vault { tree: [1; 16], created_at: AT };
        write(store, async |tx| {
            tx.create_vault(&vault, &TreeHead { root_id: [2; 16], epoch: 0, next_leaf: 16, fence: 0 }).await.unwrap();
        })
        .await;
        let calls = (0..20).map(|_| write(store, async |tx| tx.take_leaves(3).await.unwrap()));
        let mut taken = futures_util::future::join_all(calls).await;
        taken.sort_unstable();
        assert_eq!(taken, (0..20).map(|number| 16 + 3 * number).collect::<Vec<_>>());
    }

    async fn leaves_that_are_held_are_closed_afterwards(store: Store) {
        let vault = Vault { tree: [1; 16], created_at: AT };
        let head = TreeHead { root_id: [2; 16], epoch: 0, next_leaf: 16, fence: 0 };
        write(store, async |tx| {
            tx.create_vault(&vault, &head).await.unwrap();
            tx.open_leaves(16, 8).await.unwrap();
            tx.open_leaves(40, 1).await.unwrap();
            assert_eq!(tx.take_spare_leaves(3).await.unwrap(), (0, 0));
            tx.put_spare_leaves(50, 60).await.unwrap();
            assert_eq!(tx.take_spare_leaves(3).await.unwrap(), (50, 60));
        })
        .await;
        assert_eq!(store.read().await.unwrap().spare_leaves().await.unwrap(), (53, 60));
        let mut holder = store.write().await.unwrap();
        let mut kept = holder.hold_leaves(&[16, 23, 24, 40]).await.unwrap();
        kept.sort_unstable();
        assert_eq!(kept, [16, 23, 40]);
        let order = std::sync::Mutex::new(Vec::new());
        let closing = write(store, async |tx| {
            let mut closed = tx.close_leaves().await.unwrap();
            order.lock().unwrap().push("closed");
            closed.sort_unstable();
            assert_eq!(closed, [(16, 23), (40, 40)]);
        });
        let holding = async {
            tokio::task::yield_now().await;
            order.lock().unwrap().push("committed");
            holder.commit().await.unwrap();
        };
        tokio::join!(closing, holding);
        assert_eq!(*order.lock().unwrap(), ["committed", "closed"]);
        let mut tx = store.write().await.unwrap();
        assert!(tx.hold_leaves(&[16, 40]).await.unwrap().is_empty());
        assert!(tx.open_ranges().await.unwrap().is_empty());
    }

    async fn pages_are_versions_that_stay_until_they_are_written_again_or_deleted(store: Store) {
        let altered = Page { blob: vec![9], ..page(1, 5, 1) };
        write(store, async |tx| {
            tx.insert_pages(0, &[page(3, u32::MAX, 1), page(1, 5, 2), page(1, 5, 1)]).await.unwrap();
            tx.insert_pages(1, &[altered, page(0, 0, 1)]).await.unwrap();
        })
        .await;
        let mut tx = store.read().await.unwrap();
        let pages = tx.key_pages().await.unwrap();
        assert_eq!(pages.len(), 4);
        assert!(pages.iter().find(|found| found.id == page(1, 5, 1).id).is_some_and(|found| found.blob == [9]));
        let mut ids = tx.key_page_ids(1).await.unwrap();
        ids.sort();
        assert_eq!(ids, [page(0, 0, 1).id, page(1, 5, 1).id, page(1, 5, 2).id, page(3, u32::MAX, 1).id]);
        drop(tx);
        write(store, async |tx| tx.delete_pages(&[page(1, 5, 1).id, page(2, 2, 2).id]).await.unwrap()).await;
        let mut ids = store.read().await.unwrap().key_page_ids(1).await.unwrap();
        ids.sort();
        assert_eq!(ids, [page(0, 0, 1).id, page(1, 5, 2).id, page(3, u32::MAX, 1).id]);
    }

    async fn pages_of_attempts_go_by_their_epoch(store: Store) {
        write(store, async |tx| {
            for epoch in 0..6_u8 {
                tx.insert_pages(epoch.into(), &[page(0, 0, epoch)]).await.unwrap();
            }
            tx.delete_pages_between(1, 4).await.unwrap();
        })
        .await;
        let mut tx = store.read().await.unwrap();
        let mut versions = async |epoch| {
            let mut ids = tx.key_page_ids(epoch).await.unwrap();
            ids.sort();
            ids.iter().map(|id| id.version[0]).collect::<Vec<_>>()
        };
        assert_eq!(versions(9).await, [0, 1, 4, 5]);
        assert_eq!(versions(4).await, [0, 1, 4]);
    }

    async fn punctured_ranges_move_to_a_later_epoch(store: Store) {
        let range = |first, last, epoch| Punctured { first, last, epoch };
        write(store, async |tx| {
            tx.put_punctured(&[range(20, 30, 1), range(u32::MAX, u32::MAX, 2), range(16, 16, 2)]).await.unwrap();
            tx.put_punctured(&[range(20, 30, 3)]).await.unwrap();
        })
        .await;
        let mut tx = store.read().await.unwrap();
        assert_eq!(
            tx.punctured_after(0).await.unwrap(),
            [range(16, 16, 2), range(20, 30, 3), range(u32::MAX, u32::MAX, 2)]
        );
        assert_eq!(tx.punctured_after(2).await.unwrap(), [range(20, 30, 3)]);
        assert_eq!(tx.punctured_after(3).await.unwrap(), []);
    }

    async fn a_leaf_is_one_subjects(store: Store) {
        people(store, 2).await;
        let key = |leaf, subject, class: &str| SubjectKey {
            leaf,
            subject: subject_id(subject),
            class: class.to_owned(),
            version: 1,
            created_at: AT,
            state: KeyState::Active,
            cohort: None,
            ended: false,
            part: (leaf == 18).then(|| PartId::from_bytes([9; 16])),
            kept_until: None,
        };
        write(store, async |tx| {
            tx.insert_subject_keys(&[key(u32::MAX, 0, "b"), key(17, 0, "a"), key(18, 1, "a")]).await.unwrap();
        })
        .await;
        let mut tx = store.write().await.unwrap();
        assert!(tx.insert_subject_keys(&[key(17, 1, "x")]).await.is_err());
        drop(tx);
        let mut tx = store.read().await.unwrap();
        assert_eq!(tx.subject_keys(&[subject_id(0)]).await.unwrap(), [key(17, 0, "a"), key(u32::MAX, 0, "b")]);
        assert_eq!(tx.subject_keys(&[subject_id(1), subject_id(0), subject_id(5)]).await.unwrap().len(), 3);
        drop(tx);
        write(store, async |tx| {
            tx.put_key_states(&[17, 999], KeyState::Retiring).await.unwrap();
            let range = |first, last, epoch| Punctured { first, last, epoch };
            tx.put_punctured(&[range(18, 40, 3), range(u32::MAX, u32::MAX, 4)]).await.unwrap();
            tx.retire_punctured_keys(3).await.unwrap();
        })
        .await;
        let keys = store.read().await.unwrap().subject_keys(&[subject_id(0), subject_id(1)]).await.unwrap();
        let states: Vec<_> = keys.iter().map(|key| (key.leaf, key.state)).collect();
        assert_eq!(states, [(17, KeyState::Retiring), (18, KeyState::Retired), (u32::MAX, KeyState::Active)]);
    }

    async fn the_generations_of_the_index_come_and_go(store: Store) {
        let generation = |number: u32, stage| Generation {
            generation: number,
            leaf: 100 + number,
            first_bucket: 64 * (number - 1),
            buckets: 64,
            stage,
        };
        write(store, async |tx| {
            tx.put_generation(&generation(2, Stage::Preparing)).await.unwrap();
            tx.put_generation(&generation(1, Stage::Current)).await.unwrap();
            tx.put_generation(&Generation { leaf: 7, ..generation(2, Stage::Building) }).await.unwrap();
            tx.put_buckets(&[bucket(1), bucket(64)]).await.unwrap();
            tx.put_chunks(&[chunk(bucket(1), 0), chunk(bucket(64), 0)]).await.unwrap();
        })
        .await;
        let mut tx = store.read().await.unwrap();
        let both = [generation(1, Stage::Current), generation(2, Stage::Building)];
        assert_eq!(tx.generations().await.unwrap(), both, "the leaf of a generation stays");
        assert_eq!(tx.named_leaves(&[(101, 102)]).await.unwrap(), [101, 102]);
        drop(tx);
        write(store, async |tx| {
            tx.delete_buckets(&[1, 5]).await.unwrap();
            tx.delete_generation(1).await.unwrap();
        })
        .await;
        let mut tx = store.read().await.unwrap();
        assert_eq!(tx.generations().await.unwrap(), both[1..]);
        assert!(tx.chunks(&[1]).await.unwrap().is_empty());
        assert_eq!(tx.chunks(&[64]).await.unwrap().len(), 1);
        assert_eq!(tx.buckets_and_dirty(&[1, 64]).await.unwrap(), [bucket(64)]);
    }

    async fn one_rotation_of_a_kind_and_target_runs_at_a_time(store: Store) {
        let rotation = |number: u8, kind, subject| {
            Rotation::begin(RotationId::from_bytes([number; 16]), kind, subject, AWKWARD, AT)
        };
        let mut first = rotation(1, RotationKind::SubjectKey, Some(subject_id(3)));
        first.total = 9;
        let other = rotation(3, RotationKind::SubjectKey, Some(subject_id(4)));
        let root = rotation(4, RotationKind::Root, None);
        write(store, async |tx| {
            assert!(tx.insert_rotation(&first).await.unwrap());
            assert!(!tx.insert_rotation(&rotation(2, first.kind, first.subject)).await.unwrap());
            assert!(tx.insert_rotation(&other).await.unwrap());
            assert!(tx.insert_rotation(&root).await.unwrap());
            assert_eq!(tx.lock_rotation(root.id).await.unwrap().as_ref(), Some(&root));
        })
        .await;
        first.advance("{\"after\":7}".to_owned(), 5, LATER).unwrap();
        write(store, async |tx| tx.update_rotation(&first).await.unwrap()).await;
        let mut tx = store.read().await.unwrap();
        assert_eq!(tx.rotation(first.id).await.unwrap().as_ref(), Some(&first));
        assert_eq!(tx.rotation(RotationId::from_bytes([9; 16])).await.unwrap(), None);
        assert_eq!(tx.running_rotations().await.unwrap(), [first.clone(), other.clone(), root.clone()]);
        drop(tx);
        first.finish(RotationState::Failed, "no".to_owned(), LATER).unwrap();
        let again = rotation(5, first.kind, first.subject);
        write(store, async |tx| {
            tx.update_rotation(&first).await.unwrap();
            assert!(tx.insert_rotation(&again).await.unwrap(), "the one before has ended");
        })
        .await;
        let mut tx = store.read().await.unwrap();
        assert_eq!(tx.running_rotations().await.unwrap(), [other.clone(), root.clone(), again.clone()]);
        assert_eq!(tx.list_rotations(None, 2).await.unwrap(), [again, root.clone()], "newest first");
        assert_eq!(tx.list_rotations(Some(root.id), 9).await.unwrap(), [other, first]);
    }

    async fn the_log_of_the_keys_is_read_from_its_end(store: Store) {
        let event = |number: u8| KeyEvent {
            id: KeyEventId::from_bytes([number; 16]),
            at: AT,
            actor: AWKWARD.to_owned(),
            kind: KeyEventKind::EpochAdvanced,
            detail: AWKWARD.to_owned(),
        };
        write(store, async |tx| {
            tx.insert_key_events(&[event(1), event(0xff)]).await.unwrap();
            tx.insert_key_events(&[event(2)]).await.unwrap();
            tx.insert_key_events(&[]).await.unwrap();
        })
        .await;
        let mut tx = store.read().await.unwrap();
        assert_eq!(tx.list_key_events(None, 2).await.unwrap(), [event(0xff), event(2)]);
        assert_eq!(tx.list_key_events(Some(event(2).id), 2).await.unwrap(), [event(1)]);
    }

    async fn buckets_have_chunks_the_last_of_which_is_the_tail(store: Store) {
        let long = Bucket { chunks: 3, ..bucket(2) };
        write(store, async |tx| {
            tx.put_buckets(&[bucket(2), bucket(1)]).await.unwrap();
            tx.put_buckets(&[long]).await.unwrap();
            tx.put_chunks(&[chunk(long, 2), chunk(long, 0), chunk(bucket(1), 0), chunk(long, 1)]).await.unwrap();
            let renewed = Chunk { blob: vec![7], ..chunk(long, 1) };
            tx.put_chunks(&[renewed]).await.unwrap();
            tx.lock_buckets(&[2, 1, 9]).await.unwrap();
        })
        .await;
        let mut tx = store.read().await.unwrap();
        assert_eq!(tx.buckets_and_dirty(&[2, 1, 9]).await.unwrap(), [bucket(1), long]);
        let told = |chunks: Vec<Chunk>| {
            chunks.iter().map(|chunk| (chunk.bucket, chunk.chunk, chunk.blob[0])).collect::<Vec<_>>()
        };
        assert_eq!(told(tx.tail_chunks(&[2, 1]).await.unwrap()), [(bucket(1), 0, 0), (long, 2, 2)]);
        let all = [(bucket(1), 0, 0), (long, 0, 0), (long, 1, 7), (long, 2, 2)];
        assert_eq!(told(tx.chunks(&[2, 9, 1]).await.unwrap()), all);
        drop(tx);
        let mut tx = store.write().await.unwrap();
        assert!(tx.put_chunks(&[chunk(bucket(5), 0)]).await.is_err(), "a chunk needs its bucket");
        drop(tx);
        write(store, async |tx| tx.delete_chunks(&[2]).await.unwrap()).await;
        assert_eq!(told(store.read().await.unwrap().chunks(&[1, 2]).await.unwrap()), all[..1]);
    }

    async fn dirty_buckets_come_along_until_they_are_clean(store: Store) {
        let dirty = Bucket { dirty: true, ..bucket(2) };
        write(store, async |tx| tx.put_buckets(&[bucket(1), dirty, bucket(3)]).await.unwrap()).await;
        let mut tx = store.read().await.unwrap();
        assert_eq!(tx.buckets_and_dirty(&[]).await.unwrap(), [dirty]);
        assert_eq!(tx.buckets_and_dirty(&[3]).await.unwrap(), [dirty, bucket(3)]);
        assert_eq!(tx.buckets_and_dirty(&[2, 1]).await.unwrap(), [bucket(1), dirty], "each once");
        drop(tx);
        write(store, async |tx| tx.put_buckets(&[bucket(2)]).await.unwrap()).await;
        assert_eq!(store.read().await.unwrap().buckets_and_dirty(&[]).await.unwrap(), []);
    }

    async fn the_first_answer_to_a_request_stays(store: Store) {
        let known = Answer { subject: Some(subject_id(1)), deed: "EraseSubject".into(), ..answer("b", 1) };
        write(store, async |tx| {
            tx.insert_answers(&[answer("a", 1), known.clone(), answer(AWKWARD, 2)]).await.unwrap();
            tx.insert_answers(&[Answer { answer: "later".into(), ..answer("a", 1) }]).await.unwrap();
        })
        .await;
        let mut tx = store.read().await.unwrap();
        let ask = |answer: Answer| (answer.caller, answer.id);
        assert_alike(&tx.answers(&[ask(answer("a", 1))]).await.unwrap(), &vec![answer("a", 1)]);
        assert_alike(&tx.answers(&[ask(answer("b", 1)), ask(answer("b", 2))]).await.unwrap(), &vec![known]);
        assert_alike(&tx.answers(&[ask(answer(AWKWARD, 2))]).await.unwrap(), &vec![answer(AWKWARD, 2)]);
    }

    async fn audit_batches_have_one_place_each(store: Store) {
        let at = u64::from(u32::MAX) + 5;
        write(store, async |tx| {
            for batch in [batch(1, 2), batch(0, 1), batch(1, 1), batch(1, at)] {
                tx.insert_audit_batch(&batch).await.unwrap();
            }
        })
        .await;
        let mut tx = store.write().await.unwrap();
        assert!(tx.insert_audit_batch(&batch(1, 2)).await.is_err(), "the position is taken");
        drop(tx);
        let mut tx = store.read().await.unwrap();
        assert_alike(&tx.audit_head(&[1; 16]).await.unwrap(), &Some(batch(1, at)));
        assert!(tx.audit_head(&[2; 16]).await.unwrap().is_none());
        let places = |batches: Vec<Batch>| batches.iter().map(|batch| (batch.node[0], batch.seq)).collect::<Vec<_>>();
        assert_eq!(places(tx.list_audit_batches(None, 10).await.unwrap()), [(0, 1), (1, 1), (1, 2), (1, at)]);
        assert_eq!(places(tx.list_audit_batches(Some(([1; 16], 1)), 1).await.unwrap()), [(1, 2)]);
        assert_eq!(places(tx.list_audit_batches(Some(([0; 16], 1)), 2).await.unwrap()), [(1, 1), (1, 2)]);
    }

    async fn thousands_of_rows_travel_in_one_call(store: Store) {
        let count = 3000;
        people(store, count).await;
        let tokens: Vec<_> = (0..count).map(|number| token(number, number)).collect();
        let rows: Vec<_> = tokens.iter().map(|token| token.row).collect();
        let ids: Vec<_> = (0..count).map(subject_id).collect();
        write(store, async |tx| {
            assert_eq!(tx.insert_tokens(&tokens).await.unwrap().len(), rows.len());
            assert_eq!(tx.lock_subjects(&ids).await.unwrap().len(), ids.len());
            assert_eq!(tx.spend_tokens(&rows, AT).await.unwrap().len(), rows.len());
        })
        .await;
        let mut tx = store.read().await.unwrap();
        assert_eq!(tx.facts(&rows, &[]).await.unwrap().len(), rows.len());
        assert_eq!(tx.sealed_tokens(&ids).await.unwrap().len(), rows.len());
    }

    async fn a_locked_subject_waits_for_its_transaction(store: Store) {
        people(store, 1).await;
        let change = |version| {
            write(store, async move |tx| {
                let mut locked = tx.lock_subjects(&[subject_id(0)]).await.unwrap();
                tokio::task::yield_now().await;
                locked[0].version += version;
                tx.update_subjects(&locked).await.unwrap();
            })
        };
        futures_util::future::join_all([1; 20].map(change)).await;
        let found = store.read().await.unwrap().subjects(&[subject_id(0)]).await.unwrap();
        assert_eq!(found[0].version, 21, "no change was lost");
    }
}
