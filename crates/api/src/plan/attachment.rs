//! Which resource applies to which workload, listener and port.
//!
//! Source: Istio, `pilot/pkg/model/extensions.go` and `policyattachment.go`.

use super::{Workload, WorkloadRole};
use crate::selector::{
    GATEWAY_API_GROUP, GATEWAY_NAME_LABEL, PolicyTargetReference, TrafficSelector, WorkloadMode,
};
use crate::wasm_plugin::WasmPlugin;

/// Fails with the first clause that keeps the plugin from the HTTP chain, for people.
pub(super) fn check(plugin: &WasmPlugin, workload: &Workload) -> Result<(), String> {
    namespace(plugin, workload)?;
    // If an object has both in spite of validation, the references decide.
    let target_refs = plugin.spec.effective_target_refs();
    if target_refs.is_empty() {
        selector(plugin, workload)?;
    } else {
        targets(target_refs, plugin, workload)?;
    }
    traffic(&plugin.spec.match_, workload)
}

fn namespace(plugin: &WasmPlugin, workload: &Workload) -> Result<(), String> {
    let namespace = &plugin.meta.namespace;
    let Workload { namespace: own, root_namespace: root, .. } = workload;
    if namespace == own || namespace == root {
        return Ok(());
    }
    Err(if own == root {
        format!("namespace `{namespace}` is not the workload's and root namespace `{root}`")
    } else {
        format!(
            "namespace `{namespace}` is neither the workload's `{own}` nor the root namespace \
             `{root}`"
        )
    })
}

fn selector(plugin: &WasmPlugin, workload: &Workload) -> Result<(), String> {
    let selector = plugin.spec.selector.as_ref();
    let Some((key, value)) = selector.and_then(|of| of.first_mismatch(&workload.labels)) else {
        return Ok(());
    };
    Err(match workload.labels.get(key) {
        Some(actual) => {
            format!("selector wants label `{key}={value}`, the workload has `{key}={actual}`")
        }
        None => format!("selector wants label `{key}={value}`, the workload has no `{key}`"),
    })
}

/// Any of the references must name the gateway that the workload belongs to.
fn targets(
    targets: &[PolicyTargetReference],
    plugin: &WasmPlugin,
    workload: &Workload,
) -> Result<(), String> {
    let Some(gateway) = workload.labels.get(GATEWAY_NAME_LABEL) else {
        return Err(format!(
            "targetRefs want a gateway, the workload has no label `{GATEWAY_NAME_LABEL}`"
        ));
    };
    let Workload { namespace, .. } = workload;
    if plugin.meta.namespace != *namespace {
        return Err(format!(
            "targetRefs want a gateway in namespace `{}`, the workload is in `{namespace}`",
            plugin.meta.namespace
        ));
    }
    let is_gateway = |target: &PolicyTargetReference| {
        target.is_kind(GATEWAY_API_GROUP, "Gateway")
            && target.name == *gateway
            && (target.namespace.is_empty() || target.namespace == *namespace)
    };
    if targets.iter().any(is_gateway) {
        return Ok(());
    }
    let names: Vec<_> =
        targets.iter().map(|target| format!("`{}/{}`", target.kind, target.name)).collect();
    Err(format!("targetRefs want {}, the workload is of `Gateway/{gateway}`", names.join(" or ")))
}

fn traffic(selectors: &[TrafficSelector], workload: &Workload) -> Result<(), String> {
    let matches = |selector: &TrafficSelector| {
        matches_role(selector.mode, workload.role) && selector.matches_port(workload.port)
    };
    if selectors.is_empty() || selectors.iter().any(matches) {
        return Ok(());
    }
    let wanted: Vec<_> = selectors.iter().map(describe).collect();
    let port = match workload.port {
        0 => "an unknown port".to_owned(),
        port => format!("port {port}"),
    };
    Err(format!("match wants {}, the chain is {} on {port}", wanted.join(" or "), workload.role))
}

fn matches_role(mode: WorkloadMode, role: WorkloadRole) -> bool {
    match mode {
        WorkloadMode::Undefined | WorkloadMode::ClientAndServer => true,
        // A gateway is the client of what is behind it.
        WorkloadMode::Client => {
            matches!(role, WorkloadRole::SidecarOutbound | WorkloadRole::Gateway)
        }
        WorkloadMode::Server => role == WorkloadRole::SidecarInbound,
    }
}

fn describe(selector: &TrafficSelector) -> String {
    let mode = match selector.mode {
        WorkloadMode::Undefined | WorkloadMode::ClientAndServer => "any mode",
        WorkloadMode::Client => "mode `CLIENT`",
        WorkloadMode::Server => "mode `SERVER`",
    };
    let ports: Vec<_> = selector.ports.iter().map(u32::to_string).collect();
    match ports.as_slice() {
        [] => mode.to_owned(),
        [port] => format!("{mode} on port {port}"),
        ports => format!("{mode} on ports {}", ports.join(", ")),
    }
}
