//! Is it a Wasm module, and if not, what does it look like.

use std::fmt;

/// First bytes of every Wasm binary, and the version word of a module.
const MODULE_PREAMBLE: [u8; 8] = *b"\0asm\x01\0\0\0";
/// How many bytes are looked at to tell text from other things.
const SAMPLE_BYTES: usize = 512;

/// What bytes that are not a Wasm module look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// Nothing at all.
    Empty,
    /// The first bytes of a module, and then the end.
    CutModule,
    /// A component of the WebAssembly component model.
    Component,
    /// A Wasm binary of another version than 1.
    WasmVersion(u32),
    /// Gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// A tar archive.
    Tar,
    /// A zip archive.
    Zip,
    /// An HTML page, as login pages and portals send.
    Html,
    /// JSON.
    Json,
    /// WebAssembly as text.
    Wat,
    /// A native Linux program or library.
    Elf,
    /// Some other text.
    Text,
    /// None of these; the first bytes.
    Other(Vec<u8>),
}

/// Checks the preamble of a core Wasm module.
///
/// Source: WebAssembly Core Specification, "Binary Format, Modules".
pub(crate) fn check_module(bytes: &[u8]) -> Result<(), Contents> {
    if bytes.starts_with(&MODULE_PREAMBLE) { Ok(()) } else { Err(Contents::of(bytes)) }
}

// === impl Contents ===

impl Contents {
    /// Looks at the first bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        if let Some(rest) = bytes.strip_prefix(b"\0asm") {
            return match rest.first_chunk() {
                Some([0x0d, 0, 1, 0]) => Self::Component,
                Some(version) => Self::WasmVersion(u32::from_le_bytes(*version)),
                None => Self::CutModule,
            };
        }
        let magics: [(&[u8], Self); 5] = [
            (b"\x1f\x8b", Self::Gzip),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
            (b"PK\x03\x04", Self::Zip),
            (b"\x7fELF", Self::Elf),
            (b"", Self::Empty),
        ];
        for (magic, contents) in magics {
            if bytes == magic || (!magic.is_empty() && bytes.starts_with(magic)) {
                return contents;
            }
        }
        if bytes.get(257..262) == Some(b"ustar") {
            return Self::Tar;
        }
        Self::of_text(bytes).unwrap_or_else(|| Self::Other(bytes.iter().copied().take(8).collect()))
    }

    fn of_text(bytes: &[u8]) -> Option<Self> {
        let sample = bytes.get(..SAMPLE_BYTES).unwrap_or(bytes);
        // A character cut by the end of the sample is fine.
        let text = match std::str::from_utf8(sample) {
            Ok(text) => text,
            Err(error) if error.error_len().is_none() => {
                std::str::from_utf8(sample.get(..error.valid_up_to())?).ok()?
            }
            Err(_) => return None,
        };
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return None;
        }
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let start: String = text.chars().take(16).collect::<String>().to_ascii_lowercase();
        Some(if start.starts_with("<!doctype") || start.starts_with("<html") {
            Self::Html
        } else if start.starts_with("(module") || start.starts_with("(component") {
            Self::Wat
        } else if start.starts_with(['{', '[']) {
            Self::Json
        } else {
            Self::Text
        })
    }

    /// What might help someone who did not expect it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Component => {
                "Proxy-Wasm plugins are core modules; build for `wasm32-wasip1`, not `wasm32-wasip2`"
            }
            Self::Wat => "translate it first, for example with `wat2wasm`",
            Self::Html => "the server answered with a web page; does the URL need a login?",
            Self::Elf => "build the plugin for a Wasm target, not for this machine",
            Self::CutModule | Self::Empty => "was the file completely written and uploaded?",
            _ => return None,
        })
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::CutModule => "it ends after the first bytes of one",
            Self::Component => "it is a component of the WebAssembly component model",
            Self::WasmVersion(version) => {
                return write!(f, "it is a Wasm binary of the unknown version {version}");
            }
            Self::Gzip => "it looks like gzip",
            Self::Zstd => "it looks like zstd",
            Self::Tar => "it looks like a tar archive",
            Self::Zip => "it looks like a zip archive",
            Self::Html => "it looks like an HTML page",
            Self::Json => "it looks like JSON",
            Self::Wat => "it looks like WebAssembly text",
            Self::Elf => "it looks like a native program (ELF)",
            Self::Text => "it looks like text",
            Self::Other(bytes) => {
                f.write_str("it begins with")?;
                return bytes.iter().try_for_each(|byte| write!(f, " {byte:02x}"));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_known_by_its_preamble() {
        check_module(b"\0asm\x01\0\0\0").unwrap();
        check_module(b"\0asm\x01\0\0\0rest").unwrap();
    }

    #[test]
    fn everything_else_is_described() {
        let mut tar = vec![b'a'; 257];
        tar.extend_from_slice(b"ustar\0");
        let rows: [(&[u8], &str); 14] = [
            (b"", "it is empty"),
            (b"\0asm\x01\0\0", "it ends after the first bytes of one"),
            (b"\0asm\x0d\0\x01\0", "it is a component of the WebAssembly component model"),
            (b"\0asm\x02\0\0\0", "it is a Wasm binary of the unknown version 2"),
            (b"\x1f\x8b\x08", "it looks like gzip"),
            (b"\x28\xb5\x2f\xfd", "it looks like zstd"),
            (&tar, "it looks like a tar archive"),
            (b"PK\x03\x04", "it looks like a zip archive"),
            (b"\n <!DOCTYPE html><html>", "it looks like an HTML page"),
            (b"{\"errors\":[]}", "it looks like JSON"),
            (b"(module)", "it looks like WebAssembly text"),
            (b"\x7fELF\x02", "it looks like a native program (ELF)"),
            ("schönes Wetter".as_bytes(), "it looks like text"),
            (b"\xff\0\x01", "it begins with ff 00 01"),
        ];
        for (bytes, expected) in rows {
            assert_eq!(check_module(bytes).unwrap_err().to_string(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_character_cut_by_the_sample_is_still_text() {
        let text = "é".repeat(SAMPLE_BYTES);
        let shifted = format!("a{text}");
        assert_eq!(Contents::of(shifted.as_bytes()), Contents::Text);
    }
}
