//! What every root slot promises, told once and kept by each kind: in files, and in a PKCS#11 token.
//!
//! A story that needs a token, or limits of its own, runs in a process of its own: the test program starts itself with
//! the name of the story.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use lacuna::crypto::{Secret, SecretBytes, SystemRandom, derive};
use lacuna::keys::kek::{Absent, LocalKek};
use lacuna::keys::slot::{Assurance, Content, FileSlot, Root, RootSlot, SlotLock, TokenSlot};
use lacuna::keys::token::{Options, Pin, Token};
use lacuna::model::{Error, Reason};

use crate::process::{run, said, setting};
use crate::softhsm;

/// Where the child of a story finds what its parent made.
const PLACE: &str = "LACUNA_STORY_PLACE";

/// Writes a story once and tells it of every kind of slot.
macro_rules! on_every_slot {
    ($($(#[$meta:meta])* async fn $name:ident($bed:ident: Bed) $body:block)+) => {
        $($(#[$meta])* async fn $name($bed: Bed) $body)+

        mod in_files {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Bed::of_files(super::story(module_path!(), stringify!($name)))).await;
            })+
        }

        mod in_a_token {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let story = super::story(module_path!(), stringify!($name));
                if let Some(bed) = super::Bed::of_a_token(story) { super::$name(bed).await; }
            })+
        }
    };
}

/// The name by which the test program finds a story.
fn story(module: &str, name: &str) -> String {
    let (_crate, module) = module.split_once("::").unwrap();
    format!("{module}::{name}")
}

/// Where a slot is tried.
struct Bed {
    story: String,
    place: PathBuf,
    /// The token's library, for a slot in a token.
    module: Option<String>,
    /// Removes the place at the end; a child leaves that to its parent.
    home: Option<tempfile::TempDir>,
}

impl Bed {
    fn of_files(story: String) -> Self {
        if let Some(place) = setting(PLACE) {
            return Self { story, place: place.into(), module: None, home: None };
        }
        let home = tempfile::tempdir().unwrap();
        Self { story, place: home.path().to_owned(), module: None, home: Some(home) }
    }

    /// `None` when the story was told in a process of its own, or cannot be told at all.
    fn of_a_token(story: String) -> Option<Self> {
        let module = softhsm::module(&story)?;
        if let Some(place) = setting(PLACE) {
            return Some(Self { story, place: place.into(), module: Some(module), home: None });
        }
        let home = tempfile::tempdir().unwrap();
        softhsm::make(home.path());
        let bed = Self { story, place: home.path().to_owned(), module: Some(module), home: Some(home) };
        let output = run(&mut bed.again(""));
        assert!(output.status.success(), "{}", said(&output));
        None
    }

    /// This story in another process, in the same place, in the part that `role` names.
    fn again(&self, role: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([&self.story, "--exact", "--nocapture"]).env(PLACE, &self.place).env("LACUNA_STORY_ROLE", role);
        command.env("SOFTHSM2_CONF", softhsm::conf(&self.place)).stdin(Stdio::null());
        command
    }

    fn role(&self) -> Option<String> {
        setting("LACUNA_STORY_ROLE").filter(|_| self.home.is_none())
    }

    fn slot_file(&self) -> PathBuf {
        self.place.join("a/root.slot")
    }

    fn mirror(&self) -> PathBuf {
        self.place.join("b/root.slot")
    }

    fn token(&self, token: &str, pin: &str) -> Arc<Token> {
        let pin = Pin::Text(SecretBytes::from(pin.to_owned()));
        let module = self.module.clone().unwrap().into();
        Arc::new(Token::new(Options { module, token: token.to_owned(), pin, hardware: false }))
    }

    /// A slot, by one more writer.
    fn slot(&self) -> Arc<dyn RootSlot> {
        let (lock, random) = (SlotLock::share(&self.slot_file()).unwrap(), Arc::new(SystemRandom::new()));
        if self.module.is_some() {
            let token = self.token(softhsm::TOKEN, softhsm::PIN);
            let slot = TokenSlot::look(token, "lacuna", Assurance::ImmediateLogical, random);
            return Arc::new(slot.hold(lock, self.slot_file()));
        }
        let kek = LocalKek::open(&self.place.join("kek"), [7; 16], Absent::Make, random).unwrap();
        Arc::new(FileSlot::hold(lock, &self.slot_file(), &[self.mirror()], Arc::new(kek)))
    }

    /// What the slot is kept in, in pieces that may break one by one: all copies together, or each object.
    fn pieces(&self) -> Vec<Vec<PathBuf>> {
        if self.module.is_some() {
            return objects(&softhsm::tokens(&self.place)).into_iter().map(|object| vec![object]).collect();
        }
        vec![vec![self.slot_file(), self.mirror()]]
    }

    /// A folder without which nothing can be written.
    fn folder(&self) -> PathBuf {
        if self.module.is_some() { softhsm::tokens(&self.place) } else { self.place.join("b") }
    }
}

/// The objects in SoftHSM's only token.
fn objects(tokens: &Path) -> Vec<PathBuf> {
    let token = fs::read_dir(tokens).unwrap().next().unwrap().unwrap().path();
    let files = fs::read_dir(token).unwrap().map(|file| file.unwrap().path());
    let is_object = |file: &PathBuf| {
        file.extension().is_some_and(|ending| ending == "object")
            && file.file_stem().is_some_and(|name| name != "token")
    };
    files.filter(is_object).collect()
}

/// Has a command that ends in starting another start `child`.
fn within<'a>(command: &'a mut Command, child: &Command) -> &'a mut Command {
    command.arg(child.get_program()).args(child.get_args()).stdin(Stdio::null());
    command.envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))))
}

fn root(epoch: u64) -> Root {
    let key = Secret::random(&SystemRandom::new());
    Root { id: derive::root_id(&key), epoch, key }
}

async fn created(slot: &dyn RootSlot) -> [u8; 16] {
    let current = root(0);
    let id = current.id;
    slot.create(&Content::first([7; 16], current)).await.unwrap();
    id
}

async fn load(slot: &dyn RootSlot) -> Content {
    slot.load().await.unwrap().unwrap()
}

/// Moves a slot on by one, from whatever it holds. Answers the epoch that it came to.
async fn move_on(slot: &dyn RootSlot) -> Result<u64, Error> {
    let content = slot.load().await?.unwrap();
    let next = root(content.next_epoch());
    slot.prepare(&content.current.id, &next).await?;
    slot.advance(&content.current.id, &next.id).await?;
    Ok(next.epoch)
}

fn assert_unavailable<T>(outcome: Result<T, Error>) -> Error {
    let Err(error) = outcome else { panic!("it was done") };
    assert_eq!(error.reason, Reason::KeyCustodianUnavailable, "{error:?}");
    error
}

on_every_slot! {
    async fn it_is_set_once_and_moves_only_from_where_it_is(bed: Bed) {
        let slot = bed.slot();
        assert!(slot.load().await.unwrap().is_none());
        assert_unavailable(slot.prepare(&[1; 16], &root(1)).await);
        let old = created(&*slot).await;
        assert_unavailable(slot.create(&Content::first([8; 16], root(0))).await);
        let old_key = *load(&*slot).await.current.key.expose();

        let next = root(1);
        assert_unavailable(slot.prepare(&next.id, &root(1)).await);
        assert_unavailable(slot.advance(&old, &next.id).await);
        slot.prepare(&old, &next).await.unwrap();
        let content = load(&*slot).await;
        assert_eq!((content.tree, content.current.id, content.current.key.expose()), ([7; 16], old, &old_key));
        assert_eq!(content.next.unwrap().key.expose(), next.key.expose());
        assert_unavailable(slot.advance(&old, &root(1).id).await);

        slot.advance(&old, &next.id).await.unwrap();
        let content = load(&*slot).await;
        assert_eq!((content.current.id, content.current.epoch), (next.id, 1));
        assert_eq!(content.current.key.expose(), next.key.expose());
        assert!(content.next.is_none());
        assert_unavailable(slot.advance(&old, &root(2).id).await);
        assert_eq!(slot.status().await.iter().map(|copy| copy.epoch.clone()).collect::<BTreeSet<_>>(), [Ok(1)].into());
    }

    async fn no_epoch_is_taken_twice(bed: Bed) {
        let slot = bed.slot();
        let old = created(&*slot).await;
        assert_unavailable(slot.prepare(&old, &root(0)).await);
        slot.prepare(&old, &root(1)).await.unwrap();
        slot.settle().await.unwrap();
        assert_eq!(load(&*slot).await.next_epoch(), 2, "settling keeps what is prepared");
        assert_unavailable(slot.prepare(&old, &root(1)).await);
        let second = root(2);
        slot.prepare(&old, &second).await.unwrap();
        assert_unavailable(slot.prepare(&old, &root(1)).await);
        slot.advance(&old, &second.id).await.unwrap();
        let content = load(&*slot).await;
        assert_eq!((content.current.epoch, content.next.is_none()), (2, true));
    }

    async fn a_reply_that_got_lost_does_no_harm(bed: Bed) {
        let slot = bed.slot();
        let old = created(&*slot).await;
        let next = root(1);
        for _ in 0..2 {
            slot.prepare(&old, &next).await.unwrap();
        }
        for _ in 0..2 {
            slot.advance(&old, &next.id).await.unwrap();
            slot.settle().await.unwrap();
        }
        assert_eq!(load(&*slot).await.current.id, next.id);
    }

    async fn a_writer_who_knows_an_old_root_only_is_refused(bed: Bed) {
        let (slot, other) = (bed.slot(), bed.slot());
        created(&*slot).await;
        let stale = load(&*other).await;
        move_on(&*slot).await.unwrap();
        assert_unavailable(other.prepare(&stale.current.id, &root(5)).await);
        assert_unavailable(other.advance(&stale.current.id, &root(5).id).await);
        assert_eq!(load(&*other).await.current.epoch, 1);
        move_on(&*other).await.unwrap();
        assert_eq!(load(&*slot).await.current.epoch, 2);
    }

    async fn of_two_writers_at_once_each_epoch_has_one(bed: Bed) {
        const ROUNDS: usize = 4;
        let writer = async |slot: Arc<dyn RootSlot>| {
            let mut epochs = Vec::new();
            for tries in 0.. {
                // Whoever was overtaken begins again, as a run does.
                match move_on(&*slot).await {
                    Ok(epoch) => epochs.push(epoch),
                    Err(error) => assert!(tries < 1000, "it never comes through: {error:?}"),
                }
                if epochs.len() == ROUNDS {
                    break;
                }
            }
            epochs
        };
        if bed.role().as_deref() == Some("writer") {
            println!("epochs {:?}", writer(bed.slot()).await);
            return;
        }
        let slot = bed.slot();
        created(&*slot).await;
        let (mut epochs, more) = tokio::join!(writer(bed.slot()), writer(bed.slot()));
        epochs.extend(more);
        let children: Vec<_> =
            (0..2).map(|_| bed.again("writer").stdout(Stdio::piped()).spawn().unwrap()).collect();
        for child in children {
            let output: Output = child.wait_with_output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let list = text.split("epochs [").nth(1).unwrap_or_else(|| panic!("{text}")).split(']').next().unwrap();
            epochs.extend(list.split(", ").map(|epoch| epoch.parse::<u64>().unwrap()));
        }
        let distinct: BTreeSet<_> = epochs.iter().copied().collect();
        assert_eq!((distinct.len(), epochs.len()), (4 * ROUNDS, 4 * ROUNDS), "{epochs:?}");
        let content = load(&*slot).await;
        assert_eq!(Some(&content.current.epoch), distinct.last());
    }

    async fn what_is_torn_is_an_error_and_never_an_empty_slot(bed: Bed) {
        if bed.role().as_deref() == Some("look") {
            let loaded = bed.slot().load().await;
            println!("found {:?}", loaded.map(|content| content.map(|content| content.current.epoch)));
            return;
        }
        let slot = bed.slot();
        created(&*slot).await;
        move_on(&*slot).await.unwrap();
        // By another process, which never saw it whole.
        let look = || said(&run(&mut bed.again("look")));
        assert!(look().contains("found Ok(Some(1))"), "{}", look());
        for piece in bed.pieces() {
            let whole: Vec<_> = piece.iter().map(|file| fs::read(file).unwrap()).collect();
            for length in [0, whole[0].len() / 2] {
                for (file, whole) in piece.iter().zip(&whole) {
                    fs::write(file, &whole[..length]).unwrap();
                }
                let found = look();
                assert!(found.contains("found Err(KeyCustodianUnavailable"), "{piece:?}: {found}");
            }
            for (file, whole) in piece.iter().zip(&whole) {
                fs::write(file, whole).unwrap();
            }
        }
        assert!(look().contains("found Ok(Some(1))"), "{}", look());
    }

    async fn on_a_full_disk_nothing_changes_and_afterwards_it_goes_on(bed: Bed) {
        if bed.role().as_deref() == Some("full") {
            assert_unavailable(move_on(&*bed.slot()).await);
            println!("refused");
            return;
        }
        let slot = bed.slot();
        let old = created(&*slot).await;
        // No file may grow: what root may do on a full disk, too.
        let mut limited = Command::new("sh");
        // In blocks of 512 bytes. SoftHSM writes its token anew at every start, and loses it when it cannot.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", u8::from(bed.module.is_some()));
        limited.args(["-c", &script]);
        let limited = within(&mut limited, &bed.again("full")).output().unwrap();
        assert!(said(&limited).contains("refused"), "{}", said(&limited));
        assert_eq!(load(&*slot).await.current.id, old);
        move_on(&*slot).await.unwrap();
    }

    async fn where_nothing_can_be_written_nothing_changes(bed: Bed) {
        if bed.role().as_deref() == Some("read-only") {
            let slot = bed.slot();
            // SoftHSM does not even read what it cannot write.
            assert!(bed.module.is_some() || load(&*slot).await.current.epoch == 0);
            assert_unavailable(move_on(&*slot).await);
            println!("refused");
            return;
        }
        let slot = bed.slot();
        let old = created(&*slot).await;
        let script = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && echo mounted && exec \"$@\"";
        let mut mounted = Command::new("unshare");
        mounted.args(["--mount", "sh", "-c", script]).arg(bed.folder());
        let output = within(&mut mounted, &bed.again("read-only")).output();
        match output {
            Ok(output) if said(&output).contains("mounted") => {
                assert!(said(&output).contains("refused"), "{}", said(&output));
            }
            _ => crate::process::skipped("a slot on a read-only file system", "the right to mount"),
        }
        assert_eq!(load(&*slot).await.current.id, old);
        move_on(&*slot).await.unwrap();
    }

    async fn it_says_how_surely_it_forgets(bed: Bed) {
        let slot = bed.slot();
        assert_eq!(slot.kind(), if bed.module.is_some() { "pkcs11" } else { "file" });
        assert_eq!(slot.assurance(), Assurance::ImmediateLogical);
        assert!(slot.describe().contains(if bed.module.is_some() { "token story" } else { "root.slot" }));
    }
}

#[tokio::test]
async fn a_wrong_pin_a_wrong_token_and_a_wrong_module_are_told_apart() {
    let Some(bed) =
        Bed::of_a_token(story(module_path!(), "a_wrong_pin_a_wrong_token_and_a_wrong_module_are_told_apart"))
    else {
        return;
    };
    let slot_in = |token: Arc<Token>| {
        TokenSlot::look(token, "lacuna", Assurance::ImmediateLogical, Arc::new(SystemRandom::new()))
    };
    for _ in 0..2 {
        let error = assert_unavailable(slot_in(bed.token(softhsm::TOKEN, "0000-0000")).load().await);
        assert!(error.message.contains("its PIN is wrong: correct slot.pkcs11.pin_file"), "{error}");
    }
    let error = assert_unavailable(slot_in(bed.token("stories", softhsm::PIN)).load().await);
    assert!(
        error.message.contains("there is none of this label") && error.message.contains("there are: story"),
        "{error}"
    );
    let options = |module: &str, hardware| Options {
        module: module.into(),
        token: softhsm::TOKEN.to_owned(),
        pin: Pin::Text(SecretBytes::from(softhsm::PIN.to_owned())),
        hardware,
    };
    let error = assert_unavailable(slot_in(Arc::new(Token::new(options("/nowhere.so", false)))).load().await);
    assert!(error.message.contains("/nowhere.so cannot be loaded"), "{error}");
    let module = bed.module.clone().unwrap();
    let error = assert_unavailable(slot_in(Arc::new(Token::new(options(&module, true)))).load().await);
    assert!(error.message.contains("this is SoftHSM"), "{error}");
    assert!(slot_in(bed.token(softhsm::TOKEN, softhsm::PIN)).load().await.unwrap().is_none());
}

#[tokio::test]
async fn a_token_that_goes_away_is_missed_and_comes_back() {
    let Some(bed) = Bed::of_a_token(story(module_path!(), "a_token_that_goes_away_is_missed_and_comes_back")) else {
        return;
    };
    let slot = bed.slot();
    let old = created(&*slot).await;
    let next = root(1);
    slot.prepare(&old, &next).await.unwrap();
    for _ in 0..2 {
        softhsm::pull_out(&bed.place);
        assert_unavailable(slot.load().await);
        assert_unavailable(slot.advance(&old, &next.id).await);
        assert_unavailable(slot.settle().await);
        assert!(slot.status().await[0].epoch.is_err());
        softhsm::plug_in(&bed.place);
        assert_eq!(load(&*slot).await.current.id, old);
    }
    slot.advance(&old, &next.id).await.unwrap();
    assert_eq!(load(&*slot).await.current.id, next.id);
}

#[tokio::test]
async fn a_token_that_got_a_former_root_back_says_so_until_it_is_destroyed_again() {
    let name = "a_token_that_got_a_former_root_back_says_so_until_it_is_destroyed_again";
    let Some(bed) = Bed::of_a_token(story(module_path!(), name)) else { return };
    if bed.role().as_deref() == Some("look") {
        println!("status {:?}", bed.slot().status().await.into_iter().map(|copy| copy.epoch).collect::<Vec<_>>());
        return;
    }
    let slot = bed.slot();
    if bed.role().as_deref() == Some("settle") {
        return slot.settle().await.unwrap();
    }
    created(&*slot).await;
    let look = || said(&run(&mut bed.again("look")));
    assert!(look().contains("status [Ok(0)]"), "{}", look());
    // SoftHSM has a lock beside each object.
    let beside = |file: PathBuf| [file.with_extension("lock"), file];
    let before: Vec<_> = objects(&softhsm::tokens(&bed.place)).into_iter().flat_map(beside).collect();
    let before: Vec<_> = before.into_iter().map(|file| (fs::read(&file).unwrap(), file)).collect();
    move_on(&*slot).await.unwrap();
    assert!(look().contains("status [Ok(1)]"), "{}", look());
    for (bytes, file) in &before {
        fs::write(file, bytes).unwrap();
    }
    assert!(look().contains("status [Ok(1), Ok(0)]"), "{}", look());
    // By a node that starts.
    let settled = run(&mut bed.again("settle"));
    assert!(settled.status.success(), "{}", said(&settled));
    assert!(look().contains("status [Ok(1)]"), "{}", look());
}
