//! TCP connections in a session.
//!
//! ```text
//! connect                                 a client, under the name of the stream
//! downstream[!] TEXT | upstream[!] TEXT   bytes of the client and of the server; `!` ends them
//! downstream-close N | upstream-close N   closed by nobody, by us (1), by the peer (2)
//! go-on                                   what the plugin asked for, and what it held
//! end-connection
//! ```

use std::rc::Rc;

use bytes::Bytes;
use wasmplug_host::abi::{NetworkAction, PeerType};
use wasmplug_host::{BodyBuffer, Failure, NetworkStream};

use super::{RecordingStream, Session};

// === impl Session ===

impl Session {
    /// Whether this is a command of connections, which then was run.
    pub(super) fn connection_command(&mut self, name: &str, end: bool, rest: &str) -> bool {
        if name == "connect" {
            self.connect();
            return true;
        }
        let Some(mut connection) = self.connections.remove(&self.stream) else { return false };
        match name {
            "downstream" => {
                let action = connection.on_downstream_data(bytes(rest), end);
                self.passed("downstream", &action, &mut connection);
            }
            "upstream" => {
                let action = connection.on_upstream_data(bytes(rest), end);
                self.passed("upstream", &action, &mut connection);
            }
            "downstream-close" => self.failed(connection.on_downstream_close(peer(rest)).err()),
            "upstream-close" => self.failed(connection.on_upstream_close(peer(rest)).err()),
            "go-on" => {}
            "end-connection" => {
                connection.finish();
                return true;
            }
            _ => {
                self.connections.insert(self.stream.clone(), connection);
                return false;
            }
        }
        let actions = connection.take_actions();
        let goes_on = actions.continue_request;
        self.actions(actions);
        if goes_on {
            self.data("downstream", connection.release_downstream_data());
        }
        self.connections.insert(self.stream.clone(), connection);
        true
    }

    fn connect(&mut self) {
        let host = Rc::new(RecordingStream {
            name: self.stream.clone(),
            transcript: self.transcript.clone(),
            set: Rc::clone(&self.properties),
        });
        let Some(mut connection) = self.current_plugin().open_connection(host) else {
            return self.add("! no connection");
        };
        self.shown(&connection.on_new_connection());
        self.actions(connection.take_actions());
        self.connections.insert(self.stream.clone(), connection);
    }

    /// Shows what a plugin let through, or how much it holds.
    fn passed(
        &self,
        side: &str,
        action: &Result<NetworkAction, Failure>,
        connection: &mut NetworkStream,
    ) {
        let is_downstream = side == "downstream";
        match self.shown(action) {
            None => {}
            Some(NetworkAction::StopIteration) => {
                let held = if is_downstream {
                    connection.downstream_data_len()
                } else {
                    connection.upstream_data_len()
                };
                self.add(format!("= holds {held} bytes"));
            }
            Some(NetworkAction::Continue) => {
                let data = if is_downstream {
                    connection.release_downstream_data()
                } else {
                    connection.release_upstream_data()
                };
                self.data(side, data);
            }
        }
    }

    fn data(&self, side: &str, data: BodyBuffer) {
        let bytes = Bytes::from(data);
        self.add(format!("= {side} {:?}", String::from_utf8_lossy(&bytes)));
    }
}

fn bytes(text: &str) -> BodyBuffer {
    Bytes::copy_from_slice(text.as_bytes()).into()
}

fn peer(number: &str) -> PeerType {
    match number {
        "1" => PeerType::Local,
        "2" => PeerType::Remote,
        _ => PeerType::Unknown,
    }
}
