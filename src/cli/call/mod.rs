//! `lacuna call`: the calls of a contact centre.

mod decide;
mod erase;
mod event;
pub(crate) mod import;
mod lookup;
mod part;
mod record;
mod relink;

use clap::Subcommand;

use super::client::Remote;
use super::failure::Result;

/// What can be done with calls.
#[derive(Subcommand)]
pub enum Verb {
    /// Decide whether a call may be recorded; exit status 1 when it must not.
    Decide(decide::Decide),
    /// Record the calls that files of a telephone system tell of.
    #[command(after_help = import::EXAMPLES)]
    Import(import::Import),
    /// Tell who calls, and what an agent may see of them.
    Lookup(lookup::Lookup),
    /// Record a leg of a call, or a higher revision of one.
    Upsert(Box<record::Upsert>),
    /// Attach a recording, a transcript or another part to a call.
    Attach(Box<part::Attach>),
    /// Describe a call; with a purpose, with its values.
    Show(record::Show),
    /// Tell what happens during calls; exit status 1 when an event is refused.
    Event(event::Append),
    /// Destroy parts of a call, in every backup too.
    EraseParts(erase::EraseParts),
    /// Say that a call was somebody else's, or that nobody knows whose.
    Relink(relink::Relink),
    /// List calls, oldest recorded first; never a value.
    List(record::List),
}

/// Carries out a verb and shows the answer.
pub async fn run(remote: Remote, verb: Verb) -> Result<()> {
    let answer = match verb {
        Verb::Decide(decide) => decide.run(&remote).await,
        Verb::Import(import) => return import.run(&remote).await,
        Verb::Lookup(lookup) => lookup.run(&remote).await,
        Verb::Upsert(upsert) => upsert.run(&remote).await,
        Verb::Attach(attach) => attach.run(&remote).await,
        Verb::Show(show) => show.run(&remote).await,
        Verb::Event(append) => return append.run(&remote).await,
        Verb::EraseParts(erase) => erase.run(&remote).await,
        Verb::Relink(relink) => relink.run(&remote).await,
        Verb::List(list) => list.run(&remote).await,
    };
    remote.output.show(&answer?)
}
