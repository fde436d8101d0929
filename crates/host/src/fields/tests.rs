use super::{Fields, FieldsKind, Pseudo};
use crate::abi::Status;
use http::HeaderMap;

fn request() -> Fields {
    let mut fields = Fields::new(FieldsKind::Request);
    for (name, value) in [
        (":authority", "example.com"),
        (":path", "/a?b"),
        ("x-a", "1"),
        ("accept", "a"),
        ("x-a", "2"),
    ] {
        fields.add(name.as_bytes(), value.as_bytes()).unwrap();
    }
    fields
}

fn text(fields: &Fields) -> String {
    fields
        .iter()
        .map(|(name, value)| {
            format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn duplicates_keep_their_place() {
    assert_eq!(text(&request()), ":authority=example.com :path=/a?b x-a=1 accept=a x-a=2");
}

#[test]
fn lookup_ignores_case_and_gives_the_first_value() {
    assert_eq!(request().get(b"X-A").unwrap(), "1");
    assert_eq!(request().get(b":PATH").unwrap(), "/a?b");
    assert!(request().get(b"x-b").is_none());
}

#[test]
fn host_is_an_alias_of_authority_in_requests_only() {
    let mut fields = request();
    assert_eq!(fields.get(b"Host").unwrap(), "example.com");
    fields.replace(b"host", b"other").unwrap();
    assert_eq!(fields.pseudo(Pseudo::Authority).unwrap(), "other");
    let mut response = Fields::new(FieldsKind::Response);
    response.add(b"host", b"x").unwrap();
    assert_eq!(text(&response), "host=x");
}

#[test]
fn single_value_names_are_joined_and_others_are_not() {
    let mut fields = request();
    fields.add(b"Accept", b"b").unwrap();
    fields.add(b"cookie", b"a").unwrap();
    fields.add(b"cookie", b"b").unwrap();
    assert_eq!(
        text(&fields),
        ":authority=example.com :path=/a?b x-a=1 accept=a,b x-a=2 cookie=a cookie=b"
    );
}

#[test]
fn replace_removes_all_and_appends() {
    let mut fields = request();
    fields.replace(b"x-A", b"3").unwrap();
    fields.replace(b":authority", b"z").unwrap();
    assert_eq!(text(&fields), ":path=/a?b :authority=z accept=a x-a=3");
}

#[test]
fn remove_of_an_absent_name_is_fine() {
    let mut fields = request();
    fields.remove(b"absent");
    fields.remove(b"X-a");
    assert_eq!(text(&fields), ":authority=example.com :path=/a?b accept=a");
}

#[test]
fn invalid_names_and_values_change_nothing() {
    let mut fields = request();
    let before = text(&fields);
    assert_eq!(fields.add(b"x y", b"1"), Err(Status::BadArgument));
    assert_eq!(fields.add(b"", b"1"), Err(Status::BadArgument));
    assert_eq!(fields.add(b":unknown", b"1"), Err(Status::BadArgument));
    assert_eq!(fields.replace(b"x-a", b"a\r\nb"), Err(Status::BadArgument));
    assert_eq!(fields.set_pairs(&[(b"ok", b"1"), (b"bad", b"\0")]), Err(Status::BadArgument));
    assert_eq!(text(&fields), before);
}

#[test]
fn set_pairs_replaces_everything() {
    let mut fields = request();
    fields.set_pairs(&[(b"te", b"a"), (b"te", b"b"), (b":path", b"/")]).unwrap();
    assert_eq!(text(&fields), ":path=/ te=a,b");
    fields.set_pairs(&[]).unwrap();
    assert!(fields.is_empty());
}

#[test]
fn byte_size_counts_names_and_values() {
    assert_eq!(request().byte_size(), 21 + 9 + 4 + 7 + 4);
}

#[test]
fn an_http_map_survives_the_round_trip() {
    let mut map = HeaderMap::new();
    map.append("a", "1".parse().unwrap());
    map.append("b", "2".parse().unwrap());
    map.append("a", "3".parse().unwrap());
    let fields = Fields::from_header_map(FieldsKind::Response, map.clone());
    assert_eq!(fields.len(), 3);
    assert_eq!(fields.into_header_map(), map);
}

#[test]
fn the_first_value_of_a_name_can_be_replaced_alone() {
    let set = |name: &'static str| {
        let mut fields = request();
        fields.set_first(&http::HeaderName::from_static(name), "3".parse().unwrap());
        text(&fields)
    };
    assert_eq!(set("x-a"), ":authority=example.com :path=/a?b x-a=3 accept=a x-a=2");
    assert_eq!(set("x-b"), text(&request()));
}

#[test]
fn setting_a_name_leaves_one_value_in_its_first_place() {
    let set = |name: &'static str| {
        let mut fields = request();
        fields.set_name(http::HeaderName::from_static(name), "3".parse().unwrap());
        text(&fields)
    };
    assert_eq!(set("x-a"), ":authority=example.com :path=/a?b x-a=3 accept=a");
    assert_eq!(set("x-b"), ":authority=example.com :path=/a?b x-a=1 accept=a x-a=2 x-b=3");
}
