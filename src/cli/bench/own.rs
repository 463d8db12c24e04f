//! A vault that a benchmark opens for itself, in this process, and removes when it is done.

use std::future::Future;
use std::sync::Arc;

use anyhow::Context as _;

use crate::cli::client::{Credentials, Remote, Vault};
use crate::cli::failure::Result;
use crate::cli::print::Output;
use crate::cli::serve::Running;
use crate::config::Config;
use crate::crypto::{Random as _, SystemRandom};
use crate::keys::checkpoint::hex;
use crate::keys::files;
use crate::model::SystemClock;

/// Where such a vault is.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "The vault of lookup and import")]
pub struct Place {
    /// Buckets of its search index
    #[arg(long, value_name = "N", default_value = "16384", value_parser = clap::value_parser!(u32).range(64..=65_536))]
    pub buckets: u32,
    /// An empty database of PostgreSQL for it [default: SQLite in a temporary folder]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

impl Place {
    /// What its store is called.
    pub const fn store(&self) -> &'static str {
        if self.database_url.is_some() { "PostgreSQL" } else { "SQLite" }
    }

    /// Opens a vault, has `work` done with it and with its door, and removes it again.
    pub async fn with_vault<T, F>(&self, work: impl FnOnce(Arc<Running>, Vault) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut name = [0; 8];
        SystemRandom::new().fill(&mut name);
        let home = std::env::temp_dir().join(format!("lacuna-bench-{}", hex(&name)));
        files::make_private_directory(&home).with_context(|| format!("cannot make {}", home.display()))?;
        let done = self.with_vault_in(&home, work).await;
        std::fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))?;
        done
    }

    async fn with_vault_in<T, F>(
        &self,
        home: &std::path::Path,
        work: impl FnOnce(Arc<Running>, Vault) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let config = Config {
            data_dir: Some(home.join("lacuna-data")),
            database_url: self.database_url.clone().map(Into::into),
            listen: Some(([127, 0, 0, 1], 0).into()),
            index_buckets: Some(self.buckets),
            ..Config::default()
        };
        let running = Running::start(&config, Arc::new(SystemClock)).await?;
        let file = running.dev_token_file.clone().context("the vault has no development credential")?;
        let remote = Remote::at(format!("http://{}", running.address), Credentials::of_bearer(file), Output::Human);
        let (running, door) = (Arc::new(running), remote.open().await?);
        let done = work(Arc::clone(&running), door).await;
        Arc::into_inner(running).context("the vault is still in use")?.stop().await?;
        done
    }
}
