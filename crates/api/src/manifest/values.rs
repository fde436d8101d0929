//! Reads values of the kinds that policies and workloads have: lists of strings, flags, ports,
//! durations, bytes.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::fields::Fields;
use super::findings::Findings;
use super::node::Value;
use crate::diagnostic::quoted;

/// Units of Go's durations in nanoseconds; longer names first where one begins another.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 6e10),
    ("h", 3.6e12),
];

/// Longest duration that is read: a year, far beyond what anything here waits for.
const MAX_DURATION_NANOS: f64 = 365.0 * 24.0 * 3.6e12;

// === impl Fields ===

impl Fields<'_> {
    /// A string, empty if absent.
    pub(super) fn text(&mut self, name: &'static str, findings: &mut Findings) -> String {
        self.string(name, findings).unwrap_or_default()
    }

    /// A string; absent and empty are the same.
    pub(super) fn non_empty(
        &mut self,
        name: &'static str,
        findings: &mut Findings,
    ) -> Option<String> {
        self.string(name, findings).filter(|text| !text.is_empty())
    }

    /// A list of strings; an element that is none is reported and empty, so that the others keep
    /// their numbers.
    pub(super) fn strings(&mut self, name: &'static str, findings: &mut Findings) -> Vec<String> {
        let Some(field) = self.get(name, findings) else { return Vec::new() };
        let items = field.items(findings);
        items.iter().map(|item| item.string(findings).unwrap_or_default()).collect()
    }

    /// A flag, which may be absent.
    pub(super) fn flag(&mut self, name: &'static str, findings: &mut Findings) -> Option<bool> {
        let field = self.get(name, findings)?;
        match field.node.value {
            Value::Bool(value) => Some(value),
            _ => {
                field.mismatch("a boolean", findings);
                None
            }
        }
    }

    /// A port number, which may be absent.
    pub(super) fn port(&mut self, name: &'static str, findings: &mut Findings) -> Option<u16> {
        let number = self.get(name, findings)?.integer(1..=65535, findings)?;
        u16::try_from(number).ok()
    }

    /// A number in `range`, which may be absent.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<f64>,
        findings: &mut Findings,
    ) -> Option<f64> {
        let field = self.get(name, findings)?;
        let number = match field.node.value {
            #[expect(clippy::cast_precision_loss, reason = "what is out of range stays so")]
            Value::Int(number) => number as f64,
            Value::Float(number) => number,
            _ => {
                field.mismatch("a number", findings);
                return None;
            }
        };
        let is_fine = range.contains(&number);
        if !is_fine {
            let message = format!("must be from {} to {}", range.start(), range.end());
            field.error(message, None, findings);
        }
        is_fine.then_some(number)
    }

    /// A duration as Go writes it: `5s`, `1.5h`, `1m30s`.
    pub(super) fn duration(
        &mut self,
        name: &'static str,
        findings: &mut Findings,
    ) -> Option<Duration> {
        let field = self.get(name, findings)?;
        let text = field.string(findings)?;
        let duration = duration(&text);
        if duration.is_none() {
            let message = format!("`{}` is not a duration", quoted(&text));
            field.error(message, Some("for example `5s` or `1m30s`".into()), findings);
        }
        duration
    }

    /// A map from names to bytes in base64.
    pub(super) fn byte_map(
        &mut self,
        name: &'static str,
        findings: &mut Findings,
    ) -> BTreeMap<String, Arc<[u8]>> {
        let mut map = BTreeMap::new();
        for (key, item) in self.entries(name, findings) {
            let Some(text) = item.string(findings) else { continue };
            // Long values are written over several lines.
            let text: String = text.split_ascii_whitespace().collect();
            match STANDARD.decode(&text) {
                Ok(bytes) => drop(map.insert(key, bytes.into())),
                Err(_) => item.error("is not base64".into(), None, findings),
            }
        }
        map
    }
}

/// Source: Go, `time.ParseDuration`; a negative one means nothing here.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut nanos = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let (unit, factor) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        // `m` must not take the beginning of `ms`, which stands before it.
        rest = rest.get(unit.len()..)?;
        nanos += number * factor;
    }
    let is_sound = !text.is_empty() && nanos <= MAX_DURATION_NANOS;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded above, and digits without a sign are not negative"
    )]
    is_sound.then(|| Duration::from_nanos(nanos as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let rows = [
            ("5s", 5000),
            ("1.5s", 1500),
            ("500ms", 500),
            ("1m", 60_000),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1000us", 1),
            ("0s", 0),
        ];
        for (text, millis) in rows {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_durations() {
        for text in ["", "5", "s", "5 s", "-5s", "5d", "1..5s", "5s5", "999999h", "é", "5é"] {
            assert_eq!(duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_year_is_a_duration_and_more_is_none() {
        assert_eq!(duration("8760h"), Some(Duration::from_hours(8760)));
        assert_eq!(duration("8760h1s"), None);
    }
}
