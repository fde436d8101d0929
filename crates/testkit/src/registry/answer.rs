//! What the registry answers: pulling, and tokens; pushing is in `upload`.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use serde_json::{Value, json};

use super::{Access, Account, Fault, Repository, State, media_type, sha256, upload};
use crate::{
    message::{End, Received, Reply, Scripted},
    server::Service,
};

/// The only token it gives out; it is worth nothing outside this registry.
const TOKEN: &str = "testkit-token";

pub(crate) fn service(state: &Arc<Mutex<State>>) -> Service {
    let state = Arc::clone(state);
    Arc::new(move |received| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        answer(&mut state, received)
    })
}

fn answer(state: &mut State, received: &Received) -> Scripted {
    let fault = state.take_fault(&received.path);
    match fault {
        Some(Fault::Status(status)) => {
            return error(status, "UNKNOWN", "scripted fault", &Value::Null).into();
        }
        Some(Fault::Reset) => return Scripted::reset(),
        Some(Fault::Hang) => return Scripted::never(),
        Some(Fault::Html) => {
            let reply = Reply::new(200).header("content-type", "text/html");
            return reply.body("<!doctype html><html><body>sign in</body></html>").into();
        }
        Some(Fault::RedirectToPort(port)) => {
            let location = format!("http://127.0.0.1:{port}{}", received.path);
            return Reply::new(307).header("location", &location).into();
        }
        Some(Fault::Truncated | Fault::Corrupt) | None => {}
    }
    let (reply, body) = route(state, received);
    match (fault, body) {
        (_, None) => reply.into(),
        (Some(Fault::Truncated), Some(body)) => {
            let mut wire = reply.body(body.clone()).head();
            wire.extend_from_slice(&body[..body.len() / 2]);
            Scripted::raw(wire, End::Close)
        }
        (Some(Fault::Corrupt), Some(mut body)) => {
            if let Some(last) = body.last_mut() {
                *last ^= 1;
            }
            reply.body(body).into()
        }
        (_, Some(body)) => reply.body(body).into(),
    }
}

/// The answer without its body, and the body if the answer is content.
fn route(state: &mut State, received: &Received) -> (Reply, Option<Vec<u8>>) {
    let (path, query) = received.path.split_once('?').unwrap_or((&received.path, ""));
    let is_write = !matches!(received.method.as_str(), "GET" | "HEAD");
    if is_write && !state.is_writable {
        let reply = error(405, "UNSUPPORTED", "this registry is read-only", &Value::Null);
        return (reply, None);
    }
    if path == "/token" {
        return (token(&state.access, received), None);
    }
    if let Some(challenge) = challenge(&state.access, received, path) {
        let reply = error(401, "UNAUTHORIZED", "authentication required", &Value::Null);
        return (reply.header("www-authenticate", &challenge), None);
    }
    if is_write {
        return (upload::answer(state, received), None);
    }
    let not_found = |code: &str, name: &str| {
        (error(404, code, "not known to this registry", &json!({ "name": name })), None)
    };
    if path == "/v2/" || path == "/v2" {
        return (versioned(200).header("content-type", "application/json").body("{}"), None);
    }
    let Some((name, kind, reference)) = split_path(path) else {
        return not_found("UNSUPPORTED", path);
    };
    let Some(repository) = state.repositories.get(name) else {
        return not_found("NAME_UNKNOWN", name);
    };
    match kind {
        "tags" => (tags(repository, name, query), None),
        "referrers" if state.lists_referrers => {
            let list = repository.referrers(reference).to_string();
            content(media_type::OCI_INDEX, list.as_bytes())
        }
        "referrers" => not_found("UNSUPPORTED", path),
        "manifests" => match repository.manifest(reference) {
            Some((media_type, bytes)) => content(media_type, bytes),
            None => not_found("MANIFEST_UNKNOWN", reference),
        },
        _ => match repository.blobs.get(reference) {
            Some(bytes) => content("application/octet-stream", bytes),
            None => not_found("BLOB_UNKNOWN", reference),
        },
    }
}

/// `/v2/NAME/{manifests,blobs,referrers}/REFERENCE` or `/v2/NAME/tags/list`.
pub(super) fn split_path(path: &str) -> Option<(&str, &str, &str)> {
    let (rest, reference) = path.strip_prefix("/v2/")?.rsplit_once('/')?;
    let (name, kind) = rest.rsplit_once('/')?;
    let known = match kind {
        "manifests" | "blobs" | "referrers" => true,
        "tags" => reference == "list",
        _ => false,
    };
    known.then_some((name, kind, reference))
}

fn content(media_type: &str, bytes: &[u8]) -> (Reply, Option<Vec<u8>>) {
    let reply = versioned(200)
        .header("content-type", media_type)
        .header("docker-content-digest", &sha256(bytes));
    (reply, Some(bytes.to_vec()))
}

/// Source: OCI Distribution Specification, "Listing Tags"; `n` is the page size, `last` its start.
fn tags(repository: &Repository, name: &str, query: &str) -> Reply {
    let parameter = |wanted: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value)
    };
    let last = parameter("last").unwrap_or_default();
    let size = parameter("n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
    let rest: Vec<&String> =
        repository.tags.keys().filter(|tag| last.is_empty() || tag.as_str() > last).collect();
    let page: Vec<&String> = rest.iter().copied().take(size).collect();
    let mut reply = versioned(200).header("content-type", "application/json");
    if let Some(end) = page.last().filter(|_| page.len() < rest.len()) {
        let link = format!("</v2/{name}/tags/list?n={size}&last={end}>; rel=\"next\"");
        reply = reply.header("link", &link);
    }
    reply.body(json!({ "name": name, "tags": page }).to_string())
}

/// What an unauthorised request is told, or `None` if it may pass.
fn challenge(access: &Access, received: &Received, path: &str) -> Option<String> {
    let authorization = received.header("authorization").unwrap_or_default();
    match access {
        Access::Anyone => None,
        Access::Basic(account) => {
            let wanted = account.basic();
            (authorization != wanted).then(|| "Basic realm=\"testkit\"".to_owned())
        }
        Access::Bearer(_) if authorization == format!("Bearer {TOKEN}") => None,
        Access::Bearer(_) => {
            let host = received.header("host").unwrap_or("localhost");
            let scope = split_path(path)
                .map(|(name, _, _)| format!(",scope=\"repository:{name}:pull\""))
                .unwrap_or_default();
            Some(format!("Bearer realm=\"http://{host}/token\",service=\"testkit\"{scope}"))
        }
    }
}

fn token(access: &Access, received: &Received) -> Reply {
    let allowed = match access {
        Access::Bearer(Some(account)) => {
            received.header("authorization") == Some(account.basic().as_str())
        }
        Access::Bearer(None) => true,
        Access::Anyone | Access::Basic(_) => false,
    };
    if !allowed {
        return error(401, "UNAUTHORIZED", "wrong user or password", &Value::Null);
    }
    let body = json!({ "token": TOKEN, "expires_in": 300 });
    Reply::new(200).header("content-type", "application/json").body(body.to_string())
}

/// An answer with the header by which clients recognise a registry.
pub(super) fn versioned(status: u16) -> Reply {
    Reply::new(status).header("docker-distribution-api-version", "registry/2.0")
}

/// Source: OCI Distribution Specification, "Error Codes".
pub(super) fn error(status: u16, code: &str, message: &str, detail: &Value) -> Reply {
    let body = json!({ "errors": [{ "code": code, "message": message, "detail": detail }] });
    versioned(status).header("content-type", "application/json").body(body.to_string())
}

// === impl Account ===

impl Account {
    /// The value of `authorization`.
    fn basic(&self) -> String {
        let pair = format!("{}:{}", self.user, self.password);
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    }
}

// === impl Repository ===

impl Repository {
    /// Media type and bytes of a manifest, by tag or digest.
    fn manifest(&self, reference: &str) -> Option<(&str, &[u8])> {
        let digest = self.tags.get(reference).map_or(reference, String::as_str);
        let (media_type, bytes) = self.manifests.get(digest)?;
        Some((media_type, bytes))
    }

    /// Source: OCI Distribution Specification 1.1, "Listing Referrers".
    fn referrers(&self, subject: &str) -> Value {
        let refers = |(digest, (media_type, bytes)): (&String, &(String, Vec<u8>))| {
            let manifest: Value = serde_json::from_slice(bytes).ok()?;
            (manifest["subject"]["digest"] == subject).then(|| {
                json!({
                    "mediaType": media_type,
                    "digest": digest,
                    "size": bytes.len(),
                    "artifactType": manifest["artifactType"],
                })
            })
        };
        let entries: Vec<Value> = self.manifests.iter().filter_map(refers).collect();
        json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries })
    }
}
