//! `lacuna bench`: how fast a running vault is, beside a bare gRPC echo of the same messages in the same run.
//!
//! The load is a closed loop: as many calls as asked for are always in flight, over one connection, and each waits for
//! its answer before the next. So a slow vault is asked less often, and its percentiles hide no queue of our making; they
//! are not what an open stream of arrivals would see. The echo runs inside this process: the ratio says what the vault's
//! work costs over the transport alone, on a machine that all of them share.
//!
//! `lacuna bench cost` compares vaults with each other instead, and opens them itself; so do `lacuna bench lookup`, where calls
//! arrive at a rate of their own, and `lacuna bench import`.

mod cost;
mod echo;
mod import;
mod inside;
mod keys;
mod load;
mod lookup;
mod measure;
mod own;
mod permission;
mod report;
mod turns;

use std::time::Duration;

use clap::ValueEnum;

use super::client::{Remote, Vault};
use super::failure::{Failure, Result};
use load::Corpus;
use measure::{Measure, Pace};
use report::{Report, Row};

/// What to measure, and how hard.
#[derive(clap::Args)]
pub struct Args {
    /// What to measure
    #[arg(value_enum, value_name = "WHAT")]
    what: Choice,
    /// Which vault, and how to show the figures.
    #[command(flatten)]
    pub remote: Remote,
    /// Calls in flight at any time
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=4096))]
    in_flight: u32,
    /// Seconds per measurement
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    #[command(flatten)]
    lookups: lookup::Load,
    #[command(flatten)]
    imports: import::Volume,
    #[command(flatten)]
    place: own::Place,
}

/// What can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// `Tokenize`: a new subject with e-mail, phone and name.
    Tokenize,
    /// `Detokenize`: one token a call.
    Reveal,
    /// `Detokenize`: 100 tokens a call.
    RevealBatch,
    /// `DetokenizeStream`: one token a request, pipelined.
    RevealStream,
    /// `EraseSubject`: people prepared before, never one twice.
    Erase,
    /// Everything so far, one after the other.
    All,
    /// `Detokenize` beside changes of keys: what readers notice of rotations and of erasures of others.
    Keys,
    /// `Detokenize` under a purpose that rests on a contract, and under one that rests on consent: what the decision costs.
    Permission,
    /// `Detokenize` with and without TLS, tokens of issuers and policies, in vaults of its own: what each of them costs, and
    /// the audit.
    Cost,
    /// `LookupByCaller` at a fixed rate, in a vault of its own that is filled first, beside what the bare store needs.
    Lookup,
    /// `ImportCdr` of many calls, in a vault of its own, beside what the bare store needs for the same rows.
    Import,
}

/// One thing that is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// `Tokenize`.
    Tokenize,
    /// `Detokenize` of one token.
    Reveal,
    /// `Detokenize` of ten tokens.
    RevealTen,
    /// `Detokenize` of a hundred tokens.
    RevealBatch,
    /// `DetokenizeStream`.
    RevealStream,
    /// `EraseSubject`.
    Erase,
}

impl What {
    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tokenize => "tokenize",
            Self::Reveal => "reveal",
            Self::RevealTen => "reveal-ten",
            Self::RevealBatch => "reveal-batch",
            Self::RevealStream => "reveal-stream",
            Self::Erase => "erase",
        }
    }

    /// Values that one operation seals or gives back.
    pub const fn values(self) -> u32 {
        match self {
            Self::Tokenize => 3,
            Self::Reveal | Self::RevealStream => 1,
            Self::RevealTen => 10,
            Self::RevealBatch => 100,
            Self::Erase => 0,
        }
    }
}

impl Choice {
    const fn list(self) -> &'static [What] {
        match self {
            Self::Tokenize => &[What::Tokenize],
            Self::Reveal => &[What::Reveal],
            Self::RevealBatch => &[What::RevealBatch],
            Self::RevealStream => &[What::RevealStream],
            Self::Erase => &[What::Erase],
            Self::Keys | Self::Permission | Self::Cost | Self::Lookup | Self::Import => &[],
            Self::All => &[What::Tokenize, What::Reveal, What::RevealBatch, What::RevealStream, What::Erase],
        }
    }
}

/// Measures what was asked for and shows the figures. Any error makes the command fail.
pub async fn run(args: Args) -> Result<()> {
    let pace = Pace { in_flight: args.in_flight, span: Duration::from_secs(args.seconds.into()) };
    let output = args.remote.output;
    match args.what {
        Choice::Keys => return output.show(&keys::run(&args.remote, pace).await?),
        Choice::Permission => return output.show(&permission::run(&args.remote, pace).await?),
        Choice::Cost => return output.show(&cost::run(pace).await?),
        Choice::Lookup => return output.show(&lookup::run(&args.lookups, &args.place, pace).await?),
        Choice::Import => return output.show(&import::run(&args.imports, &args.place).await?),
        _ => {}
    }
    let mut report = Report::new(args.remote.address(), pace);
    for what in args.what.list() {
        report.rows.push(row(&args.remote, *what, pace).await?);
    }
    output.show(&report.answer())
}

/// Prepares what is needed, measures the vault, then the echo.
async fn row(remote: &Remote, what: What, pace: Pace) -> Result<Row> {
    let vault = remote.open().await?;
    eprintln!("{}: preparing", what.name());
    let corpus = Corpus::prepare(&vault, what, pace).await?;
    eprintln!("{}: measuring the vault, then the echo, {} s each", what.name(), pace.span.as_secs());
    let measured = measure(&vault, what, &corpus, pace).await?;
    let echo = echo::start().await.map_err(|error| Failure::Usage(error.context("the echo cannot be started")))?;
    let echoed = measure(&echo, what, &corpus.again(), pace).await?;
    Ok(Row { what, vault: measured, echo: echoed })
}

async fn measure(vault: &Vault, what: What, corpus: &Corpus, pace: Pace) -> Result<Measure> {
    let empty = Measure::empty()?;
    Ok(match what {
        What::RevealStream => measure::pipeline(vault, corpus, pace, empty).await,
        _ => measure::closed_loop(vault, what, corpus, pace, empty).await,
    })
}
