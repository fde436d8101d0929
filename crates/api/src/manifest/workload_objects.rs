//! Decodes what selection needs of the objects that workloads are made of.
//!
//! They are not ours to judge: a field that is not read here is accepted, whatever it is.

use super::fields::Fields;
use super::findings::Findings;
use super::kinds::{Kind, NETWORKING_API_VERSIONS, optional_spec};
use super::mesh_config;
use super::metadata::metadata;
use crate::field_path::FieldPath;
use crate::mesh_config::{MESH_CONFIG_KEY, MESH_CONFIG_MAP};
use crate::meta::Object;
use crate::validation::Violations;
use crate::workload_objects::{
    ConfigMapData, DeploymentSpec, GatewayClassSpec, GatewaySpec, IstioGatewaySpec, PodSpec,
    ServiceEntrySpec, ServiceSpec, WorkloadEntrySpec,
};

/// API versions of Gateway API.
const GATEWAY_API_VERSIONS: &[&str] =
    &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"];

/// Implements [`Kind`] for an object whose `spec` is read by a function.
macro_rules! workload_object {
    ($spec:ty, $kind:literal, $versions:expr, $read:path) => {
        impl Kind for $spec {
            const KIND: &'static str = $kind;
            const API_VERSIONS: &'static [&'static str] = $versions;
            const IS_CLOSED: bool = false;

            fn read(document: &mut Fields<'_>, findings: &mut Findings) -> Self {
                optional_spec(document, findings, $read)
            }

            fn validate(_: &Object<Self>, _: &FieldPath, _: &mut Violations) {}
        }
    };
}

workload_object!(PodSpec, "Pod", &["v1"], pod);
workload_object!(DeploymentSpec, "Deployment", &["apps/v1"], deployment);
workload_object!(ServiceSpec, "Service", &["v1"], service);
workload_object!(GatewaySpec, "Gateway", GATEWAY_API_VERSIONS, gateway);
workload_object!(IstioGatewaySpec, "Gateway", NETWORKING_API_VERSIONS, istio_gateway);
workload_object!(ServiceEntrySpec, "ServiceEntry", NETWORKING_API_VERSIONS, service_entry);
workload_object!(WorkloadEntrySpec, "WorkloadEntry", NETWORKING_API_VERSIONS, workload_entry);

impl Kind for GatewayClassSpec {
    const KIND: &'static str = "GatewayClass";
    const API_VERSIONS: &'static [&'static str] = GATEWAY_API_VERSIONS;
    const IS_NAMESPACED: bool = false;
    const IS_CLOSED: bool = false;

    fn read(document: &mut Fields<'_>, findings: &mut Findings) -> Self {
        optional_spec(document, findings, |mut fields, findings| Self {
            controller: fields.text("controllerName", findings),
        })
    }

    fn validate(_: &Object<Self>, _: &FieldPath, _: &mut Violations) {}
}

impl Kind for ConfigMapData {
    const KIND: &'static str = "ConfigMap";
    const API_VERSIONS: &'static [&'static str] = &["v1"];
    const IS_CLOSED: bool = false;

    fn read(document: &mut Fields<'_>, findings: &mut Findings) -> Self {
        let is_mesh = |name: &str| {
            name.strip_prefix(MESH_CONFIG_MAP)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let settings = document.name().filter(|name| is_mesh(name)).and_then(|_| {
            let entries = document.entries("data", findings);
            entries.into_iter().find(|(key, _)| key == MESH_CONFIG_KEY)
        });
        Self {
            mesh: settings.and_then(|(_, field)| mesh_config::read(&field, findings)),
            data: document.string_map("data", findings),
            binary_data: document.byte_map("binaryData", findings),
        }
    }

    fn validate(object: &Object<Self>, root: &FieldPath, violations: &mut Violations) {
        let ConfigMapData { data, binary_data, mesh: _ } = &object.spec;
        for key in binary_data.keys().filter(|key| data.contains_key(*key)) {
            let path = root.field("binaryData").key(key);
            violations.error(path, "the key is in `data` as well");
        }
    }
}

fn pod(mut fields: Fields<'_>, findings: &mut Findings) -> PodSpec {
    let service_account = fields.non_empty("serviceAccountName", findings);
    let containers = fields.objects("containers", findings, |mut fields, findings| {
        ports(&mut fields, "ports", "containerPort", findings)
    });
    PodSpec { service_account, ports: containers.into_iter().flatten().collect() }
}

fn deployment(mut fields: Fields<'_>, findings: &mut Findings) -> DeploymentSpec {
    let read = |mut fields: Fields<'_>, findings: &mut Findings| {
        let meta = fields.object("metadata", findings, metadata).unwrap_or_default();
        let pod = fields.object("spec", findings, pod).unwrap_or_default();
        DeploymentSpec { labels: meta.labels, annotations: meta.annotations, pod }
    };
    fields.object("template", findings, read).unwrap_or_default()
}

fn service(mut fields: Fields<'_>, findings: &mut Findings) -> ServiceSpec {
    ServiceSpec {
        selector: fields.string_map("selector", findings),
        ports: ports(&mut fields, "ports", "port", findings),
    }
}

fn gateway(mut fields: Fields<'_>, findings: &mut Findings) -> GatewaySpec {
    GatewaySpec {
        class: fields.text("gatewayClassName", findings),
        ports: ports(&mut fields, "listeners", "port", findings),
    }
}

fn istio_gateway(mut fields: Fields<'_>, findings: &mut Findings) -> IstioGatewaySpec {
    let servers = fields.objects("servers", findings, |mut fields, findings| {
        let number =
            |mut fields: Fields<'_>, findings: &mut Findings| fields.port("number", findings);
        fields.object("port", findings, number).flatten()
    });
    IstioGatewaySpec {
        selector: fields.string_map("selector", findings),
        ports: servers.into_iter().flatten().collect(),
    }
}

fn service_entry(mut fields: Fields<'_>, findings: &mut Findings) -> ServiceEntrySpec {
    ServiceEntrySpec {
        hosts: fields.strings("hosts", findings),
        ports: ports(&mut fields, "ports", "number", findings),
    }
}

fn workload_entry(mut fields: Fields<'_>, findings: &mut Findings) -> WorkloadEntrySpec {
    let mut ports = Vec::new();
    for (name, field) in fields.entries("ports", findings) {
        let number = field.integer(1..=65535, findings).and_then(|n| u16::try_from(n).ok());
        ports.extend(number.map(|number| (name, number)));
    }
    WorkloadEntrySpec {
        address: fields.text("address", findings),
        labels: fields.string_map("labels", findings),
        service_account: fields.non_empty("serviceAccount", findings),
        ports: ports.into_iter().collect(),
    }
}

/// The numbers in a list of objects.
fn ports(
    fields: &mut Fields<'_>,
    list: &'static str,
    name: &'static str,
    findings: &mut Findings,
) -> Vec<u16> {
    let ports = fields.objects(list, findings, |mut fields, findings| fields.port(name, findings));
    ports.into_iter().flatten().collect()
}
