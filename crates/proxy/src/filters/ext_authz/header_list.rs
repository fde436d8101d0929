//! Lists of header names as operators write them.

use http::HeaderName;

/// Names of headers, each with a star at either end or none.
///
/// Source: Istio, `includeRequestHeadersInCheck`: exact, prefix and suffix, whatever the case.
#[derive(Debug, Default)]
pub(super) struct HeaderList(Vec<Entry>);

#[derive(Debug)]
enum Entry {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Any,
}

// === impl HeaderList ===

impl HeaderList {
    pub(super) fn new(names: &[String]) -> Self {
        let entry = |name: &String| {
            let name = name.to_ascii_lowercase();
            if name == "*" {
                Entry::Any
            } else if let Some(suffix) = name.strip_prefix('*') {
                Entry::Suffix(suffix.to_owned())
            } else if let Some(prefix) = name.strip_suffix('*') {
                Entry::Prefix(prefix.to_owned())
            } else {
                Entry::Exact(name)
            }
        };
        Self(names.iter().map(entry).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, name: &HeaderName) -> bool {
        let name = name.as_str();
        self.0.iter().any(|entry| match entry {
            Entry::Exact(wanted) => name == wanted,
            Entry::Prefix(prefix) => name.starts_with(prefix),
            Entry::Suffix(suffix) => name.ends_with(suffix),
            Entry::Any => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::HeaderList;
    use http::HeaderName;

    #[test]
    fn a_star_stands_for_anything_at_its_end() {
        let list = HeaderList::new(&["X-Exact".into(), "x-pre-*".into(), "*-suf".into()]);
        for (name, is_in) in [
            ("x-exact", true),
            ("x-exact-not", false),
            ("x-pre-a", true),
            ("x-pre", false),
            ("a-suf", true),
            ("a-suf-not", false),
        ] {
            assert_eq!(list.has(&HeaderName::from_static(name)), is_in, "{name}");
        }
        assert!(HeaderList::new(&["*".into()]).has(&HeaderName::from_static("a")));
        assert!(!HeaderList::default().has(&HeaderName::from_static("a")));
    }
}
