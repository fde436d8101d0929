use serde_json::json;
use wasmplug_testkit::jwt::encode;

use super::{MAX_BYTES, Status, Token};

const HEADER: &str = r#"{"alg":"HS256"}"#;

fn parse(header: &str, payload: &str, signature: &str) -> Result<Token, Status> {
    Token::parse(format!("{}.{}.{signature}", encode(header), encode(payload)).as_bytes())
}

fn refusal(header: &str, payload: &str) -> Option<Status> {
    parse(header, payload, "c2ln").err()
}

#[test]
fn a_token_is_taken_apart() {
    let header = r#"{"alg":"ES256","kid":"k"}"#;
    let payload = r#"{"iss":"i","aud":["a","b"],"nbf":10.9,"exp":20,"x":1}"#;
    let token = parse(header, payload, "c2ln").unwrap_or_else(|status| panic!("{status:?}"));
    assert_eq!((token.kid.as_str(), token.issuer.as_str()), ("k", "i"));
    assert_eq!(token.audiences, ["a", "b"]);
    assert_eq!((token.not_before, token.expires), (10, 20));
    assert_eq!(token.signature, b"sig");
    assert_eq!(token.payload(), encode(payload).as_bytes());
    assert_eq!(token.signed(), format!("{}.{}", encode(header), encode(payload)).as_bytes());
    assert_eq!(token.claims["x"], json!(1));
}

#[test]
fn a_token_has_three_parts() {
    for text in ["", "a", "a.b", "a.b.c.d", ".b.c", "..", "a b"] {
        assert_eq!(Token::parse(text.as_bytes()).err(), Some(Status::BadFormat), "{text}");
    }
    let doubled = format!("{}..{}..c2ln.", encode(HEADER), encode("{}"));
    assert!(Token::parse(doubled.as_bytes()).is_ok());
}

#[test]
fn every_part_is_base64url() {
    let (header, payload) = (encode(HEADER), encode("{}"));
    let rows = [
        (format!("!.{payload}.c2ln"), Status::HeaderNotBase64),
        (format!("\u{fc}.{payload}.c2ln"), Status::HeaderNotBase64),
        (format!("{header}.!.c2ln"), Status::PayloadNotBase64),
        (format!("{header}.{payload}.!"), Status::SignatureNotBase64),
        (format!("{header}.{payload}.a"), Status::SignatureNotBase64),
        (format!("{header}.{payload}.c2ln,x"), Status::SignatureNotBase64),
    ];
    for (text, status) in rows {
        assert_eq!(Token::parse(text.as_bytes()).err(), Some(status), "{text}");
    }
    assert_eq!(Token::parse(b"\xff.\xfe.\xfd").err(), Some(Status::HeaderNotBase64));
}

#[test]
fn a_header_names_a_known_algorithm() {
    let rows = [
        ("{", Status::HeaderNotJson),
        ("[]", Status::HeaderNotJson),
        ("null", Status::HeaderBadAlg),
        ("{}", Status::HeaderBadAlg),
        (r#"{"alg":1}"#, Status::HeaderBadAlg),
        (r#"{"alg":"none"}"#, Status::HeaderUnknownAlg),
        (r#"{"alg":"hs256"}"#, Status::HeaderUnknownAlg),
        (r#"{"alg":"HS256","kid":1}"#, Status::HeaderBadKid),
    ];
    for (header, status) in rows {
        assert_eq!(refusal(header, "{}"), Some(status), "{header}");
    }
    for name in [
        "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "HS256",
        "HS384", "HS512", "EdDSA",
    ] {
        assert_eq!(refusal(&json!({ "alg": name }).to_string(), "{}"), None, "{name}");
    }
}

#[test]
fn claims_have_their_types() {
    let rows = [
        ("{", Status::PayloadNotJson),
        ("[]", Status::PayloadNotJson),
        (r#"{"iss":"a","iss":"b"}"#, Status::PayloadNotJson),
        (r#"{"iss":1}"#, Status::IssuerNotString),
        (r#"{"iss":null}"#, Status::IssuerNotString),
        (r#"{"sub":1}"#, Status::SubjectNotString),
        (r#"{"iat":"1"}"#, Status::IssuedAtNotInteger),
        (r#"{"iat":-1}"#, Status::IssuedAtOutOfRange),
        (r#"{"nbf":"1"}"#, Status::NotBeforeNotInteger),
        (r#"{"nbf":-1}"#, Status::NotBeforeOutOfRange),
        (r#"{"exp":"1"}"#, Status::ExpiresNotInteger),
        (r#"{"exp":-0.5}"#, Status::ExpiresOutOfRange),
        (r#"{"exp":1e30}"#, Status::ExpiresOutOfRange),
        (r#"{"exp":18446744073709551615}"#, Status::ExpiresOutOfRange),
        (r#"{"jti":1}"#, Status::IdNotString),
        (r#"{"aud":1}"#, Status::AudienceNotStrings),
        (r#"{"aud":["a",1]}"#, Status::AudienceNotStrings),
        (r#"{"aud":{}}"#, Status::AudienceNotStrings),
    ];
    for (payload, status) in rows {
        assert_eq!(refusal(HEADER, payload), Some(status), "{payload}");
    }
    for payload in ["{}", "null", r#"{"iat":1.5,"aud":[],"jti":"x","sub":"y"}"#, r#"{"exp":0}"#] {
        assert_eq!(refusal(HEADER, payload), None, "{payload}");
    }
}

#[test]
fn clocks_may_differ_by_a_minute() {
    let token = parse(HEADER, r#"{"nbf":1000,"exp":2000}"#, "c2ln").unwrap_or_else(|_| panic!());
    let rows = [
        (939, Err(Status::NotYetValid)),
        (940, Ok(())),
        (2060, Ok(())),
        (2061, Err(Status::Expired)),
        (u64::MAX, Err(Status::Expired)),
        (0, Err(Status::NotYetValid)),
    ];
    for (now, expected) in rows {
        assert_eq!(token.check_time(now), expected, "{now}");
    }
    let eternal = parse(HEADER, r#"{"exp":0}"#, "c2ln").unwrap_or_else(|_| panic!());
    assert_eq!(eternal.check_time(u64::MAX), Ok(()));
}

#[test]
fn a_token_of_a_mebibyte_is_read_and_a_longer_one_is_none() {
    let fixed = format!("{}.{}.", encode(HEADER), encode("{}"));
    let longest = format!("{fixed}{}", "a".repeat((MAX_BYTES - fixed.len()) / 4 * 4));
    assert!(Token::parse(longest.as_bytes()).is_ok());
    let longer = format!("{longest}{}", "a".repeat(8));
    assert_eq!(Token::parse(longer.as_bytes()).err(), Some(Status::BadFormat));
    assert_eq!(Token::parse(&vec![b'.'; MAX_BYTES]).err(), Some(Status::BadFormat));
    let deep = format!("{}.{}.c2ln", encode(HEADER), encode("[".repeat(MAX_BYTES / 2)));
    assert_eq!(Token::parse(deep.as_bytes()).err(), Some(Status::PayloadNotJson));
}

#[test]
fn no_bytes_are_too_strange_to_be_looked_at() {
    let good = format!(
        "{}.{}.c2lnbmF0dXJl",
        encode(r#"{"alg":"ES256","kid":"k"}"#),
        encode(r#"{"iss":"i","aud":["a"],"exp":20,"x":[1,{"y":"z"}]}"#)
    );
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..random.usize(1..8) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, random.choice(*b"._-=aA0 {}").unwrap()),
                _ => bytes.copy_within(at / 2..at, 0),
            }
        }
        if let Ok(token) = Token::parse(&bytes) {
            assert!(token.signed().len() <= bytes.len());
            let _ = token.check_time(0);
        }
        // The same strangeness behind the base64.
        let _ = parse(&String::from_utf8_lossy(&bytes), &String::from_utf8_lossy(&bytes), "AA");
    }
}
