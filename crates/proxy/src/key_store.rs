//! Keys of token issuers: fetched aside, remembered, and fetched again in time.
//!
//! No request waits for a fetch: what the store has is part of the next snapshot. Source: Istio's
//! control plane, which fetches keys for its proxies with the same periods. Differs: keys that
//! were had once are kept when a refresh fails, however often.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use wasmplug_api::diagnostic::with_causes;
use wasmplug_api::{JwtRule, Plan, PlannedAuthentication, PlannedFilter};
use wasmplug_module::{KeySetFetchError, KeySetSource, ModuleStore};

use crate::filters::jwt_authn::{KeySet, KeySetError, RuleKeys};

/// Longest fetch, unless the rule says otherwise. Source: Istio.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest that a rule can ask for: nothing that is new is served while a fetch goes on. Source:
/// ours.
const LONGEST_FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// How long keys are good for. Source: Istio.
const REFRESH: Duration = Duration::from_mins(20);
/// Wait after a fetch that failed; doubled each time. Source: Istio.
const FIRST_RETRY: Duration = Duration::from_mins(1);
/// Longest such wait, before the addition. Source: Istio.
const LONGEST_RETRY: Duration = Duration::from_hours(1);

/// The keys of the rules of one plan after the other.
#[derive(Debug)]
pub(crate) struct KeyStore {
    store: Arc<ModuleStore>,
    entries: HashMap<KeySetSource, Entry>,
    stats: Arc<KeyStats>,
}

/// What has come of fetches.
#[derive(Debug, Default)]
pub(crate) struct KeyStats {
    pub(crate) fetched: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// What is known of one key set.
#[derive(Debug, Default)]
struct Entry {
    /// The last ones that were good.
    keys: Option<Arc<KeySet>>,
    /// Why the last fetch failed.
    problem: Option<String>,
    /// Fetches that failed since the last good one.
    failures: u32,
    /// When to fetch again; absent before the first time.
    due: Option<Instant>,
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error(transparent)]
    Fetch(KeySetFetchError),
    #[error("what is published at `{at}` is no key set")]
    Content {
        at: String,
        #[source]
        source: KeySetError,
    },
}

// === impl KeyStore ===

impl KeyStore {
    pub(crate) fn new(store: Arc<ModuleStore>) -> Self {
        Self { store, entries: HashMap::new(), stats: Arc::default() }
    }

    pub(crate) fn stats(&self) -> &Arc<KeyStats> {
        &self.stats
    }

    /// Fetches what the rules of a plan need and is missing or due, all at the same time, and
    /// forgets what they do not name.
    pub(crate) async fn update(&mut self, plan: &Plan) {
        let mut wanted: HashMap<KeySetSource, Duration> = HashMap::new();
        for rule in rules(plan) {
            let Some(source) = source(rule) else { continue };
            let limit = fetch_limit(rule);
            let longest = wanted.entry(source).or_insert(limit);
            *longest = limit.max(*longest);
        }
        self.entries.retain(|source, _| wanted.contains_key(source));
        let now = Instant::now();
        wanted.retain(|source, _| {
            self.entries.get(source).is_none_or(|entry| entry.due.is_none_or(|due| due <= now))
        });
        let store = &self.store;
        let fetched = wanted.into_iter().map(|(source, limit)| async move {
            let fetched = fetch(store, &source, limit).await;
            (source, fetched)
        });
        for (source, fetched) in join_all(fetched).await {
            let entry = self.entries.entry(source).or_default();
            let counter = match &fetched {
                Ok(_) => &self.stats.fetched,
                Err(_) => &self.stats.failed,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            entry.take(fetched, fastrand::f64());
        }
    }

    /// When the next fetch is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.due).min()
    }

    /// The keys of each rule, in their order.
    pub(crate) fn of(&self, planned: &PlannedAuthentication) -> Vec<RuleKeys> {
        planned.rules.iter().map(|planned| self.of_rule(&planned.rule)).collect()
    }

    fn of_rule(&self, rule: &JwtRule) -> RuleKeys {
        if let Some(text) = &rule.jwks {
            let origin = "inline".to_owned();
            return match KeySet::parse(text.as_bytes()) {
                Ok(keys) => RuleKeys { origin, set: Some(Arc::new(keys)), problem: None },
                Err(error) => {
                    let problem = Some(format!("`jwks` is no key set: {error}"));
                    RuleKeys { origin, set: None, problem }
                }
            };
        }
        let Some(source) = source(rule) else {
            let problem = Some("the rule names no keys".to_owned());
            return RuleKeys { origin: "none".to_owned(), set: None, problem };
        };
        let entry = self.entries.get(&source);
        RuleKeys {
            origin: source.to_string(),
            set: entry.and_then(|entry| entry.keys.clone()),
            problem: entry.and_then(|entry| entry.problem.clone()),
        }
    }
}

/// The rules of a plan.
fn rules(plan: &Plan) -> impl Iterator<Item = &JwtRule> {
    let authentications = plan.filters.iter().filter_map(|filter| match filter {
        PlannedFilter::JwtAuthn(authentication) => Some(authentication),
        _ => None,
    });
    authentications.flat_map(|authentication| authentication.rules.iter().map(|it| &it.rule))
}

/// Where the keys of a rule are published; `None` if they are in the rule.
fn source(rule: &JwtRule) -> Option<KeySetSource> {
    match (&rule.jwks, &rule.jwks_uri) {
        (Some(_), _) => None,
        (None, Some(uri)) => Some(KeySetSource::Uri(uri.clone())),
        (None, None) => {
            Some(KeySetSource::Issuer(rule.issuer.clone())).filter(|_| !rule.issuer.is_empty())
        }
    }
}

/// How long fetching the keys of a rule may take.
fn fetch_limit(rule: &JwtRule) -> Duration {
    let limit = rule.timeout.filter(|limit| !limit.is_zero()).unwrap_or(FETCH_TIMEOUT);
    limit.min(LONGEST_FETCH_TIMEOUT)
}

async fn fetch(
    store: &ModuleStore,
    source: &KeySetSource,
    limit: Duration,
) -> Result<KeySet, RefreshError> {
    let text = store.fetch_key_set(source, limit).await.map_err(RefreshError::Fetch)?;
    let content = |error| RefreshError::Content { at: source.to_string(), source: error };
    KeySet::parse(&text).map_err(content)
}

// === impl Entry ===

impl Entry {
    /// Takes over what a fetch brought; `chance` is from 0 to 1.
    fn take(&mut self, fetched: Result<KeySet, RefreshError>, chance: f64) {
        let wait = match fetched {
            Ok(keys) => {
                *self = Self { keys: Some(Arc::new(keys)), ..Self::default() };
                REFRESH
            }
            Err(error) => {
                self.problem = Some(with_causes_and_hint(&error));
                self.failures = self.failures.saturating_add(1);
                retry_after(self.failures, chance)
            }
        };
        self.due = Some(Instant::now() + wait);
    }
}

/// Wait after so many failures: doubled each time, with up to a tenth added, so that proxies that
/// failed together do not ask together.
fn retry_after(failures: u32, chance: f64) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let wait = FIRST_RETRY.saturating_mul(doubled).min(LONGEST_RETRY);
    wait.saturating_add(wait.mul_f64(chance.clamp(0.0, 1.0) / 10.0))
}

fn with_causes_and_hint(error: &RefreshError) -> String {
    let mut text = with_causes(error);
    if let RefreshError::Fetch(error) = error
        && let Some(hint) = error.hint()
    {
        text.push_str("; ");
        text.push_str(&hint);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Entry, LONGEST_RETRY, REFRESH, RefreshError, fetch_limit, retry_after, source};
    use crate::filters::jwt_authn::{KeySet, KeySetError};
    use std::time::Duration;
    use tokio::time::Instant;
    use wasmplug_api::JwtRule;
    use wasmplug_module::KeySetSource;
    use wasmplug_testkit::jwt::{Key, jwks};

    fn good() -> KeySet {
        KeySet::parse(jwks([&Key::es256()]).as_bytes()).unwrap()
    }

    fn bad() -> RefreshError {
        RefreshError::Content { at: "http://h/k".into(), source: KeySetError::NotJson }
    }

    #[test]
    fn waits_double_from_a_minute_to_an_hour() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        for (failures, expected) in
            [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (40, 60), (u32::MAX, 60)]
        {
            assert_eq!(retry_after(failures, 0.0), minutes(expected), "{failures}");
        }
        assert_eq!(retry_after(7, 1.0), LONGEST_RETRY + minutes(6));
    }

    #[test]
    fn a_fetch_may_take_five_seconds_or_what_the_rule_says() {
        let seconds = Duration::from_secs;
        for (timeout, limit) in
            [(None, 5), (Some(0), 5), (Some(1), 1), (Some(30), 30), (Some(31), 30)]
        {
            let rule = JwtRule { timeout: timeout.map(seconds), ..JwtRule::default() };
            assert_eq!(fetch_limit(&rule), seconds(limit), "{timeout:?}");
        }
    }

    #[test]
    fn keys_that_were_had_once_are_kept() {
        let mut entry = Entry::default();
        entry.take(Err(bad()), 0.0);
        assert!(entry.keys.is_none());
        assert_eq!(entry.failures, 1);
        entry.take(Ok(good()), 0.0);
        assert!(entry.keys.is_some() && entry.problem.is_none());
        assert!(entry.due.is_some_and(|due| due <= Instant::now() + REFRESH));
        entry.take(Err(bad()), 0.0);
        entry.take(Err(bad()), 0.0);
        assert_eq!(entry.failures, 2);
        assert!(entry.keys.is_some());
        let problem = entry.problem.as_deref();
        let expected = "what is published at `http://h/k` is no key set: it is not a JSON object";
        assert_eq!(problem, Some(expected));
    }

    #[test]
    fn keys_are_in_the_rule_or_at_a_url_or_where_the_issuer_says() {
        let rule = |jwks: Option<&str>, uri: Option<&str>| JwtRule {
            issuer: "https://i".into(),
            jwks: jwks.map(str::to_owned),
            jwks_uri: uri.map(str::to_owned),
            ..JwtRule::default()
        };
        assert_eq!(source(&rule(Some("{}"), None)), None);
        let uri = Some(KeySetSource::Uri("https://h/k".into()));
        assert_eq!(source(&rule(None, Some("https://h/k"))), uri);
        assert_eq!(source(&rule(None, None)), Some(KeySetSource::Issuer("https://i".into())));
        assert_eq!(source(&JwtRule::default()), None);
    }
}
