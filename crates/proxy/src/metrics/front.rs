//! What became of connections before anything was served on them, counted under Envoy's names
//! where Envoy has the thing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{Sample, WorkerMetrics, bump, encode};
use crate::listener::{Front, FrontError, Opened, Transport};

/// Connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct FrontMetrics {
    handshakes: AtomicU64,
    handshake_errors: AtomicU64,
    no_certificate: AtomicU64,
    bad_certificate: AtomicU64,
    timeouts: AtomicU64,
    not_mutual: AtomicU64,
    bad_proxy_headers: AtomicU64,
}

/// A counter of one worker.
type Counter = fn(&FrontMetrics) -> &AtomicU64;

// === impl FrontMetrics ===

impl FrontMetrics {
    pub(crate) fn count_opened(&self, opened: &Opened) {
        if matches!(opened.transport, Transport::Tls(..)) {
            bump(&self.handshakes);
        }
    }

    /// Counts a connection that the plan refuses because it is not mutual TLS.
    pub(crate) fn count_not_mutual(&self) {
        bump(&self.not_mutual);
    }

    pub(crate) fn count_failure(&self, error: &FrontError) {
        match error {
            FrontError::ProxyHeader(_) => bump(&self.bad_proxy_headers),
            FrontError::Timeout => bump(&self.timeouts),
            FrontError::Certificate => bump(&self.bad_certificate),
            FrontError::Broken(_) => {}
            FrontError::Handshake(error) => bump(self.of_handshake(error)),
        }
    }

    fn of_handshake(&self, error: &std::io::Error) -> &AtomicU64 {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::NoCertificatesPresented) => &self.no_certificate,
            Some(rustls::Error::InvalidCertificate(_)) => &self.bad_certificate,
            _ => &self.handshake_errors,
        }
    }
}

/// Writes the counters of a listener that has something in front.
pub(super) fn encode_front(
    out: &mut DescriptorEncoder<'_>,
    workers: &[Arc<WorkerMetrics>],
    front: &Front,
) -> std::fmt::Result {
    let counters: [(&str, &str, Counter); 7] = [
        ("envoy_listener_ssl_handshake", "TLS handshakes", |of| &of.handshakes),
        (
            "envoy_listener_ssl_connection_error",
            "TLS handshakes that failed for another reason than a certificate",
            |of| &of.handshake_errors,
        ),
        (
            "envoy_listener_ssl_fail_verify_no_cert",
            "Clients that did not show a certificate and had to",
            |of| &of.no_certificate,
        ),
        ("envoy_listener_ssl_fail_verify_error", "Clients whose certificate was refused", |of| {
            &of.bad_certificate
        }),
        (
            "envoy_listener_downstream_pre_cx_timeout",
            "Connections closed before their handshake was done",
            |of| &of.timeouts,
        ),
        (
            "envoy_listener_no_filter_chain_match",
            "Connections refused because the plan asks for mutual TLS",
            |of| &of.not_mutual,
        ),
        (
            "wasmplug_proxy_protocol_rejected",
            "Connections without a PROXY header that can be used",
            |of| &of.bad_proxy_headers,
        ),
    ];
    for (name, help, counter) in counters {
        let of = |worker: &Arc<WorkerMetrics>| counter(&worker.front).load(Ordering::Relaxed);
        let sum = workers.iter().map(of).sum();
        encode(out, name, help, MetricType::Counter, &[(Vec::new(), sum)])?;
    }
    let Some(tls) = &front.tls else { return Ok(()) };
    let [accepted, rejected] = tls.reloads();
    let result = |result: &str, count| (vec![("result", result.to_owned())], count);
    let reloads: [Sample; 2] = [result("accepted", accepted), result("rejected", rejected)];
    let help = "Newer certificates, keys and authorities by what became of them";
    encode(out, "wasmplug_tls_reloads", help, MetricType::Counter, &reloads)?;
    let name = "wasmplug_tls_certificate_not_after_seconds";
    let help = "End of the certificate that new connections are shown, in seconds since 1970";
    encode(out, name, help, MetricType::Gauge, &[(Vec::new(), tls.not_after())])
}
