//! Runs a guest through a script and compares what happened with a text.
//!
//! A session is the script and its outcome in one: lines that begin with `> ` are commands (see
//! [`session`]), all others are what came of them. `UPDATE_EXPECT=1 cargo test` rewrites the
//! outcomes; a reviewer reads the difference.

mod embedder;
mod guest;
mod session;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use expect_test::Expect;
use wasmplug_host::{
    CompiledModule, Host, Limits, LoadError, NoServices, Plugin, PluginConfig, VmConfig, VmHandle,
};

pub(crate) use self::embedder::Transcript;
use self::embedder::{ManualClock, RecordingLog};
pub(crate) use self::guest::{HOSTCALLS, assemble, pairs};
use self::session::Session;

/// Deadlines that no machine is too busy for; all else as it is by default.
pub(crate) fn patient() -> Limits {
    let deadline = Duration::from_mins(1);
    Limits { callback_deadline: deadline, start_deadline: deadline, ..Limits::default() }
}

/// Runs the commands in `session` on a guest and compares the outcome with it.
pub(crate) fn check(guest: &str, session: Expect) {
    check_with(patient(), guest, session);
}

/// As [`check`], with other limits.
pub(crate) fn check_with(limits: Limits, guest: &str, session: Expect) {
    session.assert_eq(&outcome(limits, guest, session.data()));
}

/// The commands of a script with what came of them.
pub(crate) fn outcome(limits: Limits, guest: &str, script: &str) -> String {
    let transcript = Transcript::default();
    let host = host(&transcript);
    let module = CompiledModule::compile(&host, &assemble(guest))
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    Session::run(host, module, limits, transcript, script)
}

/// A plugin in a VM of its own, without a session.
pub(crate) fn start(host: &Arc<Host>, module: &CompiledModule) -> Plugin {
    let config = VmConfig { limits: patient(), ..VmConfig::default() };
    let vm = VmHandle::start(host, module, config).unwrap();
    let config = PluginConfig { name: "p".into(), ..PluginConfig::default() };
    Plugin::start(&vm, &config, Rc::new(NoServices)).unwrap()
}

/// Why bytes or WebAssembly text do not load: the error, its causes and its hint; or the version.
pub(crate) fn load(module: &[u8]) -> String {
    let module = wat::parse_bytes(module).unwrap_or_else(|_| module.into());
    match CompiledModule::compile(&host(&Transcript::default()), &module) {
        Ok(module) => format!("loads as {}", module.abi_version()),
        Err(error) => explain(&error),
    }
}

/// A host that logs into the transcript, at a time that stands still.
pub(crate) fn host(transcript: &Transcript) -> Arc<Host> {
    let host = Host::new().unwrap();
    let host = host.with_clock(Arc::new(ManualClock));
    Arc::new(host.with_log_sink(Arc::new(RecordingLog(transcript.clone()))))
}

/// An error and its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn explain(error: &LoadError) -> String {
    match error.hint() {
        Some(hint) => format!("{}\nhint: {hint}", chain(error)),
        None => chain(error),
    }
}
