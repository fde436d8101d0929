//! All policies, indexed so that those of one workload are found without looking at the others.

use std::collections::HashMap;

use super::assembly::Assembly;
use super::attachment::Attachment;
use super::reach::Reach;
use super::routes::{self, Gateways, Routes};
use super::{LeftOut, Plan, Workload, WorkloadRole};
use crate::authorization_policy::AuthorizationPolicy;
use crate::manifest::Resource;
use crate::mesh_config::MeshConfig;
use crate::meta::{ObjectMeta, Position};
use crate::peer_authentication::PeerAuthentication;
use crate::request_authentication::RequestAuthentication;
use crate::telemetry::Telemetry;
use crate::traffic_extension::TrafficExtensionSpec;
use crate::wasm_plugin::WasmPluginSpec;
use crate::workload_objects::ConfigMap;

/// The policies of a mesh, for planning many workloads.
///
/// Making one takes time in proportion to the number of resources; planning a workload with
/// [`Self::chain`] in proportion to those that are about its labels, gateway or services.
#[derive(Debug)]
pub struct Mesh<'a> {
    /// Every policy once, in the order of age, then name; what is equal in both is in the order of
    /// namespace and kind.
    policies: Vec<Policy<'a>>,
    duplicates: Vec<LeftOut>,
    namespaces: HashMap<&'a str, Candidates<'a>>,
    /// Places of routes that ask for filters, which may be for any namespace.
    routes: Vec<usize>,
    /// Settings of the mesh by the namespace that they are in.
    settings: HashMap<&'a str, &'a MeshConfig>,
}

/// A resource that says itself where it applies.
#[derive(Debug)]
pub(super) struct Policy<'a> {
    pub(super) kind: &'static str,
    pub(super) meta: &'a ObjectMeta,
    pub(super) position: &'a Position,
    pub(super) attachment: Attachment<'a>,
    pub(super) body: Body<'a>,
}

/// What a policy is.
#[derive(Debug)]
pub(super) enum Body<'a> {
    Plugin(&'a WasmPluginSpec),
    Extension(&'a TrafficExtensionSpec),
    Authentication(&'a RequestAuthentication),
    Authorization(&'a AuthorizationPolicy),
    Peers(&'a PeerAuthentication),
    Metrics(&'a Telemetry),
    Routes(Routes<'a>),
}

/// The policies of one namespace by what a workload needs to have for them, as places in the list.
#[derive(Debug, Default)]
struct Candidates<'a> {
    /// Neither selector nor target.
    everywhere: Vec<usize>,
    /// By one of the labels that they want: the one that the fewest of them want.
    by_label: HashMap<(&'a str, &'a str), Vec<usize>>,
    /// By the name of a target, whatever its kind.
    by_target: HashMap<&'a str, Vec<usize>>,
}

// === impl Mesh ===

impl<'a> Mesh<'a> {
    /// Indexes the policies among the resources; their order does not matter.
    pub fn new(resources: &'a [Resource]) -> Self {
        let gateways = routes::gateways(resources);
        let policy = |resource| Policy::of(resource, &gateways);
        let mut sorted: Vec<Policy<'_>> = resources.iter().filter_map(policy).collect();
        sorted.sort_by_key(|policy| (policy.identity(), policy.position));
        let mut policies: Vec<Policy<'_>> = Vec::with_capacity(sorted.len());
        let mut duplicates = Vec::new();
        for policy in sorted {
            match policies.last().filter(|first| first.identity() == policy.identity()) {
                Some(first) => {
                    let reason = format!("the same name is given first at {}", first.position);
                    duplicates.push(policy.left_out(reason));
                }
                None => policies.push(policy),
            }
        }
        policies.sort_by_key(|policy| {
            let meta = policy.meta;
            (meta.creation, &meta.name, &meta.namespace, policy.kind)
        });
        let namespaces = index(&policies);
        let is_route = |(_, policy): &(usize, &Policy<'_>)| matches!(policy.body, Body::Routes(_));
        let routes = policies.iter().enumerate().filter(is_route).map(|(place, _)| place);
        let routes = routes.collect();
        let settings = settings(resources);
        Self { policies, duplicates, namespaces, routes, settings }
    }

    /// Plans the chain of one workload and listener, with a reason for every other policy.
    pub fn plan(&self, workload: &Workload) -> Plan {
        let reach = Reach::of(workload);
        let mut assembly = Assembly::new(&reach, self.settings(workload));
        self.policies.iter().for_each(|policy| assembly.take(policy));
        let mut plan = assembly.finish();
        plan.left_out.extend(self.duplicates.iter().cloned());
        plan.left_out.sort_by(|a, b| {
            (&a.resource, a.kind, &a.position).cmp(&(&b.resource, b.kind, &b.position))
        });
        plan
    }

    /// Plans the same chain without looking at policies that are about other workloads: they are
    /// not in [`Plan::left_out`], which has only those that came into question.
    pub fn chain(&self, workload: &Workload) -> Plan {
        let reach = Reach::of(workload);
        let mut places = Vec::new();
        for namespace in reach.namespaces() {
            if let Some(candidates) = self.namespaces.get(namespace) {
                candidates.collect(&reach, &mut places);
            }
        }
        if workload.role != WorkloadRole::SidecarInbound {
            places.extend(&self.routes);
        }
        places.sort_unstable();
        places.dedup();
        let mut assembly = Assembly::new(&reach, self.settings(workload));
        let policies = places.into_iter().filter_map(|place| self.policies.get(place));
        policies.for_each(|policy| assembly.take(policy));
        let mut plan = assembly.finish();
        plan.left_out.sort_by(|a, b| (&a.resource, a.kind).cmp(&(&b.resource, b.kind)));
        plan
    }

    fn settings(&self, workload: &Workload) -> Option<&'a MeshConfig> {
        self.settings.get(workload.root_namespace.as_str()).copied()
    }
}

/// The settings of each namespace; those of a revision count only where there are no others.
fn settings(resources: &[Resource]) -> HashMap<&str, &MeshConfig> {
    let mut maps: Vec<(&ConfigMap, &MeshConfig)> = resources
        .iter()
        .filter_map(|resource| match resource {
            Resource::ConfigMap(map) => Some((map, map.spec.mesh.as_ref()?)),
            _ => None,
        })
        .collect();
    // The later one of a namespace stays: the shortest name, which is that without a revision.
    maps.sort_by_key(|(map, _)| std::cmp::Reverse((&map.meta.name, &map.position)));
    maps.into_iter().map(|(map, settings)| (map.meta.namespace.as_str(), settings)).collect()
}

fn index<'a>(policies: &[Policy<'a>]) -> HashMap<&'a str, Candidates<'a>> {
    let mut frequency: HashMap<(&str, &str, &str), usize> = HashMap::new();
    for policy in policies {
        for (key, value) in policy.labels() {
            *frequency.entry((policy.attachment.namespace, key, value)).or_default() += 1;
        }
    }
    let mut namespaces: HashMap<&str, Candidates<'_>> = HashMap::new();
    for (place, policy) in policies.iter().enumerate() {
        if matches!(policy.body, Body::Routes(_)) {
            continue;
        }
        let Attachment { namespace, target_refs, .. } = policy.attachment;
        let candidates = namespaces.entry(namespace).or_default();
        let count =
            |(key, value): &(&str, &str)| frequency.get(&(namespace, *key, *value)).copied();
        for target in target_refs {
            candidates.by_target.entry(&target.name).or_default().push(place);
        }
        if target_refs.is_empty() {
            match policy.labels().min_by_key(count) {
                Some(label) => candidates.by_label.entry(label).or_default().push(place),
                None => candidates.everywhere.push(place),
            }
        }
    }
    namespaces
}

// === impl Candidates ===

impl Candidates<'_> {
    fn collect(&self, reach: &Reach<'_>, places: &mut Vec<usize>) {
        let workload = reach.workload;
        places.extend(&self.everywhere);
        for (key, value) in &workload.labels {
            places.extend(self.by_label.get(&(key.as_str(), value.as_str())).into_iter().flatten());
        }
        let services = reach.served().iter().map(|service| service.name.name.as_str());
        let class = [crate::selector::WAYPOINT_CLASS];
        for name in workload.gateway().into_iter().chain(class).chain(services) {
            places.extend(self.by_target.get(name).into_iter().flatten());
        }
    }
}

// === impl Policy ===

impl<'a> Policy<'a> {
    fn of(resource: &'a Resource, gateways: &Gateways<'a>) -> Option<Self> {
        let body = match resource {
            Resource::WasmPlugin(object) => Body::Plugin(&object.spec),
            Resource::TrafficExtension(object) => Body::Extension(&object.spec),
            Resource::RequestAuthentication(object) => Body::Authentication(object),
            Resource::AuthorizationPolicy(object) => Body::Authorization(object),
            Resource::PeerAuthentication(object) => Body::Peers(object),
            Resource::Telemetry(object) => Body::Metrics(object),
            Resource::VirtualService(object) => Body::Routes(Routes::of(object, gateways)?),
            _ => return None,
        };
        let (selector, target_refs) = resource.attachment().unwrap_or_default();
        let (meta, position) = (resource.meta(), resource.position());
        let attachment = Attachment { namespace: &meta.namespace, selector, target_refs };
        Some(Self { kind: resource.kind(), meta, position, attachment, body })
    }

    /// Why it is not in the chain.
    pub(super) fn left_out(&self, reason: String) -> LeftOut {
        LeftOut {
            kind: self.kind,
            resource: self.meta.namespaced_name(),
            position: self.position.clone(),
            reason,
        }
    }

    /// Takes a scope in which only one policy counts; returns why it does not if an older one has.
    pub(super) fn take_scope<'p>(&'p self, scope: &mut Option<&'p Self>) -> Option<LeftOut> {
        let Some(older) = scope else {
            *scope = Some(self);
            return None;
        };
        let name = older.meta.namespaced_name();
        Some(self.left_out(format!("`{name}` has the same scope and is older or first by name")))
    }

    fn identity(&self) -> (&'static str, &'a str, &'a str) {
        (self.kind, &self.meta.namespace, &self.meta.name)
    }

    fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let labels = self.attachment.selector.into_iter().flat_map(|of| &of.match_labels);
        labels.map(|(key, value)| (key.as_str(), value.as_str()))
    }
}
