//! What comes for a plugin from outside its streams, in a session.
//!
//! ```text
//! grpc-initial TOKEN FIELDS | grpc-message TOKEN TEXT | grpc-trailing TOKEN FIELDS
//! grpc-close TOKEN STATUS MESSAGE
//! access-log HEADERS | HEADERS | TRAILERS
//! dns TOKEN [TTL=ADDRESS …] | foreign NUMBER TEXT | stats TEXT
//! request-metadata COUNT | response-metadata COUNT
//! ```

use std::rc::Rc;

use bytes::Bytes;
use wasmplug_host::{DnsAnswer, FieldsKind, GrpcStatus};

use super::{RecordingStream, Session, log_fields, parse};

// === impl Session ===

impl Session {
    /// Whether this is an event, which then was told.
    pub(super) fn event(&mut self, name: &str, rest: &str) -> bool {
        if name == "access-log" {
            self.access_log(rest);
            return true;
        }
        if let "request-metadata" | "response-metadata" = name {
            self.metadata(name, rest.parse().unwrap());
            return true;
        }
        let plugin = self.plugins.get(&self.plugin).map(|(plugin, _)| plugin.clone());
        let Some(plugin) = plugin else { return false };
        let (first, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let number = || first.parse::<u32>().unwrap();
        let bytes = || Bytes::copy_from_slice(text.as_bytes());
        let metadata = || parse(FieldsKind::Response, text);
        let told = match name {
            "grpc-initial" => plugin.on_grpc_receive_initial_metadata(number(), metadata()),
            "grpc-message" => plugin.on_grpc_receive(number(), bytes()),
            "grpc-trailing" => plugin.on_grpc_receive_trailing_metadata(number(), metadata()),
            "grpc-close" => {
                let (status, message) = text.split_once(' ').unwrap_or((text, ""));
                let status = GrpcStatus::new(status.parse().unwrap(), message);
                plugin.on_grpc_close(number(), &status)
            }
            "dns" => {
                let answer = |pair: &str| {
                    let (ttl, address) = pair.split_once('=').unwrap();
                    let ttl_seconds = ttl.parse().unwrap();
                    DnsAnswer { ttl_seconds, address: address.to_owned() }
                };
                let answers: Vec<_> = text.split_whitespace().map(answer).collect();
                plugin.on_resolve_dns(number(), &answers)
            }
            "foreign" => plugin.on_foreign_function(number(), bytes()),
            "stats" => plugin.on_stats_update(Bytes::copy_from_slice(rest.as_bytes())),
            _ => return false,
        };
        self.failed(told.err());
        true
    }

    fn access_log(&mut self, maps: &str) {
        let host = Rc::new(RecordingStream {
            name: "logged".to_owned(),
            transcript: self.transcript.clone(),
            set: Rc::clone(&self.properties),
        });
        match self.current_plugin().on_access_log(host, log_fields(maps)) {
            Ok(back) => self.lent(back),
            Err(failure) => self.failed(Some(failure)),
        }
    }

    fn metadata(&mut self, name: &str, entries: usize) {
        let stream = self.streams.get_mut(&self.stream).expect("the stream has begun");
        let told = match name {
            "request-metadata" => stream.on_request_metadata(entries),
            _ => stream.on_response_metadata(entries),
        };
        self.failed(told.err());
    }
}
