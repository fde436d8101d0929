//! Labels of Istio's standard metrics.
//!
//! Source: Istio, `istio.stats`; the names and their order are those of its documentation.

use std::sync::Arc;

use wasmplug_api::{NamespacedName, PlannedReporter, WorkloadRole};

use super::series::{Key, Series};
use crate::attributes::flags;
use crate::listener::Identities;

/// What a label says whose value is not known. Source: Istio.
pub(super) const UNKNOWN: &str = "unknown";
/// Domain of services. Source: Istio's default `MeshConfig.trustDomain` and Kubernetes.
const SERVICE_DOMAIN: &str = "svc.cluster.local";
/// Revision of a workload that tells none. Source: Istio.
const DEFAULT_REVISION: &str = "latest";

/// Labels that tell the canonical service, the first of them that is there. Source: Istio.
const CANONICAL_SERVICE: [&str; 3] =
    ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
/// The same for its revision.
const CANONICAL_REVISION: [&str; 3] =
    ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];

/// A label.
pub(super) type Label = (&'static str, String);

/// Whether the service is the host that a request names where it is not known otherwise. Source:
/// Istio, `disable_host_header_fallback`.
pub(super) fn has_host_fallback(role: WorkloadRole) -> bool {
    matches!(role, WorkloadRole::SidecarOutbound | WorkloadRole::Waypoint)
}

/// The labels of a series, in Istio's order, without configured ones.
pub(super) fn of_series(reporter: &PlannedReporter, series: &Series) -> Vec<Label> {
    let role = reporter.role;
    let own = Peer::of(reporter);
    // Who speaks to a client's end is not known: its connections are those to the upstream.
    let identities = series.identities.as_deref().filter(|_| is_server(role));
    let (other, unknown) = (Peer::of_identities(identities), Peer::unknown());
    let principal = |name: Option<&Arc<str>>| name.map_or(UNKNOWN, |it| it).to_owned();
    let source_principal = principal(identities.and_then(|of| of.source.as_ref()));
    let destination_principal = principal(identities.and_then(|of| of.destination.as_ref()));
    let (source, destination) = match role {
        WorkloadRole::SidecarInbound => (&other, &own),
        WorkloadRole::SidecarOutbound | WorkloadRole::Gateway => (&own, &other),
        WorkloadRole::Waypoint => (&other, &unknown),
    };
    let service = Service::of(reporter, &series.host);
    let Key { is_tcp, is_grpc, code, grpc_status, flags, .. } = series.key;
    let protocol = match (is_tcp, is_grpc) {
        (true, _) => "tcp",
        (false, true) => "grpc",
        (false, false) => "http",
    };
    let mut labels: Vec<Label> = vec![
        ("reporter", reporter_name(role).to_owned()),
        ("source_workload", source.workload.clone()),
        ("source_canonical_service", source.service.clone()),
        ("source_canonical_revision", source.revision.clone()),
        ("source_workload_namespace", source.namespace.clone()),
        ("source_principal", source_principal),
        ("source_app", source.app.clone()),
        ("source_version", source.version.clone()),
        ("source_cluster", UNKNOWN.to_owned()),
        ("destination_workload", destination.workload.clone()),
        ("destination_workload_namespace", destination.namespace.clone()),
        ("destination_principal", destination_principal),
        ("destination_app", destination.app.clone()),
        ("destination_version", destination.version.clone()),
        ("destination_service", service.host),
        ("destination_canonical_service", destination.service.clone()),
        ("destination_canonical_revision", destination.revision.clone()),
        ("destination_service_name", service.name),
        ("destination_service_namespace", service.namespace),
        ("destination_cluster", UNKNOWN.to_owned()),
        ("request_protocol", protocol.to_owned()),
    ];
    if !is_tcp {
        labels.push(("response_code", code.to_string()));
        let status = grpc_status.filter(|_| is_grpc).map(|status| status.to_string());
        labels.push(("grpc_response_status", status.unwrap_or_default()));
    }
    labels.push(("response_flags", flags_text(flags)));
    labels.push(("connection_security_policy", security(role, identities).to_owned()));
    labels
}

fn reporter_name(role: WorkloadRole) -> &'static str {
    match role {
        WorkloadRole::SidecarInbound => "destination",
        WorkloadRole::SidecarOutbound | WorkloadRole::Gateway => "source",
        WorkloadRole::Waypoint => "waypoint",
    }
}

/// Whether the role stands at the server's end of connections.
fn is_server(role: WorkloadRole) -> bool {
    matches!(role, WorkloadRole::SidecarInbound | WorkloadRole::Waypoint)
}

/// Source: Istio, which says nothing about a client's end, and nothing of TLS that is not mutual.
fn security(role: WorkloadRole, identities: Option<&Identities>) -> &'static str {
    match identities {
        _ if !is_server(role) => UNKNOWN,
        Some(Identities { is_mutual: true, .. }) => "mutual_tls",
        _ => "none",
    }
}

/// Short names of flags as Envoy writes them; a dash for none.
fn flags_text(flags: u64) -> String {
    let names: Vec<&str> =
        flags::NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(",") }
}

/// One end of a connection.
struct Peer {
    workload: String,
    namespace: String,
    service: String,
    revision: String,
    app: String,
    version: String,
}

/// The service that a request is for.
struct Service {
    host: String,
    name: String,
    namespace: String,
}

// === impl Peer ===

impl Peer {
    fn of(reporter: &PlannedReporter) -> Self {
        let label = |names: &[&str]| {
            names.iter().find_map(|name| reporter.labels.get(*name)).filter(|of| !of.is_empty())
        };
        let or_unknown = |value: Option<&String>| value.map_or(UNKNOWN, String::as_str).to_owned();
        let workload = reporter.workload.as_ref();
        Self {
            workload: or_unknown(workload),
            namespace: reporter.namespace.clone(),
            service: or_unknown(label(&CANONICAL_SERVICE).or(workload)),
            revision: label(&CANONICAL_REVISION)
                .map_or(DEFAULT_REVISION, String::as_str)
                .to_owned(),
            app: or_unknown(label(&["app"])),
            version: or_unknown(label(&["version"])),
        }
    }

    /// The other end, of which its certificate tells the namespace. Source: Istio.
    fn of_identities(identities: Option<&Identities>) -> Self {
        let identity = identities.and_then(|of| of.source.as_deref());
        let namespace = identity.and_then(|identity| {
            let (_, rest) = identity.split_once("/ns/")?;
            rest.split('/').next().filter(|namespace| !namespace.is_empty())
        });
        let mut peer = Self::unknown();
        if let Some(namespace) = namespace {
            namespace.clone_into(&mut peer.namespace);
        }
        peer
    }

    fn unknown() -> Self {
        let unknown = || UNKNOWN.to_owned();
        Self {
            workload: unknown(),
            namespace: unknown(),
            service: unknown(),
            revision: unknown(),
            app: unknown(),
            version: unknown(),
        }
    }
}

// === impl Service ===

impl Service {
    /// `host` is what the request names, where that counts.
    fn of(reporter: &PlannedReporter, host: &[u8]) -> Self {
        let unknown = || UNKNOWN.to_owned();
        if let Some(NamespacedName { namespace, name }) = &reporter.service {
            let host = format!("{name}.{namespace}.{SERVICE_DOMAIN}");
            return Self { host, name: name.clone(), namespace: namespace.clone() };
        }
        if host.is_empty() {
            return Self { host: unknown(), name: unknown(), namespace: unknown() };
        }
        let host = String::from_utf8_lossy(host).into_owned();
        Self { name: host.clone(), host, namespace: unknown() }
    }
}

#[cfg(test)]
mod tests {
    use super::flags_text;

    #[test]
    fn flags_are_written_as_envoy_does() {
        assert_eq!(flags_text(0), "-");
        assert_eq!(flags_text(0x20), "UF");
        assert_eq!(flags_text(0x20 | 0x1_0000), "UF,SI");
    }
}
