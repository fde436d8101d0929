//! `verify_signature` and `sign`, with keys and signatures that OpenSSL made:
//!
//! ```text
//! openssl genrsa 2048; openssl ecparam -name prime256v1 -genkey
//! openssl pkcs8 -topk8 -nocrypt -outform DER             the private keys
//! openssl rsa|ec -pubout -outform DER                    the public keys; also as PEM
//! printf 'signed text' | openssl dgst -HASH -sign KEY    the signatures
//! ```

use expect_test::expect;

use crate::harness::{check, outcome, patient};

const TEXT: &[u8] = b"signed text";
const RSA_KEY: &[u8] = include_bytes!("signatures/rsa.key");
const RSA_PUBLIC: &[u8] = include_bytes!("signatures/rsa.pub");
const RSA_PEM: &str = include_str!("signatures/rsa.pem");
const RSA_SHA1: &[u8] = include_bytes!("signatures/rsa.sha1");
const RSA_SHA256: &[u8] = include_bytes!("signatures/rsa.sha256");
const RSA_SHA384: &[u8] = include_bytes!("signatures/rsa.sha384");
const RSA_SHA512: &[u8] = include_bytes!("signatures/rsa.sha512");
const EC_KEY: &[u8] = include_bytes!("signatures/ec.key");
const EC_PUBLIC: &[u8] = include_bytes!("signatures/ec.pub");
const EC_SHA256: &[u8] = include_bytes!("signatures/ec.sha256");

/// A message with byte fields, as protocol buffers write it.
fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (tag, value) in fields {
        bytes.push(tag << 3 | 2);
        let mut len = value.len();
        while len > 0x7f {
            bytes.push(u8::try_from(len & 0x7f).unwrap() | 0x80);
            len >>= 7;
        }
        bytes.push(u8::try_from(len).unwrap());
        bytes.extend_from_slice(value);
    }
    bytes
}

fn verification(hash: &str, key: &[u8], signature: &[u8], text: &[u8]) -> Vec<u8> {
    message(&[(1, hash.as_bytes()), (2, key), (3, signature), (4, text)])
}

/// Bytes in the escapes of WebAssembly text.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}\\{byte:02x}"))
}

/// A line of a guest that calls a foreign function with these arguments.
fn call(label: &str, function: &str, arguments: &[u8]) -> String {
    let arguments = escaped(arguments);
    format!(
        "(call $got '{label}'
           (call $proxy_call_foreign_function '{function}' '{arguments}' @out))\n"
    )
}

/// The first byte of the text or of the signature is another one.
fn changed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[0] ^= 1;
    bytes
}

// Checks: FF-08
#[test]
fn good_signatures_are_told_from_bad_ones() {
    let cases = [
        ("rsa sha1", "sha1", RSA_PUBLIC, RSA_SHA1),
        ("rsa sha256", "sha256", RSA_PUBLIC, RSA_SHA256),
        ("rsa sha384", "SHA384", RSA_PUBLIC, RSA_SHA384),
        ("rsa sha512", "sha512", RSA_PUBLIC, RSA_SHA512),
        ("ec sha256", "sha256", EC_PUBLIC, EC_SHA256),
    ];
    let mut guest = "on tick:\n".to_owned();
    for (name, hash, key, signature) in cases {
        let good = verification(hash, key, signature, TEXT);
        let other_text = verification(hash, key, signature, &changed(TEXT));
        let other_signature = verification(hash, key, &changed(signature), TEXT);
        guest += &call(name, "verify_signature", &good);
        guest += &call("  other text", "verify_signature", &other_text);
        guest += &call("  other signature", "verify_signature", &other_signature);
    }
    check(
        &guest,
        expect![[r#"
            > tick
            1: rsa sha1 OK "\08\01"
            1:   other text OK "\125the signature does not belong to the text and the key"
            1:   other signature OK "\125the signature does not belong to the text and the key"
            1: rsa sha256 OK "\08\01"
            1:   other text OK "\125the signature does not belong to the text and the key"
            1:   other signature OK "\125the signature does not belong to the text and the key"
            1: rsa sha384 OK "\08\01"
            1:   other text OK "\125the signature does not belong to the text and the key"
            1:   other signature OK "\125the signature does not belong to the text and the key"
            1: rsa sha512 OK "\08\01"
            1:   other text OK "\125the signature does not belong to the text and the key"
            1:   other signature OK "\125the signature does not belong to the text and the key"
            1: ec sha256 OK "\08\01"
            1:   other text OK "\125the signature does not belong to the text and the key"
            1:   other signature OK "\125the signature does not belong to the text and the key"
        "#]],
    );
}

#[test]
fn keys_and_hashes_that_do_not_fit_are_told() {
    let mut guest = "on tick:\n".to_owned();
    for (name, hash, key, signature) in [
        ("other key", "sha256", EC_PUBLIC, RSA_SHA256),
        ("other hash", "sha512", RSA_PUBLIC, RSA_SHA256),
        ("no such hash", "md5", RSA_PUBLIC, RSA_SHA256),
        ("no key at all", "sha256", b"nonsense".as_slice(), RSA_SHA256),
        ("curve and hash", "sha512", EC_PUBLIC, EC_SHA256),
    ] {
        guest += &call(name, "verify_signature", &verification(hash, key, signature, TEXT));
    }
    check(
        &guest,
        expect![[r#"
            > tick
            1: other key OK "\125the signature does not belong to the text and the key"
            1: other hash OK "\125the signature does not belong to the text and the key"
            1: no such hash OK "\12\15md5 is not supported."
            1: no key at all OK "\12\1dthe public key cannot be read"
            1: curve and hash OK "\129this kind of key is not supported with this hash function"
        "#]],
    );
}

#[test]
fn exactly_one_key_is_needed() {
    let with_pem = |key: &[u8], pem: &str| {
        message(&[(1, b"sha256"), (2, key), (3, RSA_SHA256), (4, TEXT), (5, pem.as_bytes())])
    };
    let mut guest = "on tick:\n".to_owned();
    guest += &call("pem", "verify_signature", &with_pem(b"", RSA_PEM));
    guest += &call("none", "verify_signature", &with_pem(b"", ""));
    guest += &call("both", "verify_signature", &with_pem(RSA_PUBLIC, RSA_PEM));
    guest += &call("no pem", "verify_signature", &with_pem(b"", "-----BEGIN"));
    guest += &call("no message", "verify_signature", b"\x0a\x7f");
    guest += &call("sign without a key", "sign", &message(&[(1, b"sha256"), (3, TEXT)]));
    guest += &call("sign no message", "sign", b"\x0a\x7f");
    check(
        &guest,
        expect![[r#"
            > tick
            1: pem OK "\08\01"
            1: none BAD_ARGUMENT
            1: both BAD_ARGUMENT
            1: no pem BAD_ARGUMENT
            1: no message BAD_ARGUMENT
            1: sign without a key BAD_ARGUMENT
            1: sign no message BAD_ARGUMENT
        "#]],
    );
}

#[test]
fn rsa_signs_as_openssl_does() {
    for (hash, signature) in
        [("sha256", RSA_SHA256), ("sha384", RSA_SHA384), ("sha512", RSA_SHA512)]
    {
        let arguments = message(&[(1, hash.as_bytes()), (2, RSA_KEY), (3, TEXT)]);
        let guest = format!("on tick:\n{}", call("signed", "sign", &arguments));
        let outcome = outcome(patient(), &guest, "> tick");
        // The result is true, and the second field is the signature.
        let result = [b"\x08\x01".as_slice(), &message(&[(2, signature)])].concat();
        let printed: String = result.iter().map(|byte| printed(*byte)).collect();
        assert_eq!(outcome, format!("> tick\n1: signed OK \"{printed}\"\n"), "{hash}");
    }
}

#[test]
fn what_a_curve_signs_verifies() {
    let sign = escaped(&message(&[(1, b"sha256"), (2, EC_KEY), (3, TEXT)]));
    let verified = [("same", TEXT), ("other", b"another text")].map(|(name, text)| {
        let begin = message(&[(1, b"sha256"), (2, EC_PUBLIC), (4, text)]);
        let (begin, len) = (escaped(&begin), begin.len());
        // Behind the flag of the result stands the signature, which only needs another tag.
        format!(
            "(drop (call $proxy_call_foreign_function 'sign' '{sign}' #0x800 #0x804))
             (memory.copy #0x38000 '{begin}')
             (memory.copy #{at} (i32.add (i32.load #0x800) #2) (i32.sub (i32.load #0x804) #2))
             (i32.store8 #{at} #0x1a)
             (call $got '{name}' (call $proxy_call_foreign_function 'verify_signature'
               #0x38000 (i32.add #{len} (i32.sub (i32.load #0x804) #2)) @out))\n",
            at = 0x38000 + len,
        )
    });
    check(
        &format!("on tick:\n{}", verified.concat()),
        expect![[r#"
            > tick
            1: same OK "\08\01"
            1: other OK "\125the signature does not belong to the text and the key"
        "#]],
    );
}

#[test]
fn private_keys_that_do_not_fit_are_told_without_showing_them() {
    let mut guest = "on tick:\n".to_owned();
    for (name, hash, key) in [
        ("old hash", "sha1", RSA_KEY),
        ("curve and hash", "sha512", EC_KEY),
        ("public key", "sha256", RSA_PUBLIC),
        ("no such hash", "md5", RSA_KEY),
    ] {
        guest += &call(name, "sign", &message(&[(1, hash.as_bytes()), (2, key), (3, TEXT)]));
    }
    check(
        &guest,
        expect![[r#"
            > tick
            1: old hash OK "\1a"signing with sha1 is not supported"
            1: curve and hash OK "\1a6the private key cannot be used with this hash function"
            1: public key OK "\1a6the private key cannot be used with this hash function"
            1: no such hash OK "\1a\15md5 is not supported."
        "#]],
    );
}

/// A byte as guests log it.
fn printed(byte: u8) -> String {
    match byte {
        b' '..=b'~' => char::from(byte).to_string(),
        byte => format!("\\{byte:02x}"),
    }
}
