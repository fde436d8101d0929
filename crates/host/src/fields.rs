//! HTTP headers and trailers as plugins see them: one ordered list, duplicates in place.
//!
//! Pseudo-headers (`:path`, `:status`, …) stand before the regular ones. Names and values are the
//! validated types of the `http` crate, so that moving a map from and to an HTTP library copies
//! nothing and no invalid byte can reach the wire.
//!
//! Source: Envoy's header map; `docs/compatibility.md` lists where this one differs.

mod convert;
mod inline;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::abi::Status;

pub use self::inline::FieldsKind;

/// A pseudo-header of HTTP/2, which plugins see for HTTP/1 as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pseudo {
    /// `:authority`, in HTTP/1 the `host` header.
    Authority,
    /// `:path` with the query.
    Path,
    /// `:method`.
    Method,
    /// `:scheme`.
    Scheme,
    /// `:protocol` of an extended CONNECT.
    Protocol,
    /// `:status` of a response.
    Status,
}

/// An ordered map of headers or trailers.
///
/// It is moved from filter to filter, so all entries lie in one list and the value itself is small.
#[derive(Clone, Debug)]
pub struct Fields {
    /// Pseudo-headers, then regular ones.
    entries: Vec<(Name, HeaderValue)>,
    pseudo: u8,
    kind: FieldsKind,
}

/// Name of one entry.
#[derive(Clone, Debug)]
enum Name {
    Pseudo(Pseudo),
    /// With its length: to be told apart, most names need not be looked at.
    Regular(HeaderName, u16),
}

/// Where an entry stands; valid until the map is changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FieldIndex(usize);

/// A name given by a plugin.
enum Key<'a> {
    Pseudo(Pseudo),
    Regular(&'a [u8]),
}

/// Room for entries that plugins and the proxy add.
const SPARE: usize = 8;

// === impl Pseudo ===

impl Pseudo {
    /// The name on the wire, colon included.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authority => ":authority",
            Self::Path => ":path",
            Self::Method => ":method",
            Self::Scheme => ":scheme",
            Self::Protocol => ":protocol",
            Self::Status => ":status",
        }
    }

    fn from_bytes(name: &[u8]) -> Option<Self> {
        [Self::Path, Self::Method, Self::Authority, Self::Status, Self::Scheme, Self::Protocol]
            .into_iter()
            .find(|pseudo| name.eq_ignore_ascii_case(pseudo.as_str().as_bytes()))
    }
}

// === impl Name ===

impl Name {
    fn as_str(&self) -> &str {
        match self {
            Self::Pseudo(pseudo) => pseudo.as_str(),
            Self::Regular(name, _) => name.as_str(),
        }
    }

    fn is(&self, name: &HeaderName) -> bool {
        matches!(self, Self::Regular(present, _) if present == name)
    }

    /// Whether it is this regular name, without regard to case.
    #[inline]
    fn is_like(&self, name: &[u8]) -> bool {
        match self {
            Self::Regular(present, len) => {
                usize::from(*len) == name.len() && is_like(present, name)
            }
            Self::Pseudo(_) => false,
        }
    }
}

impl From<HeaderName> for Name {
    fn from(name: HeaderName) -> Self {
        // The `http` crate lets no name be longer than that.
        let len = u16::try_from(name.as_str().len()).unwrap_or(u16::MAX);
        Self::Regular(name, len)
    }
}

// === impl Fields ===

impl Fields {
    /// An empty map of the given kind.
    pub fn new(kind: FieldsKind) -> Self {
        Self { kind, pseudo: 0, entries: Vec::new() }
    }

    /// Takes over the entries of an `http` map, in its order; repeated names that hold a single
    /// value are joined with a comma, as Envoy does on arrival.
    pub fn from_header_map(kind: FieldsKind, map: HeaderMap) -> Self {
        let mut fields = Self::with_room(kind, map.len());
        fields.extend(map, |_| true);
        fields
    }

    /// An empty map with room for so many regular entries, and some more.
    fn with_room(kind: FieldsKind, entries: usize) -> Self {
        Self { kind, pseudo: 0, entries: Vec::with_capacity(entries.saturating_add(SPARE)) }
    }

    /// Takes over those entries of an `http` map whose name passes.
    fn extend(&mut self, map: HeaderMap, mut keep: impl FnMut(&HeaderName) -> bool) {
        let mut is_kept = false;
        for (name, value) in map {
            match name {
                Some(name) => {
                    is_kept = keep(&name);
                    if is_kept {
                        self.entries.push((name.into(), value));
                    }
                }
                // Without a name it is one more value of the entry before.
                None if is_kept => self.push_repeated(value),
                None => {}
            }
        }
    }

    /// Adds one more value of the last entry's name.
    fn push_repeated(&mut self, value: HeaderValue) {
        let Some((Name::Regular(name, _), present)) = self.entries.last_mut() else { return };
        if self.kind.holds_single_value(name)
            && let Ok(joined) = join(present, &value)
        {
            *present = joined;
            return;
        }
        let name = name.clone();
        self.entries.push((name.into(), value));
    }

    /// Keeps only the regular entries whose name passes, in order.
    pub fn retain(&mut self, mut keep: impl FnMut(&HeaderName) -> bool) {
        self.entries.retain(|(name, _)| match name {
            Name::Pseudo(_) => true,
            Name::Regular(name, _) => keep(name),
        });
    }

    /// Removes every regular entry of this name and returns the first value.
    pub fn take_name(&mut self, name: &HeaderName) -> Option<HeaderValue> {
        let at = self.entries.iter().position(|(present, _)| present.is(name))?;
        let (_, value) = self.entries.remove(at);
        self.remove_name(name);
        Some(value)
    }

    /// Gives the regular entries back as an `http` map, which groups duplicates.
    pub fn into_header_map(self) -> HeaderMap {
        // With room for what is added to every message.
        let mut map = HeaderMap::with_capacity(self.entries.len().saturating_add(2));
        for (name, value) in self.into_regular() {
            map.append(name, value);
        }
        map
    }

    /// Takes the regular entries out, in order.
    pub fn into_regular(self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.entries.into_iter().filter_map(|(name, value)| match name {
            Name::Pseudo(_) => None,
            Name::Regular(name, _) => Some((name, value)),
        })
    }

    /// Sets a pseudo-header, in place if it is there.
    pub fn set_pseudo(&mut self, pseudo: Pseudo, value: HeaderValue) {
        match self.pseudo_index(pseudo).and_then(|at| self.entries.get_mut(at)) {
            Some((_, present)) => *present = value,
            None => self.push_pseudo(pseudo, value),
        }
    }

    /// Adds a pseudo-header that is not there, behind those that are.
    fn push_pseudo(&mut self, pseudo: Pseudo, value: HeaderValue) {
        let at = usize::from(self.pseudo);
        self.entries.insert(at, (Name::Pseudo(pseudo), value));
        // There are six of them, and none twice.
        self.pseudo = self.pseudo.saturating_add(1);
    }

    fn pseudo_index(&self, pseudo: Pseudo) -> Option<usize> {
        let front = self.entries.iter().take(usize::from(self.pseudo));
        front
            .into_iter()
            .position(|(name, _)| matches!(name, Name::Pseudo(present) if *present == pseudo))
    }

    /// The value of a pseudo-header.
    pub fn pseudo(&self, pseudo: Pseudo) -> Option<&HeaderValue> {
        self.entries.get(self.pseudo_index(pseudo)?).map(|(_, value)| value)
    }

    /// Removes and returns a pseudo-header.
    pub fn take_pseudo(&mut self, pseudo: Pseudo) -> Option<HeaderValue> {
        let at = self.pseudo_index(pseudo)?;
        self.pseudo = self.pseudo.saturating_sub(1);
        Some(self.entries.remove(at).1)
    }

    /// Appends a regular entry as it is, without joining.
    pub fn push(&mut self, name: HeaderName, value: HeaderValue) {
        self.entries.push((name.into(), value));
    }

    /// Gives a name one value: in the place of its first one, or at the end.
    pub fn set_name(&mut self, name: HeaderName, value: HeaderValue) {
        let Some(first) = self.entries.iter().position(|(present, _)| present.is(&name)) else {
            self.push(name, value);
            return;
        };
        let mut at = 0;
        self.entries.retain(|(present, _)| {
            let is_kept = !present.is(&name) || at == first;
            at += 1;
            is_kept
        });
        if let Some((_, present)) = self.entries.get_mut(first) {
            *present = value;
        }
    }

    /// Replaces the first value of a name; nothing happens if there is none.
    pub fn set_first(&mut self, name: &HeaderName, value: HeaderValue) {
        if let Some((_, present)) = self.entries.iter_mut().find(|(present, _)| present.is(name)) {
            *present = value;
        }
    }

    /// The first regular entry of this name.
    pub fn get_name(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.entries.iter().find(|(present, _)| present.is(name)).map(|(_, value)| value)
    }

    /// Removes every regular entry of this name; says whether there was one.
    pub fn remove_name(&mut self, name: &HeaderName) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(present, _)| !present.is(name));
        self.entries.len() != before
    }

    /// The first value of a name, looked up without regard to case.
    pub fn get(&self, name: &[u8]) -> Option<&HeaderValue> {
        self.find(name).and_then(|index| self.value_at(index))
    }

    /// Appends an entry; names that hold a single value are joined with a comma instead.
    ///
    /// # Errors
    /// [`Status::BadArgument`] if the name or the value is not valid in HTTP.
    pub fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), Status> {
        let value = parse_value(value)?;
        match self.key(name) {
            Key::Pseudo(pseudo) => {
                let joined = match self.pseudo(pseudo) {
                    Some(present) => join(present, &value)?,
                    None => value,
                };
                self.set_pseudo(pseudo, joined);
            }
            Key::Regular(name) => {
                let name = parse_name(name)?;
                let present = if self.kind.holds_single_value(&name) {
                    self.entries.iter_mut().find(|(present, _)| present.is(&name))
                } else {
                    None
                };
                match present {
                    Some((_, present)) => *present = join(present, &value)?,
                    None => self.push(name, value),
                }
            }
        }
        Ok(())
    }

    /// Removes all entries of a name and appends one at the end of its section.
    ///
    /// # Errors
    /// [`Status::BadArgument`] if the name or the value is not valid in HTTP; nothing is changed.
    pub fn replace(&mut self, name: &[u8], value: &[u8]) -> Result<(), Status> {
        let value = parse_value(value)?;
        match self.key(name) {
            Key::Pseudo(pseudo) => {
                self.take_pseudo(pseudo);
                self.push_pseudo(pseudo, value);
            }
            Key::Regular(name) => match self.find_regular(name) {
                Some(first) => self.replace_from(first, value),
                None => self.push(parse_name(name)?, value),
            },
        }
        Ok(())
    }

    /// Moves the entry at `first` to the end with another value, and removes later ones of its
    /// name, which is known to be valid and need not be read again.
    fn replace_from(&mut self, first: usize, value: HeaderValue) {
        let Some(entries) = self.entries.get_mut(first..) else { return };
        entries.rotate_left(1);
        let Some(((name, present), later)) = entries.split_last_mut() else { return };
        *present = value;
        let Name::Regular(name, _) = name else { return };
        if later.iter().any(|(other, _)| other.is(name)) {
            let (name, last) = (name.clone(), self.entries.len().saturating_sub(1));
            let mut at = 0;
            self.entries.retain(|(other, _)| {
                let is_kept = at == last || !other.is(&name);
                at += 1;
                is_kept
            });
        }
    }

    /// Removes all entries of a name; nothing happens if there is none.
    pub fn remove(&mut self, name: &[u8]) {
        match self.key(name) {
            Key::Pseudo(pseudo) => {
                self.take_pseudo(pseudo);
            }
            Key::Regular(name) => self.entries.retain(|(present, _)| !present.is_like(name)),
        }
    }

    /// Replaces the whole content by these pairs, each added as [`Fields::add`] does.
    ///
    /// # Errors
    /// [`Status::BadArgument`] if a pair is not valid in HTTP; nothing is changed.
    pub fn set_pairs(&mut self, pairs: &[(&[u8], &[u8])]) -> Result<(), Status> {
        let mut fresh = Self::new(self.kind);
        for (name, value) in pairs {
            fresh.add(name, value)?;
        }
        *self = fresh;
        Ok(())
    }

    /// All entries in order, pseudo-headers first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + Clone {
        self.entries.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
    }

    /// Number of entries, pseudo-headers included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sum of the lengths of names and values, without separators.
    ///
    /// Source: Envoy answers `proxy_get_header_map_size` with this, not with a count.
    pub fn byte_size(&self) -> usize {
        self.iter().fold(0, |sum: usize, (name, value)| {
            sum.saturating_add(name.len()).saturating_add(value.len())
        })
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<FieldIndex> {
        let at = match self.key(name) {
            Key::Pseudo(pseudo) => self.pseudo_index(pseudo)?,
            Key::Regular(name) => self.find_regular(name)?,
        };
        Some(FieldIndex(at))
    }

    /// Place of the first regular entry of this name, without regard to case.
    fn find_regular(&self, name: &[u8]) -> Option<usize> {
        let front = usize::from(self.pseudo);
        let at =
            self.entries.get(front..)?.iter().position(|(present, _)| present.is_like(name))?;
        at.checked_add(front)
    }

    pub(crate) fn value_at(&self, index: FieldIndex) -> Option<&HeaderValue> {
        self.entries.get(index.0).map(|(_, value)| value)
    }

    fn key<'a>(&self, name: &'a [u8]) -> Key<'a> {
        if name.first() == Some(&b':')
            && let Some(pseudo) = Pseudo::from_bytes(name)
        {
            return Key::Pseudo(pseudo);
        }
        if self.kind == FieldsKind::Request && name.eq_ignore_ascii_case(b"host") {
            return Key::Pseudo(Pseudo::Authority);
        }
        Key::Regular(name)
    }
}

/// Whether both are the same without regard to case; most that are, are so to the byte.
fn is_like(present: &HeaderName, name: &[u8]) -> bool {
    let present = present.as_str().as_bytes();
    present == name || present.eq_ignore_ascii_case(name)
}

/// Reads a header name; upper case becomes lower case.
fn parse_name(name: &[u8]) -> Result<HeaderName, Status> {
    HeaderName::from_bytes(name).map_err(|_| Status::BadArgument)
}

fn parse_value(value: &[u8]) -> Result<HeaderValue, Status> {
    HeaderValue::from_bytes(value).map_err(|_| Status::BadArgument)
}

fn join(present: &HeaderValue, value: &HeaderValue) -> Result<HeaderValue, Status> {
    parse_value(&[present.as_bytes(), b",", value.as_bytes()].concat())
}

#[cfg(test)]
mod tests;
