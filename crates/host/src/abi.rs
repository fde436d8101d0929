//! The numbers and wire forms of the Proxy-Wasm specification; nothing executes here.
//!
//! Source: Proxy-Wasm ABI 0.1.0, 0.2.0 and 0.2.1, with Envoy's reading where the text is silent.

mod action;
mod enums;
pub mod pairs;
mod status;
mod version;

pub use self::action::{DataAction, HeadersAction, NetworkAction, TrailersAction};
pub use self::enums::{BufferType, LogLevel, MapType, MetricType, PeerType, StreamType};
pub use self::status::Status;
pub use self::version::AbiVersion;
