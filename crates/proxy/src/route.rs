//! Which cluster a request goes to.
//!
//! Routes are asked in their order; the first whose host and path fit counts. What fits none goes
//! to the upstream. A plugin that changes `:path` or `:authority` changes the route with it.

use std::rc::Rc;

use wasmplug_host::{Fields, Pseudo};

use crate::callout::Clusters;
use crate::upstream::Pool;

/// Name of the cluster that requests go to where no route fits.
pub(crate) const DEFAULT_CLUSTER: &str = "upstream";
/// Name of the route to it.
const DEFAULT_ROUTE: &str = "default";

/// One route, as an operator writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name, which plugins see as `xds.route_name`.
    pub name: String,
    /// Host that it is for, without a port; `*.example.com` for all below one. `None` for any.
    pub host: Option<String>,
    /// What the path begins with.
    pub prefix: String,
    /// Name of the cluster, see [`crate::ProxyConfig::clusters`].
    pub cluster: String,
}

/// The routes of one worker.
pub(crate) struct Routes {
    routes: Vec<Rc<ResolvedRoute>>,
    default: Rc<ResolvedRoute>,
}

/// A route with its cluster's connections.
pub(crate) struct ResolvedRoute {
    pub(crate) route: Route,
    pub(crate) pool: Rc<Pool>,
}

// === impl Route ===

impl Route {
    fn fits(&self, authority: &[u8], path: &[u8]) -> bool {
        path.starts_with(self.prefix.as_bytes())
            && self.host.as_deref().is_none_or(|host| fits_host(host, authority))
    }

    /// What plugins see as `xds.virtual_host_name`.
    pub(crate) fn virtual_host(&self) -> &str {
        self.host.as_deref().unwrap_or("*")
    }
}

// === impl Routes ===

impl Routes {
    /// # Errors
    /// The route whose cluster does not exist.
    pub(crate) fn new(routes: &[Route], clusters: &Clusters) -> Result<Self, Route> {
        let default = Route {
            name: DEFAULT_ROUTE.to_owned(),
            host: None,
            prefix: "/".to_owned(),
            cluster: DEFAULT_CLUSTER.to_owned(),
        };
        let upstream = clusters.default_pool().ok_or_else(|| default.clone())?;
        let resolve = |route: &Route| {
            let pool = if route.cluster == DEFAULT_CLUSTER {
                Rc::clone(upstream)
            } else {
                Rc::clone(clusters.named(&route.cluster).ok_or_else(|| route.clone())?)
            };
            Ok(Rc::new(ResolvedRoute { route: route.clone(), pool }))
        };
        let routes = routes.iter().map(resolve).collect::<Result<_, Route>>()?;
        let pool = Rc::clone(upstream);
        Ok(Self { routes, default: Rc::new(ResolvedRoute { route: default, pool }) })
    }

    /// The route of a request with these headers.
    pub(crate) fn find(&self, headers: &Fields) -> &Rc<ResolvedRoute> {
        if self.routes.is_empty() {
            return &self.default;
        }
        let bytes = |pseudo| headers.pseudo(pseudo).map_or(&b""[..], |value| value.as_bytes());
        self.find_by(bytes(Pseudo::Authority), bytes(Pseudo::Path))
    }

    /// The route of a request to this authority and path.
    pub(crate) fn find_by(&self, authority: &[u8], path: &[u8]) -> &Rc<ResolvedRoute> {
        let fitting = self.routes.iter().find(|route| route.route.fits(authority, path));
        fitting.unwrap_or(&self.default)
    }

    /// Place of a route; `None` for the default.
    pub(crate) fn index_of(&self, route: &Rc<ResolvedRoute>) -> Option<usize> {
        self.routes.iter().position(|present| Rc::ptr_eq(present, route))
    }

    /// The route at this place, or the default.
    pub(crate) fn at(&self, index: Option<usize>) -> &Rc<ResolvedRoute> {
        index.and_then(|at| self.routes.get(at)).unwrap_or(&self.default)
    }

    pub(crate) fn default(&self) -> &Rc<ResolvedRoute> {
        &self.default
    }
}

fn fits_host(host: &str, authority: &[u8]) -> bool {
    let name = without_port(authority);
    match host.strip_prefix('*') {
        None => name.eq_ignore_ascii_case(host.as_bytes()),
        Some(suffix) => name
            .len()
            .checked_sub(suffix.len())
            .filter(|rest| *rest > 0)
            .and_then(|at| name.get(at..))
            .is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes())),
    }
}

/// The colons inside of an IPv6 address stand before its closing bracket.
pub(crate) fn without_port(authority: &[u8]) -> &[u8] {
    let after = authority.iter().rposition(|byte| *byte == b']').unwrap_or(0);
    let port = authority.iter().skip(after).position(|byte| *byte == b':');
    let end = port.map_or(authority.len(), |at| after.saturating_add(at));
    authority.get(..end).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::{Route, fits_host};

    fn route(host: Option<&str>, prefix: &str) -> Route {
        Route {
            name: "r".into(),
            host: host.map(str::to_owned),
            prefix: prefix.into(),
            cluster: "c".into(),
        }
    }

    #[test]
    fn a_route_fits_by_host_and_prefix() {
        assert!(route(None, "/api").fits(b"a.b", b"/api/x"));
        assert!(!route(None, "/api").fits(b"a.b", b"/other"));
        assert!(route(Some("a.b"), "/").fits(b"A.B:8080", b"/"));
        assert!(!route(Some("a.b"), "/").fits(b"c.b", b"/"));
    }

    #[test]
    fn hosts_may_begin_with_a_star_and_ports_do_not_count() {
        assert!(fits_host("*.b", b"a.b:1"));
        assert!(!fits_host("*.b", b".b"));
        assert!(!fits_host("*.b", b"b"));
        assert!(fits_host("[::1]", b"[::1]:80"));
        assert!(fits_host("[::1]", b"[::1]"));
        assert!(!fits_host("a", b""));
    }
}
