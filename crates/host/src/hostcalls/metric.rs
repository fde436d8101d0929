//! Metrics. Source: Proxy-Wasm 0.2.1, "Metrics".

use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::abi::{MetricType, Status};
use crate::costs::hostcall_index;
use crate::error::HostError;
use crate::limits::LimitKind;
use crate::vm_state::{Running, VmState};

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcalls! { linker, "env", Running::Callback;
        "proxy_define_metric" => define_metric { metric_type, name_ptr, name_len, id_out };
        "proxy_get_metric" => get_metric { id, value_out };
    }
    linker.func_wrap(
        "env",
        "proxy_increment_metric",
        |caller: Caller<'_, VmState>, id: u32, delta: i64| -> wasmtime::Result<u32> {
            const INDEX: usize = hostcall_index("proxy_increment_metric");
            let cx = Cx::enter(caller, "proxy_increment_metric", Running::Callback)?;
            if cx.is_denied("proxy_increment_metric") {
                return Ok(cx.count(INDEX, Status::InternalFailure).into());
            }
            let result = cx.state().metrics.increment(id, delta);
            cx.finish(INDEX, result.map_err(HostError::from))
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_record_metric",
        |caller: Caller<'_, VmState>, id: u32, value: u64| -> wasmtime::Result<u32> {
            const INDEX: usize = hostcall_index("proxy_record_metric");
            let cx = Cx::enter(caller, "proxy_record_metric", Running::Callback)?;
            if cx.is_denied("proxy_record_metric") {
                return Ok(cx.count(INDEX, Status::InternalFailure).into());
            }
            let result = cx.state().metrics.record(id, value);
            cx.finish(INDEX, result.map_err(HostError::from))
        },
    )?;
    Ok(())
}

fn define_metric(
    cx: &mut Cx<'_>,
    metric_type: u32,
    name_ptr: u32,
    name_len: u32,
    id_out: u32,
) -> Result<(), HostError> {
    let metric_type = MetricType::try_from(metric_type)?;
    let (name, state) = cx.read(name_ptr, name_len)?;
    let mut name = String::from_utf8_lossy(name).into_owned();
    name.insert_str(0, &state.config.metric_prefix);
    match state.metrics.define(state.host.metrics(), name, metric_type) {
        Err(status @ Status::InternalFailure) => Err(state.beyond(LimitKind::Metrics, status)),
        id => Ok(cx.write_u32(id_out, id?)?),
    }
}

fn get_metric(cx: &mut Cx<'_>, id: u32, value_out: u32) -> Result<(), HostError> {
    let value = cx.state().metrics.get(id)?;
    Ok(cx.write_u64(value_out, value)?)
}
