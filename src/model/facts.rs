//! What is known of a token, and what decides about it.

use super::{ErasureId, FieldType, Jurisdiction, Standing, SubjectId, SubjectState, Time, TokenFormat, TokenRow};

/// A token and the sealed value behind it. It outlives the value, so that a token is never issued twice.
#[derive(Clone, Debug)]
pub struct Token {
    /// The row id.
    pub row: TokenRow,
    /// Whose value it stands for.
    pub subject: SubjectId,
    /// What the value is.
    pub kind: FieldType,
    /// Retention class.
    pub class: String,
    /// What the token looks like.
    pub format: TokenFormat,
    /// The token itself, when it is shaped.
    pub shaped: Option<String>,
    /// Labels.
    pub tags: Vec<String>,
    /// When it stops revealing.
    pub expires_at: Option<Time>,
    /// Whether the first reveal is the last.
    pub single_use: bool,
    /// When it was made.
    pub created_at: Time,
    /// The leaf whose key seals the value.
    pub leaf: u32,
    /// The version of that key.
    pub key_version: u32,
    /// Where the value came from.
    pub source: String,
    /// Counts changes of the value.
    pub version: u64,
    /// When a single-use token was revealed.
    pub spent_at: Option<Time>,
    /// When a caller deleted it.
    pub deleted_at: Option<Time>,
    /// When its value was destroyed because its retention had ended.
    pub ended_at: Option<Time>,
    /// The envelope; absent once deleted, erased or ended.
    pub sealed: Option<Vec<u8>>,
}

impl Token {
    /// Whether a telephone system has told the value with a call, and nobody asked to keep it otherwise.
    #[must_use]
    pub fn is_of_a_call(&self) -> bool {
        self.source.starts_with("call:")
    }
}

/// A token with what decides about it, read in one statement.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The token.
    pub token: Token,
    /// Under whose law its subject is.
    pub jurisdiction: Option<Jurisdiction>,
    /// Where its subject is.
    pub state: SubjectState,
    /// Whether its subject may be profiled.
    pub profiling: bool,
    /// Since when its subject is restricted.
    pub restricted_at: Option<Time>,
    /// The erasure of its subject: scheduled, under way or done.
    pub erasure: Option<ErasureId>,
    /// When the scheduled erasure is due.
    pub execute_at: Option<Time>,
    /// When its subject was erased.
    pub erased_at: Option<Time>,
    /// Until when the value outlasts the erasure of its subject; `None` of the living, and where nothing is left.
    pub kept_until: Option<Time>,
    /// The copy of its value that a legal hold keeps: as a token in the class of the hold, under its key. Read only for
    /// purposes that open it.
    pub held: Option<Box<Token>>,
    /// Since when its subject objects to direct marketing.
    pub suppressed_at: Option<Time>,
    /// The purpose that was asked about; empty when none was.
    pub purpose: String,
    /// How its subject's consents to that purpose stand.
    pub standing: Standing,
    /// How many documents the catalogue had when this was read; 0 when no purpose was asked about.
    pub catalogue: i64,
    /// How many changes of callers there were when this was read; 0 when no purpose was asked about.
    pub callers: i64,
}

impl Facts {
    /// The token with the copy that a legal hold keeps, or with the value itself.
    #[must_use]
    pub fn token_of(&self, hold: bool) -> &Token {
        self.held.as_deref().filter(|_| hold).unwrap_or(&self.token)
    }

    /// What of it is about the person.
    #[must_use]
    pub const fn person(&self) -> PersonFacts {
        PersonFacts {
            subject: self.token.subject,
            state: self.state,
            profiling: self.profiling,
            restricted_at: self.restricted_at,
            erasure: self.erasure,
            execute_at: self.execute_at,
            erased_at: self.erased_at,
            suppressed_at: self.suppressed_at,
        }
    }
}

/// What decides about a person, whatever the value.
#[derive(Clone, Copy, Debug)]
pub struct PersonFacts {
    /// Who.
    pub subject: SubjectId,
    /// Where they are.
    pub state: SubjectState,
    /// Whether they may be profiled.
    pub profiling: bool,
    /// Since when they are restricted.
    pub restricted_at: Option<Time>,
    /// Their erasure: scheduled, under way or done.
    pub erasure: Option<ErasureId>,
    /// When the scheduled erasure is due.
    pub execute_at: Option<Time>,
    /// When they were erased.
    pub erased_at: Option<Time>,
    /// Since when they object to direct marketing.
    pub suppressed_at: Option<Time>,
}
