//! Inflates layers and finds the module in an archive, within a bound on bytes.
//!
//! Everything in here is hostile: sizes that headers declare are never allocated, and what
//! exceeds the bound is refused rather than cut.

#![deny(clippy::arithmetic_side_effects)]

use std::{
    io::{self, Read},
    path::Path,
};

use bytes::Bytes;
use ruzstd::decoding::{
    StreamingDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

use crate::contents::Contents;

/// Name of the module in an image, in any directory.
///
/// Source: Istio's image specification for Wasm modules, "compat" variant.
pub(crate) const MODULE_FILE: &str = "plugin.wasm";
/// How many times an http download may be packed into one another.
const MAX_NESTING: usize = 4;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Why a module could not be taken out of its packing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// The bytes are not what the media type says.
    #[error("broken {format} data: {message}")]
    Broken {
        /// `gzip`, `zstd` or `tar`.
        format: &'static str,
        /// What the decoder says.
        message: String,
    },
    /// More bytes come out than are allowed.
    #[error("it inflates to more than {limit} bytes")]
    TooLarge {
        /// The bound in bytes.
        limit: u64,
    },
    /// The archive holds no module.
    #[error("no `plugin.wasm` and no other `.wasm` file in the archive")]
    NoModule,
    /// The archive holds several modules, none of which has the usual name.
    #[error("no `plugin.wasm` in the archive, and several other `.wasm` files: {}", .names.join(", "))]
    SeveralModules {
        /// The first of their names.
        names: Vec<String>,
    },
    /// An archive in an archive in an archive.
    #[error("it is packed more than {MAX_NESTING} times")]
    Nested,
}

/// Undoes the compression; more than `limit` bytes are an error.
pub(crate) fn inflate(
    bytes: &Bytes,
    compression: Compression,
    limit: u64,
) -> Result<Bytes, UnpackError> {
    match compression {
        Compression::None => Ok(bytes.clone()),
        // Several members one after the other are one file, as `cat` and `pigz` make them.
        Compression::Gzip => {
            let mut inflated = Vec::new();
            let decoder = flate2::read::MultiGzDecoder::new(bytes.as_ref());
            read_bounded(decoder, &mut inflated, limit, "gzip")?;
            Ok(Bytes::from(inflated))
        }
        Compression::Zstd => inflate_zstd(bytes, limit),
    }
}

/// Takes the module out of a tar archive: `plugin.wasm` in any directory, or the only `.wasm`.
pub(crate) fn module_in_tar(archive: &Bytes, limit: u64) -> Result<Bytes, UnpackError> {
    let mut archive = tar::Archive::new(archive.as_ref());
    let mut others: Vec<(String, Vec<u8>)> = Vec::new();
    for entry in archive.entries().map_err(|error| broken("tar", &error))? {
        let entry = entry.map_err(|error| broken("tar", &error))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path().map_err(|error| broken("tar", &error))?.into_owned();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name == MODULE_FILE {
            return Ok(Bytes::from(read_entry(entry, limit)?));
        }
        if is_other_module(&name) && others.len() < 8 {
            // One is kept; of further ones only the names matter.
            let bytes = if others.is_empty() { read_entry(entry, limit)? } else { Vec::new() };
            others.push((path.display().to_string(), bytes));
        }
    }
    if others.len() > 1 {
        let names = others.into_iter().map(|(name, _)| name).collect();
        return Err(UnpackError::SeveralModules { names });
    }
    match others.pop() {
        Some((_, bytes)) => Ok(Bytes::from(bytes)),
        None => Err(UnpackError::NoModule),
    }
}

/// Unpacks a download of unknown form: gzip, zstd and tar, as often as they are nested.
///
/// What is none of them is returned as it is.
pub(crate) fn unbox(bytes: Bytes, limit: u64) -> Result<Bytes, UnpackError> {
    let mut bytes = bytes;
    for _ in 0..=MAX_NESTING {
        bytes = match Contents::of(&bytes) {
            Contents::Gzip => inflate(&bytes, Compression::Gzip, limit)?,
            Contents::Zstd => inflate(&bytes, Compression::Zstd, limit)?,
            Contents::Tar => module_in_tar(&bytes, limit)?,
            _ => return Ok(bytes),
        };
    }
    Err(UnpackError::Nested)
}

fn inflate_zstd(bytes: &Bytes, limit: u64) -> Result<Bytes, UnpackError> {
    let mut inflated = Vec::new();
    let mut rest = bytes.as_ref();
    while !rest.is_empty() {
        match StreamingDecoder::new(&mut rest) {
            Ok(decoder) => read_bounded(decoder, &mut inflated, limit, "zstd")?,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                rest = rest.get(length..).ok_or_else(|| broken("zstd", &"a cut frame"))?;
            }
            Err(error) => return Err(broken("zstd", &error)),
        }
    }
    Ok(Bytes::from(inflated))
}

/// Reads one file of an archive; an archive that ends inside it is broken.
fn read_entry(entry: tar::Entry<'_, &[u8]>, limit: u64) -> Result<Vec<u8>, UnpackError> {
    let mut bytes = Vec::new();
    let declared = entry.size();
    read_bounded(entry, &mut bytes, limit, "tar")?;
    if bytes.len() as u64 == declared { Ok(bytes) } else { Err(broken("tar", &"it was cut")) }
}

/// Reads to the end, so that checksums at the end are verified, but not past the bound.
fn read_bounded(
    reader: impl Read,
    into: &mut Vec<u8>,
    limit: u64,
    format: &'static str,
) -> Result<(), UnpackError> {
    let present = into.len() as u64;
    let allowed = limit.saturating_sub(present);
    let read = reader
        .take(allowed.saturating_add(1))
        .read_to_end(into)
        .map_err(|error: io::Error| broken(format, &error))?;
    if read as u64 > allowed { Err(UnpackError::TooLarge { limit }) } else { Ok(()) }
}

/// A `.wasm` file; the marker by which a layer deletes a file is none.
fn is_other_module(name: &str) -> bool {
    let extension = Path::new(name).extension();
    !name.starts_with(".wh.") && extension.is_some_and(|it| it.eq_ignore_ascii_case("wasm"))
}

fn broken(format: &'static str, message: &dyn std::fmt::Display) -> UnpackError {
    UnpackError::Broken { format, message: message.to_string() }
}

#[cfg(test)]
mod tests;
