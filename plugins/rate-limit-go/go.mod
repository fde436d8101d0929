module wasmplug.dev/plugins/rate-limit-go

go 1.24

require wasmplug.dev/plugins/proxywasm-go v0.0.0

replace wasmplug.dev/plugins/proxywasm-go => ../proxywasm-go
