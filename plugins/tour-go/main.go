//go:build wasip1

// A tour of what a Proxy-Wasm plugin can do; plugins/README.md says what it does with which
// request.
package main

import (
	"fmt"
	"slices"
	"strings"

	proxywasm "wasmplug.dev/plugins/proxywasm-go"
	"wasmplug.dev/plugins/tour-go/internal/settings"
)

const (
	// callTimeout is the longest time that the answer of the cluster may take, in milliseconds.
	callTimeout = 5000
	// maxReasonBytes is how much of the cluster's answer becomes the body of a refusal.
	maxReasonBytes = 1024
)

func init() {
	proxywasm.SetPlugin(func() proxywasm.Plugin { return &tour{} })
}

// main never runs: the module is a reactor.
func main() {}

// tour is the plugin context: one for each plugin configuration in the VM.
type tour struct {
	proxywasm.DefaultPlugin
	settings.Settings
	requests, streams, bodyBytes proxywasm.Metric
	// held are the ids of the streams that wait for the next tick.
	held []uint32
}

// tourStream is the stream context: one for each request.
type tourStream struct {
	proxywasm.DefaultStream
	*tour
	contextID    uint32
	method, path string
	// status is `-` until there is a response.
	status string
	// isCounted tells whether the request was counted, which it is not if it never came here.
	isCounted      bool
	isResponseText bool
	// bodySize is the number of bytes of a body that is held.
	bodySize uint32
}

func info(format string, arguments ...any) {
	proxywasm.Log(proxywasm.LogLevelInfo, fmt.Sprintf(format, arguments...))
}

func fail(format string, arguments ...any) {
	proxywasm.Log(proxywasm.LogLevelError, fmt.Sprintf(format, arguments...))
}

func (t *tour) OnConfigure(configuration string) bool {
	settings, err := settings.Parse(configuration)
	if err != nil {
		fail("configuration refused: %v", err)
		return false
	}
	if !t.defineMetrics() {
		fail("the metrics cannot be defined")
		return false
	}
	proxywasm.SetTickPeriod(settings.Period)
	info("asks `%s`, greets with `%s`", settings.Cluster, settings.Greeting)
	t.Settings = settings
	return true
}

func (t *tour) defineMetrics() bool {
	var ok [3]bool
	t.requests, ok[0] = proxywasm.DefineMetric(proxywasm.Counter, "tour_requests")
	t.streams, ok[1] = proxywasm.DefineMetric(proxywasm.Gauge, "tour_streams")
	t.bodyBytes, ok[2] = proxywasm.DefineMetric(proxywasm.Histogram, "tour_body_bytes")
	return ok[0] && ok[1] && ok[2]
}

func (t *tour) NewStream(contextID uint32) proxywasm.Stream {
	return &tourStream{tour: t, contextID: contextID, status: "-"}
}

// OnTick lets go the requests that wait for it.
func (t *tour) OnTick() {
	held := t.held
	t.held = nil
	for _, stream := range held {
		if proxywasm.SetEffectiveContext(stream) {
			proxywasm.ResumeRequest()
		}
	}
}

func (s *tourStream) OnRequestHeaders(endOfStream bool) proxywasm.Action {
	s.countIn()
	path, _ := proxywasm.Header(proxywasm.RequestHeaders, ":path")
	s.path = settings.Printable(path)
	method, _ := proxywasm.Header(proxywasm.RequestHeaders, ":method")
	s.method = settings.Printable(method)
	// Only the cluster says who the user is.
	proxywasm.RemoveHeader(proxywasm.RequestHeaders, "x-tour-user")
	if !endOfStream {
		// The length will be that of the changed body.
		proxywasm.RemoveHeader(proxywasm.RequestHeaders, "content-length")
	}
	switch {
	case !settings.IsPlain(path):
		reply(400, "bad path\n")
		return proxywasm.ActionPause
	case strings.HasPrefix(path, "/ask/"):
		return s.ask()
	case strings.HasPrefix(path, "/wait/"):
		return s.hold()
	}
	return proxywasm.ActionContinue
}

func (s *tourStream) countIn() {
	s.isCounted = true
	s.requests.Increment(1)
	s.streams.Increment(1)
}

// ask asks the cluster about the request, which waits for the answer.
func (s *tourStream) ask() proxywasm.Action {
	headers := [][2]string{
		{":method", "GET"},
		{":path", s.path},
		{":authority", s.Authority},
		{"x-tour-method", s.method},
	}
	info("%s: asking `%s`", s.path, s.Cluster)
	status := proxywasm.HTTPCall(s.Cluster, headers, callTimeout, s.onAnswer)
	if status != proxywasm.StatusOK {
		fail("%s: not asked, status %d", s.path, status)
		reply(503, "not asked\n")
	}
	return proxywasm.ActionPause
}

func (s *tourStream) onAnswer(ok bool) {
	status := ""
	if ok {
		status, _ = proxywasm.Header(proxywasm.CallResponseHeaders, ":status")
	}
	switch {
	case status == "200":
		info("%s: allowed", s.path)
		if user, ok := proxywasm.Header(proxywasm.CallResponseHeaders, "x-user"); ok {
			proxywasm.SetHeader(proxywasm.RequestHeaders, "x-tour-user", user)
		}
		proxywasm.ResumeRequest()
	case strings.HasPrefix(status, "4"):
		info("%s: refused with %s", s.path, settings.Printable(status))
		reason, _ := proxywasm.BufferBytes(proxywasm.CallResponseBody, 0, maxReasonBytes)
		reply(403, string(reason))
	default:
		info("%s: no answer", s.path)
		reply(503, "no answer\n")
	}
}

func reply(status uint32, body string) {
	proxywasm.SendLocalResponse(status, [][2]string{{"content-type", "text/plain"}}, body)
}

func (s *tourStream) hold() proxywasm.Action {
	info("%s: held", s.path)
	s.held = append(s.held, s.contextID)
	return proxywasm.ActionPause
}

func (s *tourStream) OnRequestBody(size uint32, endOfStream bool) proxywasm.Action {
	// While the body is held, this is the size of all that has come.
	s.bodySize = size
	if !endOfStream {
		return proxywasm.ActionPause
	}
	s.changeRequestBody()
	return proxywasm.ActionContinue
}

// OnRequestTrailers runs after a body that has ended without saying so.
func (s *tourStream) OnRequestTrailers() proxywasm.Action {
	if s.bodySize > 0 {
		s.changeRequestBody()
	}
	return proxywasm.ActionContinue
}

// changeRequestBody changes the request's body, which is complete.
func (s *tourStream) changeRequestBody() {
	s.recordBody("request")
	body, ok := proxywasm.BufferBytes(proxywasm.RequestBody, 0, s.bodySize)
	if ok {
		upperASCII(body)
		proxywasm.SetBufferBytes(proxywasm.RequestBody, 0, s.bodySize, body)
	}
}

func upperASCII(bytes []byte) {
	for i, b := range bytes {
		if 'a' <= b && b <= 'z' {
			bytes[i] = b - 'a' + 'A'
		}
	}
}

func (s *tourStream) recordBody(side string) {
	proxywasm.Log(proxywasm.LogLevelDebug,
		fmt.Sprintf("%s: %s body of %d bytes", s.path, side, s.bodySize))
	s.bodyBytes.Record(uint64(s.bodySize))
}

// OnResponseHeaders runs for the cluster's responses and for the plugin's own replies alike.
func (s *tourStream) OnResponseHeaders(endOfStream bool) proxywasm.Action {
	status, _ := proxywasm.Header(proxywasm.ResponseHeaders, ":status")
	s.status = settings.Printable(status)
	s.bodySize = 0
	proxywasm.AddHeader(proxywasm.ResponseHeaders, "x-tour", "go")
	proxywasm.AddHeader(proxywasm.ResponseHeaders, "x-tour-greeting", s.Greeting)
	if count, ok := countVisit(); ok {
		proxywasm.AddHeader(proxywasm.ResponseHeaders, "x-tour-count", fmt.Sprint(count))
	} else {
		fail("%s: not counted", s.path)
	}
	contentType, _ := proxywasm.Header(proxywasm.ResponseHeaders, "content-type")
	s.isResponseText = !endOfStream && strings.HasPrefix(contentType, "text/plain")
	if s.isResponseText {
		proxywasm.RemoveHeader(proxywasm.ResponseHeaders, "content-length")
	}
	return proxywasm.ActionContinue
}

func (s *tourStream) OnResponseBody(size uint32, endOfStream bool) proxywasm.Action {
	if !s.isResponseText {
		return proxywasm.ActionContinue
	}
	s.bodySize = size
	if !endOfStream {
		return proxywasm.ActionPause
	}
	s.changeResponseBody()
	return proxywasm.ActionContinue
}

func (s *tourStream) OnResponseTrailers() proxywasm.Action {
	if s.isResponseText && s.bodySize > 0 {
		s.changeResponseBody()
	}
	return proxywasm.ActionContinue
}

// changeResponseBody changes the response's body, which is complete.
func (s *tourStream) changeResponseBody() {
	s.recordBody("response")
	line := fmt.Sprintf("tour: %d bytes\n", s.bodySize)
	proxywasm.SetBufferBytes(proxywasm.ResponseBody, s.bodySize, 0, []byte(line))
}

func (s *tourStream) OnLog() {
	// A request that was answered in front of this plugin has a log callback, too.
	if !s.isCounted {
		return
	}
	s.streams.Increment(-1)
	s.held = slices.DeleteFunc(s.held, func(id uint32) bool { return id == s.contextID })
	info("%s %s %s", s.method, s.path, s.status)
}
