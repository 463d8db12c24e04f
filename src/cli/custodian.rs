//! From a configuration to what keeps the keys: the root slot and the key-encrypting key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::open::signing_keys;
use crate::config::Config;
use crate::config::slot::{self, AwsKms, Kind, Pkcs11};
use crate::crypto::{Random, SystemRandom};
use crate::keys::checkpoint::{hex, unhex};
use crate::keys::files;
use crate::keys::kek::{Absent, Kek, LocalKek, Succession, TokenKek};
#[cfg(feature = "aws-kms")]
use crate::keys::kek::{AwsKek, KmsSettings};
use crate::keys::signer::Signer;
use crate::keys::slot::{Assurance, FileSlot, RootSlot, SlotLock, TokenSlot, Turn};
use crate::keys::token::{Options, Pin, Token};
use crate::store::{self, Store};

/// The file of the slot in each of its directories.
pub const SLOT_FILE: &str = "root.slot";

/// The file in the slot's directory that names the vault while it is made: its keys are made for it before it is in any
/// database.
const BIRTH_FILE: &str = "vault.id";

/// The id of a vault that is new, the same one whenever the making goes on after a crash.
pub fn id_of_new(config: &Config, random: &dyn Random) -> Result<[u8; 16]> {
    if let Some(id) = id_at_birth(config)? {
        return Ok(id);
    }
    let (path, mut id) = (config.slot_dir().join(BIRTH_FILE), [0; 16]);
    random.fill(&mut id);
    files::replace(&path, format!("{}\n", hex(&id)).as_bytes())
        .with_context(|| format!("{} cannot be used", path.display()))?;
    Ok(id)
}

/// The id that a new vault got when its making began.
fn id_at_birth(config: &Config) -> Result<Option<[u8; 16]>> {
    let path = config.slot_dir().join(BIRTH_FILE);
    let found = files::read_if_there(&path).with_context(|| format!("{} cannot be used", path.display()))?;
    let Some(text) = found else { return Ok(None) };
    let id = str::from_utf8(&text).ok().and_then(|text| unhex(text.trim()));
    id.map(Some).with_context(|| format!("{} does not name a vault; remove it", path.display()))
}

/// The vault in a database, by the id of its key tree.
pub async fn vault_in(store: &dyn Store) -> Result<[u8; 16]> {
    let vault = store.read().await?.vault().await?;
    Ok(vault.context("the database holds no vault")?.tree)
}

/// The key-encrypting key of the vault of `tree`, made if the vault is `new`; together with its predecessor while there
/// is one.
pub async fn kek(config: &Config, tree: [u8; 16], new: bool, random: &Arc<dyn Random>) -> Result<Arc<dyn Kek>> {
    let former = Where::former(config);
    let absent = match (new, &former) {
        (true, _) => Absent::Make,
        (false, Some(_)) => Absent::Await,
        (false, None) => Absent::Refuse,
    };
    let present = Where::present(config).open(tree, absent, random).await?;
    let Some(former) = former else { return Ok(present) };
    Ok(Arc::new(Succession::new(present, former.open(tree, Absent::Refuse, random).await?)))
}

/// Makes the key-encrypting key that is to take the place of the former one, unless it is there. Only while the former
/// one opens everything: a key that was lost has to be brought back, and nothing must be made in its place.
pub async fn make_successor(config: &Config, tree: [u8; 16], random: &Arc<dyn Random>) -> Result<()> {
    let Some(former) = Where::former(config) else { return Ok(()) };
    let primary = config.slot_dir().join(SLOT_FILE);
    let _turn = Turn::take(&primary).await?;
    let present = Where::present(config);
    if !present.open(tree, Absent::Await, random).await?.versions().await?.is_empty() {
        return Ok(());
    }
    let missing = || format!("{} is not there, and the former key opens not everything", config.kek_place());
    let former = former.open(tree, Absent::Refuse, random).await?;
    if config.slot.kind == Kind::File {
        let slot = FileSlot::look(&primary, &mirrors(config), Arc::clone(&former));
        slot.wrapped().await.with_context(missing)?;
    }
    Signer::open(&signing_keys(config), former, Absent::Refuse, &**random).await.with_context(missing)?;
    present.open(tree, Absent::Make, random).await.map(drop)
}

/// Where a KEK is.
struct Where<'a> {
    kind: slot::Kek,
    file: PathBuf,
    token: Option<&'a Pkcs11>,
    kms: Option<&'a AwsKms>,
}

impl<'a> Where<'a> {
    fn present(config: &'a Config) -> Self {
        let slot = &config.slot;
        Self { kind: slot.kek, file: config.kek_file(), token: slot.pkcs11.as_ref(), kms: slot.aws_kms.as_ref() }
    }

    fn former(config: &'a Config) -> Option<Self> {
        let former = config.slot.former_kek.as_ref()?;
        let file = former.kek_file.clone().unwrap_or_default();
        Some(Self { kind: former.kek, file, token: former.pkcs11.as_ref(), kms: former.aws_kms.as_ref() })
    }

    async fn open(&self, tree: [u8; 16], absent: Absent, random: &Arc<dyn Random>) -> Result<Arc<dyn Kek>> {
        let random = Arc::clone(random);
        match (self.kind, self.token, self.kms) {
            (slot::Kek::Local, ..) => {
                if absent == Absent::Make {
                    files::make_private_directory(files::parent(&self.file))?;
                }
                Ok(Arc::new(LocalKek::open(&self.file, tree, absent, random)?))
            }
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
    let settings = KmsSettings {
        key: &section.key,
        region: section.region.as_deref(),
        endpoint: section.endpoint.as_deref(),
        timeout: section.timeout(),
    };
    Ok(Arc::new(AwsKek::open(&settings, tree, absent).await?))
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

/// Sees whether the key-encrypting key opens what there is to open, beside a vault that may be running.
pub async fn look_at_kek(config: &Config) -> Result<()> {
    let tree = known_vault(config).await?;
    let kek = kek(config, tree, false, &(Arc::new(SystemRandom::new()) as Arc<dyn Random>)).await?;
    if section(config).is_none() {
        FileSlot::look(&config.slot_dir().join(SLOT_FILE), &mirrors(config), kek).load().await?;
    }
    Ok(())
}

/// The id of the vault, of which nothing may be made yet.
async fn known_vault(config: &Config) -> Result<[u8; 16]> {
    let url = config.database_url()?;
    if !url.expose().strip_prefix("sqlite:").is_some_and(|path| !Path::new(path).exists()) {
        let store = store::open(url.expose()).await?;
        let vault = if store.is_migrated().await? { store.read().await?.vault().await? } else { None };
        store.close().await;
        if let Some(vault) = vault {
            return Ok(vault.tree);
        }
    }
    // No key serves the vault that has no id.
    Ok(id_at_birth(config)?.unwrap_or_default())
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
