//! Known requests and the answers that they must get, for tasks that run the product as a process.
//!
//! The upstream is in this process and says what it received, so that an answer shows what became
//! of its request on the way.

mod client;
pub(crate) mod program;
mod upstream;

pub(crate) use self::client::{Answer, Connection};
pub(crate) use self::upstream::{Upstream, text};
