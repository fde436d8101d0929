//! `expr_create`, `expr_evaluate`, `expr_delete`. Source: Envoy's foreign functions.

use crate::abi::Status;
use crate::error::HostError;
use crate::expression::Expression;
use crate::hostcalls::property::lookup_in;
use crate::limits::LimitKind;
use crate::vm_state::VmState;

/// Takes the source text; gives a token.
pub(super) fn create(state: &mut VmState, source: &[u8]) -> Result<Vec<u8>, HostError> {
    let limit = state.config.limits.expressions;
    let root = state.contexts.root(state.current).ok_or(Status::BadArgument)?;
    if root.expressions.len() >= limit {
        return Err(state.beyond(LimitKind::Expressions, Status::InternalFailure));
    }
    let source = std::str::from_utf8(source).map_err(|_| Status::BadArgument)?;
    let (parsed, time) = Expression::parse(source);
    // Otherwise a guest could keep its worker waiting for as long as it likes.
    state.deadline.charge(time);
    let expression = parsed.map_err(|_| Status::BadArgument)?;
    let root = state.contexts.root_mut(state.current).ok_or(Status::BadArgument)?;
    Ok(root.expressions.insert(expression).to_le_bytes().to_vec())
}

/// Takes a token; gives the value, for the current context and not for the effective one.
pub(super) fn evaluate(state: &VmState, arguments: &[u8]) -> Result<Vec<u8>, HostError> {
    let token = token(arguments)?;
    let root = state.contexts.root(state.current).ok_or(Status::NotFound)?;
    let expression = root.expressions.get(token).ok_or(Status::NotFound)?;
    let value = expression.evaluate(|path| lookup_in(state, state.current, path));
    let value = value.ok_or(Status::InternalFailure)?;
    Ok(value.to_bytes().ok_or(Status::SerializationFailure)?.into_owned())
}

/// Takes a token, which may be unknown.
pub(super) fn delete(state: &mut VmState, arguments: &[u8]) -> Result<Vec<u8>, HostError> {
    let token = token(arguments)?;
    if let Some(root) = state.contexts.root_mut(state.current) {
        root.expressions.remove(token);
    }
    Ok(Vec::new())
}

fn token(arguments: &[u8]) -> Result<u32, Status> {
    arguments.try_into().map(u32::from_le_bytes).map_err(|_| Status::BadArgument)
}
