use super::Status;

/// Declares an ABI enumeration and how a guest's number becomes one.
macro_rules! abi_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum $name { $($(#[$variant_doc])* $variant = $value,)* }

        impl TryFrom<u32> for $name {
            type Error = Status;

            /// # Errors
            /// [`Status::BadArgument`] for a number outside the enumeration.
            fn try_from(value: u32) -> Result<Self, Status> {
                match value {
                    $($value => Ok(Self::$variant),)*
                    _ => Err(Status::BadArgument),
                }
            }
        }
    };
}

abi_enum! {
    /// Severity of a plugin's log line. Source: Proxy-Wasm 0.2.1, `proxy_log_level_t`.
    LogLevel {
        /// Every step.
        Trace = 0,
        /// For the author.
        Debug = 1,
        /// For the operator.
        Info = 2,
        /// Degraded but serving.
        Warn = 3,
        /// Somebody must act.
        Error = 4,
        /// Worse than an error.
        Critical = 5,
    }
}

abi_enum! {
    /// Which header map a hostcall names. Source: Proxy-Wasm 0.2.1, `proxy_map_type_t`.
    MapType {
        /// Headers of the request.
        HttpRequestHeaders = 0,
        /// Trailers of the request.
        HttpRequestTrailers = 1,
        /// Headers of the response.
        HttpResponseHeaders = 2,
        /// Trailers of the response.
        HttpResponseTrailers = 3,
        /// Initial metadata of a gRPC stream.
        GrpcReceiveInitialMetadata = 4,
        /// Trailing metadata of a gRPC stream.
        GrpcReceiveTrailingMetadata = 5,
        /// Headers of the answer to an HTTP call.
        HttpCallResponseHeaders = 6,
        /// Trailers of the answer to an HTTP call.
        HttpCallResponseTrailers = 7,
    }
}

abi_enum! {
    /// Which buffer a hostcall names. Source: Proxy-Wasm 0.2.1, `proxy_buffer_type_t`.
    BufferType {
        /// Body of the request.
        HttpRequestBody = 0,
        /// Body of the response.
        HttpResponseBody = 1,
        /// Bytes from a TCP client.
        DownstreamData = 2,
        /// Bytes from a TCP server.
        UpstreamData = 3,
        /// Body of the answer to an HTTP call.
        HttpCallResponseBody = 4,
        /// A gRPC message.
        GrpcReceiveBuffer = 5,
        /// Configuration of the VM.
        VmConfiguration = 6,
        /// Configuration of the plugin.
        PluginConfiguration = 7,
        /// Arguments of a call from the host's extensions.
        CallData = 8,
    }
}

abi_enum! {
    /// Which direction a hostcall names. Source: Proxy-Wasm 0.2.1, `proxy_stream_type_t`.
    StreamType {
        /// The HTTP request.
        HttpRequest = 0,
        /// The HTTP response.
        HttpResponse = 1,
        /// The TCP connection to the client.
        Downstream = 2,
        /// The TCP connection to the server.
        Upstream = 3,
    }
}

abi_enum! {
    /// Kind of a metric. Source: Proxy-Wasm 0.2.1, `proxy_metric_type_t`.
    MetricType {
        /// Only goes up.
        Counter = 0,
        /// Goes up and down.
        Gauge = 1,
        /// Counts values in buckets.
        Histogram = 2,
    }
}

abi_enum! {
    /// Who closed a TCP connection. Source: Proxy-Wasm 0.2.1, `proxy_peer_type_t`.
    PeerType {
        /// Not known.
        Unknown = 0,
        /// This proxy.
        Local = 1,
        /// The other side.
        Remote = 2,
    }
}
