//! What only shows when resources are looked at together, and what Istio says nothing about.
//!
//! Every finding is a warning: the resources are valid, and their author probably meant something
//! else.

mod references;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::diagnostic::{Diagnostic, Severity, quoted};
use crate::manifest::Resource;
use crate::meta::{ObjectMeta, Position};
use crate::selector::{
    GATEWAY_API_GROUP, GATEWAY_NAME_LABEL, PolicyTargetReference, WorkloadSelector,
};
use crate::wasm_plugin::{PluginPhase, PluginType, WasmPluginSpec};

/// How many plugins before it one is compared with, of those with the same phase and priority.
const MAX_COMPARED: usize = 16;

/// Among how many workloads one that a selector selects is looked for.
const MAX_CANDIDATES: usize = 1000;

/// Reviews resources that were read from everywhere; `root_namespace` is that of the mesh.
///
/// Looks at workloads, services and gateways only where there are some: a file that holds plugins
/// alone says nothing about what they are meant for.
pub fn review(resources: &[Resource], root_namespace: &str) -> Vec<Diagnostic> {
    let known = Known::of(resources);
    let mut findings = Findings::default();
    for resource in resources {
        let Some((selector, target_refs)) = resource.attachment() else { continue };
        if let Some(selector) = selector {
            known.check_selector(resource, selector, root_namespace, &mut findings);
        }
        for (index, target) in target_refs.iter().enumerate() {
            known.check_target(resource, index, target, &mut findings);
        }
    }
    let plugins: Vec<Plugin<'_>> = resources.iter().filter_map(Plugin::of).collect();
    ties(&plugins, &mut findings);
    environments(&plugins, &mut findings);
    references::pull_secrets(&plugins, resources, &mut findings);
    references::authorizers(resources, root_namespace, &mut findings);
    findings.0.sort_by(|a, b| (&a.position, &a.path).cmp(&(&b.position, &b.path)));
    findings.0
}

#[derive(Default)]
struct Findings(Vec<Diagnostic>);

/// What the resources say exists.
#[derive(Default)]
struct Known<'a> {
    /// Namespaces and labels of workloads.
    workloads: Vec<(&'a str, BTreeMap<&'a str, &'a str>)>,
    /// Their places in the list, by key and value of each of their labels.
    by_label: HashMap<&'a str, HashMap<&'a str, Vec<usize>>>,
    /// Namespaces in which there is any workload.
    workload_namespaces: BTreeSet<&'a str>,
    /// Kind, namespace and name of possible targets.
    targets: HashSet<(&'static str, &'a str, &'a str)>,
    /// Kinds and namespaces of which there is any target.
    target_kinds: HashSet<(&'static str, &'a str)>,
}

/// A plugin of either kind.
#[derive(Clone, Copy)]
struct Plugin<'a> {
    kind: &'static str,
    meta: &'a ObjectMeta,
    spec: &'a WasmPluginSpec,
    position: &'a Position,
}

/// Plugins between which only age and name decide.
fn ties(plugins: &[Plugin<'_>], findings: &mut Findings) {
    type Key<'a> = (&'a str, PluginPhase, i32, bool);
    let mut groups: BTreeMap<Key<'_>, Vec<&Plugin<'_>>> = BTreeMap::new();
    for plugin in plugins {
        let Plugin { meta, spec, .. } = plugin;
        // Absent is as good as the lowest number.
        let priority = spec.priority.unwrap_or(i32::MIN);
        let is_network = spec.type_ == PluginType::Network;
        let key = (meta.namespace.as_str(), spec.phase, priority, is_network);
        groups.entry(key).or_default().push(plugin);
    }
    for group in groups.values_mut() {
        group.sort_by_key(|plugin| (plugin.meta.creation, &plugin.meta.name, plugin.position));
        for (at, plugin) in group.iter().enumerate() {
            let before = group.get(at.saturating_sub(MAX_COMPARED)..at).unwrap_or_default();
            let Some(before) = before.iter().rev().find(|of| of.can_meet(plugin)) else { continue };
            let name = before.meta.namespaced_name();
            let decides = if before.meta.creation == plugin.meta.creation {
                "its name; in a cluster the older one runs first"
            } else {
                "its creation time, which changes when it is made anew"
            };
            findings.warn(
                plugin.position,
                "spec.priority".into(),
                format!("runs behind `{name}`, of the same phase and priority, by {decides}"),
                "give the two different priorities",
            );
        }
    }
}

/// Plugins of one module whose environments Istio would mix up.
fn environments(plugins: &[Plugin<'_>], findings: &mut Findings) {
    let mut sorted: Vec<&Plugin<'_>> = plugins.iter().collect();
    sorted.sort_by_key(|plugin| plugin.position);
    let mut first_of_url: HashMap<&str, &Plugin<'_>> = HashMap::new();
    for plugin in sorted {
        let url = plugin.spec.url.as_str();
        match first_of_url.get(url) {
            Some(first) if first.spec.vm_config != plugin.spec.vm_config => {
                let name = first.meta.namespaced_name();
                findings.warn(
                    plugin.position,
                    "spec.vmConfig.env".into(),
                    format!("differs from that of `{name}`, which has the same module"),
                    "in a mesh both get the variables of whichever starts first on a proxy; put \
                     what differs into `pluginConfig`",
                );
            }
            Some(_) => {}
            None if url.is_empty() => {}
            None => drop(first_of_url.insert(url, plugin)),
        }
    }
}

// === impl Findings ===

impl Findings {
    fn warn(&mut self, position: &Position, path: String, message: String, hint: &str) {
        self.0.push(Diagnostic {
            severity: Severity::Warning,
            position: position.clone(),
            path,
            message,
            hint: Some(hint.to_owned()),
        });
    }
}

// === impl Known ===

impl<'a> Known<'a> {
    fn of(resources: &'a [Resource]) -> Self {
        let mut known = Self::default();
        for resource in resources {
            let meta = resource.meta();
            match resource {
                Resource::Pod(_) => known.workload(meta, &meta.labels),
                Resource::Deployment(object) => known.workload(meta, &object.spec.labels),
                Resource::WorkloadEntry(object) => known.workload(meta, &object.spec.labels),
                Resource::Gateway(_) => {
                    // Its pods are made by the mesh, with this label.
                    let labels = BTreeMap::from([(GATEWAY_NAME_LABEL, meta.name.as_str())]);
                    known.add_workload(meta, labels);
                    known.target("Gateway", meta);
                }
                Resource::GatewayClass(_) => known.target("GatewayClass", meta),
                Resource::Service(_) => known.target("Service", meta),
                Resource::ServiceEntry(_) => known.target("ServiceEntry", meta),
                _ => {}
            }
        }
        known
    }

    fn workload(&mut self, meta: &'a ObjectMeta, labels: &'a BTreeMap<String, String>) {
        let labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        self.add_workload(meta, labels);
    }

    fn add_workload(&mut self, meta: &'a ObjectMeta, labels: BTreeMap<&'a str, &'a str>) {
        self.workload_namespaces.insert(&meta.namespace);
        for (key, value) in &labels {
            let by_value = self.by_label.entry(key).or_default();
            by_value.entry(value).or_default().push(self.workloads.len());
        }
        self.workloads.push((&meta.namespace, labels));
    }

    /// The workloads that have a label.
    fn with_label(&self, key: &str, value: &str) -> &[usize] {
        let places = self.by_label.get(key).and_then(|by_value| by_value.get(value));
        places.map(Vec::as_slice).unwrap_or_default()
    }

    fn target(&mut self, kind: &'static str, meta: &'a ObjectMeta) {
        self.targets.insert((kind, &meta.namespace, &meta.name));
        self.target_kinds.insert((kind, &meta.namespace));
    }

    fn check_selector(
        &self,
        resource: &Resource,
        selector: &WorkloadSelector,
        root_namespace: &str,
        findings: &mut Findings,
    ) {
        let namespace = resource.meta().namespace.as_str();
        let is_root = namespace == root_namespace;
        let is_in_scope = |of: &str| is_root || of == namespace;
        let has_workloads = self.workload_namespaces.iter().any(|of| is_in_scope(of));
        if selector.match_labels.is_empty() || !has_workloads {
            return;
        }
        let candidates = selector
            .match_labels
            .iter()
            .map(|(key, value)| self.with_label(key, value))
            .min_by_key(|candidates| candidates.len())
            .unwrap_or_default();
        let selects = |place: &usize| {
            self.workloads.get(*place).is_some_and(|(of, labels)| {
                let mut wanted = selector.match_labels.iter();
                is_in_scope(of) && wanted.all(|(key, value)| labels.get(&**key) == Some(&&**value))
            })
        };
        // Among very many with the rarest label, one is taken to have the others as well.
        let is_known = candidates.len() <= MAX_CANDIDATES;
        if is_known && !candidates.iter().any(selects) {
            let scope = if is_root { "the mesh" } else { "its namespace" };
            findings.warn(
                resource.position(),
                "spec.selector".into(),
                format!("selects none of the workloads of {scope} that are given here"),
                "the labels are those of pods, not of Deployments or Services",
            );
        }
    }

    fn check_target(
        &self,
        resource: &Resource,
        index: usize,
        target: &PolicyTargetReference,
        findings: &mut Findings,
    ) {
        let kinds = [
            ("", "Service"),
            ("networking.istio.io", "ServiceEntry"),
            (GATEWAY_API_GROUP, "Gateway"),
            (GATEWAY_API_GROUP, "GatewayClass"),
        ];
        let Some((_, kind)) = kinds.into_iter().find(|(group, kind)| target.is_kind(group, kind))
        else {
            return;
        };
        let own = resource.meta().namespace.as_str();
        let namespace = if kind == "GatewayClass" { "" } else { own };
        let exists = self.targets.contains(&(kind, namespace, target.name.as_str()));
        if !exists && self.target_kinds.contains(&(kind, namespace)) {
            findings.warn(
                resource.position(),
                format!("spec.targetRefs[{index}].name"),
                format!("no {kind} of the name `{}` is given here", quoted(&target.name)),
                "a target is in the namespace of the resource",
            );
        }
    }
}

// === impl Plugin ===

impl<'a> Plugin<'a> {
    fn of(resource: &'a Resource) -> Option<Self> {
        let spec = match resource {
            Resource::WasmPlugin(object) => &object.spec,
            Resource::TrafficExtension(object) if object.spec.has_wasm => &object.spec.plugin,
            _ => return None,
        };
        let (kind, position) = (resource.kind(), resource.position());
        Some(Self { kind, meta: resource.meta(), spec, position })
    }

    /// Whether both can be in one chain, and are not the same object given twice.
    fn can_meet(&self, other: &Self) -> bool {
        if (self.kind, &self.meta.name) == (other.kind, &other.meta.name) {
            return false;
        }
        let (own, others) = (self.spec.effective_target_refs(), other.spec.effective_target_refs());
        if !own.is_empty() || !others.is_empty() {
            return own.iter().any(|target| others.contains(target));
        }
        let labels = |plugin: &Self| plugin.spec.selector.clone().unwrap_or_default().match_labels;
        let others = labels(other);
        labels(self).iter().all(|(key, value)| others.get(key).is_none_or(|of| of == value))
    }
}
