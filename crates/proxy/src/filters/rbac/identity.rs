//! What authors write about the identity of a peer: `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
//!
//! Source: Istio, principals of `AuthorizationPolicy`. Differs: characters with a meaning in
//! expressions mean themselves, except `*`; Istio puts the text into its expressions as it is.

use super::Cause;
use super::string_match::StringMatch;

const SCHEME: &str = "spiffe://";

/// `principals`: the identity without its scheme.
pub(super) fn principal(text: &str) -> Result<StringMatch, Cause> {
    if text == "*" {
        return Ok(StringMatch::NonEmpty);
    }
    if let Some(suffix) = text.strip_prefix('*') {
        return StringMatch::regex(&format!("{SCHEME}.*{}", regex::escape(suffix)));
    }
    // The scheme stands in front of the star, if there is one at the end.
    Ok(StringMatch::parse(&format!("{SCHEME}{text}")))
}

/// `namespaces`.
pub(super) fn namespace(text: &str) -> Result<StringMatch, Cause> {
    StringMatch::regex(&format!(".*/ns/{}/.*", with_stars(text, ".*")))
}

/// `serviceAccounts`: `NAMESPACE/ACCOUNT`, or an account of the policy's namespace.
pub(super) fn service_account(text: &str, namespace: &str) -> Result<StringMatch, Cause> {
    let (namespace, account) = text.split_once('/').unwrap_or((namespace, text));
    let (namespace, account) = (regex::escape(namespace), regex::escape(account));
    StringMatch::regex(&format!("{SCHEME}.+/ns/{namespace}/(.+/|)sa/{account}(/.+)?"))
}

/// `trustDomains`.
pub(super) fn trust_domain(text: &str) -> Result<StringMatch, Cause> {
    if text == "*" {
        return Ok(StringMatch::NonEmpty);
    }
    if text.contains('*') {
        return StringMatch::regex(&format!("{SCHEME}{}/.*", with_stars(text, "[^/]*")));
    }
    Ok(StringMatch::prefix(&format!("{SCHEME}{text}/")))
}

/// The text as an expression in which every star stands for something.
fn with_stars(text: &str, star: &str) -> String {
    text.split('*').map(regex::escape).collect::<Vec<_>>().join(star)
}

#[cfg(test)]
mod tests {
    use super::{namespace, principal, service_account, trust_domain};
    use crate::filters::rbac::Cause;
    use crate::filters::rbac::string_match::StringMatch;

    type Rows<'a> = &'a [(&'a str, &'a [&'a str], &'a [&'a str])];

    fn assert_rows(compile: impl Fn(&str) -> Result<StringMatch, Cause>, rows: Rows<'_>) {
        for (value, found, other) in rows {
            let matcher = compile(value).unwrap_or(StringMatch::exact("not compiled"));
            for text in *found {
                assert!(matcher.matches(text.as_bytes()), "{value} and {text}");
            }
            for text in *other {
                assert!(!matcher.matches(text.as_bytes()), "{value} and {text}");
            }
        }
    }

    #[test]
    fn principals_are_identities_without_scheme() {
        assert_rows(
            principal,
            &[
                (
                    "td/ns/a/sa/b",
                    &["spiffe://td/ns/a/sa/b"],
                    &["td/ns/a/sa/b", "spiffe://td/ns/a/sa/bc"],
                ),
                ("td/ns/a/*", &["spiffe://td/ns/a/sa/b"], &["spiffe://td/ns/ab/sa/b", "x"]),
                (
                    "*/sa/b",
                    &["spiffe://td/ns/a/sa/b"],
                    &["spiffe://td/ns/a/sa/bc", "http://a/sa/b"],
                ),
                ("*/sa/b.c", &["spiffe://td/ns/a/sa/b.c"], &["spiffe://td/ns/a/sa/bxc"]),
                ("*", &["spiffe://td/ns/a/sa/b", "anything"], &[""]),
            ],
        );
    }

    #[test]
    fn namespaces_are_a_part_of_the_identity() {
        assert_rows(
            namespace,
            &[
                ("a", &["spiffe://td/ns/a/sa/b"], &["spiffe://td/ns/ab/sa/b", "spiffe://td/ns/a"]),
                (
                    "a*",
                    &["spiffe://td/ns/ab/sa/b", "spiffe://td/ns/a/sa/b"],
                    &["spiffe://td/ns/ba/sa/b"],
                ),
                // A star is for slashes too.
                (
                    "*a",
                    &["spiffe://td/ns/ba/sa/b", "spiffe://td/ns/b/sa/b"],
                    &["spiffe://td/ns/b/c/d"],
                ),
                ("a.b", &["spiffe://td/ns/a.b/sa/b"], &["spiffe://td/ns/axb/sa/b"]),
                ("a|b", &["spiffe://td/ns/a|b/sa/b"], &["spiffe://td/ns/a/sa/b"]),
            ],
        );
    }

    #[test]
    fn service_accounts_have_a_namespace_and_may_have_more_around() {
        assert_rows(
            |value| service_account(value, "own"),
            &[
                (
                    "a/b",
                    &[
                        "spiffe://td/ns/a/sa/b",
                        "spiffe://td/ns/a/x/sa/b",
                        "spiffe://td/ns/a/sa/b/y",
                    ],
                    &["spiffe://td/ns/own/sa/b", "spiffe://td/ns/a/sa/bc", "spiffe:///ns/a/sa/b"],
                ),
                ("b", &["spiffe://td/ns/own/sa/b"], &["spiffe://td/ns/a/sa/b"]),
                ("a/b.c", &["spiffe://td/ns/a/sa/b.c"], &["spiffe://td/ns/a/sa/bxc"]),
            ],
        );
    }

    #[test]
    fn trust_domains_begin_the_identity() {
        assert_rows(
            trust_domain,
            &[
                ("td", &["spiffe://td/ns/a/sa/b"], &["spiffe://td2/ns/a/sa/b", "spiffe://x/td/"]),
                ("*", &["spiffe://td/ns/a/sa/b"], &[""]),
                ("*.td", &["spiffe://a.td/ns/a"], &["spiffe://td/ns/a", "spiffe://a/b.td/ns"]),
                ("td-*", &["spiffe://td-1/ns/a"], &["spiffe://td/ns/a", "spiffe://td"]),
            ],
        );
    }

    #[test]
    fn texts_that_are_too_long_for_an_expression_are_refused() {
        let long = "x*".repeat(100_000);
        assert!(namespace(&long).is_err());
        assert!(trust_domain("a*").is_ok());
    }
}
