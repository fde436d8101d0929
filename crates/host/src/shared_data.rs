//! Values that all VMs of one VM id share, on every thread.
//!
//! Source: Envoy: one process-wide compare-and-swap counter that is never 0.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::abi::Status;

/// Values by VM id and key.
#[derive(Debug, Default)]
pub(crate) struct SharedData {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_vm_id: HashMap<String, Values>,
    last_cas: u32,
}

/// Values of one VM id, each with its compare-and-swap number.
#[derive(Debug, Default)]
pub(crate) struct Values {
    by_key: HashMap<Vec<u8>, (Bytes, u32)>,
    /// Of all keys and values.
    bytes: usize,
}

/// How much one VM id may store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    pub(crate) keys: usize,
    pub(crate) bytes: usize,
}

// === impl SharedData ===

impl SharedData {
    /// The value and its compare-and-swap number.
    pub(crate) fn get(&self, vm_id: &str, key: &[u8]) -> Option<(Bytes, u32)> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.by_vm_id.get(vm_id)?.by_key.get(key).cloned()
    }

    /// Stores a value. `cas` 0 means whatever is there now.
    ///
    /// # Errors
    /// [`Status::CasMismatch`] if the key exists with another number, [`Status::InternalFailure`]
    /// beyond the quota.
    pub(crate) fn set(
        &self,
        vm_id: &str,
        key: &[u8],
        value: Bytes,
        cas: u32,
        quota: Quota,
    ) -> Result<(), Status> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let next = inner.last_cas.checked_add(1).unwrap_or(1);
        if !inner.by_vm_id.contains_key(vm_id) {
            inner.by_vm_id.insert(vm_id.to_owned(), Values::default());
        }
        let Some(values) = inner.by_vm_id.get_mut(vm_id) else {
            return Err(Status::InternalFailure);
        };
        let is_full = values.by_key.len() >= quota.keys;
        let with = |bytes: usize| {
            let sum = values.bytes.saturating_add(bytes).saturating_add(value.len());
            if sum > quota.bytes { Err(Status::InternalFailure) } else { Ok(sum) }
        };
        match values.by_key.get_mut(key) {
            Some((_, present)) if cas != 0 && *present != cas => return Err(Status::CasMismatch),
            Some(entry) => {
                values.bytes = with(0)?.saturating_sub(entry.0.len());
                *entry = (value, next);
            }
            None if is_full => return Err(Status::InternalFailure),
            None => {
                values.bytes = with(key.len())?;
                values.by_key.insert(key.to_vec(), (value, next));
            }
        }
        inner.last_cas = next;
        Ok(())
    }

    /// Takes out all values of a VM id.
    pub(crate) fn remove(&self, vm_id: &str) -> Option<Values> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.by_vm_id.remove(vm_id)
    }
}

#[cfg(test)]
mod tests {
    use super::{Quota, SharedData};
    use crate::abi::Status;

    const QUOTA: Quota = Quota { keys: 10, bytes: 1000 };

    fn set(data: &SharedData, vm_id: &str, value: &'static str, cas: u32) -> Result<(), Status> {
        data.set(vm_id, b"k", value.into(), cas, QUOTA)
    }

    #[test]
    fn the_number_of_another_write_is_refused() {
        let data = SharedData::default();
        set(&data, "a", "1", 0).unwrap();
        let (_, cas) = data.get("a", b"k").unwrap();
        set(&data, "a", "2", cas).unwrap();
        assert_eq!(set(&data, "a", "3", cas), Err(Status::CasMismatch));
        assert_eq!(data.get("a", b"k").unwrap().0, "2");
        set(&data, "a", "4", 0).unwrap();
    }

    #[test]
    fn a_missing_key_takes_any_number() {
        let data = SharedData::default();
        set(&data, "a", "1", 77).unwrap();
        assert_eq!(data.get("a", b"k").unwrap().0, "1");
    }

    #[test]
    fn vm_ids_do_not_see_each_other() {
        let data = SharedData::default();
        set(&data, "a", "1", 0).unwrap();
        assert!(data.get("b", b"k").is_none());
    }

    #[test]
    fn keys_are_limited_and_present_ones_stay_writable() {
        let data = SharedData::default();
        let quota = Quota { keys: 1, ..QUOTA };
        data.set("a", b"1", "x".into(), 0, quota).unwrap();
        assert_eq!(data.set("a", b"2", "x".into(), 0, quota), Err(Status::InternalFailure));
        data.set("a", b"1", "y".into(), 0, quota).unwrap();
    }

    #[test]
    fn bytes_are_limited_and_those_of_a_replaced_value_are_free_again() {
        let data = SharedData::default();
        let quota = Quota { bytes: 8, ..QUOTA };
        let set = |key: &[u8], value: &'static str| data.set("a", key, value.into(), 0, quota);
        set(b"1", "1234").unwrap();
        assert_eq!(set(b"2", "123"), Err(Status::InternalFailure));
        set(b"1", "1").unwrap();
        set(b"2", "1234").unwrap();
        assert_eq!(set(b"2", "12345678"), Err(Status::InternalFailure));
        assert_eq!(data.get("a", b"2").unwrap().0, "1234");
    }

    #[test]
    fn removed_values_are_gone_and_numbers_go_on() {
        let data = SharedData::default();
        set(&data, "a", "1", 0).unwrap();
        set(&data, "b", "1", 0).unwrap();
        assert!(data.remove("a").is_some());
        assert!(data.get("a", b"k").is_none());
        set(&data, "a", "2", 0).unwrap();
        assert_eq!(data.get("a", b"k").unwrap(), ("2".into(), 3));
        assert_eq!(data.get("b", b"k").unwrap(), ("1".into(), 2));
    }
}
