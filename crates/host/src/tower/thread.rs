//! The plugin's own thread.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, LocalSet};

use super::LayerError;
use crate::back_off::BackOff;
use crate::buffered::{BufferedStream, plain};
use crate::compiled_module::CompiledModule;
use crate::error::StartError;
use crate::fields::Fields;
use crate::host::Host;
use crate::plugin::{Plugin, PluginConfig};
use crate::services::PluginServices;
use crate::stream::{LogFields, StreamHost};
use crate::vm::VmHandle;
use crate::vm_state::VmConfig;

/// Requests that wait for the thread to take them.
const MAX_WAITING: usize = 1024;
/// The way to the plugin's thread, which ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct PluginThread {
    jobs: mpsc::Sender<Job>,
}

/// One exchange.
pub(super) struct Job {
    pub(super) request: Request<Bytes>,
    /// What became of the request: it goes on, or it is answered already.
    pub(super) passed: oneshot::Sender<Result<Request<Bytes>, Response<Bytes>>>,
    /// The response, and where it goes on.
    pub(super) response: oneshot::Receiver<(Response<Bytes>, oneshot::Sender<Response<Bytes>>)>,
    pub(super) hold: Duration,
}

/// Everything of the plugin on its thread.
struct Home {
    host: Arc<Host>,
    module: CompiledModule,
    config: PluginConfig,
    plugin: RefCell<Option<Plugin>>,
    timer: RefCell<Option<AbortHandle>>,
    back_off: Cell<BackOff>,
}

struct Services(Weak<Home>);

/// A stream about which nothing else is known than its messages.
struct PlainStream;

impl StreamHost for PlainStream {}

// === impl PluginThread ===

impl PluginThread {
    pub(super) fn start(module: &[u8], configuration: &str) -> Result<Self, LayerError> {
        let host = Arc::new(Host::new().map_err(LayerError::Load)?);
        let module = CompiledModule::compile(&host, module).map_err(LayerError::Load)?;
        let config = PluginConfig {
            name: "tower".to_owned(),
            configuration: Bytes::copy_from_slice(configuration.as_bytes()),
            ..PluginConfig::default()
        };
        let (jobs, received) = mpsc::channel(MAX_WAITING);
        let (started, has_started) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("wasm-plugin".into());
        let spawned = thread.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let Ok(runtime) = runtime else { return };
            let local = LocalSet::new();
            local.block_on(&runtime, async move {
                let home = Rc::new(Home::new(host, module, config));
                let first = home.start().map(drop);
                let is_fine = first.is_ok();
                // Whoever waits for it is still there: it started this thread.
                let _ = started.send(first);
                if is_fine {
                    home.serve(received).await;
                }
            });
        });
        spawned.map_err(LayerError::Thread)?;
        let gone = || LayerError::Thread(std::io::Error::other("the plugin's thread ended"));
        has_started.recv().map_err(|_| gone())?.map_err(LayerError::Start)?;
        Ok(Self { jobs })
    }

    /// Hands an exchange over. Nobody hears of it if the thread is gone: the job is dropped.
    pub(super) async fn send(&self, job: Job) {
        let _ = self.jobs.send(job).await;
    }
}

// === impl Home ===

impl Home {
    fn new(host: Arc<Host>, module: CompiledModule, config: PluginConfig) -> Self {
        let (plugin, timer) = (RefCell::default(), RefCell::default());
        Self { host, module, config, plugin, timer, back_off: Cell::default() }
    }

    async fn serve(self: Rc<Self>, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.recv().await {
            // Ends with its exchange, or with the thread.
            tokio::task::spawn_local(Rc::clone(&self).exchange(job));
        }
        if let Some(plugin) = self.plugin.borrow_mut().take() {
            plugin.shut_down();
        }
    }

    /// The plugin, started anew if it died. `None` if it does not run, and it is too early to try
    /// again or it does not start.
    fn plugin(self: &Rc<Self>) -> Option<Plugin> {
        let running = self.plugin.borrow().clone().filter(|plugin| !plugin.vm().is_failed());
        running.or_else(|| {
            let may_start = self.back_off.get().may_start(Instant::now());
            may_start.then(|| self.start().ok()).flatten()
        })
    }

    fn start(self: &Rc<Self>) -> Result<Plugin, StartError> {
        let died = self.plugin.borrow_mut().take();
        drop(died);
        self.stop_timer();
        self.back_off.set(self.back_off.get().after_start(Instant::now(), 0.0));
        let vm = VmHandle::start(&self.host, &self.module, VmConfig::default())?;
        let services = Rc::new(Services(Rc::downgrade(self)));
        let started = Plugin::start(&vm, &self.config, services);
        match &started {
            Ok(plugin) => *self.plugin.borrow_mut() = Some(plugin.clone()),
            Err(_) => self.stop_timer(),
        }
        started
    }

    /// A timer that outlives its plugin would tick the next one.
    fn stop_timer(&self) {
        if let Some(timer) = self.timer.borrow_mut().take() {
            timer.abort();
        }
    }

    async fn exchange(self: Rc<Self>, job: Job) {
        let Job { request, passed, response, hold } = job;
        let opened = self.plugin().and_then(|plugin| {
            let stream = BufferedStream::open(&plugin, Rc::new(PlainStream))?;
            Some((plugin, stream))
        });
        let Some((plugin, mut stream)) = opened else {
            let _ = passed.send(Err(plain(StatusCode::SERVICE_UNAVAILABLE)));
            return;
        };
        let mut log = LogFields::default();
        let held = tokio::time::timeout(hold, stream.pass_request(request)).await;
        let result = match held {
            Ok(result) => result,
            Err(_) => Err(plain(StatusCode::GATEWAY_TIMEOUT)),
        };
        let is_passed = result.is_ok();
        // Who asked may have left, and then drops the other end.
        let _ = passed.send(result);
        if is_passed && let Ok((response, back)) = response.await {
            let held = tokio::time::timeout(hold, stream.pass_response(response)).await;
            let response = held.unwrap_or_else(|_| plain(StatusCode::GATEWAY_TIMEOUT));
            let (parts, body) = response.into_parts();
            log.response_headers = Some(Fields::from_response(&parts));
            let _ = back.send(Response::from_parts(parts, body));
        }
        stream.finish(log);
        if !plugin.vm().is_failed() {
            self.back_off.set(BackOff::default());
        }
    }
}

// === impl Services ===

impl PluginServices for Services {
    fn set_tick_period(&self, period: Option<Duration>) {
        let Some(home) = self.0.upgrade() else { return };
        home.stop_timer();
        let Some(period) = period else { return };
        let weak = self.0.clone();
        // Ends with the plugin, which it holds weakly, or when another period is set.
        let timer = tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(period).await;
                let Some(home) = weak.upgrade() else { return };
                let plugin = home.plugin.borrow().clone();
                if plugin.is_some_and(|plugin| plugin.tick().is_err()) {
                    return;
                }
            }
        });
        *home.timer.borrow_mut() = Some(timer.abort_handle());
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    /// Ticks from its first request on, and dies of a body.
    const GUEST: &str = r#"(module
      (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
      (memory (export "memory") 2)
      (func (export "proxy_abi_version_0_2_1"))
      (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
      (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $tick (i32.const 3600000)))
        (i32.const 0))
      (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) unreachable))"#;

    fn home() -> Rc<Home> {
        let host = Arc::new(Host::new().unwrap());
        let module = CompiledModule::compile(&host, &wat::parse_str(GUEST).unwrap()).unwrap();
        Rc::new(Home::new(host, module, PluginConfig::default()))
    }

    /// What becomes of one exchange that has no answer.
    async fn exchange(home: &Rc<Home>, body: &'static str) -> Option<StatusCode> {
        let (passed, has_passed) = oneshot::channel();
        let (_, response) = oneshot::channel();
        let request = Request::new(Bytes::from(body));
        let hold = Duration::from_mins(1);
        Rc::clone(home).exchange(Job { request, passed, response, hold }).await;
        has_passed.await.unwrap().err().map(|answer| answer.status())
    }

    #[tokio::test]
    async fn a_timer_ends_with_its_start() {
        let run = async {
            let home = home();
            assert_eq!(exchange(&home, "").await, None);
            let timer = home.timer.borrow().clone().unwrap();
            assert_eq!(exchange(&home, "!").await, Some(StatusCode::SERVICE_UNAVAILABLE));
            assert!(home.plugin().is_some());
            tokio::task::yield_now().await;
            assert!(timer.is_finished());
            assert!(home.timer.borrow().is_none());
        };
        LocalSet::new().run_until(run).await;
    }

    #[tokio::test]
    async fn a_plugin_that_always_dies_is_not_started_for_every_request() {
        let run = async {
            let home = home();
            for _ in 0..2 {
                assert_eq!(exchange(&home, "!").await, Some(StatusCode::SERVICE_UNAVAILABLE));
            }
            let late = Instant::now() + Duration::from_mins(1);
            let not_before = Some(late);
            home.back_off.set(BackOff { not_before, ..home.back_off.get() });
            assert_eq!(exchange(&home, "").await, Some(StatusCode::SERVICE_UNAVAILABLE));
            assert_eq!(home.back_off.get().fruitless, 2);
            home.back_off.set(BackOff { not_before: None, ..home.back_off.get() });
            assert_eq!(exchange(&home, "").await, None);
            assert_eq!(home.back_off.get().fruitless, 0);
        };
        LocalSet::new().run_until(run).await;
    }

    #[tokio::test]
    async fn requests_beyond_the_queue_wait_for_a_place() {
        let (jobs, mut received) = mpsc::channel(MAX_WAITING);
        let thread = PluginThread { jobs };
        let job = || {
            let (passed, _) = oneshot::channel();
            let (_, response) = oneshot::channel();
            let request = Request::new(Bytes::new());
            Job { request, passed, response, hold: Duration::ZERO }
        };
        for _ in 0..MAX_WAITING {
            thread.send(job()).await;
        }
        let mut one_more = std::pin::pin!(tokio::task::unconstrained(thread.send(job())));
        let is_sent = std::future::poll_fn(|cx| Poll::Ready(one_more.as_mut().poll(cx).is_ready()));
        assert!(!is_sent.await);
        assert!(received.recv().await.is_some());
        one_more.await;
    }
}
