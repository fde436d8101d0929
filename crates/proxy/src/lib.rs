//! The data plane: accepts HTTP, runs the filter chain, routes upstream, swaps configuration live.
//!
//! A [`Proxy`] is a set of worker threads. What they run comes as a [`Snapshot`], which a
//! [`SnapshotBuilder`] makes of a plan: it fetches each module, compiles it, and starts it once to
//! see whether it accepts its configuration. [`Proxy::apply`] then swaps it in; streams that have
//! begun keep what they began with.
//!
//! How a request goes through: `connection` accepts it, `exchange` leads it, `stream` holds its
//! state, `chain` walks the filters, `filters/wasm` calls the plugin.

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

mod access_log;
mod admin;
mod admission;
mod attributes;
mod body;
mod breaker;
mod builder;
mod callout;
mod chain;
mod config;
mod connection;
mod connection_limit;
mod exchange;
mod executor;
mod filter;
mod filters;
mod handover;
mod hop_by_hop;
mod idle;
mod key_store;
mod listener;
mod local_reply;
mod metrics;
mod network;
mod node;
mod path;
mod peek;
mod plugin_costs;
mod plugin_home;
mod rollout;
mod route;
mod server;
mod snapshot;
mod stream;
mod upgrade;
mod upstream;
mod worker;

pub use self::access_log::{AccessLog, AccessLogFormat, AccessLogSink};
pub use self::breaker::{BreakerReport, BreakerState, Breakers};
pub use self::builder::{BuildError, PullOptions, SnapshotBuilder};
pub use self::callout::find_cluster;
pub use self::config::{ListenerProtocol, ProxyConfig, ProxyLimits};
pub use self::filters::built_in::BuiltInSpec;
pub use self::filters::jwt_authn::KeyProblem;
pub use self::filters::stats::StatsSpec;
pub use self::handover::{HandoverError, HandoverPoint, Inheritance, Sockets};
pub use self::listener::{
    ClientAuth, TlsCredentials, TlsCredentialsError, TlsListener, TlsMode, TlsOptions, TlsSettings,
};
pub use self::node::Node;
pub use self::plugin_costs::Costs;
pub use self::rollout::Rollout;
pub use self::route::Route;
pub use self::server::{Proxy, StartProxyError};
pub use self::snapshot::{
    FilterSpec, PluginRole, PluginSpec, PluginStats, Refusal, Rejected, RejectedEffect, Snapshot,
};
pub use self::upstream::{
    ClusterConfig, EjectionOptions, LoadBalancing, NameResolver, UpstreamAddress,
    UpstreamAddressError, UpstreamOptions, UpstreamProtocol, UpstreamTls, UpstreamTlsError,
};
