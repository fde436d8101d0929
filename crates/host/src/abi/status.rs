/// What a hostcall returns to the plugin.
///
/// Source: Proxy-Wasm 0.2.1, `proxy_status_t`; 5, 9 and 11 stand in the C++ SDK only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Status {
    /// The call did what was asked.
    Ok = 0,
    /// The key, property, queue or context does not exist.
    NotFound = 1,
    /// An argument is out of range, or the thing asked for is not available in this phase.
    BadArgument = 2,
    /// A value cannot be put into bytes.
    SerializationFailure = 3,
    /// Bytes given by the plugin cannot be read.
    ParseFailure = 4,
    /// An expression is not valid.
    BadExpression = 5,
    /// A pointer given by the plugin lies outside its memory, or its allocator refused.
    InvalidMemoryAccess = 6,
    /// The queue holds nothing.
    Empty = 7,
    /// The compare-and-swap number is no longer current.
    CasMismatch = 8,
    /// A result has another shape than was asked for.
    ResultMismatch = 9,
    /// The host could not do it.
    InternalFailure = 10,
    /// The connection is gone.
    BrokenConnection = 11,
    /// This host has no such function.
    Unimplemented = 12,
}

// === impl Status ===

impl Status {
    /// What the specification calls it, as metrics tell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not_found",
            Self::BadArgument => "bad_argument",
            Self::SerializationFailure => "serialization_failure",
            Self::ParseFailure => "parse_failure",
            Self::BadExpression => "bad_expression",
            Self::InvalidMemoryAccess => "invalid_memory_access",
            Self::Empty => "empty",
            Self::CasMismatch => "cas_mismatch",
            Self::ResultMismatch => "result_mismatch",
            Self::InternalFailure => "internal_failure",
            Self::BrokenConnection => "broken_connection",
            Self::Unimplemented => "unimplemented",
        }
    }
}

impl From<Status> for u32 {
    fn from(status: Status) -> Self {
        status as u32
    }
}
