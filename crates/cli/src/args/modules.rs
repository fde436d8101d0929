//! The verbs for modules and images. Doc comments are the help.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Format, StoreArguments};

/// Where credentials of registries are read.
#[derive(Debug, Args)]
pub(crate) struct LoginArguments {
    /// Docker configuration with credentials of registries [default: what `docker login` or
    /// `podman login` has written].
    #[arg(long, value_name = "FILE")]
    pub(crate) registry_config: Option<PathBuf>,
}

/// Fetch a module and keep it, as a resource with this URL would.
///
/// The registry or server is asked, whatever is in the cache. Credentials are those of
/// `docker login` or `podman login`, credential helpers included.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmplug pull oci://ghcr.io/acme/limit:v1
  wasmplug pull oci://ghcr.io/acme/limit:v1 --key acme.pub --to limit.wasm
  wasmplug pull https://example.com/limit.wasm --sha256 6b2a… -o json | jq -r .digest")]
pub(crate) struct PullArguments {
    /// URL of the module, as in a resource.
    pub(crate) url: String,
    /// What must be found there: the digest of the module, or of the image.
    #[arg(long, value_name = "HEX")]
    pub(crate) sha256: Option<String>,
    /// File with public keys, one of which must have signed the module; may be repeated.
    #[arg(long = "key", value_name = "FILE")]
    pub(crate) keys: Vec<PathBuf>,
    /// File to write the module to.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
    /// How the result is printed.
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) login: LoginArguments,
    #[command(flatten)]
    pub(crate) store: StoreArguments,
}

/// Pack a module into an image and push it to a registry.
///
/// Prints the resource that uses it, with the digest that was pushed. The same module gives the
/// same digest, and what the registry has is not sent again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmplug push limit.wasm oci://ghcr.io/acme/limit:v1
  wasmplug push limit.wasm oci://ghcr.io/acme/limit:v1 --format artifact --sign key.pem
  wasmplug push limit.wasm oci://localhost:5000/limit:dev > wasmplugin.yaml")]
pub(crate) struct PushArguments {
    /// The module.
    pub(crate) module: PathBuf,
    /// Where to: `oci://HOST[:PORT]/REPOSITORY[:TAG]`.
    pub(crate) url: String,
    /// How the module lies in the image.
    #[arg(long, value_enum, default_value_t = Layout::Compat)]
    pub(crate) format: Layout,
    /// Annotation of the image, as KEY=VALUE; may be repeated.
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = super::parse_label)]
    pub(crate) annotations: Vec<(String, String)>,
    /// Private key to sign the image with.
    #[arg(long, value_name = "FILE")]
    pub(crate) sign: Option<PathBuf>,
    /// How the result is printed.
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) login: LoginArguments,
    #[command(flatten)]
    pub(crate) store: StoreArguments,
}

/// How a module lies in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Layout {
    /// A container image with `plugin.wasm`, which every registry takes.
    Compat,
    /// An OCI artifact: the bare module and a configuration.
    Artifact,
}

/// Show what a module or an image is, and which hosts can load it.
///
/// Nothing of the cache is used or changed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmplug inspect limit.wasm
  wasmplug inspect oci://ghcr.io/acme/limit:v1
  wasmplug inspect oci://ghcr.io/acme/limit:v1 -o json | jq '.loadable[] | select(.obstacle)'")]
pub(crate) struct InspectArguments {
    /// File or URL of a module.
    pub(crate) target: String,
    /// How the result is printed.
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) login: LoginArguments,
    #[command(flatten)]
    pub(crate) store: StoreArguments,
}

/// Sign an image in its registry, or a file by a file beside it.
///
/// An image is signed as cosign signs with a key: under the tag `sha256-HEX.sig`, beside the
/// signatures that it has. The signature of a file is written to the file with `.sig` behind its
/// name. Prints the public key, as `verificationKey` wants it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  openssl genpkey -algorithm ed25519 -out key.pem
  wasmplug sign oci://ghcr.io/acme/limit:v1 --key key.pem
  wasmplug sign limit.wasm --key key.pem > key.pub")]
pub(crate) struct SignArguments {
    /// URL of an image, or a file.
    pub(crate) target: String,
    /// Private key in PEM: ECDSA on P-256 or P-384, Ed25519, RSA.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// How the result is printed.
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) login: LoginArguments,
    #[command(flatten)]
    pub(crate) store: StoreArguments,
}

/// Check who signed a module. Exits with 1 if nobody who counts has.
///
/// Nothing of the cache is used or changed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmplug verify oci://ghcr.io/acme/limit:v1 --key acme.pub
  wasmplug verify limit.wasm --key acme.pub
  wasmplug verify oci://ghcr.io/acme/limit:v1 --require-signed policy.json")]
pub(crate) struct VerifyArguments {
    /// File or URL of a module.
    pub(crate) target: String,
    /// File with public keys, one of which must have signed the module; may be repeated.
    #[arg(long = "key", value_name = "FILE", required_unless_present = "require_signed")]
    pub(crate) keys: Vec<PathBuf>,
    /// How the result is printed.
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) login: LoginArguments,
    #[command(flatten)]
    pub(crate) store: StoreArguments,
}

/// Write images with their signatures to a file, for where no registry is.
///
/// The file is an OCI layout in a tar archive; `skopeo` reads it as `oci-archive:`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmplug save --to images.tar oci://ghcr.io/acme/limit:v1 oci://ghcr.io/acme/tag:v2")]
pub(crate) struct SaveArguments {
    /// URLs of images.
    #[arg(required = true, value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// File to write.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// How the result is printed.
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) login: LoginArguments,
    #[command(flatten)]
    pub(crate) store: StoreArguments,
}

/// Take images from a file into the cache, so that resources find them without a registry.
///
/// They are served to resources under `imagePullPolicy: IfNotPresent`, whatever credentials their
/// registry asks for; signatures are checked as always.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmplug load images.tar")]
pub(crate) struct LoadArguments {
    /// A file that `wasmplug save` has written.
    pub(crate) file: PathBuf,
    /// How the result is printed.
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) store: StoreArguments,
}

/// Look into the cache of modules and make room in it.
#[derive(Debug, Args)]
pub(crate) struct CacheArguments {
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

/// What to do with the cache.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    Ls(CacheLsArguments),
    Rm(CacheRmArguments),
    Gc(CacheGcArguments),
}

/// List modules, the one that was used last at the end.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmplug cache ls
  wasmplug cache ls -o json | jq -r '.[] | select(.inUse | not) | .digest'")]
pub(crate) struct CacheLsArguments {
    /// How the result is printed.
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) store: StoreArguments,
}

/// Remove modules; one that a process has loaded stays.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmplug cache rm sha256:6b2a…
  wasmplug cache rm 6b2a")]
pub(crate) struct CacheRmArguments {
    /// Digests, or how they begin.
    #[arg(required = true, value_name = "DIGEST")]
    pub(crate) digests: Vec<String>,
    #[command(flatten)]
    pub(crate) store: StoreArguments,
}

/// Remove what exceeds the limits on age and size; what a process has loaded stays.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmplug cache gc --cache-max-age 7d
  wasmplug cache gc --cache-max-size 500M")]
pub(crate) struct CacheGcArguments {
    #[command(flatten)]
    pub(crate) store: StoreArguments,
}

/// A whole number of bytes, or of KiB, MiB or GiB.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let error = || format!("`{text}` is not a size such as 500M or 2G");
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err(error()),
    };
    let number: u64 = number.parse().map_err(|_| error())?;
    number.checked_mul(1 << shift).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_have_a_known_unit() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("12K"), Ok(12 << 10));
        assert_eq!(parse_size("2G"), Ok(2 << 30));
        for text in ["", "G", "1T", "-1", "1.5G", "1 G", "99999999999999999999", "99999999999G"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
