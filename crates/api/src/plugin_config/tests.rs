use serde_json::json;

use super::*;

fn text_of(config: &Value) -> String {
    plugin_config_json(config.as_object().expect("the row is an object"))
}

/// Text of one number inside `{"n": …}`.
fn number(value: f64) -> String {
    let text = text_of(&json!({ "n": value }));
    text.strip_prefix("{\"n\":").unwrap().strip_suffix('}').unwrap().to_owned()
}

#[test]
fn documented_examples_are_reproduced() {
    let rows = [
        (json!({"b": 1, "a": "x"}), r#"{"a":"x","b":1}"#),
        (
            json!({"n": 10.0, "big": 9_007_199_254_740_993_u64}),
            r#"{"big":9007199254740992,"n":10}"#,
        ),
        (json!({"h": "<a&b>", "z": null}), r#"{"h":"\u003ca\u0026b\u003e","z":null}"#),
        (json!({"t": 1e21, "s": 0.000_000_1}), r#"{"s":1e-7,"t":1e+21}"#),
        (json!({}), ""),
    ];
    for (config, expected) in rows {
        assert_eq!(text_of(&config), expected, "{config}");
    }
}

#[test]
fn numbers_are_written_as_go_writes_them() {
    let rows = [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (0.1, "0.1"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1.0 / 3.0, "0.3333333333333333"),
        (1e-6, "0.000001"),
        (-1e-6, "-0.000001"),
        (9.999_999e-7, "9.999999e-7"),
        (1.5e-9, "1.5e-9"),
        (1e-10, "1e-10"),
        (1e20, "100000000000000000000"),
        (123_456_789_012_345_680_000.0, "123456789012345680000"),
        (999_999_999_999_999_900_000.0, "999999999999999900000"),
        (1e21, "1e+21"),
        (-1.25e21, "-1.25e+21"),
        (1e100, "1e+100"),
        (f64::MAX, "1.7976931348623157e+308"),
        (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
        (5e-324, "5e-324"),
    ];
    for (value, expected) in rows {
        assert_eq!(number(value), expected, "{value:e}");
    }
}

#[test]
fn integers_become_floats_whatever_their_type() {
    assert_eq!(text_of(&json!({ "n": i64::MIN })), r#"{"n":-9223372036854776000}"#);
    assert_eq!(text_of(&json!({ "n": u64::MAX })), r#"{"n":18446744073709552000}"#);
}

#[test]
fn numbers_read_back_as_the_same_float() {
    // A multiplicative sequence over all exponents, reproducible and without a random source.
    let mut bits: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut finite = 0;
    for _ in 0..10_000 {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let value = f64::from_bits(bits);
        if value.is_finite() {
            finite += 1;
            let text = number(value);
            let back: f64 = text.parse().unwrap();
            assert_eq!(back.to_bits(), value.to_bits(), "{text}");
        }
    }
    assert!(finite > 9_000);
}

#[test]
fn strings_are_escaped_as_go_escapes_them() {
    let rows = [
        ("plain", "plain"),
        ("\"\\/", "\\\"\\\\/"),
        ("\n\r\t\u{8}\u{c}", "\\n\\r\\t\\b\\f"),
        ("\0\u{1}\u{b}\u{1f}", "\\u0000\\u0001\\u000b\\u001f"),
        ("\u{7f}\u{80}", "\u{7f}\u{80}"),
        ("\u{2027}\u{2028}\u{2029}\u{202a}", "\u{2027}\\u2028\\u2029\u{202a}"),
        ("<>&'", "\\u003c\\u003e\\u0026'"),
        ("é漢😀", "é漢😀"),
    ];
    for (string, expected) in rows {
        assert_eq!(text_of(&json!({ "s": string })), format!("{{\"s\":\"{expected}\"}}"));
        assert_eq!(text_of(&json!({ string: true })), format!("{{\"{expected}\":true}}"));
    }
}

#[test]
fn keys_are_sorted_by_bytes_at_every_level() {
    let config = json!({
        "ß": 1, "b": [{"y": {}, "x": []}], "a": {"d": null, "c": [true, false, [1, "2"]]},
        "B": 2, "": 3, "aa": 4, "\u{ffff}": 5, "\u{10000}": 6
    });
    assert_eq!(
        text_of(&config),
        "{\"\":3,\"B\":2,\"a\":{\"c\":[true,false,[1,\"2\"]],\"d\":null},\"aa\":4,\
         \"b\":[{\"x\":[],\"y\":{}}],\"ß\":1,\"\u{ffff}\":5,\"\u{10000}\":6}"
    );
}

#[test]
fn order_of_keys_in_the_source_does_not_matter() {
    let forward: Value = serde_json::from_str(r#"{"a":1,"b":{"c":2,"d":3}}"#).unwrap();
    let backward: Value = serde_json::from_str(r#"{"b":{"d":3,"c":2},"a":1}"#).unwrap();
    assert_eq!(text_of(&forward), text_of(&backward));
    let other: Value = serde_json::from_str(r#"{"a":2,"b":{"c":2,"d":3}}"#).unwrap();
    assert_ne!(text_of(&forward), text_of(&other));
}
