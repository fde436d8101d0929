//! Finds a workload in manifests by its name: what a person would otherwise type in flags.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::manifest::{Resource, nearest};
use crate::meta::{NamespacedName, ObjectMeta};
use crate::mounts::{Mounts, MountsError};
use crate::plan::{DEFAULT_SERVICE_ACCOUNT, ServedService, Workload, WorkloadRole};
use crate::selector::{GATEWAY_NAME_LABEL, WAYPOINT_CLASS};

/// Label that says who made a gateway's pods.
///
/// Source: Istio, gateway deployment controller.
const MANAGED_LABEL: &str = "gateway.istio.io/managed";
/// Its value for the pods of a waypoint.
const MANAGED_WAYPOINT: &str = "istio.io-mesh-controller";
/// Label of services whose traffic goes through a waypoint; its value is the waypoint's name.
///
/// Source: Istio, ambient mode.
const USE_WAYPOINT_LABEL: &str = "istio.io/use-waypoint";
/// Label that names the waypoint's namespace if it is another one.
const USE_WAYPOINT_NAMESPACE_LABEL: &str = "istio.io/use-waypoint-namespace";
/// Kinds of objects that stand for a workload.
const KINDS: [&str; 4] = ["Deployment", "Pod", "WorkloadEntry", "Gateway"];
/// How many names an error lists.
const MAX_LISTED: usize = 10;

/// A workload as manifests describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundWorkload {
    /// Kind of the object: `Deployment`, `Pod`, `WorkloadEntry` or `Gateway`.
    pub kind: &'static str,
    /// The object.
    pub name: NamespacedName,
    /// Labels of its pods.
    pub labels: BTreeMap<String, String>,
    /// Service account of its pods.
    pub service_account: String,
    /// The role that it has if nobody says otherwise.
    pub role: WorkloadRole,
    /// Ports that it listens on: those of containers, or of the servers of a gateway.
    pub ports: Vec<u16>,
    /// Services that it stands before, if it is a waypoint.
    pub services: Vec<ServedService>,
    /// The first service by name that selects it.
    pub service: Option<NamespacedName>,
    /// What is mounted into the proxy beside it.
    pub mounts: Mounts,
}

/// No workload was found, or more than one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// Nothing has this name.
    #[error("no workload `{name}` is given")]
    NotFound {
        /// The name as typed.
        name: String,
        /// How it may have been meant.
        suggestion: Option<String>,
        /// Workloads that are given, at most ten.
        known: Vec<String>,
    },
    /// Several objects have this name.
    #[error("`{name}` is the name of several workloads: {}", .candidates.join(", "))]
    Ambiguous {
        /// The name as typed.
        name: String,
        /// The objects.
        candidates: Vec<String>,
    },
    /// An annotation cannot be read.
    #[error("the volumes of `{workload}` cannot be read")]
    Mounts {
        /// The object.
        workload: NamespacedName,
        /// Why.
        #[source]
        source: MountsError,
    },
}

/// Finds a workload by `NAME`, `NAMESPACE/NAME`, `KIND/NAME` or `NAMESPACE/KIND/NAME`; the case of
/// a kind does not matter.
///
/// # Errors
/// None or several have the name, or what is mounted into it cannot be read.
pub fn find_workload(resources: &[Resource], name: &str) -> Result<FoundWorkload, LookupError> {
    let wanted = Wanted::parse(name);
    let candidates: Vec<Candidate<'_>> = resources.iter().filter_map(Candidate::of).collect();
    let mut found: Vec<&Candidate<'_>> =
        candidates.iter().filter(|candidate| wanted.is(candidate)).collect();
    found.sort_by_key(|candidate| (&candidate.meta.namespace, candidate.kind));
    match found.as_slice() {
        [] => Err(not_found(name, wanted.name, &candidates)),
        [candidate] => candidate.describe(resources),
        several => Err(LookupError::Ambiguous {
            name: name.to_owned(),
            candidates: several.iter().map(|of| of.display()).collect(),
        }),
    }
}

/// A name as typed, taken apart.
struct Wanted<'a> {
    namespace: Option<&'a str>,
    kind: Option<&'a str>,
    name: &'a str,
}

fn not_found(name: &str, short: &str, candidates: &[Candidate<'_>]) -> LookupError {
    let mut known: Vec<String> = candidates.iter().map(Candidate::display).collect();
    known.sort();
    known.truncate(MAX_LISTED);
    let names: Vec<&str> = candidates.iter().map(|of| of.meta.name.as_str()).collect();
    let suggestion = nearest(short, &names).filter(|of| *of != short).map(str::to_owned);
    LookupError::NotFound { name: name.to_owned(), suggestion, known }
}

/// An object that stands for a workload.
struct Candidate<'a> {
    kind: &'static str,
    meta: &'a ObjectMeta,
    labels: BTreeMap<String, String>,
    annotations: &'a BTreeMap<String, String>,
    service_account: Option<&'a str>,
    ports: Vec<u16>,
    is_waypoint: bool,
}

// === impl Wanted ===

impl<'a> Wanted<'a> {
    fn parse(text: &'a str) -> Self {
        let is_kind = |text: &str| KINDS.iter().any(|kind| kind.eq_ignore_ascii_case(text));
        let (before, name) = match text.rsplit_once('/') {
            Some((before, name)) => (Some(before), name),
            None => (None, text),
        };
        let (namespace, kind) = match before {
            Some(before) if is_kind(before) => (None, Some(before)),
            Some(before) => match before.split_once('/') {
                Some((namespace, kind)) => (Some(namespace), Some(kind)),
                None => (Some(before), None),
            },
            None => (None, None),
        };
        Self { namespace, kind, name }
    }

    fn is(&self, candidate: &Candidate<'_>) -> bool {
        let Candidate { kind, meta, .. } = candidate;
        self.name == meta.name
            && self.namespace.is_none_or(|namespace| namespace == meta.namespace)
            && self.kind.is_none_or(|of| of.eq_ignore_ascii_case(kind))
    }
}

// === impl Candidate ===

impl<'a> Candidate<'a> {
    fn of(resource: &'a Resource) -> Option<Self> {
        let meta = resource.meta();
        let base = Self {
            kind: resource.kind(),
            meta,
            labels: BTreeMap::new(),
            annotations: &meta.annotations,
            service_account: None,
            ports: Vec::new(),
            is_waypoint: false,
        };
        Some(match resource {
            Resource::Pod(object) => Self {
                labels: meta.labels.clone(),
                service_account: object.spec.service_account.as_deref(),
                ports: object.spec.ports.clone(),
                ..base
            },
            Resource::Deployment(object) => Self {
                labels: object.spec.labels.clone(),
                annotations: &object.spec.annotations,
                service_account: object.spec.pod.service_account.as_deref(),
                ports: object.spec.pod.ports.clone(),
                ..base
            },
            Resource::WorkloadEntry(object) => Self {
                labels: object.spec.labels.clone(),
                service_account: object.spec.service_account.as_deref(),
                ports: object.spec.ports.values().copied().collect(),
                ..base
            },
            Resource::Gateway(object) => Self {
                labels: [(GATEWAY_NAME_LABEL.to_owned(), meta.name.clone())].into(),
                ports: object.spec.ports.clone(),
                is_waypoint: object.spec.class == WAYPOINT_CLASS,
                ..base
            },
            _ => return None,
        })
    }

    fn display(&self) -> String {
        format!("{} {}", self.kind, self.meta.namespaced_name())
    }

    fn describe(&self, resources: &[Resource]) -> Result<FoundWorkload, LookupError> {
        let name = self.meta.namespaced_name();
        let managed = self.labels.get(MANAGED_LABEL).map(String::as_str);
        let is_waypoint = self.is_waypoint || managed == Some(MANAGED_WAYPOINT);
        let served = self.ports_of_istio_gateways(resources);
        let role = if is_waypoint {
            WorkloadRole::Waypoint
        } else if self.labels.contains_key(GATEWAY_NAME_LABEL) || served.is_some() {
            WorkloadRole::Gateway
        } else {
            WorkloadRole::SidecarInbound
        };
        let mut ports = served.unwrap_or_else(|| self.ports.clone());
        ports.sort_unstable();
        ports.dedup();
        let services = if is_waypoint { self.services(resources) } else { Vec::new() };
        let mounts = Mounts::of(self.annotations, &self.meta.namespace)
            .map_err(|source| LookupError::Mounts { workload: name.clone(), source })?;
        Ok(FoundWorkload {
            kind: self.kind,
            name,
            labels: self.labels.clone(),
            service_account: self.service_account.unwrap_or(DEFAULT_SERVICE_ACCOUNT).to_owned(),
            role,
            ports,
            services,
            service: self.service(resources),
            mounts,
        })
    }

    fn is_selected_by(&self, selector: &BTreeMap<String, String>) -> bool {
        !selector.is_empty()
            && selector.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }

    /// The first service by name that selects the workload.
    fn service(&self, resources: &[Resource]) -> Option<NamespacedName> {
        let services = resources.iter().filter_map(|resource| match resource {
            Resource::Service(service) => Some(service),
            _ => None,
        });
        services
            .filter(|service| service.meta.namespace == self.meta.namespace)
            .filter(|service| self.is_selected_by(&service.spec.selector))
            .map(|service| service.meta.namespaced_name())
            .min()
    }

    /// Ports of the Istio gateways that select the workload, if any does.
    fn ports_of_istio_gateways(&self, resources: &[Resource]) -> Option<Vec<u16>> {
        let mut ports = None;
        for resource in resources {
            if let Resource::IstioGateway(gateway) = resource
                && self.is_selected_by(&gateway.spec.selector)
            {
                ports.get_or_insert_with(Vec::new).extend(&gateway.spec.ports);
            }
        }
        ports
    }

    /// Services whose traffic goes through this waypoint, by name.
    fn services(&self, resources: &[Resource]) -> Vec<ServedService> {
        let waypoint = self.labels.get(GATEWAY_NAME_LABEL).unwrap_or(&self.meta.name);
        let is_served = |meta: &ObjectMeta| {
            let namespace = meta.labels.get(USE_WAYPOINT_NAMESPACE_LABEL);
            meta.labels.get(USE_WAYPOINT_LABEL) == Some(waypoint)
                && *namespace.unwrap_or(&meta.namespace) == self.meta.namespace
        };
        let mut services: Vec<ServedService> = resources
            .iter()
            .filter_map(|resource| {
                let is_service_entry = match resource {
                    Resource::Service(_) => false,
                    Resource::ServiceEntry(_) => true,
                    _ => return None,
                };
                let meta = resource.meta();
                is_served(meta)
                    .then(|| ServedService { name: meta.namespaced_name(), is_service_entry })
            })
            .collect();
        services.sort_by(|a, b| (&a.name, a.is_service_entry).cmp(&(&b.name, b.is_service_entry)));
        services
    }
}

// === impl FoundWorkload ===

impl FoundWorkload {
    /// The workload in the terms of the plan, on its only port or on an unknown one.
    ///
    /// Outbound and at a waypoint, ports are those of other services, so that the port is unknown.
    pub fn workload(&self, role: WorkloadRole, root_namespace: &str) -> Workload {
        let port = match self.ports.as_slice() {
            [port] if matches!(role, WorkloadRole::SidecarInbound | WorkloadRole::Gateway) => *port,
            _ => 0,
        };
        Workload {
            name: Some(self.name.name.clone()),
            labels: self.labels.clone(),
            root_namespace: root_namespace.to_owned(),
            port,
            service_account: self.service_account.clone(),
            services: self.services.clone(),
            service: self.service.clone(),
            ..Workload::new(&self.name.namespace, role)
        }
    }
}

// === impl LookupError ===

impl LookupError {
    /// What could be done about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { suggestion: Some(name), .. } => {
                Some(format!("did you mean `{name}`?"))
            }
            Self::NotFound { known, .. } if known.is_empty() => Some(
                "give the Deployment, Pod, WorkloadEntry or Gateway with `-f`, or describe the \
                 workload with `--namespace` and `--label`"
                    .to_owned(),
            ),
            Self::NotFound { known, .. } => Some(format!("there are {}", known.join(", "))),
            Self::Ambiguous { .. } => {
                Some("write `NAMESPACE/NAME`, or `NAMESPACE/KIND/NAME`".to_owned())
            }
            Self::Mounts { source, .. } => source.hint(),
        }
    }
}
