//! Configuration of the process itself: what of its memory may reach a disk.

use serde::Deserialize;

/// The process that serves.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Process {
    /// Whether the process may be dumped and traced: `refuse`, unless somebody is looking for a fault.
    pub core_dumps: CoreDumps,
    /// What to make of swap that may take keys to a disk: `warn`, or `refuse` to start.
    pub swap: Swap,
}

/// Whether the process may be dumped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoreDumps {
    /// Dumps and debuggers are allowed, as the system has it.
    Allow,
    /// The process gives up being dumped and traced.
    #[default]
    Refuse,
}

/// What to make of swap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Swap {
    /// The start is refused.
    Refuse,
    /// It is told.
    #[default]
    Warn,
}
