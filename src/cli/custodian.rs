//! From a configuration to what keeps the keys: the root slot and the key-encrypting key.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use crate::config::Config;
use crate::config::slot::{self, AwsKms, Kind, Pkcs11};
use crate::crypto::{Random, SystemRandom};
use crate::keys::checkpoint::{hex, unhex};
use crate::keys::files;
use crate::keys::kek::{Absent, Kek, LocalKek, Succession, TokenKek};
use crate::keys::slot::{Assurance, FileSlot, RootSlot, SlotLock, TokenSlot};
use crate::keys::token::{Options, Pin, Token};
use crate::store::Store;

/// The file of the slot in each of its directories.
pub const SLOT_FILE: &str = "root.slot";

/// The file in the slot's directory that names the vault while it is made: its keys are made for it before it is in any
/// database.
const BIRTH_FILE: &str = "vault.id";

/// The id of a vault that is new, the same one whenever the making goes on after a crash.
pub fn id_of_new(config: &Config, random: &dyn Random) -> Result<[u8; 16]> {
    let path = config.slot_dir().join(BIRTH_FILE);
    let unusable = || format!("{} cannot be used", path.display());
    if let Some(text) = files::read_if_there(&path).with_context(unusable)? {
        let id = str::from_utf8(&text).ok().and_then(|text| unhex(text.trim()));
        return id.with_context(|| format!("{} does not name a vault; remove it", path.display()));
    }
    let mut id = [0; 16];
    random.fill(&mut id);
    files::replace(&path, format!("{}\n", hex(&id)).as_bytes()).with_context(unusable)?;
    Ok(id)
}

/// The vault in a database, by the id of its key tree.
pub async fn vault_in(store: &dyn Store) -> Result<[u8; 16]> {
    let vault = store.read().await?.vault().await?;
    Ok(vault.context("the database holds no vault")?.tree)
}

/// The key-encrypting key of the vault of `tree`, made if the vault is `new`; together with its predecessor while there
/// is one.
pub async fn kek(config: &Config, tree: [u8; 16], new: bool, random: &Arc<dyn Random>) -> Result<Arc<dyn Kek>> {
    let slot = &config.slot;
    let present =
        Where { kind: slot.kek, file: config.kek_file(), token: slot.pkcs11.as_ref(), kms: slot.aws_kms.as_ref() };
    let absent = match (new, &slot.former_kek) {
        (true, _) => Absent::Make,
        (false, Some(_)) => Absent::Await,
        (false, None) => Absent::Refuse,
    };
    let present = present.open(tree, absent, random).await?;
    let Some(former) = &slot.former_kek else { return Ok(present) };
    let former = Where {
        kind: former.kek,
        file: former.kek_file.clone().unwrap_or_default(),
        token: former.pkcs11.as_ref(),
        kms: former.aws_kms.as_ref(),
    };
    let former = former.open(tree, Absent::Refuse, random).await?;
    Ok(Arc::new(Succession::new(present, former)))
}

/// Where a KEK is.
struct Where<'a> {
    kind: slot::Kek,
    file: PathBuf,
    token: Option<&'a Pkcs11>,
    kms: Option<&'a AwsKms>,
}

impl Where<'_> {
    async fn open(self, tree: [u8; 16], absent: Absent, random: &Arc<dyn Random>) -> Result<Arc<dyn Kek>> {
        let random = Arc::clone(random);
        match (self.kind, self.token, self.kms) {
            (slot::Kek::Local, ..) => Ok(Arc::new(LocalKek::open(&self.file, tree, absent, random)?)),
            (slot::Kek::Pkcs11, Some(section), _) => {
                Ok(Arc::new(TokenKek::open(token(section), section.label(), tree, absent, random).await?))
            }
            (slot::Kek::AwsKms, _, Some(section)) => kms(section, tree, absent).await,
            (slot::Kek::Pkcs11 | slot::Kek::AwsKms, ..) => {
                anyhow::bail!("the section of the key-encrypting key is missing")
            }
        }
    }
}

#[cfg(feature = "aws-kms")]
async fn kms(section: &AwsKms, tree: [u8; 16], absent: Absent) -> Result<Arc<dyn Kek>> {
    let place = (section.region.as_deref(), section.endpoint.as_deref());
    Ok(Arc::new(crate::keys::kek::AwsKek::open(&section.key, place, tree, absent).await?))
}

#[cfg(not(feature = "aws-kms"))]
#[expect(clippy::unused_async, reason = "a build with the feature waits for the network")]
async fn kms(_section: &AwsKms, _tree: [u8; 16], _absent: Absent) -> Result<Arc<dyn Kek>> {
    anyhow::bail!("this lacuna was built without AWS KMS: build it with `--features aws-kms`")
}

/// The slot, to be written by whoever has the lock.
pub fn hold_slot(config: &Config, lock: SlotLock, kek: &Arc<dyn Kek>, random: &Arc<dyn Random>) -> Arc<dyn RootSlot> {
    let primary = config.slot_dir().join(SLOT_FILE);
    match section(config) {
        Some(section) => Arc::new(token_slot(section, Arc::clone(random)).hold(lock, primary)),
        None => Arc::new(FileSlot::hold(lock, &primary, &mirrors(config), Arc::clone(kek))),
    }
}

/// A slot that is only looked at, beside a vault that may be running: that of `tree`.
pub async fn look_at_slot(config: &Config, tree: [u8; 16]) -> Result<Arc<dyn RootSlot>> {
    let random: Arc<dyn Random> = Arc::new(SystemRandom::new());
    if let Some(section) = section(config) {
        return Ok(Arc::new(token_slot(section, random)));
    }
    let kek = kek(config, tree, false, &random).await?;
    Ok(Arc::new(FileSlot::look(&config.slot_dir().join(SLOT_FILE), &mirrors(config), kek)))
}

/// Whether the slot was never set.
pub async fn has_no_slot(config: &Config) -> Result<bool> {
    match section(config) {
        Some(section) => Ok(token_slot(section, Arc::new(SystemRandom::new())).load().await?.is_none()),
        None => Ok(slot_directories(config).all(|directory| !directory.join(SLOT_FILE).exists())),
    }
}

/// The directories of the slot's copies.
pub fn slot_directories(config: &Config) -> impl Iterator<Item = PathBuf> {
    std::iter::once(config.slot_dir()).chain(config.slot.mirrors.iter().cloned())
}

/// The files of the slot's further copies.
fn mirrors(config: &Config) -> Vec<PathBuf> {
    config.slot.mirrors.iter().map(|directory| directory.join(SLOT_FILE)).collect()
}

/// The token that holds the slot, when it is one.
fn section(config: &Config) -> Option<&Pkcs11> {
    config.slot.pkcs11.as_ref().filter(|_| config.slot.kind == Kind::Pkcs11)
}

fn token(section: &Pkcs11) -> Arc<Token> {
    let pin = match (&section.pin, &section.pin_file) {
        (Some(pin), _) => Pin::Text(pin.expose().to_owned().into()),
        (None, file) => Pin::File(file.clone().unwrap_or_default()),
    };
    let hardware = section.assurance == slot::Assurance::Immediate;
    Arc::new(Token::new(Options { module: section.module.clone(), token: section.token.clone(), pin, hardware }))
}

fn token_slot(section: &Pkcs11, random: Arc<dyn Random>) -> TokenSlot {
    let assurance = match section.assurance {
        slot::Assurance::Immediate => Assurance::Immediate,
        slot::Assurance::ImmediateLogical => Assurance::ImmediateLogical,
    };
    TokenSlot::look(token(section), section.label(), assurance, random)
}
