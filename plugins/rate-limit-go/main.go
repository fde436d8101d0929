//go:build wasip1

// A Proxy-Wasm plugin that limits requests to two a second and marks every response.
//
// The limit belongs to the VM: every stream of one VM takes its tokens from the same bucket.
package main

import (
	"strconv"
	"strings"
	"unicode"

	proxywasm "wasmplug.dev/plugins/proxywasm-go"
	"wasmplug.dev/plugins/rate-limit-go/internal/bucket"
)

const (
	limitedStatus = 403
	limitedBody   = "rate limited, wait and retry."
)

// responseHeaders are added to every response, in no particular order.
var responseHeaders = map[string]string{
	"who-am-i":    "go-wasm-extension",
	"injected-by": "istio-api!",
	"hally":       "wang",
	"wang":        "1234567",
}

// tokens is the bucket of the VM: it runs one thread, whichever plugin context asks.
var tokens bucket.Bucket

func init() {
	proxywasm.SetPlugin(func() proxywasm.Plugin { return &rateLimit{} })
}

// main never runs: the module is a reactor.
func main() {}

type rateLimit struct {
	proxywasm.DefaultPlugin
	configuration string
}

func (p *rateLimit) OnConfigure(configuration string) bool {
	// A header is one line, whatever the layout of the configuration.
	p.configuration = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, configuration)
	return true
}

func (p *rateLimit) NewStream(contextID uint32) proxywasm.Stream {
	return &rateLimitStream{contextID: contextID, configuration: p.configuration}
}

type rateLimitStream struct {
	proxywasm.DefaultStream
	contextID     uint32
	configuration string
}

func (s *rateLimitStream) OnRequestHeaders(bool) proxywasm.Action {
	stream := "stream " + strconv.FormatUint(uint64(s.contextID), 10)
	left, ok := tokens.Take(proxywasm.Now())
	if !ok {
		proxywasm.Log(proxywasm.LogLevelInfo, stream+": rate limited")
		headers := [][2]string{{"powered-by", "proxy-wasm-go-sdk!!"}}
		proxywasm.SendLocalResponse(limitedStatus, headers, limitedBody)
		return proxywasm.ActionPause
	}
	proxywasm.Log(proxywasm.LogLevelInfo, stream+": accepted, "+strconv.Itoa(left)+" tokens left")
	return proxywasm.ActionContinue
}

// OnResponseHeaders runs for the upstream's responses and for the plugin's own 403 alike.
func (s *rateLimitStream) OnResponseHeaders(bool) proxywasm.Action {
	for name, value := range responseHeaders {
		proxywasm.AddHeader(proxywasm.ResponseHeaders, name, value)
	}
	if s.configuration != "" {
		proxywasm.AddHeader(proxywasm.ResponseHeaders, "configdata", s.configuration)
	}
	return proxywasm.ActionContinue
}
