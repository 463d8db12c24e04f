//! What can go wrong, how it is told, and which exit status it becomes.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::{self, Write as _};

use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::proto::google::rpc;

/// Why a command did not do what was asked.
pub enum Failure {
    /// The vault refused.
    Refused(Status),
    /// The answer that was shown told of it; only the exit status is left to give.
    Told(u8),
    /// No answer came from the server.
    Unreachable(String),
    /// The command line, a file that it names or its input is wrong.
    Usage(anyhow::Error),
}

/// What every command returns.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// The exit status, as `--help` lists them.
    pub const fn exit_status(&self) -> u8 {
        match self {
            Self::Refused(_) => 1,
            Self::Told(status) => *status,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
        }
    }

    /// What to tell; `None` when it was told with the answer.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Told(_) => None,
            Self::Refused(status) => Some(Refusal::of(status)),
            Self::Unreachable(message) => Some(Refusal::here(Code::Unavailable, "UNREACHABLE", message.clone())),
            Self::Usage(error) => Some(Refusal::of_usage(error)),
        }
    }
}

impl From<Status> for Failure {
    /// A status that was made on this side, or that no vault explains, means that the server was not reached.
    fn from(status: Status) -> Self {
        let unexplained = status.code() == Code::Unavailable && status.get_details_error_info().is_none();
        if unexplained || status.source().is_some() {
            return Self::Unreachable(format!("the server cannot be reached: {}", status.message()));
        }
        Self::Refused(status)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Usage(error)
    }
}

/// An error in the form of the API: for people through `Display`, for programs through [`Refusal::json`].
pub struct Refusal {
    code: Code,
    /// A value of `lacuna.v1.ErrorReason`; empty when the server gave none.
    reason: String,
    message: String,
    metadata: BTreeMap<String, String>,
    violations: Vec<(String, String)>,
}

impl Refusal {
    /// Reads the details of a call's status.
    pub fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        Self {
            code: status.code(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            message: status.message().to_owned(),
            metadata: info.map(|info| info.metadata.clone().into_iter().collect()).unwrap_or_default(),
            violations: violations.iter().map(|at| (at.field.clone(), at.description.clone())).collect(),
        }
    }

    /// Reads the status of one item: the same message, on the wire, as a call's status carries.
    pub fn of_item(item: &rpc::Status) -> Self {
        let code = Code::from_i32(item.code);
        Self::of(&Status::with_details(code, item.message.clone(), item.encode_to_vec().into()))
    }

    /// An error of this side: nothing was asked of the vault, or no more.
    pub fn of_usage(error: &anyhow::Error) -> Self {
        Self::here(Code::InvalidArgument, "COMMAND_LINE", format!("{error:#}"))
    }

    fn here(code: Code, reason: &str, message: String) -> Self {
        Self { code, reason: reason.to_owned(), message, metadata: BTreeMap::new(), violations: Vec::new() }
    }

    /// The error as one JSON object.
    pub fn json(&self) -> Value {
        let violations = self.violations.iter();
        json!({
            "code": code_name(self.code),
            "reason": self.reason,
            "message": self.message,
            "metadata": self.metadata,
            "field_violations": violations
                .map(|(field, description)| json!({ "field": field, "description": description }))
                .collect::<Vec<_>>(),
        })
    }

    /// What was wrong: a value of `lacuna.v1.ErrorReason`, or the code where the server gave none.
    pub fn reason(&self) -> &str {
        if self.reason.is_empty() { code_name(self.code) } else { &self.reason }
    }

    /// The field at fault, if it was one.
    pub fn field(&self) -> &str {
        self.violations.first().map_or("", |(field, _)| field)
    }

    /// What is said of it.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The error on one line, for a cell of a table.
    pub fn brief(&self) -> String {
        let mut line = self.reason().to_owned();
        let _ = write!(line, ": {}", self.message);
        for (field, description) in self.untold() {
            let _ = write!(line, " ({field}: {description})");
        }
        if let Some(hint) = self.hint() {
            let _ = write!(line, " ({hint})");
        }
        line
    }

    /// What is wrong with fields and is not the message itself: the vault puts the field before it.
    fn untold(&self) -> impl Iterator<Item = &(String, String)> {
        let told = |(field, description): &&(String, String)| self.message != format!("{field}: {description}");
        self.violations.iter().filter(told)
    }

    /// The command that helps.
    fn hint(&self) -> Option<String> {
        let approval = self.metadata.get("approval").filter(|_| self.reason == "APPROVAL_REQUIRED")?;
        Some(format!("another caller lets you have it with: lacuna approval grant {approval}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.reason.as_str() {
            "COMMAND_LINE" | "UNREACHABLE" => {}
            "" => write!(f, "\n  code: {}", code_name(self.code))?,
            reason => write!(f, "\n  reason: {reason} ({})", code_name(self.code))?,
        }
        for (key, value) in &self.metadata {
            write!(f, "\n  {key}: {value}")?;
        }
        for (field, description) in self.untold() {
            write!(f, "\n  in {field}: {description}")?;
        }
        if let Some(hint) = self.hint() {
            write!(f, "\n{hint}")?;
        }
        Ok(())
    }
}

/// The canonical name of a gRPC code.
const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
