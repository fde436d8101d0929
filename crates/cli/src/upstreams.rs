//! From flags and files to what the data plane is told about upstreams.

use std::path::Path;

use anyhow::{Context, bail};
use wasmplug_proxy::{EjectionOptions, LoadBalancing, UpstreamOptions, UpstreamTls};

use crate::args::{Balancing, UpstreamArguments};

/// Largest file of certificates that is read. Source: ours.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// # Errors
/// A file of certificates or keys cannot be read.
pub(crate) fn options(arguments: &UpstreamArguments) -> anyhow::Result<UpstreamOptions> {
    let read = |path: &Option<_>| path.as_deref().map(read_pem).transpose();
    let identity = read(&arguments.upstream_tls_cert)?.zip(read(&arguments.upstream_tls_key)?);
    Ok(UpstreamOptions {
        load_balancing: match arguments.load_balancing {
            Balancing::RoundRobin => LoadBalancing::RoundRobin,
            Balancing::LeastRequest => LoadBalancing::LeastRequest,
        },
        resolve_interval: arguments.upstream_resolve_interval,
        ejection: EjectionOptions {
            consecutive_failures: arguments.eject_after,
            ..EjectionOptions::default()
        },
        max_connections: arguments.upstream_max_connections,
        max_pending_requests: arguments.upstream_max_pending,
        max_requests: arguments.upstream_max_requests,
        idle_timeout: arguments.upstream_idle_timeout,
        tls: UpstreamTls { authorities: read(&arguments.upstream_ca)?, identity },
        ..UpstreamOptions::default()
    })
}

fn read_pem(path: &Path) -> anyhow::Result<Vec<u8>> {
    let length = fs_err::metadata(path).context("cannot read certificates for upstreams")?.len();
    if length > MAX_PEM_BYTES {
        bail!("`{}` has {length} bytes, and at most {MAX_PEM_BYTES} are read", path.display());
    }
    fs_err::read(path).context("cannot read certificates for upstreams")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_certificates_has_four_mebibytes_at_most() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_PEM_BYTES).unwrap();
        assert_eq!(read_pem(file.path()).unwrap().len(), 4 << 20);
        file.as_file().set_len(MAX_PEM_BYTES + 1).unwrap();
        assert!(read_pem(file.path()).unwrap_err().to_string().contains("at most 4194304"));
    }
}
