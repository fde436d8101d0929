//! One verb each.

mod completions;
mod quickstart;
mod run;

use crate::args::{Arguments, Command};
use crate::environment::Environment;

/// Runs the verb that was asked for.
pub(crate) fn run(arguments: Arguments, environment: &Environment) -> anyhow::Result<()> {
    match arguments.command {
        Command::Quickstart(arguments) => quickstart::run(&arguments, environment),
        Command::Run(arguments) => run::run(&arguments, environment),
        Command::Completions(arguments) => completions::completions(&arguments),
        Command::Man(arguments) => completions::man(&arguments),
    }
}
