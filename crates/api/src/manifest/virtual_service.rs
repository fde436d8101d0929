//! Decodes what a `VirtualService` asks filters for.
//!
//! Source: Istio API, `networking/v1alpha3/virtual_service.proto`.

use super::fields::Fields;
use super::findings::Findings;
use super::kinds::{Kind, NETWORKING_API_VERSIONS, optional_spec};
use super::wasm_plugin::json;
use crate::field_path::FieldPath;
use crate::meta::Object;
use crate::validation::{self, Violations};
use crate::virtual_service::{
    CorsPolicy, FaultAbort, FaultDelay, HttpFault, HttpRoute, StringMatch, VirtualServiceSpec,
};

/// Millionths in one per cent.
const MILLIONTHS_OF_PERCENT: f64 = 10_000.0;

impl Kind for VirtualServiceSpec {
    const KIND: &'static str = "VirtualService";
    const API_VERSIONS: &'static [&'static str] = NETWORKING_API_VERSIONS;
    const IS_CLOSED: bool = false;

    fn read(document: &mut Fields<'_>, findings: &mut Findings) -> Self {
        optional_spec(document, findings, |mut fields, findings| Self {
            hosts: fields.strings("hosts", findings),
            gateways: fields.strings("gateways", findings),
            export_to: fields.strings("exportTo", findings),
            http: fields.objects("http", findings, route),
        })
    }

    fn validate(object: &Object<Self>, root: &FieldPath, violations: &mut Violations) {
        validation::virtual_service(&object.spec, &root.field("spec"), violations);
    }
}

fn route(mut fields: Fields<'_>, findings: &mut Findings) -> HttpRoute {
    let matches = fields.get("match", findings).map(|field| field.items(findings));
    let matches = matches.unwrap_or_default();
    HttpRoute {
        name: fields.text("name", findings),
        match_: matches.iter().filter_map(|field| json(field, findings)).collect(),
        cors: fields.object("corsPolicy", findings, cors_policy),
        fault: fields.object("fault", findings, fault),
    }
}

fn cors_policy(mut fields: Fields<'_>, findings: &mut Findings) -> CorsPolicy {
    let f = findings;
    let exact = |text| StringMatch { exact: Some(text), ..StringMatch::default() };
    let mut allow_origins: Vec<_> =
        fields.strings("allowOrigin", f).into_iter().map(exact).collect();
    allow_origins.extend(fields.objects("allowOrigins", f, string_match));
    let policy = CorsPolicy {
        allow_origins,
        allow_methods: fields.strings("allowMethods", f),
        allow_headers: fields.strings("allowHeaders", f),
        expose_headers: fields.strings("exposeHeaders", f),
        max_age: fields.duration("maxAge", f),
        allow_credentials: fields.flag("allowCredentials", f),
    };
    fields.ignore(&["unmatchedPreflights"]);
    fields.finish(f);
    policy
}

fn string_match(mut fields: Fields<'_>, findings: &mut Findings) -> StringMatch {
    let matcher = StringMatch {
        exact: fields.string("exact", findings),
        prefix: fields.string("prefix", findings),
        regex: fields.string("regex", findings),
    };
    fields.finish(findings);
    matcher
}

fn fault(mut fields: Fields<'_>, findings: &mut Findings) -> HttpFault {
    let fault = HttpFault {
        delay: fields.object("delay", findings, |mut fields, findings| {
            let delay = FaultDelay {
                per_million: per_million(&mut fields, findings),
                fixed: fields.duration("fixedDelay", findings),
            };
            fields.finish(findings);
            delay
        }),
        abort: fields.object("abort", findings, |mut fields, findings| {
            let status = fields.get("httpStatus", findings);
            let status = status.and_then(|field| field.integer(200..=599, findings));
            let abort = FaultAbort {
                per_million: per_million(&mut fields, findings),
                http_status: status.and_then(|status| u16::try_from(status).ok()),
                grpc_status: fields.non_empty("grpcStatus", findings),
            };
            fields.finish(findings);
            abort
        }),
    };
    fields.finish(findings);
    fault
}

/// `percentage.value`, or the deprecated whole `percent`.
fn per_million(fields: &mut Fields<'_>, findings: &mut Findings) -> Option<u32> {
    let whole = fields.get("percent", findings).and_then(|of| of.integer(0..=100, findings));
    let exact = fields.object("percentage", findings, |mut fields, findings| {
        let value = fields.number("value", 0.0..=100.0, findings);
        fields.finish(findings);
        value
    });
    let percent = exact.flatten().or_else(|| whole.map(f64::from))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to a million"
    )]
    let per_million = (percent * MILLIONTHS_OF_PERCENT).round() as u32;
    Some(per_million)
}
