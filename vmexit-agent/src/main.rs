//! `vmexit`: arguments in, exit code out. Everything else is in the library.

use std::process::ExitCode;

use vmexit::{
    commands::{self, Cli},
    warnings,
};

fn main() -> ExitCode {
    let cli = Cli::typed();
    warnings::init();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("vmexit: the event loop can't be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(commands::run(cli));
    // Else it waits for a write that nobody reads.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vmexit: {error}");
            ExitCode::from(error.code())
        }
    }
}
