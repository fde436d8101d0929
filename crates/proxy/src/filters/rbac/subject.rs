//! What is judged: a request, or a connection that is not HTTP.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;
use wasmplug_host::Fields;

/// Dynamic metadata by the names of the filters that said it.
pub(crate) type Metadata = BTreeMap<String, Value>;

/// Everything that policies may look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// Identity in the peer's certificate, a SPIFFE URI; in plain text there is none.
    pub(crate) peer: Option<&'a str>,
    /// Address of the peer.
    pub(crate) source: IpAddr,
    /// Address of the client behind the peer.
    pub(crate) remote: IpAddr,
    /// Address that was connected to.
    pub(crate) destination: IpAddr,
    /// Port that was connected to.
    pub(crate) port: u16,
    /// Name that the client asked for in its TLS handshake; empty in plain text.
    pub(crate) server_name: &'a str,
    /// Headers, with those that begin with a colon; `None` if this is not HTTP.
    pub(crate) headers: Option<&'a Fields>,
    pub(crate) metadata: &'a Metadata,
}

// === impl Subject ===

impl<'a> Subject<'a> {
    /// All values of a header in their order. The name is in lower case.
    pub(super) fn header(&self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let headers = self.headers.map(Fields::iter).into_iter().flatten();
        headers.filter(move |(present, _)| *present == name).map(|(_, value)| value)
    }

    /// The path without query and fragment.
    pub(super) fn path(&self) -> Option<&'a [u8]> {
        let path = self.header(b":path").next()?;
        path.split(|byte| matches!(byte, b'?' | b'#')).next()
    }
}
