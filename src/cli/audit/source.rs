//! Where the audit is read: a running vault, or a copy of a database.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use super::super::admin::read_public_keys;
use super::super::client::{Remote, Vault};
use super::super::failure::{Failure, Result};
use super::super::value;
use crate::grpc::audit;
use crate::keys::sink::{CheckpointSink, DirectorySink};
use crate::model::{Clock as _, Error, SystemClock};
use crate::proto::v1;
use crate::store::{self, Store};
use crate::vault::audit::affected::affected;
use crate::vault::audit::list::{self, Filter};
use crate::vault::audit::outside::Outside;
use crate::vault::audit::walk::{self, Witness};

/// How many entries are asked for at once.
const PAGE: u16 = 1000;

/// How many affected people are asked for at once.
const PEOPLE: i32 = 10_000;

/// A copy of a database, if that is what is to be read.
#[derive(clap::Args, Default)]
pub struct Copy {
    /// Read this database, a copy or the vault's own, instead of asking a running vault: sqlite:PATH or postgres://…
    #[arg(long, value_name = "URL", help_heading = "Offline")]
    database: Option<String>,
    /// A place with checkpoints of the audit; may be given several times
    #[arg(long, value_name = "DIR", requires = "database", help_heading = "Offline")]
    checkpoints: Vec<PathBuf>,
    /// The file with the public keys of the vault, receipt-signing.pub in the slot's directory
    #[arg(long, value_name = "FILE", requires = "database", help_heading = "Offline")]
    public_key: Option<PathBuf>,
}

/// Which entries are meant.
#[derive(clap::Args)]
pub struct Which {
    /// Who called
    #[arg(long, default_value = "", hide_default_value = true)]
    pub caller: String,
    /// The rpc, such as Detokenize
    #[arg(long, default_value = "", hide_default_value = true)]
    pub rpc: String,
    /// For what purpose
    #[arg(long, default_value = "", hide_default_value = true)]
    pub purpose: String,
    /// This token was touched; may be given several times. Offline by its row, as entries name it
    #[arg(long, value_name = "TOKEN")]
    pub token: Vec<String>,
    /// This person was touched
    #[arg(long, default_value = "", hide_default_value = true)]
    pub subject: String,
    /// A value of this type was touched
    #[arg(long = "type", value_name = "TYPE", value_parser = |text: &str| value::field_type(text))]
    pub kind: Option<v1::FieldType>,
    /// On this node
    #[arg(long, default_value = "", hide_default_value = true)]
    pub node: String,
    /// The call, by its x-request-id
    #[arg(long, default_value = "", hide_default_value = true)]
    pub request: String,
    /// From this moment on
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    pub since: Option<prost_types::Timestamp>,
    /// Before this moment
    #[arg(long, value_name = "TIME", value_parser = value::time)]
    pub until: Option<prost_types::Timestamp>,
    /// Only what was refused
    #[arg(long)]
    pub refused: bool,
}

impl Which {
    /// The same, on the wire.
    pub fn filter(&self) -> v1::AuditFilter {
        v1::AuditFilter {
            caller: self.caller.clone(),
            rpc: self.rpc.clone(),
            purpose: self.purpose.clone(),
            tokens: self.token.clone(),
            subject: self.subject.clone(),
            r#type: self.kind.map_or(0, Into::into),
            node: self.node.clone(),
            request_id: self.request.clone(),
            start_time: self.since,
            end_time: self.until,
            refused_only: self.refused,
        }
    }

    fn offline(&self) -> Result<Filter> {
        let ask = v1::AuditFilter { tokens: Vec::new(), ..self.filter() };
        audit::filter(ask, self.token.clone()).map_err(usage)
    }
}

/// Where the audit is read.
pub enum Source {
    /// A running vault.
    Vault(Box<Vault>),
    /// A database.
    Database(Arc<dyn Store>),
}

impl Copy {
    /// Opens the database, or the way to the vault.
    pub async fn source(&self, remote: &Remote) -> Result<Source> {
        match &self.database {
            Some(url) => Ok(Source::Database(store::open(url).await.map_err(usage)?)),
            None => Ok(Source::Vault(Box::new(remote.open().await?))),
        }
    }
}

impl Source {
    /// Whether the log is as it was written.
    pub async fn verify(self, copy: &Copy) -> Result<v1::VerifyAuditChainResponse> {
        match self {
            Self::Vault(mut vault) => {
                Ok(vault.audits.verify_audit_chain(v1::VerifyAuditChainRequest {}).await?.into_inner())
            }
            Self::Database(store) => {
                let path =
                    copy.public_key.as_ref().context("offline, name the vault's public keys with --public-key")?;
                let keys = read_public_keys(path)?;
                let place = |path: &PathBuf| -> Arc<dyn CheckpointSink> { Arc::new(DirectorySink::new(path)) };
                let known = Outside::new(copy.checkpoints.iter().map(place).collect()).read(&keys).await;
                let mut tx = store.read().await.map_err(usage)?;
                let told = tx.vault().await.map_err(usage)?.map(|vault| vault.tree);
                // Whose log it should be say those who have signed; only where nobody has is the database asked.
                let vault = known.checkpoints.first().map(|checkpoint| checkpoint.vault).or(told).unwrap_or_default();
                let now = SystemClock.now();
                let witness = Witness { vault, keys: &keys, checkpoints: &known.checkpoints, now };
                let mut verified = walk::verify(&mut *tx, &witness).await.map_err(usage)?;
                verified.troubles.extend(known.troubles);
                Ok(audit::wire_verified(verified))
            }
        }
    }

    /// Who is affected by the entries that are meant, all of them.
    pub async fn affected(self, which: &Which) -> Result<v1::ListAffectedSubjectsResponse> {
        match self {
            Self::Vault(mut vault) => {
                let ask = |page_token| v1::ListAffectedSubjectsRequest {
                    filter: Some(which.filter()),
                    page_size: PEOPLE,
                    page_token,
                };
                let mut all = vault.audits.list_affected_subjects(ask(String::new())).await?.into_inner();
                while !all.next_page_token.is_empty() {
                    let next = ask(std::mem::take(&mut all.next_page_token));
                    let more = vault.audits.list_affected_subjects(next).await?.into_inner();
                    all.affected_subjects.extend(more.affected_subjects);
                    all.next_page_token = more.next_page_token;
                }
                Ok(all)
            }
            Self::Database(store) => {
                let filter = which.offline()?;
                audit::check_narrow(&filter).map_err(usage)?;
                let mut tx = store.read().await.map_err(usage)?;
                let found = affected(&mut *tx, &filter).await.map_err(usage)?;
                let affected_subjects = found.people.iter().map(audit::wire_person).collect();
                Ok(v1::ListAffectedSubjectsResponse { affected_subjects, ..audit::wire_affected(&found) })
            }
        }
    }

    /// Does something with each entry that is meant, in the order of time.
    pub async fn each_entry(self, which: &Which, each: impl Fn(&v1::AuditEntry) -> Result<()>) -> Result<()> {
        match self {
            Self::Vault(mut vault) => {
                let mut page_token = String::new();
                loop {
                    let filter = Some(which.filter());
                    let request = v1::ListAuditEntriesRequest { filter, page_size: PAGE.into(), page_token };
                    let page = vault.audits.list_audit_entries(request).await?.into_inner();
                    page.entries.iter().try_for_each(&each)?;
                    if page.next_page_token.is_empty() {
                        return Ok(());
                    }
                    page_token = page.next_page_token;
                }
            }
            Self::Database(store) => {
                let (filter, mut from) = (which.offline()?, None);
                let mut tx = store.read().await.map_err(usage)?;
                loop {
                    let (entries, next) = list::list(&mut *tx, &filter, from, PAGE.into()).await.map_err(usage)?;
                    for entry in &entries {
                        each(&audit::wire(entry).map_err(usage)?)?;
                    }
                    if next.is_none() {
                        return Ok(());
                    }
                    from = next;
                }
            }
        }
    }
}

fn usage(error: Error) -> Failure {
    Failure::Usage(anyhow::Error::from(error))
}
