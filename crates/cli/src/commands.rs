//! One verb each.

mod cache;
mod check;
mod completions;
mod explain;
mod inspect;
mod load;
mod pull;
mod push;
mod quickstart;
mod run;
mod save;
mod schema;
mod sign;
mod verify;

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
        Command::Inspect(arguments) => inspect::run(&arguments, environment),
        Command::Pull(arguments) => pull::run(&arguments, environment),
        Command::Push(arguments) => push::run(&arguments, environment),
        Command::Sign(arguments) => sign::run(&arguments, environment),
        Command::Verify(arguments) => verify::run(&arguments, environment),
        Command::Save(arguments) => save::run(&arguments, environment),
        Command::Load(arguments) => load::run(&arguments, environment),
        Command::Cache(arguments) => cache::run(&arguments, environment),
        Command::Completions(arguments) => completions::completions(&arguments),
        Command::Man(arguments) => completions::man(&arguments),
    }
}
