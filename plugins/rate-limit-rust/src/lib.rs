//! A Proxy-Wasm plugin that limits requests to two a second and marks every response.
//!
//! The limit belongs to the VM: every stream of one VM takes its tokens from the same bucket.

mod bucket;

use std::cell::RefCell;
use std::rc::Rc;

use log::{error, info};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

use crate::bucket::TokenBucket;

const LIMITED_STATUS: u32 = 403;
const LIMITED_BODY: &[u8] = b"rate limited, wait and retry.";

thread_local! {
    /// A VM runs one thread, so this is the bucket of the VM, whichever plugin context asks.
    static BUCKET: RefCell<TokenBucket> = const { RefCell::new(TokenBucket::full()) };
}

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(RateLimitRoot { configuration: Rc::from("") }));
}}

/// The plugin context: one for each plugin configuration in the VM.
struct RateLimitRoot {
    configuration: Rc<str>,
}

/// The stream context: one for each request.
struct RateLimitStream {
    context_id: u32,
    configuration: Rc<str>,
}

impl Context for RateLimitRoot {}

impl RootContext for RateLimitRoot {
    fn on_configure(&mut self, _plugin_configuration_size: usize) -> bool {
        let bytes = self.get_plugin_configuration().unwrap_or_default();
        match String::from_utf8(bytes) {
            Ok(text) => {
                // A header is one line, whatever the layout of the configuration.
                self.configuration = Rc::from(text.replace(char::is_control, " "));
                true
            }
            Err(error) => {
                error!("the plugin configuration is not UTF-8: {error}");
                false
            }
        }
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        let configuration = Rc::clone(&self.configuration);
        Some(Box::new(RateLimitStream { context_id, configuration }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for RateLimitStream {}

impl HttpContext for RateLimitStream {
    fn on_http_request_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        let now = self.get_current_time();
        match BUCKET.with_borrow_mut(|bucket| bucket.take(now)) {
            Some(left) => {
                info!("stream {}: accepted, {left} tokens left", self.context_id);
                Action::Continue
            }
            None => {
                info!("stream {}: rate limited", self.context_id);
                self.send_http_response(
                    LIMITED_STATUS,
                    vec![("powered-by", "proxy-wasm-rust-sdk")],
                    Some(LIMITED_BODY),
                );
                Action::Pause
            }
        }
    }

    /// Runs for the upstream's responses and for the plugin's own 403 alike.
    fn on_http_response_headers(&mut self, _num_headers: usize, _end_of_stream: bool) -> Action {
        self.add_http_response_header("who-am-i", "wasm-extension");
        self.add_http_response_header("injected-by", "istio-api!");
        if !self.configuration.is_empty() {
            self.add_http_response_header("configdata", &self.configuration);
        }
        Action::Continue
    }
}
