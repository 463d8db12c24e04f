use super::*;
use crate::crypto::{Secret, SystemRandom, derive};
use crate::keys::kek::{Absent, LocalKek};

fn fresh_root(epoch: u64) -> Root {
    let key = Secret::random(&SystemRandom::new());
    Root { id: derive::root_id(&key), epoch, key }
}

struct Place {
    home: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn slot(&self) -> FileSlot {
        let kek = LocalKek::open(&self.path("kek"), [7; 16], Absent::Make, Arc::new(SystemRandom::new())).unwrap();
        let lock = SlotLock::take(&self.path("a/root.slot")).unwrap();
        FileSlot::hold(lock, &self.path("a/root.slot"), &[self.path("b/root.slot")], Arc::new(kek))
    }
}

async fn created(slot: &FileSlot) -> [u8; 16] {
    let current = fresh_root(0);
    let id = current.id;
    slot.create(&Content::first([7; 16], current)).await.unwrap();
    id
}

#[tokio::test]
async fn advancing_forgets_the_old_root_in_every_copy() {
    let place = Place::new();
    let slot = place.slot();
    let old = created(&slot).await;
    let old_key = slot.load().await.unwrap().unwrap().current.key;
    let next = fresh_root(1);
    slot.prepare(&old, &next).await.unwrap();
    assert_eq!(slot.load().await.unwrap().unwrap().current.id, old, "preparing changes nothing that counts");
    slot.advance(&old, &next.id).await.unwrap();
    for path in &slot.paths {
        let content = slot.read(path).await.unwrap().unwrap().content;
        assert_eq!((content.current.id, content.current.epoch), (next.id, 1));
        assert!(content.next.is_none());
        let plain = slot.kek.unwrap(LABEL, &std::fs::read(path).unwrap()).await.unwrap();
        assert!(!plain.expose().windows(32).any(|window| window == old_key.expose()));
    }
}

#[tokio::test]
async fn a_writer_who_saw_an_older_root_is_refused() {
    let place = Place::new();
    let slot = place.slot();
    let old = created(&slot).await;
    let (one, two) = (fresh_root(1), fresh_root(2));
    slot.prepare(&old, &one).await.unwrap();
    slot.prepare(&old, &two).await.unwrap();
    assert!(slot.advance(&old, &one.id).await.is_err(), "the second preparation replaced the first");
    slot.advance(&old, &two.id).await.unwrap();
    assert!(slot.prepare(&old, &fresh_root(3)).await.is_err());
    assert!(slot.create(&Content::first([7; 16], fresh_root(0))).await.is_err());
}

#[tokio::test]
async fn no_epoch_is_taken_twice() {
    let place = Place::new();
    let slot = place.slot();
    let old = created(&slot).await;
    assert_eq!(slot.load().await.unwrap().unwrap().next_epoch(), 1);
    let one = fresh_root(1);
    slot.prepare(&old, &one).await.unwrap();
    slot.settle().await.unwrap();
    let content = slot.load().await.unwrap().unwrap();
    assert_eq!((content.next_epoch(), content.latest_epoch()), (2, 1), "settling keeps what is prepared");
    for epoch in [0, 1] {
        assert!(slot.prepare(&old, &fresh_root(epoch)).await.is_err(), "epoch {epoch} was taken");
    }
    slot.prepare(&old, &one).await.unwrap();
    slot.prepare(&old, &fresh_root(2)).await.unwrap();
    assert!(slot.prepare(&old, &one).await.is_err());
}

#[tokio::test]
async fn a_mirror_that_missed_the_advance_catches_up_and_until_then_it_is_not_done() {
    let place = Place::new();
    let slot = place.slot();
    let old = created(&slot).await;
    let next = fresh_root(1);
    slot.prepare(&old, &next).await.unwrap();
    let mirror = place.path("b/root.slot");
    let lagging = std::fs::read(&mirror).unwrap();
    std::fs::write(&mirror, "broken").unwrap();
    assert!(slot.advance(&old, &next.id).await.is_err());
    assert_eq!(slot.load().await.unwrap().unwrap().current.id, old, "all of them advance, or none");
    std::fs::write(&mirror, lagging).unwrap();
    slot.advance(&old, &next.id).await.unwrap();
    assert_eq!(slot.read(&mirror).await.unwrap().unwrap().content.current.id, next.id);
}

#[tokio::test]
async fn a_copy_that_vanished_is_missed_and_a_place_that_is_new_is_not() {
    let place = Place::new();
    let slot = place.slot();
    let old = created(&slot).await;
    std::fs::remove_dir_all(place.path("b")).unwrap();
    assert!(slot.prepare(&old, &fresh_root(1)).await.is_err());
    assert!(slot.settle().await.is_err());
    assert!(!place.path("b").exists(), "nothing was put in its place");
    let FileSlot { kek, lock, .. } = slot;
    std::fs::create_dir(place.path("c")).unwrap();
    let moved = FileSlot::hold(lock.unwrap(), &place.path("a/root.slot"), &[place.path("c/root.slot")], kek);
    moved.settle().await.unwrap();
    assert_eq!(moved.read(&place.path("c/root.slot")).await.unwrap().unwrap().content.current.id, old);
}

#[tokio::test]
async fn two_roots_of_one_epoch_are_refused() {
    let place = Place::new();
    let slot = place.slot();
    let old = created(&slot).await;
    let (one, other) = (fresh_root(1), fresh_root(1));
    slot.prepare(&old, &other).await.unwrap();
    slot.advance(&old, &other.id).await.unwrap();
    let stray = Content::first([7; 16], one);
    slot.write(&place.path("b/root.slot"), &stray, &[]).await.unwrap();
    assert!(slot.load().await.is_err());
}

#[tokio::test]
async fn an_old_copy_brought_back_does_not_decide() {
    let place = Place::new();
    let slot = place.slot();
    let old = created(&slot).await;
    let before = std::fs::read(place.path("a/root.slot")).unwrap();
    let next = fresh_root(1);
    slot.prepare(&old, &next).await.unwrap();
    slot.advance(&old, &next.id).await.unwrap();
    std::fs::write(place.path("a/root.slot"), before).unwrap();
    assert_eq!(slot.load().await.unwrap().unwrap().current.id, next.id);
    slot.settle().await.unwrap();
    assert_eq!(slot.read(&place.path("a/root.slot")).await.unwrap().unwrap().content.current.id, next.id);
}

#[tokio::test]
async fn one_process_holds_a_slot_and_a_wrong_kek_is_told_apart() {
    let place = Place::new();
    let slot = place.slot();
    created(&slot).await;
    let other = LocalKek::open(&place.path("other"), [7; 16], Absent::Make, Arc::new(SystemRandom::new())).unwrap();
    let other: Arc<dyn Kek> = Arc::new(other);
    assert!(SlotLock::take(&place.path("a/root.slot")).is_err());
    let wrong = FileSlot::look(&place.path("a/root.slot"), &[], other);
    let Err(error) = wrong.load().await else { panic!("opened under a wrong key") };
    assert!(error.to_string().contains("does not open under"), "{error}");
}

#[tokio::test]
async fn a_torn_or_foreign_file_is_an_error_and_never_an_empty_slot() {
    let place = Place::new();
    let slot = place.slot();
    created(&slot).await;
    let path = place.path("a/root.slot");
    let whole = std::fs::read(&path).unwrap();
    for torn in [&whole[..0], &whole[..whole.len() / 2], b"not a slot".as_slice()] {
        std::fs::write(&path, torn).unwrap();
        assert!(slot.load().await.unwrap().is_some(), "the mirror is whole");
        assert!(slot.settle().await.is_err(), "and what is torn is not overwritten unseen");
    }
    std::fs::write(place.path("b/root.slot"), "torn as well").unwrap();
    assert!(slot.load().await.is_err());
}
