//! The kinds of objects that are known here, in one table.
//!
//! A new kind is a type, an implementation of [`Kind`] or [`ReadObject`] beside its reader, and a
//! line in the table at the end of this file.

use super::Document;
use super::fields::{Field, Fields};
use super::findings::Findings;
use super::metadata::metadata;
use crate::authorization_policy::AuthorizationPolicy;
use crate::field_path::FieldPath;
use crate::meta::{NamespacedName, Object, ObjectMeta, Position};
use crate::peer_authentication::PeerAuthentication;
use crate::request_authentication::RequestAuthentication;
use crate::secret::Secret;
use crate::selector::{PolicyTargetReference, WorkloadSelector, effective_target_refs};
use crate::telemetry::Telemetry;
use crate::traffic_extension::TrafficExtension;
use crate::validation::{self, Violations};
use crate::virtual_service::VirtualService;
use crate::wasm_plugin::WasmPlugin;
use crate::workload_objects::{
    ConfigMap, Deployment, Gateway, GatewayClass, IstioGateway, Pod, Service, ServiceEntry,
    WorkloadEntry,
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

/// An object that documents of one kind become.
///
/// Objects whose kind is a [`Kind`] are read in the common way; another one reads its document
/// itself, and has `meta` and `position` as they have.
pub(super) trait ReadObject: Sized {
    /// `kind`.
    const KIND: &'static str;
    /// Values of `apiVersion` that are read, the one to recommend first.
    const API_VERSIONS: &'static [&'static str];

    /// Decodes and validates; `None` if there was an error.
    fn read_object(document: &Document<'_>, findings: &mut Findings) -> Option<Self>;
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

impl<K: Kind> ReadObject for Object<K> {
    const KIND: &'static str = K::KIND;
    const API_VERSIONS: &'static [&'static str] = K::API_VERSIONS;

    fn read_object(document: &Document<'_>, findings: &mut Findings) -> Option<Self> {
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
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident($object:ty),)*) => {
        /// A resource of a known kind.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub enum Resource {
            $($(#[$doc])* $variant($object),)*
        }

        impl Resource {
            /// Kind, such as `WasmPlugin`.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$object as ReadObject>::KIND,)*
                }
            }

            /// The newest `apiVersion` of its kind, whichever it was written in.
            pub fn api_version(&self) -> &'static str {
                let versions = match self {
                    $(Self::$variant(_) => <$object as ReadObject>::API_VERSIONS,)*
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

        $(impl From<$object> for Resource {
            fn from(object: $object) -> Self {
                Self::$variant(object)
            }
        })*

        /// Every kind that is read.
        pub(super) const KINDS: &[KnownKind] = &[
            $(KnownKind {
                kind: <$object as ReadObject>::KIND,
                api_versions: <$object as ReadObject>::API_VERSIONS,
                read: |document, findings| {
                    <$object>::read_object(document, findings).map(Resource::from)
                },
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
    WasmPlugin(WasmPlugin),
    /// `extensions.istio.io/v1alpha1`, `TrafficExtension`.
    TrafficExtension(TrafficExtension),
    /// `security.istio.io/v1`, `RequestAuthentication`.
    RequestAuthentication(RequestAuthentication),
    /// `security.istio.io/v1`, `AuthorizationPolicy`.
    AuthorizationPolicy(AuthorizationPolicy),
    /// `security.istio.io/v1`, `PeerAuthentication`.
    PeerAuthentication(PeerAuthentication),
    /// `telemetry.istio.io/v1`, `Telemetry`.
    Telemetry(Telemetry),
    /// `networking.istio.io/v1`, `VirtualService`.
    VirtualService(VirtualService),
    /// `v1`, `Pod`.
    Pod(Pod),
    /// `apps/v1`, `Deployment`.
    Deployment(Deployment),
    /// `v1`, `Service`.
    Service(Service),
    /// `v1`, `ConfigMap`.
    ConfigMap(ConfigMap),
    /// `gateway.networking.k8s.io/v1`, `Gateway`.
    Gateway(Gateway),
    /// `gateway.networking.k8s.io/v1`, `GatewayClass`.
    GatewayClass(GatewayClass),
    /// `networking.istio.io/v1`, `Gateway`.
    IstioGateway(IstioGateway),
    /// `networking.istio.io/v1`, `ServiceEntry`.
    ServiceEntry(ServiceEntry),
    /// `networking.istio.io/v1`, `WorkloadEntry`.
    WorkloadEntry(WorkloadEntry),
    /// `v1`, `Secret`.
    Secret(Secret),
}
