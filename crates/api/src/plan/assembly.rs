//! Puts what applies to a workload in its place.

use super::attachment::check_traffic;
use super::filters::{
    PlannedAuthentication, PlannedAuthorization, PlannedJwtRule, PlannedPolicy, PlannedRoute,
    PlannedRoutes,
};
use super::mesh::{Body, Policy};
use super::ordering::{Rank, rank};
use super::reach::{Reach, Scope};
use super::routes::{Routes, alternatives};
use super::{
    LeftOut, Plan, PlannedFilter, PlannedPlugin, Workload, WorkloadRole, metrics, mutual_tls,
    planned,
};
use crate::authorization_policy::{AuthorizationPolicy, PolicyAction};
use crate::mesh_config::MeshConfig;
use crate::request_authentication::RequestAuthentication;
use crate::virtual_service::{HttpRoute, VirtualService};
use crate::wasm_plugin::{PluginPhase, PluginType, WasmPluginSpec};

/// A plan in the making. Policies come in the order of their age.
pub(super) struct Assembly<'a> {
    reach: &'a Reach<'a>,
    workload: &'a Workload,
    settings: Option<&'a MeshConfig>,
    plugins: Vec<(Rank<'a>, PlannedPlugin)>,
    network_plugins: Vec<(Rank<'a>, PlannedPlugin)>,
    authentications: Vec<(Scope, &'a RequestAuthentication)>,
    authorizations: Vec<(Scope, &'a AuthorizationPolicy)>,
    /// Policies of which the oldest of the narrowest scope counts.
    peers: Vec<&'a Policy<'a>>,
    metrics: Vec<&'a Policy<'a>>,
    routes: Vec<&'a Routes<'a>>,
    left_out: Vec<LeftOut>,
}

// === impl Assembly ===

impl<'a> Assembly<'a> {
    pub(super) fn new(reach: &'a Reach<'a>, settings: Option<&'a MeshConfig>) -> Self {
        Self {
            reach,
            workload: reach.workload,
            settings,
            plugins: Vec::new(),
            network_plugins: Vec::new(),
            authentications: Vec::new(),
            authorizations: Vec::new(),
            peers: Vec::new(),
            metrics: Vec::new(),
            routes: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Takes a policy in if it applies, or else notes why not.
    pub(super) fn take(&mut self, policy: &'a Policy<'a>) {
        let outcome = match &policy.body {
            // Routes are for clients of any namespace.
            Body::Routes(routes) => routes.check(self.reach).map(|()| self.routes.push(routes)),
            _ => policy.attachment.check(self.reach).and_then(|scope| self.place(policy, scope)),
        };
        if let Err(reason) = outcome {
            self.left_out.push(policy.left_out(reason));
        }
    }

    fn place(&mut self, policy: &'a Policy<'a>, scope: Scope) -> Result<(), String> {
        match policy.body {
            Body::Plugin(spec) => self.place_plugin(policy, spec, scope),
            Body::Extension(spec) => {
                check_traffic(&spec.plugin.match_, self.workload)?;
                match &spec.lua {
                    Some(_) => Err("a Lua script is not run, only `wasm` is".into()),
                    None => self.place_plugin(policy, &spec.plugin, scope),
                }
            }
            Body::Authentication(object) => {
                self.refuse_outbound("authenticates no request")?;
                if object.spec.jwt_rules.is_empty() {
                    return Err("it has no `jwtRules`".into());
                }
                self.authentications.push((scope, object));
                Ok(())
            }
            Body::Authorization(object) => {
                self.refuse_outbound("authorizes no request")?;
                self.authorizations.push((scope, object));
                Ok(())
            }
            Body::Peers(_) => {
                self.refuse_outbound("accepts no connection")?;
                match self.workload.role {
                    WorkloadRole::Gateway => {
                        return Err("the TLS of a gateway is that of its servers".into());
                    }
                    WorkloadRole::Waypoint => {
                        return Err("connections to a waypoint are mutual TLS in any case".into());
                    }
                    WorkloadRole::SidecarInbound | WorkloadRole::SidecarOutbound => {}
                }
                self.peers.push(policy);
                Ok(())
            }
            Body::Metrics(_) => {
                self.metrics.push(policy);
                Ok(())
            }
            Body::Routes(_) => Ok(()),
        }
    }

    fn place_plugin(
        &mut self,
        policy: &'a Policy<'a>,
        spec: &'a WasmPluginSpec,
        scope: Scope,
    ) -> Result<(), String> {
        check_traffic(&spec.match_, self.workload)?;
        let plugin = planned(policy.kind, policy.meta, spec, policy.position)?;
        let rank = rank(policy.kind, policy.meta, spec, scope);
        let list = match spec.type_ {
            PluginType::Network => &mut self.network_plugins,
            PluginType::Http | PluginType::Unspecified => &mut self.plugins,
        };
        list.push((rank, plugin));
        Ok(())
    }

    fn refuse_outbound(&self, what: &str) -> Result<(), String> {
        match self.workload.role {
            WorkloadRole::SidecarOutbound => Err(format!("an outbound chain {what}")),
            _ => Ok(()),
        }
    }

    /// The plan, with what was left out in the order in which it came.
    ///
    /// Source: Istio, `buildHTTPConnectionManager` and `buildWaypointHTTPFilters`, whose order is
    /// one for the filters that are here.
    pub(super) fn finish(mut self) -> Plan {
        let (metrics, unused) = metrics::merge(&self.metrics, self.workload, self.settings);
        self.left_out.extend(unused);
        let (mutual_tls, unused) = mutual_tls::resolve(&self.peers, self.workload);
        self.left_out.extend(unused);
        self.plugins.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.network_plugins.sort_by(|(a, _), (b, _)| a.cmp(b));

        let mut filters = self.external_authorizations();
        let authentication = self.authentication();
        let fault = self.planned_routes(|route| route.fault.clone());
        let cors = self.planned_routes(|route| route.cors.clone());
        let [audit, deny, allow] = [PolicyAction::Audit, PolicyAction::Deny, PolicyAction::Allow]
            .map(|action| self.authorization(action));
        let mut plugins =
            std::mem::take(&mut self.plugins).into_iter().map(|(_, of)| of).peekable();
        let mut phase = |phase: PluginPhase, filters: &mut Vec<PlannedFilter>| {
            let of_phase = || plugins.next_if(|plugin| plugin.phase == phase);
            filters.extend(std::iter::from_fn(of_phase).map(PlannedFilter::Wasm));
        };
        phase(PluginPhase::Authn, &mut filters);
        filters.extend(authentication.map(PlannedFilter::JwtAuthn));
        phase(PluginPhase::Authz, &mut filters);
        filters.extend([audit, deny, allow].into_iter().flatten().map(PlannedFilter::Rbac));
        let mut routed: Vec<PlannedFilter> = fault.map(PlannedFilter::Fault).into_iter().collect();
        routed.extend(cors.map(PlannedFilter::Cors));
        // A waypoint has them before plugins that come late, every other role behind them.
        if self.workload.role == WorkloadRole::Waypoint {
            filters.append(&mut routed);
        }
        phase(PluginPhase::Stats, &mut filters);
        phase(PluginPhase::Unspecified, &mut filters);
        filters.append(&mut routed);
        filters.extend(metrics.map(PlannedFilter::Stats));
        filters.push(PlannedFilter::Router);

        let network_plugins = self.network_plugins.into_iter().map(|(_, plugin)| plugin).collect();
        Plan {
            filters,
            network_plugins,
            mutual_tls,
            path_normalization: self.settings.map(|of| of.path_normalization).unwrap_or_default(),
            port: Some(self.workload.port).filter(|port| *port != 0),
            left_out: self.left_out,
        }
    }

    /// One filter for each external authorizer, by its name. What policies of an unknown one match
    /// is refused.
    fn external_authorizations(&self) -> Vec<PlannedFilter> {
        let policies = self.policies(PolicyAction::Custom);
        let mut providers: Vec<&str> =
            policies.iter().filter_map(|policy| policy.spec.provider.as_deref()).collect();
        providers.sort_unstable();
        providers.dedup();
        let known = self.settings.map(|of| of.authorizers.as_slice()).unwrap_or_default();
        let of_provider = |provider: &str| {
            let authorizer = known.iter().find(|known| known.name == provider).cloned();
            let is_known = authorizer.is_some();
            let planned = PlannedAuthorization {
                action: if is_known { PolicyAction::Custom } else { PolicyAction::Deny },
                provider: Some(provider.to_owned()),
                authorizer,
                policies: policies
                    .iter()
                    .filter(|policy| policy.spec.provider.as_deref() == Some(provider))
                    .map(|policy| planned_policy(policy))
                    .collect(),
            };
            if is_known { PlannedFilter::ExtAuthz(planned) } else { PlannedFilter::Rbac(planned) }
        };
        providers.into_iter().map(of_provider).collect()
    }

    /// What the routes ask one filter for; `None` if none does.
    fn planned_routes<T>(
        &self,
        policy: impl Fn(&HttpRoute) -> Option<T>,
    ) -> Option<PlannedRoutes<T>> {
        let mut planned = Vec::new();
        for routes in &self.routes {
            let VirtualService { meta, spec, position } = routes.object;
            let own = spec.http.iter().filter_map(|route| {
                Some(PlannedRoute {
                    resource: meta.namespaced_name(),
                    position: position.clone(),
                    hosts: spec.hosts.clone(),
                    route: route.name.clone(),
                    match_: alternatives(route, self.workload)?,
                    policy: policy(route),
                })
            });
            let mut own: Vec<_> = own.collect();
            // What stands behind the last one that asks for something changes nothing.
            let asking = own.iter().rposition(|route| route.policy.is_some());
            own.truncate(asking.map_or(0, |last| last.saturating_add(1)));
            planned.extend(own);
        }
        (!planned.is_empty()).then_some(PlannedRoutes { routes: planned })
    }

    fn authorization(&self, action: PolicyAction) -> Option<PlannedAuthorization> {
        let policies = self.policies(action);
        (!policies.is_empty()).then(|| PlannedAuthorization {
            action,
            provider: None,
            authorizer: None,
            policies: policies.into_iter().map(planned_policy).collect(),
        })
    }

    /// The policies of one action in the order in which they are tried.
    fn policies(&self, action: PolicyAction) -> Vec<&'a AuthorizationPolicy> {
        let mut policies: Vec<_> =
            self.authorizations.iter().filter(|(_, of)| of.spec.action == action).collect();
        policies.sort_by_key(|(scope, _)| scope.root_first());
        policies.into_iter().map(|(_, policy)| *policy).collect()
    }

    /// The rules of all policies; a request needs one of them only.
    fn authentication(&self) -> Option<PlannedAuthentication> {
        let mut policies: Vec<_> = self.authentications.iter().collect();
        policies.sort_by_key(|(scope, _)| *scope);
        let mut rules: Vec<_> = policies
            .into_iter()
            .flat_map(|(_, policy)| policy.spec.jwt_rules.iter().map(move |rule| (policy, rule)))
            .collect();
        rules.sort_by(|(_, a), (_, b)| a.issuer.cmp(&b.issuer));
        let planned = |(index, (policy, rule)): (usize, (&&RequestAuthentication, _))| {
            let (resource, position) = (policy.meta.namespaced_name(), policy.position.clone());
            let provider = format!("origins-{index}");
            PlannedJwtRule { provider, resource, position, rule: Clone::clone(rule) }
        };
        let rules: Vec<_> = rules.into_iter().enumerate().map(planned).collect();
        let role = self.workload.role;
        let clears_route_cache = matches!(role, WorkloadRole::Gateway | WorkloadRole::Waypoint);
        (!rules.is_empty()).then_some(PlannedAuthentication { rules, clears_route_cache })
    }
}

fn planned_policy(policy: &AuthorizationPolicy) -> PlannedPolicy {
    PlannedPolicy {
        resource: policy.meta.namespaced_name(),
        position: policy.position.clone(),
        is_dry_run: policy.is_dry_run(),
        rules: policy.spec.rules.clone(),
    }
}
