//! `wasmplug load`: images out of a file.

use anyhow::Context as _;

use super::save::print;
use crate::args::LoadArguments;
use crate::environment::Environment;
use crate::store;

pub(super) fn run(arguments: &LoadArguments, environment: &Environment) -> anyhow::Result<()> {
    let store = store::open(&arguments.store, environment)?;
    let loaded = store.load(&arguments.file);
    let loaded = loaded.with_context(|| format!("cannot load `{}`", arguments.file.display()))?;
    print(&loaded, arguments.output);
    Ok(())
}
