//! The command line: one noun, then a verb.
//!
//! This floor turns arguments into calls and answers into text; it knows the API as any other client does and decides
//! nothing. It must not print a bearer token ever, nor a person's value except as the answer to `token reveal`. A new
//! command is one variant of [`Command`] and one arm of [`Cli::run`].

mod access;
mod admin;
mod approval;
mod audit;
mod backup;
mod bench;
mod bulk;
pub(crate) mod call;
mod callers;
mod client;
mod confirm;
pub(crate) mod consent;
mod custodian;
mod demo;
pub(crate) mod document;
mod drill;
mod erasure;
mod events;
mod failure;
mod fresh;
mod hold;
mod honey;
pub(crate) mod import;
mod keys;
mod media;
pub(crate) mod names;
mod notice;
mod open;
mod page;
mod point;
mod policies;
mod preflight;
mod print;
mod purpose;
mod report;
mod retention;
pub mod serve;
mod subject;
mod table;
mod tally;
mod tls;
mod token;
pub(crate) mod value;
mod vcon;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};

use client::Noun;
use failure::Result;
use print::Output;

/// Told at the end of `--help`.
const EXIT_STATUS: &str = "\
Exit status:
  0  done; an erasure that is SCHEDULED or PENDING counts, its state tells
  1  the vault refused or nothing is permitted, at least one item of a batch failed, a rotation was given up, an erasure does not hold, or the audit is not intact
  2  the command line, a file that it names or its input is wrong
  3  the server cannot be reached";

/// A privacy vault that can truly forget: tokens for personal data, and erasure that reaches every backup.
#[derive(Parser)]
#[command(name = "lacuna", version, after_help = EXIT_STATUS, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The nouns, and what is no noun.
#[derive(Subcommand)]
enum Command {
    /// Serve a vault; with no configuration, an embedded one in ./lacuna-data
    Serve(serve::Args),
    /// Make a vault without serving it
    Init(admin::Here),
    /// Bring the database's schema up to date
    Migrate(admin::Here),
    /// Look at the keys, rotate them, and see whether an erasure holds
    #[command(after_help = EXIT_STATUS)]
    Keys(keys::Args),
    /// Back up the database, beside a running vault
    Backup(backup::BackupArgs),
    /// Put a backup in place; whoever was erased since stays erased
    Restore(backup::RestoreArgs),
    /// See the vault at work, and the attack that it withstands, in a temporary folder
    Demo(demo::Args),
    /// Check erasure receipts, offline
    Receipt(admin::ReceiptArgs),
    /// Check a configuration
    Config(admin::ConfigArgs),
    /// Exchange values for tokens, and tokens and a purpose for values.
    #[command(after_help = EXIT_STATUS)]
    Token(Noun<token::Verb>),
    /// Open, restrict and erase people.
    #[command(after_help = EXIT_STATUS)]
    Subject(Noun<subject::Verb>),
    /// Ask what is permitted, and record what people decide.
    #[command(after_help = EXIT_STATUS)]
    Consent(Noun<consent::Verb>),
    /// Define what personal data may be used for, look at it, and retire it.
    #[command(after_help = EXIT_STATUS)]
    Purpose(Noun<purpose::Verb>),
    /// Publish what people are told before they decide.
    #[command(after_help = EXIT_STATUS)]
    Notice(Noun<notice::Verb>),
    /// Say where consent is collected.
    #[command(after_help = EXIT_STATUS)]
    CollectionPoint(Noun<point::Verb>),
    /// Define how long values are kept.
    #[command(after_help = EXIT_STATUS)]
    Retention(Noun<retention::Verb>),
    /// Hold copies of values for a case, whatever becomes of the values.
    #[command(after_help = EXIT_STATUS)]
    Hold(Noun<hold::Verb>),
    /// Follow erasures, cancel scheduled ones, fetch receipts.
    #[command(after_help = EXIT_STATUS)]
    Erasure(Noun<erasure::Verb>),
    /// See who did what, whether the log is as it was written, and who is affected by a breach.
    #[command(after_help = EXIT_STATUS)]
    Audit(Noun<audit::Verb>),
    /// Tell who calls a contact centre, record calls, and look at them.
    #[command(after_help = EXIT_STATUS)]
    Call(Noun<call::Verb>),
    /// Follow what changes, and see which systems have been told.
    #[command(after_help = EXIT_STATUS)]
    Events(Noun<events::Verb>),
    /// Seal and open recordings that lie in an object store.
    Media(media::Args),
    /// Make certificates for trying out TLS.
    Tls(tls::Args),
    /// See who may do what and why, and put an end to it.
    #[command(after_help = EXIT_STATUS)]
    Access(Noun<access::Verb>),
    /// Decide about what callers want to read in bulk.
    #[command(after_help = EXIT_STATUS)]
    Approval(Noun<approval::Verb>),
    /// Place people who do not exist, and be told of whoever touches them.
    #[command(after_help = EXIT_STATUS)]
    Honey(Noun<honey::Verb>),
    /// Measure a running vault beside a bare gRPC echo.
    #[command(after_help = EXIT_STATUS)]
    Bench(bench::Args),
    /// Check conversations in the vCon format, record them as calls, and write calls as such.
    #[command(after_help = EXIT_STATUS)]
    Vcon(vcon::Args),
    /// Write a completion script for a shell to standard output.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// Carries the command out and tells how it went.
    pub async fn run(self) -> ExitCode {
        match self.command {
            Command::Serve(args) => Output::Human.finish(serve::run(args).await.map_err(Into::into)),
            Command::Init(here) => here.output.finish(admin::init(here).await),
            Command::Migrate(here) => here.output.finish(admin::migrate(here).await),
            Command::Keys(args) => args.output().finish(keys::run(args).await),
            Command::Backup(args) => args.here.output.finish(backup::backup(args).await),
            Command::Restore(args) => args.here.output.finish(backup::restore(args).await),
            Command::Demo(args) => Output::Human.finish(demo::run(args).await),
            Command::Receipt(args) => args.output.finish(admin::receipt(args)),
            Command::Config(args) => Output::Human.finish(admin::config(args).await),
            Command::Token(noun) => noun.run(token::run).await,
            Command::Subject(noun) => noun.run(subject::run).await,
            Command::Consent(noun) => noun.run(consent::run).await,
            Command::Purpose(noun) => noun.run(purpose::run).await,
            Command::Notice(noun) => noun.run(notice::run).await,
            Command::CollectionPoint(noun) => noun.run(point::run).await,
            Command::Retention(noun) => noun.run(retention::run).await,
            Command::Hold(noun) => noun.run(hold::run).await,
            Command::Erasure(noun) => noun.run(erasure::run).await,
            Command::Audit(noun) => noun.run(audit::run).await,
            Command::Events(noun) => noun.run(events::run).await,
            Command::Call(noun) => noun.run(call::run).await,
            Command::Media(args) => args.remote.output.finish(Box::pin(media::run(args)).await),
            Command::Tls(args) => args.output().finish(tls::run(&args)),
            Command::Access(noun) => noun.run(access::run).await,
            Command::Approval(noun) => noun.run(approval::run).await,
            Command::Honey(noun) => noun.run(honey::run).await,
            Command::Bench(args) => args.remote.output.finish(bench::run(args).await),
            Command::Vcon(args) => args.output().finish(Box::pin(vcon::run(args)).await),
            Command::Completions { shell } => Output::Human.finish(completions(shell)),
        }
    }
}

/// Writes the completion script. Through memory, because the generator panics when a pipe closes early.
fn completions(shell: clap_complete::Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lacuna", &mut script);
    print::line(String::from_utf8(script).context("the completion script is no text")?.trim_end())
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory as _, Parser as _};

    #[test]
    fn command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    /// The commands that a help shows, without what the shell does with them.
    fn examples(command: &Command, found: &mut Vec<Vec<String>>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines().filter_map(|line| line.find("lacuna ").and_then(|at| line.get(at..))) {
            // Every other piece stands in quotation marks.
            let pieces = line.split(" <").next().unwrap_or_default().split('\'').enumerate();
            let words = pieces.flat_map(|(at, piece)| match at % 2 {
                0 => piece.split_whitespace().map(str::to_owned).collect(),
                _ => vec![piece.to_owned()],
            });
            found.push(words.collect());
        }
        command.get_subcommands().for_each(|below| examples(below, found));
    }

    #[test]
    fn examples_are_commands() {
        let mut found = Vec::new();
        examples(&super::Cli::command(), &mut found);
        assert!(found.len() > 15, "{found:?}");
        for words in found {
            assert!(super::Cli::try_parse_from(&words).map_err(|error| println!("{error}")).is_ok(), "{words:?}");
        }
    }
}
