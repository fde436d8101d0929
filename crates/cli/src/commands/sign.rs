//! `wasmplug sign`: an image in its registry, or a file beside itself.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use wasmplug_api::{Digest, ModuleUrl};
use wasmplug_module::{Progress, SignImageError, SigningKey};

use crate::args::{Format, SignArguments};
use crate::diagnostics::WithHint;
use crate::environment::Environment;
use crate::modules::{self, Modules, signing_key, target};
use crate::output;

pub(super) fn run(arguments: &SignArguments, environment: &Environment) -> anyhow::Result<()> {
    let url = target(&arguments.target)?;
    let key = signing_key(&arguments.key)?;
    let (signed, place) = match &url {
        ModuleUrl::Oci(reference) => {
            let modules = Modules::open(&arguments.store, Some(&arguments.login), environment)?;
            let credentials = modules.credentials(reference)?;
            let sign = modules.store.sign(reference, &key, credentials.as_ref());
            let signed = modules.wait("signing", &Progress::default(), sign).map_err(explain)?;
            (signed.image, signed.place)
        }
        ModuleUrl::File(path) => sign_file(path, &key)?,
        ModuleUrl::Http(_) => {
            let hint = "sign the file and put `FILE.sig` beside it on the server".to_owned();
            let error = anyhow::anyhow!("`{url}` cannot be written to");
            return Err(WithHint::wrap(error, Some(hint)));
        }
    };
    match arguments.output {
        Format::Json => output::data(format!(
            "{:#}",
            json!({ "digest": signed, "place": place, "verificationKey": key.public_pem() })
        )),
        Format::Text => {
            output::talk(format!("signed {signed}\n  in {place}"));
            output::talk("this is the `verificationKey`:");
            output::data(key.public_pem().trim_end());
        }
    }
    Ok(())
}

/// A failure of the registry with its hint.
pub(super) fn explain(error: SignImageError) -> anyhow::Error {
    match error {
        SignImageError::Registry(error) => modules::explain(error),
        SignImageError::Sign(error) => error.into(),
    }
}

/// Writes the signature beside the file; returns what was signed and where that is.
fn sign_file(path: &Path, key: &SigningKey) -> anyhow::Result<(Digest, String)> {
    let bytes = fs_err::read(path)?;
    let mut beside = path.to_owned().into_os_string();
    beside.push(".sig");
    fs_err::write(&beside, format!("{}\n", STANDARD.encode(key.sign(&bytes)?)))?;
    Ok((Digest::sha256_of(&bytes), Path::new(&beside).display().to_string()))
}
