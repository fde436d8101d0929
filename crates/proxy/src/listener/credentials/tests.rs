//! Files that are good, and files that are not.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};

use super::{TlsCredentials, TlsCredentialsError, TlsOptions};

fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["a.test".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A pair of this span in days from now.
fn pair_valid(from: i64, to: i64) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
    let at = |days: i64| {
        let by = Duration::from_hours(24 * days.unsigned_abs());
        let now = SystemTime::now();
        if days < 0 { now - by } else { now + by }
    };
    (params.not_before, params.not_after) = (at(from).into(), at(to).into());
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn load(
    certificate: &str,
    key: &str,
    client_ca: Option<&str>,
) -> Result<TlsCredentials, TlsCredentialsError> {
    let client_ca = client_ca.map(str::as_bytes);
    TlsCredentials::from_pem(
        certificate.as_bytes(),
        key.as_bytes(),
        client_ca,
        TlsOptions::default(),
    )
}

#[test]
fn a_pair_that_belongs_together_is_taken() {
    let (certificate, key) = pair();
    let credentials = load(&certificate, &key, None).unwrap();
    assert!(!credentials.verifies_clients());
    assert!(credentials.not_after() > SystemTime::now());
    // Other things in the files do not matter.
    let with_text = format!("a comment\n{certificate}{key}");
    assert!(load(&with_text, &with_text, Some(&certificate)).unwrap().verifies_clients());
}

#[test]
fn a_pair_that_cannot_be_used_is_refused_for_its_reason() {
    use TlsCredentialsError as Error;
    let ((certificate, key), (other, _)) = (pair(), pair());
    let cut = &certificate[..certificate.len() / 2];
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let is = |error: Option<Error>, of: fn(&Error) -> bool| {
        let error = error.unwrap();
        assert!(of(&error), "{error:?}");
        assert!(error.hint().is_some(), "{error:?}");
    };
    is(load("", &key, None).err(), |of| matches!(of, Error::NoCertificate));
    is(load(&key, &key, None).err(), |of| matches!(of, Error::NoCertificate));
    is(load(cut, &key, None).err(), |of| matches!(of, Error::NoCertificate));
    is(load(no_certificate, &key, None).err(), |of| matches!(of, Error::UnreadableCertificate(_)));
    is(load(&certificate, "", None).err(), |of| matches!(of, Error::NoKey));
    is(load(&certificate, &certificate, None).err(), |of| matches!(of, Error::NoKey));
    is(load(&certificate, no_key, None).err(), |of| matches!(of, Error::UnusableKey));
    is(load(&certificate, encrypted, None).err(), |of| matches!(of, Error::EncryptedKey));
    is(load(&certificate, old, None).err(), |of| matches!(of, Error::EncryptedKey));
    is(load(&other, &key, None).err(), |of| matches!(of, Error::Mismatch));
    is(load(&certificate, &key, Some("")).err(), |of| matches!(of, Error::NoClientCa));
    is(load(&certificate, &key, Some(no_certificate)).err(), |of| matches!(of, Error::NoClientCa));
    let (certificate, key) = pair_valid(-2, -1);
    is(load(&certificate, &key, None).err(), |of| matches!(of, Error::Expired(_)));
    let (certificate, key) = pair_valid(1, 2);
    is(load(&certificate, &key, None).err(), |of| matches!(of, Error::NotYetValid(_)));
    let (certificate, key) = pair_valid(-1, 1);
    assert!(load(&certificate, &key, None).is_ok());
}

#[test]
fn nothing_of_a_key_is_in_an_error_or_in_what_is_shown() {
    let (certificate, key) = pair();
    let secret = key.lines().nth(1).unwrap();
    let cut = key.replace("-----END", "-----ENF");
    for broken in [cut, key.replace("BEGIN PRIVATE KEY", "BEGIN"), format!("{secret}\n{secret}")] {
        let error = load(&certificate, &broken, None).unwrap_err();
        assert!(!format!("{error} {error:?} {:?}", error.hint()).contains(secret));
    }
    let credentials = load(&certificate, &key, None).unwrap();
    assert!(!format!("{credentials:?} {}", credentials.dump()).contains(secret));
}
