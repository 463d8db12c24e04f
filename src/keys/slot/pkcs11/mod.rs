//! A root slot in a PKCS#11 token: a hardware security module by whichever vendor.
//!
//! The root key is sealed under a key that is made in the token and never leaves it; forgetting the root is destroying
//! that key. The [protocol] needs no lock, so several machines may use one token. How sure the destruction is, only the
//! operator can know: a token may have clones and backups that the vault cannot see. So the assurance is
//! `IMMEDIATE_LOGICAL`, unless the operator asserts more.

mod protocol;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use self::protocol::{Cabinet, Found, Name};
use super::lock::{SlotLock, Turn};
use super::{Assurance, Content, CopyStatus, Root, RootSlot, refused};
use crate::crash;
use crate::crypto::{Aad, Random, Secret, derive};
use crate::keys::checkpoint::{hex, unhex};
use crate::keys::token::{Desk, KeyObject, Note, Token, Trouble};
use crate::model::{Error, Result};

/// A slot in a token.
pub struct TokenSlot {
    drawer: Drawer,
    assurance: Assurance,
    /// Held while this process may write the slot, and beside which it takes its turn.
    lock: Option<(SlotLock, PathBuf)>,
}

/// Where in which token the roots are.
struct Drawer {
    token: Arc<Token>,
    /// What the labels of the objects begin with; tells vaults in one token apart.
    label: String,
    random: Arc<dyn Random>,
}

impl TokenSlot {
    /// A slot that is only looked at. `label` tells vaults in one token apart.
    #[must_use]
    pub fn look(token: Arc<Token>, label: &str, assurance: Assurance, random: Arc<dyn Random>) -> Self {
        Self { drawer: Drawer { token, label: label.to_owned(), random }, assurance, lock: None }
    }

    /// A slot that may be written, as long as it has the lock beside `primary`.
    #[must_use]
    pub fn hold(self, lock: SlotLock, primary: PathBuf) -> Self {
        Self { lock: Some((lock, primary)), ..self }
    }

    /// The present epoch, and the former ones of which there is a key.
    async fn epochs(&self) -> Result<Option<(u64, Vec<u64>)>> {
        let Some(content) = self.load().await? else { return Ok(None) };
        let present = content.current.epoch;
        Ok(Some((present, protocol::former(&self.drawer.search().await?, &content.tree, present))))
    }

    /// The turn among the processes of this machine. The protocol does not need it: it keeps them from overtaking each
    /// other in vain.
    async fn turn(&self) -> Result<Turn> {
        match &self.lock {
            Some((_, primary)) => Turn::take(primary).await,
            None => Err(Error::internal("a slot that is only looked at cannot be written")),
        }
    }
}

#[async_trait]
impl RootSlot for TokenSlot {
    async fn load(&self) -> Result<Option<Content>> {
        protocol::load(&self.drawer).await
    }

    async fn create(&self, content: &Content) -> Result<()> {
        let _turn = self.turn().await?;
        protocol::create(&self.drawer, content).await
    }

    async fn prepare(&self, expect: &[u8; 16], next: &Root) -> Result<()> {
        let _turn = self.turn().await?;
        protocol::prepare(&self.drawer, expect, next).await
    }

    async fn advance(&self, expect: &[u8; 16], next: &[u8; 16]) -> Result<()> {
        let _turn = self.turn().await?;
        protocol::advance(&self.drawer, expect, next).await
    }

    async fn settle(&self) -> Result<()> {
        let _turn = self.turn().await?;
        protocol::settle(&self.drawer).await
    }

    fn assurance(&self) -> Assurance {
        self.assurance
    }

    fn kind(&self) -> &'static str {
        "pkcs11"
    }

    fn describe(&self) -> String {
        format!("{}, label {}", self.drawer.token.describe(), self.drawer.label)
    }

    async fn status(&self) -> Vec<CopyStatus> {
        let told = |epoch, what| CopyStatus { place: format!("{}{what}", self.drawer.token.describe()), epoch };
        match self.epochs().await {
            Ok(Some((epoch, former))) => {
                // What was destroyed may have come back with a backup of the token, or from a member of its group.
                let former = former.into_iter().map(|epoch| told(Ok(epoch), ", which still has a former root"));
                std::iter::once(told(Ok(epoch), "")).chain(former).collect()
            }
            Ok(None) => vec![told(Err("missing".to_owned()), "")],
            Err(error) => vec![told(Err(error.message.into_owned()), "")],
        }
    }
}

#[async_trait]
impl Cabinet for Drawer {
    async fn search(&self) -> Result<Found> {
        let found = self.look().await?;
        if protocol::decides(&found) {
            return Ok(found);
        }
        // A module that lost sight of its token, or of some of its objects, has to say it twice.
        self.token.reopen().await?;
        self.look().await
    }

    async fn make_key(&self, name: &Name) -> Result<()> {
        let (label, id) = (self.key_label(&name.tree), id(name));
        self.token.run(move |desk| desk.make_key(&label, &id).map(drop)).await?;
        crash::point("token::key-made");
        Ok(())
    }

    async fn seal(&self, name: &Name, root: &Root) -> Result<()> {
        let (label, application, name) = (self.key_label(&name.tree), self.application(), *name);
        let (root, random) = (root.copy(), Arc::clone(&self.random));
        let seal = move |desk: &Desk<'_>| {
            let key = key(desk, &label, &name)?;
            let sealed = desk.seal(&key, &aad(&name), root.key.expose(), &*random)?;
            desk.leave_note(&application, &note_label(&name, SEALED), &sealed)
        };
        self.token.run(seal).await?;
        crash::point("token::prepared");
        Ok(())
    }

    async fn arm(&self, name: &Name) -> Result<()> {
        let (application, label) = (self.application(), note_label(name, ARMED));
        self.token.run(move |desk| desk.leave_note(&application, &label, &[])).await?;
        crash::point("token::armed");
        Ok(())
    }

    async fn destroy(&self, name: &Name) -> Result<()> {
        let (label, application, name) = (self.key_label(&name.tree), self.application(), *name);
        let destroy_keys = move |desk: &Desk<'_>| {
            let keys = desk.keys(&label)?;
            keys.iter().filter(|key| key.id == id(&name)).try_for_each(|key| desk.destroy_key(key))
        };
        self.token.run(destroy_keys).await?;
        crash::point("token::key-destroyed");
        let remove_notes = move |desk: &Desk<'_>| {
            let notes = desk.notes(&application)?;
            let ours = |note: &&Note| parse(&note.label).is_some_and(|(found, _)| found == name);
            notes.iter().filter(ours).try_for_each(|note| desk.remove_note(note))
        };
        self.token.run(remove_notes).await?;
        crash::point("token::destroyed");
        Ok(())
    }

    async fn open(&self, name: &Name) -> Result<Root> {
        let (label, application, name) = (self.key_label(&name.tree), self.application(), *name);
        let open = move |desk: &Desk<'_>| {
            let key = key(desk, &label, &name)?;
            let wanted = note_label(&name, SEALED);
            let notes = desk.notes(&application)?;
            let note = notes.iter().find(|note| note.label == wanted);
            let note = note.ok_or_else(|| refused("the sealed root went away while it was read"))?;
            desk.open(&key, &aad(&name), &note.value)
        };
        let plain = self.token.run(open).await?;
        let damaged = || refused("what the token holds as the root is something else").with("epoch", name.epoch);
        let key = Secret::from_slice(plain.expose()).ok_or_else(damaged)?;
        if derive::root_id(&key) != name.id {
            return Err(damaged());
        }
        Ok(Root { id: name.id, epoch: name.epoch, key })
    }

    async fn refresh(&self) -> Result<()> {
        self.token.reopen().await
    }
}

impl Drawer {
    async fn look(&self) -> Result<Found> {
        let (prefix, application) = (self.label.clone(), self.application());
        let look = move |desk: &Desk<'_>| {
            let mut found: Found = BTreeMap::new();
            for note in desk.notes(&application)? {
                let Some((name, what)) = parse(&note.label) else { continue };
                let parts = found.entry(name).or_default();
                parts.sealed |= what == SEALED;
                parts.armed |= what == ARMED;
            }
            let mut trees: Vec<_> = found.keys().map(|name| name.tree).collect();
            trees.dedup();
            for tree in trees {
                for key in desk.keys(&key_label(&prefix, &tree))? {
                    let Some(name) = name(tree, &key) else { continue };
                    found.entry(name).or_default().key = true;
                }
            }
            Ok::<_, Trouble>(found)
        };
        self.token.run(look).await
    }

    /// The `CKA_APPLICATION` of the notes.
    fn application(&self) -> String {
        format!("{}-root", self.label)
    }

    fn key_label(&self, tree: &[u8; 16]) -> String {
        key_label(&self.label, tree)
    }
}

const SEALED: &str = "sealed";
const ARMED: &str = "armed";

/// The `CKA_LABEL` of the keys of a tree's roots.
fn key_label(prefix: &str, tree: &[u8; 16]) -> String {
    format!("{prefix}-root:{}", hex(tree))
}

/// The `CKA_ID` of the key of a root.
fn id(name: &Name) -> Vec<u8> {
    [&name.epoch.to_be_bytes()[..], &name.id].concat()
}

fn name(tree: [u8; 16], key: &KeyObject) -> Option<Name> {
    let (epoch, id) = key.id.split_first_chunk::<8>()?;
    Some(Name { tree, epoch: u64::from_be_bytes(*epoch), id: id.try_into().ok()? })
}

/// The one key of a root.
fn key(desk: &Desk<'_>, label: &str, name: &Name) -> Result<KeyObject, Trouble> {
    let found = desk.keys(label)?.into_iter().find(|key| key.id == id(name));
    Ok(found.ok_or_else(|| refused("the key of the root is not in the token any more").with("epoch", name.epoch))?)
}

/// The `CKA_LABEL` of a note about a root.
fn note_label(name: &Name, what: &str) -> String {
    format!("{}:{}:{}:{what}", hex(&name.tree), name.epoch, hex(&name.id))
}

fn parse(label: &str) -> Option<(Name, &str)> {
    let mut parts = label.split(':');
    let (tree, epoch, id, what) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some((Name { tree: unhex(tree)?, epoch: epoch.parse().ok()?, id: unhex(id)? }, what))
}

fn aad(name: &Name) -> Vec<u8> {
    Aad::new("lacuna/root-slot/pkcs11/v1").bytes(&name.tree).number(name.epoch).bytes(&name.id).as_bytes().to_vec()
}
