//! What an authorizer says, whatever it speaks.

use http::{HeaderName, HeaderValue};
use wasmplug_host::{Fields, LocalReply};

/// What an authorizer says about a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// It goes on.
    Allowed {
        request: Changes,
        /// What its response gets in addition.
        response: Changes,
        /// What the authorizer says in its own name.
        metadata: Option<serde_json::Value>,
    },
    /// It is answered with this.
    Denied(Box<LocalReply>),
    /// Nobody knows.
    Failed,
}

/// Changes of headers, in their order.
#[derive(Debug, Default)]
pub(super) struct Changes(Vec<Change>);

#[derive(Debug)]
pub(super) enum Change {
    /// One value, whatever was there.
    Set(HeaderName, HeaderValue),
    /// One more value.
    Append(HeaderName, HeaderValue),
    /// A value behind the first one, with a comma; nothing if there is none.
    Join(HeaderName, HeaderValue),
    /// A value if there is none.
    SetIfAbsent(HeaderName, HeaderValue),
    /// A value if there is one.
    SetIfPresent(HeaderName, HeaderValue),
    Remove(HeaderName),
}

// === impl Changes ===

impl Changes {
    pub(super) fn push(&mut self, change: Change) {
        self.0.push(change);
    }

    pub(super) fn extend(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.0.extend(changes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn apply(self, headers: &mut Fields) {
        for change in self.0 {
            match change {
                Change::Set(name, value) => {
                    headers.remove_name(&name);
                    headers.push(name, value);
                }
                Change::Append(name, value) => headers.push(name, value),
                Change::Join(name, value) => {
                    let joined = headers
                        .get_name(&name)
                        .map(|present| [present.as_bytes(), value.as_bytes()].join(&b","[..]));
                    if let Some(Ok(joined)) = joined.map(HeaderValue::try_from) {
                        headers.set_first(&name, joined);
                    }
                }
                Change::SetIfAbsent(name, value) => {
                    if headers.get_name(&name).is_none() {
                        headers.push(name, value);
                    }
                }
                Change::SetIfPresent(name, value) => {
                    if headers.get_name(&name).is_some() {
                        headers.set_name(name, value);
                    }
                }
                Change::Remove(name) => {
                    headers.remove_name(&name);
                }
            }
        }
    }
}
