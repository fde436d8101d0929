//! Paths with `{*}` for one segment and `{**}` for any number of them.

use super::Cause;
use super::string_match::StringMatch;

/// What a segment may consist of besides letters and digits. Source: Envoy, URI templates; RFC
/// 3986, `pchar`.
const LITERAL: &[u8] = b"-._~%!$&'()*+,;:@=";

/// Whether the value of a path is a template.
pub(super) fn is_template(text: &str) -> bool {
    text.contains("{*}") || text.contains("{**}")
}

/// The expression for the whole path that a template stands for.
///
/// Source: Envoy, URI template matching, whose refusals are these as well.
pub(super) fn compile(text: &str) -> Result<StringMatch, Cause> {
    let segments = text.strip_prefix('/').ok_or(Cause::Template("it must begin with `/`"))?;
    let mut expression = String::new();
    let mut has_rest = false;
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        expression.push('/');
        match segment {
            "{*}" | "{**}" if has_rest => {
                return Err(Cause::Template("`{**}` must be the last operator"));
            }
            "{*}" => expression.push_str("[a-zA-Z0-9._~%!$&'()*+,;:@=-]+"),
            "{**}" => {
                has_rest = true;
                expression.push_str("[a-zA-Z0-9._~%!$&'()*+,;:@=/-]*");
            }
            "" if segments.peek().is_some() => {
                return Err(Cause::Template("a segment must not be empty"));
            }
            literal if literal.bytes().all(is_literal) => {
                expression.push_str(&regex::escape(literal));
            }
            _ => return Err(Cause::Template("a segment has characters that paths do not have")),
        }
    }
    StringMatch::regex(&expression)
}

fn is_literal(byte: u8) -> bool {
    // A star between other characters would look like an operator.
    byte.is_ascii_alphanumeric() || byte != b'*' && LITERAL.contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::{compile, is_template};
    use crate::filters::rbac::string_match::StringMatch;

    /// Source: Istio, `TestAuthz_PathTemplating`; observed in Envoy 1.40.
    const ROWS: [(&str, &[&str], &[&str]); 8] = [
        (
            "/allow/admin/{**}",
            &["/allow/admin/", "/allow/admin/temp", "/allow/admin/foo/temp.txt"],
            &["/allow/admin", "/allow/user/", "/allow", "/x/allow/admin/", "/Allow/admin/"],
        ),
        (
            "/foo/{*}/bar/{**}",
            &["/foo/buzz/bar/bat", "/foo/buzz/bar/bat/fuzz.txt", "/foo/a/bar/"],
            &["/foo/bar/bat.txt", "/foo//bar/bat.txt", "/foo/a/bar", "/foo/a/b/bar/c"],
        ),
        (
            "/store/{**}/cart",
            &["/store//cart", "/store/foo/cart", "/store/foo/bar/cart"],
            &["/store/cart", "/store/a/cart/", "/Store/a/cart"],
        ),
        ("/{**}", &["/", "/a", "//", "/a/b"], &["", "a"]),
        ("/{*}", &["/a", "/%2f", "/a*b=c"], &["/", "/a/", "/a/b", "/\"", "/a\\b", "/[", "/\u{e9}"]),
        ("/a.b/{*}", &["/a.b/x"], &["/axb/x"]),
        ("/a/{*}/", &["/a/b/"], &["/a/b", "/a//"]),
        ("/a!$&'()+,;:@=~/{*}", &["/a!$&'()+,;:@=~/x"], &["/a!$&'()+,;:@=/x"]),
    ];

    #[test]
    fn every_row_of_the_table_is_decided_as_in_a_mesh() {
        for (template, found, other) in ROWS {
            assert!(is_template(template), "{template}");
            let matcher = compile(template).unwrap_or(StringMatch::exact("not compiled"));
            for path in found {
                assert!(matcher.matches(path.as_bytes()), "{template} and {path}");
            }
            for path in other {
                assert!(!matcher.matches(path.as_bytes()), "{template} and {path}");
            }
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in [
            "{**}",
            "{*}/a",
            "/a//{*}",
            "/a b/{*}",
            "/{**}/{*}",
            "/{**}/{**}",
            "/a{*}",
            "/{*}a",
            "/{a}/{*}",
            "/a*/{*}",
            "/{*}/\u{e9}",
        ] {
            assert!(compile(text).is_err(), "{text}");
        }
        assert!(!is_template("/a/*") && !is_template("/{a}"));
    }

    #[test]
    fn long_paths_and_many_operators_take_linear_time() {
        let template = "/{*}".repeat(200);
        let matcher = compile(&template).unwrap_or(StringMatch::exact("not compiled"));
        assert!(matcher.matches("/a".repeat(200).as_bytes()));
        assert!(!matcher.matches("/a".repeat(50_000).as_bytes()));
        let matcher = compile("/{**}/z").unwrap_or(StringMatch::exact("not compiled"));
        assert!(!matcher.matches("/z".repeat(50_000).as_bytes().get(1..).unwrap_or_default()));
        assert!(matcher.matches("/z".repeat(50_000).as_bytes()));
    }
}
