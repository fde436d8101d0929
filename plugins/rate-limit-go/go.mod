module wasmplug.dev/plugins/rate-limit-go

go 1.24
