//! What is decided about a request before any filter sees it: whether everybody on its way would
//! understand it alike.

use http::header::HOST;
use http::{Method, Request, Version};
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

/// Takes away what concerns the client's connection, and brings the path into its one form.
///
/// # Errors
/// The answer, if the request is to be refused.
pub(crate) fn admit<B>(
    request: &mut Request<B>,
    is_upgrade: bool,
    level: PathNormalization,
) -> Result<(), Refusal> {
    let is_http1 = request.version() < Version::HTTP_2;
    let refuse = |reply: LocalReply| Refusal { reply, closes: is_http1 };
    hop_by_hop::remove_from_request(request.headers_mut(), is_upgrade)
        .map_err(|_| refuse(local_reply::bad_request()))?;
    if let Some(reply) = refused_target(request).or_else(|| refused_host(request)) {
        return Err(refuse(reply));
    }
    path::normalize(request.uri_mut(), level).map_err(|refused| Refusal {
        closes: is_http1 && refused == RefusedPath::Invalid,
        reply: local_reply::refused_path(refused),
    })
}

/// The answer to a request for a tunnel, and to one whose target has no path though it is for none.
///
/// Policies and plugins could not say anything about a path that is not there. Source: Envoy, for
/// which there is no route for a tunnel.
fn refused_target<B>(request: &Request<B>) -> Option<LocalReply> {
    let has_path = request.uri().path_and_query().is_some();
    match (request.method() == Method::CONNECT, has_path) {
        (false, true) => None,
        (true, false) if request.uri().port().is_some() => Some(local_reply::no_tunnel()),
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
    use super::*;

    fn is_admitted(target: &str, hosts: &[&str]) -> bool {
        let request = Request::builder().uri(target);
        let request = hosts.iter().fold(request, |request, host| request.header(HOST, *host));
        let mut request = request.body(()).unwrap();
        admit(&mut request, false, PathNormalization::Base).is_ok()
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
            let admitted = admit(&mut request.body(()).unwrap(), false, PathNormalization::Base);
            admitted.err().map(|refusal| refusal.reply.status)
        };
        assert_eq!(status(Method::GET, "http://a"), None);
        assert_eq!(status(Method::GET, "a:80"), Some(400));
        assert_eq!(status(Method::GET, "a"), Some(400));
        assert_eq!(status(Method::OPTIONS, "*"), Some(404));
        assert_eq!(status(Method::CONNECT, "a:80"), Some(404));
        assert_eq!(status(Method::CONNECT, "a"), Some(400));
        assert_eq!(status(Method::CONNECT, "/"), Some(400));
    }

    #[test]
    fn who_is_refused_is_closed_unless_streams_are_apart() {
        for (version, closes) in [(Version::HTTP_11, true), (Version::HTTP_2, false)] {
            let mut request = Request::builder().uri("/").version(version).body(()).unwrap();
            let refusal = admit(&mut request, false, PathNormalization::Base).unwrap_err();
            assert_eq!((refusal.reply.status, refusal.closes), (400, closes));
        }
    }
}
