//! `wasmplug verify`: who signed a module.

use serde_json::json;

use crate::args::{Format, VerifyArguments};
use crate::environment::Environment;
use crate::modules::{Modules, Wanted, target};
use crate::output;

pub(super) fn run(arguments: &VerifyArguments, environment: &Environment) -> anyhow::Result<()> {
    let url = target(&arguments.target)?;
    let modules = Modules::aside(&arguments.store, &arguments.login, environment)?;
    let wanted = Wanted { key_files: &arguments.keys, ..Wanted::default() };
    let module = modules.fetch(&url, &wanted)?;
    let image = module.manifest_digest.as_ref().unwrap_or(&module.digest);
    match arguments.output {
        Format::Json => {
            let signatures: Vec<_> = module
                .signatures
                .iter()
                .map(|it| json!({ "place": it.place, "key": it.key }))
                .collect();
            let url = url.to_string();
            output::data(format!(
                "{:#}",
                json!({ "url": url, "digest": image, "signatures": signatures })
            ));
        }
        Format::Text => {
            output::data(format!("{url}\n  {image}"));
            if module.signatures.is_empty() {
                output::data("  need not be signed, says the policy");
            }
            for signature in &module.signatures {
                output::data(format!(
                    "  signed in {}\n    with the key {}",
                    signature.place, signature.key
                ));
            }
        }
    }
    Ok(())
}
