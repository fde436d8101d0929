//! Where requests go: one address, and a worker's own connections to it.

mod address;
mod pool;

pub use self::address::{UpstreamAddress, UpstreamAddressError, UpstreamProtocol};
pub(crate) use self::pool::{Lease, Pool, UpstreamError};
