//! References to images in registries.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::digest::{Digest, DigestError};

/// Host of Docker Hub, the registry of references that name none.
pub const DOCKER_HUB: &str = "index.docker.io";

const DEFAULT_TAG: &str = "latest";
const MAX_REPOSITORY_LEN: usize = 255;
const MAX_TAG_LEN: usize = 128;

/// A resolved reference: displayed as `registry/repository:tag@digest`.
///
/// The first segment is the registry if another follows and it contains a dot or a colon or is
/// `localhost`; otherwise the registry is [`DOCKER_HUB`], where a repository of one segment is in
/// `library/`. A reference with neither tag nor digest has the tag `latest`.
///
/// Source: OCI distribution specification, "Pulling manifests"; Docker's reference grammar.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    /// Host in lower case with an optional port.
    pub registry: String,
    /// Path in the registry, 1 to 255 characters.
    pub repository: String,
    /// Tag; absent only if there is a digest.
    pub tag: Option<String>,
    /// Digest; if present it alone decides which image is meant.
    pub digest: Option<Digest>,
}

/// Why a text is not an [`ImageReference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageReferenceError {
    /// What should be `host` or `host:port` is neither.
    #[error("invalid registry `{registry}`")]
    Registry {
        /// The first segment.
        registry: String,
    },
    /// Nothing after the registry, or nothing at all.
    #[error("the image reference names no repository")]
    EmptyRepository,
    /// More than 255 characters.
    #[error("the repository has {length} characters, at most 255 are possible")]
    RepositoryLength {
        /// Characters of the repository.
        length: usize,
    },
    /// A character that a repository cannot contain.
    #[error("the repository `{repository}` contains the character `{found}`")]
    RepositoryCharacter {
        /// The repository as typed.
        repository: String,
        /// The first such character.
        found: char,
    },
    /// An empty segment, `.` or `..`.
    #[error("the repository `{repository}` contains the segment `{segment}`")]
    RepositorySegment {
        /// The repository as typed.
        repository: String,
        /// The segment.
        segment: String,
    },
    /// Not 1 to 128 letters, digits, `_`, `.` or `-`, the first of which is no `.` and no `-`.
    #[error("invalid tag `{tag}`")]
    Tag {
        /// The tag as typed.
        tag: String,
    },
    /// What follows `@` is not `sha256:` and 64 digits.
    #[error("invalid image digest: {0}")]
    Digest(DigestError),
    /// What follows `@` names no algorithm.
    #[error("the image digest names no algorithm")]
    DigestAlgorithm,
}

// === impl ImageReference ===

impl ImageReference {
    /// What a registry is asked for: the digest, or else the tag.
    pub fn manifest_name(&self) -> String {
        match &self.digest {
            Some(digest) => digest.to_string(),
            None => self.tag.clone().unwrap_or_else(|| DEFAULT_TAG.to_owned()),
        }
    }
}

impl FromStr for ImageReference {
    type Err = ImageReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The digest first: what stands before `@` might be credentials and must not be quoted.
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        let (path, tag) = match name.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(parse_tag(tag)?)),
            _ => (name, None),
        };
        let (registry, repository) = match path.split_once('/') {
            Some((first, rest)) if is_registry(first) => (parse_registry(first)?, rest.to_owned()),
            Some(_) | None => (DOCKER_HUB.to_owned(), path.to_owned()),
        };
        check_repository(&repository)?;
        let repository = if registry == DOCKER_HUB && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag,
        };
        Ok(Self { registry, repository, tag, digest })
    }
}

fn parse_digest(text: &str) -> Result<Digest, ImageReferenceError> {
    if !text.contains(':') {
        return Err(ImageReferenceError::DigestAlgorithm);
    }
    text.parse().map_err(ImageReferenceError::Digest)
}

fn parse_tag(tag: &str) -> Result<String, ImageReferenceError> {
    let valid = (1..=MAX_TAG_LEN).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if valid { Ok(tag.to_owned()) } else { Err(ImageReferenceError::Tag { tag: tag.to_owned() }) }
}

fn is_registry(first_segment: &str) -> bool {
    first_segment.is_empty()
        || first_segment.contains(['.', ':', '['])
        || first_segment.eq_ignore_ascii_case("localhost")
}

fn parse_registry(text: &str) -> Result<String, ImageReferenceError> {
    let error = || ImageReferenceError::Registry { registry: text.to_owned() };
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or_else(error)?;
        address.parse::<Ipv6Addr>().map_err(|_| error())?;
        (format!("[{address}]"), port)
    } else {
        let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        let is_host_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let has_empty_label = host.split('.').any(str::is_empty);
        if has_empty_label || !host.bytes().all(is_host_byte) {
            return Err(error());
        }
        (host.to_owned(), port)
    };
    let valid_port = match port.strip_prefix(':') {
        Some(digits) => {
            digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok_and(|n| n > 0)
        }
        None => port.is_empty(),
    };
    if !valid_port {
        return Err(error());
    }
    let registry = format!("{}{port}", host.to_ascii_lowercase());
    Ok(if registry == "docker.io" { DOCKER_HUB.to_owned() } else { registry })
}

fn check_repository(repository: &str) -> Result<(), ImageReferenceError> {
    if repository.is_empty() {
        return Err(ImageReferenceError::EmptyRepository);
    }
    let length = repository.chars().count();
    if length > MAX_REPOSITORY_LEN {
        return Err(ImageReferenceError::RepositoryLength { length });
    }
    let is_allowed = |c: char| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '/' | '-')
    };
    if let Some(found) = repository.chars().find(|c| !is_allowed(*c)) {
        let repository = repository.to_owned();
        return Err(ImageReferenceError::RepositoryCharacter { repository, found });
    }
    // Such a segment would leave the repository's path in the registry's API.
    if let Some(segment) = repository.split('/').find(|s| matches!(*s, "" | "." | "..")) {
        let (repository, segment) = (repository.to_owned(), segment.to_owned());
        return Err(ImageReferenceError::RepositorySegment { repository, segment });
    }
    Ok(())
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Serialize for ImageReference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl ImageReferenceError ===

impl ImageReferenceError {
    /// What the author can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::RepositoryCharacter { repository, .. }
                if repository.contains(|c: char| c.is_ascii_uppercase()) =>
            {
                Some(format!(
                    "repositories are lower case, write `{}`",
                    repository.to_ascii_lowercase()
                ))
            }
            Self::EmptyRepository => Some("for example `oci://ghcr.io/owner/plugin:v1`".into()),
            Self::Registry { .. } => Some("write `host` or `host:port`".into()),
            Self::Digest(_) | Self::DigestAlgorithm => {
                Some("a digest is `@sha256:` and 64 lower-case hexadecimal digits".into())
            }
            Self::RepositoryCharacter { .. }
            | Self::RepositorySegment { .. }
            | Self::RepositoryLength { .. }
            | Self::Tag { .. } => None,
        }
    }
}
