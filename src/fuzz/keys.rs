//! What keys are kept in: pages of the tree, slots, checkpoints, chunks of the index.

use super::{Named, Repeated, halves, text};
use crate::crypto::{Key, Secret, derive, leaf_of, open, seal};
use crate::keys::checkpoint::{Base, Checkpoint, State, hex};
use crate::keys::index;
use crate::keys::kek::{blob, local, pkcs11};
use crate::keys::receipt;
use crate::keys::slot::file::copy::Stored;
use crate::keys::slot::{Content, Root};
use crate::keys::tree::block::Block;
use crate::keys::tree::page;
use crate::keys::tree::puncture::place;
use crate::keys::tree::{PageId, Tree};
use crate::vault::consent::link::Target as Link;

pub const TARGETS: &[Named] = &[
    ("pages", pages),
    ("trees", trees),
    ("index_chunks", index_chunks),
    ("slots", slots),
    ("key_files", key_files),
    ("checkpoints", checkpoints),
    ("sealed", sealed),
    ("links", links),
    ("kms_blobs", kms_blobs),
];

fn key() -> Secret<32> {
    Secret::random(&Repeated::default())
}

/// The first five bytes say which page it is of.
fn pages(bytes: &[u8]) {
    let Some((head, bytes)) = bytes.split_first_chunk::<5>() else { return };
    let [level, prefix @ ..] = *head;
    let id = PageId { level: level % 8, prefix: u32::from_be_bytes(prefix), version: [0; 16] };
    let Some(block) = Block::of_page(&id) else { return };
    let Some(parsed) = page::parse(block, bytes) else { return };
    let count = |entries: usize| u8::try_from(entries).unwrap_or_default();
    let mut written = vec![1, count(parsed.seeds.len()), count(parsed.children.len())];
    let entries = parsed.seeds.iter().chain(&parsed.children);
    written.extend(entries.flat_map(|(number, secret)| [&[*number][..], *secret].concat()));
    assert_eq!(written, bytes, "a page is written in one way");
}

/// A root page, behind the seal that it would have; then leaves that are punctured.
fn trees(bytes: &[u8]) {
    let Some((ranges, plain)) = bytes.split_first_chunk::<8>() else { return };
    let (tree, root) = ([7; 16], key());
    let id = PageId { level: 0, prefix: 0, version: derive::root_id(&root) };
    let blob = seal(&Key::new(&root), 0, &place(&tree, &id), plain, &Repeated::default());
    let Ok(loaded) = Tree::load(tree, &root, |page| (page == id).then_some(&blob)) else { return };
    let both = u64::from_be_bytes(*ranges);
    let half = |number: u64| u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default();
    let (first, last) = (half(both >> 32), half(both));
    let after = loaded.puncture(&[first..=last, last..=last], &Repeated::default());
    assert!(!after.tree.is_live(last) && (first > last || !after.tree.is_live(first)));
    for leaf in [0, first.wrapping_sub(1), last.wrapping_add(1), u32::MAX] {
        let dies = leaf == last || (first..=last).contains(&leaf);
        let same = loaded.derive(leaf).map(|seed| *seed.expose()) == after.tree.derive(leaf).map(|seed| *seed.expose());
        assert!(dies || same, "leaf {leaf} is another after {first}..={last} died");
    }
    assert!(after.tree.stats().punctured_leaves >= loaded.stats().punctured_leaves);
}

fn index_chunks(bytes: &[u8]) {
    let Some((bucket, plain)) = bytes.split_first() else { return };
    if let Some(entries) = index::decode((*bucket).into(), plain) {
        let again = index::encode(&entries);
        let count = index::decode((*bucket).into(), again.expose()).map(|again| again == entries);
        assert_eq!(count, Some(true));
    }
}

fn slots(bytes: &[u8]) {
    if let Some(stored) = Stored::decode(bytes) {
        let again = Stored::encode(&stored.content, &stored.places).ok();
        let again = again.and_then(|again| Stored::decode(again.expose()));
        assert!(again.is_some_and(|again| again.holds(&stored.content) && again.age() == stored.age()));
        assert!(stored.content.latest_epoch() >= stored.content.current.epoch);
        let _next: Option<u64> = following(&stored.content);
    }
}

/// A slot that says it is at the end of all epochs was not written by a vault; it must not be taken for a fault of ours.
fn following(content: &Content) -> Option<u64> {
    (content.latest_epoch() < u64::MAX).then(|| content.next_epoch())
}

/// A file of a key-encrypting key, or of public keys.
fn key_files(bytes: &[u8]) {
    if let Some((tree, versions)) = local::parse(bytes) {
        assert_eq!(local::encode(&tree, &versions).expose(), bytes);
    }
    if let Some((_, header, sealed)) = pkcs11::parse(bytes) {
        assert_eq!([header, sealed].concat(), bytes);
    }
    if let Ok(keys) = receipt::public_keys(text(bytes)) {
        assert!(keys.iter().all(|key| key.len() == 32));
    }
}

/// Found in a sink, read without its root; then the same under a root that has signed it.
fn checkpoints(bytes: &[u8]) {
    let (one, other) = halves(bytes);
    let base = Base { root_id: String::new(), sha256: hex(&derive::sha256(&[one])) };
    let mut state = State::default();
    for part in [Checkpoint::open_base(one, &base).ok(), Checkpoint::glance(other)] {
        let Some(Ok(content)) = part.map(Checkpoint::content) else { continue };
        let before = state.clone();
        if state.apply(content).is_err() {
            state = before;
        }
    }
    if let Some(checkpoint) = Checkpoint::glance(one) {
        let root = Root { id: [1; 16], epoch: checkpoint.epoch, key: key() };
        let sealed = checkpoint.seal(&root).unwrap_or_default();
        let opened = Checkpoint::open(&sealed, &root);
        assert!(opened.is_err() || checkpoint.root_id == hex(&root.id), "it is of another root");
    }
}

fn sealed(bytes: &[u8]) {
    let key = Key::new(&key());
    let tree = [0; 16];
    let aad = place(&tree, &PageId { level: 0, prefix: 0, version: tree });
    let _number = leaf_of(bytes);
    assert!(open(&key, &aad, bytes).is_err(), "what nobody sealed opens");
    let whole = seal(&key, 7, &aad, bytes, &Repeated::default());
    assert!(open(&key, &aad, &whole).is_ok_and(|plain| plain.expose() == bytes) && leaf_of(&whole) == Some(7));
}

fn links(bytes: &[u8]) {
    if let Some(target) = Link::decode(bytes) {
        let again = target.encode().ok();
        assert_eq!(again.and_then(|again| Link::decode(&again)), Some(target));
    }
}

fn kms_blobs(bytes: &[u8]) {
    if let Some((key, sealed)) = blob::parse(bytes) {
        assert_eq!(blob::write(key, sealed).as_deref(), Some(bytes));
    }
}
