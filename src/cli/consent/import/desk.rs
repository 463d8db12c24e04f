//! Where a row meets the vault: who is meant, what they were shown, and the record of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tonic::{Code, Status};

use super::results::{Done, Outcome, Refused};
use super::row::{Defaults, Shown, Wanted, Who};
use super::source::Read;
use crate::cli::client::Vault;
use crate::cli::consent::shown;
use crate::cli::failure::{Failure, Refusal, Result};
use crate::cli::notice;
use crate::cli::page::Paging;
use crate::proto::v1::{self, FieldType, SubjectState};

/// How often a call is made that the vault is too busy for, with a pause that doubles.
const ATTEMPTS: u32 = 5;
/// The first pause.
const PAUSE: Duration = Duration::from_millis(100);

/// What rows are looked up in and recorded through.
pub struct Desk {
    vault: Vault,
    defaults: Defaults,
    search_purpose: Option<String>,
    /// What there is, for a run that records nothing.
    dry: Option<Registry>,
    /// The notices that rows have named so far, by name and version.
    notices: Mutex<HashMap<(String, i32), Arc<v1::Notice>>>,
}

/// What a row may name.
struct Registry {
    purposes: BTreeSet<String>,
    /// By id, whether it is disabled.
    points: BTreeMap<String, bool>,
}

/// A row that was looked up.
pub enum Prepared {
    /// Nothing is left to be done.
    Done(Done),
    /// It can be recorded.
    Ready {
        /// The line at which it begins.
        line: u64,
        /// The call that records it.
        request: Box<v1::RecordConsentRequest>,
    },
}

/// Why a row goes no further.
enum Trouble {
    /// It is refused; others may not be.
    Row(Refused),
    /// No row can go further.
    Run(Failure),
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        Self::Row(refused)
    }
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        match Failure::from(status) {
            // These say nothing of the row, and would be said of each.
            Failure::Refused(status) if !matches!(status.code(), Code::Unauthenticated | Code::Unavailable) => {
                Self::Row(Refusal::of(&status).into())
            }
            failure => Self::Run(failure),
        }
    }
}

impl Desk {
    /// Opens for rows; a dry run learns what there is.
    pub async fn open(
        mut vault: Vault,
        defaults: Defaults,
        search_purpose: Option<String>,
        dry_run: bool,
    ) -> Result<Self> {
        let dry = if dry_run { Some(Registry::read(&mut vault).await?) } else { None };
        Ok(Self { vault, defaults, search_purpose, dry, notices: Mutex::default() })
    }

    /// Looks up what a row leaves to be looked up.
    pub async fn prepare(&self, read: anyhow::Result<Read>) -> Result<Prepared> {
        let Read { line, row } = read?;
        let mut subject = String::new();
        let outcome = match self.look_up(row, &mut subject).await {
            Ok(request) if self.dry.is_none() => return Ok(Prepared::Ready { line, request: Box::new(request) }),
            Ok(_) => Outcome::Valid,
            Err(Trouble::Row(refused)) => Outcome::Refused(refused),
            Err(Trouble::Run(failure)) => return Err(failure),
        };
        Ok(Prepared::Done(Done { line, subject, outcome }))
    }

    /// Records a row.
    pub async fn record(&self, line: u64, request: &v1::RecordConsentRequest) -> Result<Done> {
        let subject = request.subject.clone();
        let outcome = match self.recorded(request).await.map_err(Trouble::from) {
            Ok(event) => Outcome::Recorded { state: shown::state(event.state), consent_event: event.consent_event },
            Err(Trouble::Row(refused)) => Outcome::Refused(refused),
            Err(Trouble::Run(failure)) => return Err(failure),
        };
        Ok(Done { line, subject, outcome })
    }

    /// The event that a call records; a call that is repeated records it once.
    async fn recorded(&self, request: &v1::RecordConsentRequest) -> Result<v1::ConsentEvent, Status> {
        let mut consents = self.vault.consents.clone();
        for attempt in 0.. {
            match consents.record_consent(request.clone()).await {
                Err(status) if attempt + 1 < ATTEMPTS && is_busy(status.code()) => {
                    tokio::time::sleep(PAUSE * 2_u32.pow(attempt)).await;
                }
                answer => return Ok(answer?.into_inner().events.into_iter().next().unwrap_or_default()),
            }
        }
        Err(Status::internal("no attempt was made"))
    }

    async fn look_up(
        &self,
        row: Result<super::row::Row, Refused>,
        subject: &mut String,
    ) -> Result<v1::RecordConsentRequest, Trouble> {
        let mut wanted = row?.wanted(&self.defaults)?;
        *subject = match &wanted.who {
            Who::Subject(subject) => subject.clone(),
            Who::Identifier(kind, value) => self.find(*kind, value).await?,
        };
        wanted.name(subject.clone());
        let Wanted { who, shown, mut request } = wanted;
        if let Some(shown) = shown {
            request.notice_sha256 = self.digest(&shown).await?;
        }
        if let Some(registry) = &self.dry {
            registry.check(&request)?;
            if matches!(who, Who::Subject(_)) {
                let asked = v1::GetSubjectRequest { subject: request.subject.clone() };
                let person = self.vault.subjects.clone().get_subject(asked).await?.into_inner().subject;
                if matches!(person.unwrap_or_default().state(), SubjectState::Shredding | SubjectState::Shredded) {
                    return Err(Refused::here("SUBJECT_ERASED", "subject", "the person was erased").into());
                }
            }
        }
        Ok(request)
    }

    /// Who has a value. A number of two people is none of them.
    async fn find(&self, kind: FieldType, value: &str) -> Result<String, Trouble> {
        let Some(purpose) = self.search_purpose.clone() else {
            let message = "say with --search-purpose for which purpose people are searched";
            return Err(Refused::row("identifier", message).into());
        };
        let request = v1::FindTokensRequest { r#type: kind.into(), value: value.to_owned(), purpose };
        let found = self.vault.tokens.clone().find_tokens(request).await?.into_inner().tokens;
        let people: BTreeSet<String> = found.into_iter().map(|token| token.subject).collect();
        let mut people = people.into_iter();
        match (people.next(), people.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(Refused::here("IDENTIFIER_UNKNOWN", "identifier", "the vault finds nobody by it").into()),
            _ => Err(Refused::here("IDENTIFIER_AMBIGUOUS", "identifier", "more than one person has it").into()),
        }
    }

    /// The digest of what people were shown.
    async fn digest(&self, shown: &Shown) -> Result<Vec<u8>, Trouble> {
        let key = (shown.notice.clone(), shown.version);
        let notices = || self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = notices().get(&key).cloned();
        if known.is_none() {
            let request = v1::GetNoticeRequest { notice: shown.notice.clone(), version: shown.version };
            let found = self.vault.consents.clone().get_notice(request).await?.into_inner().notice;
            known = found.map(Arc::new);
            notices().extend(known.clone().map(|found| (key, found)));
        }
        let notice = known.unwrap_or_default();
        let text = notice::text(&notice, &shown.language).map_err(|error| Refused::row("language", error))?;
        Ok(text.sha256.clone())
    }
}

impl Registry {
    async fn read(vault: &mut Vault) -> Result<Self> {
        let purposes = Paging::default();
        let purposes = purposes.collect(async |page_size, page_token| {
            let request = v1::ListPurposesRequest { page_size, page_token };
            let response = vault.consents.list_purposes(request).await?.into_inner();
            Ok((response.purposes, response.next_page_token))
        });
        let purposes = purposes.await?.entries.into_iter().map(|purpose| purpose.code).collect();
        let points = crate::cli::point::all(vault).await?.into_iter();
        Ok(Self { purposes, points: points.map(|point| (point.collection_point, point.disabled)).collect() })
    }

    /// What the vault would say of names that it does not know.
    fn check(&self, request: &v1::RecordConsentRequest) -> Result<(), Refused> {
        if !self.purposes.contains(&request.purpose) {
            return Err(Refused::here("PURPOSE_UNKNOWN", "purpose", "there is no such purpose"));
        }
        match self.points.get(&request.collection_point) {
            Some(false) => Ok(()),
            None if request.collection_point.is_empty() => Ok(()),
            _ => {
                let message = "there is no such collection point, or it is disabled";
                Err(Refused::here("COLLECTION_POINT_UNKNOWN", "collection_point", message))
            }
        }
    }
}

/// Whether the same call may go through in a moment.
const fn is_busy(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::ResourceExhausted | Code::Aborted)
}
