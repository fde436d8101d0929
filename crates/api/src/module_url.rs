//! Where a module is: `oci://`, `http://`, `https://` and `file://` URLs, and image references
//! without a scheme.
//!
//! Istio asks three parsers in turn, which disagree about registries with a port and about
//! unusual spellings of `file:`. Here one parser decides, and every text that it accepts means
//! the same everywhere.

mod image_reference;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};
use url::Url;

pub use self::image_reference::{DOCKER_HUB, ImageReference, ImageReferenceError};
use crate::wasm_plugin::REDACTED;

/// Schemes that a module URL may have.
pub const SUPPORTED_SCHEMES: [&str; 4] = ["oci", "https", "http", "file"];

/// A parsed module URL.
///
/// `Display` and `Debug` give the canonical text with any user info of an `http` URL replaced;
/// what is sent to the server is inside [`Self::Http`].
///
/// Source: `WasmPlugin.url`. Differs: see [`Self::parse`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum ModuleUrl {
    /// A file of the machine; a relative one is relative to the working directory.
    File(PathBuf),
    /// An `http` or `https` URL with a host and without a fragment.
    Http(Url),
    /// An image in a registry.
    Oci(ImageReference),
}

/// Why a text is not a [`ModuleUrl`]; no variant contains user info of the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModuleUrlError {
    /// Nothing was given.
    #[error("the URL is empty")]
    Empty,
    /// White space before or after the URL.
    #[error("the URL begins or ends with white space")]
    SurroundingWhitespace,
    /// A character that no URL may contain.
    #[error("the URL contains the character `{}`", .found.escape_default())]
    Character {
        /// The first such character.
        found: char,
    },
    /// A scheme that modules cannot be loaded with.
    #[error("unsupported scheme `{scheme}`")]
    UnsupportedScheme {
        /// The scheme as typed.
        scheme: String,
        /// How the author may have meant it.
        suggestion: Option<String>,
    },
    /// `http:` or `oci:` without the two slashes.
    #[error("the scheme `{scheme}:` must be followed by `//`")]
    MissingSlashes {
        /// The scheme as typed.
        scheme: String,
    },
    /// A path without `file://` in front.
    #[error("`{path}` is a path, not a URL")]
    BarePath {
        /// The path as typed.
        path: String,
    },
    /// `file://` and nothing else.
    #[error("the `file` URL names no file")]
    EmptyPath,
    /// No host between the slashes.
    #[error("the `{scheme}` URL has no host")]
    EmptyHost {
        /// `http` or `https`.
        scheme: String,
    },
    /// `%` that is not followed by two hexadecimal digits.
    #[error("the URL contains a `%` that is not followed by two hexadecimal digits")]
    PercentEncoding,
    /// The host or port of an `http` URL is malformed.
    #[error("invalid `{scheme}` URL")]
    Http {
        /// `http` or `https`.
        scheme: String,
        /// What the parser says.
        #[source]
        source: url::ParseError,
    },
    /// The image reference is malformed.
    #[error(transparent)]
    Image(#[from] ImageReferenceError),
}

// === impl ModuleUrl ===

impl ModuleUrl {
    /// Parses the `url` field of a `WasmPlugin`.
    ///
    /// A text without a scheme is an image reference. The path of a `file` URL is taken
    /// literally, without percent-decoding. Query, fragment and user info of an `oci` URL are
    /// dropped, of an `http` URL only the fragment.
    ///
    /// Differs: Istio refuses or silently drops `localhost:5000/a`, `192.168.1.1:5000/a`,
    /// `[::1]:5000/a` and `oci://img:latest`, and looks for files literally named `file:/a.wasm`
    /// or `FILE:///a.wasm`; here they mean what they say. Istio admits bare paths such as
    /// `/a.wasm` and then takes them for images; here they are refused.
    ///
    /// # Errors
    ///
    /// Every variant of [`ModuleUrlError`]; [`ModuleUrlError::hint`] says how to mend it.
    pub fn parse(text: &str) -> Result<Self, ModuleUrlError> {
        if text.is_empty() {
            return Err(ModuleUrlError::Empty);
        }
        if text.trim() != text {
            return Err(ModuleUrlError::SurroundingWhitespace);
        }
        if let Some(found) = text.chars().find(|c| c.is_control()) {
            return Err(ModuleUrlError::Character { found });
        }
        let Some((scheme, rest)) = split_scheme(text) else {
            return parse_without_scheme(text);
        };
        match (scheme.to_ascii_lowercase().as_str(), rest.strip_prefix("//")) {
            ("file", after_slashes) => parse_file(after_slashes.unwrap_or(rest)),
            ("oci", Some(rest)) => parse_oci(rest),
            ("http" | "https", Some(rest)) => parse_http(&scheme.to_ascii_lowercase(), rest),
            ("oci" | "http" | "https", None) => {
                Err(ModuleUrlError::MissingSlashes { scheme: scheme.to_owned() })
            }
            _ => Err(ModuleUrlError::UnsupportedScheme {
                scheme: scheme.to_owned(),
                suggestion: image_suggestion(text),
            }),
        }
    }

    /// The scheme in lower case: `file`, `http`, `https` or `oci`.
    pub fn scheme(&self) -> &str {
        match self {
            Self::File(_) => "file",
            Self::Http(url) => url.scheme(),
            Self::Oci(_) => "oci",
        }
    }
}

/// Splits `scheme:rest`, unless what stands before the first colon cannot be a scheme or is a
/// registry with a port.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let mut characters = scheme.chars();
    let is_scheme = characters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let is_registry_with_port = rest
        .split_once('/')
        .is_some_and(|(port, _)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    (is_scheme && !is_registry_with_port).then_some((scheme, rest))
}

fn parse_without_scheme(text: &str) -> Result<ModuleUrl, ModuleUrlError> {
    if let Some(rest) = text.strip_prefix("//") {
        return parse_oci(rest);
    }
    if text.starts_with(['/', '.', '~']) {
        return Err(ModuleUrlError::BarePath { path: text.to_owned() });
    }
    parse_oci(text)
}

fn parse_file(path: &str) -> Result<ModuleUrl, ModuleUrlError> {
    if path.is_empty() {
        return Err(ModuleUrlError::EmptyPath);
    }
    Ok(ModuleUrl::File(PathBuf::from(path)))
}

fn parse_oci(rest: &str) -> Result<ModuleUrl, ModuleUrlError> {
    let reference = rest.split(['?', '#']).next().unwrap_or_default();
    let reference = match reference.split_once('/') {
        // An `@` in the first of several segments ends user info, which registries do not take
        // from a URL; in the last segment it begins a digest.
        Some((host, _)) => match host.rfind('@') {
            Some(at) => reference.get(at + 1..).unwrap_or_default(),
            None => reference,
        },
        None => reference,
    };
    Ok(ModuleUrl::Oci(reference.parse()?))
}

fn parse_http(scheme: &str, rest: &str) -> Result<ModuleUrl, ModuleUrlError> {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    // The parser below would skip empty hosts and take `\` for `/`, as browsers do.
    if host.is_empty() || host.starts_with(':') {
        return Err(ModuleUrlError::EmptyHost { scheme: scheme.to_owned() });
    }
    let before_query = rest.split('?').next().unwrap_or_default();
    if before_query.contains('\\') {
        return Err(ModuleUrlError::Character { found: '\\' });
    }
    if !has_valid_escapes(before_query) {
        return Err(ModuleUrlError::PercentEncoding);
    }
    let mut url = Url::parse(&format!("{scheme}://{rest}"))
        .map_err(|source| ModuleUrlError::Http { scheme: scheme.to_owned(), source })?;
    url.set_fragment(None);
    Ok(ModuleUrl::Http(url))
}

fn has_valid_escapes(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        after.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// `img:latest` looks like a URL of scheme `img`; this is the spelling that is an image.
fn image_suggestion(text: &str) -> Option<String> {
    let is_image = !text.contains("://") && !text.contains('@') && parse_oci(text).is_ok();
    is_image.then(|| format!("write `oci://{text}` if this is an image"))
}

/// Replaces `user:password@` in a URL as typed, valid or not.
pub(crate) fn redact_user_info(text: &str) -> String {
    let start = text.find("//").map_or(0, |at| at + 2);
    let (before, rest) = text.split_at(start);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rfind('@') {
        Some(at) if !authority[at + 1..].starts_with("sha256:") => {
            format!("{before}{REDACTED}{}", &rest[at..])
        }
        _ => text.to_owned(),
    }
}

impl fmt::Display for ModuleUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file://{}", path.display()),
            Self::Http(url) => f.write_str(&redact_user_info(url.as_str())),
            Self::Oci(reference) => write!(f, "oci://{reference}"),
        }
    }
}

impl fmt::Debug for ModuleUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModuleUrl({self})")
    }
}

impl std::str::FromStr for ModuleUrl {
    type Err = ModuleUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Serialize for ModuleUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl ModuleUrlError ===

impl ModuleUrlError {
    /// What the author can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Empty => Some("for example `oci://ghcr.io/owner/plugin:v1`".into()),
            Self::UnsupportedScheme { suggestion: Some(suggestion), .. } => {
                Some(suggestion.clone())
            }
            Self::UnsupportedScheme { .. } => {
                Some("use `oci://`, `https://`, `http://` or `file://`".into())
            }
            Self::MissingSlashes { scheme } => Some(format!("write `{scheme}://`")),
            Self::BarePath { path } => Some(format!("write `file://{path}`")),
            Self::EmptyPath => Some("for example `file:///opt/filters/plugin.wasm`".into()),
            Self::PercentEncoding => Some("write `%25` for a percent sign".into()),
            Self::Image(error) => error.hint(),
            Self::SurroundingWhitespace
            | Self::Character { .. }
            | Self::EmptyHost { .. }
            | Self::Http { .. } => None,
        }
    }
}
