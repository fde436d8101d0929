//go:build wasip1

// Package proxywasm binds the part of the Proxy-Wasm ABI that this plugin needs. It needs no
// module beyond Go's own library: Go 1.24 and newer can import and export Wasm functions.
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

// Plugin is a plugin context: one for each plugin configuration in the VM.
type Plugin interface {
	// OnConfigure receives the plugin configuration. False refuses it.
	OnConfigure(configuration string) bool
	// NewStream makes the context of one request.
	NewStream(contextID uint32) Stream
}

// Stream is a stream context: one for each request.
type Stream interface {
	OnRequestHeaders() Action
	OnResponseHeaders() Action
}

var (
	newPlugin func() Plugin
	plugins   = map[uint32]Plugin{}
	streams   = map[uint32]Stream{}
)

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

//go:wasmexport proxy_on_request_headers
func onRequestHeaders(contextID, headers, endOfStream uint32) uint32 {
	if stream, ok := streams[contextID]; ok {
		return uint32(stream.OnRequestHeaders())
	}
	return uint32(ActionContinue)
}

//go:wasmexport proxy_on_response_headers
func onResponseHeaders(contextID, headers, endOfStream uint32) uint32 {
	if stream, ok := streams[contextID]; ok {
		return uint32(stream.OnResponseHeaders())
	}
	return uint32(ActionContinue)
}

//go:wasmexport proxy_on_done
func onDone(contextID uint32) uint32 { return 1 }

//go:wasmexport proxy_on_delete
func onDelete(contextID uint32) {
	delete(plugins, contextID)
	delete(streams, contextID)
}
