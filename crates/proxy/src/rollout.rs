//! Another version of a plugin: which streams meet it, what became of them, and when it is given
//! up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wasmplug_api::{Candidate, CandidateMode, PlannedPlugin, Split};
use wasmplug_host::Fields;

use crate::snapshot::PluginSpec;

/// What stands behind the plugin's name in that of its candidate; no name in Kubernetes has a `~`.
pub(crate) const CANDIDATE_SUFFIX: &str = "~candidate";
/// Streams that a window must have seen before their mean time is judged. Source: ours.
const LEAST_STREAMS: u64 = 20;
/// Lowest and number of statuses that a plugin may answer with.
const STATUSES: (u16, usize) = (200, 400);

/// A candidate and what became of it.
#[derive(Debug)]
pub struct Rollout {
    /// The candidate as a plugin, with its own counters.
    pub candidate: Arc<PluginSpec>,
    pub(crate) plan: Candidate,
    began: Instant,
    is_given_up: AtomicBool,
    /// Why it was given up. Written once.
    reason: Mutex<String>,
    window: Window,
    streams: [AtomicU64; 2],
    pub(crate) shadow: ShadowRecord,
}

/// What the candidate did lately. Exact with one worker; where several end streams at the moment
/// at which a window ends, a few of these may count for the next one.
#[derive(Debug, Default)]
struct Window {
    /// Seconds from the beginning.
    since: AtomicU64,
    failures: AtomicU64,
    streams: AtomicU64,
    microseconds: AtomicU64,
}

/// What a shadow would have done.
#[derive(Debug)]
pub(crate) struct ShadowRecord {
    replies: Box<[AtomicU64]>,
    pub(crate) request_headers: AtomicU64,
    pub(crate) response_headers: AtomicU64,
    pub(crate) bodies: AtomicU64,
    pub(crate) resets: AtomicU64,
    /// Requests that it still held when their response came.
    pub(crate) held: AtomicU64,
    /// Messages of which it held more than the buffer limit.
    pub(crate) overflows: AtomicU64,
}

// === impl Rollout ===

impl Rollout {
    pub(crate) fn new(plan: Candidate, candidate: Arc<PluginSpec>) -> Self {
        Self {
            candidate,
            plan,
            began: Instant::now(),
            is_given_up: AtomicBool::new(false),
            reason: Mutex::default(),
            window: Window::default(),
            streams: Default::default(),
            shadow: ShadowRecord::new(),
        }
    }

    /// Whether the candidate sees no more streams.
    pub fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }

    /// Why, if so.
    pub fn reason(&self) -> Option<String> {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_given_up().then(|| reason.clone())
    }

    /// Streams that met the plugin itself, and those that met the candidate or its shadow.
    pub fn streams(&self) -> [u64; 2] {
        let [stable, candidate] = &self.streams;
        [stable.load(Ordering::Relaxed), candidate.load(Ordering::Relaxed)]
    }

    /// Whether what the candidate does counts for nothing.
    pub fn is_shadow(&self) -> bool {
        self.plan.mode == CandidateMode::Shadow
    }

    /// Whether this request meets the candidate, and counts it.
    pub(crate) fn choose(&self, headers: &Fields) -> bool {
        let is_chosen = !self.is_given_up() && chooses(&self.plan.split, headers);
        let [stable, candidate] = &self.streams;
        let counter = if is_chosen { candidate } else { stable };
        counter.fetch_add(1, Ordering::Relaxed);
        is_chosen
    }

    /// Counts a stream of the candidate, and gives it up if that was one too many.
    pub(crate) fn stream_ended(&self, time: Duration, has_failed: bool) {
        let length = u64::from(self.plan.threshold.window_seconds);
        let now = self.began.elapsed().as_secs();
        let since = self.window.since.load(Ordering::Relaxed);
        let is_over = now.saturating_sub(since) >= length;
        let swap = |to| {
            self.window.since.compare_exchange(since, to, Ordering::Relaxed, Ordering::Relaxed)
        };
        if is_over && swap(now).is_ok() {
            self.window.clear();
        }
        let (failures, streams, total) = self.window.add(time, has_failed);
        let threshold = &self.plan.threshold;
        if failures > u64::from(threshold.max_failures) {
            self.give_up(&format!("{failures} streams failed within {length} s"));
        }
        let mean = total.checked_div(streams).unwrap_or_default();
        if let Some(most) = threshold.max_latency_us
            && streams >= LEAST_STREAMS
            && mean > u64::from(most)
        {
            self.give_up(&format!("it took {mean} µs a stream, and {most} µs are allowed"));
        }
    }

    fn give_up(&self, reason: &str) {
        let mut written = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_given_up() {
            return;
        }
        reason.clone_into(&mut written);
        self.is_given_up.store(true, Ordering::Relaxed);
        tracing::warn!(
            plugin.name = %self.candidate.resource,
            reason,
            "the candidate is given up until its resource changes"
        );
    }

    /// All of it, for people and scripts.
    pub(crate) fn dump(&self) -> Value {
        let [stable, candidate] = self.streams();
        json!({
            "url": self.candidate.url,
            "digest": self.candidate.digest.to_string(),
            "mode": self.plan.mode,
            "split": self.plan.split,
            "threshold": self.plan.threshold,
            "given_up": self.reason(),
            "streams": { "stable": stable, "candidate": candidate },
            "shadow": self.is_shadow().then(|| self.shadow.dump()),
        })
    }
}

// === impl Window ===

impl Window {
    fn clear(&self) {
        for counter in [&self.failures, &self.streams, &self.microseconds] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Adds a stream; failures, streams and microseconds of this window so far.
    fn add(&self, time: Duration, has_failed: bool) -> (u64, u64, u64) {
        let add = |counter: &AtomicU64, by: u64| {
            counter.fetch_add(by, Ordering::Relaxed).saturating_add(by)
        };
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let failures = add(&self.failures, has_failed.into());
        (failures, add(&self.streams, 1), add(&self.microseconds, microseconds))
    }
}

// === impl ShadowRecord ===

impl ShadowRecord {
    fn new() -> Self {
        Self {
            replies: (0..STATUSES.1).map(|_| AtomicU64::new(0)).collect(),
            request_headers: AtomicU64::default(),
            response_headers: AtomicU64::default(),
            bodies: AtomicU64::default(),
            resets: AtomicU64::default(),
            held: AtomicU64::default(),
            overflows: AtomicU64::default(),
        }
    }

    /// Counts an answer that was not given.
    pub(crate) fn count_reply(&self, status: u16) {
        let at = status.checked_sub(STATUSES.0).map(usize::from);
        if let Some(count) = at.and_then(|at| self.replies.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What would have been done, each with how often: `reply_403`, `request_headers` and so on.
    pub(crate) fn effects(&self) -> Vec<(String, u64)> {
        let replies = (STATUSES.0..).zip(&self.replies).filter_map(|(status, count)| {
            let count = count.load(Ordering::Relaxed);
            (count > 0).then(|| (format!("reply_{status}"), count))
        });
        let others = [
            ("request_headers", &self.request_headers),
            ("response_headers", &self.response_headers),
            ("bodies", &self.bodies),
            ("resets", &self.resets),
            ("held", &self.held),
            ("overflows", &self.overflows),
        ];
        let others = others.map(|(name, of)| (name.to_owned(), of.load(Ordering::Relaxed)));
        replies.chain(others).collect()
    }

    fn dump(&self) -> Value {
        Value::Object(self.effects().into_iter().map(|(name, n)| (name, n.into())).collect())
    }
}

/// The candidate of a plugin as a plugin of its own.
pub(crate) fn planned_candidate(stable: &PlannedPlugin) -> Option<PlannedPlugin> {
    let candidate = stable.candidate.as_deref()?;
    let mut planned = PlannedPlugin {
        url: candidate.url.clone(),
        sha256: candidate.sha256.clone(),
        candidate: None,
        ..stable.clone()
    };
    planned.resource.name.push_str(CANDIDATE_SUFFIX);
    if let Some(configuration) = &candidate.configuration {
        planned.configuration.clone_from(configuration);
    }
    Some(planned)
}

fn chooses(split: &Split, headers: &Fields) -> bool {
    match split {
        Split::Percent(percent) => {
            let id = headers.get(b"x-request-id").map(|id| hash(id.as_bytes()));
            // Without an id nothing could make the choice stick.
            id.unwrap_or_else(|| fastrand::u64(..)) % 100 < u64::from(*percent)
        }
        Split::Header { name, value } => headers.get(name.as_bytes()).is_some_and(|found| {
            value.as_ref().is_none_or(|value| found.as_bytes() == value.as_bytes())
        }),
    }
}

/// Source: FNV-1a of 64 bits, and the last step of `MurmurHash3`, without which the last digit of an
/// id would decide too much.
fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use wasmplug_host::FieldsKind;

    use super::*;

    fn with(name: &'static str, value: &str) -> Fields {
        let mut fields = Fields::new(FieldsKind::Request);
        fields.push(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        fields
    }

    fn chosen(percent: u8) -> Vec<u32> {
        let chooses = |id: &u32| {
            let id = format!("3f2c1a00-0000-4000-8000-{id:012x}");
            chooses(&Split::Percent(percent), &with("x-request-id", &id))
        };
        (0..10_000).filter(chooses).collect()
    }

    #[test]
    fn a_share_is_what_it_says_and_grows_by_further_requests_alone() {
        assert_eq!((chosen(0).len(), chosen(100).len()), (0, 10_000));
        let mut before = chosen(0);
        for percent in [1, 10, 30, 50, 99] {
            let now = chosen(percent);
            let expected = usize::from(percent) * 100;
            // The hash is fixed, and so is this: three standard deviations at most.
            assert!(now.len().abs_diff(expected) <= 150, "{percent}: {}", now.len());
            assert!(before.iter().all(|id| now.contains(id)));
            before = now;
        }
    }

    #[test]
    fn the_same_request_is_chosen_again() {
        assert_eq!(chosen(25), chosen(25));
    }

    #[test]
    fn a_header_chooses_by_its_name_or_its_value() {
        let split = |value: Option<&str>| Split::Header {
            name: "x-try".into(),
            value: value.map(str::to_owned),
        };
        assert!(chooses(&split(None), &with("x-try", "any")));
        assert!(!chooses(&split(None), &with("x-other", "any")));
        assert!(chooses(&split(Some("yes")), &with("x-try", "yes")));
        assert!(!chooses(&split(Some("yes")), &with("x-try", "no")));
    }
}
