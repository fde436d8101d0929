//! The kinds of objects that are known here, in one table.
//!
//! A new kind is a type, an implementation of [`Kind`] beside its reader, and a line in the table
//! at the end of this file.

use super::Document;
use super::fields::{Field, Fields};
use super::findings::Findings;
use super::metadata::metadata;
use crate::authorization_policy::AuthorizationPolicySpec;
use crate::field_path::FieldPath;
use crate::meta::{NamespacedName, Object, ObjectMeta, Position};
use crate::peer_authentication::PeerAuthenticationSpec;
use crate::request_authentication::RequestAuthenticationSpec;
use crate::selector::{PolicyTargetReference, WorkloadSelector, effective_target_refs};
use crate::telemetry::TelemetrySpec;
use crate::traffic_extension::TrafficExtensionSpec;
use crate::validation::{self, Violations};
use crate::wasm_plugin::WasmPluginSpec;
use crate::workload_objects::{
    ConfigMapData, DeploymentSpec, GatewayClassSpec, GatewaySpec, IstioGatewaySpec, PodSpec,
    ServiceEntrySpec, ServiceSpec, WorkloadEntrySpec,
};

/// API versions of Istio's security policies.
pub(super) const SECURITY_API_VERSIONS: &[&str] =
    &["security.istio.io/v1", "security.istio.io/v1beta1"];
/// API versions of Istio's networking objects.
pub(super) const NETWORKING_API_VERSIONS: &[&str] =
    &["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"];

/// Everything that reading a kind needs to know about it.
pub(super) trait Kind: Default {
    /// `kind`.
    const KIND: &'static str;
    /// Values of `apiVersion` that are read, the one to recommend first.
    const API_VERSIONS: &'static [&'static str];
    /// Whether objects of this kind are in a namespace.
    const IS_NAMESPACED: bool = true;
    /// Whether the annotation `istio.io/dry-run` is allowed.
    const HAS_DRY_RUN: bool = false;
    /// Whether a field that is not read is pointed out.
    const IS_CLOSED: bool = true;

    /// Reads what stands beside `metadata`; every finding is reported, what cannot be read has its
    /// default.
    fn read(document: &mut Fields<'_>, findings: &mut Findings) -> Self;

    /// Finds what is wrong with an object that could be read; `root` is the path of its document.
    fn validate(object: &Object<Self>, root: &FieldPath, violations: &mut Violations);
}

/// A line of the table: how documents of one kind become resources.
pub(super) struct KnownKind {
    pub(super) kind: &'static str,
    pub(super) api_versions: &'static [&'static str],
    pub(super) read: fn(&Document<'_>, &mut Findings) -> Option<Resource>,
}

/// Reads the object below `spec`, which must be there.
pub(super) fn spec<T: Default>(
    document: &mut Fields<'_>,
    findings: &mut Findings,
    read: impl FnOnce(Fields<'_>, &mut Findings) -> T,
) -> T {
    let spec = document.required("spec", findings).and_then(|spec| Fields::of(&spec, findings));
    spec.map(|fields| read(fields, findings)).unwrap_or_default()
}

/// Reads the object below `spec`, if it is there.
pub(super) fn optional_spec<T: Default>(
    document: &mut Fields<'_>,
    findings: &mut Findings,
    read: impl FnOnce(Fields<'_>, &mut Findings) -> T,
) -> T {
    document.object("spec", findings, read).unwrap_or_default()
}

/// Decodes and validates; `None` if there was an error.
fn read<K: Kind>(document: &Document<'_>, findings: &mut Findings) -> Option<Object<K>> {
    let (errors_before, findings_before) = (findings.errors(), findings.len());
    let Document { node, path, .. } = document;
    let field = Field { path: path.clone(), node, key_mark: node.mark };
    let mut fields = Fields::of(&field, findings)?.exact_names();
    fields.ignore(&["apiVersion", "kind", "status"]);
    let meta = fields.required("metadata", findings).and_then(|of| Fields::of(&of, findings));
    let mut meta = meta.map(|of| metadata(of, findings)).unwrap_or_default();
    if !K::IS_NAMESPACED {
        meta.namespace.clear();
    }
    let spec = K::read(&mut fields, findings);
    if K::IS_CLOSED {
        fields.finish(findings);
    }

    let object = Object { meta, spec, position: findings.position(node.mark) };
    let reported: Vec<String> =
        findings.error_paths_since(findings_before).map(str::to_owned).collect();
    let mut violations = Violations::default();
    let metadata_path = path.field("metadata");
    validation::metadata(&object.meta, &metadata_path, K::HAS_DRY_RUN, &mut violations);
    K::validate(&object, path, &mut violations);
    for violation in violations.found {
        document.report(violation, &reported, findings);
    }
    (findings.errors() == errors_before).then_some(object)
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident($spec:ty),)*) => {
        /// A resource of a known kind.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Resource {
            $($(#[$doc])* $variant(Object<$spec>),)*
        }

        impl Resource {
            /// Kind, such as `WasmPlugin`.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$spec as Kind>::KIND,)*
                }
            }

            /// The newest `apiVersion` of its kind, whichever it was written in.
            pub fn api_version(&self) -> &'static str {
                let versions = match self {
                    $(Self::$variant(_) => <$spec as Kind>::API_VERSIONS,)*
                };
                versions.first().copied().unwrap_or_default()
            }

            /// Name, namespace, labels and the like.
            pub fn meta(&self) -> &ObjectMeta {
                match self {
                    $(Self::$variant(object) => &object.meta,)*
                }
            }

            /// Where the document begins.
            pub fn position(&self) -> &Position {
                match self {
                    $(Self::$variant(object) => &object.position,)*
                }
            }
        }

        $(impl From<Object<$spec>> for Resource {
            fn from(object: Object<$spec>) -> Self {
                Self::$variant(object)
            }
        })*

        /// Every kind that is read.
        pub(super) const KINDS: &[KnownKind] = &[
            $(KnownKind {
                kind: <$spec as Kind>::KIND,
                api_versions: <$spec as Kind>::API_VERSIONS,
                read: |document, findings| read::<$spec>(document, findings).map(Resource::from),
            },)*
        ];
    };
}

impl Resource {
    /// Namespace and name; the namespace of an object without one is empty.
    pub fn namespaced_name(&self) -> NamespacedName {
        self.meta().namespaced_name()
    }

    /// Where a policy applies: its selector and its targets; `None` for other kinds.
    pub(crate) fn attachment(
        &self,
    ) -> Option<(Option<&WorkloadSelector>, &[PolicyTargetReference])> {
        let (selector, target, targets): (_, _, &[PolicyTargetReference]) = match self {
            Self::WasmPlugin(Object { spec, .. }) => {
                (&spec.selector, spec.target_ref.as_ref(), &spec.target_refs)
            }
            Self::TrafficExtension(Object { spec, .. }) => {
                (&spec.plugin.selector, None, &spec.plugin.target_refs)
            }
            Self::RequestAuthentication(Object { spec, .. }) => {
                (&spec.selector, spec.target_ref.as_ref(), &spec.target_refs)
            }
            Self::AuthorizationPolicy(Object { spec, .. }) => {
                (&spec.selector, spec.target_ref.as_ref(), &spec.target_refs)
            }
            Self::PeerAuthentication(Object { spec, .. }) => (&spec.selector, None, &[]),
            Self::Telemetry(Object { spec, .. }) => {
                (&spec.selector, spec.target_ref.as_ref(), &spec.target_refs)
            }
            _ => return None,
        };
        Some((selector.as_ref(), effective_target_refs(target, targets)))
    }

    /// API group, empty for the core group.
    pub fn group(&self) -> &'static str {
        group(self.api_version())
    }
}

/// The group of an `apiVersion`, empty for the core group.
pub(super) fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

kinds! {
    /// `extensions.istio.io/v1alpha1`, `WasmPlugin`.
    WasmPlugin(WasmPluginSpec),
    /// `extensions.istio.io/v1alpha1`, `TrafficExtension`.
    TrafficExtension(TrafficExtensionSpec),
    /// `security.istio.io/v1`, `RequestAuthentication`.
    RequestAuthentication(RequestAuthenticationSpec),
    /// `security.istio.io/v1`, `AuthorizationPolicy`.
    AuthorizationPolicy(AuthorizationPolicySpec),
    /// `security.istio.io/v1`, `PeerAuthentication`.
    PeerAuthentication(PeerAuthenticationSpec),
    /// `telemetry.istio.io/v1`, `Telemetry`.
    Telemetry(TelemetrySpec),
    /// `v1`, `Pod`.
    Pod(PodSpec),
    /// `apps/v1`, `Deployment`.
    Deployment(DeploymentSpec),
    /// `v1`, `Service`.
    Service(ServiceSpec),
    /// `v1`, `ConfigMap`.
    ConfigMap(ConfigMapData),
    /// `gateway.networking.k8s.io/v1`, `Gateway`.
    Gateway(GatewaySpec),
    /// `gateway.networking.k8s.io/v1`, `GatewayClass`.
    GatewayClass(GatewayClassSpec),
    /// `networking.istio.io/v1`, `Gateway`.
    IstioGateway(IstioGatewaySpec),
    /// `networking.istio.io/v1`, `ServiceEntry`.
    ServiceEntry(ServiceEntrySpec),
    /// `networking.istio.io/v1`, `WorkloadEntry`.
    WorkloadEntry(WorkloadEntrySpec),
}
