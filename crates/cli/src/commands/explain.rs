//! `wasmplug explain`: the chain of a workload, and why it is that one.

use serde_json::json;
use wasmplug_api::{FailStrategy, Plan, PlannedFilter, PlannedPlugin, PluginPhase, Workload, plan};

use super::check::fail_on_errors;
use crate::args::{ExplainArguments, Format};
use crate::diagnostics::{Paint, print_finding};
use crate::environment::Environment;
use crate::output;
use crate::reconcile::phase;
use crate::sources::Sources;

/// What a client sees when something fails, by the plugin's `failStrategy`.
struct Failure {
    what: &'static str,
    close: &'static str,
    open: &'static str,
}

/// Source: the data plane's own behaviour; `docs/compatibility.md` compares it with Istio's.
const FAILURES: [Failure; 5] = [
    Failure {
        what: "fetch, checksum, signature, first time",
        close: "403 for every request",
        open: "skipped",
    },
    Failure { what: "compile, start, configure", close: "503 for every request", open: "skipped" },
    Failure {
        what: "any of these in an update",
        close: "the last good form goes on",
        open: "the last good form goes on",
    },
    Failure {
        what: "a callback traps or exceeds its limit",
        close: "503 for its streams, then a fresh VM",
        open: "its streams go on without it, then a fresh VM",
    },
    Failure {
        what: "it keeps failing",
        close: "503 until the back-off is over",
        open: "skipped until the back-off is over",
    },
];

pub(super) fn run(arguments: &ExplainArguments, environment: &Environment) -> anyhow::Result<()> {
    let mut sources = Sources::new(arguments.sources.files.clone());
    let reading = sources.read()?;
    let workload = arguments.workload.workload();
    let plan = plan(&sources.resources(), &workload);
    match arguments.output {
        Format::Json => {
            output::data(format!("{:#}", json!({ "workload": workload, "plan": plan })));
        }
        Format::Text => {
            for finding in &reading.findings {
                print_finding(finding, environment.has_colours);
            }
            print(&plan, &workload, Paint { is_on: environment.has_colours });
        }
    }
    fail_on_errors(&reading)
}

fn print(plan: &Plan, workload: &Workload, paint: Paint) {
    let labels: Vec<String> =
        workload.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
    output::data(format!(
        "{} namespace {}, labels {labels}, {}",
        paint.bold("workload"),
        workload.namespace,
        workload.role
    ));
    output::data(format!("\n{}", paint.bold("requests pass, in this order")));
    let plugins: Vec<&PlannedPlugin> = plan.plugins().collect();
    for (index, filter) in plan.filters.iter().enumerate() {
        let number = index.saturating_add(1);
        match filter {
            PlannedFilter::Router => output::data(format!("  {number}. router")),
            PlannedFilter::Wasm(plugin) => {
                output::data(format!("  {number}. {}  {}", plugin.resource, plugin.url));
                let before = index.checked_sub(1).and_then(|before| plugins.get(before));
                output::data(format!("     {}", reason(plugin, before.copied(), workload)));
                output::data(format!("     {}", plugin.position));
            }
        }
    }
    let backwards: Vec<String> =
        plugins.iter().rev().map(|plugin| plugin.resource.to_string()).collect();
    if !backwards.is_empty() {
        output::data(format!("\n{}", paint.bold("responses pass the plugins in reverse")));
        output::data(format!("  {}", backwards.join(", ")));
    }
    if !plan.left_out.is_empty() {
        output::data(format!("\n{}", paint.bold("not in the chain")));
        for left in &plan.left_out {
            output::data(format!("  {}  {}", left.resource, left.reason));
            output::data(format!("     {}", left.position));
        }
    }
    print_failures(&plugins, paint);
}

/// Why a plugin stands behind the one before it.
fn reason(plugin: &PlannedPlugin, before: Option<&PlannedPlugin>, workload: &Workload) -> String {
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
    let tie = if before.priority != plugin.priority {
        format!("lower than that of {}", before.resource)
    } else if before.resource.namespace != plugin.resource.namespace {
        let own = &workload.namespace;
        format!("the same as {}, whose namespace `{own}` is the workload's", before.resource)
    } else {
        format!("the same as {}, which is older or comes first by name", before.resource)
    };
    format!("{}; {priority}, {tie}", phase(plugin.phase))
}

fn print_failures(plugins: &[&PlannedPlugin], paint: Paint) {
    if plugins.is_empty() {
        return;
    }
    output::data(format!("\n{}", paint.bold("if a plugin fails, a client sees")));
    for is_open in [false, true] {
        let names: Vec<String> = plugins
            .iter()
            .filter(|plugin| (plugin.fail_strategy == FailStrategy::FailOpen) == is_open)
            .map(|plugin| plugin.resource.to_string())
            .collect();
        if names.is_empty() {
            continue;
        }
        output::data(format!("  {}", names.join(", ")));
        for failure in &FAILURES {
            let effect = if is_open { failure.open } else { failure.close };
            output::data(format!("    {:<38} {effect}", failure.what));
        }
    }
}
