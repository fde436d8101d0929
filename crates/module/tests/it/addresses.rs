use std::net::IpAddr;

use wasmplug_module::{BlockedAddress, FetchError};
use wasmplug_testkit::{Image, Received, Registry, Reply, Scripted, Upstream, registry::Fault};

use crate::fixture::{Fixture, MODULE, start, told};

/// A store that takes these names for these addresses, and plain http for granted.
fn knowing(hosts: &[(&str, &str)]) -> Fixture {
    Fixture::with(|options| {
        for (name, address) in hosts {
            options.hosts.insert((*name).to_owned(), address.parse().unwrap());
            options.plain_http_registries.push((*name).to_owned());
        }
    })
}

async fn redirecting_to(location: String) -> Upstream {
    let script =
        move |_: &Received| -> Scripted { Reply::new(302).header("location", &location).into() };
    Upstream::scripted(script).start().await.unwrap()
}

#[tokio::test]
async fn metadata_addresses_are_refused_in_urls_of_every_kind() {
    let fixture = Fixture::new();
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "http://2852039166/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://[fd00:ec2::254]/",
        "https://100.100.100.200/",
        "oci://169.254.169.254/demo:v1",
    ] {
        let error = fixture.get(url).await.unwrap_err();
        assert!(matches!(error, FetchError::Blocked { .. }), "{url}: {error}");
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn names_are_judged_by_the_address_behind_them() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let port = registry.addr().port();
    let fixture = knowing(&[("evil.test", "169.254.169.254"), ("good.test", "127.0.0.1")]);
    for url in ["http://evil.test/plugin.wasm", "oci://evil.test/demo:v1"] {
        let error = fixture.get(url).await.unwrap_err();
        let address: IpAddr = "169.254.169.254".parse().unwrap();
        let blocked = matches!(
            &error,
            FetchError::Blocked { source: BlockedAddress::LinkLocal(it), .. } if *it == address
        );
        assert!(blocked, "{url}: {error:?}");
    }
    let good = fixture.get(&format!("oci://good.test:{port}/demo:v1")).await;
    assert_eq!(good.unwrap().bytes, MODULE);
}

#[tokio::test]
async fn redirects_to_metadata_addresses_are_refused() {
    for location in ["http://169.254.169.254/", "http://evil.test/"] {
        let upstream = redirecting_to(location.to_owned()).await;
        let fixture = knowing(&[("evil.test", "169.254.169.254")]);
        let error = fixture.get(&format!("http://{}/", upstream.addr())).await.unwrap_err();
        assert!(matches!(error, FetchError::Blocked { .. }), "{location}: {error}");
    }
}

#[tokio::test]
async fn token_services_at_metadata_addresses_are_refused() {
    let challenge = |_: &Received| -> Scripted {
        let realm = "Bearer realm=\"https://169.254.169.254/token\"";
        Reply::new(401).header("www-authenticate", realm).into()
    };
    let upstream = Upstream::scripted(challenge).start().await.unwrap();
    let error = Fixture::new().get(&format!("oci://{}/demo:v1", upstream.addr())).await;
    let error = error.unwrap_err();
    assert!(matches!(error, FetchError::Blocked { .. }), "{error}");
}

#[tokio::test]
async fn a_token_service_on_this_machine_is_only_for_registries_that_are_named_so() {
    let demo = Registry::builder().image("demo:v1", Image::compat(MODULE)).anonymous_bearer();
    let tokens = start(demo).await;
    let realm = format!("Bearer realm=\"http://{}/token\"", tokens.addr());
    let challenge = move |_: &Received| -> Scripted {
        Reply::new(401).header("www-authenticate", &realm).into()
    };
    let upstream = Upstream::scripted(challenge).start().await.unwrap();
    let port = upstream.addr().port();
    let fixture = knowing(&[("registry.test", "127.0.0.1")]);
    let error = fixture.get(&format!("oci://registry.test:{port}/demo:v1")).await.unwrap_err();
    let blocked = matches!(&error, FetchError::Blocked { source: BlockedAddress::Loopback(_), .. });
    assert!(blocked, "{error:?}");
    assert!(tokens.log().is_empty());
    // The twin gets its token, with which this registry then does nothing.
    let error = fixture.get(&format!("oci://127.0.0.1:{port}/demo:v1")).await.unwrap_err();
    assert!(matches!(error, FetchError::Unauthorized { .. }), "{error:?}");
    assert_eq!(tokens.log().len(), 1);
}

#[tokio::test]
async fn only_a_url_that_names_this_machine_leads_back_to_it() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let port = registry.addr().port();
    registry.fault("/blobs/", Fault::RedirectToPort(port));
    let fixture = knowing(&[("registry.test", "127.0.0.1")]);
    let error = fixture.get(&format!("oci://registry.test:{port}/demo:v1")).await.unwrap_err();
    let blocked = matches!(&error, FetchError::Blocked { source: BlockedAddress::Loopback(_), .. });
    assert!(blocked, "{error:?}");
    registry.clear_faults();
    // The twin: the same redirect, from a registry that was named as this machine.
    let storage = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    registry.fault("/blobs/", Fault::RedirectToPort(storage.addr().port()));
    fixture.get(&format!("oci://127.0.0.1:{port}/demo:v1")).await.unwrap();
}

#[tokio::test]
async fn blocked_networks_are_refused() {
    let registry = start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await;
    let url = format!("oci://{}/demo:v1", registry.addr());
    let blocking = |network: &str| {
        let network = network.parse().unwrap();
        Fixture::with(|options| options.blocked_networks.push(network))
    };
    let error = blocking("127.0.0.0/8").get(&url).await.unwrap_err();
    assert!(told(&error).contains("in the blocked network `127.0.0.0/8`"), "{}", told(&error));
    assert!(registry.log().is_empty());
    blocking("10.0.0.0/8").get(&url).await.unwrap();
}
