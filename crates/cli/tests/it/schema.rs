//! The schemas in the reference pages are those that the binary prints.

use std::path::Path;

use crate::process::run_to_end;

#[test]
fn reference_pages_have_the_schemas_of_this_binary() {
    let rows = [
        ("crds/wasmplugins.yaml", ["schema", "crd", "WasmPlugin"]),
        ("crds/trafficextensions.yaml", ["schema", "crd", "TrafficExtension"]),
        ("schemas/wasmplugin.json", ["schema", "json", "WasmPlugin"]),
        ("schemas/trafficextension.json", ["schema", "json", "TrafficExtension"]),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, arguments) in rows {
        let kept = std::fs::read_to_string(folder.join("../../docs/reference").join(file)).unwrap();
        let printed = run_to_end(folder, &arguments).stdout;
        assert!(kept == printed, "{file} is stale: run `cargo xtask gen`");
    }
}

#[test]
fn other_kinds_have_no_schema_and_nobody_is_told_of_the_verb() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert_eq!(run_to_end(folder, &["schema", "crd", "Pod"]).status, Some(2));
    let help = run_to_end(folder, &["--help"]).stdout;
    assert!(help.contains("explain") && !help.contains("schema"), "{help}");
}
