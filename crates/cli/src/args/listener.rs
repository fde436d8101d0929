//! How clients are met: TLS, and the PROXY protocol.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use wasmplug_proxy::{ClientAuth, TlsMode};

/// What stands in front of a connection.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListenerArguments {
    /// Certificate that clients are shown, a file in PEM with those behind it that lead to its
    /// authority, such as `tls.crt` of a Kubernetes secret; followed as it changes, and read again
    /// on SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of that certificate, a file in PEM without a password.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Authorities that verify certificates of clients, a file in PEM: mutual TLS.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Whether clients have to show a certificate.
    #[arg(long, value_enum, default_value_t = ClientAuthArgument::Required, requires = "tls_client_ca")]
    pub(crate) tls_client_auth: ClientAuthArgument,
    /// Whether plain text is served on the same port as well. A `PeerAuthentication` of `STRICT`
    /// closes it in any case.
    #[arg(long, value_enum, default_value_t = TlsModeArgument::Strict, requires = "tls_cert")]
    pub(crate) tls_mode: TlsModeArgument,
    /// Take the client's address from a header of the PROXY protocol, version 1 or 2, with which
    /// every connection then has to begin. Whoever can connect can say what it likes there: let
    /// nobody but your load balancer connect.
    #[arg(long)]
    pub(crate) proxy_protocol: bool,
}

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientAuthArgument {
    /// They have to.
    Required,
    /// They may; one that does not verify is refused all the same.
    Optional,
}

/// Whether plain text is served as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TlsModeArgument {
    /// It is not.
    Strict,
    /// It is; the first byte of a connection tells.
    Permissive,
}

// === impl ClientAuthArgument ===

impl From<ClientAuthArgument> for ClientAuth {
    fn from(argument: ClientAuthArgument) -> Self {
        match argument {
            ClientAuthArgument::Required => Self::Required,
            ClientAuthArgument::Optional => Self::Optional,
        }
    }
}

// === impl TlsModeArgument ===

impl From<TlsModeArgument> for TlsMode {
    fn from(argument: TlsModeArgument) -> Self {
        match argument {
            TlsModeArgument::Strict => Self::Strict,
            TlsModeArgument::Permissive => Self::Permissive,
        }
    }
}
