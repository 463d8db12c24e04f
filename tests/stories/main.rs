//! The vault's stories, told through its doors. One file a subject, one test a story.

// The state of a story is as deep as what it awaits.
#![recursion_limit = "256"]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails, in what tests share too"
)]

mod access;
mod agents_leave;
mod alarms;
mod approvals;
mod asks;
mod audit;
mod audit_chain;
mod audit_cli;
mod audit_crash;
mod audit_retention;
mod authority;
mod base_backup;
mod bearers;
mod brakes;
mod breach;
#[cfg(feature = "s3")]
mod buckets;
mod call_events;
mod calls;
mod calls_apart;
mod calls_nodes;
mod cdr;
mod certificates;
mod claims;
mod claims_crash;
mod cli_client;
mod configuration;
mod confirmation;
mod consent_cli;
mod consent_crash;
mod consent_import;
mod consent_nodes;
mod consent_walk;
mod consents;
mod copies;
mod crash;
mod custodians;
mod demo;
mod doors;
mod drill;
mod erased_parts;
mod erasures;
mod events;
mod events_cli;
mod events_crash;
mod events_nodes;
mod evidence;
mod fuzzing;
mod gibberish;
mod health;
mod hoard;
mod holds;
mod holds_crash;
mod hostile;
mod hostile_calls;
mod house;
mod idempotency;
mod journal;
mod journeys;
mod keks;
mod kept;
mod kept_crash;
mod kills;
#[cfg(feature = "aws-kms")]
mod kms;
mod landing;
mod leaks;
mod links;
mod lookups;
mod media;
mod media_keys;
#[cfg(target_os = "linux")]
mod memory;
mod mismatches;
#[cfg(any(feature = "s3", feature = "aws-kms"))]
mod moto;
mod nodes;
mod outside;
mod parts;
mod permissions;
mod policies;
mod process;
mod profiling;
mod proofs;
mod protocol;
mod purposes;
mod python_client;
mod recorded;
mod recordings;
mod refusals;
mod request;
mod restore;
mod retention;
mod retention_crash;
mod retention_runs;
mod reuse;
mod reviews;
mod rewrapping;
mod rotating;
mod rotation_crash;
mod rotations;
mod runbook;
mod shapes;
mod sinks;
mod slot_contract;
mod softhsm;
mod spans;
mod startup;
mod stopped;
mod store_contract;
mod storm;
mod streams;
mod subjects;
mod successions;
mod suppression;
mod tidy;
mod tls_dev;
mod tokens;
mod traces;
mod transplant;
mod undone;
mod vcon;
mod vcons;
