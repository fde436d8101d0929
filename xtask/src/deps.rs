//! `cargo xtask deps`: the crates depend on each other as the architecture draws it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::bail;
use fs_err as fs;
use serde::Deserialize;

use crate::process;
use crate::repository::Repository;

/// Each crate of the workspace with the crates of the workspace that it may use.
const PICTURE: [(&str, &[&str]); 7] = [
    ("wasmplug-api", &[]),
    ("wasmplug-host", &[]),
    ("wasmplug-testkit", &[]),
    ("xtask", &[]),
    ("wasmplug-module", &["wasmplug-api"]),
    ("wasmplug-proxy", &["wasmplug-api", "wasmplug-host", "wasmplug-module"]),
    (
        "wasmplug",
        &["wasmplug-api", "wasmplug-host", "wasmplug-module", "wasmplug-proxy", "wasmplug-testkit"],
    ),
];

/// Tests of every crate may use the fakes.
const TEST_ONLY: &str = "wasmplug-testkit";

/// Crates whose types cross our boundaries, so that a second version would not fit the first.
const ONE_VERSION: [&str; 4] = ["http", "hyper", "tokio", "wasmtime"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or none for an ordinary dependency.
    kind: Option<String>,
    /// Set for a crate in this checkout.
    path: Option<String>,
}

/// Checks all edges and versions.
///
/// # Errors
///
/// If one is not allowed; each is printed.
pub(crate) fn run(repository: &Repository) -> anyhow::Result<()> {
    let metadata = process::output(
        Command::new("cargo")
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .current_dir(repository.path("")),
    )?;
    let metadata: Metadata = serde_json::from_str(&metadata)?;
    let mut findings = forbidden_edges(&metadata);
    findings.extend(second_versions(&fs::read_to_string(repository.path("Cargo.lock"))?));
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} dependencies are not allowed", findings.len());
    }
    println!("{} crates depend on each other as drawn", metadata.packages.len());
    Ok(())
}

fn forbidden_edges(metadata: &Metadata) -> Vec<String> {
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let name = &package.name;
        let Some((_, allowed)) = PICTURE.iter().find(|(known, _)| known == name) else {
            findings.push(format!("`{name}` is not in the picture of xtask's `deps`"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|edge| edge.path.is_some()) {
            let target = dependency.name.as_str();
            let is_test_fake = dependency.kind.as_deref() == Some("dev") && target == TEST_ONLY;
            if !allowed.contains(&target) && !is_test_fake {
                findings.push(format!("`{name}` may not depend on `{target}`"));
            }
        }
    }
    findings
}

fn second_versions(lock: &str) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut name = None;
    for line in lock.lines() {
        if let Some(value) = quoted(line, "name = ") {
            name = ONE_VERSION.contains(&value).then_some(value);
        } else if let (Some(name), Some(version)) = (name, quoted(line, "version = ")) {
            versions.entry(name).or_default().insert(version);
        }
    }
    // Foreign crates may still use `http` 0.2 within themselves; ours is the 1.x line.
    let is_ours = |name: &str, version: &str| name != "http" || version.starts_with("1.");
    versions
        .into_iter()
        .filter_map(|(name, found)| {
            let found: Vec<_> = found.into_iter().filter(|found| is_ours(name, found)).collect();
            (found.len() > 1).then(|| {
                format!("`{name}` is there in {} versions: {}", found.len(), found.join(", "))
            })
        })
        .collect()
}

fn quoted<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.strip_prefix('"')?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(package: &str, dependencies: &str) -> Vec<String> {
        let json =
            format!(r#"{{"packages":[{{"name":"{package}","dependencies":[{dependencies}]}}]}}"#);
        forbidden_edges(&serde_json::from_str(&json).unwrap())
    }

    const HOST: &str = r#"{"name":"wasmplug-host","kind":null,"path":"/p"}"#;
    const FAKES: &str = r#"{"name":"wasmplug-testkit","kind":"dev","path":"/p"}"#;
    const FOREIGN: &str = r#"{"name":"hyper","kind":null}"#;

    #[test]
    fn edges_of_the_picture_are_allowed() {
        assert_eq!(edges("wasmplug-proxy", HOST), Vec::<String>::new());
        assert_eq!(edges("wasmplug-host", FAKES), Vec::<String>::new());
        assert_eq!(edges("wasmplug-api", FOREIGN), Vec::<String>::new());
    }

    #[test]
    fn edges_outside_the_picture_are_refused() {
        assert_eq!(
            edges("wasmplug-api", HOST),
            ["`wasmplug-api` may not depend on `wasmplug-host`"]
        );
        assert_eq!(edges("wasmplug-api", &HOST.replace("null", r#""dev""#)).len(), 1);
        assert_eq!(edges("wasmplug-module", &FAKES.replace(r#""dev""#, "null")).len(), 1);
        assert_eq!(edges("wasmplug-module", &FAKES.replace("dev", "build")).len(), 1);
    }

    #[test]
    fn a_crate_outside_the_picture_is_refused() {
        assert_eq!(edges("wasmplug-shared", "").len(), 1);
    }

    fn lock(packages: &[(&str, &str)]) -> String {
        let entry = |(name, version): &(&str, &str)| {
            format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n")
        };
        packages.iter().map(entry).collect::<Vec<_>>().concat()
    }

    #[test]
    fn one_version_of_each_is_allowed() {
        let lock = lock(&[("http", "0.2.12"), ("http", "1.5.0"), ("tokio", "1.54.0")]);
        assert_eq!(second_versions(&lock), Vec::<String>::new());
        let unwatched = self::lock(&[("hashbrown", "0.16.1"), ("hashbrown", "0.17.1")]);
        assert_eq!(second_versions(&unwatched), Vec::<String>::new());
    }

    #[test]
    fn a_second_version_is_refused() {
        for name in ONE_VERSION {
            let findings = second_versions(&lock(&[(name, "1.5.0"), (name, "1.6.0")]));
            assert_eq!(findings, [format!("`{name}` is there in 2 versions: 1.5.0, 1.6.0")]);
        }
    }
}
