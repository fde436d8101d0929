//! Cuts a stream into pieces that can be parsed apart, so that a syntax error in one document
//! does not lose the others.

/// Part of a file that holds whole documents.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    /// Line of the file on which the piece begins, the first one is 1.
    pub(super) first_line: u32,
}

/// Cuts before every `---` and after every `...`.
///
/// At the beginning of a line these can be nothing but document markers, whatever surrounds them.
/// Directives and comments stay with the document that follows them.
///
/// Source: YAML 1.2, 9.1 "Documents", production `c-forbidden`.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut piece_start = 0;
    let mut piece_line = 1;
    let mut has_content = false;
    let mut line_number: u32 = 1;
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let line_end = line_start + line.len();
        if is_marker(line, "---") && has_content {
            pieces.push(Piece { text: &text[piece_start..line_start], first_line: piece_line });
            (piece_start, piece_line) = (line_start, line_number);
        }
        has_content |= !line.trim().is_empty() && !line.starts_with(['#', '%']);
        line_number = line_number.saturating_add(1);
        line_start = line_end;
        if is_marker(line, "...") {
            pieces.push(Piece { text: &text[piece_start..line_end], first_line: piece_line });
            (piece_start, piece_line) = (line_end, line_number);
            has_content = false;
        }
    }
    if has_content {
        pieces.push(Piece { text: &text[piece_start..], first_line: piece_line });
    }
    pieces
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<(u32, &str)> {
        pieces(text).into_iter().map(|piece| (piece.first_line, piece.text)).collect()
    }

    #[test]
    fn documents_are_cut_at_their_markers() {
        assert_eq!(cut("a: 1\n---\nb: 2\n"), [(1, "a: 1\n"), (2, "---\nb: 2\n")]);
        assert_eq!(cut("---\na\n--- # two\r\nb"), [(1, "---\na\n"), (3, "--- # two\r\nb")]);
        assert_eq!(cut("a\n...\nb\n"), [(1, "a\n...\n"), (3, "b\n")]);
    }

    #[test]
    fn directives_and_comments_stay_with_their_document() {
        assert_eq!(cut("%YAML 1.2\n# x\n---\na\n"), [(1, "%YAML 1.2\n# x\n---\na\n")]);
        assert_eq!(cut("a\n...\n%YAML 1.2\n---\nb"), [(1, "a\n...\n"), (3, "%YAML 1.2\n---\nb")]);
    }

    #[test]
    fn similar_lines_are_not_markers() {
        for text in ["a: |\n  ---\n  b\n", "a: 1\n---b\n", "a\n ---\n", "--\n", "....\n"] {
            assert_eq!(cut(text), [(1, text)]);
        }
    }

    #[test]
    fn empty_streams_have_no_pieces() {
        for text in ["", "\n\n", "# only a comment\n"] {
            assert_eq!(cut(text), [], "{text:?}");
        }
    }
}
