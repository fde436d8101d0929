//! One alternative of requests that a route is for.

use http::HeaderValue;
use serde_json::Value;
use wasmplug_host::{Fields, Pseudo};

use super::Text;

/// Everything that is given must fit.
#[derive(Debug)]
pub(super) struct Alternative {
    uri: Option<Text>,
    ignores_case: bool,
    pseudo: Vec<(Pseudo, Text)>,
    headers: Vec<(String, Text)>,
    without_headers: Vec<(String, Text)>,
    query: Vec<(String, Text)>,
    port: Option<u64>,
}

// === impl Alternative ===

impl Alternative {
    /// Source: Istio API, `HTTPMatchRequest`.
    pub(super) fn new(value: &Value) -> Self {
        let field = |camel: &str, snake: &str| value.get(camel).or_else(|| value.get(snake));
        let texts = |value: Option<&Value>| {
            let entries = value.and_then(Value::as_object).into_iter().flatten();
            entries.map(|(name, text)| (name.to_ascii_lowercase(), Text::of_json(text))).collect()
        };
        let pseudo = [
            (Pseudo::Scheme, "scheme"),
            (Pseudo::Method, "method"),
            (Pseudo::Authority, "authority"),
        ];
        let given = |(pseudo, name)| Some((pseudo, Text::of_json(value.get(name)?)));
        let query = field("queryParams", "query_params").and_then(Value::as_object);
        Self {
            uri: value.get("uri").map(Text::of_json),
            ignores_case: field("ignoreUriCase", "ignore_uri_case") == Some(&Value::Bool(true)),
            pseudo: pseudo.into_iter().filter_map(given).collect(),
            headers: texts(value.get("headers")),
            without_headers: texts(field("withoutHeaders", "without_headers")),
            query: query
                .into_iter()
                .flatten()
                .map(|(name, text)| (name.clone(), Text::of_json(text)))
                .collect(),
            port: value.get("port").and_then(Value::as_u64),
        }
    }

    pub(super) fn fits(&self, headers: &Fields, port: u16) -> bool {
        let bytes = |pseudo| headers.pseudo(pseudo).map(HeaderValue::as_bytes);
        let target = bytes(Pseudo::Path).unwrap_or_default();
        let mut parts = target.splitn(2, |byte| *byte == b'?');
        let (path, query) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let fits_path = |uri: &Text| {
            if self.ignores_case { uri.fits_any_case(path) } else { uri.fits(path) }
        };
        let has = |(name, text): &(String, Text)| {
            headers.get(name.as_bytes()).is_some_and(|value| text.fits(value.as_bytes()))
        };
        self.uri.as_ref().is_none_or(fits_path)
            && self.port.is_none_or(|wanted| wanted == u64::from(port))
            && self
                .pseudo
                .iter()
                .all(|(pseudo, text)| bytes(*pseudo).is_some_and(|of| text.fits(of)))
            && self.headers.iter().all(has)
            && !self.without_headers.iter().any(has)
            && self.query.iter().all(|(name, text)| has_parameter(query, name, text))
    }
}

/// Whether the first parameter of this name fits. Source: Envoy does not decode it.
fn has_parameter(query: &[u8], name: &str, text: &Text) -> bool {
    let pairs = query.split(|byte| *byte == b'&').map(|pair| {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
    });
    pairs.into_iter().find(|(key, _)| *key == name.as_bytes()).is_some_and(|(_, of)| text.fits(of))
}
