//! The exports that a host calls, looked up and typed once per VM.
//!
//! Source: Proxy-Wasm 0.1.0 to 0.2.1, "Callbacks"; an absent export is a no-op.

use wasmtime::{ExternType, FuncType, Instance, Module, TypedFunc, ValType};

use crate::costs::callback_index;
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
    ("envoy_on_resolve_dns", &[(3, 0)]),
    ("envoy_on_stats_update", &[(2, 0)]),
];

/// A function of the guest that the host calls.
pub(crate) struct Callback<Params, Results> {
    pub(crate) id: CallbackId,
    function: TypedFunc<Params, Results>,
}

/// Which callback it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallbackId {
    pub(crate) name: &'static str,
    /// Where its costs are counted; looked up once, because every call is counted.
    pub(crate) index: usize,
}

/// A headers callback in the shape of its ABI version.
pub(crate) enum HeadersCallback {
    /// 0.1.0: context, number of headers.
    WithoutEnd(Callback<(u32, u32), u32>),
    /// 0.2.0 and later: context, number of headers, end of stream.
    WithEnd(Callback<(u32, u32, u32), u32>),
}

/// Root context, token, number of headers, body bytes, number of trailers.
type HttpCallResponseCallback = Callback<(u32, u32, u32, u32, u32), ()>;

/// The callbacks of one instance. `None` where the plugin does not care.
pub(crate) struct Callbacks {
    pub(crate) on_context_create: Option<Callback<(u32, u32), ()>>,
    pub(crate) on_vm_start: Option<Callback<(u32, u32), u32>>,
    pub(crate) on_configure: Option<Callback<(u32, u32), u32>>,
    pub(crate) on_tick: Option<Callback<u32, ()>>,
    pub(crate) on_request_headers: Option<HeadersCallback>,
    pub(crate) on_request_body: Option<Callback<(u32, u32, u32), u32>>,
    pub(crate) on_request_trailers: Option<Callback<(u32, u32), u32>>,
    pub(crate) on_response_headers: Option<HeadersCallback>,
    pub(crate) on_response_body: Option<Callback<(u32, u32, u32), u32>>,
    pub(crate) on_response_trailers: Option<Callback<(u32, u32), u32>>,
    pub(crate) on_log: Option<Callback<u32, ()>>,
    pub(crate) on_done: Option<Callback<u32, u32>>,
    pub(crate) on_delete: Option<Callback<u32, ()>>,
    pub(crate) on_http_call_response: Option<HttpCallResponseCallback>,
    pub(crate) on_queue_ready: Option<Callback<(u32, u32), ()>>,
    pub(crate) rare: RareCallbacks,
}

/// Callbacks of network plugins, of gRPC and of the host's extensions.
#[expect(clippy::struct_field_names, reason = "the specification's names")]
pub(crate) struct RareCallbacks {
    pub(crate) on_request_metadata: Option<Callback<(u32, u32), u32>>,
    pub(crate) on_response_metadata: Option<Callback<(u32, u32), u32>>,
    pub(crate) on_new_connection: Option<Callback<u32, u32>>,
    pub(crate) on_downstream_data: Option<Callback<(u32, u32, u32), u32>>,
    pub(crate) on_upstream_data: Option<Callback<(u32, u32, u32), u32>>,
    pub(crate) on_downstream_connection_close: Option<Callback<(u32, u32), ()>>,
    pub(crate) on_upstream_connection_close: Option<Callback<(u32, u32), ()>>,
    pub(crate) on_grpc_receive_initial_metadata: Option<Callback<(u32, u32, u32), ()>>,
    pub(crate) on_grpc_receive: Option<Callback<(u32, u32, u32), ()>>,
    pub(crate) on_grpc_receive_trailing_metadata: Option<Callback<(u32, u32, u32), ()>>,
    pub(crate) on_grpc_close: Option<Callback<(u32, u32, u32), ()>>,
    pub(crate) on_foreign_function: Option<Callback<(u32, u32, u32), ()>>,
    pub(crate) on_resolve_dns: Option<Callback<(u32, u32, u32), ()>>,
    pub(crate) on_stats_update: Option<Callback<(u32, u32), ()>>,
}

/// Finds the callbacks of an instance that a VM may be called with.
struct Resolver<'a> {
    instance: &'a Instance,
    store: &'a mut Store,
}

// === impl Callbacks ===

impl Callbacks {
    /// Looks all callbacks up; one that the VM's capabilities leave out counts as not exported.
    pub(crate) fn resolve(instance: &Instance, store: &mut Store) -> Self {
        let mut of = Resolver { instance, store };
        Self {
            on_context_create: of.typed("proxy_on_context_create"),
            on_vm_start: of.typed("proxy_on_vm_start"),
            on_configure: of.typed("proxy_on_configure"),
            on_tick: of.typed("proxy_on_tick"),
            on_request_headers: of.headers("proxy_on_request_headers"),
            on_request_body: of.typed("proxy_on_request_body"),
            on_request_trailers: of.typed("proxy_on_request_trailers"),
            on_response_headers: of.headers("proxy_on_response_headers"),
            on_response_body: of.typed("proxy_on_response_body"),
            on_response_trailers: of.typed("proxy_on_response_trailers"),
            on_log: of.typed("proxy_on_log"),
            on_done: of.typed("proxy_on_done"),
            on_delete: of.typed("proxy_on_delete"),
            on_http_call_response: of.typed("proxy_on_http_call_response"),
            on_queue_ready: of.typed("proxy_on_queue_ready"),
            rare: RareCallbacks::resolve(&mut of),
        }
    }
}

// === impl RareCallbacks ===

impl RareCallbacks {
    fn resolve(of: &mut Resolver<'_>) -> Self {
        Self {
            on_request_metadata: of.typed("proxy_on_request_metadata"),
            on_response_metadata: of.typed("proxy_on_response_metadata"),
            on_new_connection: of.typed("proxy_on_new_connection"),
            on_downstream_data: of.typed("proxy_on_downstream_data"),
            on_upstream_data: of.typed("proxy_on_upstream_data"),
            on_downstream_connection_close: of.typed("proxy_on_downstream_connection_close"),
            on_upstream_connection_close: of.typed("proxy_on_upstream_connection_close"),
            on_grpc_receive_initial_metadata: of.typed("proxy_on_grpc_receive_initial_metadata"),
            on_grpc_receive: of.typed("proxy_on_grpc_receive"),
            on_grpc_receive_trailing_metadata: of.typed("proxy_on_grpc_receive_trailing_metadata"),
            on_grpc_close: of.typed("proxy_on_grpc_close"),
            on_foreign_function: of.typed("proxy_on_foreign_function"),
            on_resolve_dns: of.typed("envoy_on_resolve_dns"),
            on_stats_update: of.typed("envoy_on_stats_update"),
        }
    }
}

// === impl Callback ===

impl<Params, Results> Callback<Params, Results>
where
    Params: wasmtime::WasmParams,
    Results: wasmtime::WasmResults,
{
    /// The export of this name and type.
    pub(crate) fn find(instance: &Instance, store: &mut Store, name: &'static str) -> Option<Self> {
        let function = typed(instance, store, name)?;
        Some(Self { id: CallbackId { name, index: callback_index(name) }, function })
    }

    #[inline]
    pub(crate) fn call(&self, store: &mut Store, params: Params) -> wasmtime::Result<Results> {
        self.function.call(store, params)
    }
}

// === impl HeadersCallback ===

impl HeadersCallback {
    pub(crate) fn id(&self) -> CallbackId {
        match self {
            Self::WithoutEnd(callback) => callback.id,
            Self::WithEnd(callback) => callback.id,
        }
    }

    pub(crate) fn call(
        &self,
        store: &mut Store,
        context: u32,
        count: u32,
        end_of_stream: bool,
    ) -> wasmtime::Result<u32> {
        match self {
            Self::WithoutEnd(callback) => callback.call(store, (context, count)),
            Self::WithEnd(callback) => {
                callback.call(store, (context, count, u32::from(end_of_stream)))
            }
        }
    }
}

// === impl Resolver ===

impl Resolver<'_> {
    fn typed<Params, Results>(&mut self, name: &'static str) -> Option<Callback<Params, Results>>
    where
        Params: wasmtime::WasmParams,
        Results: wasmtime::WasmResults,
    {
        let is_allowed = self.store.data().config.allows(name);
        is_allowed.then(|| Callback::find(self.instance, self.store, name))?
    }

    fn headers(&mut self, name: &'static str) -> Option<HeadersCallback> {
        self.typed(name)
            .map(HeadersCallback::WithEnd)
            .or_else(|| self.typed(name).map(HeadersCallback::WithoutEnd))
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
