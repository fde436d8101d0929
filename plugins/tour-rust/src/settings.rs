//! The plugin configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

const DEFAULT_AUTHORITY: &str = "tour.example";
const DEFAULT_GREETING: &str = "hello";
const DEFAULT_PERIOD: u64 = 100;
/// Longest time between two ticks, in milliseconds.
const MAX_PERIOD: u64 = 60_000;

/// What the plugin was told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Name of the cluster that is asked.
    pub(crate) cluster: String,
    /// `:authority` of what it is asked.
    pub(crate) authority: String,
    /// Value of the response header `x-tour-greeting`.
    pub(crate) greeting: String,
    /// Time between two ticks.
    pub(crate) period: Duration,
}

/// A value of the configuration.
#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Number(u64),
    Text(String),
}

// === impl Settings ===

impl Settings {
    /// Reads the configuration.
    ///
    /// # Errors
    ///
    /// The reason, for the log, if the plugin cannot run with it.
    pub(crate) fn parse(configuration: &[u8]) -> Result<Self, String> {
        let mut values: BTreeMap<String, Value> = serde_json::from_slice(configuration)
            .map_err(|_| "it is not a JSON object of texts and whole numbers".to_owned())?;
        let cluster = text(&mut values, "cluster", "")?;
        if cluster.is_empty() {
            return Err("`cluster` names no cluster".to_owned());
        }
        let authority = text(&mut values, "authority", DEFAULT_AUTHORITY)?;
        let greeting = text(&mut values, "greeting", DEFAULT_GREETING)?;
        let period = number(&mut values, "period", DEFAULT_PERIOD)?;
        if !(1..=MAX_PERIOD).contains(&period) {
            return Err(format!("`period` is not from 1 to {MAX_PERIOD}"));
        }
        // Only fields that are not known are left.
        if let Some(name) = values.into_keys().next() {
            return Err(format!("`{}` is no field", crate::printable(name.as_bytes())));
        }
        Ok(Self { cluster, authority, greeting, period: Duration::from_millis(period) })
    }
}

/// Takes a text, which must be fit for a header.
fn text(
    values: &mut BTreeMap<String, Value>,
    name: &str,
    default: &str,
) -> Result<String, String> {
    match values.remove(name) {
        None => Ok(default.to_owned()),
        Some(Value::Text(text)) if crate::is_plain(text.as_bytes()) => Ok(text),
        Some(Value::Text(_)) => Err(format!("`{name}` is not plain ASCII")),
        Some(Value::Number(_)) => Err(format!("`{name}` is not a text")),
    }
}

fn number(
    values: &mut BTreeMap<String, Value>,
    name: &str,
    default: u64,
) -> Result<u64, String> {
    match values.remove(name) {
        None => Ok(default),
        Some(Value::Number(number)) => Ok(number),
        Some(Value::Text(_)) => Err(format!("`{name}` is not a whole number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_cluster_has_a_default() {
        let settings = Settings::parse(br#"{"cluster":"auth"}"#).unwrap();
        assert_eq!(
            settings,
            Settings {
                cluster: "auth".to_owned(),
                authority: "tour.example".to_owned(),
                greeting: "hello".to_owned(),
                period: Duration::from_millis(100),
            }
        );
    }

    #[test]
    fn everything_can_be_given() {
        let settings = Settings::parse(
            br#" {"period": 7, "greeting": "\u0068i \"you\"", "cluster": "a|b", "authority": "c"} "#,
        );
        let settings = settings.unwrap();
        assert_eq!(settings.period, Duration::from_millis(7));
        assert_eq!(settings.greeting, r#"hi "you""#);
        assert_eq!((&*settings.cluster, &*settings.authority), ("a|b", "c"));
    }

    #[test]
    fn a_configuration_that_makes_no_sense_is_refused_with_the_reason() {
        let no_object = "it is not a JSON object of texts and whole numbers";
        for (configuration, reason) in [
            ("", no_object),
            ("[]", no_object),
            (r#"{"cluster":"a""#, no_object),
            (r#"{"cluster":["a"]}"#, no_object),
            (r#"{"cluster":"a","period":1.5}"#, no_object),
            ("{}", "`cluster` names no cluster"),
            (r#"{"cluster":""}"#, "`cluster` names no cluster"),
            (r#"{"cluster":1}"#, "`cluster` is not a text"),
            (r#"{"cluster":"a","greeting":"a\nb"}"#, "`greeting` is not plain ASCII"),
            (r#"{"cluster":"a","period":"1"}"#, "`period` is not a whole number"),
            (r#"{"cluster":"a","period":0}"#, "`period` is not from 1 to 60000"),
            (r#"{"cluster":"a","period":60001}"#, "`period` is not from 1 to 60000"),
            (r#"{"cluster":"a","z":1,"clutser":"b"}"#, "`clutser` is no field"),
        ] {
            assert_eq!(
                Settings::parse(configuration.as_bytes()).unwrap_err(),
                reason,
                "{configuration}"
            );
        }
    }
}
