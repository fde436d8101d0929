use wasmplug_module::{FetchError, FetchSource, FetchedModule, ModuleRequest, RegistryCredentials};
use wasmplug_testkit::{
    Image, Received, Registry, Reply, Scripted, Upstream,
    registry::{Fault, RegistryBuilder},
};

use crate::fixture::{Fixture, MODULE, oci, request, start, told};

fn demo() -> RegistryBuilder {
    Registry::builder().image("demo:v1", Image::compat(MODULE))
}

fn secret(registry: &Registry, fields: &str) -> RegistryCredentials {
    let config = format!(r#"{{"auths":{{"{}":{{{fields}}}}}}}"#, registry.addr());
    RegistryCredentials::from_docker_config(config.as_bytes()).unwrap()
}

fn password(registry: &Registry, password: &str) -> RegistryCredentials {
    secret(registry, &format!(r#""username":"user","password":"{password}""#))
}

async fn pull(
    fixture: &Fixture,
    registry: &Registry,
    credentials: Option<RegistryCredentials>,
) -> Result<FetchedModule, FetchError> {
    let url = oci(registry, "demo:v1");
    fixture.store.get(&ModuleRequest { credentials, ..request(&url) }).await
}

#[tokio::test]
async fn the_right_password_pulls_with_basic_and_bearer_authentication() {
    for registry in [demo().basic_auth("user", "pass"), demo().bearer_auth("user", "pass")] {
        let registry = start(registry).await;
        let credentials = Some(password(&registry, "pass"));
        let module = pull(&Fixture::new(), &registry, credentials).await.unwrap();
        assert_eq!(module.bytes, MODULE);
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_shown() {
    for registry in [demo().basic_auth("user", "pass"), demo().bearer_auth("user", "pass")] {
        let registry = start(registry).await;
        let credentials = Some(password(&registry, "hunter2"));
        let error = pull(&Fixture::new(), &registry, credentials).await.unwrap_err();
        assert!(told(&error).contains("the credentials are wrong"), "{}", told(&error));
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[tokio::test]
async fn no_credentials_are_told_apart_from_wrong_ones() {
    for registry in [demo().basic_auth("user", "pass"), demo().bearer_auth("user", "pass")] {
        let registry = start(registry).await;
        let error = pull(&Fixture::new(), &registry, None).await.unwrap_err();
        assert!(told(&error).contains("hint: no credentials were sent; set `imagePullSecret`"));
        let other = start(demo()).await;
        let foreign = Some(password(&other, "pass"));
        let error = pull(&Fixture::new(), &registry, foreign).await.unwrap_err();
        let unauthorized = matches!(error, FetchError::Unauthorized { authenticated: false, .. });
        assert!(unauthorized, "{error}");
        let hint = format!("hint: the credentials are for `{}` and not for this", other.addr());
        assert!(told(&error).contains(&hint), "{}", told(&error));
    }
}

#[tokio::test]
async fn anonymous_tokens_are_asked_for() {
    let registry = start(demo().anonymous_bearer()).await;
    assert_eq!(pull(&Fixture::new(), &registry, None).await.unwrap().bytes, MODULE);
    let asked = "GET /token?service=testkit&scope=repository%3Ademo%3Apull";
    assert!(registry.log().contains(&asked.to_owned()), "{:?}", registry.log());
}

#[tokio::test]
async fn credentials_are_not_sent_before_they_are_asked_for() {
    let registry = start(demo()).await;
    pull(&Fixture::new(), &registry, Some(password(&registry, "pass"))).await.unwrap();
    assert!(registry.received().iter().all(|one| one.header("authorization").is_none()));
}

#[tokio::test]
async fn a_registry_token_is_shown_as_it_is() {
    let registry = start(demo().bearer_auth("user", "pass")).await;
    let right = secret(&registry, r#""registrytoken":"testkit-token""#);
    assert_eq!(pull(&Fixture::new(), &registry, Some(right)).await.unwrap().bytes, MODULE);
    let wrong = secret(&registry, r#""registrytoken":"other""#);
    let error = pull(&Fixture::new(), &registry, Some(wrong)).await.unwrap_err();
    assert!(matches!(error, FetchError::Unauthorized { authenticated: true, .. }), "{error}");
    assert!(registry.log().iter().all(|line| !line.contains("/token")));
}

#[tokio::test]
async fn an_identity_token_is_exchanged_for_an_access_token() {
    let exchange = |received: &Received| -> Scripted {
        let form = String::from_utf8_lossy(&received.body);
        let good = received.method == "POST"
            && form.contains("grant_type=refresh_token")
            && form.contains("refresh_token=refresh-me")
            && form.contains("scope=repository%3Ademo%3Apull");
        match (received.path.as_str(), received.header("authorization")) {
            ("/token", _) if good => Reply::new(200).body(r#"{"access_token":"access"}"#).into(),
            ("/token", _) => Reply::new(400).into(),
            (_, Some("Bearer access")) => Reply::new(404).into(),
            _ => {
                let host = received.header("host").unwrap_or_default();
                let challenge = format!("Bearer realm=\"http://{host}/token\"");
                Reply::new(401).header("www-authenticate", &challenge).into()
            }
        }
    };
    let upstream = Upstream::scripted(exchange).start().await.unwrap();
    let url = format!("oci://{}/demo:v1", upstream.addr());
    for (token, admitted) in [("refresh-me", true), ("other", false)] {
        let config =
            format!(r#"{{"auths":{{"{}":{{"identitytoken":"{token}"}}}}}}"#, upstream.addr());
        let credentials = RegistryCredentials::from_docker_config(config.as_bytes()).unwrap();
        let request = ModuleRequest { credentials: Some(credentials), ..request(&url) };
        let error = Fixture::new().store.get(&request).await.unwrap_err();
        assert_eq!(matches!(error, FetchError::NotFound { .. }), admitted, "{error}");
        assert_eq!(matches!(error, FetchError::Unauthorized { .. }), !admitted, "{error}");
    }
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let registry = start(demo().basic_auth("user", "pass")).await;
    let storage = start(demo()).await;
    registry.fault("/blobs/", Fault::RedirectToPort(storage.addr().port()));
    let credentials = Some(password(&registry, "pass"));
    pull(&Fixture::new(), &registry, credentials).await.unwrap();
    let received = storage.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].header("authorization"), None);
}

#[tokio::test]
async fn credentials_are_not_sent_to_a_token_service_without_tls() {
    let greedy = |_: &Received| -> Scripted {
        let challenge = "Bearer realm=\"http://tokens.example/token\"";
        Reply::new(401).header("www-authenticate", challenge).into()
    };
    let upstream = Upstream::scripted(greedy).start().await.unwrap();
    let error = Fixture::new().get(&format!("oci://{}/demo:v1", upstream.addr())).await;
    let error = error.unwrap_err();
    assert!(matches!(error, FetchError::InsecureRealm { .. }), "{error}");
}

#[tokio::test]
async fn a_private_module_in_the_cache_is_for_those_who_may_pull_it() {
    let registry = start(demo().basic_auth("user", "pass")).await;
    let mut fixture = Fixture::new();
    pull(&fixture, &registry, Some(password(&registry, "pass"))).await.unwrap();
    fixture.restart();
    for credentials in [None, Some(password(&registry, "wrong"))] {
        let error = pull(&fixture, &registry, credentials).await.unwrap_err();
        assert!(matches!(error, FetchError::Unauthorized { .. }), "{error}");
    }
    let asked = registry.log().len();
    let again = pull(&fixture, &registry, Some(password(&registry, "pass"))).await.unwrap();
    assert_eq!((again.source, registry.log().len()), (FetchSource::Cache, asked));
    let index = fs_err::read_to_string(fixture.directory.path().join("modules/index.json"));
    let index = index.unwrap();
    assert!(!index.contains("pass") && !index.contains("user"), "{index}");
}
