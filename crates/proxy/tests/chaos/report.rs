//! What a run did, as numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::ask::{Ask, Verdict};

/// Counted by the clients.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    /// The whole right answer.
    pub(crate) right: u64,
    /// Broken in the way that was asked for.
    pub(crate) as_broken: u64,
    /// Refused, or gone on without a plugin, because of somebody else's death.
    pub(crate) neighbours: u64,
    pub(crate) wrong: u64,
    /// Clients that did not do as they should, whose answers nobody waits for.
    pub(crate) strays: u64,
    /// Three requests at once.
    pub(crate) pipelined: u64,
    /// Further requests to see whether plugins run again.
    pub(crate) probes: u64,
    broken_by: BTreeMap<String, u64>,
}

/// Memory and files at one time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) resident_kib: u64,
    pub(crate) files: usize,
}

// === impl Totals ===

impl Totals {
    pub(crate) fn count(&mut self, ask: &Ask, verdict: Option<&Verdict>) {
        self.requests += 1;
        let counter = match verdict {
            Some(Verdict::Right) => &mut self.right,
            Some(Verdict::AsBroken) => &mut self.as_broken,
            Some(Verdict::Neighbour) => &mut self.neighbours,
            None => &mut self.wrong,
        };
        *counter += 1;
        if let Some(what) = ask.what_is_broken() {
            *self.broken_by.entry(what).or_default() += 1;
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "requests": self.requests,
            "verified": self.requests - self.wrong,
            "right": self.right,
            "broken_as_asked": self.as_broken,
            "neighbours_of_a_death": self.neighbours,
            "wrong": self.wrong,
            "stray_clients": self.strays,
            "pipelines": self.pipelined,
            "probes": self.probes,
            "broken_by": self.broken_by,
        })
    }
}

/// By how much memory may grow after the warm-up of a long run and still count as flat: what an
/// allocator keeps varies by some parts of a hundred.
const MOST_GROWTH_PERCENT: u64 = 10;

/// Checks a long run; a short one is over before memory is warm.
pub(crate) fn assert_flat(is_long: bool, after_warm_up: u64, at_end: u64) {
    let most = after_warm_up + after_warm_up * MOST_GROWTH_PERCENT / 100;
    assert!(!is_long || at_end <= most, "memory grew from {after_warm_up} to {at_end} KiB");
}

/// Two columns in Markdown, nested objects left out.
pub(crate) fn table(report: &Value) -> String {
    let mut table = String::from("| what | value |\n|---|---:|\n");
    for (name, value) in report.as_object().into_iter().flatten() {
        if !value.is_object() {
            let _ = writeln!(table, "| {} | {value} |", name.replace('_', " "));
        }
    }
    table
}

/// Prints the table, and writes the JSON where the environment names a file.
pub(crate) fn publish(name: &str, report: &Value) {
    println!("{}", table(report));
    if let Some(folder) = std::env::var_os(crate::REPORTS_VARIABLE) {
        let path = std::path::Path::new(&folder).join(format!("{name}.json"));
        std::fs::write(path, serde_json::to_string_pretty(report).unwrap() + "\n").unwrap();
    }
}
