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
    by_vm_id: HashMap<String, HashMap<Vec<u8>, (Bytes, u32)>>,
    last_cas: u32,
}

// === impl SharedData ===

impl SharedData {
    /// The value and its compare-and-swap number.
    pub(crate) fn get(&self, vm_id: &str, key: &[u8]) -> Option<(Bytes, u32)> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.by_vm_id.get(vm_id)?.get(key).cloned()
    }

    /// Stores a value. `cas` 0 means whatever is there now.
    ///
    /// # Errors
    /// [`Status::CasMismatch`] if the key exists with another number, [`Status::InternalFailure`]
    /// beyond `max_keys`.
    pub(crate) fn set(
        &self,
        vm_id: &str,
        key: &[u8],
        value: Bytes,
        cas: u32,
        max_keys: usize,
    ) -> Result<(), Status> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let next = inner.last_cas.checked_add(1).unwrap_or(1);
        if !inner.by_vm_id.contains_key(vm_id) {
            inner.by_vm_id.insert(vm_id.to_owned(), HashMap::new());
        }
        let Some(values) = inner.by_vm_id.get_mut(vm_id) else {
            return Err(Status::InternalFailure);
        };
        let is_full = values.len() >= max_keys;
        match values.get_mut(key) {
            Some((_, present)) if cas != 0 && *present != cas => return Err(Status::CasMismatch),
            Some(entry) => *entry = (value, next),
            None if is_full => return Err(Status::InternalFailure),
            None => {
                values.insert(key.to_vec(), (value, next));
            }
        }
        inner.last_cas = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::SharedData;
    use crate::abi::Status;

    fn set(data: &SharedData, vm_id: &str, value: &'static str, cas: u32) -> Result<(), Status> {
        data.set(vm_id, b"k", value.into(), cas, 10)
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
        data.set("a", b"1", "x".into(), 0, 1).unwrap();
        assert_eq!(data.set("a", b"2", "x".into(), 0, 1), Err(Status::InternalFailure));
        data.set("a", b"1", "y".into(), 0, 1).unwrap();
    }
}
