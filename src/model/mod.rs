//! The words: ids, values, states, and the changes a state allows.
//!
//! This floor is pure: no I/O, no clock of its own, no database, no transport. A value that exists here is valid;
//! a state that changes here may refuse. It must not know how anything is stored, sealed or sent.

mod approval;
mod call;
mod call_event;
mod card;
mod clock;
pub(crate) mod consent;
pub(crate) mod digits;
mod erasure;
mod error;
mod facts;
mod field;
mod hold;
mod id;
mod label;
pub(crate) mod numbered;
mod outbox;
mod part;
mod presented;
mod recording;
mod redact;
mod retention;
mod rotation;
mod subject;
mod token;

pub use approval::{Approval, ApprovalState, Bulk};
pub use call::{
    Call, CallField, CallFilter, Direction, Disposition, Leg, LegFacts, MOST_PARTS, PartBody, PartKind, Party,
    PartyRole, PartyValue, RelinkReason, SourceCallId, check_dialled,
};
pub use call_event::{CallEvent, CallEventKind, Instruction, PauseCause, objected};
pub use card::{
    contains_card_data, contains_card_number, is_security_code, luhn_valid, mask_card_data, names_security_code,
};
pub use clock::{Clock, SystemClock, Time};
pub use consent::{
    Actor, Basis, Change, Channel, CollectionPoint, Consent, ConsentEvent, ConsentState, Controller, EventKind,
    Evidence, Method, Mode, Notice, NoticeText, Objection, PointKind, Purpose, PurposeState, Standing, comes_of_age,
};
pub use erasure::{Element, Erasure, ErasureState, LEGAL_HOLD, PlanItem, Verdict};
pub use error::{Error, Reason, Result};
pub use facts::{Facts, PersonFacts, Token};
pub use field::{Content, FieldType, Region, Value, warm_up};
pub use hold::{HOLDS, Held, HeldSubject, Hold, Release};
pub use id::{
    ApprovalId, CallId, ConsentEventId, ErasureId, EventId, HoldId, KeyEventId, OpaqueToken, PartId, ReceiptId,
    RequestId, RetentionRunId, RotationId, SubjectId, TokenRow,
};
pub use label::{Jurisdiction, Label, Reference};
pub use outbox::{Cursor, Mark, OutboxBody, OutboxEvent, OutboxKind, PermissionCause};
pub use part::{MediaType, Part};
pub use presented::{Assurance, Presented, is_withheld};
pub use recording::{Agreement, Recording, RecordingRole, Span, Stand};
pub use redact::{Redaction, redact};
pub use retention::{Cohort, Counting, Ended, Period, RetentionBasis, RetentionClass, RetentionRun, RunState};
pub use rotation::{KeyEvent, KeyEventKind, KeyState, Rotation, RotationKind, RotationState};
pub use subject::{Restriction, Subject, SubjectState, Terms};
pub use token::{TokenFormat, TokenState, looks_shaped, shape};
