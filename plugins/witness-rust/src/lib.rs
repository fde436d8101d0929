//! A Proxy-Wasm plugin that tells in `x-witness` of the response what it saw of the request.
//!
//! One module, two plugins: `pluginName` chooses. With `token` it tells whether the request carries
//! a token, with `principal` whom the proxy's JWT filter has found in it. Where a copy stands in the
//! chain decides what there is to see.

mod note;

use std::rc::Rc;

use log::error;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

use crate::note::Subject;

const WITNESS_HEADER: &str = "x-witness";
/// Where Envoy, with Istio's configuration, leaves the payload of a token that it has verified.
const SUBJECT: [&str; 5] =
    ["metadata", "filter_metadata", "envoy.filters.http.jwt_authn", "payload", "sub"];

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(WitnessRoot { subject: None, name: Rc::from("") }));
}}

/// The plugin context: one for each plugin configuration in the VM.
struct WitnessRoot {
    subject: Option<Subject>,
    name: Rc<str>,
}

/// The stream context: one for each request.
struct WitnessStream {
    subject: Subject,
    name: Rc<str>,
    note: String,
}

impl Context for WitnessRoot {}

impl RootContext for WitnessRoot {
    fn on_configure(&mut self, _plugin_configuration_size: usize) -> bool {
        let root_id = self.get_property(vec!["plugin_root_id"]).unwrap_or_default();
        self.subject = Subject::of_root_id(&root_id);
        if self.subject.is_none() {
            error!("`pluginName` must be `token` or `principal`");
            return false;
        }
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        match note::name(&configuration) {
            Ok(name) => {
                self.name = Rc::from(name);
                true
            }
            Err(reason) => {
                error!("invalid plugin configuration: {reason}");
                false
            }
        }
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        let (subject, name) = (self.subject?, Rc::clone(&self.name));
        Some(Box::new(WitnessStream { subject, name, note: String::new() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for WitnessStream {}

impl HttpContext for WitnessStream {
    fn on_http_request_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        let seen = match self.subject {
            Subject::Token => {
                let token = self.get_http_request_header_bytes("authorization");
                if token.is_some() { "token".to_owned() } else { "no token".to_owned() }
            }
            Subject::Principal => note::principal(self.get_property(SUBJECT.to_vec())),
        };
        self.note = format!("{}: {seen}", self.name);
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        // Responses pass the chain backwards: in front of the others it is in request order.
        let others = self.get_http_response_header_bytes(WITNESS_HEADER);
        let notes = note::before(&self.note, others);
        self.set_http_response_header_bytes(WITNESS_HEADER, Some(&notes));
        Action::Continue
    }
}
