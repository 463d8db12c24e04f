//! `lacuna call`: the calls of a contact centre.

mod lookup;

use clap::Subcommand;

use super::client::Remote;
use super::failure::Result;

/// What can be done with calls.
#[derive(Subcommand)]
pub enum Verb {
    /// Tell who calls, and what an agent may see of them.
    Lookup(lookup::Lookup),
}

/// Carries out a verb and shows the answer.
pub async fn run(remote: Remote, verb: Verb) -> Result<()> {
    let answer = match verb {
        Verb::Lookup(lookup) => lookup.run(&remote).await?,
    };
    remote.output.show(&answer)
}
