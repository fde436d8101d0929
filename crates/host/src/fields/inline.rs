use http::HeaderName;

/// Which message a map belongs to; decides which names hold a single value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldsKind {
    /// Request headers.
    Request,
    /// Response headers.
    Response,
    /// Trailers of either message.
    Trailers,
}

/// Request headers whose second value is joined to the first. Source: Envoy's inline headers.
const REQUEST: &[&str] = &[
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "access-control-request-private-network",
    "authentication",
    "authorization",
    "cache-control",
    "cdn-loop",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "origin",
    "pragma",
    "proxy-connection",
    "proxy-status",
    "referer",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-client-trace-id",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-request-id",
];

/// Response headers whose second value is joined to the first. Source: Envoy's inline headers.
const RESPONSE: &[&str] = &[
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-allow-private-network",
    "access-control-expose-headers",
    "access-control-max-age",
    "age",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "etag",
    "expires",
    "grpc-message",
    "grpc-status",
    "keep-alive",
    "last-modified",
    "location",
    "proxy-connection",
    "proxy-status",
    "server",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "x-request-id",
];

// === impl FieldsKind ===

impl FieldsKind {
    /// Whether a second value of this name is joined to the first instead of standing apart.
    pub(super) fn holds_single_value(self, name: &HeaderName) -> bool {
        let name = name.as_str();
        let names = match self {
            Self::Request => REQUEST,
            Self::Response => RESPONSE,
            Self::Trailers => return matches!(name, "grpc-status" | "grpc-message"),
        };
        names.binary_search(&name).is_ok() || name.starts_with("x-envoy-")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_sorted_for_the_search() {
        assert!(super::REQUEST.is_sorted());
        assert!(super::RESPONSE.is_sorted());
    }
}
