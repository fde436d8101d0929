//! What a client sees when a plugin fails, by its `failStrategy`.

use serde_json::{Value, json};
use wasmplug_api::{FailStrategy, PlannedPlugin};

/// One way to fail.
pub(super) struct Failure {
    /// For scripts.
    key: &'static str,
    pub(super) what: &'static str,
    close: &'static str,
    open: &'static str,
}

/// Source: the data plane's own behaviour; `docs/compatibility.md` compares it with Istio's.
pub(super) const FAILURES: [Failure; 9] = [
    Failure {
        key: "fetch",
        what: "the module cannot be fetched",
        close: "403 for every request",
        open: "skipped",
    },
    Failure {
        key: "verify",
        what: "it is not what sha256 wants",
        close: "403 for every request",
        open: "skipped",
    },
    Failure {
        key: "compile",
        what: "it does not compile",
        close: "503 for every request",
        open: "skipped",
    },
    Failure {
        key: "configure",
        what: "it does not start or configure",
        close: "503 for every request",
        open: "skipped",
    },
    Failure {
        key: "update",
        what: "any of these in an update",
        close: "the last good form goes on",
        open: "the last good form goes on",
    },
    Failure {
        key: "callback",
        what: "a callback traps",
        close: "503 for its streams, then a fresh VM",
        open: "its streams go on without it, then a fresh VM",
    },
    Failure {
        key: "deadline",
        what: "a callback exceeds its deadline",
        close: "503 for its streams, then a fresh VM",
        open: "its streams go on without it, then a fresh VM",
    },
    Failure {
        key: "memory",
        what: "it wants more memory than it may have",
        close: "memory.grow fails; if it traps then, as above",
        open: "memory.grow fails; if it traps then, as above",
    },
    Failure {
        key: "repeated",
        what: "it keeps failing",
        close: "503 until the back-off is over",
        open: "skipped until the back-off is over",
    },
];

// === impl Failure ===

impl Failure {
    pub(super) fn effect(&self, strategy: FailStrategy) -> &'static str {
        if is_open(strategy) { self.open } else { self.close }
    }
}

/// `FAIL_RELOAD` is as good as `FAIL_CLOSE`: a VM is replaced in any case.
pub(super) fn is_open(strategy: FailStrategy) -> bool {
    strategy == FailStrategy::FailOpen
}

/// The matrix of one plugin, for scripts.
pub(super) fn matrix(plugin: &PlannedPlugin) -> Value {
    let effects: serde_json::Map<String, Value> = FAILURES
        .iter()
        .map(|failure| (failure.key.to_owned(), failure.effect(plugin.fail_strategy).into()))
        .collect();
    json!({
        "resource": plugin.resource,
        "failStrategy": plugin.fail_strategy,
        "effects": effects,
    })
}
