//! Decodes an `AuthorizationPolicy` from its document.
//!
//! Source: Istio API, `security/v1beta1/authorization_policy.proto`.

use super::attachment;
use super::fields::{Fields, ProtoEnum};
use super::findings::Findings;
use super::kinds::{self, Kind, SECURITY_API_VERSIONS};
use crate::authorization_policy::{
    AuthorizationPolicySpec, Condition, Operation, PolicyAction, Rule, Source, ValueMatch,
};
use crate::field_path::FieldPath;
use crate::meta::Object;
use crate::validation::{self, Violations};

impl Kind for AuthorizationPolicySpec {
    const KIND: &'static str = "AuthorizationPolicy";
    const API_VERSIONS: &'static [&'static str] = SECURITY_API_VERSIONS;
    const HAS_DRY_RUN: bool = true;

    fn read(document: &mut Fields<'_>, findings: &mut Findings) -> Self {
        kinds::optional_spec(document, findings, spec)
    }

    fn validate(object: &Object<Self>, root: &FieldPath, violations: &mut Violations) {
        validation::authorization_policy(&object.spec, &root.field("spec"), violations);
    }
}

impl ProtoEnum for PolicyAction {
    const VALUES: &'static [(&'static str, i128, Self)] = &[
        ("ALLOW", 0, Self::Allow),
        ("DENY", 1, Self::Deny),
        ("AUDIT", 2, Self::Audit),
        ("CUSTOM", 3, Self::Custom),
    ];
}

fn spec(mut fields: Fields<'_>, findings: &mut Findings) -> AuthorizationPolicySpec {
    let (of, f) = (&mut fields, findings);
    let spec = AuthorizationPolicySpec {
        selector: attachment::selector(of, f),
        target_ref: attachment::target_ref(of, f),
        target_refs: attachment::target_refs(of, f),
        rules: of.objects("rules", f, rule),
        action: of.enumeration("action", f),
        provider: of.object("provider", f, provider),
    };
    fields.finish(f);
    spec
}

fn provider(mut fields: Fields<'_>, findings: &mut Findings) -> String {
    let name = fields.text("name", findings);
    fields.finish(findings);
    name
}

fn rule(mut fields: Fields<'_>, findings: &mut Findings) -> Rule {
    let f = findings;
    let rule = Rule {
        from: alternatives(&mut fields, "from", "source", source, f),
        to: alternatives(&mut fields, "to", "operation", operation, f),
        when: fields.objects("when", f, condition),
    };
    fields.finish(f);
    rule
}

/// A list such as `from: [{source: …}]`, which must not be there and empty.
fn alternatives<T: Default>(
    fields: &mut Fields<'_>,
    list: &'static str,
    name: &'static str,
    read: fn(Fields<'_>, &mut Findings) -> T,
    findings: &mut Findings,
) -> Vec<T> {
    let one = |mut fields: Fields<'_>, findings: &mut Findings| {
        let field = fields.required(name, findings);
        let object = field.and_then(|field| Fields::of(&field, findings));
        let value = object.map(|object| read(object, findings)).unwrap_or_default();
        fields.finish(findings);
        value
    };
    let values = fields.objects(list, findings, one);
    if values.is_empty()
        && let Some(field) = fields.get(list, findings)
        && field.is_list()
    {
        let hint = "remove it if anything may match".to_owned();
        field.error("must not be empty".into(), Some(hint), findings);
    }
    values
}

fn value_match(
    fields: &mut Fields<'_>,
    name: &'static str,
    not_name: &'static str,
    findings: &mut Findings,
) -> ValueMatch {
    ValueMatch {
        values: fields.strings(name, findings),
        not_values: fields.strings(not_name, findings),
    }
}

fn source(mut fields: Fields<'_>, findings: &mut Findings) -> Source {
    let mut values = |name, not_name| value_match(&mut fields, name, not_name, findings);
    let source = Source {
        principals: values("principals", "notPrincipals"),
        request_principals: values("requestPrincipals", "notRequestPrincipals"),
        namespaces: values("namespaces", "notNamespaces"),
        service_accounts: values("serviceAccounts", "notServiceAccounts"),
        trust_domains: values("trustDomains", "notTrustDomains"),
        ip_blocks: values("ipBlocks", "notIpBlocks"),
        remote_ip_blocks: values("remoteIpBlocks", "notRemoteIpBlocks"),
    };
    fields.finish(findings);
    source
}

fn operation(mut fields: Fields<'_>, findings: &mut Findings) -> Operation {
    let mut values = |name, not_name| value_match(&mut fields, name, not_name, findings);
    let operation = Operation {
        hosts: values("hosts", "notHosts"),
        ports: values("ports", "notPorts"),
        methods: values("methods", "notMethods"),
        paths: values("paths", "notPaths"),
    };
    fields.finish(findings);
    operation
}

fn condition(mut fields: Fields<'_>, findings: &mut Findings) -> Condition {
    let key = fields.text("key", findings);
    let values = ValueMatch {
        values: fields.strings("values", findings),
        not_values: fields.strings("notValues", findings),
    };
    fields.finish(findings);
    Condition { key, values }
}
