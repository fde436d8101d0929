use super::*;

fn user_for(config: &str, reference: &str) -> Option<String> {
    let credentials = RegistryCredentials::from_docker_config(config.as_bytes()).unwrap();
    let reference: ImageReference = reference.parse().unwrap();
    match credentials.find(&reference)? {
        Credential::Basic { user, .. } => Some(user.clone()),
        Credential::IdentityToken(_) => Some("<identity>".to_owned()),
        Credential::RegistryToken(_) => Some("<registry>".to_owned()),
    }
}

#[test]
fn every_spelling_of_a_registry_is_found() {
    for key in ["test.io", "https://test.io", "https://test.io/v2/", "TEST.io/", "test.io:443"] {
        let config = format!(r#"{{"auths":{{"{key}":{{"auth":"Zm9vOmJhcg=="}}}}}}"#);
        assert_eq!(user_for(&config, "test.io/a"), Some("foo".into()), "{key}");
        assert_eq!(user_for(&config, "test.io:5000/a"), None, "{key}");
        assert_eq!(user_for(&config, "other.io/a"), None, "{key}");
    }
    let hub = r#"{"auths":{"https://index.docker.io/v1/":{"username":"u","password":"p"}}}"#;
    assert_eq!(user_for(hub, "demo"), Some("u".into()));
    assert_eq!(user_for(hub, "docker.io/a/b"), Some("u".into()));
}

#[test]
fn the_longest_path_wins_and_stays_within_its_segments() {
    let config = r#"{"auths":{
        "r.io": {"username":"all"},
        "r.io/team": {"username":"team"},
        "r.io/team/a": {"username":"a"}
    }}"#;
    for (reference, user) in
        [("r.io/x", "all"), ("r.io/teams/x", "all"), ("r.io/team/x", "team"), ("r.io/team/a", "a")]
    {
        assert_eq!(user_for(config, reference).as_deref(), Some(user), "{reference}");
    }
}

#[test]
fn tokens_win_over_passwords() {
    let config =
        |field: &str| format!(r#"{{"auths":{{"r.io":{{"auth":"Zm9vOmJhcg==","{field}":"t"}}}}}}"#);
    assert_eq!(user_for(&config("identitytoken"), "r.io/a"), Some("<identity>".into()));
    assert_eq!(user_for(&config("registrytoken"), "r.io/a"), Some("<registry>".into()));
}

#[test]
fn malformed_secrets_are_refused_without_showing_them() {
    for config in [
        "null",
        "{}",
        "hunter2",
        r#"{"auths":{"r.io":{"auth":"hunter2!"}}}"#,
        r#"{"auths":{"r.io":{"auth":"aHVudGVyMg=="}}}"#,
        r#"{"auths":{"r.io":{"auth":["hunter2"]}}}"#,
        r#"{"auths":{"r.io":{}}}"#,
    ] {
        let error = RegistryCredentials::from_docker_config(config.as_bytes()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{config}");
    }
}

#[test]
fn debug_shows_registries_only() {
    let config = br#"{"auths":{"r.io":{"username":"user","password":"hunter2"}}}"#;
    let credentials = RegistryCredentials::from_docker_config(config).unwrap();
    assert_eq!(format!("{credentials:?}"), r#"{"r.io"}"#);
}

#[test]
fn fingerprints_differ_by_salt_user_and_secret() {
    let basic = |user: &str, password: &str| Credential::Basic {
        user: user.into(),
        password: Secret(password.into()),
    };
    let one = basic("ab", "c").fingerprint(b"salt");
    assert_eq!(one, basic("ab", "c").fingerprint(b"salt"));
    assert_ne!(one, basic("a", "bc").fingerprint(b"salt"));
    assert_ne!(one, basic("ab", "c").fingerprint(b"other"));
    assert_ne!(one, Credential::RegistryToken(Secret("c".into())).fingerprint(b"salt"));
}

#[test]
fn user_info_of_a_url_is_decoded() {
    let url = url::Url::parse("https://a%40b:p+&%26%3D@h/").unwrap();
    let Some(Credential::Basic { user, password }) = Credential::from_url(&url) else {
        panic!("no credential")
    };
    assert_eq!((user.as_str(), password.expose()), ("a@b", "p+&&="));
    assert!(Credential::from_url(&url::Url::parse("https://h/").unwrap()).is_none());
}
