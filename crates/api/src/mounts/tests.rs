use super::*;
use crate::manifest::parse_file;

const CONFIG_MAPS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: my-wasm, namespace: ns}
data: {readme: text}
binaryData: {main.wasm: AGFzbQEAAAA=}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: my-wasm, namespace: other}
";

fn mounts(volumes: &str, volume_mounts: &str) -> Result<Mounts, MountsError> {
    let annotations = [(VOLUME_ANNOTATION, volumes), (VOLUME_MOUNT_ANNOTATION, volume_mounts)];
    let owned = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Mounts::of(&owned.into(), "ns")
}

fn file(mounts: &Mounts, path: &str) -> Result<Option<Vec<u8>>, MountedFileError> {
    let resources = parse_file("a.yaml", CONFIG_MAPS).resources;
    Ok(mounts.file(Path::new(path), &resources)?.map(|bytes| bytes.to_vec()))
}

#[test]
fn both_documented_forms_lead_to_the_same_bytes() {
    let rows = [
        (
            r#"{"plugins": {"configMap": {"name": "my-wasm"}}}"#,
            r#"{"plugins": {"mountPath": "/var/local/lib/wasm-filters", "readOnly": true}}"#,
        ),
        (
            r#"[{"name": "wasm", "configMap": {"name": "my-wasm"}}]"#,
            r#"[{"name": "wasm", "mountPath": "/var/local/lib/wasm-filters/"}]"#,
        ),
        (
            r#"[{"configMap": {"name": "my-wasm"}}]"#,
            r#"[{"mountPath": "/var/local/lib/wasm-filters"}]"#,
        ),
        (
            r#"{"a": {"configMap": {"name": "my-wasm", "items": [{"key": "main.wasm", "path": "b"}]}}}"#,
            r#"{"a": {"mountPath": "/var/local/lib/wasm-filters/main.wasm", "subPath": "b"}}"#,
        ),
    ];
    for (volumes, volume_mounts) in rows {
        let mounts = mounts(volumes, volume_mounts).unwrap();
        let bytes = file(&mounts, "/var/local/lib/wasm-filters/main.wasm").unwrap();
        assert_eq!(bytes.as_deref(), Some(&b"\0asm\x01\0\0\0"[..]), "{volumes}");
    }
}

#[test]
fn other_paths_lead_nowhere() {
    let volumes = r#"{"p": {"configMap": {"name": "my-wasm"}}, "q": {"emptyDir": {}}}"#;
    let mounts = mounts(volumes, r#"{"p": {"mountPath": "/opt/a"}, "q": {"mountPath": "/tmp"}}"#);
    let mounts = mounts.unwrap();
    for path in
        ["/opt/ab/main.wasm", "/opt", "main.wasm", "/tmp/main.wasm", "/opt/a/../a/main.wasm"]
    {
        assert_eq!(file(&mounts, path), Ok(None), "{path}");
    }
    assert_eq!(file(&mounts, "/opt/a/readme").unwrap().as_deref(), Some(&b"text"[..]));
    let error = file(&mounts, "/opt/a/other.wasm").unwrap_err();
    assert_eq!(
        error.to_string(),
        "ConfigMap `ns/my-wasm`, mounted at `/opt/a`, has no `other.wasm`"
    );
}

#[test]
fn the_innermost_mount_counts_and_its_config_map_must_be_there() {
    let volumes =
        r#"{"p": {"configMap": {"name": "my-wasm"}}, "q": {"configMap": {"name": "no"}}}"#;
    let volume_mounts = r#"{"p": {"mountPath": "/opt"}, "q": {"mountPath": "/opt/q"}}"#;
    let mounts = mounts(volumes, volume_mounts).unwrap();
    let error = file(&mounts, "/opt/q/main.wasm").unwrap_err();
    assert_eq!(error.to_string(), "`/opt/q/main.wasm` is in ConfigMap `ns/no`, which is not given");
}

#[test]
fn annotations_of_another_shape_are_refused() {
    for (volumes, volume_mounts) in [
        ("{", "{}"),
        ("{}", "nonsense"),
        ("1", "{}"),
        ("{}", r#"["a"]"#),
        ("{}", r#"{"a": {}}"#),
        ("{}", r#"{"a": {"mountPath": ""}}"#),
    ] {
        let error = mounts(volumes, volume_mounts).unwrap_err();
        assert!(error.hint().is_some() && error.to_string().contains("userVolume"), "{error}");
    }
    assert!(Mounts::of(&BTreeMap::new(), "ns").unwrap().is_empty());
}
