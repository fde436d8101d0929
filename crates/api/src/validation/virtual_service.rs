//! The rules of what a `VirtualService` asks filters for.
//!
//! Source: Istio, the validating webhook; Istio API, `networking/v1alpha3/virtual_service.proto`.

use std::time::Duration;

use super::Violations;
use crate::field_path::FieldPath;
use crate::virtual_service::{CorsPolicy, HttpFault, VirtualServiceSpec};

/// Shortest delay that a fault may have.
const MIN_DELAY: Duration = Duration::from_millis(1);

/// The rules of `spec`, which is at `path`.
pub(crate) fn virtual_service(spec: &VirtualServiceSpec, path: &FieldPath, v: &mut Violations) {
    if spec.hosts.is_empty() {
        v.error(path.field("hosts"), "at least one host is required");
    }
    for (index, route) in spec.http.iter().enumerate() {
        let path = path.field("http").index(index);
        if let Some(cors) = &route.cors {
            cors_policy(cors, &path.field("corsPolicy"), v);
        }
        if let Some(of) = &route.fault {
            fault(of, &path.field("fault"), v);
        }
    }
}

fn cors_policy(policy: &CorsPolicy, path: &FieldPath, v: &mut Violations) {
    for (index, origin) in policy.allow_origins.iter().enumerate() {
        let given = [&origin.exact, &origin.prefix, &origin.regex];
        if given.into_iter().flatten().count() != 1 {
            let message = "exactly one of `exact`, `prefix` and `regex` must be set";
            v.error(path.field("allowOrigins").index(index), message);
        }
    }
    if policy.max_age.is_some_and(|age| age.subsec_nanos() != 0) {
        v.error(path.field("maxAge"), "must be whole seconds");
    }
}

fn fault(fault: &HttpFault, path: &FieldPath, v: &mut Violations) {
    if fault.delay.is_none() && fault.abort.is_none() {
        v.error(path.clone(), "one of `delay` and `abort` is required");
    }
    if let Some(delay) = &fault.delay {
        let path = path.field("delay").field("fixedDelay");
        match delay.fixed {
            None => v.error(path, "is required"),
            Some(fixed) if fixed < MIN_DELAY => v.error(path, "must be at least 1 ms"),
            Some(_) => {}
        }
    }
    if let Some(abort) = &fault.abort
        && abort.http_status.is_some() == abort.grpc_status.is_some()
    {
        let message = "exactly one of `httpStatus` and `grpcStatus` must be set";
        v.error(path.field("abort"), message);
    }
}
