//! stories

mod cli_client;
