//! `jwt_authn`: verifies the tokens of requests.
//!
//! ```text
//! request ─> preflight? ──────────────────────────────────────────────────────────> passes
//!         └> for each rule: tokens at its locations ─ all verify ─> headers, metadata ─> passes
//!                                                   ├ none anywhere ────────────────> passes
//!                                                   └ otherwise ──────────────> 401 or 403
//! ```
//!
//! Source: Envoy's filter of this name, with the configuration that Istio generates for
//! `RequestAuthentication`. Keys are part of the snapshot, so no request waits for them.

mod claims;
mod encoding;
mod json;
mod keys;
mod locations;
mod provider;
mod status;
mod token;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Value, json};
use smallvec::SmallVec;
use wasmplug_api::{NamespacedName, PlannedAuthentication};
use wasmplug_host::{Fields, LocalReply, Pseudo};

pub(crate) use self::keys::{KeySet, KeySetError};
pub(crate) use self::provider::RuleKeys;
use self::provider::{InvalidHeader, Provider};
use self::status::Status;
use self::token::Token;
use super::built_in::BuiltInFilter;
use crate::attributes::StreamShared;
use crate::filter::{HeadersOutcome, Interrupt, Side};
use crate::key_store::KeyStats;

/// Name of the filter, under which others find what it says about a stream.
pub(crate) const NAME: &str = "envoy.filters.http.jwt_authn";
/// Where in its metadata the claims are. Source: Istio.
pub(crate) const PAYLOAD: &str = "payload";
/// Longest path in `www-authenticate`, in bytes. Source: Envoy.
const MAX_REALM_PATH: usize = 256;

/// The rules of one configuration, shared by all workers.
#[derive(Debug)]
pub(crate) struct JwtAuthnSpec {
    providers: Vec<Provider>,
    clears_route: bool,
    stats: Arc<AuthenticationStats>,
}

/// What the filter has done, over all workers and configurations.
#[derive(Debug, Default)]
pub(crate) struct AuthenticationStats {
    allowed: AtomicU64,
    denied: AtomicU64,
    preflights: AtomicU64,
    keys: Arc<KeyStats>,
}

/// What is wrong with the keys of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyProblem {
    /// The policy that the rule is from.
    pub resource: NamespacedName,
    /// Issuer of the rule; may be empty.
    pub issuer: String,
    /// Why its keys could not be had.
    pub reason: String,
    /// Keys that were had before go on; without, every token of the rule is refused.
    pub has_keys: bool,
}

/// The filter of one stream.
#[derive(Debug)]
pub(crate) struct JwtAuthn {
    spec: Arc<JwtAuthnSpec>,
    stream: Rc<StreamShared>,
}

/// Why a request does not pass.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Token(Status),
    Header(InvalidHeader),
}

/// One request under examination.
struct Examination<'a> {
    headers: &'a mut Fields,
    now: u64,
    tokens: Vec<KnownToken>,
    /// What the token says that was verified last.
    claims: Option<Value>,
}

/// A token of the request: rules often look at the same places.
struct KnownToken {
    text: Vec<u8>,
    token: Result<Rc<Token>, Status>,
    /// Whether it is good for rules, by their place.
    checks: SmallVec<[(usize, Result<(), Status>); 2]>,
}

// === impl JwtAuthnSpec ===

impl JwtAuthnSpec {
    /// `keys` are those of the rules, in their order.
    pub(crate) fn new(
        planned: &PlannedAuthentication,
        keys: impl IntoIterator<Item = RuleKeys>,
        stats: Arc<AuthenticationStats>,
    ) -> Self {
        let providers: Vec<Provider> =
            planned.rules.iter().zip(keys).map(|(rule, keys)| Provider::new(rule, keys)).collect();
        Self { providers, clears_route: planned.clears_route_cache, stats }
    }

    pub(crate) fn new_filter(self: &Arc<Self>, stream: &Rc<StreamShared>) -> JwtAuthn {
        JwtAuthn { spec: Arc::clone(self), stream: Rc::clone(stream) }
    }

    pub(crate) fn stats(&self) -> &AuthenticationStats {
        &self.stats
    }

    /// The keys of each rule.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &RuleKeys> {
        self.providers.iter().map(Provider::keys)
    }

    /// What is wrong with keys.
    pub(crate) fn key_problems(&self) -> impl Iterator<Item = KeyProblem> {
        self.providers.iter().filter_map(Provider::key_problem)
    }

    pub(crate) fn dump(&self) -> Value {
        json!({
            "filter": "jwt_authn",
            "rules": self.providers.iter().map(Provider::dump).collect::<Vec<Value>>(),
        })
    }

    /// Whether a rule verifies its tokens, or there is none for any of them.
    ///
    /// Source: Istio requires any of the rules, or all of "this rule, or no token for it". As in
    /// Envoy a token that is verified changes the request at once, so that what is looked at later
    /// may be another one.
    fn examine(&self, examination: &mut Examination<'_>) -> Result<(), Refusal> {
        let mut told = Status::Missing;
        for (index, provider) in self.providers.iter().enumerate() {
            match examination.verify(index, provider)? {
                Ok(()) => return Ok(()),
                Err(status) => told = told.or_rather(status),
            }
        }
        if self.providers.len() > 1 {
            match self.examine_each(examination)? {
                Ok(()) => return Ok(()),
                Err(status) => told = told.or_rather(status),
            }
        }
        if told == Status::Missing { Ok(()) } else { Err(Refusal::Token(told)) }
    }

    /// Whether each rule verifies its tokens or has none.
    fn examine_each(
        &self,
        examination: &mut Examination<'_>,
    ) -> Result<Result<(), Status>, Refusal> {
        for (index, provider) in self.providers.iter().enumerate() {
            match examination.verify(index, provider)? {
                Ok(()) | Err(Status::Missing) => {}
                Err(status) => return Ok(Err(status)),
            }
        }
        Ok(Ok(()))
    }
}

// === impl AuthenticationStats ===

impl AuthenticationStats {
    pub(crate) fn new(keys: Arc<KeyStats>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// All counters with their names. Source: Envoy.
    pub(crate) fn counters(&self) -> [(&'static str, &'static str, u64); 5] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("allowed", "Requests that passed", read(&self.allowed)),
            ("denied", "Requests that were refused for their tokens", read(&self.denied)),
            ("cors_preflight_bypassed", "Preflights, which pass", read(&self.preflights)),
            ("jwks_fetch_success", "Key sets that were fetched", read(&self.keys.fetched)),
            ("jwks_fetch_failed", "Key sets that could not be fetched", read(&self.keys.failed)),
        ]
    }
}

// === impl Examination ===

impl Examination<'_> {
    /// Verifies the tokens of one rule, the last one first; all must be good.
    fn verify(&mut self, index: usize, provider: &Provider) -> Result<Result<(), Status>, Refusal> {
        provider.remove_outputs(self.headers);
        let found = provider.locations.find(self.headers);
        if found.is_empty() {
            return Ok(Err(Status::Missing));
        }
        for found in found.iter().rev() {
            match self.check(index, provider, &found.token) {
                Ok(token) => {
                    provider.pass_on(&token, found, self.headers).map_err(Refusal::Header)?;
                    self.claims = Some(provider.metadata(&token));
                }
                Err(status) => return Ok(Err(status)),
            }
        }
        Ok(Ok(()))
    }

    /// Whether a token is good for a rule; found out once for each pair.
    fn check(
        &mut self,
        index: usize,
        provider: &Provider,
        text: &[u8],
    ) -> Result<Rc<Token>, Status> {
        let at = match self.tokens.iter().position(|known| known.text == text) {
            Some(at) => at,
            None => {
                let token = Token::parse(text).map(Rc::new);
                let text = text.to_vec();
                self.tokens.push(KnownToken { text, token, checks: SmallVec::new() });
                self.tokens.len().saturating_sub(1)
            }
        };
        let known = self.tokens.get_mut(at).ok_or(Status::BadFormat)?;
        let token = known.token.clone()?;
        let check = match known.checks.iter().find(|(of, _)| *of == index) {
            Some((_, check)) => *check,
            None => {
                let check = provider.check(&token, self.now);
                known.checks.push((index, check));
                check
            }
        };
        check.map(|()| token)
    }
}

// === impl JwtAuthn ===

impl BuiltInFilter for JwtAuthn {
    fn on_headers(
        &mut self,
        _side: Side,
        mut headers: Fields,
        _end: bool,
    ) -> Result<HeadersOutcome, Interrupt> {
        let (spec, stats) = (&self.spec, &self.spec.stats);
        // Whoever sends such a header himself wants to be taken for somebody.
        spec.providers.iter().for_each(|provider| provider.remove_outputs(&mut headers));
        if is_preflight(&headers) {
            count(&stats.preflights);
            count(&stats.allowed);
            return Ok(HeadersOutcome::Continue(headers));
        }
        let uri = original_uri(&headers);
        let now = seconds_since_1970();
        let mut examination =
            Examination { headers: &mut headers, now, tokens: Vec::new(), claims: None };
        match spec.examine(&mut examination) {
            Ok(()) => {
                count(&stats.allowed);
                if let Some(claims) = examination.claims {
                    self.stream.set_metadata(NAME, PAYLOAD, claims);
                    if spec.clears_route {
                        self.stream.choose_route(&headers);
                    }
                }
                Ok(HeadersOutcome::Continue(headers))
            }
            Err(refusal) => {
                count(match refusal {
                    Refusal::Token(_) => &stats.denied,
                    // Source: Envoy, where the router looks at headers.
                    Refusal::Header(_) => &stats.allowed,
                });
                Err(Interrupt::LocalReply(refusal.reply(&uri)))
            }
        }
    }
}

// === impl Refusal ===

impl Refusal {
    /// Source: Envoy.
    fn reply(&self, uri: &[u8]) -> LocalReply {
        match self {
            Self::Token(status) => {
                let error = match status {
                    Status::Missing => "",
                    _ => ", error=\"invalid_token\"",
                };
                let challenge = [b"Bearer realm=\"", uri, b"\"", error.as_bytes()].concat();
                LocalReply {
                    status: status.code(),
                    details: status.details(),
                    body: Bytes::from_static(status.text().as_bytes()),
                    headers: vec![(Bytes::from_static(b"www-authenticate"), challenge.into())],
                    grpc_status: u32::MAX,
                }
            }
            Self::Header(InvalidHeader(name)) => {
                let body = format!("invalid header value for: {name}");
                let reason = body.replace(' ', "_");
                LocalReply {
                    status: 503,
                    details: format!("filter_removed_required_request_headers{{{reason}}}"),
                    body: body.into(),
                    headers: Vec::new(),
                    grpc_status: u32::MAX,
                }
            }
        }
    }
}

/// Whether a browser asks if it may ask. Source: the Fetch standard; it sends no credentials.
fn is_preflight(headers: &Fields) -> bool {
    let is_there = |name: &[u8]| headers.get(name).is_some_and(|value| !value.is_empty());
    headers.pseudo(Pseudo::Method).is_some_and(|method| method == "OPTIONS")
        && is_there(b"origin")
        && is_there(b"access-control-request-method")
}

/// What the client asked for, for the challenge. Source: Envoy.
fn original_uri(headers: &Fields) -> Vec<u8> {
    let of = |pseudo| headers.pseudo(pseudo).map(HeaderValue::as_bytes);
    let Some(path) = of(Pseudo::Path) else { return Vec::new() };
    let original = headers.get(b"x-envoy-original-path").map(HeaderValue::as_bytes);
    let path = original.unwrap_or(path);
    let path = path.get(..MAX_REALM_PATH).unwrap_or(path);
    let (scheme, authority) = (of(Pseudo::Scheme), of(Pseudo::Authority));
    [scheme.unwrap_or_default(), b"://", authority.unwrap_or_default(), path].concat()
}

/// A clock that stands before 1970 must not keep tokens from expiring.
fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs())
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
