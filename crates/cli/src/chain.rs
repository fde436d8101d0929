//! What filters of a chain are called.

use wasmplug_api::{PlannedFilter, PlannedRoute};

/// What a filter is called in a chain.
pub(crate) fn name(filter: &PlannedFilter) -> String {
    match filter {
        PlannedFilter::Wasm(plugin) => plugin.resource.to_string(),
        PlannedFilter::ExtAuthz(authorization) => {
            format!("ext_authz {}", authorization.provider.as_deref().unwrap_or_default())
        }
        PlannedFilter::JwtAuthn(_) => "jwt_authn".to_owned(),
        PlannedFilter::Rbac(authorization) => format!("rbac {}", authorization.action.as_str()),
        PlannedFilter::Fault(_) => "fault".to_owned(),
        PlannedFilter::Cors(_) => "cors".to_owned(),
        PlannedFilter::Stats(_) => "stats".to_owned(),
        PlannedFilter::Router => "router".to_owned(),
    }
}

/// The name of a filter that is no plugin, and how much it was made of.
pub(crate) fn summary(filter: &PlannedFilter) -> String {
    let name = name(filter);
    match filter {
        PlannedFilter::JwtAuthn(of) => format!("{name}  {}", counted(of.rules.len(), "issuer")),
        PlannedFilter::ExtAuthz(of) | PlannedFilter::Rbac(of) => {
            let count = of.policies.len();
            let noun = if count == 1 { "policy" } else { "policies" };
            let dry_run = match of.policies.iter().filter(|policy| policy.is_dry_run).count() {
                0 => String::new(),
                all if all == count => ", only tried out".to_owned(),
                some => format!(", {some} only tried out"),
            };
            format!("{name}  {count} {noun}{dry_run}")
        }
        PlannedFilter::Fault(of) => format!("{name}  {}", counted(asking(&of.routes), "route")),
        PlannedFilter::Cors(of) => format!("{name}  {}", counted(asking(&of.routes), "route")),
        PlannedFilter::Stats(of) => format!("{name}  {}", of.provider),
        PlannedFilter::Wasm(_) | PlannedFilter::Router => name,
    }
}

/// How many routes ask for something.
fn asking<T>(routes: &[PlannedRoute<T>]) -> usize {
    routes.iter().filter(|route| route.policy.is_some()).count()
}

/// A number of things, in words.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {}", plural(count, noun))
}

/// The noun for a number of things.
fn plural(count: usize, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}
