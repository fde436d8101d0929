//! Calls that plugins make over HTTP and gRPC, and what comes back.
//!
//! A call is named by its token. The host gives tokens out and knows which are in use; the embedder
//! makes the call and brings its events back under the token. An event for a token that is no
//! longer in use is dropped, so that nobody has to know who was first, the answer or the end.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use crate::abi::Status;
use crate::fields::Fields;

/// Low bits of a token say what it names. Source: Envoy.
const KIND_BITS: u32 = 3;
/// Distance of two tokens of one kind.
const STEP: u32 = 4;

/// An HTTP call that a plugin makes.
#[derive(Clone, Debug)]
pub struct HttpCall {
    /// Names the answer.
    pub token: u32,
    /// Cluster name, as the plugin wrote it.
    pub target: String,
    /// Request headers with `:method`, `:path` and `:authority`.
    pub headers: Fields,
    /// Request body.
    pub body: Bytes,
    /// Request trailers.
    pub trailers: Fields,
    /// `None` for no limit.
    pub timeout: Option<Duration>,
}

/// The answer to an HTTP call. No headers at all means that it failed.
#[derive(Debug)]
pub struct HttpCallResponse {
    /// Response headers with `:status`.
    pub headers: Fields,
    /// Response body.
    pub body: Bytes,
    /// Response trailers.
    pub trailers: Fields,
}

/// A gRPC call with one message each way.
#[derive(Clone, Debug)]
pub struct GrpcCall {
    /// Names the answer.
    pub token: u32,
    /// What is called.
    pub target: GrpcTarget,
    /// The message, without its length prefix.
    pub message: Bytes,
    /// `None` for no limit.
    pub timeout: Option<Duration>,
}

/// What a gRPC call or stream is made to.
#[derive(Clone, Debug)]
pub struct GrpcTarget {
    /// Cluster name as the plugin wrote it; what is no text may be Envoy's `GrpcService` message.
    pub cluster: Bytes,
    /// Full name of the service.
    pub service: String,
    /// Name of the method.
    pub method: String,
    /// Metadata of the plugin, in its order.
    pub metadata: Fields,
}

/// How a gRPC call or stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcStatus {
    /// 0 to 16. Source: gRPC, status codes.
    pub code: u32,
    /// What the server, or the proxy in its place, says about it.
    pub message: String,
}

/// What a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    Http,
    GrpcCall,
    GrpcStream,
}

/// Tokens of one VM: those in use, with the root that each belongs to.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    last: [u32; 3],
    in_use: HashMap<u32, u32>,
}

// === impl GrpcStatus ===

impl GrpcStatus {
    /// The server does not know the method. Source: gRPC, status codes.
    pub const UNIMPLEMENTED: u32 = 12;
    /// The proxy or the server broke its own rules.
    pub const INTERNAL: u32 = 13;
    /// Nobody answers.
    pub const UNAVAILABLE: u32 = 14;

    /// A status with this message.
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

// === impl CallKind ===

impl CallKind {
    /// What the token names. `None` for bits that no token has.
    pub(crate) fn of(token: u32) -> Option<Self> {
        [Self::Http, Self::GrpcCall, Self::GrpcStream]
            .into_iter()
            .find(|kind| *kind as u32 == token & KIND_BITS)
    }
}

// === impl Tokens ===

impl Tokens {
    /// The next token of this kind; not in use before [`Tokens::take`].
    ///
    /// # Errors
    /// [`Status::InternalFailure`] if they are used up.
    pub(crate) fn next(&self, kind: CallKind) -> Result<u32, Status> {
        let last = self.last.get(kind as usize).copied().unwrap_or_default();
        let number = last.checked_add(STEP).ok_or(Status::InternalFailure)?;
        Ok(number | kind as u32)
    }

    /// Marks a token as in use by this root.
    pub(crate) fn take(&mut self, token: u32, root: u32) {
        let kind = usize::try_from(token & KIND_BITS).ok();
        if let Some(last) = kind.and_then(|kind| self.last.get_mut(kind)) {
            *last = token & !KIND_BITS;
        }
        self.in_use.insert(token, root);
    }

    pub(crate) fn is_in_use(&self, token: u32, root: u32) -> bool {
        self.in_use.get(&token) == Some(&root)
    }

    /// Whether it was in use by this root; it no longer is.
    pub(crate) fn release(&mut self, token: u32, root: u32) -> bool {
        self.is_in_use(token, root) && self.in_use.remove(&token).is_some()
    }

    /// Releases whatever a root that ends still has in use.
    pub(crate) fn release_all(&mut self, root: u32) {
        self.in_use.retain(|_, owner| *owner != root);
    }
}

#[cfg(test)]
mod tests {
    use super::{CallKind, Tokens};

    #[test]
    fn tokens_of_a_kind_are_four_apart_and_carry_it_in_their_low_bits() {
        let mut tokens = Tokens::default();
        let mut take = |kind| {
            let token = tokens.next(kind).unwrap();
            tokens.take(token, 1);
            token
        };
        assert_eq!([take(CallKind::Http), take(CallKind::Http)], [4, 8]);
        assert_eq!([take(CallKind::GrpcCall), take(CallKind::GrpcCall)], [5, 9]);
        assert_eq!([take(CallKind::GrpcStream), take(CallKind::GrpcStream)], [6, 10]);
        assert_eq!(CallKind::of(10), Some(CallKind::GrpcStream));
        assert_eq!(CallKind::of(7), None);
    }

    #[test]
    fn a_token_belongs_to_one_root_and_ends_once() {
        let mut tokens = Tokens::default();
        tokens.take(5, 1);
        assert!(!tokens.release(5, 2), "of another root");
        assert!(tokens.release(5, 1));
        assert!(!tokens.release(5, 1), "released before");
        tokens.take(9, 1);
        tokens.release_all(1);
        assert!(!tokens.is_in_use(9, 1));
    }
}
