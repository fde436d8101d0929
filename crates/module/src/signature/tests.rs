use wasmplug_api::ModuleUrl;

use super::*;

const P256: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqyJkOc3cPPLDGixrvIqS3X7uyX1X
Qw05lDGzWs6DCYEZU53nUHjv7MVMYx6tLUg1JESjG7JbEfhgqfu0a9QyLw==
-----END PUBLIC KEY-----
";
const ED25519: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAToN+47ujExmQNq0GD+mh2An8R3A9BPBq1VS2KyXwb0k=
-----END PUBLIC KEY-----
";
const P521: &str = "-----BEGIN PUBLIC KEY-----
MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBLczh3IjT7h1zaHvo/BSDGACW3qUZ
C4bD31knteyunPNvwxOWHjFem7It+IwFtkHyfjTJ1M9q63hI/6+G/XsXFQgAZDoE
JPYTSpEBPCXJwxtIxWQdT7xiz7NJH0n32C7gcNtZJk30yStG0o5Tr+8GUMpWn9+E
pfZ/YGrnHcg1AzJpeco=
-----END PUBLIC KEY-----
";
const X25519: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VuAyEAclbFyDeEb7hAjhsyST/NeyDTuCyGxRWyUfgGpleeYGM=
-----END PUBLIC KEY-----
";

#[test]
fn several_keys_stand_one_after_the_other() {
    let keys = VerificationKeys::from_pem(&format!("# two\n{P256}\n{ED25519}")).unwrap();
    assert_eq!(keys.fingerprints().count(), 2);
    let one = VerificationKeys::from_pem(ED25519).unwrap();
    assert_eq!(one.fingerprints().next(), keys.fingerprints().nth(1));
    // 32 is the bound; one more is refused below.
    let most = VerificationKeys::from_pem(&ED25519.repeat(32)).unwrap();
    assert_eq!(most.fingerprints().count(), 32);
}

#[test]
fn what_is_no_usable_key_is_named() {
    // Put together here, so that nobody takes it for a key that leaked.
    let private = format!("-----BEGIN {0} KEY-----\nMAA=\n-----END {0} KEY-----\n", "PRIVATE");
    let rsa = "-----BEGIN RSA PUBLIC KEY-----\nMAA=\n-----END RSA PUBLIC KEY-----\n";
    let many = ED25519.repeat(33);
    let with_another = |other: &str| format!("{P256}{other}");
    let rows = [
        (String::new(), "there is no `PUBLIC KEY` in PEM in it"),
        ("cosign.pub".to_owned(), "there is no `PUBLIC KEY` in PEM in it"),
        (private.clone(), "it holds a private key"),
        (with_another(&private), "it holds a private key"),
        (with_another(rsa), "it holds a `RSA PUBLIC KEY`, and only a `PUBLIC KEY` is understood"),
        (ED25519.replace("MCow", "MCox"), "key 1 is malformed"),
        (with_another(P521), "key 2 is of a kind that is not supported (1.3.132.0.35)"),
        (X25519.to_owned(), "key 1 is of a kind that is not supported (1.3.101.110)"),
        (ED25519.replace("AyEA", "A!EA"), "it is not well-formed PEM"),
        (ED25519.replace("-----END PUBLIC KEY-----", ""), "it is not well-formed PEM"),
        (many, "there are more than 32 keys"),
    ];
    for (text, expected) in rows {
        assert_eq!(VerificationKeys::from_pem(&text).unwrap_err().to_string(), expected, "{text}");
    }
}

fn policy(rules: &str) -> Result<SignaturePolicy, PolicyError> {
    SignaturePolicy::parse(&format!("{{\"rules\": [{rules}]}}"), |path| {
        match path.to_str().unwrap() {
            "p256.pub" => Ok(P256.to_owned()),
            "broken.pub" => Ok("broken".to_owned()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        }
    })
}

/// The fingerprint that must have signed; nothing if none must.
fn demanded(policy: &SignaturePolicy, url: &str) -> Result<Option<Digest>, SignatureError> {
    let keys = policy.keys_for(&ModuleUrl::parse(url).unwrap())?;
    Ok(keys.and_then(|keys| keys.fingerprints().next().cloned()))
}

#[test]
fn the_longest_prefix_decides_and_ends_at_a_segment() {
    let ed25519 = ED25519.replace('\n', "\\n");
    let policy = policy(&format!(
        r#"{{"prefix": "ghcr.io/acme", "keyFiles": ["p256.pub"]}},
           {{"prefix": "oci://ghcr.io/acme/open/", "unsigned": true}},
           {{"prefix": "docker.io/acme", "keys": ["{ed25519}"]}},
           {{"prefix": "file:///opt/filters/", "unsigned": true}},
           {{"prefix": "https://", "keyFiles": ["p256.pub"]}}"#
    ))
    .unwrap();
    let [p256, ed25519] = [P256, ED25519].map(|pem| {
        let keys = VerificationKeys::from_pem(pem).unwrap();
        Some(keys.fingerprints().next().unwrap().clone())
    });
    let rows = [
        ("oci://ghcr.io/acme/a:v1", Ok(p256.clone())),
        ("oci://ghcr.io/acme:v1", Ok(p256.clone())),
        ("oci://GHCR.io/acme/openness:v1", Ok(p256.clone())),
        ("oci://ghcr.io/acme/open/a", Ok(None)),
        ("oci://ghcr.io/acme-evil/a", Err(SignatureError::NoRule)),
        ("oci://ghcr.io.evil/acme/a", Err(SignatureError::NoRule)),
        ("acme/a:v1", Ok(ed25519)),
        ("https://example.com/a.wasm", Ok(p256)),
        ("http://example.com/a.wasm", Err(SignatureError::NoRule)),
        ("file:///opt/filters/a.wasm", Ok(None)),
        ("file:///opt/filters/../../tmp/a.wasm", Err(SignatureError::NoRule)),
    ];
    for (url, expected) in rows {
        assert_eq!(demanded(&policy, url), expected, "{url}");
    }
}

#[test]
fn a_policy_that_says_nothing_clear_is_refused() {
    let rows = [
        (r#"{"prefix": "a/"}"#, "the rule for `a/` must have either keys or `\"unsigned\": true`"),
        (
            r#"{"prefix": "a/", "unsigned": true, "keyFiles": ["p256.pub"]}"#,
            "the rule for `a/` must have either keys or `\"unsigned\": true`",
        ),
        (
            r#"{"prefix": "a/", "keyFiles": ["broken.pub"]}"#,
            "the rule for `a/` has a key that cannot be used",
        ),
        (
            r#"{"prefix": "a/", "keyFiles": ["gone.pub"]}"#,
            "cannot read the key `gone.pub` of the rule for `a/`",
        ),
        (r#"{"prefix": "a/", "keyfiles": []}"#, "it is not a signature policy in JSON"),
    ];
    for (rules, expected) in rows {
        assert_eq!(policy(rules).unwrap_err().to_string(), expected, "{rules}");
    }
    policy("").unwrap();
}

/// Evidence is hostile: whatever it holds, it is refused and nothing else happens.
#[test]
fn malformed_evidence_is_refused() {
    let keys = VerificationKeys::from_pem(P256).unwrap();
    let digest = Digest::sha256_of(b"x");
    let subject = Subject { module: Some((&digest, b"x")), manifest: Some(&digest), index: None };
    let simple = |payload: &str, signature: &str| Form::SimpleSigning {
        payload: payload.to_owned(),
        signature: signature.to_owned(),
    };
    let forms = [
        simple("", ""),
        simple("!", "!"),
        simple("e30=", ""),
        Form::Detached("!".to_owned()),
        Form::Bundle(String::new()),
        Form::Bundle("{}".to_owned()),
        Form::Bundle(r#"{"messageSignature":{"signature":"!"}}"#.to_owned()),
        Form::Bundle(
            r#"{"dsseEnvelope":{"payload":"!","payloadType":"application/vnd.in-toto+json","signatures":[]}}"#
                .to_owned(),
        ),
    ];
    for form in forms {
        let evidence = Evidence { place: "there".to_owned(), form };
        assert_eq!(evidence.check(&keys, subject), Err(Rejection::Malformed), "{evidence:?}");
    }
    let empty = Evidence { place: "there".to_owned(), form: Form::Detached(String::new()) };
    assert_eq!(empty.check(&keys, subject), Err(Rejection::Key));
}
