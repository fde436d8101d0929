//! What one workload can be reached by, looked up once for all policies.

use std::collections::{HashMap, HashSet};

use super::{ServedService, Workload, WorkloadRole};

/// The workload with what selection asks about again and again.
#[derive(Debug)]
pub(super) struct Reach<'a> {
    pub(super) workload: &'a Workload,
    scopes: HashMap<&'a str, Scope>,
    /// Whether it is of a `ServiceEntry`, namespace and name of each service.
    services: HashSet<(bool, &'a str, &'a str)>,
}

/// Whose resource it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// Of the workload's own namespace.
    Own,
    /// Of the root namespace, for the whole mesh.
    Root,
    /// Of the namespace of a service behind the waypoint, by its place in the list.
    Service(usize),
}

// === impl Reach ===

impl<'a> Reach<'a> {
    pub(super) fn of(workload: &'a Workload) -> Self {
        let mut scopes = HashMap::new();
        let mut services = HashSet::new();
        scopes.insert(workload.namespace.as_str(), Scope::Own);
        scopes.entry(&workload.root_namespace).or_insert(Scope::Root);
        for (place, service) in served(workload).iter().enumerate() {
            let name = &service.name;
            scopes.entry(&name.namespace).or_insert(Scope::Service(place));
            services.insert((service.is_service_entry, name.namespace.as_str(), &*name.name));
        }
        Self { workload, scopes, services }
    }

    /// Namespaces whose resources can apply, without repetition and in no order.
    ///
    /// Source: Istio, lookup namespaces of a proxy.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &'a str> {
        self.scopes.keys().copied()
    }

    /// Whose a resource of this namespace is, if any of the workload's.
    pub(super) fn scope(&self, namespace: &str) -> Option<Scope> {
        self.scopes.get(namespace).copied()
    }

    /// Whether the workload stands before this service.
    pub(super) fn is_served(&self, is_service_entry: bool, namespace: &str, name: &str) -> bool {
        self.services.contains(&(is_service_entry, namespace, name))
    }

    /// The services, if the role has any.
    pub(super) fn served(&self) -> &'a [ServedService] {
        served(self.workload)
    }
}

fn served(workload: &Workload) -> &[ServedService] {
    if workload.role == WorkloadRole::Waypoint { &workload.services } else { &[] }
}

// === impl Scope ===

impl Scope {
    /// The order in which authorization policies are tried: the mesh's first.
    pub(super) fn root_first(self) -> (bool, Self) {
        (self != Self::Root, self)
    }
}
