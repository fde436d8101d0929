//! What policies leave for plugins and policies behind them, and what is counted.

use std::fmt::Write as _;

use super::case::{Case, case, get};
use super::cases;
use super::rbac::{DRY_RUN, document};
use crate::harness::Plugin;

/// Policies as YAML, with plugins around them that tell what the policies said.
fn told(documents: &[String]) -> Case {
    let case = case().resources(&documents.concat());
    case.plugin(teller("request", "#request").phase("STATS"))
        .plugin(teller("response", "#response").phase("AUTHZ"))
}

/// Writes what policies said into headers, in the given callback.
fn teller(side: &str, map: &str) -> Plugin {
    let mut callback = format!("on {side}_headers:\n");
    let names = ["enforced", "istio_dry_run_allow_shadow", "istio_dry_run_deny_shadow", "shadow"];
    for name in names.iter().flat_map(|name| {
        ["effective_policy_id", "engine_result"].map(|end| format!("{name}_{end}"))
    }) {
        let filter = "metadata\\00filter_metadata\\00envoy.filters.http.rbac";
        let header = name.replace('_', "-");
        let _ = writeln!(
            callback,
            "(call $add {map} 'x-{header}' (call $property '{filter}\\00{name}'))"
        );
    }
    // A truth is one byte, which is no value of a header.
    let _ = writeln!(
        callback,
        "(if (i32.eqz (call $proxy_get_property
                'metadata\\00filter_metadata\\00envoy.common\\00access_log_hint'
                (i32.const 0x100) (i32.const 0x104)))
            (then (if (i32.load8_u (i32.load (i32.const 0x100)))
                (then (call $add {map} 'x-hint' 'yes'))
                (else (call $add {map} 'x-hint' 'no')))))"
    );
    Plugin::guest(&callback)
}

fn in_effect(name: &str, action: &str, path: &str) -> String {
    document(name, "{}", &spec(action, path))
}

fn tried_out(name: &str, action: &str, path: &str) -> String {
    document(name, DRY_RUN, &spec(action, path))
}

fn spec(action: &str, path: &str) -> String {
    format!("{{action: {action}, rules: [{{to: [{{operation: {{paths: ['{path}']}}}}]}}]}}")
}

cases! {
    of_an_allowance => told(&[in_effect("a", "ALLOW", "/a")]).send([get("/a"), get("/b")]);
    of_a_denial => told(&[in_effect("a", "DENY", "/a")]).send([get("/a"), get("/b")]);
    of_both => told(&[in_effect("a", "ALLOW", "/*"), in_effect("b", "DENY", "/b")])
        .send([get("/a"), get("/b")]);
    of_an_audit => told(&[in_effect("a", "AUDIT", "/a")]).send([get("/a"), get("/b")]);
    of_an_audit_in_front_of_a_denial => told(&[
        in_effect("a", "AUDIT", "/a"), in_effect("b", "DENY", "/*"),
    ]).send([get("/a"), get("/b")]);
    of_an_allowance_that_is_tried_out => told(&[tried_out("a", "ALLOW", "/a")])
        .send([get("/a"), get("/b")]);
    of_a_denial_that_is_tried_out => told(&[tried_out("a", "DENY", "/a")]).send([get("/a"), get("/b")]);
    of_an_audit_that_is_tried_out => told(&[tried_out("a", "AUDIT", "/a")]).send([get("/a"), get("/b")]);
    of_what_is_tried_out_beside_what_is_in_effect => told(&[
        tried_out("a", "ALLOW", "/a"), in_effect("b", "ALLOW", "/*"),
        tried_out("c", "DENY", "/a"), in_effect("d", "DENY", "/d"),
    ]).send([get("/a"), get("/b"), get("/d")]);
    of_one_without_rules_that_is_tried_out => told(&[document("a", DRY_RUN, "{}")]).send([get("/a")]);
    decisions_are_counted_under_the_same_names => told(&[
        in_effect("a", "AUDIT", "/a"), in_effect("b", "DENY", "/b"), in_effect("c", "ALLOW", "/*"),
        tried_out("d", "AUDIT", "/a"), tried_out("e", "DENY", "/a"), tried_out("f", "ALLOW", "/a"),
        document("g", "{}", "{action: DENY, rules: [{to: [{operation: {paths: [/g]}}]}]}"),
    ]).metrics("envoy_http_rbac").send([get("/a"), get("/b"), get("/c"), get("/g"), get("/c")]);
    a_condition_on_what_policies_in_front_said => told(&[
        in_effect("a", "AUDIT", "/a"),
        document("b", "{}", "{rules: [{when: [\
            {key: 'experimental.envoy.filters.http.rbac[enforced_effective_policy_id]',\
                values: ['ns[default]-policy[a]-*']}]}]}"),
    ]).send([get("/a"), get("/b")]);
    a_condition_on_a_list_that_is_none => told(&[
        in_effect("a", "AUDIT", "/a"),
        document("b", "{}", "{action: DENY, rules: [{when: [\
            {key: 'experimental.envoy.filters.http.rbac[enforced_effective_policy_id]',\
                notValues: ['[ns*]']}]}]}"),
    ]).send([get("/a"), get("/b")]);
    a_condition_without_a_plugin_that_listens => case().resources(&[
        in_effect("a", "AUDIT", "/a"),
        document("b", "{}", "{rules: [{when: [\
            {key: 'experimental.envoy.filters.http.rbac[enforced_effective_policy_id]',\
                values: ['*']}]}]}"),
    ].concat()).send([get("/a"), get("/b")]);
}
