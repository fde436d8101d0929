//! Decodes the settings of the mesh, which are a text in a `ConfigMap`.
//!
//! Most of them are not for a chain: what is not read here is accepted, whatever it is.

use super::fields::{Field, Fields, ProtoEnum};
use super::findings::Findings;
use super::yaml;
use crate::mesh_config::{
    AuthorizerProtocol, CheckedBody, ExternalAuthorizer, HttpAuthorizer, MeshConfig,
    PathNormalization,
};

impl ProtoEnum for PathNormalization {
    const VALUES: &'static [(&'static str, i128, Self)] = &[
        ("DEFAULT", 0, Self::Base),
        ("NONE", 1, Self::None),
        ("BASE", 2, Self::Base),
        ("MERGE_SLASHES", 3, Self::MergeSlashes),
        ("DECODE_AND_MERGE_SLASHES", 4, Self::DecodeAndMergeSlashes),
    ];
}

/// Reads the text of the settings; findings are placed in the lines of the file if the text is
/// written as a block.
pub(super) fn read(field: &Field<'_>, findings: &mut Findings) -> Option<MeshConfig> {
    let text = field.string(findings)?;
    let documents = yaml::read_below(&text, field.key_mark.line, findings);
    let node = documents.first()?;
    let inner = Field { path: field.path.clone(), node, key_mark: field.key_mark };
    Fields::of(&inner, findings).map(|fields| mesh(fields, findings))
}

fn mesh(mut fields: Fields<'_>, findings: &mut Findings) -> MeshConfig {
    let path = fields.object("pathNormalization", findings, |mut fields, findings| {
        fields.enumeration("normalization", findings)
    });
    let authorizers = fields.objects("extensionProviders", findings, authorizer);
    let metrics = fields.object("defaultProviders", findings, |mut fields, findings| {
        fields.get("metrics", findings).map(|_| fields.strings("metrics", findings))
    });
    MeshConfig {
        path_normalization: path.unwrap_or_default(),
        authorizers: authorizers.into_iter().flatten().collect(),
        metrics_providers: metrics.flatten(),
    }
}

/// `None` for a provider of something else.
fn authorizer(mut fields: Fields<'_>, findings: &mut Findings) -> Option<ExternalAuthorizer> {
    let name = fields.text("name", findings);
    let http = fields.object("envoyExtAuthzHttp", findings, |mut fields, findings| {
        let headers = HttpAuthorizer {
            path_prefix: fields.text("pathPrefix", findings),
            request_headers: request_headers(&mut fields, findings),
            additional_headers: fields.string_map("includeAdditionalHeadersInCheck", findings),
            to_upstream_on_allow: fields.strings("headersToUpstreamOnAllow", findings),
            to_downstream_on_allow: fields.strings("headersToDownstreamOnAllow", findings),
            to_downstream_on_deny: fields.strings("headersToDownstreamOnDeny", findings),
        };
        common(fields, AuthorizerProtocol::Http(headers), findings)
    });
    let grpc = fields.object("envoyExtAuthzGrpc", findings, |fields, findings| {
        common(fields, AuthorizerProtocol::Grpc, findings)
    });
    let read = http.or(grpc)?;
    Some(ExternalAuthorizer { name, ..read })
}

/// The deprecated name counts only without the new one.
fn request_headers(fields: &mut Fields<'_>, findings: &mut Findings) -> Vec<String> {
    let headers = fields.strings("includeRequestHeadersInCheck", findings);
    let older = fields.strings("includeHeadersInCheck", findings);
    if headers.is_empty() { older } else { headers }
}

fn common(
    mut fields: Fields<'_>,
    protocol: AuthorizerProtocol,
    findings: &mut Findings,
) -> ExternalAuthorizer {
    let f = findings;
    let service = fields.required("service", f).and_then(|field| field.string(f));
    let port = fields.required("port", f).and_then(|field| field.integer(1..=65535, f));
    let status = fields.get("statusOnError", f).and_then(|field| field.integer(200..=599, f));
    let authorizer = ExternalAuthorizer {
        name: String::new(),
        service: service.unwrap_or_default(),
        port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or_default(),
        timeout: fields.duration("timeout", f),
        fail_open: fields.flag("failOpen", f).unwrap_or_default(),
        status_on_error: status.and_then(|status| u16::try_from(status).ok()),
        clear_route_cache: fields.flag("clearRouteCache", f).unwrap_or_default(),
        request_body: fields.object("includeRequestBodyInCheck", f, checked_body),
        protocol,
    };
    fields.finish(f);
    authorizer
}

fn checked_body(mut fields: Fields<'_>, findings: &mut Findings) -> CheckedBody {
    let max = fields.get("maxRequestBytes", findings);
    let max = max.and_then(|field| field.integer(0..=i32::MAX, findings)).unwrap_or_default();
    let body = CheckedBody {
        max_bytes: u32::try_from(max).unwrap_or_default(),
        allow_partial: fields.flag("allowPartialMessage", findings).unwrap_or_default(),
        pack_as_bytes: fields.flag("packAsBytes", findings).unwrap_or_default(),
    };
    fields.finish(findings);
    body
}
