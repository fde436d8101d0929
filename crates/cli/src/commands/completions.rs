//! `wasmplug completions` and `wasmplug man`: generated from the same definition as the help.

use anyhow::Context;
use clap::CommandFactory;

use crate::args::{Arguments, CompletionsArguments, ManArguments};
use crate::output;

pub(super) fn completions(arguments: &CompletionsArguments) -> anyhow::Result<()> {
    let mut script = Vec::new();
    let mut command = Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "wasmplug", &mut script);
    output::data(String::from_utf8(script).context("the completion script is not text")?);
    Ok(())
}

pub(super) fn man(_arguments: &ManArguments) -> anyhow::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Arguments::command()).render(&mut page)?;
    output::data(String::from_utf8(page).context("the manual page is not text")?);
    Ok(())
}
