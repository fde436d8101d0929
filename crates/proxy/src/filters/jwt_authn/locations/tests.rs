use http::HeaderValue;
use wasmplug_api::{JwtHeader, JwtRule};
use wasmplug_host::{Fields, FieldsKind, Pseudo};

use super::Locations;

fn request(path: &'static str, headers: &[(&str, &str)]) -> Fields {
    let mut fields = Fields::new(FieldsKind::Request);
    fields.set_pseudo(Pseudo::Path, HeaderValue::from_static(path));
    for (name, value) in headers {
        fields.add(name.as_bytes(), value.as_bytes()).unwrap();
    }
    fields
}

fn header(name: &str, prefix: &str) -> JwtHeader {
    JwtHeader { name: name.into(), prefix: prefix.into() }
}

fn rule(headers: &[(&str, &str)], parameters: &[&str], cookies: &[&str]) -> JwtRule {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    JwtRule {
        from_headers: headers.iter().map(|(name, prefix)| header(name, prefix)).collect(),
        from_params: texts(parameters),
        from_cookies: texts(cookies),
        ..JwtRule::default()
    }
}

fn tokens(rule: &JwtRule, request: &Fields) -> Vec<String> {
    let locations = Locations::new(rule);
    let found = locations.find(request).into_iter();
    found.map(|found| String::from_utf8(found.token).unwrap()).collect()
}

fn path(fields: &Fields) -> &str {
    fields.pseudo(Pseudo::Path).unwrap().to_str().unwrap()
}

#[test]
fn without_locations_the_usual_ones_are_looked_at() {
    let rule = JwtRule::default();
    let both = request("/?access_token=b", &[("authorization", "Bearer a"), ("x", "c")]);
    assert_eq!(tokens(&rule, &both), ["a", "b"]);
    let none = request("/", &[("authorization", "Basic a"), ("cookie", "access_token=b")]);
    assert!(tokens(&rule, &none).is_empty());
    let own = self::rule(&[("x", "")], &[], &[]);
    assert_eq!(tokens(&own, &both), ["c"]);
}

#[test]
fn prefixes_are_searched_for() {
    let rule = rule(&[("A", "Tok ")], &[], &[]);
    let rows: [(&str, &[&str]); 8] = [
        ("Tok abc", &["abc"]),
        ("x Tok !! abc", &["abc"]),
        ("Tok a b", &["a b"]),
        ("Tok a,Tok b", &["a,Tok b"]),
        ("Tok !!", &["Tok !!"]),
        ("tok abc", &[]),
        ("Tok", &[]),
        ("abc", &[]),
    ];
    for (value, expected) in rows {
        assert_eq!(tokens(&rule, &request("/", &[("a", value)])), expected, "{value}");
    }
}

#[test]
fn every_value_of_a_header_is_a_token() {
    let rule = rule(&[("x-b", ""), ("x-a", "P "), ("X-A", "P ")], &[], &[]);
    let request = request("/", &[("x-b", "1"), ("x-a", "P 2"), ("x-b", ""), ("x-a", "3")]);
    assert_eq!(tokens(&rule, &request), ["2", "1", ""]);
}

#[test]
fn of_a_parameter_the_first_one_counts() {
    let rule = rule(&[], &["t", "s"], &[]);
    let rows: [(&'static str, &[&str]); 8] = [
        ("/?t=a", &["a"]),
        ("/?x=1&t=a&t=b&s=c", &["c", "a"]),
        ("/?%74=a%2Eb%2e", &["a.b."]),
        ("/?t=a=b", &["a=b"]),
        ("/?t=%zz%4", &["%zz%4"]),
        ("/?t", &[""]),
        ("/?t=", &[""]),
        ("/t=a", &[]),
    ];
    for (path, expected) in rows {
        assert_eq!(tokens(&rule, &request(path, &[])), expected, "{path}");
    }
}

#[test]
fn of_a_cookie_the_first_one_counts() {
    let rule = rule(&[], &[], &["k"]);
    let rows: [(&str, &[&str]); 8] = [
        ("k=a", &["a"]),
        ("z=1;  k=a; k=b", &["a"]),
        ("k=\"a\"", &["a"]),
        ("k=\"", &["\""]),
        ("k=", &[""]),
        ("k =a", &[]),
        ("kk=a; k", &[]),
        ("k=a ;z=1", &["a "]),
    ];
    for (value, expected) in rows {
        assert_eq!(tokens(&rule, &request("/", &[("cookie", value)])), expected, "{value}");
    }
    let two = request("/", &[("cookie", "a=b"), ("cookie", "k=c")]);
    assert_eq!(tokens(&rule, &two), ["c"]);
}

#[test]
fn headers_and_parameters_are_taken_out_and_cookies_stay() {
    let rule = rule(&[("x-t", "")], &["t"], &["k"]);
    let mut request =
        request("/p?b=%26&t=T&a=1&%74=x&c", &[("x-t", "1"), ("cookie", "k=2"), ("x-t", "3")]);
    let locations = Locations::new(&rule);
    for found in locations.find(&request) {
        found.remove(&mut request);
    }
    assert_eq!(path(&request), "/p?b=%26&a=1&c");
    assert!(request.get(b"x-t").is_none());
    assert_eq!(request.get(b"cookie").unwrap(), "k=2");
}

#[test]
fn a_query_of_nothing_but_the_token_goes_as_a_whole() {
    let rule = rule(&[], &["t"], &[]);
    let mut request = request("/p?t=T", &[]);
    let locations = Locations::new(&rule);
    locations.find(&request).iter().for_each(|found| found.remove(&mut request));
    assert_eq!(path(&request), "/p");
}
