//! What is decided about a request before any filter sees it: whether everybody on its way would
//! understand it alike.

use http::header::{HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Version};
use wasmplug_api::PathNormalization;
use wasmplug_host::LocalReply;

use crate::hop_by_hop;
use crate::local_reply;
use crate::path::{self, RefusedPath};

/// A request that goes no further.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reply: LocalReply,
    /// Nothing more is read from the client, whose bytes cannot be trusted.
    pub(crate) closes: bool,
}

/// Takes away what concerns the client's connection or what no client is believed, and brings the
/// path into its one form.
/// A head with more than `max_headers` headers is refused.
///
/// # Errors
/// The answer, if the request is to be refused.
pub(crate) fn admit<B>(
    request: &mut Request<B>,
    is_upgrade: bool,
    level: PathNormalization,
    max_headers: usize,
) -> Result<(), Refusal> {
    let is_http1 = request.version() < Version::HTTP_2;
    let refuse = |reply: LocalReply| Refusal { reply, closes: is_http1 };
    // In HTTP/1 they have been counted while they were read.
    if request.headers().len() > max_headers {
        return Err(refuse(local_reply::too_many_headers()));
    }
    if let Some(reply) = refused_coding(request).or_else(|| refused_target(request)) {
        return Err(refuse(reply));
    }
    hop_by_hop::remove_from_request(request.headers_mut(), is_upgrade)
        .map_err(|_| refuse(local_reply::bad_request()))?;
    if let Some(reply) = refused_host(request) {
        return Err(refuse(reply));
    }
    path::normalize(request.uri_mut(), level).map_err(|refused| Refusal {
        closes: is_http1 && refused == RefusedPath::Invalid,
        reply: local_reply::refused_path(refused),
    })
}

/// The answer to a body that is coded for this connection in another way than in chunks: it would
/// be passed on without saying so. Source: RFC 9112, 6.1.
fn refused_coding<B>(request: &Request<B>) -> Option<LocalReply> {
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    let is_known = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    (!codings.all(is_known)).then(local_reply::unknown_coding)
}

/// The answer to a request for a tunnel, and to one whose method or target no policy knows.
///
/// Policies and plugins could not say anything about a path that is not there, and what they say
/// about `GET` would not hold for `get`. Source: Envoy, for which there is no route for a tunnel.
fn refused_target<B>(request: &Request<B>) -> Option<LocalReply> {
    let (uri, method) = (request.uri(), request.method());
    let is_http = uri.scheme_str().is_none_or(|scheme| matches!(scheme, "http" | "https"));
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    // Who reads `PRI` may go on in HTTP/2. Source: RFC 9113, 11.6.
    let is_unfit = |name: &str| name == "PRI" || name.bytes().any(|byte| byte.is_ascii_lowercase());
    let is_unfit = is_unfit(method.as_str());
    match (method == Method::CONNECT, uri.path_and_query().is_some()) {
        (false, true) if is_http && !has_user && !is_unfit => None,
        (true, false) if uri.port().is_some() => Some(local_reply::no_tunnel()),
        _ => Some(local_reply::bad_request()),
    }
}

/// The answer to a request that names no host, several, or what cannot be one.
///
/// What chooses a route, a policy and the upstream's answer by the host would otherwise not choose
/// by the same one. Source: RFC 9112, 3.2; a target with a host stands for a missing header, as in
/// HTTP/2.
fn refused_host<B>(request: &Request<B>) -> Option<LocalReply> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.uri().authority().is_some() => None,
        (None, _) => Some(local_reply::missing_host()),
        (Some(host), None) if host.as_bytes().iter().all(|byte| is_of_host(*byte)) => None,
        _ => Some(local_reply::bad_request()),
    }
}

/// Bytes of an authority, delimiters included. Source: RFC 3986, 3.2; Envoy.
const fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' | b'%' | b':' | b'[' | b']' | b'@' | b'!' | b'$'
        )
        || matches!(byte, b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn is_admitted(target: &str, hosts: &[&str]) -> bool {
        let request = Request::builder().uri(target);
        let request = hosts.iter().fold(request, |request, host| request.header(HOST, *host));
        let mut request = request.body(()).unwrap();
        admit(&mut request, false, PathNormalization::Base, 100).is_ok()
    }

    #[test]
    fn one_host_is_admitted() {
        for host in ["a", "a.example:8080", "[::1]:80", "A_b~c%20", "user@a", ""] {
            assert!(is_admitted("/", &[host]), "{host}");
        }
        assert!(is_admitted("http://a/", &[]));
        assert!(is_admitted("http://a/", &["b"]));
    }

    #[test]
    fn none_several_and_nonsense_are_refused() {
        assert!(!is_admitted("/", &[]));
        assert!(!is_admitted("/", &["a", "a"]));
        assert!(!is_admitted("http://a/", &["a", "b"]));
        for host in ["a b", "a/b", "a?b", "a#b", "a\\b", "<a>", "\"a\"", "a\u{e9}", "a\tb"] {
            assert!(!is_admitted("/", &[host]), "{host}");
        }
    }

    #[test]
    fn tunnels_and_targets_without_a_path_are_refused() {
        let status = |method: Method, target: &str| {
            let request = Request::builder().method(method).uri(target).header(HOST, "a");
            let admitted =
                admit(&mut request.body(()).unwrap(), false, PathNormalization::Base, 100);
            admitted.err().map(|refusal| refusal.reply.status)
        };
        assert_eq!(status(Method::GET, "http://a"), None);
        assert_eq!(status(Method::GET, "https://a/"), None);
        assert_eq!(status(Method::GET, "ftp://a/"), Some(400));
        assert_eq!(status(Method::GET, "http://user:word@a/"), Some(400));
        assert_eq!(status(Method::from_bytes(b"X-OWN").unwrap(), "/"), None);
        assert_eq!(status(Method::from_bytes(b"get").unwrap(), "/"), Some(400));
        assert_eq!(status(Method::from_bytes(b"PRI").unwrap(), "/"), Some(400));
        assert_eq!(status(Method::GET, "a:80"), Some(400));
        assert_eq!(status(Method::GET, "a"), Some(400));
        assert_eq!(status(Method::OPTIONS, "*"), Some(404));
        assert_eq!(status(Method::CONNECT, "a:80"), Some(404));
        assert_eq!(status(Method::CONNECT, "a"), Some(400));
        assert_eq!(status(Method::CONNECT, "/"), Some(400));
    }

    #[test]
    fn what_a_body_is_coded_in_is_not_forgotten() {
        for (coding, status) in [("chunked", None), ("Chunked", None), ("gzip, chunked", Some(501))]
        {
            let request = Request::builder().header(HOST, "a").header(TRANSFER_ENCODING, coding);
            let admitted =
                admit(&mut request.body(()).unwrap(), false, PathNormalization::Base, 100);
            assert_eq!(admitted.err().map(|refusal| refusal.reply.status), status, "{coding}");
        }
    }

    #[test]
    fn claims_about_the_client_are_taken_away() {
        let mut request = Request::builder().header(HOST, "a").body(()).unwrap();
        for name in ["x-envoy-internal", "x-forwarded-client-cert", "expect", "x-own"] {
            request.headers_mut().insert(name, HeaderValue::from_static("1"));
        }
        admit(&mut request, false, PathNormalization::Base, 100).unwrap();
        let left: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["host", "x-own"]);
    }

    #[test]
    fn as_many_headers_are_admitted_as_there_may_be() {
        for (max, status) in [(2, None), (1, Some(431))] {
            let request = Request::builder().header(HOST, "a").header("x-a", "b");
            let mut request = request.version(Version::HTTP_2).body(()).unwrap();
            let admitted = admit(&mut request, false, PathNormalization::Base, max);
            assert_eq!(admitted.err().map(|refusal| refusal.reply.status), status);
        }
    }

    #[test]
    fn who_is_refused_is_closed_unless_streams_are_apart() {
        for (version, closes) in [(Version::HTTP_11, true), (Version::HTTP_2, false)] {
            let mut request = Request::builder().uri("/").version(version).body(()).unwrap();
            let refusal = admit(&mut request, false, PathNormalization::Base, 100).unwrap_err();
            assert_eq!((refusal.reply.status, refusal.closes), (400, closes));
        }
    }
}
