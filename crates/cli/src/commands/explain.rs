//! `wasmplug explain`: the chain of a workload, and why it is that one.

mod failures;
mod reasons;

use std::fmt::Write;

use serde_json::{Value, json};
use wasmplug_api::{Plan, PlannedFilter, PlannedPlugin, Workload, plan, review};

use self::failures::{FAILURES, is_open, matrix};
use super::check::fail_on_errors;
use crate::args::{ExplainArguments, Format};
use crate::chain;
use crate::diagnostics::{Paint, print_finding};
use crate::enforcement::{Unenforced, unenforced};
use crate::environment::Environment;
use crate::output;
use crate::reconcile::phase;
use crate::sources::Sources;
use crate::target::Target;

pub(super) fn run(arguments: &ExplainArguments, environment: &Environment) -> anyhow::Result<()> {
    let mut sources = Sources::new(arguments.sources.files.clone());
    let mut reading = sources.read()?;
    let resources = sources.resources();
    let target = match Target::find(&arguments.workload, &resources) {
        Ok(target) => target,
        Err(error) => {
            // A file with an error may be the reason why the workload is not there.
            for finding in &reading.findings {
                print_finding(finding, environment.has_colours);
            }
            return Err(error);
        }
    };
    let workload = target.workload;
    reading.findings.extend(review(&resources, &workload.root_namespace));
    let plan = plan(&resources, &workload);
    match arguments.output {
        Format::Json => output::data(format!("{:#}", machine_readable(&plan, &workload))),
        Format::Text => {
            for finding in &reading.findings {
                print_finding(finding, environment.has_colours);
            }
            target.note.iter().for_each(output::talk);
            print(&plan, &workload, Paint { is_on: environment.has_colours });
        }
    }
    fail_on_errors(&reading)
}

fn machine_readable(plan: &Plan, workload: &Workload) -> Value {
    let reasons: Vec<String> =
        (0..plan.filters.len()).map(|place| reasons::reason(plan, place, workload)).collect();
    let failures: Vec<Value> = plan.plugins().chain(&plan.network_plugins).map(matrix).collect();
    json!({
        "workload": workload,
        "plan": plan,
        "reasons": reasons,
        "responseOrder": response_order(plan),
        "failures": failures,
        "notEnforced": unenforced(plan),
    })
}

/// Names of the filters in the order in which responses meet them.
fn response_order(plan: &Plan) -> Vec<String> {
    let filters = plan.filters.iter().rev();
    filters.filter(|filter| **filter != PlannedFilter::Router).map(chain::name).collect()
}

fn print(plan: &Plan, workload: &Workload, paint: Paint) {
    output::data(format!("{} {}", paint.bold("workload"), describe(workload)));
    output::data(format!("\n{}", paint.bold("requests pass, in this order")));
    for (index, filter) in plan.filters.iter().enumerate() {
        let number = index.saturating_add(1);
        let name = chain::name(filter);
        match filter {
            PlannedFilter::Wasm(plugin) => {
                output::data(format!("  {number}. {name}  {}", plugin.url));
            }
            _ => output::data(format!("  {number}. {name}")),
        }
        output::data(format!("     {}", reasons::reason(plan, index, workload)));
        for (part, position) in reasons::parts(filter) {
            let position = position.map(|at| format!("  {at}")).unwrap_or_default();
            output::data(format!("     {part}{position}"));
        }
    }
    output::data(format!("\n{}", paint.bold("responses pass in reverse")));
    output::data(format!("  {}", response_order(plan).join(", ")));
    print_connections(plan, paint);
    print_left_out(plan, paint);
    print_unenforced(&unenforced(plan), paint);
    print_failures(&plan.plugins().collect::<Vec<_>>(), paint);
}

fn describe(workload: &Workload) -> String {
    let labels: Vec<String> =
        workload.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
    let mut text = format!("namespace {}, labels {labels}, {}", workload.namespace, workload.role);
    if workload.port != 0 {
        let _ = write!(text, ", port {}", workload.port);
    }
    for service in &workload.services {
        let _ = write!(text, ", before {}", service.name);
    }
    text
}

/// What connections meet before the first request.
fn print_connections(plan: &Plan, paint: Paint) {
    let tls = plan.mutual_tls.as_ref().and_then(|tls| Some((tls.mode, tls.resource.as_ref()?)));
    if tls.is_none() && plan.network_plugins.is_empty() {
        return;
    }
    output::data(format!("\n{}", paint.bold("connections pass before the first request")));
    if let Some((mode, resource)) = tls {
        output::data(format!("  mutual TLS {}, by {resource}", mode.as_str()));
    }
    for plugin in &plan.network_plugins {
        output::data(format!("  {}  {}", plugin.resource, plugin.url));
        let phase = phase(plugin.phase);
        output::data(format!("     {phase}; type NETWORK, which is in front of the HTTP filters"));
        output::data(format!("     {}", plugin.position));
    }
}

fn print_left_out(plan: &Plan, paint: Paint) {
    if plan.left_out.is_empty() {
        return;
    }
    output::data(format!("\n{}", paint.bold("not in the chain")));
    for left in &plan.left_out {
        let kind = if left.kind == "WasmPlugin" { "" } else { left.kind };
        let space = if kind.is_empty() { "" } else { " " };
        output::data(format!("  {kind}{space}{}  {}", left.resource, left.reason));
        output::data(format!("     {}", left.position));
    }
}

fn print_unenforced(policies: &[Unenforced], paint: Paint) {
    if policies.is_empty() {
        return;
    }
    let title = "`wasmplug run` refuses to serve this without `--tls-client-ca`";
    output::data(format!("\n{}", paint.bold(title)));
    for policy in policies {
        output::data(format!("  {} {}  {}", policy.kind, policy.resource, policy.effect));
    }
}

fn print_failures(plugins: &[&PlannedPlugin], paint: Paint) {
    if plugins.is_empty() {
        return;
    }
    output::data(format!("\n{}", paint.bold("if a plugin fails, a client sees")));
    for is_open_strategy in [false, true] {
        let of_strategy: Vec<_> = plugins
            .iter()
            .filter(|plugin| is_open(plugin.fail_strategy) == is_open_strategy)
            .collect();
        let Some(first) = of_strategy.first() else { continue };
        let names: Vec<_> = of_strategy.iter().map(|plugin| plugin.resource.to_string()).collect();
        let strategy = if is_open_strategy { "FAIL_OPEN" } else { "FAIL_CLOSE or FAIL_RELOAD" };
        output::data(format!("  {} ({strategy})", names.join(", ")));
        for failure in &FAILURES {
            let effect = failure.effect(first.fail_strategy);
            output::data(format!("    {:<38} {effect}", failure.what));
        }
    }
}
