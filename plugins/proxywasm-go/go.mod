module wasmplug.dev/plugins/proxywasm-go

go 1.24
