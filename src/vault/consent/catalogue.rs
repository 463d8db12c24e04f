//! Defining purposes, notices, collection points and retention classes.

use std::sync::Arc;

use super::library::{class_document, notice_document, point_document, purpose_document, read};
use super::tell;
use crate::model::{
    Basis, Change, CollectionPoint, ConsentState, Error, Notice, Purpose, PurposeState, Reason, RequestId, Result,
    RetentionClass, Time,
};
use crate::policy::{Caller, Catalogue, unknown_purpose};
use crate::store::Tx;
use crate::store::consent::{Document, DocumentKind};
use crate::store::journal::Mark;
use crate::vault::{Vault, answer};

/// How often a definition is begun again when somebody else defines something at the same time.
const ATTEMPTS: usize = 20;

/// A purpose to be defined.
pub struct DefinePurpose {
    /// The document; its version and time are the vault's to say.
    pub purpose: Purpose,
    /// Makes the request idempotent.
    pub request: Option<RequestId>,
}

/// A retention class to be defined.
pub struct DefineRetentionClass {
    /// The document; its version and time are the vault's to say.
    pub class: RetentionClass,
    /// Makes the request idempotent.
    pub request: Option<RequestId>,
}

/// A notice to be published.
pub struct PublishNotice {
    /// The document; its version and time are the vault's to say.
    pub notice: Notice,
    /// Makes the request idempotent.
    pub request: Option<RequestId>,
}

impl Vault {
    /// The catalogue as it is now.
    pub async fn catalogue(&self) -> Result<Arc<Catalogue>> {
        self.library.refreshed().await
    }

    /// Defines a purpose, or a new version of one.
    pub async fn define_purpose(&self, caller: &Caller, ask: DefinePurpose) -> Result<Purpose> {
        ask.purpose.check()?;
        read(&self.define(caller, ask.request, &Definition::Purpose(ask.purpose)).await?)
    }

    /// Retires a purpose: a version of it for which nothing is permitted.
    pub async fn retire_purpose(&self, caller: &Caller, code: &str) -> Result<Purpose> {
        read(&self.define(caller, None, &Definition::Retirement(code.to_owned())).await?)
    }

    /// Publishes a notice, or a new version of one.
    pub async fn publish_notice(&self, caller: &Caller, ask: PublishNotice) -> Result<Notice> {
        ask.notice.check()?;
        read(&self.define(caller, ask.request, &Definition::Notice(ask.notice)).await?)
    }

    /// Gives a version of a notice, with its texts; the present one for 0.
    pub async fn notice(&self, name: &str, version: u32) -> Result<Notice> {
        let found = self.custody.store().read().await?.document(DocumentKind::Notice, name, version).await?;
        read(&found.ok_or_else(|| unknown_notice(name))?.document)
    }

    /// Defines a collection point, or changes one.
    pub async fn define_collection_point(&self, caller: &Caller, point: CollectionPoint) -> Result<CollectionPoint> {
        point.check()?;
        read(&self.define(caller, None, &Definition::Point(point)).await?)
    }

    /// Defines a retention class, or a new version of one.
    pub async fn define_retention_class(&self, caller: &Caller, ask: DefineRetentionClass) -> Result<RetentionClass> {
        ask.class.check()?;
        read(&self.define(caller, ask.request, &Definition::Retention(ask.class)).await?)
    }

    /// Adds a document to the catalogue and answers it. Begins again when somebody else has added one meanwhile.
    async fn define(&self, caller: &Caller, request: Option<RequestId>, what: &Definition) -> Result<String> {
        let (deed, kind) = what.deed();
        self.record_deed(caller, deed).await?;
        for _ in 0..ATTEMPTS {
            let now = self.clock.now();
            let mut tx = self.custody.store().write().await?;
            if let Some(earlier) = answer::given(&mut *tx, &caller.name, deed, request).await? {
                let (code, version) = earlier.answer.rsplit_once('@').unwrap_or_default();
                let found = tx.document(kind, code, version.parse().unwrap_or(0)).await?;
                return found.map(|found| found.document).ok_or_else(|| Error::internal("a document is gone"));
            }
            let catalogue = self.library.read_in(&mut *tx).await?;
            let document = what.document(&mut *tx, &catalogue, &caller.name, now).await?;
            if tx.document(kind, &document.code, document.version).await?.is_some() {
                // It is retired already.
                return Ok(document.document);
            }
            if !tx.insert_documents(catalogue.generation, std::slice::from_ref(&document)).await? {
                continue;
            }
            tx.mark(&[Mark::Document(kind, document.code.clone(), document.version)]).await?;
            tx.tell(tell::of_document(&document, now, self.custody.ring.random())?.as_slice()).await?;
            let answer = format!("{}@{}", document.code, document.version);
            let of = answer::Keep { caller: &caller.name, deed, request, subject: None };
            answer::keep(&mut *tx, &of, answer, now).await?;
            tx.commit().await?;
            self.library.refreshed().await?;
            // A reveal that was decided by the former version has landed when this returns.
            self.custody.land_all().await?;
            return Ok(document.document);
        }
        Err(Error::new(Reason::Overloaded, "too much is being defined at the same time; try again"))
    }
}

/// What is to be defined.
enum Definition {
    Purpose(Purpose),
    Retirement(String),
    Notice(Notice),
    Point(CollectionPoint),
    Retention(RetentionClass),
}

impl Definition {
    const fn deed(&self) -> (&'static str, DocumentKind) {
        match self {
            Self::Purpose(_) => ("DefinePurpose", DocumentKind::Purpose),
            Self::Retirement(_) => ("RetirePurpose", DocumentKind::Purpose),
            Self::Notice(_) => ("PublishNotice", DocumentKind::Notice),
            Self::Point(_) => ("DefineCollectionPoint", DocumentKind::Point),
            Self::Retention(_) => ("DefineRetentionClass", DocumentKind::Retention),
        }
    }

    /// The next document, after those of the catalogue.
    async fn document(&self, tx: &mut dyn Tx, catalogue: &Catalogue, by: &str, now: Time) -> Result<Document> {
        match self {
            Self::Purpose(purpose) => {
                let mut purpose = purpose.clone();
                (purpose.version, purpose.defined_at) = (1, now.micros());
                if let Some(before) = catalogue.purpose(&purpose.code) {
                    purpose.follow(before, now)?;
                    if purpose.basis != before.basis {
                        check_basis(tx, before).await?;
                    }
                }
                purpose.check_notice(catalogue.notice(&purpose.notice))?;
                purpose_document(&purpose, by, now)
            }
            Self::Retirement(code) => {
                let before = catalogue.purpose(code).ok_or_else(|| unknown_purpose(code))?;
                let mut purpose = Purpose { state: PurposeState::Retired, change: Change::Minor, ..before.clone() };
                if before.state != PurposeState::Retired {
                    purpose.follow(before, now)?;
                }
                purpose_document(&purpose, by, now)
            }
            Self::Notice(notice) => {
                let mut notice = notice.clone();
                (notice.version, notice.published_at) = (1, now.micros());
                if let Some(before) = catalogue.notice(&notice.notice) {
                    notice.follow(before, now);
                }
                notice_document(&notice, by, now)
            }
            Self::Point(point) => {
                if let Some(missing) = point.notices.iter().find(|notice| catalogue.notice(notice).is_none()) {
                    return Err(unknown_notice(missing).at("collection_point.notices"));
                }
                let version = catalogue.point(&point.id).map_or(1, |before| before.version + 1);
                point_document(&CollectionPoint { version, ..point.clone() }, by, now)
            }
            Self::Retention(class) => {
                let mut class = RetentionClass { version: 1, defined_at: now.micros(), ..class.clone() };
                if let Some(before) = catalogue.class(&class.code) {
                    class.follow(before, now)?;
                }
                class_document(&class, by, now)
            }
        }
    }
}

/// Refuses another basis while somebody has taken their consent to the present one back: what was refused on one
/// ground is not done on another (EDPB 05/2020, 122).
async fn check_basis(tx: &mut dyn Tx, before: &Purpose) -> Result<()> {
    if before.basis != Basis::Consent {
        return Ok(());
    }
    let mut after = None;
    loop {
        let page = tx.scan_standings(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some((last.subject, last.purpose.clone()));
        let withdrawn = |state| matches!(state, ConsentState::Withdrawn | ConsentState::Refused);
        let of_it = page.iter().filter(|stood| stood.purpose == before.code);
        if of_it.flat_map(|stood| stood.standing.consents.values()).any(|consent| withdrawn(consent.state)) {
            let message = "people have withdrawn from the purpose; it keeps its basis. Define another purpose";
            return Err(Error::new(Reason::PurposeBasisFixed, message).with("purpose", &before.code));
        }
    }
}

/// How many standings are looked at in one go.
const PAGE: u32 = 1000;

/// The refusal for a notice that is not published.
pub(super) fn unknown_notice(name: &str) -> Error {
    let error = Error::new(Reason::NoticeUnknown, "no notice of this name is published").at("notice");
    if crate::model::Label::purpose(name).is_ok() { error.with("notice", name) } else { error }
}
