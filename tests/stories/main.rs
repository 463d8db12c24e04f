//! The vault's stories, told through its doors. One file a subject, one test a story.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails, in what tests share too"
)]

mod audit;
mod cli_client;
#[cfg(feature = "failpoints")]
mod crash;
mod health;
mod house;
mod leaks;
mod outside;
mod process;
mod python_client;
mod tidy;
mod tokens;
