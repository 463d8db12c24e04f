//! The vault's stories, told through its doors. One file a subject, one test a story.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails, in what tests share too"
)]

mod asks;
mod audit;
mod base_backup;
mod cli_client;
mod configuration;
mod confirmation;
mod consents;
mod copies;
#[cfg(feature = "failpoints")]
mod crash;
mod doors;
mod drill;
mod erasures;
mod health;
mod hoard;
mod house;
mod idempotency;
mod kills;
mod landing;
mod leaks;
mod links;
#[cfg(target_os = "linux")]
mod memory;
#[cfg_attr(not(feature = "failpoints"), expect(dead_code, reason = "the crash stories use the rest"))]
mod nodes;
mod outside;
mod process;
mod proofs;
mod protocol;
mod purposes;
mod python_client;
mod refusals;
mod restore;
mod reuse;
mod rotations;
mod runbook;
mod shapes;
mod slot_contract;
mod softhsm;
mod startup;
mod store_contract;
mod storm;
mod streams;
mod subjects;
mod tidy;
mod tokens;
mod transplant;
