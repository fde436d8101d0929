//! What a module is made of: its ABI, toolchain, imports, exports and custom sections.
//!
//! Nothing is compiled or run, and a module that no host can load is described as well.

use std::collections::BTreeMap;

use serde::Serialize;
use wasmparser::{ExternalKind, KnownCustom, Parser, Payload, ProducersSectionReader, TypeRef};
use wasmplug_api::Digest;

/// Prefix of the export by which a module declares its ABI version.
const ABI_MARKER: &str = "proxy_abi_version_";
/// Most imports, exports and sections that are listed, of each.
const MAX_LISTED: usize = 10_000;

/// What a module is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModuleReport {
    /// SHA-256 of the bytes, as text.
    pub digest: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Proxy-Wasm ABI versions that it declares, such as `0.2.1`.
    pub abi_versions: Vec<String>,
    /// Languages and tools, with their versions, from the section `producers`.
    pub producers: Vec<String>,
    /// What it wants from its host, as `module.name`.
    pub imports: Vec<String>,
    /// What it offers its host.
    pub exports: Vec<String>,
    /// Custom sections and their sizes in bytes; several of one name are added up.
    pub custom_sections: BTreeMap<String, u64>,
    /// Memory in pages of 64 KiB: at the start, and at most if it says so.
    pub memory_pages: Option<(u64, Option<u64>)>,
}

/// The bytes are not a well-formed module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not a well-formed module: {message}")]
pub struct InspectError {
    message: String,
}

impl From<wasmparser::BinaryReaderError> for InspectError {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self { message: error.to_string() }
    }
}

// === impl ModuleReport ===

impl ModuleReport {
    /// Describes a module.
    ///
    /// # Errors
    ///
    /// When its sections cannot be read.
    pub fn of(bytes: &[u8]) -> Result<Self, InspectError> {
        let mut report = Self {
            digest: Digest::sha256_of(bytes).to_string(),
            bytes: bytes.len() as u64,
            ..Self::default()
        };
        for payload in Parser::new(0).parse_all(bytes) {
            report.take(payload?)?;
        }
        Ok(report)
    }

    fn take(&mut self, payload: Payload<'_>) -> Result<(), InspectError> {
        match payload {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    if let TypeRef::Memory(memory) = import.ty {
                        self.memory_pages = Some((memory.initial, memory.maximum));
                    }
                    push(&mut self.imports, format!("{}.{}", import.module, import.name));
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if let (Some(version), ExternalKind::Func) =
                        (export.name.strip_prefix(ABI_MARKER), export.kind)
                    {
                        push(&mut self.abi_versions, version.replace('_', "."));
                    }
                    push(&mut self.exports, export.name.to_owned());
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory?;
                    self.memory_pages = Some((memory.initial, memory.maximum));
                }
            }
            Payload::CustomSection(section) => {
                if self.custom_sections.len() < MAX_LISTED {
                    let size = self.custom_sections.entry(section.name().to_owned()).or_default();
                    *size = size.saturating_add(section.data().len() as u64);
                }
                if let KnownCustom::Producers(producers) = section.as_known() {
                    self.take_producers(producers);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A section that nobody needs is no reason to fail.
    fn take_producers(&mut self, producers: ProducersSectionReader<'_>) {
        for field in producers.into_iter().flatten() {
            for value in field.values.into_iter().flatten() {
                let text = if value.version.is_empty() {
                    value.name.to_owned()
                } else {
                    format!("{} {}", value.name, value.version)
                };
                push(&mut self.producers, text);
            }
        }
    }
}

fn push(list: &mut Vec<String>, text: String) {
    if list.len() < MAX_LISTED {
        list.push(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_described() {
        let prebuilt =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/prebuilt/tag-headers-rust.wasm");
        let report = ModuleReport::of(&fs_err::read(prebuilt).unwrap()).unwrap();
        assert_eq!(report.abi_versions, ["0.2.1"]);
        assert!(report.exports.iter().any(|it| it == "proxy_on_request_headers"), "{report:?}");
        assert!(report.imports.iter().any(|it| it == "env.proxy_log"), "{report:?}");
        assert!(report.memory_pages.is_some());
    }

    #[test]
    fn sections_of_one_name_are_added_up_and_the_rest_is_empty() {
        let module = b"\0asm\x01\0\0\0\0\x03\x01ab\0\x04\x01abc";
        let report = ModuleReport::of(module).unwrap();
        assert_eq!(report.custom_sections, BTreeMap::from([("a".to_owned(), 3)]));
        assert_eq!((report.imports.len(), report.abi_versions.len()), (0, 0));
    }

    #[test]
    fn what_is_no_module_is_refused() {
        for bytes in
            [&b""[..], b"\0asm", b"\0asm\x01\0\0\0\x02\xff", b"\0asm\x01\0\0\0\x07\x02\x01"]
        {
            assert!(ModuleReport::of(bytes).is_err(), "{bytes:?}");
        }
    }

    fn leb(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
            number >>= 7;
        }
        bytes.push(u8::try_from(number).unwrap());
        bytes
    }

    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        [&[id], &*leb(content.len()), content].concat()
    }

    #[test]
    fn lists_end_at_the_bound() {
        for count in [MAX_LISTED - 1, MAX_LISTED, MAX_LISTED + 1] {
            let imports = [leb(count), b"\x01m\x01f\0\0".repeat(count)].concat();
            let exports = [leb(count), b"\x01e\0\0".repeat(count)].concat();
            let custom = (0..count).flat_map(|number| {
                let name = number.to_string();
                section(0, &[leb(name.len()), name.into_bytes()].concat())
            });
            let head = [b"\0asm\x01\0\0\0", &*section(2, &imports), &section(7, &exports)].concat();
            let module: Vec<u8> = head.into_iter().chain(custom).collect();
            let report = ModuleReport::of(&module).unwrap();
            let listed = count.min(MAX_LISTED);
            assert_eq!(report.imports.len(), listed);
            assert_eq!(report.exports.len(), listed);
            assert_eq!(report.custom_sections.len(), listed);
        }
    }
}
