//! One verb each.

mod check;
mod completions;
mod explain;
mod quickstart;
mod run;
mod schema;

use crate::args::{Arguments, Command};
use crate::environment::Environment;

/// Runs the verb that was asked for.
pub(crate) fn run(arguments: Arguments, environment: &Environment) -> anyhow::Result<()> {
    match arguments.command {
        Command::Quickstart(arguments) => quickstart::run(&arguments, environment),
        Command::Run(arguments) => run::run(&arguments, environment),
        Command::Check(arguments) => check::run(&arguments, environment),
        Command::Explain(arguments) => explain::run(&arguments, environment),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Completions(arguments) => completions::completions(&arguments),
        Command::Man(arguments) => completions::man(&arguments),
    }
}
