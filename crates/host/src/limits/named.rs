//! Limits as operators write them: a name and a value, such as `callback_deadline=50ms`.

use std::time::Duration;

use super::Limits;

/// A limit that can be set by its name.
#[derive(Debug)]
pub enum LimitSlot<'a> {
    /// A time, such as `50ms`, `2s`, `5m` or `1h`.
    Time(&'a mut Duration),
    /// A time that may also be without a bound, which it is as long as it is not set.
    OptionalTime(&'a mut Option<Duration>),
    /// Bytes, such as `4096`, `64K`, `16M` or `1G`, in powers of 1024.
    Bytes(&'a mut usize),
    /// How many of something.
    Count(&'a mut usize),
    /// How many of something, a small number.
    SmallCount(&'a mut u32),
}

/// Why a text is no value of a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no value of a limit: it must be {expected}")]
pub struct LimitValueError {
    /// What was given.
    pub text: String,
    /// What would have been right.
    pub expected: &'static str,
}

/// Why a limit of one VM cannot be set by its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetLimitError {
    /// There is no such limit.
    #[error("there is no limit `{name}` of a VM; there are: {}", Limits::NAMES.join(", "))]
    Unknown {
        /// What was given.
        name: String,
    },
    /// It cannot have this value.
    #[error("limit `{name}`")]
    Value {
        /// The limit.
        name: String,
        /// Why.
        #[source]
        source: LimitValueError,
    },
    /// It is more than the process allows.
    #[error("limit `{name}`: `{text}` is more than this process allows")]
    Beyond {
        /// The limit.
        name: String,
        /// What was given.
        text: String,
    },
}

// === impl LimitSlot ===

impl LimitSlot<'_> {
    /// How much it allows, in nanoseconds, bytes or things.
    fn amount(&self) -> u128 {
        let of_count = |count: &usize| u128::try_from(*count).unwrap_or(u128::MAX);
        match self {
            Self::Time(time) => time.as_nanos(),
            Self::OptionalTime(time) => time.map_or(u128::MAX, |time| time.as_nanos()),
            Self::Bytes(count) | Self::Count(count) => of_count(count),
            Self::SmallCount(count) => u128::from(**count),
        }
    }

    /// Sets the limit to what a text says.
    ///
    /// # Errors
    /// The text is no value above zero of this kind, or is beyond what a machine can count.
    pub fn set(self, text: &str) -> Result<(), LimitValueError> {
        let expected = self.expected();
        let set = || -> Option<()> {
            match self {
                Self::Time(time) => *time = parse_time(text)?,
                Self::OptionalTime(time) => *time = Some(parse_time(text)?),
                Self::Bytes(bytes) => *bytes = parse_bytes(text)?,
                Self::Count(count) => *count = parse_number(text)?,
                Self::SmallCount(count) => *count = u32::try_from(parse_number(text)?).ok()?,
            }
            Some(())
        };
        set().ok_or_else(|| LimitValueError { text: text.to_owned(), expected })
    }

    fn expected(&self) -> &'static str {
        match self {
            Self::Time(_) | Self::OptionalTime(_) => {
                "a time above zero, such as 50ms, 2s, 5m or 1h"
            }
            Self::Bytes(_) => "a size above zero, such as 4096, 64K, 16M or 1G",
            Self::Count(_) | Self::SmallCount(_) => "a whole number above zero",
        }
    }
}

// === impl Limits ===

impl Limits {
    /// Names of all limits, as [`Limits::slot`] knows them.
    pub const NAMES: [&'static str; 15] = [
        "callback_deadline",
        "start_deadline",
        "memory_bytes",
        "table_elements",
        "contexts",
        "shared_data_entry_bytes",
        "shared_data_keys",
        "shared_data_bytes",
        "queues",
        "queue_items",
        "queue_bytes",
        "metrics",
        "log_lines_per_second",
        "log_line_bytes",
        "expressions",
    ];

    /// Makes a limit tighter than it is.
    ///
    /// # Errors
    /// There is no such limit, the text is no value, or it would allow more than before; nothing is
    /// changed then.
    pub fn tighten(&mut self, name: &str, text: &str) -> Result<(), SetLimitError> {
        let mut tighter = self.clone();
        let slot = tighter.slot(name);
        let slot = slot.ok_or_else(|| SetLimitError::Unknown { name: name.to_owned() })?;
        let before = slot.amount();
        slot.set(text).map_err(|source| SetLimitError::Value { name: name.to_owned(), source })?;
        if tighter.slot(name).is_none_or(|slot| slot.amount() > before) {
            let (name, text) = (name.to_owned(), text.to_owned());
            return Err(SetLimitError::Beyond { name, text });
        }
        *self = tighter;
        Ok(())
    }

    /// The limit of this name, to be set. `None` if there is none.
    pub fn slot(&mut self, name: &str) -> Option<LimitSlot<'_>> {
        // All of them, so that none is forgotten here.
        let Self {
            callback_deadline,
            start_deadline,
            memory_bytes,
            table_elements,
            contexts,
            shared_data_entry_bytes,
            shared_data_keys,
            shared_data_bytes,
            queues,
            queue_items,
            queue_bytes,
            metrics,
            log_lines_per_second,
            log_line_bytes,
            expressions,
        } = self;
        Some(match name {
            "callback_deadline" => LimitSlot::Time(callback_deadline),
            "start_deadline" => LimitSlot::Time(start_deadline),
            "memory_bytes" => LimitSlot::Bytes(memory_bytes),
            "table_elements" => LimitSlot::Count(table_elements),
            "contexts" => LimitSlot::Count(contexts),
            "shared_data_entry_bytes" => LimitSlot::Bytes(shared_data_entry_bytes),
            "shared_data_keys" => LimitSlot::Count(shared_data_keys),
            "shared_data_bytes" => LimitSlot::Bytes(shared_data_bytes),
            "queues" => LimitSlot::Count(queues),
            "queue_items" => LimitSlot::Count(queue_items),
            "queue_bytes" => LimitSlot::Bytes(queue_bytes),
            "metrics" => LimitSlot::Count(metrics),
            "log_lines_per_second" => LimitSlot::SmallCount(log_lines_per_second),
            "log_line_bytes" => LimitSlot::Bytes(log_line_bytes),
            "expressions" => LimitSlot::Count(expressions),
            _ => return None,
        })
    }
}

fn parse_time(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let number = u64::try_from(number).ok()?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(60 * 60),
        _ => None,
    }
}

fn parse_bytes(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn parse_number(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    unit.is_empty().then_some(number)
}

/// A number above zero, in digits alone, and what follows it.
fn split(text: &str) -> Option<(usize, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let number = number.parse().ok().filter(|number| *number > 0)?;
    Some((number, unit))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Limits, SetLimitError};

    #[test]
    fn a_limit_can_be_tightened_and_not_loosened() {
        let mut limits = Limits::default();
        limits.tighten("memory_bytes", "16M").unwrap();
        limits.tighten("callback_deadline", "100ms").unwrap();
        let expected = Limits { memory_bytes: 16 << 20, ..Limits::default() };
        assert_eq!(limits, expected);
        for (name, text, is_right) in [
            ("memory_bytes", "17M", (|e| matches!(e, SetLimitError::Beyond { .. })) as fn(_) -> _),
            ("callback_deadline", "1s", |e| matches!(e, SetLimitError::Beyond { .. })),
            ("queues", "no", |e| matches!(e, SetLimitError::Value { .. })),
            ("buffer_bytes", "1K", |e| matches!(e, SetLimitError::Unknown { .. })),
        ] {
            let error: SetLimitError = limits.tighten(name, text).unwrap_err();
            assert!(is_right(error.clone()), "{error}");
            assert_eq!(limits, expected);
        }
    }

    #[test]
    fn each_name_has_a_limit_and_each_limit_is_set_by_its_name() {
        let mut limits = Limits::default();
        for name in Limits::NAMES {
            assert!(limits.slot(name).is_some(), "{name}");
        }
        limits.slot("callback_deadline").unwrap().set("50ms").unwrap();
        limits.slot("memory_bytes").unwrap().set("16M").unwrap();
        limits.slot("queues").unwrap().set("7").unwrap();
        limits.slot("log_lines_per_second").unwrap().set("5").unwrap();
        let expected = Limits {
            callback_deadline: Duration::from_millis(50),
            memory_bytes: 16 << 20,
            queues: 7,
            log_lines_per_second: 5,
            ..Limits::default()
        };
        assert_eq!(limits, expected);
        assert!(limits.slot("callback-deadline").is_none());
    }

    #[test]
    fn values_of_another_kind_change_nothing() {
        for (name, text) in [
            ("callback_deadline", "50"),
            ("callback_deadline", "0ms"),
            ("callback_deadline", "-1s"),
            ("callback_deadline", "18446744073709551615h"),
            ("memory_bytes", "16Mi"),
            ("memory_bytes", "99999999999G"),
            ("queues", "7M"),
            ("queues", ""),
            ("queues", "0"),
            ("log_lines_per_second", "4294967296"),
        ] {
            let mut limits = Limits::default();
            let error = limits.slot(name).unwrap().set(text).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
            assert_eq!(limits, Limits::default(), "{name}={text}");
        }
    }
}
