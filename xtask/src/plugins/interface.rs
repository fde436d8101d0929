//! What a module asks of its host and offers to it.

use std::collections::BTreeSet;

use anyhow::Context;
use wasmparser::{Parser, Payload};

/// The imports and exports of a module, each as one line of text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Interface {
    imports: BTreeSet<String>,
    exports: BTreeSet<String>,
}

impl Interface {
    /// Reads the imports and exports of a module.
    pub(super) fn read(module: &[u8]) -> anyhow::Result<Self> {
        let mut interface = Self { imports: BTreeSet::new(), exports: BTreeSet::new() };
        for payload in Parser::new(0).parse_all(module) {
            match payload.context("not a WebAssembly module")? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        interface.imports.insert(format!("{}.{}", import.module, import.name));
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        interface.exports.insert(format!("{:?} {}", export.kind, export.name));
                    }
                }
                _ => {}
            }
        }
        Ok(interface)
    }

    /// What `other` has and `self` lacks, and the other way round, in words; empty if they agree.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for (what, ours, theirs) in
            [("import", &self.imports, &other.imports), ("export", &self.exports, &other.exports)]
        {
            differences.extend(ours.difference(theirs).map(|name| format!("lost {what} `{name}`")));
            differences.extend(theirs.difference(ours).map(|name| format!("new {what} `{name}`")));
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module that imports the function `env.NAME` and exports it under the name `run`.
    fn module(import: &str) -> Vec<u8> {
        let mut import_section = vec![1, 3];
        import_section.extend(b"env");
        import_section.push(u8::try_from(import.len()).unwrap());
        import_section.extend(import.as_bytes());
        import_section.extend([0, 0]);
        let mut bytes = b"\0asm\x01\0\0\0".to_vec();
        bytes.extend([1, 4, 1, 0x60, 0, 0]);
        bytes.push(2);
        bytes.push(u8::try_from(import_section.len()).unwrap());
        bytes.extend(import_section);
        bytes.extend(b"\x07\x07\x01\x03run\x00\x00");
        bytes
    }

    #[test]
    fn modules_with_the_same_names_do_not_differ() {
        let interface = Interface::read(&module("log")).unwrap();
        assert_eq!(interface.differences(&interface), Vec::<String>::new());
        assert!(interface.imports.contains("env.log"), "{interface:?}");
        assert!(interface.exports.contains("Func run"), "{interface:?}");
    }

    #[test]
    fn a_new_and_a_lost_import_are_differences() {
        let old = Interface::read(&module("log")).unwrap();
        let new = Interface::read(&module("tell")).unwrap();
        assert_eq!(old.differences(&new), ["lost import `env.log`", "new import `env.tell`"]);
    }

    #[test]
    fn what_is_no_module_is_refused() {
        let whole = module("log");
        for bytes in [&b""[..], b"\0asm", b"text that is no module", &whole[..whole.len() - 3]] {
            assert!(Interface::read(bytes).is_err(), "{bytes:?}");
        }
    }
}
