//go:build wasip1

package proxywasm

import (
	"strconv"
	"unsafe"
)

// Status is what a hostcall returned.
type Status uint32

// The statuses that a plugin can meet in good order.
const (
	StatusOK          Status = 0
	StatusNotFound    Status = 1
	StatusCASMismatch Status = 8
)

// LogLevel is the severity of a log line.
type LogLevel uint32

// The levels of the ABI.
const (
	LogLevelDebug LogLevel = 1
	LogLevelInfo  LogLevel = 2
	LogLevelError LogLevel = 4
)

// Map is a set of headers.
type Map uint32

// The maps of the ABI.
const (
	RequestHeaders      Map = 0
	ResponseHeaders     Map = 2
	CallResponseHeaders Map = 6
)

// Buffer is a run of bytes.
type Buffer uint32

// The buffers of the ABI.
const (
	RequestBody      Buffer = 0
	ResponseBody     Buffer = 1
	CallResponseBody Buffer = 4

	pluginConfigurationBuffer Buffer = 7
)

// Metric is a metric of the host.
type Metric uint32

// MetricType is what a metric does with its values.
type MetricType uint32

// The types of the ABI.
const (
	Counter   MetricType = 0
	Gauge     MetricType = 1
	Histogram MetricType = 2
)

const (
	requestStream = 0
	// noGRPCStatus leaves the gRPC status of a local response to the host.
	noGRPCStatus = -1
)

//go:wasmimport env proxy_log
func proxyLog(level LogLevel, message string) Status

//go:wasmimport env proxy_get_current_time_nanoseconds
func proxyGetCurrentTimeNanoseconds(now *uint64) Status

//go:wasmimport env proxy_set_tick_period_milliseconds
func proxySetTickPeriodMilliseconds(period uint32) Status

//go:wasmimport env proxy_get_buffer_bytes
func proxyGetBufferBytes(buffer Buffer, start, maxSize uint32, data *uint32, size *uint32) Status

//go:wasmimport env proxy_set_buffer_bytes
func proxySetBufferBytes(buffer Buffer, start, size uint32, data *byte, dataSize uint32) Status

//go:wasmimport env proxy_get_header_map_value
func proxyGetHeaderMapValue(headers Map, name string, value *uint32, size *uint32) Status

//go:wasmimport env proxy_add_header_map_value
func proxyAddHeaderMapValue(headers Map, name, value string) Status

//go:wasmimport env proxy_replace_header_map_value
func proxyReplaceHeaderMapValue(headers Map, name, value string) Status

//go:wasmimport env proxy_remove_header_map_value
func proxyRemoveHeaderMapValue(headers Map, name string) Status

//go:wasmimport env proxy_send_local_response
func proxySendLocalResponse(
	statusCode uint32, details, body string, headers *byte, headersSize uint32, grpcStatus int32,
) Status

//go:wasmimport env proxy_continue_stream
func proxyContinueStream(stream uint32) Status

//go:wasmimport env proxy_set_effective_context
func proxySetEffectiveContext(contextID uint32) Status

//go:wasmimport env proxy_http_call
func proxyHTTPCall(
	cluster string, headers *byte, headersSize uint32, body string,
	trailers *byte, trailersSize uint32, timeoutMilliseconds uint32, token *uint32,
) Status

//go:wasmimport env proxy_get_shared_data
func proxyGetSharedData(key string, value *uint32, size *uint32, cas *uint32) Status

//go:wasmimport env proxy_set_shared_data
func proxySetSharedData(key, value string, cas uint32) Status

//go:wasmimport env proxy_define_metric
func proxyDefineMetric(metricType MetricType, name string, metric *Metric) Status

//go:wasmimport env proxy_increment_metric
func proxyIncrementMetric(metric Metric, offset int64) Status

//go:wasmimport env proxy_record_metric
func proxyRecordMetric(metric Metric, value uint64) Status

// check logs a status that nothing in a correct plugin leads to.
func check(hostcall string, status Status) bool {
	if status != StatusOK {
		proxyLog(LogLevelError, hostcall+" returned status "+strconv.FormatUint(uint64(status), 10))
	}
	return status == StatusOK
}

// Log logs a message.
func Log(level LogLevel, message string) { proxyLog(level, message) }

// Now is the host's time in nanoseconds since the Unix epoch.
func Now() uint64 {
	var now uint64
	check("proxy_get_current_time_nanoseconds", proxyGetCurrentTimeNanoseconds(&now))
	return now
}

// SetTickPeriod asks for a tick in each of these periods; 0 ends them.
func SetTickPeriod(milliseconds uint32) {
	check("proxy_set_tick_period_milliseconds", proxySetTickPeriodMilliseconds(milliseconds))
}

func pluginConfiguration(size uint32) (string, bool) {
	if size == 0 {
		return "", true
	}
	bytes, ok := BufferBytes(pluginConfigurationBuffer, 0, size)
	return string(bytes), ok
}

// BufferBytes reads at most maxSize bytes of a buffer.
func BufferBytes(buffer Buffer, start, maxSize uint32) ([]byte, bool) {
	var address, size uint32
	status := proxyGetBufferBytes(buffer, start, maxSize, &address, &size)
	if !check("proxy_get_buffer_bytes", status) {
		return nil, false
	}
	return takeAllocation(address, size)
}

// SetBufferBytes replaces size bytes of a buffer from its start, or adds bytes at its end if start
// is there.
func SetBufferBytes(buffer Buffer, start, size uint32, bytes []byte) {
	status := proxySetBufferBytes(
		buffer, start, size, unsafe.SliceData(bytes), uint32(len(bytes)))
	check("proxy_set_buffer_bytes", status)
}

// Header is the first value of a header; false if there is none.
func Header(headers Map, name string) (string, bool) {
	var address, size uint32
	status := proxyGetHeaderMapValue(headers, name, &address, &size)
	if status == StatusNotFound || !check("proxy_get_header_map_value", status) {
		return "", false
	}
	bytes, ok := takeAllocation(address, size)
	return string(bytes), ok
}

// AddHeader adds a header beside those of the same name.
func AddHeader(headers Map, name, value string) {
	check("proxy_add_header_map_value", proxyAddHeaderMapValue(headers, name, value))
}

// SetHeader replaces all headers of the same name.
func SetHeader(headers Map, name, value string) {
	check("proxy_replace_header_map_value", proxyReplaceHeaderMapValue(headers, name, value))
}

// RemoveHeader removes all headers of the name.
func RemoveHeader(headers Map, name string) {
	check("proxy_remove_header_map_value", proxyRemoveHeaderMapValue(headers, name))
}

// SendLocalResponse answers the request in place of the upstream.
func SendLocalResponse(statusCode uint32, headers [][2]string, body string) {
	fields := serializeFields(headers)
	status := proxySendLocalResponse(
		statusCode, "", body, unsafe.SliceData(fields), uint32(len(fields)), noGRPCStatus)
	check("proxy_send_local_response", status)
}

// ResumeRequest lets a request go on that is held.
func ResumeRequest() { check("proxy_continue_stream", proxyContinueStream(requestStream)) }

// SetEffectiveContext lets the hostcalls of this callback act on another context; false if it has
// ended.
func SetEffectiveContext(contextID uint32) bool {
	return proxySetEffectiveContext(contextID) == StatusOK
}

// HTTPCall sends a request to a cluster in the name of the current context. The function runs when
// the answer has come, or false that there is none, unless the context has ended by then.
func HTTPCall(
	cluster string, headers [][2]string, timeoutMilliseconds uint32, onAnswer func(ok bool),
) Status {
	fields, none := serializeFields(headers), serializeFields(nil)
	var token uint32
	status := proxyHTTPCall(
		cluster, unsafe.SliceData(fields), uint32(len(fields)), "",
		unsafe.SliceData(none), uint32(len(none)), timeoutMilliseconds, &token)
	if status == StatusOK {
		calls[token] = call{contextID: current, onAnswer: onAnswer}
	}
	return status
}

// SharedData is a value that all VMs share, and what SetSharedData needs to notice that another one
// was faster. An absent value is empty, and its number is 0.
func SharedData(key string) (value []byte, cas uint32) {
	var address, size uint32
	status := proxyGetSharedData(key, &address, &size, &cas)
	if status == StatusNotFound || !check("proxy_get_shared_data", status) {
		return nil, 0
	}
	value, _ = takeAllocation(address, size)
	return value, cas
}

// SetSharedData writes a value; StatusCASMismatch if it changed since it was read. A number of 0
// writes in any case.
func SetSharedData(key, value string, cas uint32) Status {
	return proxySetSharedData(key, value, cas)
}

// DefineMetric makes a metric, or finds the one with this name.
func DefineMetric(metricType MetricType, name string) (metric Metric, ok bool) {
	ok = check("proxy_define_metric", proxyDefineMetric(metricType, name, &metric))
	return metric, ok
}

// Increment adds to a counter or a gauge.
func (m Metric) Increment(offset int64) {
	check("proxy_increment_metric", proxyIncrementMetric(m, offset))
}

// Record adds a value to a histogram, or sets a gauge.
func (m Metric) Record(value uint64) {
	check("proxy_record_metric", proxyRecordMetric(m, value))
}
