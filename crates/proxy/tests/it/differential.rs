//! The same plugins and requests in front of the same upstream, in a real Envoy and here: whatever
//! client and upstream can see must be the same, or a difference that is written down with its
//! reason.
//!
//! Without an Envoy binary each case prints a line that begins with `SKIPPED:`.

mod attributes;
mod bodies;
mod callouts;
mod case;
mod chains;
mod diff;
mod examples;
mod ext_authz;
mod ext_authz_grpc;
mod failures;
mod headers;
mod http2;
mod istio_config;
mod jwt;
mod local_replies;
mod metrics;
mod paths;
mod pausing;
mod plain;
mod rbac;
mod rbac_metadata;
mod rbac_operations;
mod rbac_sources;
mod reasons;
mod routes;
mod sharing;
mod sizes;
mod tour;
mod transcript;
mod traps;
mod upstreams;

/// Makes a test of each case, so that a failure has a name.
macro_rules! cases {
    ($($name:ident => $case:expr;)*) => {
        $(#[test]
        fn $name() {
            $case.check();
        })*
    };
}
use cases;
