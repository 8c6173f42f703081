//! The program `vmexit`: parses the arguments, runs the command, returns its exit code.

use std::process::ExitCode;

use vmexit::{
    commands::{self, Cli},
    warnings,
};

fn main() -> ExitCode {
    let cli = Cli::from_env();
    // Dropped last: writes what is left of the log.
    let _log = warnings::init();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            warnings::say(format_args!("the event loop can't be started: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(commands::run(cli));
    // Dropping the runtime would wait for a blocked write to standard output.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            warnings::say(error.to_string());
            ExitCode::from(error.code())
        }
    }
}
