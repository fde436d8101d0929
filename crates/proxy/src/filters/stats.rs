//! Istio's standard metrics. They are made at the end of each stream and connection, whoever
//! answered, so this is no element of the chain but what a chain tells its end to.
//!
//! ```text
//! stream ends ─> Outcome ─> series of its labels, on its worker ─> added up when somebody asks
//! ```
//!
//! Source: Istio, filter `istio.stats`, with the defaults of its control plane.

mod exposition;
mod labels;
mod outcome;
mod series;
mod tags;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;
use serde_json::{Value, json};
use wasmplug_api::PlannedMetrics;
use wasmplug_host::LogFields;

pub(crate) use self::outcome::{ConnectionRecord, MessageCount, Outcome, StreamRecord};
use self::series::{Key, Series, Texts};
use self::tags::Tags;
use crate::attributes::StreamShared;
use crate::listener::Identities;

/// Most series of one worker that differ in texts: hosts, and values of configured tags. What comes
/// after is told as `unknown`. Source: ours; a client could make one with each request.
pub(crate) const MAX_TEXTS: usize = 1000;
/// Most series that differ in the rest under one text. Source: ours.
pub(crate) const MAX_SERIES_OF_TEXT: usize = 1000;

/// Which metrics are made; made once of a plan and shared by all workers.
#[derive(Debug)]
pub struct StatsSpec {
    planned: PlannedMetrics,
    tags: Tags,
    /// Series of all workers, in the order in which they were made.
    series: Mutex<Vec<Arc<Series>>>,
}

/// The metrics that one worker makes.
#[derive(Debug)]
pub(crate) struct WorkerStats {
    spec: Arc<StatsSpec>,
    /// By the texts in their labels. Only this worker writes to them.
    by_text: RefCell<HashMap<Vec<u8>, Vec<Arc<Series>>>>,
    /// The series that was written last: often it is the next one as well.
    last: RefCell<Option<Arc<Series>>>,
}

// === impl StatsSpec ===

impl StatsSpec {
    pub(crate) fn new(planned: &PlannedMetrics) -> Self {
        let (planned, series) = (planned.clone(), Mutex::default());
        Self { tags: Tags::new(&planned), planned, series }
    }

    /// Whether it makes what this plan asks for.
    pub(crate) fn is_of(&self, planned: &PlannedMetrics) -> bool {
        self.planned == *planned
    }

    /// What is made and what is not, for people and scripts.
    pub(crate) fn dump(&self) -> Value {
        json!({
            "filter": "istio.stats",
            "provider": self.planned.provider,
            "reporter": self.planned.reporter,
            "overrides": self.planned.overrides,
            "refused_expressions": self.tags.refused(),
        })
    }

    /// Expressions of tags that cannot be evaluated; their tags are `unknown`.
    pub(crate) fn refused_expressions(&self) -> &[String] {
        self.tags.refused()
    }

    /// Whether configured tags look at streams, so that no stream may go past the chain.
    pub(crate) fn looks_at_streams(&self) -> bool {
        !self.tags.is_empty()
    }

    fn add(&self, series: Arc<Series>) {
        self.series.lock().unwrap_or_else(PoisonError::into_inner).push(series);
    }

    fn all(&self) -> Vec<Arc<Series>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

// === impl WorkerStats ===

impl WorkerStats {
    pub(crate) fn new(spec: Arc<StatsSpec>) -> Rc<Self> {
        Rc::new(Self { spec, by_text: RefCell::default(), last: RefCell::default() })
    }

    pub(crate) fn spec(&self) -> &Arc<StatsSpec> {
        &self.spec
    }

    /// Whether requests are told apart by the host that they name.
    pub(crate) fn wants_host(&self) -> bool {
        labels::has_host_fallback(self.spec.planned.reporter.role)
    }

    /// Begins to watch a stream that no filter sees.
    pub(crate) fn begin(
        self: &Rc<Self>,
        headers: &http::HeaderMap,
        identities: Option<&Arc<Identities>>,
    ) -> StreamRecord {
        StreamRecord::new(Rc::clone(self), headers, identities.cloned())
    }

    /// Counts a stream that went through the chain.
    pub(crate) fn record_stream(
        &self,
        shared: &StreamShared,
        fields: &LogFields,
        host: Option<HeaderValue>,
        messages: [Option<u64>; 2],
    ) {
        let tags = self.spec.tags.evaluate(shared, fields);
        self.record(&Outcome::of_stream(shared, host, tags, messages));
    }

    fn record(&self, outcome: &Outcome) {
        let key = &outcome.key;
        let texts = outcome.texts();
        let mut last = self.last.borrow_mut();
        if let Some(series) = last.as_ref().filter(|series| series.is_of(key, texts)) {
            series.record(outcome);
            return;
        }
        let Some(series) = self.series(key, texts) else { return };
        series.record(outcome);
        *last = Some(series);
    }

    /// The series of these labels, made if it is new. `None` if there are too many.
    fn series(&self, key: &Key, texts: Texts<'_>) -> Option<Arc<Series>> {
        let mut by_text = self.by_text.borrow_mut();
        let joined = (!texts.is_host_alone()).then(|| texts.join());
        let wanted = joined.as_deref().unwrap_or(texts.host);
        let is_known = by_text.contains_key(wanted);
        if !is_known && by_text.len() >= MAX_TEXTS && !wanted.is_empty() {
            drop(by_text);
            let tags = vec![labels::UNKNOWN.to_owned(); texts.tags.len()];
            let identities = texts.identities.map(|of| Arc::new(of.without_names()));
            let unknown = Texts { host: &[], tags: &tags, identities: identities.as_ref() };
            return self.make(key, unknown);
        }
        if is_known {
            let known = by_text.get_mut(wanted)?;
            if let Some(at) = known.iter().position(|series| series.key == *key) {
                // What comes often is found first.
                known.swap(0, at);
                return known.first().cloned();
            }
        }
        drop(by_text);
        self.make(key, texts)
    }

    fn make(&self, key: &Key, texts: Texts<'_>) -> Option<Arc<Series>> {
        let mut by_text = self.by_text.borrow_mut();
        let known = by_text.entry(texts.join()).or_default();
        if let Some(series) = known.iter().find(|series| series.key == *key) {
            return Some(Arc::clone(series));
        }
        if known.len() >= MAX_SERIES_OF_TEXT {
            return None;
        }
        let series = Arc::new(Series::new(*key, texts));
        self.spec.add(Arc::clone(&series));
        known.push(Arc::clone(&series));
        Some(series)
    }

    /// Begins to watch a connection that is not HTTP.
    pub(crate) fn connection_opened(
        self: &Rc<Self>,
        identities: Option<&Arc<Identities>>,
    ) -> Option<ConnectionRecord> {
        let texts = Texts { identities, ..Texts::default() };
        let series = self.series(&Key::TCP, texts)?;
        Some(ConnectionRecord::new(series))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wasmplug_api::{PlannedFilter, Workload, WorkloadRole, plan};

    use super::series::{Key, Texts};
    use super::{MAX_SERIES_OF_TEXT, MAX_TEXTS, StatsSpec, WorkerStats};
    use crate::listener::Identities;

    fn stats() -> std::rc::Rc<WorkerStats> {
        let plan = plan(&[], &Workload::new("default", WorkloadRole::SidecarOutbound));
        let planned = plan.filters.iter().find_map(|filter| match filter {
            PlannedFilter::Stats(planned) => Some(planned),
            _ => None,
        });
        WorkerStats::new(Arc::new(StatsSpec::new(planned.unwrap())))
    }

    fn key(code: u16) -> Key {
        Key { is_tcp: false, code, ..Key::TCP }
    }

    #[test]
    fn hosts_beyond_the_bound_are_told_as_unknown() {
        let stats = stats();
        for number in 0..MAX_TEXTS {
            let host = format!("host-{number}");
            assert_eq!(
                stats.series(&key(200), Texts::of_host(host.as_bytes())).unwrap().host,
                host.as_bytes()
            );
        }
        let one = stats.series(&key(200), Texts::of_host(b"one more")).unwrap();
        let other = stats.series(&key(200), Texts::of_host(b"and another")).unwrap();
        assert!(one.host.is_empty() && Arc::ptr_eq(&one, &other));
        // Those that are there go on.
        assert_eq!(stats.series(&key(200), Texts::of_host(b"host-7")).unwrap().host, b"host-7");
    }

    #[test]
    fn identities_beyond_the_bound_are_told_as_unknown() {
        let stats = stats();
        let series = |name: &str| {
            let source = Some(name.into());
            let identities = Arc::new(Identities { is_mutual: true, source, destination: None });
            let texts = Texts { identities: Some(&identities), ..Texts::default() };
            stats.series(&key(200), texts).unwrap()
        };
        for number in 0..MAX_TEXTS {
            let name = format!("spiffe://a/{number}");
            let told = series(&name).identities.clone().unwrap();
            assert_eq!(told.source.as_deref(), Some(&*name));
        }
        let (one, other) = (series("spiffe://a/one more"), series("spiffe://a/another"));
        assert!(Arc::ptr_eq(&one, &other));
        let told = one.identities.clone().unwrap();
        assert!(told.is_mutual && told.source.is_none());
    }

    #[test]
    fn series_beyond_the_bound_are_not_made() {
        let stats = stats();
        let mut codes = 0..u16::try_from(MAX_SERIES_OF_TEXT).unwrap();
        assert!(codes.all(|code| stats.series(&key(code), Texts::of_host(b"a")).is_some()));
        assert!(stats.series(&key(u16::MAX), Texts::of_host(b"a")).is_none());
        assert!(stats.series(&key(0), Texts::of_host(b"a")).is_some());
    }
}
