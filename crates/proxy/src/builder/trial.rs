//! A plugin's first start, in a VM that is thrown away.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use wasmplug_host::abi::Status;
use wasmplug_host::{
    GrpcCall, GrpcTarget, Host, HttpCall, Plugin, PluginServices, StartError, VmHandle,
};

use crate::snapshot::PluginSpec;

/// What the plugin asks for is taken and never done, so that one that insists on a call while it
/// starts is not refused for that. Source: Envoy, which cancels it.
struct TrialServices;

/// Starts the plugin in a VM of its own and throws both away, without done or delete.
pub(super) fn start(host: &Arc<Host>, spec: &PluginSpec) -> Result<(), StartError> {
    let vm = VmHandle::start(host, &spec.module, spec.vm_config())?;
    Plugin::start(&vm, &spec.plugin_config(), Rc::new(TrialServices)).map(drop)
}

impl PluginServices for TrialServices {
    /// Which clusters there are is a worker's business.
    fn http_call(&self, _call: HttpCall) -> Result<(), Status> {
        Ok(())
    }

    fn grpc_call(&self, _call: GrpcCall) -> Result<(), Status> {
        Ok(())
    }

    fn grpc_stream(&self, _token: u32, _target: GrpcTarget) -> Result<(), Status> {
        Ok(())
    }

    fn grpc_send(&self, _token: u32, _message: Bytes, _end_of_stream: bool) -> Result<(), Status> {
        Ok(())
    }

    fn resolve_dns(&self, _token: u32, _name: &str) -> Result<(), Status> {
        Ok(())
    }
}
