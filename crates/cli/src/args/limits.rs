//! Limits on the command line: `--limit NAME=VALUE`.

use wasmplug_host::{LimitSlot, Limits};
use wasmplug_proxy::ProxyLimits;

/// One limit that the user sets; its name and value are known to be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitSetting {
    name: String,
    value: String,
}

// === impl LimitSetting ===

impl LimitSetting {
    /// Sets the limit, where it belongs.
    pub(crate) fn apply(&self, vm: &mut Limits, proxy: &mut ProxyLimits) {
        if let Some(slot) = slot(&self.name, vm, proxy) {
            // It was tried when it was read.
            let _ = slot.set(&self.value);
        }
    }
}

pub(super) fn parse(text: &str) -> Result<LimitSetting, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not of the form NAME=VALUE, such as queues=100"))?;
    let (mut vm, mut proxy) = (Limits::default(), ProxyLimits::default());
    let slot = slot(name, &mut vm, &mut proxy).ok_or_else(|| unknown(name))?;
    slot.set(value).map_err(|error| error.to_string())?;
    Ok(LimitSetting { name: name.to_owned(), value: value.to_owned() })
}

fn slot<'a>(name: &str, vm: &'a mut Limits, proxy: &'a mut ProxyLimits) -> Option<LimitSlot<'a>> {
    vm.slot(name).or_else(|| proxy.slot(name))
}

fn unknown(name: &str) -> String {
    let known = Limits::NAMES.iter().chain(&ProxyLimits::NAMES).copied().collect::<Vec<_>>();
    format!("there is no limit `{name}`; there are: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wasmplug_host::Limits;
    use wasmplug_proxy::ProxyLimits;

    use super::parse;

    #[test]
    fn limits_of_vms_and_of_the_proxy_are_set_by_name() {
        let (mut vm, mut proxy) = (Limits::default(), ProxyLimits::default());
        for text in ["callback_deadline=20ms", "buffer_bytes=64K"] {
            parse(text).unwrap().apply(&mut vm, &mut proxy);
        }
        assert_eq!(vm.callback_deadline, Duration::from_millis(20));
        assert_eq!(proxy.buffer_bytes, 64 << 10);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("queues", "NAME=VALUE"),
            ("queue=1", "there is no limit `queue`; there are: callback_deadline, "),
            ("queues=0", "`0` is no value of a limit: it must be a whole number above zero"),
            ("buffer_bytes=1T", "such as 4096, 64K"),
        ] {
            assert!(parse(text).unwrap_err().contains(part), "{text}");
        }
    }
}
