//! The catalogue in memory. What is decided by it is decided by the documents that were there when the facts were read:
//! every statement that reads facts tells how many there are.

use std::sync::{Arc, PoisonError, RwLock};

use crate::model::{CollectionPoint, Error, Notice, Purpose, Result, RetentionClass, Time};
use crate::policy::{Catalogue, Seeds};
use crate::store::consent::{Document, DocumentKind};
use crate::store::{Store, Tx};

/// Who has defined what a new vault begins with.
const SEED: &str = "configuration";

/// The catalogue, as far as this node knows it.
pub struct Library {
    store: Arc<dyn Store>,
    known: RwLock<Arc<Catalogue>>,
    reading: tokio::sync::Mutex<()>,
}

impl Library {
    /// Reads the catalogue; in a vault that has none it is made of `seeds`.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn open(store: Arc<dyn Store>, seeds: &Seeds, now: Time) -> Result<Self> {
        let library = Self { store, known: RwLock::default(), reading: tokio::sync::Mutex::default() };
        if library.refreshed().await?.generation == 0 {
            let purposes = seeds.purposes.iter().map(|seed| purpose_document(seed, SEED, now));
            let classes = seeds.classes.iter().map(|seed| class_document(seed, SEED, now));
            let documents = purposes.chain(classes).collect::<Result<Vec<_>>>()?;
            let mut tx = library.store.write().await?;
            // Another node may have been faster, with the same.
            if tx.insert_documents(0, &documents).await? {
                tx.commit().await?;
            }
            library.refreshed().await?;
        }
        Ok(library)
    }

    /// What is known, which may be a moment old.
    #[must_use]
    pub fn known(&self) -> Arc<Catalogue> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The catalogue with at least so many documents.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn at_least(&self, generation: i64) -> Result<Arc<Catalogue>> {
        let known = self.known();
        if known.generation >= generation {
            return Ok(known);
        }
        self.refreshed().await
    }

    /// The catalogue as it is now.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn refreshed(&self) -> Result<Arc<Catalogue>> {
        let _one_at_a_time = self.reading.lock().await;
        let mut tx = self.store.read().await?;
        let catalogue = self.read_in(&mut *tx).await?;
        self.learn(&catalogue);
        Ok(catalogue)
    }

    /// The catalogue as a transaction sees it.
    pub(in crate::vault) async fn read_in(&self, tx: &mut dyn Tx) -> Result<Arc<Catalogue>> {
        let known = self.known();
        let documents = tx.documents(known.generation).await?;
        if documents.is_empty() {
            return Ok(known);
        }
        let mut catalogue = (*known).clone();
        for document in &documents {
            add(&mut catalogue, document)?;
        }
        Ok(Arc::new(catalogue))
    }

    /// Takes note of a catalogue that is committed.
    pub(super) fn learn(&self, catalogue: &Arc<Catalogue>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.generation < catalogue.generation {
            *known = Arc::clone(catalogue);
        }
    }
}

fn add(catalogue: &mut Catalogue, document: &Document) -> Result<()> {
    let text = &document.document;
    match document.kind {
        DocumentKind::Purpose => catalogue.add_purpose(read(text)?),
        DocumentKind::Notice => catalogue.add_notice(read(text)?),
        DocumentKind::Point => catalogue.put_point(read(text)?),
        DocumentKind::Retention => catalogue.add_class(read(text)?),
    }
    catalogue.generation += 1;
    Ok(())
}

/// What a document says.
pub(super) fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(Error::internal)
}

fn write<T: serde::Serialize>(document: &T) -> Result<String> {
    serde_json::to_string(document).map_err(Error::internal)
}

pub(super) fn purpose_document(purpose: &Purpose, by: &str, now: Time) -> Result<Document> {
    let document = write(purpose)?;
    Ok(Document {
        kind: DocumentKind::Purpose,
        code: purpose.code.clone(),
        version: purpose.version,
        document,
        defined_by: by.to_owned(),
        defined_at: now,
    })
}

pub(super) fn notice_document(notice: &Notice, by: &str, now: Time) -> Result<Document> {
    let document = write(notice)?;
    Ok(Document {
        kind: DocumentKind::Notice,
        code: notice.notice.clone(),
        version: notice.version,
        document,
        defined_by: by.to_owned(),
        defined_at: now,
    })
}

pub(super) fn point_document(point: &CollectionPoint, by: &str, now: Time) -> Result<Document> {
    let document = write(point)?;
    Ok(Document {
        kind: DocumentKind::Point,
        code: point.id.clone(),
        version: point.version,
        document,
        defined_by: by.to_owned(),
        defined_at: now,
    })
}

pub(super) fn class_document(class: &RetentionClass, by: &str, now: Time) -> Result<Document> {
    let document = write(class)?;
    Ok(Document {
        kind: DocumentKind::Retention,
        code: class.code.clone(),
        version: class.version,
        document,
        defined_by: by.to_owned(),
        defined_at: now,
    })
}
