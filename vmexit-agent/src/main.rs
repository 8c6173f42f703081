//! The program `vmexit`: parses the arguments, runs the command, returns its exit code.

use std::process::ExitCode;

use vmexit::{
    commands::{self, Cli},
    warnings,
};

fn main() -> ExitCode {
    let cli = Cli::from_env();
    warnings::init();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("vmexit: the event loop can't be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(commands::run(cli));
    // Dropping the runtime would wait for a blocked write to standard output.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vmexit: {error}");
            ExitCode::from(error.code())
        }
    }
}
