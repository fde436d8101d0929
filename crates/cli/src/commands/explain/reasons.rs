//! Why a filter stands where it does.

use wasmplug_api::{
    Plan, PlannedAuthorization, PlannedFilter, PlannedPlugin, PlannedRoute, PluginPhase,
    PolicyAction, Position, Workload,
};

use crate::reconcile::phase;

/// Why the filter at this place of the chain stands there.
pub(super) fn reason(plan: &Plan, place: usize, workload: &Workload) -> String {
    let before = place.checked_sub(1).and_then(|before| plan.filters.get(before));
    match plan.filters.get(place) {
        Some(PlannedFilter::Wasm(plugin)) => {
            let before = before.and_then(|filter| match filter {
                PlannedFilter::Wasm(before) => Some(before),
                _ => None,
            });
            plugin_reason(plugin, before, workload)
        }
        Some(PlannedFilter::ExtAuthz(_)) => {
            "CUSTOM policies ask an external authorizer before anything else runs".to_owned()
        }
        Some(PlannedFilter::JwtAuthn(_)) => {
            "verifies tokens: behind phase AUTHN, before phase AUTHZ".to_owned()
        }
        Some(PlannedFilter::Rbac(authorization)) => {
            if let Some(provider) = &authorization.provider {
                return format!(
                    "refuses what CUSTOM policies match, because the mesh has no external \
                     authorizer `{provider}`: before anything else runs"
                );
            }
            let is_tried_out = authorization.policies.iter().all(|policy| policy.is_dry_run);
            let what = match authorization.action {
                _ if is_tried_out => "counts what it would do, without effect",
                PolicyAction::Audit => "marks what AUDIT policies match, before DENY",
                PolicyAction::Deny => "refuses what DENY policies match, before ALLOW",
                PolicyAction::Allow | PolicyAction::Custom => {
                    "refuses what no ALLOW policy matches, behind DENY"
                }
            };
            format!("{what}: behind phase AUTHZ, before phase STATS")
        }
        Some(PlannedFilter::Fault(_)) => {
            "delays or aborts requests, because a route asks for it: before cors and stats"
                .to_owned()
        }
        Some(PlannedFilter::Cors(_)) => {
            "answers browsers, because a route asks for it: behind fault, before stats".to_owned()
        }
        Some(PlannedFilter::Stats(_)) => {
            "makes Istio's metrics: behind the plugins of all phases and of none".to_owned()
        }
        Some(PlannedFilter::Router) | None => "sends requests upstream: always last".to_owned(),
    }
}

/// What a filter is made of, each with its place.
pub(super) fn parts(filter: &PlannedFilter) -> Vec<(String, Option<&Position>)> {
    match filter {
        PlannedFilter::Wasm(plugin) => vec![(plugin.position.to_string(), None)],
        PlannedFilter::JwtAuthn(authentication) => authentication
            .rules
            .iter()
            .map(|rule| {
                let text = format!("{} issuer `{}`", rule.resource, rule.rule.issuer);
                (text, Some(&rule.position))
            })
            .collect(),
        PlannedFilter::ExtAuthz(authorization) | PlannedFilter::Rbac(authorization) => {
            policies(authorization)
        }
        PlannedFilter::Fault(faults) => routes(&faults.routes),
        PlannedFilter::Cors(policies) => routes(&policies.routes),
        PlannedFilter::Stats(metrics) => {
            metrics.resources.iter().map(|resource| (resource.to_string(), None)).collect()
        }
        PlannedFilter::Router => Vec::new(),
    }
}

fn policies(authorization: &PlannedAuthorization) -> Vec<(String, Option<&Position>)> {
    let policies = authorization.policies.iter();
    policies
        .map(|policy| {
            let dry_run = if policy.is_dry_run { ", only tried out" } else { "" };
            let rules = match policy.rules.len() {
                0 => "no rule, which matches nothing".to_owned(),
                1 => "1 rule".to_owned(),
                count => format!("{count} rules"),
            };
            (format!("{} {rules}{dry_run}", policy.resource), Some(&policy.position))
        })
        .collect()
}

fn routes<T>(routes: &[PlannedRoute<T>]) -> Vec<(String, Option<&Position>)> {
    let describe = |route: &PlannedRoute<T>| match route.route.as_str() {
        "" => format!("{} for {}", route.resource, route.hosts.join(", ")),
        name => format!("{} route `{name}` for {}", route.resource, route.hosts.join(", ")),
    };
    let asking = routes.iter().filter(|route| route.policy.is_some());
    asking.map(|route| (describe(route), Some(&route.position))).collect()
}

/// Why a plugin stands behind the one before it.
fn plugin_reason(
    plugin: &PlannedPlugin,
    before: Option<&PlannedPlugin>,
    workload: &Workload,
) -> String {
    let place = match plugin.phase {
        PluginPhase::Authn => "phase AUTHN: before JWT authentication",
        PluginPhase::Authz => "phase AUTHZ: after JWT authentication, before authorization",
        PluginPhase::Stats => "phase STATS: after authorization, before statistics",
        PluginPhase::Unspecified => "no phase: after the plugins of all phases",
    };
    let priority = plugin.priority.map_or_else(
        || "no priority, which is behind every number".to_owned(),
        |priority| format!("priority {priority}"),
    );
    let Some(before) = before.filter(|before| before.phase == plugin.phase) else {
        return format!("{place}; {priority}");
    };
    format!("{}; {priority}, {}", phase(plugin.phase), tie(plugin, before, workload))
}

/// What decides between two plugins of one phase.
fn tie(plugin: &PlannedPlugin, before: &PlannedPlugin, workload: &Workload) -> String {
    let name = &before.resource;
    // Absent is as good as the lowest number.
    let priority = |of: &PlannedPlugin| of.priority.unwrap_or(i32::MIN);
    if priority(before) != priority(plugin) {
        format!("lower than that of {name}")
    } else if before.resource.namespace != plugin.resource.namespace {
        let own = &workload.namespace;
        if before.resource.namespace == *own {
            format!("the same as {name}, whose namespace `{own}` is the workload's")
        } else {
            format!("the same as {name}, which is of the root namespace or an earlier service's")
        }
    } else if before.creation != plugin.creation {
        match before.creation {
            Some(time) => format!("the same as {name}, which is older: of {time}"),
            None => format!("the same as {name}, which counts as older without a creation time"),
        }
    } else {
        format!("the same as {name}, which comes first by name")
    }
}
