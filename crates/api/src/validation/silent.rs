//! What Istio takes without a word, and then does not do what its author meant.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Violations;
use crate::diagnostic::quoted;
use crate::digest::Digest;
use crate::field_path::FieldPath;
use crate::module_url::ModuleUrl;
use crate::wasm_plugin::{EnvVar, PullPolicy, WasmPluginSpec};

/// Variables whose names begin so are removed by Istio's agent.
///
/// Source: Istio, agent, environment of plugins with remote code.
const RESERVED_PREFIX: &str = "ISTIO_META_";

/// Begins and ends a public key.
///
/// Source: RFC 7468, section 13.
const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const PEM_END: &str = "-----END PUBLIC KEY-----";
/// First byte of a DER sequence, which every public key is.
const DER_SEQUENCE: u8 = 0x30;

/// Warns about a source that means something else in a mesh, or contradicts itself.
pub(super) fn source(spec: &WasmPluginSpec, url: &ModuleUrl, path: &FieldPath, v: &mut Violations) {
    if let Some((fate, hint)) = fate_in_a_mesh(&spec.url) {
        v.warning(path.field("url"), format!("Istio {fate}"), hint);
    }
    pull_policy(spec.image_pull_policy, url, path.field("imagePullPolicy"), v);
    if let ModuleUrl::Oci(image) = url
        && let (Some(pinned), Some(sha256)) = (&image.digest, spec.sha256.as_deref())
        && sha256.parse::<Digest>().is_ok_and(|sha256| sha256 != *pinned)
    {
        let message = "is not the digest in `url`, which must be that of an index then";
        v.warning(path.field("sha256"), message, "one of the two is enough");
    }
    if let Some(secret) = &spec.image_pull_secret {
        let name = secret.strip_prefix("kubernetes://").unwrap_or(secret);
        let path = path.field("imagePullSecret");
        if name.contains("://") {
            let hint = "name a Secret in the namespace of the plugin";
            v.warning(path, "is no name of a Secret, and Istio resolves it to nothing", hint);
        } else if name.contains('/') {
            let hint = "write the name alone";
            v.warning(path, "its namespace is not looked at: it is the plugin's", hint);
        }
    }
    if let Some(key) = &spec.verification_key
        && let Err(problem) = public_key(key)
    {
        let hint = "paste the whole file, from `-----BEGIN PUBLIC KEY-----` on";
        v.warning(path.field("verificationKey"), format!("is no public key: {problem}"), hint);
    }
}

/// Warns about a variable that a plugin does not get in a mesh, or not by this name.
pub(super) fn variable(variable: &EnvVar, path: FieldPath, v: &mut Violations) {
    if variable.name.starts_with(RESERVED_PREFIX) {
        let message = format!("Istio ignores variables that begin with `{RESERVED_PREFIX}`");
        v.warning(path, message, "choose another name");
    } else if variable.name.contains(['=', '\0']) {
        let message = format!("`{}` is no name that a plugin can look up", quoted(&variable.name));
        v.warning(path, message, "a name has neither `=` nor a zero byte");
    }
}

/// What becomes of a URL that is understood here, if Istio does something else with it.
fn fate_in_a_mesh(url: &str) -> Option<(&'static str, &'static str)> {
    let is_registry_with_port = |rest: &str| {
        let port = rest.split('/').next().unwrap_or_default();
        rest.contains('/') && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
    };
    if url.starts_with("file:") {
        return (!url.starts_with("file://")).then_some((
            "looks for a file of exactly this name, with `file:` in front",
            "write `file://` and the path",
        ));
    }
    if url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file:")) {
        let hint = "write `file` in lower case";
        return Some(("looks for a file of exactly this name, with the scheme in front", hint));
    }
    if let Some(rest) = url.strip_prefix("oci://") {
        let authority = rest.split('/').next().unwrap_or_default();
        let tag = authority.rsplit_once(':').map(|(_, tag)| tag);
        let is_port = |tag: &str| tag.bytes().all(|b| b.is_ascii_digit());
        return tag.filter(|tag| !is_port(tag) && !authority.contains(['@', '['])).map(|_| {
            ("admits this and then drops the plugin", "write the registry: `oci://docker.io/…`")
        });
    }
    // The address of an IPv6 host has colons of its own.
    let (before, rest) = url.split_once("]:").or_else(|| url.split_once(':'))?;
    if url.contains("//") || !is_registry_with_port(rest) {
        return None;
    }
    // What cannot be a scheme gets past admission and stops the parser behind it.
    let is_scheme = before.starts_with(|c: char| c.is_ascii_alphabetic())
        && before.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let fate = if is_scheme {
        "refuses this: it takes what stands before the port for a scheme"
    } else {
        "admits this and then drops the plugin"
    };
    Some((fate, "put `oci://` in front"))
}

fn pull_policy(policy: PullPolicy, url: &ModuleUrl, path: FieldPath, v: &mut Violations) {
    match (policy, url) {
        (PullPolicy::Unspecified, _) => {}
        (_, ModuleUrl::File(_)) => {
            v.warning(path, "has no effect on a file", "a file is read whenever a plan is built");
        }
        (PullPolicy::Always, ModuleUrl::Oci(image)) if image.digest.is_some() => {
            let hint = "what a digest names never changes";
            v.warning(path, "has no effect with a digest in `url`", hint);
        }
        (PullPolicy::Always | PullPolicy::IfNotPresent, _) => {}
    }
}

/// Whether it is a public key in PEM, as far as its frame shows.
fn public_key(text: &str) -> Result<(), &'static str> {
    let body = text.trim().strip_prefix(PEM_BEGIN).ok_or("it does not begin as one in PEM")?;
    let body = body.trim_end().strip_suffix(PEM_END).ok_or("it does not end as one in PEM")?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = STANDARD.decode(body).map_err(|_| "it is not base64")?;
    match der.as_slice() {
        [DER_SEQUENCE, length @ ..] if is_length_of_rest(length) => Ok(()),
        _ => Err("it is cut, or something else"),
    }
}

/// Whether DER's length in front is that of what follows.
///
/// Source: X.690, section 8.1.3.
fn is_length_of_rest(bytes: &[u8]) -> bool {
    let Some((first, rest)) = bytes.split_first() else { return false };
    let first = usize::from(*first);
    if first < 0x80 {
        return first == rest.len();
    }
    let Some((length, rest)) = rest.split_at_checked(first - 0x80) else { return false };
    // Longer lengths would not fit a manifest.
    let length = length.iter().try_fold(0_usize, |sum, byte| {
        sum.checked_mul(256).and_then(|sum| sum.checked_add(usize::from(*byte)))
    });
    length == Some(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE4xMbO6ZPbC0AbkqnwTKGPpcJM/Cj
gnBHAqXTkLKZ5GgPEJtPQZHLJ8JJlTQZEu8QmIGRkGYbLbTi4WkRWwGTvQ==
-----END PUBLIC KEY-----
";

    #[test]
    fn public_keys_are_told_from_other_texts() {
        assert_eq!(public_key(KEY), Ok(()));
        let private = KEY.replace("PUBLIC", "PRIVATE");
        let cut = KEY.replace("MFkw", "MFgw");
        let without_end = KEY.replace("-----END PUBLIC KEY-----", "");
        for text in ["", "key", &private, &cut, &without_end, &KEY.replace("MFkw", "%%%%")] {
            assert!(public_key(text).is_err(), "{text}");
        }
        assert!(is_length_of_rest(&[0x81, 1, 0]));
        assert!(!is_length_of_rest(&[0x82, 1, 0]));
        assert!(!is_length_of_rest(&[0xff, 1]));
        assert!(!is_length_of_rest(&[0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]));
    }

    #[test]
    fn urls_that_istio_takes_otherwise_are_known() {
        let rows = [
            ("test", None),
            ("ghcr.io/x/y:v1", None),
            ("ghcr.io/x/y@sha256:abc", None),
            ("oci://ghcr.io/x/y:v1", None),
            ("oci://localhost:5000/a:v1", None),
            ("oci://user@h/a", None),
            ("https://h:8080/a", None),
            ("file:///opt/a.wasm", None),
            ("file://a.wasm", None),
            ("localhost:5000/a:v1", Some("refuses")),
            ("reg.local:5000/a", Some("refuses")),
            ("192.168.1.1:5000/a", Some("drops")),
            ("[::1]:5000/a", Some("drops")),
            ("a_b.com:80/x", Some("drops")),
            ("oci://img:latest", Some("drops")),
            ("file:/a.wasm", Some("exactly this name")),
            ("FILE:///a.wasm", Some("exactly this name")),
        ];
        for (url, expected) in rows {
            let fate = fate_in_a_mesh(url).map(|(fate, _)| fate);
            match (fate, expected) {
                (None, None) => {}
                (Some(fate), Some(part)) => assert!(fate.contains(part), "{url}: {fate}"),
                _ => panic!("{url}: {fate:?}, not {expected:?}"),
            }
        }
    }
}
