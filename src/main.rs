//! The `lacuna` program: reads the command line and hands over to [`lacuna::cli`].

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = lacuna::cli::Cli::parse();
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(error) => {
            eprintln!("error: the system gives no threads to run on: {error}");
            ExitCode::FAILURE
        }
    }
}
