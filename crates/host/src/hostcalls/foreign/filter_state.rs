//! `declare_property` and `set_envoy_filter_state`. Source: Envoy's foreign functions.

use prost::Message;

use crate::abi::Status;
use crate::context::DeclaredProperty;
use crate::error::HostError;
use crate::limits::LimitKind;
use crate::stream::LifeSpan;
use crate::vm_state::VmState;

/// Most properties that one plugin may declare. Source: ours.
const MAX_DECLARED: usize = 1000;

/// Source: Envoy, `DeclarePropertyArguments`. The fields `type` and `schema` only matter to
/// readers that decode what was stored, of which there is none here.
#[derive(Clone, PartialEq, Message)]
struct DeclareProperty {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bool, tag = "2")]
    readonly: bool,
    #[prost(int32, tag = "3")]
    value_type: i32,
    #[prost(bytes = "vec", tag = "4")]
    schema: Vec<u8>,
    #[prost(int32, tag = "5")]
    span: i32,
}

/// Source: Envoy, `SetEnvoyFilterStateArguments`.
#[derive(Clone, PartialEq, Message)]
struct SetFilterState {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
    #[prost(int32, tag = "3")]
    span: i32,
}

/// Says how a property of the plugin's streams is kept, once.
pub(super) fn declare(state: &mut VmState, arguments: &[u8]) -> Result<Vec<u8>, HostError> {
    let declared = DeclareProperty::decode(arguments).map_err(|_| Status::BadArgument)?;
    let property = DeclaredProperty { is_read_only: declared.readonly, span: span(declared.span)? };
    let root = state.contexts.root_mut(state.current).ok_or(Status::BadArgument)?;
    let name = declared.name.into_bytes();
    if root.declared.contains_key(&name) {
        return Err(Status::BadArgument.into());
    }
    if root.declared.len() >= MAX_DECLARED {
        return Err(state.beyond(LimitKind::PropertyBytes, Status::BadArgument));
    }
    root.declared.insert(name, property);
    Ok(Vec::new())
}

/// Sets a value that the proxy itself or its other filters look at.
pub(super) fn set(state: &VmState, arguments: &[u8]) -> Result<Vec<u8>, HostError> {
    let wanted = SetFilterState::decode(arguments).map_err(|_| Status::BadArgument)?;
    let span = span(wanted.span)?;
    let stream = state.stream().ok_or(Status::NotFound)?;
    stream.host.set_filter_state(&wanted.path, &wanted.value, span)?;
    Ok(Vec::new())
}

fn span(number: i32) -> Result<LifeSpan, Status> {
    match number {
        0 => Ok(LifeSpan::FilterChain),
        1 => Ok(LifeSpan::DownstreamRequest),
        2 => Ok(LifeSpan::DownstreamConnection),
        _ => Err(Status::BadArgument),
    }
}
