//! What a plugin on a thread of its own may see and change of a stream on a worker.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::Notify;
use wasmplug_host::abi::Status;
use wasmplug_host::{Fields, LifeSpan, PropertyValue, StreamHost};

use super::Effect;
use crate::attributes::{StreamFacts, StreamShared, Surroundings};

/// Streams that were given something to do outside their own callbacks.
#[derive(Default)]
pub(super) struct Woken {
    pub(super) streams: RefCell<Vec<u64>>,
    pub(super) notify: Notify,
}

/// A stream as the plugin sees it: a replica that knows what its worker knew at the last call.
pub(super) struct RemoteHost {
    number: u64,
    surroundings: Rc<Surroundings>,
    /// `None` before the first call.
    replica: RefCell<Option<Rc<StreamShared>>>,
    effects: RefCell<Vec<Effect>>,
    woken: Rc<Woken>,
}

// === impl RemoteHost ===

impl RemoteHost {
    pub(super) fn new(number: u64, surroundings: Rc<Surroundings>, woken: Rc<Woken>) -> Self {
        Self {
            number,
            surroundings,
            replica: RefCell::default(),
            effects: RefCell::default(),
            woken,
        }
    }

    /// Takes over what the worker knows.
    pub(super) fn learn(&self, facts: StreamFacts) {
        let mut replica = self.replica.borrow_mut();
        match &*replica {
            Some(replica) => replica.learn(facts),
            None => {
                let surroundings = Rc::clone(&self.surroundings);
                *replica = Some(Rc::new(StreamShared::replica(facts, surroundings)));
            }
        }
    }

    /// Takes what the worker has to be told.
    pub(super) fn take_effects(&self) -> Vec<Effect> {
        std::mem::take(&mut *self.effects.borrow_mut())
    }

    fn replica(&self) -> Option<Rc<StreamShared>> {
        self.replica.borrow().clone()
    }
}

impl StreamHost for RemoteHost {
    fn property(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        self.replica()?.property(path)
    }

    fn set_property(&self, name: &[u8], value: &[u8], span: LifeSpan) -> Result<(), Status> {
        self.replica().ok_or(Status::NotFound)?.set_property(name, value, span)?;
        self.effects.borrow_mut().push(Effect::Property(name.to_vec(), value.to_vec(), span));
        Ok(())
    }

    fn set_filter_state(&self, key: &str, value: &[u8], span: LifeSpan) -> Result<(), Status> {
        self.replica().ok_or(Status::NotFound)?.set_filter_state(key, value, span)?;
        self.effects.borrow_mut().push(Effect::FilterState(key.to_owned(), value.to_vec(), span));
        Ok(())
    }

    fn clear_route_cache(&self, headers: Option<&Fields>) {
        if let Some(replica) = self.replica()
            && headers.is_some()
        {
            replica.clear_route_cache(headers);
            let mut effects = self.effects.borrow_mut();
            // The last one counts, however often a plugin says it.
            effects.retain(|effect| !matches!(effect, Effect::Route(_)));
            effects.push(Effect::Route(replica.route_index()));
        }
    }

    fn wake(&self) {
        let mut streams = self.woken.streams.borrow_mut();
        if !streams.contains(&self.number) {
            streams.push(self.number);
        }
        drop(streams);
        self.woken.notify.notify_one();
    }
}
