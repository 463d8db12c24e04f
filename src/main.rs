//! The `lacuna` program: reads the command line and hands over to [`lacuna::cli`].

use std::process::ExitCode;

use clap::Parser as _;
use zeroizing_alloc::ZeroAlloc;

/// Wipes whatever is freed. Requests and answers pass through buffers of libraries that know nothing of secrets.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    // Where a test wants this process to end: `FAILPOINTS` in the environment.
    #[cfg(feature = "failpoints")]
    let _crashes = fail::FailScenario::setup();
    let cli = lacuna::cli::Cli::parse();
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(error) => {
            eprintln!("error: the system gives no threads to run on: {error}");
            ExitCode::FAILURE
        }
    }
}
