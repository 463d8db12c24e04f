//! The attack of the demo: copies of every file, and every key that exists at a moment.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::config::Config;
use crate::crypto::Secret;
use crate::keys::adversary::{Loot, Spoils};
use crate::keys::checkpoint::Checkpoint;
use crate::keys::slot::{Content, RootSlot};
use crate::store;
use crate::store::subject::Filter;

/// How much is read at once.
const PAGE: u32 = 1000;

/// Copies a folder with everything in it, byte for byte.
pub fn copy_folder(from: &Path, to: &Path) -> Result<u64> {
    fs::create_dir_all(to)?;
    let files = files_in(from)?;
    for source in &files {
        let target = to.join(source.strip_prefix(from)?);
        target.parent().map(fs::create_dir_all).transpose()?;
        fs::copy(source, &target).with_context(|| format!("cannot copy {}", source.display()))?;
    }
    Ok(files.len() as u64)
}

/// Every file in a folder and in those in it.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_in(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

/// Every key that exists: what the slot holds, and what each file beside it ends with, as that of a key-encrypting key.
pub async fn keys(slot: &dyn RootSlot, config: &Config) -> Result<Vec<Secret<32>>> {
    let mut keys: Vec<_> = slot.load().await?.map(roots).unwrap_or_default();
    for file in files_in(&config.slot_dir())? {
        keys.extend(fs::read(file)?.last_chunk::<32>().and_then(|key| Secret::from_slice(key)));
    }
    Ok(keys)
}

/// The roots in a slot.
fn roots(content: Content) -> Vec<Secret<32>> {
    std::iter::once(content.current).chain(content.next).map(|root| root.key).collect()
}

/// Takes everything out of copies of a vault's data directory and tries every key on it.
pub async fn plunder(copies: &[PathBuf], keys: Vec<Secret<32>>) -> Result<Spoils> {
    let mut loot = Loot { keys, ..Loot::default() };
    for copy in copies {
        read_database(&mut loot, &copy.join("vault.db")).await?;
        for file in files_in(&copy.join("checkpoints"))? {
            let checkpoint = Checkpoint::glance(&fs::read(file)?);
            loot.pages
                .extend(checkpoint.map(Checkpoint::content).transpose()?.into_iter().flat_map(|content| content.pages));
        }
    }
    Ok(loot.closure())
}

async fn read_database(loot: &mut Loot, path: &Path) -> Result<()> {
    let store = store::open(&format!("sqlite:{}", path.display())).await?;
    let mut tx = store.read().await?;
    let vault = tx.vault().await?.context("the copy holds no vault")?;
    loot.tree = vault.tree;
    loot.pages.extend(tx.key_pages().await?);
    for generation in tx.generations().await? {
        loot.chunks.extend(tx.chunks(&generation.numbers().collect::<Vec<_>>()).await?);
        loot.generations.push(generation);
    }
    let mut after = None;
    while let Some(last) = {
        let page = tx.scan_tokens(after, PAGE).await?;
        let last = page.last().map(|facts| facts.token.row);
        loot.tokens.extend(page.into_iter().map(|facts| facts.token));
        last
    } {
        after = Some(last);
    }
    let mut after = None;
    loop {
        let subjects = tx.list_subjects(&Filter::default(), after, PAGE).await?;
        let ids: Vec<_> = subjects.iter().map(|subject| subject.id).collect();
        let Some(last) = ids.last() else { break };
        after = Some(*last);
        loot.subject_keys.extend(tx.subject_keys(&ids).await?);
    }
    drop(tx);
    store.close().await;
    Ok(())
}
