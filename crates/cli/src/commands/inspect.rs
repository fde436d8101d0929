//! `wasmplug inspect`: what a module or an image is, and who can load it.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::json;
use wasmplug_api::ModuleUrl;
use wasmplug_host::{CompiledModule, Host};
use wasmplug_module::{ImageReport, Loadable, ModuleReport, Progress};

use crate::args::{Format, InspectArguments};
use crate::diagnostics::Paint;
use crate::environment::Environment;
use crate::modules::{Modules, Wanted, explain, target};
use crate::output;
use crate::progress::size;

/// Hosts that load files and downloads.
const HOSTS: [&str; 5] = ["istio", "envoy-gateway", "higress", "envoy", "wasmplug"];

pub(super) fn run(arguments: &InspectArguments, environment: &Environment) -> anyhow::Result<()> {
    let url = target(&arguments.target)?;
    let modules = Modules::aside(&arguments.store, &arguments.login, environment)?;
    let image = match &url {
        ModuleUrl::Oci(reference) => {
            let credentials = modules.credentials(reference)?;
            let described = modules.store.describe(reference, credentials.as_ref());
            Some(modules.wait("asking", &Progress::default(), described).map_err(explain)?)
        }
        _ => None,
    };
    // An image in which we find nothing may still be described.
    let loadable = image.as_ref().map_or_else(everywhere, ImageReport::loadable);
    let is_found = loadable.iter().all(|it| it.host != "wasmplug" || it.obstacle.is_none());
    let module = if is_found {
        let bytes = modules.fetch(&url, &Wanted::default())?.bytes;
        let report = ModuleReport::of(&bytes).with_context(|| format!("cannot read `{url}`"))?;
        let obstacles = Obstacles::of(&report, &bytes)?;
        Some((report, obstacles))
    } else {
        None
    };
    let loadable = judge(loadable, module.as_ref());
    let module = module.map(|(report, _)| report);
    match arguments.output {
        Format::Json => output::data(format!(
            "{:#}",
            json!({
                "url": url.to_string(),
                "module": module,
                "image": image,
                "loadable": loadable,
            })
        )),
        Format::Text => print(
            &url,
            module.as_ref(),
            image.as_ref(),
            &loadable,
            Paint { is_on: environment.has_colours },
        ),
    }
    Ok(())
}

fn everywhere() -> Vec<Loadable> {
    HOSTS.into_iter().map(|host| Loadable { host, obstacle: None }).collect()
}

/// Why no host, and why this one, cannot run the module.
struct Obstacles {
    everywhere: Option<String>,
    here: Option<String>,
}

// === impl Obstacles ===

impl Obstacles {
    fn of(report: &ModuleReport, bytes: &[u8]) -> anyhow::Result<Self> {
        let none = "it declares no Proxy-Wasm ABI version".to_owned();
        let everywhere = report.abi_versions.is_empty().then_some(none);
        let host = Arc::new(Host::new()?);
        let here = CompiledModule::compile(&host, bytes).err().map(|error| {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            text
        });
        Ok(Self { everywhere, here })
    }
}

/// Adds what is wrong with the module to what is wrong with its packing.
fn judge(loadable: Vec<Loadable>, module: Option<&(ModuleReport, Obstacles)>) -> Vec<Loadable> {
    let add = |Loadable { host, obstacle }: Loadable| {
        let of_module = module.and_then(|(_, obstacles)| {
            let here = obstacles.here.as_ref().filter(|_| host == "wasmplug");
            here.or(obstacles.everywhere.as_ref()).cloned()
        });
        Loadable { host, obstacle: obstacle.or(of_module) }
    };
    loadable.into_iter().map(add).collect()
}

fn print(
    url: &ModuleUrl,
    module: Option<&ModuleReport>,
    image: Option<&ImageReport>,
    loadable: &[Loadable],
    paint: Paint,
) {
    output::data(format!("{} {url}", paint.bold("module")));
    let line = |name: &str, value: &str| output::data(format!("  {name:<10} {value}"));
    if let Some(module) = module {
        line("digest", &format!("{}, {}", module.digest, size(module.bytes)));
        line("abi", &or_none(&module.abi_versions));
        line("toolchain", &or_none(&module.producers));
        if let Some((initial, maximum)) = module.memory_pages {
            let most = maximum.map_or_else(String::new, |it| format!(", at most {it}"));
            line("memory", &format!("{initial} pages of 64 KiB{most}"));
        }
        for (from, names) in by_module(&module.imports) {
            line("imports", &format!("{from}: {}", names.join(", ")));
        }
        line("exports", &or_none(&module.exports));
        let sections = module.custom_sections.iter();
        let sections: Vec<String> =
            sections.map(|(name, bytes)| format!("{name} ({})", size(*bytes))).collect();
        line("sections", &or_none(&sections));
    }
    if let Some(image) = image {
        print_image(image, paint);
    }
    output::data(format!("\n{}", paint.bold("can be loaded by")));
    for Loadable { host, obstacle } in loadable {
        let verdict = match obstacle {
            None => paint.green("yes"),
            Some(obstacle) => format!("{}: {obstacle}", paint.red("no")),
        };
        output::data(format!("  {host:<14} {verdict}"));
    }
}

fn print_image(image: &ImageReport, paint: Paint) {
    output::data(format!("\n{}", paint.bold("image")));
    let line = |name: &str, value: &str| output::data(format!("  {name:<10} {value}"));
    if let Some(index) = &image.index_digest {
        line("index", &format!("{index} for {}", image.platforms.join(", ")));
    }
    line("manifest", &image.manifest_digest);
    let kind = if image.media_type.is_empty() { "does not say" } else { &image.media_type };
    line("type", kind);
    for layer in &image.layers {
        line("layer", &format!("{}, {}", layer.media_type, size(layer.size)));
    }
    for (name, value) in &image.annotations {
        line("annotation", &format!("{name}={value}"));
    }
    line("signatures", &or_none(&image.signatures));
}

/// Imports by the module that they are from.
fn by_module(imports: &[String]) -> BTreeMap<&str, Vec<&str>> {
    let mut modules: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for import in imports {
        let (from, name) = import.split_once('.').unwrap_or(("", import));
        modules.entry(from).or_default().push(name);
    }
    modules
}

fn or_none(texts: &[String]) -> String {
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}
