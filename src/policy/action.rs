//! The rights there are, and which one each rpc needs: the one table.

/// Declares the rights, their names in policies and the rpcs that need them.
macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident = $name:literal on $resource:ident [$($rpc:literal),* $(,)?],)+) => {
        /// A right that policies permit or forbid.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $($(#[$doc])* $action,)+
        }

        impl Action {
            /// Every right.
            pub const ALL: &[Self] = &[$(Self::$action),+];

            /// Its name in policies.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$action => $name,)+
                }
            }

            /// What it is a right to.
            #[must_use]
            pub const fn over(self) -> Over {
                match self {
                    $(Self::$action => Over::$resource,)+
                }
            }

            /// The right that an rpc needs, by the rpc's name; `None` for an rpc that nobody may call.
            #[must_use]
            pub fn of(rpc: &str) -> Option<Self> {
                match rpc {
                    $($($rpc => Some(Self::$action),)*)+
                    _ => None,
                }
            }

            /// The rpcs that need it.
            #[must_use]
            pub const fn rpcs(self) -> &'static [&'static str] {
                match self {
                    $(Self::$action => &[$($rpc),*],)+
                }
            }
        }
    };
}

/// What a right is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// A purpose.
    Purpose,
    /// One value: its type, its class, where its subject is.
    Value,
    /// The vault as a whole.
    Vault,
}

actions! {
    /// Name a purpose at all.
    NamePurpose = "namePurpose" on Purpose [],
    /// See a value, as far as its redaction goes.
    Reveal = "reveal" on Value ["Detokenize", "DetokenizeStream", "GetMediaKey"],
    /// Find tokens by value.
    Find = "find" on Value ["FindTokens", "LookupByCaller"],
    /// Hand over a value.
    Tokenize = "tokenize" on Value ["Tokenize", "TokenizeStream"],
    /// Correct a value.
    Update = "update" on Value ["UpdateToken"],
    /// Delete a value.
    Delete = "delete" on Value ["DeleteToken"],
    /// See what tokens there are.
    ReadTokens = "readTokens" on Vault ["GetToken", "ListTokens"],
    /// Open a subject.
    CreateSubject = "createSubject" on Vault ["CreateSubject"],
    /// See what subjects there are.
    ReadSubjects = "readSubjects" on Vault ["GetSubject", "ListSubjects"],
    /// Restrict subjects and switch their profiling.
    AdministerSubjects = "administerSubjects" on Vault ["RestrictSubject", "LiftRestriction", "SetProfiling"],
    /// Erase subjects.
    Erase = "erase" on Vault ["EraseSubject", "CancelErasure", "EraseParts"],
    /// Say that what is kept of one person is another's.
    ReassignSubjects = "reassignSubjects" on Vault ["ClaimSubject", "RelinkCaller"],
    /// See erasures and what proves them.
    ReadErasures = "readErasures" on Vault ["GetErasure", "ListErasures", "GetReceipt", "VerifyErasure"],
    /// Record calls.
    RecordCalls = "recordCalls" on Vault ["UpsertCall", "AttachPart", "AppendCallEvent", "ImportCdr", "ImportVcon"],
    /// See what calls there are; their values need the right to each.
    ReadCalls = "readCalls" on Vault ["GetCall", "ListCalls", "ExportVcon"],
    /// Ask whether a purpose is permitted.
    CheckPermission = "checkPermission" on Vault ["CheckPermission", "BatchCheckPermission"],
    /// Ask whether a call may be recorded.
    DecideRecording = "decideRecording" on Vault ["DecideRecording"],
    /// See consents and how they came to be.
    ReadConsents = "readConsents" on Vault ["ListConsents", "ListConsentEvents"],
    /// Have consents proven and receipts issued.
    ProveConsents = "proveConsents" on Vault ["ProveConsent", "IssueReceipt"],
    /// See what is due and what is amiss in the ledger of consents.
    ReviewConsents = "reviewConsents" on Vault ["ListDueForReview", "AuditConsents"],
    /// Record consents, objections and withdrawals.
    RecordConsents = "recordConsents" on Vault ["RecordConsent", "CreateWithdrawalLink", "WithdrawByLink"],
    /// See purposes, notices and collection points.
    ReadCatalogue = "readCatalogue" on Vault
        ["GetPurpose", "ListPurposes", "GetNotice", "ListNotices", "ListCollectionPoints"],
    /// Define them.
    AdministerCatalogue = "administerCatalogue" on Vault
        ["DefinePurpose", "RetirePurpose", "PublishNotice", "DefineCollectionPoint"],
    /// See retention classes, what is due and what has ended.
    ReadRetention = "readRetention" on Vault
        ["ListRetentionClasses", "PreviewRetention", "ListRetentionRuns"],
    /// Define classes, and end what is due.
    AdministerRetention = "administerRetention" on Vault ["DefineRetentionClass", "RunRetention"],
    /// See legal holds.
    ReadHolds = "readHolds" on Vault ["ListHolds"],
    /// Place legal holds, and release them.
    AdministerHolds = "administerHolds" on Vault ["PlaceHold", "ReleaseHold"],
    /// Be told who objects to direct marketing.
    ReadSuppression = "readSuppression" on Vault [],
    /// Follow events.
    WatchEvents = "watchEvents" on Vault ["WatchEvents", "AcknowledgeEvent"],
    /// See who follows them and what they were told.
    ReadConsumers = "readConsumers" on Vault ["ListConsumers", "ListDeliveries"],
    /// Forget consumers.
    AdministerConsumers = "administerConsumers" on Vault ["DeleteConsumer"],
    /// See how the keys are.
    ReadKeys = "readKeys" on Vault ["GetKeyStatus", "GetRotation", "ListRotations", "ListKeyEvents"],
    /// Rotate keys.
    AdministerKeys = "administerKeys" on Vault
        ["RotateRoot", "RotateSubjectKey", "RotateIndexKey", "RotateKek", "RotateSigningKey"],
    /// See who may do what.
    ReadAccess = "readAccess" on Vault ["ListCallers", "ListWhoCanAccess", "SimulateAccess"],
    /// Disable callers.
    AdministerAccess = "administerAccess" on Vault ["DisableCaller", "EnableCaller"],
    /// See what honey there is, and be told of alarms.
    ReadAlarms = "readAlarms" on Vault ["ListHoney"],
    /// Place honey, and lift it.
    AdministerHoney = "administerHoney" on Vault ["PlaceHoney", "LiftHoney"],
    /// See what others want to read in bulk.
    ReadApprovals = "readApprovals" on Vault ["GetApproval", "ListApprovals"],
    /// Approve it, or refuse.
    Approve = "approve" on Vault ["GrantApproval", "RefuseApproval"],
    /// See who did what.
    ReadAudit = "readAudit" on Vault
        ["ListAuditEntries", "ListAffectedSubjects", "VerifyAuditChain", "GetCheckpoint", "ProveAuditEntry"],
}
