//! Settings of the mesh as far as the chain needs them.
//!
//! Source: Istio API, `mesh/v1alpha1/config.proto`.

use serde::Serialize;

/// How the path of a request is written before any filter sees it.
///
/// Source: Istio, `MeshConfig.pathNormalization.normalization`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PathNormalization {
    /// As it came.
    None,
    /// As RFC 3986 says: no dot segments, unreserved characters decoded; and `\` becomes `/`.
    #[default]
    Base,
    /// As [`Self::Base`], and several slashes become one.
    MergeSlashes,
    /// As [`Self::MergeSlashes`], with `%2F` and `%5C` taken for slashes first.
    DecodeAndMergeSlashes,
}
