//! YAML text in, located trees out.
//!
//! The parser gives events; this file composes them into [`Node`]s, bounded in nesting, number
//! and expansion of aliases, so that no file can exhaust the process.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::documents::{self, Piece};
use super::findings::Findings;
use super::node::{Entry, Mark, Node, Value};
use super::{json, scalar};
use crate::diagnostic::quoted;
use crate::field_path::FieldPath;

/// Deepest nesting of lists and objects.
pub(super) const MAX_DEPTH: usize = 64;
/// Most values in one document; a Kubernetes object of the largest size (1.5 MiB) has fewer.
const MAX_NODES: usize = 500_000;
/// Most bytes that anchors, aliases and merge keys of one document may add to it.
const MAX_EXPANSION_BYTES: usize = 4 * 1024 * 1024;
/// Most documents of one file.
const MAX_DOCUMENTS: usize = 10_000;

/// Reads every document of `text` whose syntax is sound; empty ones are skipped.
pub(super) fn read(text: &str, findings: &mut Findings) -> Vec<Node> {
    read_below(text, 0, findings)
}

/// Reads a text that stands inside of another document, below `lines` lines of the file.
pub(super) fn read_below(text: &str, lines: u32, findings: &mut Findings) -> Vec<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut roots = Vec::new();
    for mut piece in documents::pieces(text) {
        piece.first_line = piece.first_line.saturating_add(lines);
        read_piece(&piece, &mut roots, findings);
        if roots.len() > MAX_DOCUMENTS {
            roots.truncate(MAX_DOCUMENTS);
            let mark = Mark { line: piece.first_line, column: 1 };
            let message = format!("the file has more than {MAX_DOCUMENTS} documents");
            findings.error(mark, &FieldPath::root(), message, None);
            break;
        }
    }
    roots
}

/// One piece can hold several documents if line breaks are bare carriage returns.
fn read_piece(piece: &Piece<'_>, roots: &mut Vec<Node>, findings: &mut Findings) {
    let text = json::without_surrogate_pairs(piece.text);
    let mut parser = Parser::new_from_str(&text);
    let mut composer = Composer::new(piece.first_line, findings);
    while let Some(event) = parser.next_event() {
        let outcome = match event {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, span)) => composer.on_event(event, composer.mark(&span.start)),
            Err(error) => {
                let message = format!("invalid YAML: {}", error.info());
                Err(Fatal { mark: composer.mark(error.marker()), message })
            }
        };
        match outcome {
            Ok(Some(root)) if root.value != Value::Null => roots.push(root),
            Ok(_) => {}
            Err(fatal) => {
                findings.error(fatal.mark, &FieldPath::root(), fatal.message, None);
                break;
            }
        }
    }
}

/// Why the rest of a piece cannot be read.
struct Fatal {
    mark: Mark,
    message: String,
}

/// Builds the tree of one document after the other.
struct Composer<'a> {
    first_line: u32,
    findings: &'a mut Findings,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    expansion_bytes: usize,
    errors_before: usize,
}

/// A list or object that has begun and not ended.
struct Frame {
    mark: Mark,
    anchor: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping(MappingFrame),
}

#[derive(Default)]
struct MappingFrame {
    entries: Vec<Entry>,
    seen: HashMap<String, Mark>,
    merged: Vec<Node>,
    key: Option<Key>,
}

/// A key that waits for its value.
enum Key {
    Name {
        text: String,
        mark: Mark,
        is_bool: bool,
    },
    Merge,
    /// Reported already; the value is dropped.
    Invalid,
}

// === impl Composer ===

impl<'a> Composer<'a> {
    fn new(first_line: u32, findings: &'a mut Findings) -> Self {
        Self {
            first_line,
            errors_before: findings.errors(),
            findings,
            stack: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            nodes: 0,
            expansion_bytes: 0,
        }
    }

    fn mark(&self, marker: &Marker) -> Mark {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Mark {
            line: number(marker.line()).saturating_add(self.first_line).saturating_sub(1),
            column: number(marker.col()).saturating_add(1),
        }
    }

    /// Takes one event in; at the end of a document without errors gives its root.
    fn on_event(&mut self, event: Event<'_>, mark: Mark) -> Result<Option<Node>, Fatal> {
        match event {
            Event::DocumentStart(_) => {
                self.anchors.clear();
                (self.root, self.nodes, self.expansion_bytes) = (None, 0, 0);
                self.errors_before = self.findings.errors();
            }
            Event::DocumentEnd => {
                let is_sound = self.findings.errors() == self.errors_before;
                return Ok(self.root.take().filter(|_| is_sound));
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_merge = style == ScalarStyle::Plain && text == "<<" && tag.is_none();
                let value = self.resolve(text, style, tag.as_deref(), mark);
                self.complete(Node { value, mark }, anchor, is_merge)?;
            }
            Event::SequenceStart(anchor, _) => {
                self.begin(mark, anchor, Content::Sequence(Vec::new()))?;
            }
            Event::MappingStart(anchor, _) => {
                self.begin(mark, anchor, Content::Mapping(MappingFrame::default()))?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            Event::Alias(anchor) => {
                let node = self.expand(anchor, mark)?;
                self.complete(node, 0, false)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
        }
        Ok(None)
    }

    fn resolve(
        &mut self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
        mark: Mark,
    ) -> Value {
        match tag {
            None if style == ScalarStyle::Plain => scalar::resolve_plain(&text),
            Some(tag) if tag.is_yaml_core_schema() => scalar::resolve_tagged(&tag.suffix, &text)
                .unwrap_or_else(|_| {
                    let message = format!("the value does not fit its tag `!!{}`", tag.suffix);
                    self.findings.error(mark, &FieldPath::root(), message, None);
                    Value::Null
                }),
            None | Some(_) => Value::String(text.into_owned()),
        }
    }

    fn begin(&mut self, mark: Mark, anchor: usize, content: Content) -> Result<(), Fatal> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep(mark));
        }
        self.stack.push(Frame { mark, anchor, content });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fatal> {
        let Some(Frame { mark, anchor, content }) = self.stack.pop() else { return Ok(()) };
        let value = match content {
            Content::Sequence(items) => Value::Sequence(items),
            Content::Mapping(mapping) => Value::Mapping(self.merge(mapping)?),
        };
        self.complete(Node { value, mark }, anchor, false)
    }

    /// Puts a finished value where it belongs.
    fn complete(&mut self, node: Node, anchor: usize, is_merge: bool) -> Result<(), Fatal> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let message = format!("the document has more than {MAX_NODES} values");
            return Err(Fatal { mark: node.mark, message });
        }
        if anchor > 0 {
            self.charge(&node, node.mark)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut().map(|frame| &mut frame.content) {
            None => self.root = Some(node),
            Some(Content::Sequence(items)) => items.push(node),
            Some(Content::Mapping(mapping)) => match mapping.key.take() {
                None if is_merge => mapping.key = Some(Key::Merge),
                None => {
                    let key = Key::of(&node, &mapping.seen, self.findings);
                    mapping.key = Some(key);
                }
                Some(key) => mapping.insert(key, node),
            },
        }
        Ok(())
    }

    /// The value that an alias stands for.
    fn expand(&mut self, anchor: usize, mark: Mark) -> Result<Node, Fatal> {
        let Some(node) = self.anchors.get(&anchor) else {
            let message = "the alias refers to a value around it or of another document".into();
            return Err(Fatal { mark, message });
        };
        if self.stack.len() + node.depth() > MAX_DEPTH {
            return Err(too_deep(mark));
        }
        let node = Node { value: node.value.clone(), mark };
        self.charge(&node, mark)?;
        Ok(node)
    }

    fn charge(&mut self, node: &Node, mark: Mark) -> Result<(), Fatal> {
        self.expansion_bytes = self.expansion_bytes.saturating_add(node.weight());
        if self.expansion_bytes > MAX_EXPANSION_BYTES {
            let message = format!("aliases expand to more than {MAX_EXPANSION_BYTES} bytes");
            return Err(Fatal { mark, message });
        }
        Ok(())
    }

    /// Adds the entries of merge keys that are not given explicitly; earlier ones win.
    fn merge(&mut self, mut mapping: MappingFrame) -> Result<Vec<Entry>, Fatal> {
        for source in std::mem::take(&mut mapping.merged) {
            let mark = source.mark;
            let sources = match source.value {
                Value::Sequence(items) => items,
                value => vec![Node { value, mark }],
            };
            for source in sources {
                let Value::Mapping(entries) = source.value else {
                    let message = "the value of `<<` must be an object or a list of objects";
                    self.findings.error(source.mark, &FieldPath::root(), message, None);
                    continue;
                };
                for entry in entries {
                    if !mapping.seen.contains_key(&entry.key) {
                        mapping.seen.insert(entry.key.clone(), entry.key_mark);
                        self.charge(&entry.value, mark)?;
                        mapping.entries.push(entry);
                    }
                }
            }
        }
        Ok(mapping.entries)
    }
}

fn too_deep(mark: Mark) -> Fatal {
    Fatal { mark, message: format!("values are nested more than {MAX_DEPTH} levels deep") }
}

// === impl MappingFrame ===

impl MappingFrame {
    fn insert(&mut self, key: Key, value: Node) {
        match key {
            Key::Name { text, mark, is_bool } => {
                self.seen.insert(text.clone(), mark);
                let (key, key_mark, is_bool_key) = (text, mark, is_bool);
                self.entries.push(Entry { key, key_mark, is_bool_key, value });
            }
            Key::Merge => self.merged.push(value),
            Key::Invalid => {}
        }
    }
}

// === impl Key ===

impl Key {
    fn of(node: &Node, seen: &HashMap<String, Mark>, findings: &mut Findings) -> Self {
        let Some(text) = scalar::key_text(&node.value) else {
            let message = format!("a key must be a scalar, this one is {}", node.value.kind());
            findings.error(node.mark, &FieldPath::root(), message, None);
            return Self::Invalid;
        };
        if let Some(first) = seen.get(&text) {
            let (key, Mark { line, column }) = (quoted(&text), first);
            let message =
                format!("the key `{key}` is given twice, first at line {line} column {column}");
            findings.error(node.mark, &FieldPath::root(), message, None);
            return Self::Invalid;
        }
        let is_bool = matches!(node.value, Value::Bool(_));
        Self::Name { text, mark: node.mark, is_bool }
    }
}
