use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::crypto::{Random, Secret, SecretBytes, SystemRandom, derive};
use crate::keys::kek::{Absent, LocalKek, Succession};
use crate::keys::signer::SigningKeyRotation;
use crate::keys::slot::{Content, FileSlot, Root, SlotLock};

/// A KEK that breaks down after so many uses: the moment of a crash.
struct Brittle {
    kek: Arc<dyn Kek>,
    left: AtomicUsize,
}

impl Brittle {
    fn use_once(&self) -> Result<()> {
        let broken = |left: usize| left.checked_sub(1);
        let used = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, broken);
        used.map(drop).map_err(|_| refuse("it broke down"))
    }
}

#[async_trait]
impl Kek for Brittle {
    async fn wrap(&self, label: &'static str, plain: &SecretBytes) -> Result<Vec<u8>> {
        self.use_once()?;
        self.kek.wrap(label, plain).await
    }

    async fn unwrap(&self, label: &'static str, wrapped: &[u8]) -> Result<SecretBytes> {
        self.use_once()?;
        self.kek.unwrap(label, wrapped).await
    }

    async fn needs(&self, label: &'static str, wrapped: &[u8]) -> Result<String> {
        self.use_once()?;
        self.kek.needs(label, wrapped).await
    }

    async fn versions(&self) -> Result<Vec<String>> {
        self.use_once()?;
        self.kek.versions().await
    }

    /// Breaks down after the deed: nobody hears that it was done.
    async fn add_version(&self) -> Result<String> {
        let version = self.kek.add_version().await?;
        self.use_once()?;
        Ok(version)
    }

    async fn destroy_version(&self, version: &str) -> Result<()> {
        self.kek.destroy_version(version).await?;
        self.use_once()
    }

    fn kind(&self) -> &'static str {
        self.kek.kind()
    }

    fn describe(&self) -> String {
        self.kek.describe()
    }
}

const TREE: [u8; 16] = [7; 16];

struct Place {
    home: tempfile::TempDir,
}

/// What a KEK wraps, opened under it.
struct Opened {
    kek: Arc<dyn Kek>,
    slot: FileSlot,
    signer: Signer,
}

impl Opened {
    fn wrapped(&self) -> Wrapped<'_> {
        Wrapped { kek: &*self.kek, slot: &self.slot, signer: &self.signer }
    }

    async fn rotate(&self, dry_run: bool) -> Result<KekRotation> {
        let plan = self.wrapped().rotate(None, &|_| {}).await?;
        if dry_run { Ok(plan) } else { self.wrapped().rotate(Some(&plan.from), &|_| {}).await }
    }

    /// Every version that anything needs.
    async fn needed(&self) -> Vec<String> {
        let mut needed: Vec<_> = self.wrapped().copies().await.unwrap().into_iter().map(|copy| copy.version).collect();
        needed.dedup();
        needed
    }
}

fn random() -> Arc<dyn Random> {
    Arc::new(SystemRandom::new())
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn local(&self, name: &str, absent: Absent) -> Arc<dyn Kek> {
        Arc::new(LocalKek::open(&self.path(name), TREE, absent, random()).unwrap())
    }

    async fn open(&self, kek: Arc<dyn Kek>, create: bool) -> Opened {
        let lock = SlotLock::share(&self.path("a/root.slot")).unwrap();
        let mirrors = [self.path("b/root.slot")];
        let slot = FileSlot::hold(lock, &self.path("a/root.slot"), &mirrors, Arc::clone(&kek));
        if create {
            let key = Secret::random(&*random());
            let current = Root { id: derive::root_id(&key), epoch: 0, key };
            slot.create(&Content::first(TREE, current)).await.unwrap();
        }
        let absent = if create { Absent::Make } else { Absent::Refuse };
        let keys = ["a", "b"].map(|place| self.path(place).join("receipt-signing.key"));
        let signer = Signer::open(&keys, Arc::clone(&kek), absent, &*random()).await.unwrap();
        Opened { kek, slot, signer }
    }

    async fn made() -> (Self, [u8; 16], Vec<String>) {
        let place = Self { home: tempfile::tempdir().unwrap() };
        let opened = place.open(place.local("kek", Absent::Make), true).await;
        let root = opened.slot.load().await.unwrap().unwrap().current.id;
        let keys = opened.signer.public_keys().unwrap();
        (place, root, keys)
    }
}

#[tokio::test]
async fn everything_comes_under_the_new_version_and_the_old_one_opens_nothing_any_more() {
    let (place, root, keys) = Place::made().await;
    let opened = place.open(place.local("kek", Absent::Refuse), false).await;
    let before = std::fs::read(place.path("kek")).unwrap();
    let old_slot = std::fs::read(place.path("a/root.slot")).unwrap();

    let plan = opened.rotate(true).await.unwrap();
    assert_eq!((plan.dry_run, plan.resumed, plan.from, plan.to), (true, false, vec!["1".to_owned()], None));
    assert_eq!(plan.copies.len(), 4, "two copies of the slot, two of the signing key");
    assert_eq!(std::fs::read(place.path("kek")).unwrap(), before, "a dry run changes nothing");

    let plan_from = vec!["1".to_owned()];
    let steps = std::sync::Mutex::new(Vec::new());
    let done =
        opened.wrapped().rotate(Some(&plan_from), &|progress| steps.lock().unwrap().push(progress)).await.unwrap();
    assert_eq!((done.to.as_deref(), done.resumed), (Some("2"), false));
    let steps = steps.into_inner().unwrap();
    assert!(steps.iter().all(|step| step.total == 5) && steps.last().unwrap().done == 5, "{steps:?}");
    let again = opened.wrapped().rotate(Some(&plan_from), &|_| {}).await.unwrap();
    assert_eq!(again.to.as_deref(), Some("2"), "it was not heard that it was done; it is not done twice");
    assert_eq!(opened.needed().await, ["2"]);
    assert_eq!(opened.kek.versions().await.unwrap(), ["2"]);
    let again = place.open(place.local("kek", Absent::Refuse), false).await;
    assert_eq!(again.slot.load().await.unwrap().unwrap().current.id, root);
    assert_eq!(again.signer.public_keys().unwrap(), keys);
    assert!(again.kek.unwrap("lacuna/root-slot/v1", &old_slot).await.is_err());
    assert_eq!(again.rotate(false).await.unwrap().to.as_deref(), Some("3"));
}

#[tokio::test]
async fn interrupted_anywhere_it_leaves_everything_readable_and_repeating_finishes() {
    let mut uses = 0;
    loop {
        let (place, root, keys) = Place::made().await;
        let opened = place.open(place.local("kek", Absent::Refuse), false).await;
        let brittle = Arc::new(Brittle { kek: place.local("kek", Absent::Refuse), left: AtomicUsize::new(usize::MAX) });
        let interrupted = place.open(Arc::clone(&brittle) as Arc<dyn Kek>, false).await;
        brittle.left.store(uses, Ordering::SeqCst);
        let outcome = interrupted.rotate(false).await;
        assert_eq!(opened.slot.load().await.unwrap().unwrap().current.id, root, "after {uses} uses");
        assert_eq!(opened.slot.status().await.iter().filter(|copy| copy.epoch.is_ok()).count(), 2);
        let fresh = place.open(place.local("kek", Absent::Refuse), false).await;
        assert_eq!(fresh.signer.public_keys().unwrap(), keys);
        if outcome.is_ok() {
            assert!(uses > 10);
            return;
        }
        fresh.rotate(false).await.unwrap();
        let versions = fresh.kek.versions().await.unwrap();
        assert_eq!((versions.len(), fresh.needed().await), (1, versions));
        assert_eq!(fresh.slot.load().await.unwrap().unwrap().current.id, root);
        uses += 1;
    }
}

#[tokio::test]
async fn a_version_that_something_needs_is_not_destroyed() {
    let (place, ..) = Place::made().await;
    let opened = place.open(place.local("kek", Absent::Refuse), false).await;
    let mirror = std::fs::read(place.path("b/root.slot")).unwrap();
    std::fs::write(place.path("b/root.slot"), "broken").unwrap();
    assert!(opened.rotate(false).await.is_err());
    std::fs::remove_file(place.path("b/root.slot")).unwrap();
    assert!(opened.rotate(false).await.is_err(), "a mirror that may come back");
    assert_eq!(opened.kek.versions().await.unwrap().first().unwrap(), "1");
    std::fs::write(place.path("b/root.slot"), mirror).unwrap();
    let done = opened.rotate(false).await.unwrap();
    assert_eq!((done.resumed, done.from), (true, vec!["1".to_owned()]));
    assert_eq!(opened.needed().await, opened.kek.versions().await.unwrap());
}

#[tokio::test]
async fn a_vault_moves_from_one_kek_to_another_wherever_it_is_interrupted() {
    let mut uses = 0;
    loop {
        let (place, root, keys) = Place::made().await;
        let moving = |place: &Place| -> Arc<dyn Kek> {
            let present = place.local("other", Absent::Make);
            Arc::new(Succession::new(present, place.local("kek", Absent::Refuse)))
        };
        // Before the rotation the slot is written already, under the present one.
        let opened = place.open(moving(&place), false).await;
        assert!(opened.needed().await.iter().all(|version| version == "former 1"));
        let (content, key) = (opened.slot.load().await.unwrap().unwrap(), Secret::random(&*random()));
        let next = Root { id: derive::root_id(&key), epoch: content.next_epoch(), key };
        opened.slot.prepare(&content.current.id, &next).await.unwrap();
        let plan = opened.rotate(true).await.unwrap();
        assert_eq!((plan.resumed, plan.from.len(), plan.to.as_deref(), plan.copies.len()), (true, 0, Some("1"), 4));
        let versions: Vec<_> = plan.copies.iter().map(|copy| copy.version.as_str()).collect();
        assert_eq!(versions, ["1", "1", "former 1", "former 1"]);
        drop(opened);

        let brittle = Arc::new(Brittle { kek: moving(&place), left: AtomicUsize::new(usize::MAX) });
        let opened = place.open(Arc::clone(&brittle) as Arc<dyn Kek>, false).await;
        brittle.left.store(uses, Ordering::SeqCst);
        let went_through = opened.rotate(false).await.is_ok();
        drop(opened);
        let opened = place.open(moving(&place), false).await;
        assert_eq!(opened.slot.load().await.unwrap().unwrap().next.unwrap().id, next.id);
        opened.rotate(false).await.unwrap();
        // One version of the present one, and what the former wrapped is no more.
        let versions = opened.kek.versions().await.unwrap();
        assert_eq!((versions.len(), opened.needed().await), (1, versions));
        std::fs::remove_file(place.path("kek")).unwrap();
        let opened = place.open(place.local("other", Absent::Refuse), false).await;
        assert_eq!(opened.slot.load().await.unwrap().unwrap().current.id, root);
        assert_eq!(opened.signer.public_keys().unwrap(), keys);
        if went_through {
            return;
        }
        uses += 1;
    }
}

#[tokio::test]
async fn a_signing_key_is_replaced_and_every_former_public_key_stays_listed() {
    let (place, ..) = Place::made().await;
    let opened = place.open(place.local("kek", Absent::Refuse), false).await;
    let beside = place.open(place.local("kek", Absent::Refuse), false).await;
    let first = opened.signer.public_keys().unwrap();
    let plan = opened.signer.rotate(None, &*random()).await.unwrap();
    assert_eq!((plan.present, &plan.former, plan.listed), (None, &first[0], 1));
    let done = renew(&opened.signer).await.unwrap();
    assert_eq!((done.listed, done.resumed), (2, false));
    let again = opened.signer.rotate(Some(&first[0]), &*random()).await.unwrap();
    assert_eq!((again.present, again.listed), (done.present.clone(), 2), "it is not done twice");
    assert_eq!(opened.signer.public_keys().unwrap(), [done.present.clone().unwrap(), first[0].clone()]);
    assert_eq!(listed(&place.path("b/receipt-signing.pub")), opened.signer.public_keys().unwrap());
    assert_ne!(beside.signer.key().public(), opened.signer.key().public());
    assert!(beside.signer.refresh().await.unwrap());
    assert!(!beside.signer.refresh().await.unwrap());
    assert_eq!(beside.signer.key().public(), opened.signer.key().public());
    assert!(!place.path("a/receipt-signing.next").exists());
    // The KEK takes both generations along.
    opened.rotate(false).await.unwrap();
    let again = place.open(place.local("kek", Absent::Refuse), false).await;
    assert_eq!(again.signer.key().public(), opened.signer.key().public());
}

/// Replaces the signing key.
async fn renew(signer: &Signer) -> Result<SigningKeyRotation> {
    let plan = signer.rotate(None, &*random()).await?;
    signer.rotate(Some(&plan.former), &*random()).await
}

fn listed(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn an_interrupted_replacement_of_the_signing_key_goes_on_with_the_same_key() {
    for broken in ["a/receipt-signing.next", "a/receipt-signing.pub", "b/receipt-signing.pub", "b/receipt-signing.key"]
    {
        let (place, ..) = Place::made().await;
        let opened = place.open(place.local("kek", Absent::Refuse), false).await;
        // A folder in the way of the temporary file: what comes after it does not happen.
        let block = place.path(&format!("{broken}.new"));
        std::fs::create_dir(&block).unwrap();
        assert!(renew(&opened.signer).await.is_err());
        let between = place.open(place.local("kek", Absent::Refuse), false).await;
        let named = data_encoding::BASE64.encode(&between.signer.key().public());
        for list in ["a/receipt-signing.pub", "b/receipt-signing.pub"] {
            let known = listed(&place.path(list)).contains(&named);
            assert!(known, "{broken}: a key signs whose public half is not in {list}");
        }
        std::fs::remove_dir(&block).unwrap();
        let done = renew(&between.signer).await.unwrap();
        assert_eq!((done.resumed, done.listed), (broken != "a/receipt-signing.next", 2), "{broken}");
        let ends = place.open(place.local("kek", Absent::Refuse), false).await;
        assert_eq!(ends.signer.public_keys().unwrap()[0], done.present.unwrap());
    }
}

/// A KEK that wraps what it cannot open, as a token that makes nonces of its own and does not tell them.
struct Careless(Arc<dyn Kek>);

#[async_trait]
impl Kek for Careless {
    async fn wrap(&self, label: &'static str, plain: &SecretBytes) -> Result<Vec<u8>> {
        let mut wrapped = self.0.wrap(label, plain).await?;
        wrapped.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1);
        Ok(wrapped)
    }

    async fn unwrap(&self, label: &'static str, wrapped: &[u8]) -> Result<SecretBytes> {
        self.0.unwrap(label, wrapped).await
    }

    async fn needs(&self, label: &'static str, wrapped: &[u8]) -> Result<String> {
        self.0.needs(label, wrapped).await
    }

    async fn versions(&self) -> Result<Vec<String>> {
        self.0.versions().await
    }

    async fn add_version(&self) -> Result<String> {
        self.0.add_version().await
    }

    async fn destroy_version(&self, version: &str) -> Result<()> {
        self.0.destroy_version(version).await
    }

    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}

#[tokio::test]
async fn what_does_not_open_takes_the_place_of_nothing() {
    let (place, root, keys) = Place::made().await;
    let opened = place.open(Arc::new(Careless(place.local("kek", Absent::Refuse))), false).await;
    let key = Secret::random(&*random());
    let next = Root { id: derive::root_id(&key), epoch: 1, key };
    assert!(opened.slot.prepare(&root, &next).await.is_err());
    assert!(renew(&opened.signer).await.is_err());
    assert!(opened.rotate(false).await.is_err());
    drop(opened);
    let opened = place.open(place.local("kek", Absent::Refuse), false).await;
    assert_eq!(opened.slot.load().await.unwrap().unwrap().current.id, root);
    assert_eq!(opened.signer.public_keys().unwrap(), keys);
}

#[tokio::test]
async fn a_new_place_gets_the_signing_key_and_what_is_listed_anywhere_is_listed() {
    let (place, ..) = Place::made().await;
    let opened = place.open(place.local("kek", Absent::Refuse), false).await;
    renew(&opened.signer).await.unwrap();
    renew(&opened.signer).await.unwrap();
    let all = opened.signer.public_keys().unwrap();
    assert_eq!(all.len(), 3);
    // One list is an old copy, the other was cut off at its end.
    std::fs::write(place.path("a/receipt-signing.pub"), format!("{}\n", all[2])).unwrap();
    std::fs::write(place.path("b/receipt-signing.pub"), all[..2].join("\n")).unwrap();
    assert_eq!(opened.signer.public_keys().unwrap(), all);
    std::fs::remove_file(place.path("b/receipt-signing.key")).unwrap();
    opened.signer.complete().await.unwrap();
    assert_eq!(["a", "b"].map(|at| listed(&place.path(at).join("receipt-signing.pub"))), [all.clone(), all.clone()]);
    // The new place serves when the first one is lost.
    std::fs::remove_file(place.path("a/receipt-signing.key")).unwrap();
    let again = place.open(place.local("kek", Absent::Refuse), false).await;
    assert_eq!(again.signer.public_keys().unwrap(), all);
    assert_eq!(again.signer.key().public(), opened.signer.key().public());
}
