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
    tokens: HashMap<(String, Vec<u8>), u32>,
    queues: HashMap<u32, Queue>,
    last_token: u32,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Bytes>,
    consumer: Option<Arc<dyn QueueConsumer>>,
}

// === impl SharedQueues ===

impl SharedQueues {
    /// Creates or opens a queue and makes the caller its consumer.
    pub(crate) fn register(
        &self,
        vm_id: &str,
        name: &[u8],
        consumer: Option<Arc<dyn QueueConsumer>>,
    ) -> u32 {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (vm_id.to_owned(), name.to_vec());
        let token = match inner.tokens.get(&key) {
            Some(token) => *token,
            None => {
                inner.last_token = inner.last_token.saturating_add(1);
                let token = inner.last_token;
                inner.tokens.insert(key, token);
                token
            }
        };
        inner.queues.entry(token).or_default().consumer = consumer;
        token
    }

    /// The token of a queue that somebody registered.
    pub(crate) fn resolve(&self, vm_id: &str, name: &[u8]) -> Option<u32> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.tokens.get(&(vm_id.to_owned(), name.to_vec())).copied()
    }

    /// Puts an item into a queue and tells its consumer.
    ///
    /// # Errors
    /// [`Status::NotFound`] for an unknown token, [`Status::InternalFailure`] at `max_items`.
    pub(crate) fn enqueue(&self, token: u32, item: Bytes, max_items: usize) -> Result<(), Status> {
        let consumer = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let queue = inner.queues.get_mut(&token).ok_or(Status::NotFound)?;
            if queue.items.len() >= max_items {
                return Err(Status::InternalFailure);
            }
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
        queue.items.pop_front().ok_or(Status::Empty)
    }
}

#[cfg(test)]
mod tests {
    use super::SharedQueues;
    use crate::abi::Status;

    #[test]
    fn items_come_out_in_order_and_then_it_is_empty() {
        let queues = SharedQueues::default();
        let token = queues.register("vm", b"q", None);
        assert_eq!(queues.resolve("vm", b"q"), Some(token));
        queues.enqueue(token, "a".into(), 10).unwrap();
        queues.enqueue(token, "b".into(), 10).unwrap();
        assert_eq!(queues.register("vm", b"q", None), token);
        assert_eq!(queues.dequeue(token).unwrap(), "a");
        assert_eq!(queues.dequeue(token).unwrap(), "b");
        assert_eq!(queues.dequeue(token), Err(Status::Empty));
    }

    #[test]
    fn unknown_tokens_and_full_queues_are_refused() {
        let queues = SharedQueues::default();
        assert_eq!(queues.resolve("vm", b"q"), None);
        assert_eq!(queues.dequeue(7), Err(Status::NotFound));
        assert_eq!(queues.enqueue(7, "a".into(), 10), Err(Status::NotFound));
        let token = queues.register("vm", b"q", None);
        queues.enqueue(token, "a".into(), 1).unwrap();
        assert_eq!(queues.enqueue(token, "b".into(), 1), Err(Status::InternalFailure));
    }
}
