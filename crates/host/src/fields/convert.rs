//! Header maps from and to the heads of the `http` crate.

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, request, response};

use super::{Fields, FieldsKind, Pseudo};

// === impl Fields ===

impl Fields {
    /// What a plugin sees of a request's head. `host` becomes `:authority`.
    pub fn from_request(head: &request::Parts) -> Self {
        let scheme = head.uri.scheme_str().unwrap_or("http");
        let scheme = HeaderValue::from_str(scheme).ok();
        let headers = head.headers.clone();
        Self::from_request_head(&head.method, &head.uri, scheme, headers)
    }

    /// The same of its parts; the headers are moved.
    pub fn from_request_head(
        method: &Method,
        uri: &Uri,
        scheme: Option<HeaderValue>,
        headers: HeaderMap,
    ) -> Self {
        let host = headers.get(HOST).cloned();
        let authority = match uri.authority() {
            Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
            None => host,
        };
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let mut fields = Self::with_room(FieldsKind::Request, headers.len());
        let pseudo = [
            (Pseudo::Authority, authority),
            (Pseudo::Path, HeaderValue::from_str(path).ok()),
            (Pseudo::Method, method_value(method)),
            (Pseudo::Scheme, scheme),
        ];
        for (name, value) in pseudo {
            if let Some(value) = value {
                fields.push_pseudo(name, value);
            }
        }
        fields.extend(headers, |name| *name != HOST);
        fields
    }

    /// Makes a request's head what a plugin left of it.
    ///
    /// # Errors
    /// The pseudo-header that is missing or not valid.
    pub fn write_to_request(mut self, head: &mut request::Parts) -> Result<(), &'static str> {
        let method = self.take_pseudo(Pseudo::Method);
        let method = method.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
        head.method = method.ok_or(":method")?;
        let path = self.take_pseudo(Pseudo::Path);
        let path = path.and_then(|path| Uri::try_from(path.as_bytes()).ok());
        head.uri = path.ok_or(":path")?;
        let authority = self.take_pseudo(Pseudo::Authority);
        head.headers = self.into_header_map();
        if let Some(authority) = authority {
            head.headers.insert(HOST, authority);
        }
        Ok(())
    }

    /// What a plugin sees of a response's head.
    pub fn from_response(head: &response::Parts) -> Self {
        Self::from_response_head(head.status, head.headers.clone(), |_| true)
    }

    /// The same of its parts, with the headers whose name passes; they are moved.
    pub fn from_response_head(
        status: StatusCode,
        headers: HeaderMap,
        keep: impl FnMut(&HeaderName) -> bool,
    ) -> Self {
        let mut fields = Self::with_room(FieldsKind::Response, headers.len());
        fields.push_pseudo(Pseudo::Status, status_value(status));
        fields.extend(headers, keep);
        fields
    }

    /// Makes a response's head what a plugin left of it.
    ///
    /// # Errors
    /// The pseudo-header that is missing or not valid.
    pub fn write_to_response(mut self, head: &mut response::Parts) -> Result<(), &'static str> {
        let status = self.take_pseudo(Pseudo::Status);
        let status = status.and_then(|status| StatusCode::from_bytes(status.as_bytes()).ok());
        head.status = status.ok_or(":status")?;
        head.headers = self.into_header_map();
        Ok(())
    }
}

/// A status as a header value; the frequent ones cost no allocation.
fn status_value(status: StatusCode) -> HeaderValue {
    match status.as_u16() {
        200 => HeaderValue::from_static("200"),
        204 => HeaderValue::from_static("204"),
        302 => HeaderValue::from_static("302"),
        304 => HeaderValue::from_static("304"),
        400 => HeaderValue::from_static("400"),
        401 => HeaderValue::from_static("401"),
        403 => HeaderValue::from_static("403"),
        404 => HeaderValue::from_static("404"),
        500 => HeaderValue::from_static("500"),
        502 => HeaderValue::from_static("502"),
        503 => HeaderValue::from_static("503"),
        other => HeaderValue::from(other),
    }
}

/// A method as a header value; the frequent ones cost no allocation.
fn method_value(method: &Method) -> Option<HeaderValue> {
    let known = [Method::GET, Method::POST, Method::HEAD, Method::PUT, Method::DELETE];
    let texts = ["GET", "POST", "HEAD", "PUT", "DELETE"];
    match known.iter().zip(texts).find(|(known, _)| *known == method) {
        Some((_, text)) => Some(HeaderValue::from_static(text)),
        None => HeaderValue::from_str(method.as_str()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Fields, Pseudo};
    use http::{HeaderValue, Request, Response};

    #[test]
    fn a_request_goes_there_and_back() {
        let request =
            Request::post("/a?b").header("host", "c.d").header("x", "1").body(()).unwrap();
        let (mut head, ()) = request.into_parts();
        let mut fields = Fields::from_request(&head);
        let names: Vec<_> = fields.iter().map(|(name, _)| name.to_vec()).collect();
        assert!(names.contains(&b":authority".to_vec()) && !names.contains(&b"host".to_vec()));
        fields.set_pseudo(Pseudo::Path, HeaderValue::from_static("/new"));
        fields.write_to_request(&mut head).unwrap();
        assert_eq!((head.uri.path(), &head.headers["host"]), ("/new", &"c.d".parse().unwrap()));
    }

    #[test]
    fn what_a_plugin_broke_is_named() {
        let (mut head, ()) = Request::new(()).into_parts();
        let mut fields = Fields::from_request(&head);
        fields.take_pseudo(Pseudo::Path);
        assert_eq!(fields.write_to_request(&mut head), Err(":path"));
        let (mut head, ()) = Response::new(()).into_parts();
        let mut fields = Fields::from_response(&head);
        fields.set_pseudo(Pseudo::Status, HeaderValue::from_static("x"));
        assert_eq!(fields.write_to_response(&mut head), Err(":status"));
    }
}
