//! The `lacuna` program: reads the command line and hands over to [`lacuna::cli`].

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use zeroizing_alloc::ZeroAlloc;

/// Wipes whatever is freed. Requests and answers pass through buffers of libraries that know nothing of secrets.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

/// How long threads that wait for something may go on when all else is done.
const LAST: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    // Where a test wants this process to end: `FAILPOINTS` in the environment.
    #[cfg(feature = "failpoints")]
    let _crashes = fail::FailScenario::setup();
    let cli = lacuna::cli::Cli::parse();
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let status = runtime.block_on(cli.run());
            // Nobody waits for a file system that does not answer.
            runtime.shutdown_timeout(LAST);
            status
        }
        Err(error) => {
            eprintln!("error: the system gives no threads to run on: {error}");
            ExitCode::FAILURE
        }
    }
}
