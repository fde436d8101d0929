//! Header maps from and to the heads of the `http` crate.

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Uri, request, response};

use super::{Fields, FieldsKind, Pseudo};

// === impl Fields ===

impl Fields {
    /// What a plugin sees of a request's head. `host` becomes `:authority`.
    pub fn from_request(head: &request::Parts) -> Self {
        let mut fields = Self::from_header_map(FieldsKind::Request, head.headers.clone());
        let host = fields.take_name(&HOST);
        let authority = match head.uri.authority() {
            Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
            None => host,
        };
        let path = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let scheme = head.uri.scheme_str().unwrap_or("http");
        let pseudo = [
            (Pseudo::Authority, authority),
            (Pseudo::Path, HeaderValue::from_str(path).ok()),
            (Pseudo::Method, HeaderValue::from_str(head.method.as_str()).ok()),
            (Pseudo::Scheme, HeaderValue::from_str(scheme).ok()),
        ];
        for (name, value) in pseudo {
            if let Some(value) = value {
                fields.set_pseudo(name, value);
            }
        }
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
        let mut fields = Self::from_header_map(FieldsKind::Response, head.headers.clone());
        fields.set_pseudo(Pseudo::Status, HeaderValue::from(head.status.as_u16()));
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
