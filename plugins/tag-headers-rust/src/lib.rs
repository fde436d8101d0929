//! A Proxy-Wasm plugin that appends its tag to `x-chain` on the request and to
//! `x-chain-response` on the response, so that the order of a chain can be seen from outside.

mod tag;

use std::rc::Rc;

use log::error;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

const REQUEST_HEADER: &str = "x-chain";
const RESPONSE_HEADER: &str = "x-chain-response";

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(TagHeadersRoot { tag: Rc::from("") }));
}}

/// The plugin context: one for each plugin configuration in the VM.
struct TagHeadersRoot {
    tag: Rc<str>,
}

/// The stream context: one for each request.
struct TagHeadersStream {
    tag: Rc<str>,
}

impl Context for TagHeadersRoot {}

impl RootContext for TagHeadersRoot {
    fn on_configure(&mut self, _plugin_configuration_size: usize) -> bool {
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        match tag::parse(&configuration) {
            Ok(tag) => {
                self.tag = Rc::from(tag);
                true
            }
            Err(reason) => {
                error!("invalid plugin configuration: {reason}");
                false
            }
        }
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(TagHeadersStream { tag: Rc::clone(&self.tag) }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for TagHeadersStream {}

impl HttpContext for TagHeadersStream {
    fn on_http_request_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        // As bytes: a header that is not UTF-8 must not end the VM.
        let current = self.get_http_request_header_bytes(REQUEST_HEADER);
        let chain = tag::append(current, &self.tag);
        self.set_http_request_header_bytes(REQUEST_HEADER, Some(&chain));
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        let current = self.get_http_response_header_bytes(RESPONSE_HEADER);
        let chain = tag::append(current, &self.tag);
        self.set_http_response_header_bytes(RESPONSE_HEADER, Some(&chain));
        Action::Continue
    }
}
