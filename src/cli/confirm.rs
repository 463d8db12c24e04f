//! Making sure that a person means it.

use std::io::{IsTerminal as _, Write as _};

use anyhow::{Context as _, bail};

/// What is said of an erasure that was only looked at.
pub const LOOKED: &str = "Nothing was changed. Without --dry-run this destroys the keys for good.";

/// Whether something is to be erased that cannot come back.
#[derive(clap::Args)]
pub struct Sure {
    /// Only tell what would be destroyed and what would be kept
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
    /// Whether it can be looked at beforehand.
    #[arg(skip = true)]
    can_look: bool,
}

impl Sure {
    /// Of what cannot be looked at beforehand.
    pub const fn without_looking(yes: bool) -> Self {
        Self { dry_run: false, yes, can_look: false }
    }
}

/// Has a person type what is to be erased (`what`, which is `name`), unless they are `sure`.
pub fn erasing(sure: &Sure, what: &str, name: &str) -> anyhow::Result<()> {
    if sure.yes || sure.dry_run {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        let look = if sure.can_look { ", or look first with --dry-run" } else { "" };
        bail!("erasing cannot be undone and nobody is here to confirm it: give --yes{look}");
    }
    eprint!("Erasing cannot be undone, from no backup. Type {what} to go on: ");
    std::io::stderr().flush().context("cannot ask")?;
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed).context("cannot read the confirmation")?;
    if typed.trim() != name {
        bail!("not confirmed, so nothing was changed");
    }
    Ok(())
}
