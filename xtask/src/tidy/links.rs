//! Relative links in Markdown lead somewhere.

use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Parser, Tag};

use super::{File, Finding};

/// Finds the links to files that do not exist. `exists` is asked with paths relative to the
/// checkout.
pub(super) fn check(file: &File<'_>, exists: impl Fn(&Path) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (event, range) in Parser::new(file.text).into_offset_iter() {
        let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = event else {
            continue;
        };
        let Some(target) = relative_target(&dest_url) else { continue };
        if resolve(file.path, target).is_none_or(|path| !exists(&path)) {
            let line = file.text.get(..range.start).unwrap_or_default().matches('\n').count() + 1;
            findings.push(Finding::new(file, Some(line), format!("dead link `{dest_url}`")));
        }
    }
    findings
}

/// The path of a link into the checkout, without its fragment.
fn relative_target(url: &str) -> Option<&str> {
    let path = url.split(['#', '?']).next().unwrap_or_default();
    let is_elsewhere = path.contains("://") || path.starts_with("mailto:") || path.is_empty();
    (!is_elsewhere).then_some(path)
}

/// The target seen from the checkout, if it lies within.
fn resolve(from: &str, target: &str) -> Option<PathBuf> {
    let folder = Path::new(from).parent()?;
    let mut path = PathBuf::new();
    for component in folder.join(target).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead(text: &str) -> Vec<String> {
        let file = File { path: "docs/page.md", text };
        let exists = |path: &Path| {
            ["README.md", "docs/other.md", "docs/decisions"].map(Path::new).contains(&path)
        };
        check(&file, exists).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        for text in [
            "[a](other.md)",
            "[a](./other.md#part)",
            "[a](../README.md)",
            "[a](decisions/)",
            "[a](#part)",
            "[a](https://example.com/none.md)",
            "[a](mailto:a@example.com)",
            "`[a](none.md)`",
            "```\n[a](none.md)\n```\n",
        ] {
            assert_eq!(dead(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn dead_links_are_found_with_their_line() {
        for text in ["\n\n[a](none.md)", "\n\n![a](none.md)", "\n\n[a][b]\n\n[b]: none.md"] {
            assert_eq!(dead(text), ["docs/page.md:3: dead link `none.md`"], "{text}");
        }
    }

    #[test]
    fn links_out_of_the_checkout_are_dead() {
        for target in ["../../README.md", "/README.md"] {
            assert_eq!(dead(&format!("[a]({target})")).len(), 1, "{target}");
        }
    }
}
