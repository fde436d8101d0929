//! `wasmplug save`: images into a file.

use anyhow::Context as _;
use serde_json::json;
use wasmplug_module::{ArchiveError, ArchivedImage, Progress};

use crate::args::{Format, SaveArguments};
use crate::environment::Environment;
use crate::modules::{self, Modules, image};
use crate::output;

pub(super) fn run(arguments: &SaveArguments, environment: &Environment) -> anyhow::Result<()> {
    let modules = Modules::open(&arguments.store, Some(&arguments.login), environment)?;
    let mut images = Vec::new();
    for url in &arguments.urls {
        let reference = image(url)?;
        let credentials = modules.credentials(&reference)?;
        images.push((reference, credentials));
    }
    // A failure leaves no file that looks like a good one.
    let folder = arguments.to.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = folder.unwrap_or(std::path::Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder)
        .with_context(|| format!("cannot write `{}`", arguments.to.display()))?;
    let progress = Progress::default();
    let writer = std::io::BufWriter::new(file.as_file());
    let saved = modules.wait("saving", &progress, modules.store.save(&images, writer, &progress));
    let saved = saved.map_err(explain)?;
    file.persist(&arguments.to)
        .with_context(|| format!("cannot write `{}`", arguments.to.display()))?;
    print(&saved, arguments.output);
    Ok(())
}

/// A failure of the registry with its hint.
fn explain(error: ArchiveError) -> anyhow::Error {
    match error {
        ArchiveError::Fetch(error) => modules::explain(error),
        other => other.into(),
    }
}

/// What came along.
pub(super) fn print(images: &[ArchivedImage], format: Format) {
    if format == Format::Json {
        let images: Vec<_> = images
            .iter()
            .map(|it| {
                let url = format!("oci://{}", it.reference);
                json!({ "url": url, "digest": it.digest, "signatures": it.signatures })
            })
            .collect();
        output::data(format!("{:#}", json!(images)));
        return;
    }
    for ArchivedImage { reference, digest, signatures } in images {
        let signed = match signatures {
            0 => "not signed".to_owned(),
            1 => "1 signature".to_owned(),
            count => format!("{count} signatures"),
        };
        output::data(format!("oci://{reference}\n  {digest}, {signed}"));
    }
}
