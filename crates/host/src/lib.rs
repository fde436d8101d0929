//! Runs Proxy-Wasm plugins on wasmtime for any embedder.
//!
//! A **module** is compiled once per process ([`CompiledModule`]). A **VM** ([`VmHandle`]) is one
//! instance of it on one thread; one or more **plugins** ([`Plugin`]) live in a VM, and every HTTP
//! stream that meets a plugin has a **stream context** in it ([`HttpStream`]). The embedder
//! implements [`StreamHost`] for what a stream may see and [`PluginServices`] for what a plugin may
//! ask for; [`Host`] holds what all VMs of a process share.
//!
//! ```
//! use std::rc::Rc;
//! use std::sync::Arc;
//! use wasmplug_host::{CompiledModule, Host, NoServices, Plugin, PluginConfig, VmConfig, VmHandle};
//!
//! # fn run(wasm: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
//! let host = Arc::new(Host::new()?);
//! let module = CompiledModule::compile(&host, wasm)?;
//! let vm = VmHandle::start(&host, &module, VmConfig::default())?;
//! let config = PluginConfig { name: "example".into(), ..PluginConfig::default() };
//! let plugin = Plugin::start(&vm, &config, Rc::new(NoServices))?;
//! plugin.tick()?;
//! # Ok(())
//! # }
//! ```
//!
//! Guests are not trusted: each callback has a deadline, each VM a memory cap, and a guest that
//! traps ends only its VM. Nothing here is `static` and nothing blocks.

#![deny(clippy::indexing_slicing)]

pub mod abi;
pub mod attributes;

mod back_off;
mod body;
mod buffered;
mod callbacks;
mod callout;
mod census;
mod clock;
mod compiled_cache;
mod compiled_module;
mod context;
mod costs;
mod deadline;
mod engine;
mod error;
mod expression;
mod failure;
mod fields;
mod host;
mod hostcalls;
mod id_table;
mod limits;
mod log;
mod memory;
mod network;
mod plugin;
mod plugin_metrics;
mod property;
mod services;
mod shared_data;
mod shared_queue;
mod stream;
mod vm;
mod vm_id;
mod vm_state;

#[cfg(feature = "tower")]
pub mod tower;

pub use self::back_off::BackOff;
pub use self::body::BodyBuffer;
pub use self::buffered::{BufferedStream, Message, Outcome};
pub use self::callout::{GrpcCall, GrpcStatus, GrpcTarget, HttpCall, HttpCallResponse};
pub use self::census::VmCensus;
pub use self::clock::{Clock, SystemClock};
pub use self::compiled_cache::{CompiledCache, CompiledCacheError, MAX_COMPILED_BYTES};
pub use self::compiled_module::CompiledModule;
pub use self::context::StreamActions;
pub use self::costs::{CallbackTimes, PluginCosts, SAMPLED, TIME_BUCKETS};
pub use self::engine::Engine;
pub use self::error::{Failure, FailureKind, LoadError, StartError};
pub use self::expression::{Expression, ExpressionRefused};
pub use self::fields::{Fields, FieldsKind, Pseudo};
pub use self::host::Host;
pub use self::limits::{
    EPOCH_PERIOD, LimitCounters, LimitKind, LimitSlot, LimitValueError, Limits, SetLimitError,
};
pub use self::log::{LogRecord, LogSink, NoLog};
pub use self::network::NetworkStream;
pub use self::plugin::{DnsAnswer, Plugin, PluginConfig};
pub use self::plugin_metrics::{BUCKETS, MetricStore, MetricValue};
pub use self::property::PropertyValue;
pub use self::services::{NoServices, PluginServices};
pub use self::shared_queue::QueueConsumer;
pub use self::stream::{HttpStream, LifeSpan, LocalReply, LogFields, StreamHost};
pub use self::vm::{VmHandle, WeakVmHandle};
pub use self::vm_id::VmIdLease;
pub use self::vm_state::VmConfig;
