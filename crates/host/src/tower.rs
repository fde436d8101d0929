//! A [`tower_layer::Layer`] that runs a plugin around any HTTP service.
//!
//! ```no_run
//! use wasmplug_host::tower::PluginLayer;
//! # fn app() -> Result<axum::Router, Box<dyn std::error::Error>> {
//! let plugin = PluginLayer::new(&std::fs::read("plugin.wasm")?, r#"{"hello": "config"}"#)?;
//! let app = axum::Router::new().layer(plugin);
//! # Ok(app)
//! # }
//! ```
//!
//! A VM lives on one thread, a service on many: the plugin has a thread of its own, and whole
//! messages travel to it and back, without trailers. Timers run there; calls to other services are
//! not offered. A plugin that died is started anew with the next request; one that dies again and
//! again is tried less and less often, and requests get 503 meanwhile.

mod service;
mod thread;

use std::time::Duration;

use tower_layer::Layer;

pub use self::service::{PluginFuture, PluginService};
use self::thread::PluginThread;
use crate::error::{LoadError, StartError};

/// Runs one plugin around services. Clones share it.
#[derive(Clone, Debug)]
pub struct PluginLayer {
    thread: PluginThread,
    limits: LayerLimits,
}

/// What one exchange may use.
#[derive(Clone, Copy, Debug)]
pub struct LayerLimits {
    /// Most bytes of a body; beyond it a request gets 413 and a response becomes 500.
    ///
    /// Default: 1 MiB.
    pub body_bytes: usize,
    /// Longest time that the plugin may hold a message; then the answer is 504. Default: 30 s.
    pub hold: Duration,
}

/// Why a layer cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The module cannot be loaded.
    #[error("cannot load the plugin")]
    Load(#[source] LoadError),
    /// The plugin does not start with its configuration.
    #[error("cannot start the plugin")]
    Start(#[source] StartError),
    /// No thread for it.
    #[error("cannot start a thread for the plugin")]
    Thread(#[source] std::io::Error),
}

// === impl PluginLayer ===

impl PluginLayer {
    /// Loads and starts a plugin; `configuration` is what it gets as its own.
    ///
    /// Takes as long as compiling takes, up to seconds.
    ///
    /// # Errors
    /// [`LayerError`] if it cannot be loaded or does not accept its configuration.
    pub fn new(module: &[u8], configuration: &str) -> Result<Self, LayerError> {
        let thread = PluginThread::start(module, configuration)?;
        Ok(Self { thread, limits: LayerLimits::default() })
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(self, limits: LayerLimits) -> Self {
        Self { limits, ..self }
    }
}

impl<S> Layer<S> for PluginLayer {
    type Service = PluginService<S>;

    fn layer(&self, inner: S) -> PluginService<S> {
        PluginService::new(inner, self.thread.clone(), self.limits)
    }
}

// === impl LayerLimits ===

impl Default for LayerLimits {
    fn default() -> Self {
        Self { body_bytes: 1 << 20, hold: Duration::from_secs(30) }
    }
}
