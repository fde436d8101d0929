//! The exports that a host calls, looked up and typed once per VM.
//!
//! Source: Proxy-Wasm 0.1.0 to 0.2.1, "Callbacks"; an absent export is a no-op.

use wasmtime::{ExternType, FuncType, Instance, Module, TypedFunc, ValType};

use crate::error::LoadError;
use crate::vm_state::VmState;

type Store = wasmtime::Store<VmState>;

/// Parameters and results that callbacks of the specification have, all `i32`.
///
/// The headers callbacks had no end-of-stream flag before 0.2.0, so two shapes are fine.
const SIGNATURES: &[(&str, &[(usize, usize)])] = &[
    ("_initialize", &[(0, 0)]),
    ("_start", &[(0, 0)]),
    ("main", &[(2, 1)]),
    ("__main_void", &[(0, 1)]),
    ("malloc", &[(1, 1)]),
    ("proxy_on_memory_allocate", &[(1, 1)]),
    ("proxy_on_context_create", &[(2, 0)]),
    ("proxy_on_vm_start", &[(2, 1)]),
    ("proxy_on_configure", &[(2, 1)]),
    ("proxy_on_tick", &[(1, 0)]),
    ("proxy_on_request_headers", &[(3, 1), (2, 1)]),
    ("proxy_on_request_body", &[(3, 1)]),
    ("proxy_on_request_trailers", &[(2, 1)]),
    ("proxy_on_request_metadata", &[(2, 1)]),
    ("proxy_on_response_headers", &[(3, 1), (2, 1)]),
    ("proxy_on_response_body", &[(3, 1)]),
    ("proxy_on_response_trailers", &[(2, 1)]),
    ("proxy_on_response_metadata", &[(2, 1)]),
    ("proxy_on_log", &[(1, 0)]),
    ("proxy_on_done", &[(1, 1)]),
    ("proxy_on_delete", &[(1, 0)]),
    ("proxy_on_new_connection", &[(1, 1)]),
    ("proxy_on_downstream_data", &[(3, 1)]),
    ("proxy_on_upstream_data", &[(3, 1)]),
    ("proxy_on_downstream_connection_close", &[(2, 0)]),
    ("proxy_on_upstream_connection_close", &[(2, 0)]),
    ("proxy_on_http_call_response", &[(5, 0)]),
    ("proxy_on_grpc_receive_initial_metadata", &[(3, 0)]),
    ("proxy_on_grpc_receive", &[(3, 0)]),
    ("proxy_on_grpc_receive_trailing_metadata", &[(3, 0)]),
    ("proxy_on_grpc_close", &[(3, 0)]),
    ("proxy_on_queue_ready", &[(2, 0)]),
    ("proxy_on_foreign_function", &[(3, 0)]),
];

/// A headers callback in the shape of its ABI version.
pub(crate) enum HeadersCallback {
    /// 0.1.0: context, number of headers.
    WithoutEnd(TypedFunc<(u32, u32), u32>),
    /// 0.2.0 and later: context, number of headers, end of stream.
    WithEnd(TypedFunc<(u32, u32, u32), u32>),
}

/// Root context, token, number of headers, body bytes, number of trailers.
type HttpCallResponseCallback = TypedFunc<(u32, u32, u32, u32, u32), ()>;

/// The callbacks of one instance. `None` where the plugin does not care.
#[expect(clippy::struct_field_names, reason = "the specification's names")]
pub(crate) struct Callbacks {
    pub(crate) on_context_create: Option<TypedFunc<(u32, u32), ()>>,
    pub(crate) on_vm_start: Option<TypedFunc<(u32, u32), u32>>,
    pub(crate) on_configure: Option<TypedFunc<(u32, u32), u32>>,
    pub(crate) on_tick: Option<TypedFunc<u32, ()>>,
    pub(crate) on_request_headers: Option<HeadersCallback>,
    pub(crate) on_request_body: Option<TypedFunc<(u32, u32, u32), u32>>,
    pub(crate) on_request_trailers: Option<TypedFunc<(u32, u32), u32>>,
    pub(crate) on_response_headers: Option<HeadersCallback>,
    pub(crate) on_response_body: Option<TypedFunc<(u32, u32, u32), u32>>,
    pub(crate) on_response_trailers: Option<TypedFunc<(u32, u32), u32>>,
    pub(crate) on_log: Option<TypedFunc<u32, ()>>,
    pub(crate) on_done: Option<TypedFunc<u32, u32>>,
    pub(crate) on_delete: Option<TypedFunc<u32, ()>>,
    pub(crate) on_http_call_response: Option<HttpCallResponseCallback>,
    pub(crate) on_queue_ready: Option<TypedFunc<(u32, u32), ()>>,
}

// === impl Callbacks ===

impl Callbacks {
    pub(crate) fn resolve(instance: &Instance, store: &mut Store) -> Self {
        Self {
            on_context_create: typed(instance, store, "proxy_on_context_create"),
            on_vm_start: typed(instance, store, "proxy_on_vm_start"),
            on_configure: typed(instance, store, "proxy_on_configure"),
            on_tick: typed(instance, store, "proxy_on_tick"),
            on_request_headers: headers(instance, store, "proxy_on_request_headers"),
            on_request_body: typed(instance, store, "proxy_on_request_body"),
            on_request_trailers: typed(instance, store, "proxy_on_request_trailers"),
            on_response_headers: headers(instance, store, "proxy_on_response_headers"),
            on_response_body: typed(instance, store, "proxy_on_response_body"),
            on_response_trailers: typed(instance, store, "proxy_on_response_trailers"),
            on_log: typed(instance, store, "proxy_on_log"),
            on_done: typed(instance, store, "proxy_on_done"),
            on_delete: typed(instance, store, "proxy_on_delete"),
            on_http_call_response: typed(instance, store, "proxy_on_http_call_response"),
            on_queue_ready: typed(instance, store, "proxy_on_queue_ready"),
        }
    }
}

/// Checks every export that is named like a callback and is a function.
///
/// # Errors
/// [`LoadError::ExportType`] for the first one with a foreign signature.
pub(crate) fn check_signatures(module: &Module) -> Result<(), LoadError> {
    for export in module.exports() {
        let (Some((_, shapes)), ExternType::Func(function)) =
            (SIGNATURES.iter().find(|(name, _)| *name == export.name()), export.ty())
        else {
            continue;
        };
        let is_i32 = |ty: &ValType| matches!(ty, ValType::I32);
        let shape = (function.params().len(), function.results().len());
        let plain =
            function.params().all(|ty| is_i32(&ty)) && function.results().all(|ty| is_i32(&ty));
        if !plain || !shapes.contains(&shape) {
            let wanted = shapes.iter().map(|(params, results)| shape_text(*params, *results));
            return Err(LoadError::ExportType {
                name: export.name().to_owned(),
                declared: signature_text(&function),
                wanted: wanted.collect::<Vec<_>>().join(" or "),
            });
        }
    }
    Ok(())
}

pub(crate) fn typed<Params, Results>(
    instance: &Instance,
    store: &mut Store,
    name: &str,
) -> Option<TypedFunc<Params, Results>>
where
    Params: wasmtime::WasmParams,
    Results: wasmtime::WasmResults,
{
    instance.get_typed_func(store, name).ok()
}

fn headers(instance: &Instance, store: &mut Store, name: &str) -> Option<HeadersCallback> {
    typed(instance, store, name)
        .map(HeadersCallback::WithEnd)
        .or_else(|| typed(instance, store, name).map(HeadersCallback::WithoutEnd))
}

/// A signature as error texts show it, such as `(i32, i64) -> i32`.
pub(crate) fn signature_text(ty: &FuncType) -> String {
    let list = |types: &mut dyn Iterator<Item = ValType>| {
        types.map(|ty| ty.to_string()).collect::<Vec<_>>().join(", ")
    };
    let results = match ty.results().len() {
        1 => list(&mut ty.results()),
        _ => format!("({})", list(&mut ty.results())),
    };
    format!("({}) -> {results}", list(&mut ty.params()))
}

fn shape_text(params: usize, results: usize) -> String {
    let params = vec!["i32"; params].join(", ");
    format!("({params}) -> {}", if results == 0 { "()" } else { "i32" })
}
