//! The plugin's own thread.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, LocalSet};

use super::LayerError;
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
                let (plugin, timer) = (RefCell::default(), RefCell::default());
                let home = Rc::new(Home { host, module, config, plugin, timer });
                let first = home.plugin().map(drop);
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
    async fn serve(self: Rc<Self>, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.recv().await {
            // Ends with its exchange, or with the thread.
            tokio::task::spawn_local(Rc::clone(&self).exchange(job));
        }
        if let Some(plugin) = self.plugin.borrow_mut().take() {
            plugin.shut_down();
        }
    }

    /// The plugin, started anew if it died.
    fn plugin(self: &Rc<Self>) -> Result<Plugin, StartError> {
        let running = self.plugin.borrow().clone().filter(|plugin| !plugin.vm().is_failed());
        if let Some(plugin) = running {
            return Ok(plugin);
        }
        let vm = VmHandle::start(&self.host, &self.module, VmConfig::default())?;
        let services = Rc::new(Services(Rc::downgrade(self)));
        let plugin = Plugin::start(&vm, &self.config, services)?;
        *self.plugin.borrow_mut() = Some(plugin.clone());
        Ok(plugin)
    }

    async fn exchange(self: Rc<Self>, job: Job) {
        let Job { request, passed, response, hold } = job;
        let plugin = self.plugin().ok();
        let stream = plugin.and_then(|plugin| BufferedStream::open(&plugin, Rc::new(PlainStream)));
        let Some(mut stream) = stream else {
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
    }
}

// === impl Services ===

impl PluginServices for Services {
    fn set_tick_period(&self, period: Option<Duration>) {
        let Some(home) = self.0.upgrade() else { return };
        if let Some(timer) = home.timer.borrow_mut().take() {
            timer.abort();
        }
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
