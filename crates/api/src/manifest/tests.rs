use super::*;
use crate::plugin_config::plugin_config_json;
use crate::wasm_plugin::{EnvValueSource, FailStrategy, PluginPhase, PluginType, PullPolicy};

const SPELLINGS: &str = include_str!("../../tests/golden/spelling/input.yaml");
const VALUES: &str = include_str!("../../tests/golden/yaml_values/input.yaml");

fn plugins(text: &str) -> Vec<WasmPlugin> {
    let parsed = parse_file("a.yaml", text);
    let plugin = |resource| match resource {
        Resource::WasmPlugin(plugin) => Some(plugin),
        Resource::Secret(_) => None,
    };
    parsed.resources.into_iter().filter_map(plugin).collect()
}

/// The only plugin of a text without findings.
fn plugin(text: &str) -> WasmPlugin {
    let parsed = parse_file("a.yaml", text);
    assert_eq!(parsed.diagnostics, [], "{text}");
    let [Resource::WasmPlugin(plugin)] = &parsed.resources[..] else {
        panic!("not one plugin: {parsed:?}");
    };
    plugin.clone()
}

/// A manifest with these lines in `spec`.
fn with_spec(lines: &str) -> String {
    format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: a}}\n\
         spec:\n  url: oci://h.io/a\n{lines}"
    )
}

fn configuration(lines: &str) -> String {
    let plugin = plugin(&with_spec(lines));
    plugin.spec.plugin_config.as_ref().map(plugin_config_json).unwrap_or_default()
}

#[test]
fn every_field_is_decoded_from_both_spellings() {
    let plugins = plugins(SPELLINGS);
    let [camel, snake, both] = &plugins[..] else { panic!("not three plugins") };
    assert_eq!(camel.spec, snake.spec);
    assert_eq!(both.spec.plugin_name.as_deref(), Some("wins"));

    let spec = &camel.spec;
    assert_eq!(spec.selector.as_ref().unwrap().match_labels["app"], "web");
    assert_eq!(spec.url, "oci://ghcr.io/example/plugin:v1");
    assert_eq!(spec.sha256.as_deref().map(str::len), Some(64));
    assert_eq!(spec.image_pull_policy, PullPolicy::IfNotPresent);
    assert_eq!(spec.image_pull_secret.as_deref(), Some("registry"));
    assert_eq!(spec.verification_key.as_deref(), Some("key"));
    assert_eq!(spec.plugin_config.as_ref().map(plugin_config_json).unwrap(), r#"{"answer":42}"#);
    assert_eq!(spec.plugin_name.as_deref(), Some("root"));
    assert_eq!((spec.phase, spec.priority), (PluginPhase::Authn, Some(10)));
    assert_eq!((spec.fail_strategy, spec.type_), (FailStrategy::FailOpen, PluginType::Http));
    let env: Vec<_> = spec
        .vm_config
        .env
        .iter()
        .map(|variable| (variable.name.as_str(), variable.value_from, variable.value.as_str()))
        .collect();
    let (inline, host) = (EnvValueSource::Inline, EnvValueSource::Host);
    assert_eq!(env, [("A", inline, "1"), ("B", inline, "2"), ("HOSTNAME", host, "")]);
    assert_eq!(spec.match_.len(), 1);
    assert_eq!(spec.match_[0].ports, [80, 443]);
}

#[test]
fn metadata_is_decoded() {
    let plugins = plugins(SPELLINGS);
    let meta = &plugins[0].meta;
    assert_eq!(meta.namespaced_name().to_string(), "ns/camel");
    assert_eq!((meta.labels["app"].as_str(), meta.annotations["note"].as_str()), ("x", "y"));
    assert_eq!((meta.resource_version.as_deref(), meta.creation), (Some("42"), None));

    let text =
        with_spec("").replace("{name: a}", "{name: a, creationTimestamp: 2026-01-02T03:04:05Z}");
    assert_eq!(plugin(&text).meta.creation, "2026-01-02T03:04:05Z".parse().ok());
}

#[test]
fn absent_fields_have_their_defaults() {
    let minimal = plugin(&with_spec(""));
    assert_eq!(minimal.meta.namespace, "default");
    let expected = crate::WasmPluginSpec { url: "oci://h.io/a".into(), ..Default::default() };
    assert_eq!(minimal.spec, expected);
    let nulls = plugin(&with_spec(
        "  selector:\n  priority: null\n  pluginConfig: ~\n  match:\n  vmConfig: null\n  phase:\n",
    ));
    assert_eq!(nulls.spec, expected);
}

#[test]
fn configuration_is_what_kubernetes_makes_of_the_yaml() {
    let plugins = plugins(VALUES);
    assert_eq!(
        plugins[0].spec.plugin_config.as_ref().map(plugin_config_json).unwrap(),
        "{\"\":null,\"8\":1,\"base\":{\"limit\":2,\"message\":\"wait, é\"},\"date\":\"2026-01-01\",\
         \"derived\":{\"limit\":5,\"message\":\"wait, é\"},\"folded\":\"one line\",\
         \"list\":{\"a\":1,\"b\":3,\"c\":\"\\u003c\\u003c\"},\"octal\":8,\
         \"text\":\"---\\ntwo lines\\n\",\"true\":true}"
    );
}

#[test]
fn numbers_of_the_configuration_are_floats() {
    let rows = [
        ("{big: 9007199254740993}", "{\"big\":9007199254740992}"),
        ("{big: 18446744073709551615}", "{\"big\":18446744073709552000}"),
        ("{a: [10.0, -0.0, -0, 1e21, 0.0000001]}", "{\"a\":[10,-0,0,1e+21,1e-7]}"),
        ("{s: ['10', \"yes\", 1.2.3]}", "{\"s\":[\"10\",\"yes\",\"1.2.3\"]}"),
        ("{}", ""),
    ];
    for (yaml, json) in rows {
        assert_eq!(configuration(&format!("  pluginConfig: {yaml}\n")), json, "{yaml}");
    }
}

#[test]
fn priority_is_an_int32_in_every_spelling() {
    let rows = [
        ("10", Some(10)),
        ("\"10\"", Some(10)),
        ("'-5'", Some(-5)),
        ("10.0", Some(10)),
        ("1e3", Some(1000)),
        ("-2147483648", Some(i32::MIN)),
        ("2147483647", Some(i32::MAX)),
        ("null", None),
    ];
    for (yaml, expected) in rows {
        let plugin = plugin(&with_spec(&format!("  priority: {yaml}\n")));
        assert_eq!(plugin.spec.priority, expected, "{yaml}");
    }
    for yaml in ["1.5", "\"10.0\"", "\"\"", "\" 1\"", "2147483648", "-2147483649", ".nan", "[1]"] {
        assert_eq!(plugins(&with_spec(&format!("  priority: {yaml}\n"))), [], "{yaml}");
    }
}

#[test]
fn positions_count_characters_and_name_the_file() {
    let text = with_spec("  phase: [\n").replace("oci://h.io/a", "\"é\"  # ü");
    let parsed = parse_file("dir/x.yaml", &text);
    assert_eq!(parsed.diagnostics[0].position.to_string(), "dir/x.yaml:7:1");
    let text = "\u{feff}# ä\r\n".to_owned()
        + &with_spec("  pluginConfig: {\"é\": .inf}\r\n")
            .replace('\n', "\r\n")
            .replace("\r\r", "\r");
    let parsed = parse_file("a.yaml", &text);
    assert_eq!(
        parsed.diagnostics[0].to_string(),
        "a.yaml:7:23: error: spec.pluginConfig[é]: JSON has no such number"
    );
}

#[test]
fn json_is_read_with_its_escapes() {
    let text = "{\"apiVersion\": \"extensions.istio.io/v1alpha1\", \"kind\": \"WasmPlugin\",\
                \"metadata\":{\"name\":\"a\"},\n\t\"spec\":{\"url\":\"oci:\\/\\/h.io\\/a\",\
                \"pluginConfig\":{\"a\":\"\\u00e9\\n\\ud83d\\ude00\",\"b\":[1,2.5e3,null,true]}}}";
    let plugin = plugin(text);
    assert_eq!(
        plugin_config_json(plugin.spec.plugin_config.as_ref().unwrap()),
        "{\"a\":\"é\\n😀\",\"b\":[1,2500,null,true]}"
    );
}

#[test]
fn keys_that_kubernetes_takes_for_booleans_are_pointed_out() {
    let parsed = parse_file("a.yaml", &with_spec("  pluginConfig: {n: 1, \"y\": 2}\n"));
    let [Resource::WasmPlugin(plugin)] = &parsed.resources[..] else { panic!("{parsed:?}") };
    let json = plugin_config_json(plugin.spec.plugin_config.as_ref().unwrap());
    assert_eq!(json, "{\"false\":1,\"y\":2}");
    let texts: Vec<_> = parsed.diagnostics.iter().map(ToString::to_string).collect();
    let path = "spec.pluginConfig[false]";
    assert_eq!(
        texts,
        [format!("a.yaml:6:18: warning: {path}: the key is read as the boolean `false`")]
    );
}

#[test]
fn same_text_twice_is_the_same() {
    assert_eq!(parse_file("a.yaml", VALUES), parse_file("a.yaml", VALUES));
    assert_ne!(parse_file("a.yaml", VALUES), parse_file("b.yaml", VALUES));
}

#[test]
fn first_duplicate_is_the_same_in_any_order() {
    let file = |name: &str| parse_file(name, &with_spec("")).resources.remove(0);
    let forward = duplicates(&[file("a.yaml"), file("b.yaml"), file("c.yaml")]);
    let backward = duplicates(&[file("c.yaml"), file("b.yaml"), file("a.yaml")]);
    assert_eq!(forward, backward);
    let texts: Vec<_> = forward.iter().map(ToString::to_string).collect();
    let message =
        "error: metadata.name: WasmPlugin `default/a` is given twice, first at a.yaml:1:1";
    assert_eq!(texts, [format!("b.yaml:1:1: {message}"), format!("c.yaml:1:1: {message}")]);
    assert_eq!(duplicates(&[file("a.yaml")]), []);
}

#[test]
fn anchors_end_with_their_document_whatever_the_line_breaks() {
    let text = "apiVersion: &v v1\rkind: A\r---\rapiVersion: *v\rkind: B\r";
    for text in [text.to_owned(), text.replace('\r', "\n"), text.replace('\r', "\r\n")] {
        let parsed = parse_file("a.yaml", &text);
        assert_eq!(parsed.ignored.len(), 1, "{text:?}");
        assert_eq!(parsed.diagnostics.len(), 1, "{text:?}");
        assert_eq!(parsed.diagnostics[0].position.to_string(), "a.yaml:4:13", "{text:?}");
    }
}
