//! What a worker does for a plugin as a whole: timers, calls, names, and word of queued items.

mod grpc;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use wasmplug_host::abi::Status;
use wasmplug_host::{
    DnsAnswer, Failure, GrpcCall, GrpcTarget, HttpCall, Plugin, PluginCosts, PluginServices,
    PropertyValue, QueueConsumer,
};

use self::grpc::GrpcInFlight;
use super::factory::Runner;
use crate::callout::ByteBudget;
use crate::plugin_home::PluginHome;
use crate::snapshot::PluginRole;

/// Most calls of one plugin on one worker that wait for their answers.
///
/// Source: ours, after Envoy's circuit breakers, whose default is the same.
const MAX_CALLS: usize = 1024;
/// Most words about queued items that wait to be passed on; further ones are dropped.
const MAX_READY: usize = 10_000;

/// Services of one plugin on one worker.
pub(crate) struct WorkerServices {
    runner: Weak<Runner>,
    home: Rc<PluginHome>,
    timer: RefCell<Option<AbortHandle>>,
    calls: RefCell<JoinSet<()>>,
    grpc: RefCell<HashMap<u32, GrpcInFlight>>,
    queues: RefCell<Vec<AbortHandle>>,
    sending: ByteBudget,
    is_warned: Cell<bool>,
}

/// Passes the word on from whichever thread queued an item.
struct ReadySender(mpsc::Sender<u32>);

/// One start of a plugin: what was asked for in it is told to no later one.
#[derive(Clone)]
struct Started {
    runner: Weak<Runner>,
    generation: Option<u64>,
}

// === impl WorkerServices ===

impl WorkerServices {
    pub(super) fn new(runner: Weak<Runner>, home: Rc<PluginHome>) -> Self {
        Self {
            runner,
            home,
            timer: RefCell::default(),
            calls: RefCell::default(),
            grpc: RefCell::default(),
            queues: RefCell::default(),
            sending: ByteBudget::default(),
            is_warned: Cell::default(),
        }
    }

    /// Ends the timer, forgets calls in flight, and listens to no queue: the plugin is gone.
    pub(super) fn stop(&self) {
        if let Some(timer) = self.timer.borrow_mut().take() {
            timer.abort();
        }
        self.queues.borrow_mut().drain(..).for_each(|queue| queue.abort());
        self.calls.borrow_mut().abort_all();
        self.grpc.borrow_mut().clear();
    }

    /// Says once which clusters there are.
    fn warn_unknown(&self, target: &str) {
        if !self.is_warned.replace(true)
            && let Some(runner) = self.runner.upgrade()
        {
            tracing::warn!(
                plugin.name = %runner.spec().resource,
                cluster = target,
                known = self.home.clusters.names(),
                "the plugin calls a cluster that is not configured"
            );
        }
    }

    /// # Errors
    /// [`Status::InternalFailure`] for a shadow: what it does must not be felt by others.
    fn check_may_call(&self) -> Result<(), Status> {
        let runner = self.runner.upgrade();
        let is_shadow = runner.is_some_and(|of| of.spec().role == PluginRole::Shadow);
        if is_shadow { Err(Status::InternalFailure) } else { Ok(()) }
    }

    fn started(&self) -> Started {
        let generation = self.runner.upgrade().map(|runner| runner.generation());
        Started { runner: self.runner.clone(), generation }
    }

    /// Runs something that answers a plugin later; [`WorkerServices::stop`] ends it.
    ///
    /// # Errors
    /// [`Status::InternalFailure`] if too much is in flight already.
    fn spawn(&self, task: impl Future<Output = ()> + 'static) -> Result<AbortHandle, Status> {
        let mut calls = self.calls.borrow_mut();
        while calls.try_join_next().is_some() {}
        if calls.len() >= MAX_CALLS {
            return Err(Status::InternalFailure);
        }
        Ok(calls.spawn_local(task))
    }
}

// === impl Started ===

impl Started {
    /// Tells the plugin something, if it is still the same start of it. Returns whether it is.
    fn tell(&self, tell: impl FnOnce(&Plugin) -> Result<(), Failure>) -> bool {
        let Some(runner) = self.runner.upgrade() else { return false };
        let Some(plugin) = runner.plugin() else { return false };
        if Some(runner.generation()) != self.generation {
            return false;
        }
        match tell(&plugin) {
            Ok(()) => true,
            Err(failure) => {
                runner.failed(&failure);
                false
            }
        }
    }
}

impl PluginServices for WorkerServices {
    fn costs(&self) -> Option<Arc<PluginCosts>> {
        Some(self.runner.upgrade()?.costs().host())
    }

    fn set_tick_period(&self, period: Option<Duration>) {
        if let Some(timer) = self.timer.borrow_mut().take() {
            timer.abort();
        }
        let Some(period) = period else { return };
        let started = self.started();
        // Ends with the plugin at the latest: it holds it weakly, and `stop` aborts it.
        let timer = tokio::task::spawn_local(async move {
            loop {
                // The next period begins when the callback has returned, as in Envoy.
                tokio::time::sleep(period).await;
                if !started.tell(Plugin::tick) {
                    return;
                }
            }
        });
        *self.timer.borrow_mut() = Some(timer.abort_handle());
    }

    fn http_call(&self, call: HttpCall) -> Result<(), Status> {
        self.check_may_call()?;
        let token = call.token;
        if !self.home.clusters.knows(&call.target) {
            self.warn_unknown(&call.target);
        }
        let held = self.sending.take(call.body.len())?;
        let callout = self.home.clusters.prepare(call)?;
        let started = self.started();
        self.spawn(async move {
            let answer = callout.send().await;
            drop(held);
            started.tell(|plugin| plugin.on_http_call_response(token, answer));
        })?;
        Ok(())
    }

    fn grpc_call(&self, call: GrpcCall) -> Result<(), Status> {
        self.check_may_call()?;
        self.start_grpc_call(call)
    }

    fn grpc_stream(&self, token: u32, target: GrpcTarget) -> Result<(), Status> {
        self.check_may_call()?;
        self.start_grpc_stream(token, target)
    }

    fn grpc_send(&self, token: u32, message: Bytes, end_of_stream: bool) -> Result<(), Status> {
        self.send_grpc(token, &message, end_of_stream)
    }

    fn grpc_close(&self, token: u32) {
        self.close_grpc(token);
    }

    fn grpc_cancel(&self, token: u32) {
        self.grpc.borrow_mut().remove(&token);
    }

    fn resolve_dns(&self, token: u32, name: &str) -> Result<(), Status> {
        let name = name.to_owned();
        let started = self.started();
        self.spawn(async move {
            // The system's resolver tells no lifetime.
            let answer = |address: std::net::SocketAddr| DnsAnswer {
                ttl_seconds: 0,
                address: address.to_string(),
            };
            let found = tokio::net::lookup_host((name, 0)).await;
            let answers: Vec<_> = found.into_iter().flatten().map(answer).collect();
            started.tell(|plugin| plugin.on_resolve_dns(token, &answers));
        })?;
        Ok(())
    }

    fn queue_consumer(&self) -> Option<Arc<dyn QueueConsumer>> {
        let (sender, mut ready) = ready_words();
        let started = self.started();
        // Ends with the plugin, or when a later registration takes its place and drops the sender.
        let task = tokio::task::spawn_local(async move {
            while let Some(token) = ready.recv().await {
                if !started.tell(|plugin| plugin.on_queue_ready(token)) {
                    return;
                }
            }
        });
        let mut queues = self.queues.borrow_mut();
        queues.retain(|queue| !queue.is_finished());
        queues.push(task.abort_handle());
        Some(Arc::new(sender))
    }

    fn property(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        match path {
            [b"xds", b"node", rest @ ..] | [b"node", rest @ ..] => {
                self.home.surroundings.node.property(rest)
            }
            _ => None,
        }
    }

    fn died(&self, failure: &Failure) {
        if let Some(factory) = self.runner.upgrade().and_then(|runner| runner.factory()) {
            factory.died(failure);
        }
    }

    fn ended(&self) {
        self.home.forget(|retired| retired.is_served_by(self));
    }
}

impl QueueConsumer for ReadySender {
    fn item_ready(&self, token: u32) {
        // Full: the plugin has thousands of words waiting and will look at its queue anyway.
        let _ = self.0.try_send(token);
    }
}

/// Where words about queued items wait until the plugin can be told.
fn ready_words() -> (ReadySender, mpsc::Receiver<u32>) {
    let (sender, ready) = mpsc::channel(MAX_READY);
    (ReadySender(sender), ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_about_queued_items_are_dropped_where_too_many_wait() {
        let (sender, mut ready) = ready_words();
        let most = u32::try_from(MAX_READY).unwrap();
        (0..=most).for_each(|token| sender.item_ready(token));
        let mut next = || ready.try_recv().ok();
        let told: Vec<u32> = std::iter::from_fn(&mut next).collect();
        assert_eq!(told, (0..most).collect::<Vec<_>>());
        sender.item_ready(most);
        assert_eq!(ready.try_recv(), Ok(most));
    }
}
