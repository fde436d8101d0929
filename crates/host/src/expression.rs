//! Expressions in the Common Expression Language that plugins evaluate on a stream's attributes.
//!
//! Parsing is the work of the `cel` crate, whose parser needs much stack, so that it runs on a
//! thread of its own. What evaluation may cost is decided there as well: an expression is refused
//! if it is long, deeply nested, or loops inside loops inside loops. The attributes that it names
//! are known from then on, and only those are looked up when it is evaluated.
//!
//! Source: Envoy's foreign functions `expr_create`, `expr_evaluate` and `expr_delete`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::objects::{Key, Map};
use cel::{Context, Program, Value};

use crate::deadline::thread_time;
use crate::property::PropertyValue;

/// Longest source text, in bytes. Source: ours.
pub(crate) const MAX_SOURCE_BYTES: usize = 4096;
/// Deepest nesting of a parsed expression. Source: ours; evaluation recurses as deeply.
const MAX_DEPTH: usize = 64;
/// Most loops (`map`, `filter`, `all`, `exists`) inside one another. Source: ours.
const MAX_LOOPS: usize = 2;
/// Stack of the thread that parses; the parser takes megabytes for nested parentheses.
const PARSER_STACK_BYTES: usize = 64 << 20;
/// What is charged for a parse whose time nobody could tell. Source: ours.
const PANIC_COST: Duration = Duration::from_millis(10);

/// A path of names, such as `request`, `headers`.
type Path = Vec<String>;

/// An expression that was parsed and found to be cheap enough.
///
/// Embedders use it for what their operators write, with [`Self::new`].
#[derive(Debug)]
pub struct Expression {
    program: Program,
    paths: Vec<Path>,
}

/// The expressions of one plugin, by token.
#[derive(Debug, Default)]
pub(crate) struct Expressions {
    by_token: HashMap<u32, Arc<Expression>>,
    next_token: u32,
}

/// Attributes on the way to becoming CEL values.
#[derive(Default)]
struct Node {
    value: Option<Value>,
    children: HashMap<String, Node>,
}

/// An expression is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no expression in CEL, or one that could cost too much")]
pub struct ExpressionRefused;

/// What a walk over an expression finds out.
#[derive(Default)]
struct Survey {
    paths: Vec<Path>,
    depth: usize,
    loops: usize,
}

// === impl Expression ===

impl Expression {
    /// Parses a source text of at most 4 KiB; it takes a thread for a moment.
    ///
    /// # Errors
    /// It is no CEL, or could cost too much to evaluate: too deep, or loops inside loops.
    pub fn new(source: &str) -> Result<Self, ExpressionRefused> {
        Self::parse(source).0
    }

    /// Parses a source text, and tells the processor time that it took on another thread.
    ///
    /// The result is [`ExpressionRefused`] if it is no CEL, or could cost too much to evaluate.
    pub(crate) fn parse(source: &str) -> (Result<Self, ExpressionRefused>, Duration) {
        if source.len() > MAX_SOURCE_BYTES {
            return (Err(ExpressionRefused), Duration::ZERO);
        }
        let source = source.to_owned();
        let parser = std::thread::Builder::new()
            .name("cel-parser".into())
            .stack_size(PARSER_STACK_BYTES)
            .spawn(move || {
                let parsed = Self::parse_here(&source);
                (parsed, thread_time())
            });
        // A panic of the parser says as well that this is no expression.
        parser
            .ok()
            .and_then(|parser| parser.join().ok())
            .unwrap_or((Err(ExpressionRefused), PANIC_COST))
    }

    fn parse_here(source: &str) -> Result<Self, ExpressionRefused> {
        let program = Program::compile(source).map_err(|_| ExpressionRefused)?;
        let survey = Survey::of(program.expression());
        let is_cheap = survey.depth <= MAX_DEPTH && survey.loops <= MAX_LOOPS;
        is_cheap.then_some(Self { program, paths: survey.paths }).ok_or(ExpressionRefused)
    }

    /// Evaluates the expression with the attributes that `attribute` finds. `None` if it fails,
    /// because an attribute is absent for instance, or if the result has no byte form.
    pub fn evaluate(
        &self,
        attribute: impl Fn(&[&[u8]]) -> Option<PropertyValue>,
    ) -> Option<PropertyValue> {
        let mut root = Node::default();
        for path in &self.paths {
            root.insert(path, &attribute);
        }
        let mut context = Context::default();
        for (name, node) in root.children {
            context.add_variable_from_value(name, node.into_value());
        }
        from_cel(self.program.execute(&context).ok()?)
    }
}

// === impl Expressions ===

impl Expressions {
    pub(crate) fn len(&self) -> usize {
        self.by_token.len()
    }

    /// Keeps an expression; the first token is 0.
    pub(crate) fn insert(&mut self, expression: Expression) -> u32 {
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1);
        self.by_token.insert(token, Arc::new(expression));
        token
    }

    pub(crate) fn get(&self, token: u32) -> Option<Arc<Expression>> {
        self.by_token.get(&token).cloned()
    }

    pub(crate) fn remove(&mut self, token: u32) {
        self.by_token.remove(&token);
    }
}

// === impl Node ===

impl Node {
    /// Looks a path up, or as much of it as names an attribute.
    fn insert(&mut self, path: &Path, attribute: &impl Fn(&[&[u8]]) -> Option<PropertyValue>) {
        let names: Vec<&[u8]> = path.iter().map(String::as_bytes).collect();
        for len in (1..=names.len()).rev() {
            let found = names.get(..len).and_then(attribute);
            let Some(value) = found.and_then(|value| to_cel(path, value)) else { continue };
            let mut node = self;
            for name in path.iter().take(len) {
                node = node.children.entry(name.clone()).or_default();
            }
            node.value = Some(value);
            return;
        }
    }

    /// An attribute of its own counts more than what lies below it.
    fn into_value(self) -> Value {
        self.value.unwrap_or_else(|| {
            let entries = self.children.into_iter();
            let entries = entries.map(|(name, node)| (key(name), node.into_value()));
            Value::Map(Map { map: Arc::new(entries.collect()) })
        })
    }
}

// === impl Survey ===

impl Survey {
    fn of(expression: &IdedExpr) -> Self {
        let mut survey = Self::default();
        survey.visit(expression, 1, 0);
        survey
    }

    fn visit(&mut self, expression: &IdedExpr, depth: usize, loops: usize) {
        self.depth = self.depth.max(depth);
        self.loops = self.loops.max(loops);
        if depth > MAX_DEPTH {
            return;
        }
        if let Some(path) = path(&expression.expr) {
            // Evaluation recurses into each of its names.
            self.depth = self.depth.max(depth.saturating_add(path.len()));
            self.paths.push(path);
            return;
        }
        let deeper = depth.saturating_add(1);
        match &expression.expr {
            Expr::Call(call) => {
                let operands = call.target.as_deref().into_iter().chain(&call.args);
                operands.for_each(|operand| self.visit(operand, deeper, loops));
            }
            Expr::Comprehension(repeated) => {
                let inside = loops.saturating_add(1);
                self.visit(&repeated.iter_range, deeper, inside);
                for part in [
                    &repeated.accu_init,
                    &repeated.loop_cond,
                    &repeated.loop_step,
                    &repeated.result,
                ] {
                    self.visit(part, deeper, inside);
                }
            }
            Expr::List(list) => {
                list.elements.iter().for_each(|element| self.visit(element, deeper, loops));
            }
            Expr::Map(map) => self.visit_entries(&map.entries, deeper, loops),
            Expr::Struct(message) => self.visit_entries(&message.entries, deeper, loops),
            Expr::Select(select) => self.visit(&select.operand, deeper, loops),
            Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
        }
    }

    fn visit_entries(
        &mut self,
        entries: &[cel::common::ast::IdedEntryExpr],
        depth: usize,
        loops: usize,
    ) {
        for entry in entries {
            match &entry.expr {
                EntryExpr::StructField(field) => self.visit(&field.value, depth, loops),
                EntryExpr::MapEntry(entry) => {
                    self.visit(&entry.key, depth, loops);
                    self.visit(&entry.value, depth, loops);
                }
            }
        }
    }
}

/// The names of `a.b.c`, if it is nothing but that.
fn path(expression: &Expr) -> Option<Path> {
    match expression {
        Expr::Ident(name) => Some(vec![name.clone()]),
        Expr::Select(select) => {
            let mut path = path(&select.operand.expr)?;
            path.push(select.field.clone());
            Some(path)
        }
        _ => None,
    }
}

fn key(name: String) -> Key {
    Key::String(Arc::new(name))
}

/// Text where it is text; CEL's strings are UTF-8.
fn text(bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => Value::String(Arc::new(text)),
        Err(error) => Value::Bytes(Arc::new(error.into_bytes())),
    }
}

/// `None` for what is only the name of a group.
fn to_cel(path: &Path, value: PropertyValue) -> Option<Value> {
    Some(match value {
        PropertyValue::Bytes(bytes) => text(bytes),
        PropertyValue::Int(number) => Value::Int(number),
        PropertyValue::Uint(number) => Value::UInt(number),
        PropertyValue::Double(number) => Value::Float(number),
        PropertyValue::Bool(flag) => Value::Bool(flag),
        PropertyValue::Nanoseconds(nanoseconds) if path.last().is_some_and(|n| n == "time") => {
            Value::Timestamp(chrono::DateTime::from_timestamp_nanos(nanoseconds).fixed_offset())
        }
        PropertyValue::Nanoseconds(nanoseconds) => {
            Value::Duration(chrono::Duration::nanoseconds(nanoseconds))
        }
        PropertyValue::Map(entries) => {
            let entries = entries.into_iter().map(|(name, value)| {
                let name = String::from_utf8_lossy(&name).into_owned();
                (key(name), text(value))
            });
            Value::Map(Map { map: Arc::new(entries.collect()) })
        }
        PropertyValue::List(items) => Value::List(Arc::new(items.into_iter().map(text).collect())),
        PropertyValue::Namespace => return None,
    })
}

/// `None` for what has no byte form.
fn from_cel(value: Value) -> Option<PropertyValue> {
    Some(match value {
        Value::String(text) => PropertyValue::text(text.as_bytes()),
        Value::Bytes(bytes) => PropertyValue::text(&*bytes),
        Value::Int(number) => PropertyValue::Int(number),
        Value::UInt(number) => PropertyValue::Uint(number),
        Value::Float(number) => PropertyValue::Double(number),
        Value::Bool(flag) => PropertyValue::Bool(flag),
        Value::Duration(duration) => PropertyValue::Nanoseconds(duration.num_nanoseconds()?),
        Value::Timestamp(time) => PropertyValue::Nanoseconds(time.timestamp_nanos_opt()?),
        Value::List(items) => {
            let bytes =
                items.iter().cloned().map(|item| Some(from_cel(item)?.to_bytes()?.into_owned()));
            PropertyValue::List(bytes.collect::<Option<_>>()?)
        }
        Value::Map(map) => {
            let entries = map.map.iter().map(|(key, value)| {
                let name = match key {
                    Key::String(name) => name.as_bytes().to_vec(),
                    Key::Int(number) => number.to_string().into_bytes(),
                    Key::Uint(number) => number.to_string().into_bytes(),
                    Key::Bool(flag) => flag.to_string().into_bytes(),
                };
                Some((name, from_cel(value.clone())?.to_bytes()?.into_owned()))
            });
            PropertyValue::Map(entries.collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Expression, ExpressionRefused, MAX_DEPTH, MAX_SOURCE_BYTES, PropertyValue};

    fn attribute(path: &[&[u8]]) -> Option<PropertyValue> {
        Some(match path {
            [b"request", b"path"] => PropertyValue::text("/a?b=c"),
            [b"request", b"size"] => PropertyValue::Int(7),
            [b"request", b"time"] => PropertyValue::Nanoseconds(1_000_000_000),
            [b"request", b"duration"] => PropertyValue::Nanoseconds(5_000_000_000),
            [b"request", b"headers"] => PropertyValue::Map(vec![(b"x-a".to_vec(), b"1".to_vec())]),
            [b"connection", b"mtls"] => PropertyValue::Bool(false),
            [b"request"] => PropertyValue::Namespace,
            _ => return None,
        })
    }

    fn evaluate(source: &str) -> Option<PropertyValue> {
        Expression::parse(source).0.unwrap().evaluate(attribute)
    }

    #[test]
    fn attributes_have_their_types() {
        let yes = Some(PropertyValue::Bool(true));
        for source in [
            "request.path.startsWith('/a') && request.size == 7",
            "request.headers['x-a'] == '1' && size(request.headers) == 1",
            "'x-a' in request.headers && !('x-b' in request.headers)",
            "request.duration > duration('4s') && request.time < timestamp('1970-01-02T00:00:00Z')",
            "!connection.mtls && has(request.path) && !has(request.nothing)",
            "['a', 'b'].exists(x, request.path.contains(x))",
            "request.path.matches('^/[a-z]')",
        ] {
            assert_eq!(evaluate(source), yes, "{source}");
        }
        assert_eq!(evaluate("request.path + '!'"), Some(PropertyValue::text("/a?b=c!")));
        assert_eq!(evaluate("request.size * 2"), Some(PropertyValue::Int(14)));
    }

    #[test]
    fn what_is_absent_or_does_not_fit_fails() {
        for source in ["request.nothing == 'a'", "nothing", "request.path > 1", "1 / 0", "null"] {
            assert_eq!(evaluate(source), None, "{source}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for source in ["", "1 +", "((((", "request.path ==", "\0"] {
            assert_eq!(Expression::parse(source).0.err(), Some(ExpressionRefused), "{source}");
        }
    }

    #[test]
    fn what_could_cost_too_much_is_refused() {
        let long = format!("'{}'", "x".repeat(MAX_SOURCE_BYTES));
        let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
        let chain = "1+".repeat(1000) + "1";
        let parentheses = format!("{}1{}", "(".repeat(2000), ")".repeat(2000));
        let loops = "[1].map(a, [1].map(b, [1].map(c, 1)))".to_owned();
        let path = "a.".repeat(2000) + "a";
        let path_in_call = format!("size({path}) > 0");
        for source in [long, deep, chain, loops, path, path_in_call] {
            assert_eq!(Expression::parse(&source).0.err(), Some(ExpressionRefused), "{source:.40}");
        }
        // Whether it is taken or not, it must end.
        drop(Expression::parse(&parentheses));
    }

    #[test]
    fn what_is_just_cheap_enough_is_taken() {
        let long = format!("'{}'", "x".repeat(MAX_SOURCE_BYTES - 2));
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        // The number in the middle is a level too.
        let deep = nested(MAX_DEPTH - 1);
        let loops = "[1].map(a, [1].map(b, 1))".to_owned();
        for source in [long, deep, loops] {
            assert!(Expression::parse(&source).0.is_ok(), "{source:.40}");
        }
        assert!(Expression::parse(&nested(MAX_DEPTH)).0.is_err());
    }

    #[test]
    fn no_text_fills_the_stack_of_the_parser() {
        // Each byte of the longest text is one more level.
        for open in ["(", "[", "{", "!", "-"] {
            let source = open.repeat(MAX_SOURCE_BYTES);
            assert_eq!(Expression::parse(&source).0.err(), Some(ExpressionRefused), "{open}");
        }
    }
}
