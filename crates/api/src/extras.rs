//! What a plugin's resource asks for by annotations, because Istio's schema has no field for it.
//!
//! All of them begin with [`PREFIX`], so that Istio and Envoy pass them over.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::diagnostic::{quoted, with_causes};
use crate::digest::Digest;
use crate::module_url::ModuleUrl;
use crate::plugin_config::plugin_config_json;

/// What the names of these annotations begin with.
pub const PREFIX: &str = "wasmplug.dev/";

/// How many VMs a plugin has: `worker` or `process`.
pub const VM_SCOPE: &str = "wasmplug.dev/vm-scope";
/// Limits of the plugin's VM, as `NAME=VALUE` with commas between them.
pub const LIMITS: &str = "wasmplug.dev/limits";
/// Module of another version of the plugin, which some or all requests meet.
pub const CANDIDATE_URL: &str = "wasmplug.dev/candidate-url";
/// Digest of that module or image, in hexadecimal digits.
pub const CANDIDATE_SHA256: &str = "wasmplug.dev/candidate-sha256";
/// Its `pluginConfig`, a JSON object. Absent: that of the resource.
pub const CANDIDATE_CONFIG: &str = "wasmplug.dev/candidate-config";
/// `canary`: it takes the place of the plugin. `shadow`: it sees a copy, and what it does counts
/// for nothing. Default: `canary`.
pub const CANDIDATE_MODE: &str = "wasmplug.dev/candidate-mode";
/// Per cent of the requests that it sees, 0 to 100.
pub const CANDIDATE_PERCENT: &str = "wasmplug.dev/candidate-percent";
/// Header of the requests that it sees: `NAME`, or `NAME=VALUE`.
pub const CANDIDATE_HEADER: &str = "wasmplug.dev/candidate-header";
/// Streams that it may fail in one window before it is given up, from 1.
pub const CANDIDATE_MAX_FAILURES: &str = "wasmplug.dev/candidate-max-failures";
/// Mean time that it may take for a stream, in microseconds, from 1. Absent: any.
pub const CANDIDATE_MAX_LATENCY: &str = "wasmplug.dev/candidate-max-latency-us";
/// Length of a window, in seconds, from 1.
pub const CANDIDATE_WINDOW: &str = "wasmplug.dev/candidate-window-seconds";

/// All names that mean something.
const NAMES: [&str; 11] = [
    VM_SCOPE,
    LIMITS,
    CANDIDATE_URL,
    CANDIDATE_SHA256,
    CANDIDATE_CONFIG,
    CANDIDATE_MODE,
    CANDIDATE_PERCENT,
    CANDIDATE_HEADER,
    CANDIDATE_MAX_FAILURES,
    CANDIDATE_MAX_LATENCY,
    CANDIDATE_WINDOW,
];

/// Default of [`CANDIDATE_MAX_FAILURES`]. Source: ours.
const MAX_FAILURES: u32 = 5;
/// Default of [`CANDIDATE_WINDOW`]. Source: ours.
const WINDOW: Duration = Duration::from_mins(1);
/// Longest window, in seconds.
const LONGEST_WINDOW: u32 = 86_400;

/// How many VMs a plugin has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum VmScope {
    /// One on each worker.
    #[default]
    Worker,
    /// One for the whole process, on a thread of its own.
    Process,
}

/// What annotations of a plugin ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginExtras {
    /// How many VMs it has.
    pub vm_scope: VmScope,
    /// Limits of its VM by name; what they may be is known to who runs it.
    pub limits: BTreeMap<String, String>,
    /// Another version of it.
    pub candidate: Option<Box<Candidate>>,
}

/// Another version of a plugin, and who meets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Where its module is.
    pub url: ModuleUrl,
    /// What the module's (or image's) digest must be; absent for no check.
    pub sha256: Option<Digest>,
    /// Its configuration as JSON text; absent for that of the resource.
    pub configuration: Option<String>,
    /// Whether what it does counts.
    pub mode: CandidateMode,
    /// Which requests it sees.
    pub split: Split,
    /// When it is given up.
    pub threshold: Threshold,
}

/// Whether what a candidate does counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CandidateMode {
    /// It takes the place of the plugin.
    #[default]
    Canary,
    /// It sees a copy of the stream; what it does is recorded and counts for nothing.
    Shadow,
}

/// Which requests a candidate sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Split {
    /// So many of a hundred, by the hash of `x-request-id`.
    Percent(u8),
    /// Those with this header.
    Header {
        /// Its name, in lower case.
        name: String,
        /// What it must be; absent for anything.
        value: Option<String>,
    },
}

/// When a candidate is given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Threshold {
    /// Streams that it may fail in one window; with one more it is given up.
    pub max_failures: u32,
    /// Mean time that it may take for a stream, in microseconds; absent for any.
    pub max_latency_us: Option<u32>,
    /// Length of a window, in seconds.
    pub window_seconds: u32,
}

/// An annotation that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExtraProblem {
    pub(crate) annotation: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

type Annotations = BTreeMap<String, String>;

// === impl PluginExtras ===

impl PluginExtras {
    /// Whether it asks for what only plugins of HTTP can have.
    pub(crate) fn needs_http(&self) -> bool {
        self.vm_scope != VmScope::default() || self.candidate.is_some()
    }

    /// Reads the annotations of a resource; every problem is told.
    pub(crate) fn read(annotations: &Annotations) -> Result<Self, Vec<ExtraProblem>> {
        let mut problems = unknown(annotations);
        let vm_scope = read(annotations, VM_SCOPE, &mut problems, |text| match text {
            "worker" => Ok(VmScope::Worker),
            "process" => Ok(VmScope::Process),
            _ => Err("must be `worker` or `process`".to_owned()),
        });
        let limits = read(annotations, LIMITS, &mut problems, limits);
        let candidate = Candidate::read(annotations, &mut problems);
        if candidate.is_some() && vm_scope == Some(VmScope::Process) {
            let message = "a plugin with one VM for the process has no candidate";
            problems.push(problem(VM_SCOPE, message.to_owned()));
        }
        if problems.is_empty() {
            let (vm_scope, limits) = (vm_scope.unwrap_or_default(), limits.unwrap_or_default());
            Ok(Self { vm_scope, limits, candidate: candidate.map(Box::new) })
        } else {
            Err(problems)
        }
    }
}

// === impl Candidate ===

impl Candidate {
    fn read(annotations: &Annotations, problems: &mut Vec<ExtraProblem>) -> Option<Self> {
        let is_of_candidate = |name: &&String| name.starts_with("wasmplug.dev/candidate-");
        let first = annotations.keys().find(is_of_candidate)?;
        if !annotations.contains_key(CANDIDATE_URL) {
            let hint = Some(format!("name its module by `{CANDIDATE_URL}`"));
            let message = "there is no candidate that it could be about".to_owned();
            problems.push(ExtraProblem { annotation: first.clone(), message, hint });
            return None;
        }
        let url = read(annotations, CANDIDATE_URL, problems, |text| {
            ModuleUrl::parse(text).map_err(|error| with_causes(&error))
        });
        let sha256 = read(annotations, CANDIDATE_SHA256, problems, |text| {
            text.parse::<Digest>().map_err(|error| error.to_string())
        });
        let configuration = read(annotations, CANDIDATE_CONFIG, problems, configuration);
        let mode = read(annotations, CANDIDATE_MODE, problems, |text| match text {
            "canary" => Ok(CandidateMode::Canary),
            "shadow" => Ok(CandidateMode::Shadow),
            _ => Err("must be `canary` or `shadow`".to_owned()),
        });
        let mode = mode.unwrap_or_default();
        let split = split(annotations, mode, problems);
        let mut number =
            |name, most| read(annotations, name, problems, |text| number(text, 1, most));
        let max_failures = number(CANDIDATE_MAX_FAILURES, u32::MAX).unwrap_or(MAX_FAILURES);
        let max_latency_us = number(CANDIDATE_MAX_LATENCY, u32::MAX);
        let window = u32::try_from(WINDOW.as_secs()).unwrap_or(LONGEST_WINDOW);
        let window_seconds = number(CANDIDATE_WINDOW, LONGEST_WINDOW).unwrap_or(window);
        let threshold = Threshold { max_failures, max_latency_us, window_seconds };
        Some(Self { url: url?, sha256, configuration, mode, split: split?, threshold })
    }
}

fn split(
    annotations: &Annotations,
    mode: CandidateMode,
    problems: &mut Vec<ExtraProblem>,
) -> Option<Split> {
    let percent = read(annotations, CANDIDATE_PERCENT, problems, |text| {
        number(text, 0, 100).map(|percent| u8::try_from(percent).unwrap_or(100))
    });
    let header = read(annotations, CANDIDATE_HEADER, problems, header);
    let given = |name| annotations.contains_key(name);
    match (given(CANDIDATE_PERCENT), given(CANDIDATE_HEADER)) {
        (true, true) => {
            let message = format!("cannot be given together with `{CANDIDATE_PERCENT}`");
            problems.push(problem(CANDIDATE_HEADER, message));
            None
        }
        (false, false) if mode == CandidateMode::Shadow => Some(Split::Percent(100)),
        (false, false) => {
            let message = "no request would meet the candidate".to_owned();
            let hint = format!("give `{CANDIDATE_PERCENT}` or `{CANDIDATE_HEADER}`");
            let annotation = CANDIDATE_URL.to_owned();
            problems.push(ExtraProblem { annotation, message, hint: Some(hint) });
            None
        }
        _ => percent.map(Split::Percent).or(header),
    }
}

/// Nothing if the annotation is absent or cannot be read; that is told.
fn read<T>(
    annotations: &Annotations,
    name: &'static str,
    problems: &mut Vec<ExtraProblem>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    match parse(annotations.get(name)?) {
        Ok(value) => Some(value),
        Err(message) => {
            problems.push(problem(name, message));
            None
        }
    }
}

/// Reads `NAME=VALUE, NAME=VALUE`.
fn limits(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut limits = BTreeMap::new();
    for setting in text.split(',').map(str::trim) {
        let parts = setting.split_once('=').filter(|(name, value)| {
            let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
            !name.is_empty() && name.bytes().all(is_name) && !value.is_empty()
        });
        let Some((name, value)) = parts else {
            return Err(format!("{} is not of the form NAME=VALUE", quoted(setting)));
        };
        if limits.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(format!("sets {} twice", quoted(name)));
        }
    }
    Ok(limits)
}

fn problem(name: &str, message: String) -> ExtraProblem {
    ExtraProblem { annotation: name.to_owned(), message, hint: None }
}

/// Names with our prefix that mean nothing: slips of the pen.
fn unknown(annotations: &Annotations) -> Vec<ExtraProblem> {
    let names = annotations.keys().filter(|name| name.starts_with(PREFIX));
    let unknown = names.filter(|name| !NAMES.contains(&name.as_str()));
    let problem = |name: &String| ExtraProblem {
        annotation: name.clone(),
        message: "means nothing".to_owned(),
        hint: Some(format!("there are {}", NAMES.map(|name| format!("`{name}`")).join(", "))),
    };
    unknown.map(problem).collect()
}

fn number(text: &str, least: u32, most: u32) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| {
        format!("must be a whole number from {least} to {most}, not `{}`", quoted(text))
    })
}

fn configuration(text: &str) -> Result<String, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(plugin_config_json(&map)),
        Ok(_) => Err("must be a JSON object".to_owned()),
        // What serde says quotes nothing of the text, which may hold secrets.
        Err(error) => Err(format!("is not JSON: {error}")),
    }
}

fn header(text: &str) -> Result<Split, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err("must be the name of a header, or `NAME=VALUE`".to_owned());
    }
    Ok(Split::Header { name: name.to_ascii_lowercase(), value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<PluginExtras, Vec<String>> {
        let annotations = pairs.iter().map(|(name, value)| {
            let name =
                if name.contains('/') { (*name).to_owned() } else { format!("{PREFIX}{name}") };
            (name, (*value).to_owned())
        });
        let problems = |problems: Vec<ExtraProblem>| {
            let texts = problems.into_iter();
            texts.map(|of| format!("{}: {}", of.annotation, of.message)).collect()
        };
        PluginExtras::read(&annotations.collect()).map_err(problems)
    }

    #[test]
    fn without_annotations_of_ours_nothing_is_asked_for() {
        let expected = Ok(PluginExtras::default());
        assert_eq!(read(&[]), expected);
        assert_eq!(read(&[("example.com/vm-scope", "any")]), expected);
        assert_eq!(read(&[("vm-scope", "worker")]), expected);
    }

    #[test]
    fn a_vm_for_the_process_is_asked_for_by_name() {
        assert_eq!(read(&[("vm-scope", "process")]).unwrap().vm_scope, VmScope::Process);
        for wrong in ["", "Process", "thread"] {
            let expected = "wasmplug.dev/vm-scope: must be `worker` or `process`";
            assert_eq!(read(&[("vm-scope", wrong)]).unwrap_err(), [expected]);
        }
    }

    #[test]
    fn limits_are_names_with_values() {
        let limits = |text| read(&[("limits", text)]).map(|extras| extras.limits);
        let expected = [("memory_bytes", "16M"), ("queues", "7")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(limits("queues=7, memory_bytes=16M").unwrap(), expected.into());
        for wrong in ["", "queues", "=7", "queues=", "Queues=7", "queues=7,", "queues=7,queues=8"] {
            assert_eq!(limits(wrong).unwrap_err().len(), 1, "{wrong}");
        }
    }

    #[test]
    fn a_candidate_has_a_module_a_split_and_defaults() {
        let pairs = [("candidate-url", "oci://r.io/a:2"), ("candidate-percent", "10")];
        let candidate = read(&pairs).unwrap().candidate.unwrap();
        assert_eq!((candidate.mode, candidate.split), (CandidateMode::Canary, Split::Percent(10)));
        let threshold = Threshold { max_failures: 5, max_latency_us: None, window_seconds: 60 };
        assert_eq!(candidate.threshold, threshold);
        let pairs = [
            ("candidate-url", "oci://r.io/a:2"),
            ("candidate-mode", "shadow"),
            ("candidate-config", r#"{"b": 1, "a": "x"}"#),
        ];
        let candidate = read(&pairs).unwrap().candidate.unwrap();
        assert_eq!(candidate.split, Split::Percent(100));
        assert_eq!(candidate.configuration.unwrap(), r#"{"a":"x","b":1}"#);
    }

    #[test]
    fn a_header_splits_by_its_name_or_its_value() {
        for (text, value) in [("X-Try", None), ("x-try=yes", Some("yes".to_owned()))] {
            let pairs = [("candidate-url", "oci://r.io/a:2"), ("candidate-header", text)];
            let expected = Split::Header { name: "x-try".into(), value };
            assert_eq!(read(&pairs).unwrap().candidate.unwrap().split, expected);
        }
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let url = ("candidate-url", "oci://r.io/a:2");
        let percent = ("candidate-percent", "1");
        for (pairs, expected) in [
            (vec![("vm-scop", "process")], "wasmplug.dev/vm-scop: means nothing"),
            (vec![percent], "wasmplug.dev/candidate-percent: there is no candidate"),
            (vec![url], "wasmplug.dev/candidate-url: no request would meet"),
            (vec![url, ("candidate-percent", "101")], "wasmplug.dev/candidate-percent: must be"),
            (vec![url, ("candidate-header", "a b")], "wasmplug.dev/candidate-header: must be"),
            (
                vec![url, percent, ("candidate-header", "a")],
                "wasmplug.dev/candidate-header: cannot",
            ),
            (vec![url, percent, ("candidate-mode", "x")], "wasmplug.dev/candidate-mode: must be"),
            (vec![url, percent, ("candidate-config", "[]")], "wasmplug.dev/candidate-config: must"),
            (
                vec![url, percent, ("candidate-config", "{")],
                "wasmplug.dev/candidate-config: is not",
            ),
            (vec![url, percent, ("candidate-sha256", "x")], "wasmplug.dev/candidate-sha256: "),
            (vec![url, percent, ("vm-scope", "process")], "wasmplug.dev/vm-scope: a plugin with"),
            (vec![("candidate-url", "ftp://a"), percent], "wasmplug.dev/candidate-url: "),
            (
                vec![url, percent, ("candidate-max-failures", "0")],
                "wasmplug.dev/candidate-max-failures: must be a whole number from 1",
            ),
        ] {
            let problems = read(&pairs).unwrap_err();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(expected), "{problems:?}\n{expected}");
        }
    }
}
