//go:build wasip1

// Package proxywasm binds the part of the Proxy-Wasm ABI that the example plugins in Go need. It
// needs no module beyond Go's own library: Go 1.24 and newer can import and export Wasm functions.
//
// Source: Proxy-Wasm ABI 0.2.1.
package proxywasm

// Action tells the host what to do with the stream after a callback.
type Action uint32

// The actions of the ABI.
const (
	ActionContinue Action = 0
	ActionPause    Action = 1
)

// Plugin is a plugin context: one for each plugin configuration in the VM. An implementation
// embeds DefaultPlugin and overrides what it needs.
type Plugin interface {
	// OnConfigure receives the plugin configuration. False refuses it.
	OnConfigure(configuration string) bool
	// NewStream makes the context of one request.
	NewStream(contextID uint32) Stream
	// OnTick runs once in each period of SetTickPeriod.
	OnTick()
}

// DefaultPlugin accepts any configuration and does nothing at a tick.
type DefaultPlugin struct{}

func (DefaultPlugin) OnConfigure(string) bool { return true }
func (DefaultPlugin) OnTick()                 {}

// Stream is a stream context: one for each request. An implementation embeds DefaultStream and
// overrides what it needs.
type Stream interface {
	OnRequestHeaders(endOfStream bool) Action
	// OnRequestBody hears the size of this chunk, or of all that has come while the body is held.
	OnRequestBody(size uint32, endOfStream bool) Action
	OnRequestTrailers() Action
	OnResponseHeaders(endOfStream bool) Action
	OnResponseBody(size uint32, endOfStream bool) Action
	OnResponseTrailers() Action
	// OnLog is the last callback of the stream.
	OnLog()
}

// DefaultStream passes everything.
type DefaultStream struct{}

func (DefaultStream) OnRequestHeaders(bool) Action       { return ActionContinue }
func (DefaultStream) OnRequestBody(uint32, bool) Action  { return ActionContinue }
func (DefaultStream) OnRequestTrailers() Action          { return ActionContinue }
func (DefaultStream) OnResponseHeaders(bool) Action      { return ActionContinue }
func (DefaultStream) OnResponseBody(uint32, bool) Action { return ActionContinue }
func (DefaultStream) OnResponseTrailers() Action         { return ActionContinue }
func (DefaultStream) OnLog()                             {}

var (
	newPlugin func() Plugin
	plugins   = map[uint32]Plugin{}
	streams   = map[uint32]Stream{}
	calls     = map[uint32]call{}
	// current is the context whose callback runs.
	current uint32
)

// call is an HTTP call that waits for its answer.
type call struct {
	contextID uint32
	onAnswer  func(ok bool)
}

// SetPlugin registers what makes a plugin context. It must be called from an init function: in a
// reactor module, main never runs.
func SetPlugin(create func() Plugin) { newPlugin = create }

//go:wasmexport proxy_abi_version_0_2_1
func abiVersion() {}

//go:wasmexport proxy_on_context_create
func onContextCreate(contextID, parentContextID uint32) {
	if parentContextID == 0 {
		plugins[contextID] = newPlugin()
	} else if plugin, ok := plugins[parentContextID]; ok {
		streams[contextID] = plugin.NewStream(contextID)
	}
}

//go:wasmexport proxy_on_vm_start
func onVMStart(pluginContextID, configurationSize uint32) uint32 { return 1 }

//go:wasmexport proxy_on_configure
func onConfigure(pluginContextID, configurationSize uint32) uint32 {
	plugin, ok := plugins[pluginContextID]
	if !ok {
		return 0
	}
	configuration, ok := pluginConfiguration(configurationSize)
	if !ok || !plugin.OnConfigure(configuration) {
		return 0
	}
	return 1
}

//go:wasmexport proxy_on_tick
func onTick(pluginContextID uint32) {
	if plugin, ok := plugins[pluginContextID]; ok {
		plugin.OnTick()
	}
}

//go:wasmexport proxy_on_http_call_response
func onHTTPCallResponse(pluginContextID, token, headers, bodySize, trailers uint32) {
	call, ok := calls[token]
	if !ok {
		return
	}
	delete(calls, token)
	// A stream that has ended meanwhile is no longer known, and nobody waits for the answer.
	if SetEffectiveContext(call.contextID) {
		current = call.contextID
		// No headers: there is no answer, or it was cut off.
		call.onAnswer(headers > 0)
	}
}

// onStream runs a callback of a stream.
func onStream(contextID uint32, callback func(Stream) Action) uint32 {
	stream, ok := streams[contextID]
	if !ok {
		return uint32(ActionContinue)
	}
	current = contextID
	return uint32(callback(stream))
}

//go:wasmexport proxy_on_request_headers
func onRequestHeaders(contextID, headers, endOfStream uint32) uint32 {
	return onStream(contextID, func(s Stream) Action { return s.OnRequestHeaders(endOfStream != 0) })
}

//go:wasmexport proxy_on_request_body
func onRequestBody(contextID, size, endOfStream uint32) uint32 {
	return onStream(contextID, func(s Stream) Action { return s.OnRequestBody(size, endOfStream != 0) })
}

//go:wasmexport proxy_on_request_trailers
func onRequestTrailers(contextID, trailers uint32) uint32 {
	return onStream(contextID, Stream.OnRequestTrailers)
}

//go:wasmexport proxy_on_response_headers
func onResponseHeaders(contextID, headers, endOfStream uint32) uint32 {
	return onStream(contextID, func(s Stream) Action { return s.OnResponseHeaders(endOfStream != 0) })
}

//go:wasmexport proxy_on_response_body
func onResponseBody(contextID, size, endOfStream uint32) uint32 {
	return onStream(contextID, func(s Stream) Action { return s.OnResponseBody(size, endOfStream != 0) })
}

//go:wasmexport proxy_on_response_trailers
func onResponseTrailers(contextID, trailers uint32) uint32 {
	return onStream(contextID, Stream.OnResponseTrailers)
}

//go:wasmexport proxy_on_log
func onLog(contextID uint32) {
	if stream, ok := streams[contextID]; ok {
		current = contextID
		stream.OnLog()
	}
}

//go:wasmexport proxy_on_done
func onDone(contextID uint32) uint32 { return 1 }

//go:wasmexport proxy_on_delete
func onDelete(contextID uint32) {
	delete(plugins, contextID)
	delete(streams, contextID)
}
