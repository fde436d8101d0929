//! Registries that another one is asked for.

use wasmplug_module::{FetchError, FetchSource, ModuleRequest, RegistryCredentials};
use wasmplug_testkit::{Image, Registry};

use crate::fixture::{Fixture, MODULE, request, start};

/// A store that asks this mirror in place of `r.example`.
fn fixture(mirror: &Registry, path: &str) -> Fixture {
    let mirror = format!("{}{path}", mirror.addr());
    Fixture::with(|options| drop(options.mirrors.insert("r.example".into(), mirror)))
}

#[tokio::test]
async fn a_mirror_is_asked_in_place_of_the_registry() {
    let mirror = start(Registry::builder().image("copies/team/demo:v1", Image::compat(MODULE)));
    let mirror = mirror.await;
    let fixture = fixture(&mirror, "/copies");
    let url = "oci://r.example/team/demo:v1";
    assert_eq!(fixture.get(url).await.unwrap().bytes, MODULE);
    // It is known by the name that resources give it.
    assert_eq!(fixture.get(url).await.unwrap().source, FetchSource::Cache);
    assert_eq!(fixture.store.list().unwrap()[0].urls, [url]);
    // What the mirror does not have is not asked for elsewhere.
    let error = fixture.get("oci://r.example/team/other:v1").await.unwrap_err();
    assert!(matches!(error, FetchError::NotFound { .. }), "{error}");
    let other = fixture.get("oci://127.0.0.1:1/team/demo:v1").await.unwrap_err();
    assert!(matches!(other, FetchError::Connect { .. }), "{other}");
}

#[tokio::test]
async fn a_mirror_gets_its_own_credentials_and_never_those_of_the_registry() {
    let mirror = Registry::builder().image("demo:v1", Image::compat(MODULE));
    let mirror = start(mirror.basic_auth("user", "pass")).await;
    let pull = async |host: &str| {
        let config = format!(r#"{{"auths":{{"{host}":{{"username":"user","password":"pass"}}}}}}"#);
        let credentials = RegistryCredentials::from_docker_config(config.as_bytes()).unwrap();
        let request =
            ModuleRequest { credentials: Some(credentials), ..request("oci://r.example/demo:v1") };
        fixture(&mirror, "").store.get(&request).await
    };
    let error = pull("r.example").await.unwrap_err();
    assert!(matches!(error, FetchError::Unauthorized { authenticated: false, .. }), "{error}");
    assert!(mirror.received().iter().all(|one| one.header("authorization").is_none()));
    assert_eq!(pull(&mirror.addr().to_string()).await.unwrap().bytes, MODULE);
}
