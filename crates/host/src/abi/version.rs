use std::fmt;

/// Version of the ABI that a module declares by an exported marker function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AbiVersion {
    /// `proxy_abi_version_0_1_0`: Rust SDK 0.1 and older C++ plugins.
    V0_1_0,
    /// `proxy_abi_version_0_2_0`: TinyGo's and AssemblyScript's SDKs.
    V0_2_0,
    /// `proxy_abi_version_0_2_1`: Rust SDK 0.2, Go SDK, C++ SDK.
    V0_2_1,
}

impl AbiVersion {
    /// Prefix of every marker export, also of those that this host does not know.
    pub const MARKER_PREFIX: &'static str = "proxy_abi_version_";

    /// The version that an export of this name declares.
    pub fn from_marker(export: &str) -> Option<Self> {
        match export.strip_prefix(Self::MARKER_PREFIX)? {
            "0_1_0" => Some(Self::V0_1_0),
            "0_2_0" => Some(Self::V0_2_0),
            "0_2_1" => Some(Self::V0_2_1),
            _ => None,
        }
    }
}

impl fmt::Display for AbiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_2_1 => "0.2.1",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::AbiVersion;

    #[test]
    fn markers_of_released_versions_are_known() {
        for version in [AbiVersion::V0_1_0, AbiVersion::V0_2_0, AbiVersion::V0_2_1] {
            let marker = format!("proxy_abi_version_{}", version.to_string().replace('.', "_"));
            assert_eq!(AbiVersion::from_marker(&marker), Some(version));
        }
    }

    #[test]
    fn unreleased_and_foreign_markers_are_not() {
        for marker in ["proxy_abi_version_0_3_0", "proxy_abi_version_", "malloc", "0_2_1"] {
            assert_eq!(AbiVersion::from_marker(marker), None, "{marker}");
        }
    }
}
