//! Queues between VMs, on every thread.
//!
//! Source: Envoy: the last plugin that registers a queue is the one that is told about items.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::abi::Status;

/// Is told that an item came in. Called on any worker thread: it passes the word on to its own.
pub trait QueueConsumer: Send + Sync {
    /// An item was put into the queue with this token.
    fn item_ready(&self, token: u32);
}

/// Queues by VM id and name, and by token.
#[derive(Default)]
pub(crate) struct SharedQueues {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    tokens: HashMap<String, HashMap<Vec<u8>, u32>>,
    queues: HashMap<u32, Queue>,
    last_token: u32,
}

#[derive(Default)]
pub(crate) struct Queue {
    items: VecDeque<Bytes>,
    /// Of all items.
    bytes: usize,
    consumer: Option<Arc<dyn QueueConsumer>>,
}

// === impl SharedQueues ===

impl SharedQueues {
    /// Creates or opens a queue and makes the caller its consumer.
    ///
    /// # Errors
    /// [`Status::InternalFailure`] at `max_queues` of this VM id.
    pub(crate) fn register(
        &self,
        vm_id: &str,
        name: &[u8],
        consumer: Option<Arc<dyn QueueConsumer>>,
        max_queues: usize,
    ) -> Result<u32, Status> {
        let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        let tokens = inner.tokens.entry(vm_id.to_owned()).or_default();
        let token = match tokens.get(name) {
            Some(token) => *token,
            None if tokens.len() >= max_queues => return Err(Status::InternalFailure),
            None => {
                let token = inner.last_token.checked_add(1).ok_or(Status::InternalFailure)?;
                inner.last_token = token;
                tokens.insert(name.to_vec(), token);
                token
            }
        };
        let queue = inner.queues.entry(token).or_default();
        let previous = std::mem::replace(&mut queue.consumer, consumer);
        drop(guard);
        // The embedder's own code runs when it goes.
        drop(previous);
        Ok(token)
    }

    /// The token of a queue that somebody registered.
    pub(crate) fn resolve(&self, vm_id: &str, name: &[u8]) -> Option<u32> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.tokens.get(vm_id)?.get(name).copied()
    }

    /// Puts an item into a queue and tells its consumer.
    ///
    /// # Errors
    /// [`Status::NotFound`] for an unknown token, [`Status::InternalFailure`] if the queue is full.
    pub(crate) fn enqueue(
        &self,
        token: u32,
        item: Bytes,
        max_items: usize,
        max_bytes: usize,
    ) -> Result<(), Status> {
        let consumer = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let queue = inner.queues.get_mut(&token).ok_or(Status::NotFound)?;
            let bytes = queue.bytes.saturating_add(item.len());
            if queue.items.len() >= max_items || bytes > max_bytes {
                return Err(Status::InternalFailure);
            }
            queue.bytes = bytes;
            queue.items.push_back(item);
            queue.consumer.clone()
        };
        if let Some(consumer) = consumer {
            consumer.item_ready(token);
        }
        Ok(())
    }

    /// Takes the oldest item.
    ///
    /// # Errors
    /// [`Status::NotFound`] for an unknown token, [`Status::Empty`] if there is nothing.
    pub(crate) fn dequeue(&self, token: u32) -> Result<Bytes, Status> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = inner.queues.get_mut(&token).ok_or(Status::NotFound)?;
        let item = queue.items.pop_front().ok_or(Status::Empty)?;
        queue.bytes = queue.bytes.saturating_sub(item.len());
        Ok(item)
    }

    /// Takes out all queues of a VM id; their tokens are unknown from now on.
    pub(crate) fn remove(&self, vm_id: &str) -> Vec<Queue> {
        let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        let tokens = inner.tokens.remove(vm_id).unwrap_or_default();
        tokens.values().filter_map(|token| inner.queues.remove(token)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::SharedQueues;
    use crate::abi::Status;

    fn register(queues: &SharedQueues, vm_id: &str, name: &[u8]) -> u32 {
        queues.register(vm_id, name, None, 2).unwrap()
    }

    fn enqueue(queues: &SharedQueues, token: u32, item: &'static str) -> Result<(), Status> {
        queues.enqueue(token, item.into(), 2, 10)
    }

    #[test]
    fn items_come_out_in_order_and_then_it_is_empty() {
        let queues = SharedQueues::default();
        let token = register(&queues, "vm", b"q");
        assert_eq!(queues.resolve("vm", b"q"), Some(token));
        enqueue(&queues, token, "a").unwrap();
        enqueue(&queues, token, "b").unwrap();
        assert_eq!(register(&queues, "vm", b"q"), token);
        assert_eq!(queues.dequeue(token).unwrap(), "a");
        assert_eq!(queues.dequeue(token).unwrap(), "b");
        assert_eq!(queues.dequeue(token), Err(Status::Empty));
    }

    #[test]
    fn unknown_tokens_are_refused() {
        let queues = SharedQueues::default();
        assert_eq!(queues.resolve("vm", b"q"), None);
        assert_eq!(queues.dequeue(7), Err(Status::NotFound));
        assert_eq!(enqueue(&queues, 7, "a"), Err(Status::NotFound));
    }

    #[test]
    fn items_bytes_and_queues_are_limited() {
        let queues = SharedQueues::default();
        let token = register(&queues, "vm", b"1");
        assert_eq!(enqueue(&queues, token, "more than ten"), Err(Status::InternalFailure));
        enqueue(&queues, token, "1234567").unwrap();
        assert_eq!(enqueue(&queues, token, "1234"), Err(Status::InternalFailure));
        enqueue(&queues, token, "123").unwrap();
        assert_eq!(enqueue(&queues, token, ""), Err(Status::InternalFailure));
        queues.dequeue(token).unwrap();
        enqueue(&queues, token, "1234567").unwrap();
        register(&queues, "vm", b"2");
        assert_eq!(queues.register("vm", b"3", None, 2), Err(Status::InternalFailure));
        assert_eq!(register(&queues, "vm", b"1"), token);
        register(&queues, "other", b"3");
    }

    #[test]
    fn removed_queues_are_unknown_and_their_tokens_not_used_again() {
        let queues = SharedQueues::default();
        let token = register(&queues, "a", b"q");
        let other = register(&queues, "b", b"q");
        assert_eq!(queues.remove("a").len(), 1);
        assert_eq!(queues.resolve("a", b"q"), None);
        assert_eq!(queues.dequeue(token), Err(Status::NotFound));
        assert_eq!(queues.dequeue(other), Err(Status::Empty));
        assert!(register(&queues, "a", b"q") > other);
    }
}
