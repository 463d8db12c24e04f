//! The vault's stories, told through its doors. One file a subject, one test a story.

mod cli_client;
mod house;
mod tokens;
