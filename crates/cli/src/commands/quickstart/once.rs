//! The documented requests, sent and checked.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use wasmplug_testkit::{RawClient, Response};

use crate::args::ExamplePlugin;
use crate::diagnostics::Paint;
use crate::output;

/// After this long without a request the example's bucket is full again; it says "more than 1 s".
const REFILL: Duration = Duration::from_millis(1100);
/// The configuration of the bundled resource, as the plugin gets it.
const CONFIGURATION: &str = r#"{"hello":"config"}"#;
const LIMITED: &str = "rate limited, wait and retry.";

/// What one answer has to be.
struct Expected {
    title: &'static str,
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: Option<&'static str>,
}

/// Sends the documented requests and prints each answer.
///
/// # Errors
/// The number of answers that are not as documented, or a connection that failed.
pub(super) fn run(address: SocketAddr, plugin: ExamplePlugin, paint: Paint) -> anyhow::Result<()> {
    let mut failures = 0_usize;
    let mut check = |expected: &Expected| -> anyhow::Result<()> {
        let mut client = RawClient::connect(address).context("cannot connect to the proxy")?;
        let response = client.get("/anything").context("the proxy does not answer")?;
        output::data(paint.bold(expected.title));
        output::data("");
        for line in String::from_utf8_lossy(&response.raw).lines() {
            output::data(format!("    {line}"));
        }
        output::data("");
        let wrong = expected.differences(&response);
        for difference in &wrong {
            output::data(format!("    {} {difference}", paint.red("not as documented:")));
        }
        if wrong.is_empty() {
            output::data(format!("    {}", paint.green("as documented")));
        }
        output::data("");
        failures = failures.saturating_add(wrong.len());
        Ok(())
    };
    let accepted = Expected::accepted;
    check(&accepted("1. A request passes, and the plugin marks the response", plugin))?;
    check(&accepted("2. So does a second one within the same second", plugin))?;
    check(&Expected::limited("3. The third within a second is refused by the plugin", plugin))?;
    // The plugin's clock is the real one: the documented second has to pass.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async { tokio::time::sleep(REFILL).await });
    check(&accepted("4. After the second has passed, requests pass again", plugin))?;
    if failures > 0 {
        anyhow::bail!("{failures} of the answers' properties are not as documented");
    }
    output::data("All answers are as documented.");
    Ok(())
}

/// The header value by which the example plugins tell themselves apart.
pub(super) fn who_am_i(plugin: ExamplePlugin) -> &'static str {
    match plugin {
        ExamplePlugin::Rust => "wasm-extension",
        ExamplePlugin::Go => "go-wasm-extension",
    }
}

// === impl Expected ===

impl Expected {
    fn accepted(title: &'static str, plugin: ExamplePlugin) -> Self {
        let mut headers = vec![
            ("who-am-i", who_am_i(plugin)),
            ("injected-by", "istio-api!"),
            ("configdata", CONFIGURATION),
        ];
        if plugin == ExamplePlugin::Go {
            headers.extend([("hally", "wang"), ("wang", "1234567")]);
        }
        Self { title, status: 200, headers, body: None }
    }

    fn limited(title: &'static str, plugin: ExamplePlugin) -> Self {
        let powered_by = match plugin {
            ExamplePlugin::Rust => "proxy-wasm-rust-sdk",
            ExamplePlugin::Go => "proxy-wasm-go-sdk!!",
        };
        let mut expected = Self::accepted(title, plugin);
        expected.status = 403;
        expected.headers.extend([("powered-by", powered_by), ("content-length", "29")]);
        expected.body = Some(LIMITED);
        expected
    }

    fn differences(&self, response: &Response) -> Vec<String> {
        let mut differences = Vec::new();
        if response.status != self.status {
            differences.push(format!("status {} instead of {}", response.status, self.status));
        }
        for (name, value) in &self.headers {
            let values = response.header_values(name);
            if values != [*value] {
                differences.push(format!("header `{name}` is {values:?} instead of {value:?}"));
            }
        }
        if let Some(body) = self.body
            && response.body != body.as_bytes()
        {
            let text = response.text();
            differences.push(format!("the body is {text:?} instead of {body:?}"));
        }
        differences
    }
}
