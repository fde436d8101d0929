//! What is pushed: blobs in one piece, manifests by tag or digest.
//!
//! Source: OCI Distribution Specification 1.1, "Push".

use serde_json::Value;

use super::{
    State,
    answer::{error, split_path, versioned},
    sha256,
};
use crate::message::{Received, Reply};

pub(super) fn answer(state: &mut State, received: &Received) -> Reply {
    let (path, query) = received.path.split_once('?').unwrap_or((&received.path, ""));
    let begun = path.strip_suffix("/blobs/uploads/").and_then(|rest| rest.strip_prefix("/v2/"));
    match (received.method.as_str(), begun) {
        ("POST", Some(name)) => {
            let location = format!("/v2/{name}/blobs/uploads/1");
            versioned(202).header("location", &location)
        }
        ("PUT", _) => match path.strip_suffix("/blobs/uploads/1") {
            Some(rest) => blob(state, rest, query, received),
            None => manifest(state, path, received),
        },
        _ => error(405, "UNSUPPORTED", "not known to this registry", &Value::Null),
    }
}

fn blob(state: &mut State, path: &str, query: &str, received: &Received) -> Reply {
    let digest = query.strip_prefix("digest=").unwrap_or_default().replace("%3A", ":");
    let Some(name) = path.strip_prefix("/v2/").filter(|_| digest == sha256(&received.body)) else {
        return error(400, "DIGEST_INVALID", "the content has another digest", &Value::Null);
    };
    let repository = state.repositories.entry(name.to_owned()).or_default();
    repository.blobs.insert(digest.clone(), received.body.clone());
    versioned(201).header("docker-content-digest", &digest)
}

/// A manifest is taken only if the blobs that it names are there.
fn manifest(state: &mut State, path: &str, received: &Received) -> Reply {
    let Some((name, "manifests", reference)) = split_path(path) else {
        return error(404, "UNSUPPORTED", "not known to this registry", &Value::Null);
    };
    let repository = state.repositories.entry(name.to_owned()).or_default();
    let document: Value = serde_json::from_slice(&received.body).unwrap_or_default();
    let layers = document["layers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let named = layers.iter().chain([&document["config"]]);
    let is_missing = |it: &Value| {
        it["digest"].as_str().is_none_or(|digest| !repository.blobs.contains_key(digest))
    };
    if named.into_iter().any(is_missing) {
        return error(400, "MANIFEST_BLOB_UNKNOWN", "a blob is not there", &Value::Null);
    }
    let digest = sha256(&received.body);
    let media_type = received.header("content-type").unwrap_or_default().to_owned();
    repository.manifests.insert(digest.clone(), (media_type, received.body.clone()));
    if !reference.contains(':') {
        repository.tags.insert(reference.to_owned(), digest.clone());
    }
    versioned(201).header("docker-content-digest", &digest)
}
