//! `lacuna call`: the calls of a contact centre.

mod decide;
mod lookup;

use clap::Subcommand;

use super::client::Remote;
use super::failure::Result;

/// What can be done with calls.
#[derive(Subcommand)]
pub enum Verb {
    /// Decide whether a call may be recorded; exit status 1 when it must not.
    Decide(decide::Decide),
    /// Tell who calls, and what an agent may see of them.
    Lookup(lookup::Lookup),
}

/// Carries out a verb and shows the answer.
pub async fn run(remote: Remote, verb: Verb) -> Result<()> {
    let answer = match verb {
        Verb::Decide(decide) => decide.run(&remote).await?,
        Verb::Lookup(lookup) => lookup.run(&remote).await?,
    };
    remote.output.show(&answer)
}
