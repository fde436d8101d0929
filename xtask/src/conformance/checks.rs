//! The list of checks: reading and validating `conformance/checks.toml`.

use std::collections::BTreeSet;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

/// All checks, by chapter.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Catalogue {
    #[serde(rename = "chapter", default)]
    pub(super) chapters: Vec<Chapter>,
}

/// Checks of one theme.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chapter {
    pub(super) title: String,
    pub(super) checks: Vec<Check>,
}

/// One situation and what must come of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    /// Two capital letters, a hyphen, two digits.
    pub(super) id: String,
    pub(super) setup: String,
    pub(super) expect: String,
    /// What is done here instead, and why.
    pub(super) differs: Option<String>,
    /// Why the situation cannot arise here.
    pub(super) not_applicable: Option<String>,
}

// === impl Catalogue ===

impl Catalogue {
    /// Reads the list.
    ///
    /// # Errors
    ///
    /// If it is not valid TOML of this shape, is empty, or has an id twice or of another form, an
    /// empty text, or a check that both differs and does not apply.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let catalogue: Self = toml::from_str(text).context("it is not valid")?;
        let mut seen = BTreeSet::new();
        for check in catalogue.checks() {
            let id = &check.id;
            ensure!(is_id(id), "`{id}` is not an id such as `LD-01`");
            ensure!(seen.insert(id), "{id} is there twice");
            let texts = [Some(&check.setup), Some(&check.expect)];
            let reasons = [check.differs.as_ref(), check.not_applicable.as_ref()];
            if texts.into_iter().chain(reasons).flatten().any(|text| text.trim().is_empty()) {
                bail!("{id} has an empty text");
            }
            let both = reasons.iter().all(Option::is_some);
            ensure!(!both, "{id} cannot both differ and not apply");
        }
        ensure!(!seen.is_empty(), "it has no check");
        Ok(catalogue)
    }

    /// Every check, in order.
    pub(super) fn checks(&self) -> impl Iterator<Item = &Check> {
        self.chapters.iter().flat_map(|chapter| &chapter.checks)
    }

    /// The check with this id.
    pub(super) fn find(&self, id: &str) -> Option<&Check> {
        self.checks().find(|check| check.id == id)
    }
}

/// Whether a text has the form of an id.
pub(super) fn is_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(letters, digits)| {
        letters.len() == 2
            && digits.len() == 2
            && letters.bytes().all(|byte| byte.is_ascii_uppercase())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(checks: &str) -> anyhow::Result<Catalogue> {
        Catalogue::parse(&format!("[[chapter]]\ntitle = \"One\"\nchecks = [{checks}]"))
    }

    #[test]
    fn a_list_keeps_its_order() {
        let check = |id| format!("{{ id = \"{id}\", setup = \"a\", expect = \"b\" }}, ");
        let list = list(&(check("LD-02") + &check("AA-01"))).expect("it is valid");
        let ids: Vec<_> = list.checks().map(|check| &*check.id).collect();
        assert_eq!(ids, ["LD-02", "AA-01"]);
        assert!(list.find("AA-01").is_some() && list.find("AA-02").is_none());
    }

    #[test]
    fn broken_lists_are_refused_with_the_reason() {
        let one = r#"{ id = "LD-01", setup = "a", expect = "b" }"#;
        for (checks, reason) in [
            ("", "it has no check"),
            (&*format!("{one}, {one}"), "LD-01 is there twice"),
            (&one.replace("LD-01", "LD-1"), "`LD-1` is not an id such as `LD-01`"),
            (&one.replace("\"a\"", "\" \""), "LD-01 has an empty text"),
            (&one.replace(" }", ", differs = \"\" }"), "LD-01 has an empty text"),
            (
                &one.replace(" }", ", differs = \"c\", not_applicable = \"d\" }"),
                "LD-01 cannot both differ and not apply",
            ),
            (&one.replace("setup", "set_up"), "it is not valid"),
            (&one.replace(" }", ", more = 1 }"), "it is not valid"),
            ("{ id = \"LD-01\" }", "it is not valid"),
        ] {
            assert_eq!(list(checks).expect_err(checks).to_string(), reason, "{checks}");
        }
        assert!(Catalogue::parse("not toml").is_err());
    }

    #[test]
    fn ids_have_two_letters_and_two_digits() {
        assert!(is_id("LD-01"));
        for text in ["", "-", "LD", "LD-", "LD-1", "LD-001", "Ld-01", "L-01", "LD-0a", "LD_01"] {
            assert!(!is_id(text), "{text}");
        }
    }
}
