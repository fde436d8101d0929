//! `wasmplug check`: what is wrong with resource files.

use serde_json::json;
use wasmplug_api::{Resource, Severity, review};

use crate::args::{CheckArguments, Format};
use crate::diagnostics::{InvalidResources, print_finding};
use crate::enforcement::is_enforced;
use crate::environment::Environment;
use crate::output;
use crate::sources::{Reading, Sources};

pub(super) fn run(arguments: &CheckArguments, environment: &Environment) -> anyhow::Result<()> {
    let mut sources = Sources::new(arguments.sources.files.clone());
    let mut reading = sources.read()?;
    let resources = sources.resources();
    reading.findings.extend(review(&resources, &arguments.root_namespace));
    let fine = reading.valid;
    let unenforced: Vec<&Resource> = resources.iter().filter(|of| !is_enforced(of)).collect();
    match arguments.output {
        Format::Json => {
            let name = |resource: &&Resource| json!({ "kind": resource.kind(), "resource": resource.namespaced_name() });
            output::data(format!(
                "{:#}",
                json!({
                    "findings": reading.findings,
                    "ignored": reading.ignored,
                    "valid": fine,
                    "notEnforced": unenforced.iter().map(name).collect::<Vec<_>>(),
                })
            ));
        }
        Format::Text => {
            for finding in &reading.findings {
                print_finding(finding, environment.has_colours);
            }
            for ignored in &reading.ignored {
                output::talk(format!(
                    "{}: not looked at: {} ({})",
                    ignored.position, ignored.kind, ignored.api_version
                ));
            }
            for resource in unenforced {
                output::talk(format!(
                    "{}: note: {} {}: `wasmplug run` enforces it with `--tls-client-ca`, and \
                     refuses to serve a workload that needs it without",
                    resource.position(),
                    resource.kind(),
                    resource.namespaced_name()
                ));
            }
            let noun = if fine == 1 { "resource is" } else { "resources are" };
            output::data(format!("{fine} {noun} valid"));
        }
    }
    fail_on_errors(&reading)
}

/// Fails if a document has an error; its finding has been printed.
pub(super) fn fail_on_errors(reading: &Reading) -> anyhow::Result<()> {
    let is_error = |finding: &&wasmplug_api::Diagnostic| finding.severity == Severity::Error;
    match reading.findings.iter().filter(is_error).count() {
        0 => Ok(()),
        errors => Err(InvalidResources { errors }.into()),
    }
}
