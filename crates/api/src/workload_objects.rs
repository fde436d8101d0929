//! What is read of the objects that workloads are made of: Kubernetes' own, Gateway API's and
//! Istio's.
//!
//! Only what selection needs is here; other fields are accepted and not looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::mesh_config::MeshConfig;
use crate::meta::Object;

/// A `Pod` object.
pub type Pod = Object<PodSpec>;
/// A `Deployment` object.
pub type Deployment = Object<DeploymentSpec>;
/// A `Service` object.
pub type Service = Object<ServiceSpec>;
/// A `ConfigMap` object.
pub type ConfigMap = Object<ConfigMapData>;
/// A `Gateway` object of Gateway API.
pub type Gateway = Object<GatewaySpec>;
/// A `GatewayClass` object of Gateway API.
pub type GatewayClass = Object<GatewayClassSpec>;
/// A `Gateway` object of Istio.
pub type IstioGateway = Object<IstioGatewaySpec>;
/// A `ServiceEntry` object.
pub type ServiceEntry = Object<ServiceEntrySpec>;
/// A `WorkloadEntry` object.
pub type WorkloadEntry = Object<WorkloadEntrySpec>;

/// `spec` of a `Pod`.
///
/// Source: Kubernetes, `core/v1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodSpec {
    /// `serviceAccountName`; absent means `default`.
    pub service_account: Option<String>,
    /// `containers[].ports[].containerPort` of all containers, in the order of the file.
    pub ports: Vec<u16>,
}

/// `spec` of a `Deployment`.
///
/// Source: Kubernetes, `apps/v1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeploymentSpec {
    /// `template.metadata.labels`: the labels of its pods.
    pub labels: BTreeMap<String, String>,
    /// `template.metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `template.spec`.
    pub pod: PodSpec,
}

/// `spec` of a `Service`.
///
/// Source: Kubernetes, `core/v1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceSpec {
    /// `selector`: labels of its pods; none for a service without pods.
    pub selector: BTreeMap<String, String>,
    /// `ports[].port`.
    pub ports: Vec<u16>,
}

/// `data` and `binaryData` of a `ConfigMap`; `Debug` shows names only.
///
/// Source: Kubernetes, `core/v1`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConfigMapData {
    /// `data`.
    pub data: BTreeMap<String, String>,
    /// `binaryData`, decoded.
    pub binary_data: BTreeMap<String, Arc<[u8]>>,
    /// The settings of the mesh, if this is where they are.
    pub mesh: Option<MeshConfig>,
}

/// `spec` of a Gateway API `Gateway`.
///
/// Source: Gateway API, `v1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewaySpec {
    /// `gatewayClassName`.
    pub class: String,
    /// `listeners[].port`.
    pub ports: Vec<u16>,
}

/// `spec` of a `GatewayClass`.
///
/// Source: Gateway API, `v1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayClassSpec {
    /// `controllerName`.
    pub controller: String,
}

/// `spec` of an Istio `Gateway`.
///
/// Source: Istio API, `networking/v1alpha3/gateway.proto`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IstioGatewaySpec {
    /// `selector`: labels of the pods that serve it.
    pub selector: BTreeMap<String, String>,
    /// `servers[].port.number`.
    pub ports: Vec<u16>,
}

/// `spec` of a `ServiceEntry`.
///
/// Source: Istio API, `networking/v1alpha3/service_entry.proto`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceEntrySpec {
    /// `hosts`.
    pub hosts: Vec<String>,
    /// `ports[].number`.
    pub ports: Vec<u16>,
}

/// `spec` of a `WorkloadEntry`.
///
/// Source: Istio API, `networking/v1alpha3/workload_entry.proto`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkloadEntrySpec {
    /// `address`.
    pub address: String,
    /// `labels`: the labels of the workload.
    pub labels: BTreeMap<String, String>,
    /// `serviceAccount`.
    pub service_account: Option<String>,
    /// `ports`: numbers by the name of the service's port.
    pub ports: BTreeMap<String, u16>,
}

// === impl ConfigMapData ===

impl fmt::Debug for ConfigMapData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigMapData")
            .field("data", &self.data.keys())
            .field("binary_data", &self.binary_data.keys())
            .field("mesh", &self.mesh)
            .finish()
    }
}
