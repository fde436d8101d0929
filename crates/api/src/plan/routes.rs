//! Routes of `VirtualService`s that ask for filters, and the chains that they are for.
//!
//! Source: Istio, `pilot/pkg/model/virtualservice.go` and `gateway.go`.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::reach::Reach;
use super::{Workload, WorkloadRole};
use crate::manifest::Resource;
use crate::virtual_service::{HttpRoute, VirtualService};

/// Stands for sidecars among gateways.
const MESH: &str = "mesh";

/// Selectors of Istio's gateways by namespace and name.
pub(super) type Gateways<'a> = HashMap<(&'a str, &'a str), &'a BTreeMap<String, String>>;

/// A `VirtualService` that asks for filters.
#[derive(Debug)]
pub(super) struct Routes<'a> {
    pub(super) object: &'a VirtualService,
    is_for_mesh: bool,
    /// Selectors of its gateways; those that are not given are not here.
    gateways: Vec<&'a BTreeMap<String, String>>,
}

/// Every Istio gateway among the resources; of two with one name the first by file and line.
pub(super) fn gateways(resources: &[Resource]) -> Gateways<'_> {
    let mut sorted: Vec<_> = resources
        .iter()
        .filter_map(|resource| match resource {
            Resource::IstioGateway(gateway) => Some(gateway),
            _ => None,
        })
        .collect();
    sorted.sort_by_key(|gateway| &gateway.position);
    let mut gateways = HashMap::new();
    for gateway in sorted {
        let name = (gateway.meta.namespace.as_str(), gateway.meta.name.as_str());
        gateways.entry(name).or_insert(&gateway.spec.selector);
    }
    gateways
}

/// The alternatives of a route that are for this workload; `None` if it has some, and none of them
/// is.
pub(super) fn alternatives(route: &HttpRoute, workload: &Workload) -> Option<Vec<Value>> {
    let own: Vec<Value> = route.match_.iter().filter(|of| is_for(of, workload)).cloned().collect();
    (route.match_.is_empty() || !own.is_empty()).then_some(own)
}

/// Whether an alternative is for requests that this workload sends or takes in.
///
/// Source: Istio API, `HTTPMatchRequest`: `sourceLabels`, `sourceNamespace`, `gateways`.
fn is_for(alternative: &Value, workload: &Workload) -> bool {
    let is_gateway = workload.role == WorkloadRole::Gateway;
    if let Some(names) = alternative.get("gateways").and_then(Value::as_array)
        && !names.is_empty()
        && !names.iter().any(|name| (name == MESH) != is_gateway)
    {
        return false;
    }
    // A gateway does not know who sends.
    if is_gateway {
        return true;
    }
    let labels = alternative.get("sourceLabels").and_then(Value::as_object);
    let has = |(key, value): (&String, &Value)| {
        workload.labels.get(key).is_some_and(|own| value == own.as_str())
    };
    let namespace = alternative.get("sourceNamespace").and_then(Value::as_str);
    labels.is_none_or(|labels| labels.iter().all(has))
        && namespace.is_none_or(|namespace| namespace == workload.namespace)
}

// === impl Routes ===

impl<'a> Routes<'a> {
    /// `None` if no route asks for a filter.
    pub(super) fn of(object: &'a VirtualService, gateways: &Gateways<'a>) -> Option<Self> {
        let spec = &object.spec;
        let selector = |name: &'a String| {
            let own = object.meta.namespace.as_str();
            let (namespace, name) = name.split_once('/').unwrap_or((own, name));
            gateways.get(&(namespace, name)).copied()
        };
        spec.asks_for_filters().then(|| Self {
            object,
            is_for_mesh: spec.gateways.is_empty() || spec.gateways.iter().any(|name| name == MESH),
            gateways: spec.gateways.iter().filter_map(selector).collect(),
        })
    }

    /// Fails with the first clause that keeps the routes from the chain, for people.
    pub(super) fn check(&self, reach: &Reach<'_>) -> Result<(), String> {
        let workload = reach.workload;
        self.check_visibility(workload)?;
        match workload.role {
            WorkloadRole::SidecarInbound => {
                Err("routes belong to clients and gateways, not to an inbound chain".into())
            }
            WorkloadRole::SidecarOutbound if self.is_for_mesh => Ok(()),
            WorkloadRole::SidecarOutbound => {
                Err("its gateways do not include `mesh`, which stands for sidecars".into())
            }
            WorkloadRole::Gateway => self.check_gateways(workload),
            WorkloadRole::Waypoint if !self.is_for_mesh => {
                Err("its gateways do not include `mesh`, which stands for waypoints".into())
            }
            WorkloadRole::Waypoint => self.check_hosts(reach),
        }
    }

    fn check_visibility(&self, workload: &Workload) -> Result<(), String> {
        let own = self.object.meta.namespace.as_str();
        let sees = |namespace: &String| match namespace.as_str() {
            "*" => true,
            "." => workload.namespace == own,
            namespace => workload.namespace == namespace,
        };
        let export_to = &self.object.spec.export_to;
        if export_to.is_empty() || export_to.iter().any(sees) {
            return Ok(());
        }
        Err(format!("exportTo does not include namespace `{}`", workload.namespace))
    }

    fn check_gateways(&self, workload: &Workload) -> Result<(), String> {
        let selects = |selector: &&BTreeMap<String, String>| {
            selector.iter().all(|(key, value)| workload.labels.get(key) == Some(value))
        };
        if self.gateways.iter().any(selects) {
            return Ok(());
        }
        let names = &self.object.spec.gateways;
        Err(if names.iter().all(|name| name == MESH) {
            "it names no gateway, which means sidecars alone".into()
        } else if self.gateways.is_empty() {
            "none of its gateways is given".into()
        } else {
            "none of its gateways selects the workload".into()
        })
    }

    /// A waypoint has the routes of the services that it stands before.
    fn check_hosts(&self, reach: &Reach<'_>) -> Result<(), String> {
        let own = self.object.meta.namespace.as_str();
        let is_served = |host: &String| {
            let mut labels = host.split('.');
            let name = labels.next().unwrap_or_default();
            let namespace = labels.next().unwrap_or(own);
            reach.is_served(false, namespace, name)
        };
        if self.object.spec.hosts.iter().any(is_served) {
            return Ok(());
        }
        Err("none of its hosts is a service behind the waypoint".into())
    }
}
