//! HTTP calls. Source: Proxy-Wasm 0.2.1, "HTTP calls".

use std::time::Duration;

use bytes::Bytes;
use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::abi::{Status, pairs};
use crate::callout::{CallKind, HttpCall};
use crate::error::HostError;
use crate::fields::{Fields, FieldsKind, Pseudo};
use crate::memory;

use crate::vm_state::{Running, VmState};

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcalls! { linker, "env", Running::Callback;
        "proxy_http_call" => http_call {
            target_ptr, target_len, headers_ptr, headers_len, body_ptr, body_len,
            trailers_ptr, trailers_len, timeout, token_out
        };
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the ABI's parameters")]
fn http_call(
    cx: &mut Cx<'_>,
    target_ptr: u32,
    target_len: u32,
    headers_ptr: u32,
    headers_len: u32,
    body_ptr: u32,
    body_len: u32,
    trailers_ptr: u32,
    trailers_len: u32,
    timeout: u32,
    token_out: u32,
) -> Result<(), HostError> {
    let (memory, _) = cx.parts()?;
    let target = memory::read(memory, target_ptr, target_len)?;
    let headers = memory::read(memory, headers_ptr, headers_len)?;
    let body = memory::read(memory, body_ptr, body_len)?;
    let trailers = memory::read(memory, trailers_ptr, trailers_len)?;
    let mut call = HttpCall {
        token: 0,
        target: String::from_utf8_lossy(target).into_owned(),
        headers: fields(FieldsKind::Request, headers)?,
        body: Bytes::copy_from_slice(body),
        trailers: fields(FieldsKind::Trailers, trailers)?,
        timeout: (timeout != 0).then(|| Duration::from_millis(timeout.into())),
    };
    // Envoy clears the token before it looks at anything else.
    cx.write_u32(token_out, 0)?;
    let required = [Pseudo::Method, Pseudo::Path, Pseudo::Authority];
    if required.iter().any(|pseudo| call.headers.pseudo(*pseudo).is_none())
        || i32::try_from(timeout).is_err()
    {
        return Err(Status::BadArgument.into());
    }
    let state = cx.state_mut();
    let (root, services) = state.services().ok_or(Status::InternalFailure)?;
    let token = state.tokens.next(CallKind::Http)?;
    call.token = token;
    services.http_call(call)?;
    cx.state_mut().tokens.take(token, root);
    Ok(cx.write_u32(token_out, token)?)
}

/// A list that cannot be read counts as empty, as in Envoy.
pub(super) fn fields(kind: FieldsKind, bytes: &[u8]) -> Result<Fields, Status> {
    let mut fields = Fields::new(kind);
    fields.set_pairs(&pairs::decode(bytes).unwrap_or_default())?;
    Ok(fields)
}
