//! The keys of `when`.
//!
//! Source: Istio, "Authorization Policy Conditions".

use crate::diagnostic::quoted;

/// What a condition looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConditionKey {
    /// `source.ip`, `remote.ip`, `destination.ip`.
    Address,
    /// `destination.port`.
    Port,
    /// Something of the peer's certificate.
    Peer,
    /// Something of the connection besides.
    Connection,
    /// A header.
    Header,
    /// Something of the token.
    Token,
    /// Dynamic metadata of a filter.
    Metadata,
}

// === impl ConditionKey ===

impl ConditionKey {
    /// Recognises a key, or says what is wrong with it.
    pub(super) fn parse(key: &str) -> Result<Self, String> {
        let shape = |example: &str| format!("`{}` must have the form `{example}`", quoted(key));
        match key {
            "source.ip" | "remote.ip" | "destination.ip" => Ok(Self::Address),
            "destination.port" => Ok(Self::Port),
            "source.namespace"
            | "source.serviceAccount"
            | "source.trustDomain"
            | "source.principal" => Ok(Self::Peer),
            "connection.sni" => Ok(Self::Connection),
            "request.auth.principal" | "request.auth.audiences" | "request.auth.presenter" => {
                Ok(Self::Token)
            }
            "destination.namespace" => {
                Err("`destination.namespace` is replaced by the policy's namespace".into())
            }
            "destination.user" => Err("`destination.user` is no longer supported".into()),
            _ if key.starts_with("destination.labels") => {
                Err("`destination.labels` is replaced by the `selector`".into())
            }
            _ if key.starts_with("request.headers") => {
                let name = key.strip_prefix("request.headers").unwrap_or_default();
                let is_one = brackets(name) == Some(1);
                if is_one && !is_header_name(name.trim_matches(['[', ']'])) {
                    return Err(format!("`{}` is not the name of a header", quoted(key)));
                }
                is_one.then_some(Self::Header).ok_or_else(|| shape("request.headers[name]"))
            }
            _ if key.starts_with("request.auth.claims") => {
                let names = key.strip_prefix("request.auth.claims").unwrap_or_default();
                let is_some = brackets(names).is_some_and(|count| count > 0);
                is_some.then_some(Self::Token).ok_or_else(|| shape("request.auth.claims[name]"))
            }
            _ if key.starts_with("experimental.envoy.filters.") => {
                let filter = key.find('[').and_then(|at| key.get(at..)).unwrap_or_default();
                let is_one = brackets(filter) == Some(1);
                let error = || shape("experimental.envoy.filters.filter[key]");
                is_one.then_some(Self::Metadata).ok_or_else(error)
            }
            _ => Err(format!("`{}` is not a known attribute", quoted(key))),
        }
    }

    /// Whether a connection that is not HTTP has it.
    pub(super) fn is_of_connections(self) -> bool {
        !matches!(self, Self::Header | Self::Token)
    }
}

/// How many names in brackets the text consists of; `None` if of anything else.
fn brackets(text: &str) -> Option<usize> {
    let mut count = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.strip_prefix('[')?.split_once(']')?;
        if name.is_empty() {
            return None;
        }
        count += 1;
        rest = after;
    }
    Some(count)
}

/// Source: RFC 9110, `token`; Envoy, where the method and such are headers with a colon in front.
fn is_header_name(name: &str) -> bool {
    let name = name.strip_prefix(':').unwrap_or(name);
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_recognised() {
        let rows = [
            ("source.ip", ConditionKey::Address),
            ("destination.port", ConditionKey::Port),
            ("source.principal", ConditionKey::Peer),
            ("connection.sni", ConditionKey::Connection),
            ("request.headers[X-Token]", ConditionKey::Header),
            ("request.headers[:method]", ConditionKey::Header),
            ("request.auth.claims[a][b]", ConditionKey::Token),
            ("request.auth.audiences", ConditionKey::Token),
            ("experimental.envoy.filters.network.mysql_proxy[db.table]", ConditionKey::Metadata),
        ];
        for (key, expected) in rows {
            assert_eq!(ConditionKey::parse(key), Ok(expected), "{key}");
        }
    }

    #[test]
    fn other_keys_are_refused() {
        for key in [
            "",
            "source.port",
            "request.headers",
            "request.headers[]",
            "request.headers[a][b]",
            "request.headers[a",
            "request.headers[a b]",
            "request.headers[:]",
            "request.headers[a]b",
            "request.auth.claims",
            "request.auth.claims[a]b]",
            "destination.namespace",
            "destination.labels[app]",
            "experimental.envoy.filters.a",
        ] {
            assert!(ConditionKey::parse(key).is_err(), "{key}");
        }
    }
}
