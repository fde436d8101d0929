//! The command line as typed. Doc comments are the help; nothing here does I/O.

mod limits;
mod listener;
mod modules;
mod upstreams;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use http::HeaderValue;
use wasmplug_api::WorkloadRole;
use wasmplug_proxy::{ClusterConfig, Route};

pub(crate) use self::limits::LimitSetting;
pub(crate) use self::listener::ListenerArguments;
pub(crate) use self::modules::{
    CacheArguments, CacheCommand, CacheGcArguments, CacheLsArguments, CacheRmArguments,
    InspectArguments, Layout, LoadArguments, LoginArguments, PullArguments, PushArguments,
    SaveArguments, SignArguments, VerifyArguments,
};
pub(crate) use self::upstreams::{Balancing, UpstreamArguments};

/// Run Istio WasmPlugins anywhere.
#[derive(Debug, Parser)]
#[command(
    name = "wasmplug",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Start with `wasmplug quickstart`."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One verb each.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Quickstart(QuickstartArguments),
    Run(Box<RunArguments>),
    Check(CheckArguments),
    Explain(ExplainArguments),
    #[command(hide = true)]
    Schema(SchemaArguments),
    Inspect(InspectArguments),
    Pull(PullArguments),
    Push(PushArguments),
    Sign(SignArguments),
    Verify(VerifyArguments),
    Save(SaveArguments),
    Load(LoadArguments),
    Cache(CacheArguments),
    Completions(CompletionsArguments),
    Man(ManArguments),
}

/// See the whole story on this machine: a registry, a WasmPlugin, a request through the plugin.
///
/// Starts an OCI registry with the bundled example plugins and an echo server, both on loopback,
/// and a proxy with a WasmPlugin whose `url` is an image in that registry. Prints what to try and
/// serves until Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmplug quickstart                  serve, and try it with the curl lines it prints
  wasmplug quickstart --once           send the documented requests and check the answers
  wasmplug quickstart --plugin go      the same plugin, written in Go")]
pub(crate) struct QuickstartArguments {
    /// Send the documented requests, print each answer, and exit 0 if all are as documented.
    #[arg(long)]
    pub(crate) once: bool,
    /// Language of the example plugin.
    #[arg(long, value_enum, default_value_t = ExamplePlugin::Rust)]
    pub(crate) plugin: ExamplePlugin,
    /// Where clients connect [default: 127.0.0.1:10000, with --once any free port].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where the admin pages are [default: 127.0.0.1:15000, with --once any free port].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) logging: LoggingArguments,
}

/// Language in which a bundled example plugin is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExamplePlugin {
    /// `plugins/rate-limit-rust`.
    Rust,
    /// `plugins/rate-limit-go`.
    Go,
}

/// Proxy HTTP to an upstream through the plugins of WasmPlugin files.
///
/// Reads the files, plans the filter chain for the given workload, fetches the modules, and serves.
/// The files are watched: an edited, added or removed WasmPlugin takes effect within a second, and
/// a broken edit changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmplug run -f wasmplugin.yaml --upstream 127.0.0.1:3000
  wasmplug run -f plugins/ --upstream localhost:3000 --namespace shop --label app=web
  wasmplug run -f plugins/ --upstream localhost:3000 --role gateway --listen 0.0.0.0:80
  wasmplug run -f bookinfo.yaml plugins/ --upstream localhost:9080 --workload productpage-v1
  wasmplug run -f p.yaml --upstream localhost:3000 --cluster api=localhost:4000 --route /api=api
  wasmplug run -f p.yaml --upstream localhost:3000 --access-log - --access-log-format json
  wasmplug run -f p.yaml --upstream localhost:3000 --handover /run/wasmplug/handover
  wasmplug run -f p.yaml --upstream localhost:3000 --limit callback_deadline=50ms
  wasmplug run -f p.yaml --upstream 10.0.0.1:80,10.0.0.2:80 --load-balancing round-robin
  wasmplug run -f p.yaml --upstream https://api.example.com --upstream-ca corporate.pem
  wasmplug run -f network.yaml --upstream localhost:5432 --protocol tcp
  wasmplug run -f p.yaml --upstream localhost:3000 --tls-cert tls.crt --tls-key tls.key
  wasmplug run -f p.yaml --upstream localhost:3000 --tls-cert tls.crt --tls-key tls.key \
      --tls-client-ca ca.crt
  wasmplug run -f p.yaml --upstream localhost:3000 --proxy-protocol")]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) sources: SourceArguments,
    /// Where requests go, as `host:port`, several of them with commas between, and a scheme in front
    /// of the first: `http://` for HTTP/1.1, `https://` for the same over TLS, `h2c://` for HTTP/2,
    /// `h2://` for the same over TLS. Each address of a name is an endpoint.
    #[arg(long, value_name = "HOST:PORT[,HOST:PORT]")]
    pub(crate) upstream: ClusterConfig,
    /// Where clients connect.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:10000")]
    pub(crate) listen: SocketAddr,
    /// Where `/ready`, `/stats/prometheus` and `/config_dump` are.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15000")]
    pub(crate) admin: SocketAddr,
    #[command(flatten)]
    pub(crate) listener: ListenerArguments,
    #[command(flatten)]
    pub(crate) workload: WorkloadArguments,
    /// Cluster that plugins may call, as NAME=HOST:PORT, written as that of --upstream; may be
    /// repeated. Istio's `outbound|PORT||HOST` finds the one with that host and port.
    #[arg(long = "cluster", value_name = "NAME=HOST:PORT", value_parser = parse_cluster)]
    pub(crate) clusters: Vec<(String, ClusterConfig)>,
    /// Host that plugins may call by its address, without a name for it; may be repeated.
    #[arg(long = "callout-host", value_name = "HOST:PORT")]
    pub(crate) callout_hosts: Vec<ClusterConfig>,
    /// Requests that go to a cluster and not to the upstream, as `[HOST]/PREFIX=CLUSTER`; may be
    /// repeated, the first that fits counts. HOST may begin with `*.`.
    #[arg(long = "route", value_name = "[HOST]/PREFIX=CLUSTER", value_parser = parse_route)]
    pub(crate) routes: Vec<Route>,
    #[command(flatten)]
    pub(crate) upstreams: UpstreamArguments,
    /// What clients speak. With `tcp`, bytes go to the upstream as they are, through plugins of
    /// type NETWORK.
    #[arg(long, value_enum, default_value_t = Protocol::Http)]
    pub(crate) protocol: Protocol,
    /// Number of worker threads [default: number of cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: Option<u16>,
    /// Value of the `server` response header.
    #[arg(long, value_name = "NAME", default_value = "wasmplug")]
    pub(crate) server_name: HeaderValue,
    /// Tell in a `server-timing` header of responses how long each plugin took; for development,
    /// because clients see it.
    #[arg(long)]
    pub(crate) server_timing: bool,
    /// Write a line about each request to this file, or to standard output with `-`; every call of
    /// plugins is timed then.
    #[arg(long, value_name = "FILE")]
    pub(crate) access_log: Option<PathBuf>,
    /// How a line of the access log is written: in Istio's default text format, or as JSON.
    #[arg(long, value_enum, default_value_t = AccessLogEncoding::Text, requires = "access_log")]
    pub(crate) access_log_format: AccessLogEncoding,
    /// Take the listening sockets over from the process that was started with the same path, and hand
    /// them over to the next one: no connection is refused while one takes the other's place.
    #[arg(long, value_name = "PATH")]
    pub(crate) handover: Option<PathBuf>,
    /// Limit of the proxy or of every plugin's VM, as NAME=VALUE; may be repeated. Names, units and
    /// defaults: docs/limits.md.
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = limits::parse)]
    pub(crate) limits: Vec<LimitSetting>,
    #[command(flatten)]
    pub(crate) store: StoreArguments,
    /// How often to look whether tags were moved although no file has changed, such as 30s, 10m or
    /// 1h: takes effect under `imagePullPolicy: Always`, and is told under others [default: never].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) refresh_interval: Option<Duration>,
    #[command(flatten)]
    pub(crate) logging: LoggingArguments,
}

/// How a line of the access log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccessLogEncoding {
    /// Values in a fixed order.
    Text,
    /// One JSON object a line.
    Json,
}

/// What clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// HTTP/1.1 or HTTP/2.
    Http,
    /// Any bytes.
    Tcp,
}

/// Validate resource files by Istio's rules, without running anything.
///
/// Reports every finding of every document at once, with file, line, column and a hint, and what
/// only shows when resources are looked at together. Exits with 1 if there is an error; warnings do
/// not count.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmplug check -f wasmplugin.yaml
  wasmplug check -f plugins/ -o json | jq '.findings[].message'")]
pub(crate) struct CheckArguments {
    #[command(flatten)]
    pub(crate) sources: SourceArguments,
    /// Namespace whose resources apply to the whole mesh.
    #[arg(long, default_value = "istio-system")]
    pub(crate) root_namespace: String,
    /// How the result is printed.
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}

/// Show the filter chain of a workload: what runs, in which order, why, and what does not.
///
/// Nothing is fetched. Exits with 1 if a resource has an error.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmplug explain -f plugins/ --namespace shop --label app=web
  wasmplug explain -f bookinfo.yaml plugins/ --workload productpage-v1
  wasmplug explain -f plugins/ --role gateway -o json | jq '.plan.filters[].resource'")]
pub(crate) struct ExplainArguments {
    #[command(flatten)]
    pub(crate) sources: SourceArguments,
    #[command(flatten)]
    pub(crate) workload: WorkloadArguments,
    /// How the result is printed.
    #[arg(short = 'o', long, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}

/// The resources that a command reads.
#[derive(Debug, Args)]
pub(crate) struct SourceArguments {
    /// File or folder with resources as YAML or JSON; may be repeated.
    #[arg(short = 'f', long = "file", value_name = "PATH", required = true, num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
}

/// Form of a command's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For scripts.
    Json,
}

/// The workload that a chain is planned for.
#[derive(Debug, Clone, Args)]
pub(crate) struct WorkloadArguments {
    /// Deployment, Pod, WorkloadEntry or Gateway in the files, as NAME, NAMESPACE/NAME, KIND/NAME or
    /// NAMESPACE/KIND/NAME. Gives namespace, labels, service account, port, role and mounted
    /// modules.
    #[arg(long, value_name = "NAME", conflicts_with = "namespace")]
    pub(crate) workload: Option<String>,
    /// Namespace of the workload that this proxy stands for [default: default].
    #[arg(long)]
    pub(crate) namespace: Option<String>,
    /// Label of the workload, for selectors; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,
    /// What the proxy is to the workload: sidecar-inbound, sidecar-outbound, gateway or waypoint
    /// [default: sidecar-inbound, or what --workload is].
    #[arg(long)]
    pub(crate) role: Option<WorkloadRole>,
    /// Namespace whose resources apply to the whole mesh.
    #[arg(long, default_value = "istio-system")]
    pub(crate) root_namespace: String,
    /// Port that `match.ports` is compared with; any port matches if it is not known.
    #[arg(long)]
    pub(crate) port: Option<u16>,
}

/// Where modules are kept, and how they are fetched.
#[derive(Debug, Args)]
pub(crate) struct StoreArguments {
    /// Where fetched modules are kept [default: wasmplug in the user's cache directory].
    #[arg(long, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Largest size of all modules there, such as 500M or 4G: the longest unused go first, and
    /// never what a process has loaded.
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = modules::parse_size)]
    pub(crate) cache_max_size: u64,
    /// How long a module stays there that nobody uses, such as 12h or 30d.
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = parse_duration)]
    pub(crate) cache_max_age: Duration,
    /// Registry that is asked over plain http, as `host` or `host:port`; may be repeated.
    /// Loopback registries always are.
    #[arg(long = "plain-http-registry", value_name = "HOST")]
    pub(crate) plain_http_registries: Vec<String>,
    /// Registry or server whose certificate is not verified, as `host` or `host:port`; may be
    /// repeated.
    #[arg(long = "insecure-registry", value_name = "HOST")]
    pub(crate) insecure_registries: Vec<String>,
    /// Registry that is asked in place of another one, as `REGISTRY=HOST[:PORT][/PATH]`; may be
    /// repeated.
    #[arg(long = "registry-mirror", value_name = "REGISTRY=MIRROR", value_parser = parse_mirror)]
    pub(crate) mirrors: Vec<(String, String)>,
    /// HTTP proxy for everything but this machine, as `http://[USER:PASSWORD@]HOST:PORT`; the
    /// environment is not looked at.
    // Parsed later: what is wrong here is quoted, and this may hold a password.
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<String>,
    /// File with certificate authorities in PEM that are trusted beside the system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Signature policy, a JSON file: who must have signed which modules.
    #[arg(long, value_name = "FILE")]
    pub(crate) require_signed: Option<PathBuf>,
}

/// What is logged to standard error.
#[derive(Debug, Args)]
pub(crate) struct LoggingArguments {
    /// What is logged: error, warn, info, debug, trace, or filters such as `info,wasm=debug`.
    /// [default: info; for `quickstart --once`: warn].
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

/// Print the schema of a resource.
#[derive(Debug, Args)]
pub(crate) struct SchemaArguments {
    /// For an API server, or for editors.
    pub(crate) form: SchemaForm,
    /// The resource.
    #[arg(value_parser = ["WasmPlugin", "TrafficExtension"])]
    pub(crate) kind: String,
}

/// Form of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaForm {
    /// Custom resource definition of Kubernetes, as YAML.
    Crd,
    /// JSON Schema.
    Json,
}

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wasmplug completions bash > /etc/bash_completion.d/wasmplug")]
pub(crate) struct CompletionsArguments {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

/// Print the manual page.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wasmplug man | man -l -")]
pub(crate) struct ManArguments {}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form KEY=VALUE")),
    }
}

/// A whole number of seconds, minutes, hours or days, and more than none.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let error = || format!("`{text}` is not a duration such as 30s, 10m, 1h or 7d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(error)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(error()),
    };
    // Digits alone: the parser of numbers would also take a sign.
    let digits = Some(number).filter(|it| it.bytes().all(|b| b.is_ascii_digit()));
    let number: Option<u64> = digits.and_then(|digits| digits.parse().ok());
    let product = number.and_then(|number| number.checked_mul(seconds)).filter(|it| *it > 0);
    product.map(Duration::from_secs).ok_or_else(error)
}

fn parse_mirror(text: &str) -> Result<(String, String), String> {
    let is_host = |host: &str| !host.is_empty() && !host.contains("://") && !host.starts_with('/');
    match text.split_once('=') {
        // Docker Hub is known by another name than people know it by.
        Some(("docker.io", mirror)) if is_host(mirror) => {
            Ok((wasmplug_api::module_url::DOCKER_HUB.to_owned(), mirror.to_owned()))
        }
        Some((registry, mirror)) if is_host(mirror) && is_host(registry) => {
            Ok((registry.to_ascii_lowercase(), mirror.to_owned()))
        }
        _ => Err(format!("`{text}` is not of the form REGISTRY=HOST[:PORT][/PATH]")),
    }
}

fn parse_cluster(text: &str) -> Result<(String, ClusterConfig), String> {
    match text.split_once('=') {
        Some(("upstream", _)) => {
            Err("the cluster `upstream` is that of --upstream; give this one another name".into())
        }
        Some((name, cluster)) if !name.is_empty() => {
            let cluster = cluster.parse::<ClusterConfig>().map_err(|error| error.to_string())?;
            Ok((name.to_owned(), cluster))
        }
        _ => Err(format!("`{text}` is not of the form NAME=HOST:PORT")),
    }
}

fn parse_route(text: &str) -> Result<Route, String> {
    let form = || format!("`{text}` is not of the form [HOST]/PREFIX=CLUSTER");
    let (from, cluster) = text.rsplit_once('=').ok_or_else(form)?;
    let slash = from.find('/').ok_or_else(form)?;
    let (host, prefix) = from.split_at(slash);
    if cluster.is_empty() {
        return Err(form());
    }
    Ok(Route {
        name: from.to_owned(),
        host: (!host.is_empty()).then(|| host.to_owned()),
        prefix: prefix.to_owned(),
        cluster: cluster.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{Arguments, parse_cluster, parse_duration, parse_label, parse_mirror, parse_route};
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn clusters_have_a_name_and_an_address() {
        let (name, cluster) = parse_cluster("auth=127.0.0.1:9000,a:1").unwrap();
        assert_eq!((name.as_str(), cluster.to_string().as_str()), ("auth", "127.0.0.1:9000,a:1"));
        assert!(parse_cluster("upstream=127.0.0.1:9000").is_err());
        assert!(parse_cluster("127.0.0.1:9000").is_err());
        assert!(parse_cluster("auth=9000").is_err());
    }

    #[test]
    fn routes_have_a_path_and_a_cluster() {
        let route = parse_route("a.test/api=b").unwrap();
        assert_eq!((route.host.as_deref(), &*route.prefix), (Some("a.test"), "/api"));
        assert_eq!(parse_route("/=b").unwrap().host, None);
        for text in ["/api", "a.test=b", "/api=", ""] {
            assert!(parse_route(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        let seconds = |text| parse_duration(text).map(|it| it.as_secs());
        assert_eq!(seconds("30s"), Ok(30));
        assert_eq!(seconds("10m"), Ok(600));
        assert_eq!(seconds("2d"), Ok(172_800));
        for text in ["", "s", "30", "0s", "-1s", "+1s", "1.5h", "1w", "1é", "99999999999999999999d"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mirrors_are_hosts_with_a_path() {
        let parsed = |text| parse_mirror(text).unwrap();
        assert_eq!(parsed("GHCR.io=a:5000/b"), ("ghcr.io".into(), "a:5000/b".into()));
        assert_eq!(parsed("docker.io=a"), ("index.docker.io".into(), "a".into()));
        for text in ["", "ghcr.io", "ghcr.io=", "=a", "ghcr.io=https://a", "https://ghcr.io=a"] {
            assert!(parse_mirror(text).is_err(), "{text}");
        }
    }

    #[test]
    fn labels_have_a_key() {
        assert_eq!(parse_label("app=web=1"), Ok(("app".into(), "web=1".into())));
        assert_eq!(parse_label("app="), Ok(("app".into(), String::new())));
        assert!(parse_label("=web").is_err());
        assert!(parse_label("app").is_err());
    }

    #[test]
    fn there_are_one_to_256_workers() {
        let parsed = |workers: &str| {
            let line = ["wasmplug", "run", "-f", "a.yaml", "--upstream", "a:1"];
            Arguments::try_parse_from(line.into_iter().chain(["--workers", workers])).is_ok()
        };
        assert_eq!(["0", "1", "256", "257"].map(parsed), [false, true, true, false]);
    }
}
