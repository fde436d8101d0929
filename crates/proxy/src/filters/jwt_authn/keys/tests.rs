use serde_json::{Value, json};
use wasmplug_testkit::jwt::{Key, TEST_ONLY_RSA_KEY, encode, jwks};

use super::{KeySet, KeySetError, MAX_KEYS, Status, Token, without_keys};

fn set(keys: &[&Key]) -> KeySet {
    KeySet::parse(jwks(keys.iter().copied()).as_bytes()).unwrap()
}

fn token(key: &Key) -> Token {
    parse(&key.token(&json!({ "sub": "s" })))
}

fn parse(text: &str) -> Token {
    Token::parse(text.as_bytes()).unwrap_or_else(|status| panic!("{status:?}"))
}

fn all() -> Vec<Key> {
    vec![
        Key::es256(),
        Key::es384(),
        Key::es512(),
        Key::rsa(),
        Key::rsa().with_alg("RS384"),
        Key::rsa().with_alg("RS512"),
        Key::rsa().with_alg("PS256"),
        Key::rsa().with_alg("PS384"),
        Key::rsa().with_alg("PS512"),
        Key::hmac(),
        Key::hmac().with_alg("HS384"),
        Key::hmac().with_alg("HS512"),
        Key::ed25519(),
    ]
}

#[test]
fn every_algorithm_is_verified() {
    for key in all() {
        assert_eq!(set(&[&key]).verify(&token(&key)), Ok(()), "{key:?}");
    }
}

#[test]
fn a_changed_token_is_refused_whatever_the_algorithm() {
    for key in all() {
        let header = encode(key.header().to_string());
        let signed = key.token(&json!({ "sub": "s" }));
        let signature = signed.rsplit('.').next().unwrap();
        let changed = parse(&format!("{header}.{}.{signature}", encode(r#"{"sub":"x"}"#)));
        assert_eq!(set(&[&key]).verify(&changed), Err(Status::VerificationFails), "{key:?}");
        let empty = parse(&format!("{header}.{}.{}", encode("{}"), encode("x")));
        let expected = match key.alg() {
            "EdDSA" => Status::Ed25519WrongLength,
            _ => Status::VerificationFails,
        };
        assert_eq!(set(&[&key]).verify(&empty), Err(expected), "{key:?}");
    }
}

#[test]
fn a_token_of_another_key_of_the_kind_is_refused() {
    let pairs = [
        (Key::es256(), Key::es256()),
        (Key::es384(), Key::es384()),
        (Key::es512(), Key::es512()),
        (Key::hmac(), Key::hmac()),
        (Key::ed25519(), Key::ed25519()),
    ];
    for (known, other) in pairs {
        assert_eq!(set(&[&known]).verify(&token(&other)), Err(Status::VerificationFails));
        assert_eq!(set(&[&known, &other]).verify(&token(&other)), Ok(()), "{other:?}");
    }
}

#[test]
fn ids_and_algorithms_choose_the_key() {
    let (named, other) = (Key::es256().with_kid("a"), Key::es256().with_kid("b"));
    let nameless = Key::es256();
    let exact = Key::rsa().naming_alg();
    let rows = [
        (set(&[&other, &named]).verify(&token(&named)), Ok(())),
        (set(&[&other]).verify(&token(&named)), Err(Status::NoMatchingKey)),
        (set(&[&named]).verify(&token(&nameless)), Err(Status::VerificationFails)),
        (set(&[&nameless]).verify(&token(&named)), Err(Status::VerificationFails)),
        (set(&[&exact]).verify(&token(&Key::rsa())), Ok(())),
        (set(&[&exact]).verify(&token(&Key::rsa().with_alg("PS256"))), Err(Status::NoMatchingKey)),
        (set(&[&Key::rsa()]).verify(&token(&Key::rsa().with_alg("PS256"))), Ok(())),
    ];
    for (index, (found, expected)) in rows.into_iter().enumerate() {
        assert_eq!(found, expected, "row {index}");
    }
}

#[test]
fn a_key_is_used_with_algorithms_of_its_kind_only() {
    // An attacker knows public keys, and must not be able to use one as a shared secret.
    let public = Key::rsa();
    let secret = Key::hmac();
    let header = json!({ "alg": "RS256" });
    let confused = parse(&secret.token_of(&header, b"{}"));
    assert_eq!(set(&[&secret]).verify(&confused), Err(Status::VerificationFails));
    assert_eq!(set(&[&public]).verify(&token(&secret)), Err(Status::VerificationFails));
    let curve = Key::es256();
    let named = parse(&curve.token_of(&json!({ "alg": "ES384" }), b"{}"));
    assert_eq!(set(&[&curve]).verify(&named), Err(Status::VerificationFails));
}

#[test]
fn an_ed25519_key_in_the_set_does_not_end_the_search() {
    let (first, second) = (Key::ed25519(), Key::rsa());
    assert_eq!(set(&[&first, &second]).verify(&token(&second)), Ok(()));
}

#[test]
fn useless_keys_are_left_out() {
    let good = Key::es256();
    let text = json!({ "keys": [{ "kty": "new" }, 1, null, good.jwk()] }).to_string();
    let set = KeySet::parse(text.as_bytes()).unwrap();
    assert_eq!(set.len(), 1);
    assert_eq!(set.verify(&token(&good)), Ok(()));
}

#[test]
fn curves_follow_from_the_algorithm_if_they_are_not_named() {
    for key in [Key::es256(), Key::es384().naming_alg(), Key::es512().naming_alg()] {
        let mut jwk = key.jwk();
        jwk.as_object_mut().unwrap().remove("crv");
        let text = json!({ "keys": [jwk] }).to_string();
        assert_eq!(KeySet::parse(text.as_bytes()).unwrap().verify(&token(&key)), Ok(()));
    }
}

#[test]
fn numbers_of_keys_may_have_zeros_in_front() {
    let key = Key::rsa();
    let mut jwk = key.jwk();
    for name in ["n", "e"] {
        let digits = super::decode(jwk[name].as_str().unwrap().as_bytes()).unwrap();
        jwk[name] = Value::from(encode([&[0, 0], &*digits].concat()));
    }
    let text = json!({ "keys": [jwk] }).to_string();
    assert_eq!(KeySet::parse(text.as_bytes()).unwrap().verify(&token(&key)), Ok(()));
}

#[test]
fn what_is_no_key_set_is_refused_with_the_reason() {
    let with = |jwk: Value| json!({ "keys": [jwk] }).to_string();
    let es256 = Key::es256().jwk();
    let (x, y) = (es256["x"].clone(), es256["y"].clone());
    let n = Key::rsa().jwk()["n"].clone();
    let rows = [
        ("x".into(), "it is not a JSON object"),
        ("[]".into(), "it is not a JSON object"),
        ("{}".into(), "it has no list `keys`"),
        (r#"{"keys":{}}"#.into(), "it has no list `keys`"),
        (r#"{"keys":[]}"#.into(), "it has no usable key"),
        (with(json!({})), "a key has no type `kty`"),
        (with(json!({ "kty": "x" })), "a key has none of the types"),
        (with(json!({ "kty": "oct" })), "a shared secret has no valid `k`"),
        (with(json!({ "kty": "oct", "k": "" })), "a shared secret has no valid `k`"),
        (
            with(json!({ "kty": "EC", "crv": "P-256", "x": x })),
            "an EC key has no valid `x` and `y`",
        ),
        (with(json!({ "kty": "EC", "crv": "P-1", "x": x, "y": y })), "the curve of an EC key"),
        (with(json!({ "kty": "EC", "crv": "P-521", "x": x, "y": y })), "an EC key has no valid"),
        (
            with(json!({ "kty": "EC", "alg": "ES384", "crv": "P-256", "x": x, "y": y })),
            "the `alg` of a key does not fit its type",
        ),
        (with(json!({ "kty": "RSA", "n": n })), "an RSA key has no valid `n` and `e`"),
        (with(json!({ "kty": "RSA", "n": n, "e": "BQ" })), "the exponent of an RSA key"),
        (with(json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" })), "an RSA key has fewer than 2048"),
        (with(json!({ "kty": "OKP", "crv": "X25519", "x": "AA" })), "the curve of a key of type"),
        (with(json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA" })), "an Ed25519 key has no valid"),
    ];
    for (text, reason) in rows {
        let error = KeySet::parse(text.as_bytes()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

/// A certificate with the public half of the fixed RSA key.
fn rsa_certificate() -> String {
    let algorithm = &rcgen::PKCS_RSA_SHA256;
    let key =
        rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&TEST_ONLY_RSA_KEY.into(), algorithm).unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["issuer.test".to_owned()]).unwrap();
    parameters.self_signed(&key).unwrap().pem().replace("\r\n", "\n")
}

#[test]
fn certificates_by_the_ids_of_their_keys_are_a_key_set() {
    let pem = rsa_certificate();
    let set = KeySet::parse(json!({ "a": pem, "b": pem }).to_string().as_bytes()).unwrap();
    assert_eq!(set.len(), 2);
    for alg in ["RS256", "PS512"] {
        assert_eq!(set.verify(&token(&Key::rsa().with_alg(alg).with_kid("a"))), Ok(()), "{alg}");
    }
    assert_eq!(set.verify(&token(&Key::rsa().with_kid("c"))), Err(Status::NoMatchingKey));
    assert_eq!(set.verify(&token(&Key::es256().with_kid("a"))), Err(Status::VerificationFails));

    let broken = pem.replacen("MII", "AAA", 1);
    let rows = [
        (json!({ "a": pem.trim_end() }), "it has no list `keys`"),
        (json!({ "a": pem, "b": 1 }), "it has no list `keys`"),
        (json!({ "a": broken }), "it has no usable key: a certificate is not one with an RSA key"),
    ];
    for (value, reason) in rows {
        let error = KeySet::parse(value.to_string().as_bytes()).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), reason);
    }
}

#[test]
fn the_number_of_keys_is_bounded() {
    let of = |count| json!({ "keys": vec![Key::hmac().jwk(); count] }).to_string();
    assert_eq!(KeySet::parse(of(MAX_KEYS).as_bytes()).unwrap().len(), MAX_KEYS);
    let error = KeySet::parse(of(MAX_KEYS + 1).as_bytes()).map(|_| ()).unwrap_err();
    assert_eq!(error, KeySetError::TooMany(MAX_KEYS + 1));
}

#[test]
fn no_secret_is_shown() {
    let key = Key::hmac();
    let shown = format!("{:?}", set(&[&key]));
    assert_eq!(shown, r#"KeySet { keys: [Key { kid: "", algorithm: None, material: oct }] }"#);
}

#[test]
fn without_keys_every_token_is_refused_as_by_a_key_that_nobody_has() {
    assert_eq!(without_keys(&token(&Key::es256())), Status::VerificationFails);
    assert_eq!(without_keys(&token(&Key::es256().with_kid("a"))), Status::NoMatchingKey);
}

#[test]
fn rsa_keys_have_2048_to_8192_bits() {
    let len = |bytes: usize| {
        let key = json!({ "kty": "RSA", "e": "AQAB", "n": encode(vec![0xff; bytes]) });
        let keys = json!({ "keys": [key, Key::es256().jwk()] }).to_string();
        KeySet::parse(keys.as_bytes()).unwrap().len()
    };
    assert_eq!([255, 256, 1024, 1025].map(len), [1, 2, 2, 1]);
}
