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
use smallvec::SmallVec;

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
#[derive(Clone, Debug)]
pub struct Fields {
    kind: FieldsKind,
    pseudo: SmallVec<[(Pseudo, HeaderValue); 4]>,
    regular: Vec<(HeaderName, HeaderValue)>,
}

/// Where an entry stands; valid until the map is changed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FieldIndex {
    Pseudo(usize),
    Regular(usize),
}

/// A name given by a plugin.
enum Key<'a> {
    Pseudo(Pseudo),
    Regular(&'a [u8]),
}

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

// === impl Fields ===

impl Fields {
    /// An empty map of the given kind.
    pub fn new(kind: FieldsKind) -> Self {
        Self { kind, pseudo: SmallVec::new(), regular: Vec::new() }
    }

    /// Takes over the entries of an `http` map, in its order; repeated names that hold a single
    /// value are joined with a comma, as Envoy does on arrival.
    pub fn from_header_map(kind: FieldsKind, map: HeaderMap) -> Self {
        let mut regular: Vec<(HeaderName, HeaderValue)> =
            Vec::with_capacity(map.len().saturating_add(8));
        for (name, value) in map {
            // Without a name it is one more value of the entry before.
            let repeated = if name.is_none() { regular.last_mut() } else { None };
            let name = match (name, repeated) {
                (Some(name), _) => name,
                (None, Some((name, present))) => {
                    if kind.holds_single_value(name)
                        && let Ok(joined) = join(present, &value)
                    {
                        *present = joined;
                        continue;
                    }
                    name.clone()
                }
                (None, None) => continue,
            };
            regular.push((name, value));
        }
        Self { kind, pseudo: SmallVec::new(), regular }
    }

    /// Keeps only the regular entries whose name passes, in order.
    pub fn retain(&mut self, mut keep: impl FnMut(&HeaderName) -> bool) {
        self.regular.retain(|(name, _)| keep(name));
    }

    /// Removes every regular entry of this name and returns the first value.
    pub fn take_name(&mut self, name: &HeaderName) -> Option<HeaderValue> {
        let value = self.get_name(name).cloned();
        if value.is_some() {
            self.remove_name(name);
        }
        value
    }

    /// Gives the regular entries back as an `http` map, which groups duplicates.
    pub fn into_header_map(self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.regular.len());
        for (name, value) in self.regular {
            map.append(name, value);
        }
        map
    }

    /// Takes the regular entries out, in order.
    pub fn into_regular(self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.regular.into_iter()
    }

    /// Sets a pseudo-header, in place if it is there.
    pub fn set_pseudo(&mut self, pseudo: Pseudo, value: HeaderValue) {
        match self.pseudo.iter_mut().find(|(present, _)| *present == pseudo) {
            Some((_, present)) => *present = value,
            None => self.pseudo.push((pseudo, value)),
        }
    }

    /// The value of a pseudo-header.
    pub fn pseudo(&self, pseudo: Pseudo) -> Option<&HeaderValue> {
        self.pseudo.iter().find(|(present, _)| *present == pseudo).map(|(_, value)| value)
    }

    /// Removes and returns a pseudo-header.
    pub fn take_pseudo(&mut self, pseudo: Pseudo) -> Option<HeaderValue> {
        let at = self.pseudo.iter().position(|(present, _)| *present == pseudo)?;
        Some(self.pseudo.remove(at).1)
    }

    /// Appends a regular entry as it is, without joining.
    pub fn push(&mut self, name: HeaderName, value: HeaderValue) {
        self.regular.push((name, value));
    }

    /// Gives a name one value: in the place of its first one, or at the end.
    pub fn set_name(&mut self, name: HeaderName, value: HeaderValue) {
        let Some(first) = self.regular.iter().position(|(present, _)| *present == name) else {
            self.regular.push((name, value));
            return;
        };
        let mut at = 0;
        self.regular.retain(|(present, _)| {
            let is_kept = *present != name || at == first;
            at += 1;
            is_kept
        });
        if let Some((_, present)) = self.regular.get_mut(first) {
            *present = value;
        }
    }

    /// Replaces the first value of a name; nothing happens if there is none.
    pub fn set_first(&mut self, name: &HeaderName, value: HeaderValue) {
        if let Some((_, present)) = self.regular.iter_mut().find(|(present, _)| present == name) {
            *present = value;
        }
    }

    /// The first regular entry of this name.
    pub fn get_name(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.regular.iter().find(|(present, _)| present == name).map(|(_, value)| value)
    }

    /// Removes every regular entry of this name; says whether there was one.
    pub fn remove_name(&mut self, name: &HeaderName) -> bool {
        let before = self.regular.len();
        self.regular.retain(|(present, _)| present != name);
        self.regular.len() != before
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
                    self.regular.iter_mut().find(|(present, _)| *present == name)
                } else {
                    None
                };
                match present {
                    Some((_, present)) => *present = join(present, &value)?,
                    None => self.regular.push((name, value)),
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
                self.pseudo.push((pseudo, value));
            }
            Key::Regular(name) => {
                let name = parse_name(name)?;
                self.remove_name(&name);
                self.regular.push((name, value));
            }
        }
        Ok(())
    }

    /// Removes all entries of a name; nothing happens if there is none.
    pub fn remove(&mut self, name: &[u8]) {
        match self.key(name) {
            Key::Pseudo(pseudo) => {
                self.take_pseudo(pseudo);
            }
            Key::Regular(name) => self
                .regular
                .retain(|(present, _)| !name.eq_ignore_ascii_case(present.as_str().as_bytes())),
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
        Entries { fields: self, next: 0 }
    }

    /// Number of entries, pseudo-headers included.
    pub fn len(&self) -> usize {
        self.pseudo.len().saturating_add(self.regular.len())
    }

    /// Whether there is no entry at all.
    pub fn is_empty(&self) -> bool {
        self.pseudo.is_empty() && self.regular.is_empty()
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
        match self.key(name) {
            Key::Pseudo(pseudo) => self
                .pseudo
                .iter()
                .position(|(present, _)| *present == pseudo)
                .map(FieldIndex::Pseudo),
            Key::Regular(name) => self
                .regular
                .iter()
                .position(|(present, _)| name.eq_ignore_ascii_case(present.as_str().as_bytes()))
                .map(FieldIndex::Regular),
        }
    }

    pub(crate) fn value_at(&self, index: FieldIndex) -> Option<&HeaderValue> {
        match index {
            FieldIndex::Pseudo(at) => self.pseudo.get(at).map(|(_, value)| value),
            FieldIndex::Regular(at) => self.regular.get(at).map(|(_, value)| value),
        }
    }

    fn entry(&self, at: usize) -> Option<(&[u8], &[u8])> {
        match self.pseudo.get(at) {
            Some((pseudo, value)) => Some((pseudo.as_str().as_bytes(), value.as_bytes())),
            None => {
                let (name, value) = self.regular.get(at.checked_sub(self.pseudo.len())?)?;
                Some((name.as_str().as_bytes(), value.as_bytes()))
            }
        }
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

#[derive(Clone)]
struct Entries<'a> {
    fields: &'a Fields,
    next: usize,
}

// === impl Entries ===

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.fields.entry(self.next)?;
        self.next = self.next.saturating_add(1);
        Some(entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.fields.len().saturating_sub(self.next);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Entries<'_> {}

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
