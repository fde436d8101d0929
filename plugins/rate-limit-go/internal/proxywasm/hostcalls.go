//go:build wasip1

package proxywasm

import (
	"encoding/binary"
	"strconv"
	"unsafe"
)

const (
	statusOK                  = 0
	logLevelInfo              = 2
	logLevelError             = 4
	bufferPluginConfiguration = 7
	mapResponseHeaders        = 2
	// noGRPCStatus leaves the gRPC status of a local response to the host.
	noGRPCStatus = -1
)

//go:wasmimport env proxy_log
func proxyLog(level uint32, message string) uint32

//go:wasmimport env proxy_get_current_time_nanoseconds
func proxyGetCurrentTimeNanoseconds(now *uint64) uint32

//go:wasmimport env proxy_get_buffer_bytes
func proxyGetBufferBytes(buffer, start, maxSize uint32, data *uint32, size *uint32) uint32

//go:wasmimport env proxy_add_header_map_value
func proxyAddHeaderMapValue(headerMap uint32, key, value string) uint32

//go:wasmimport env proxy_send_local_response
func proxySendLocalResponse(
	statusCode uint32, details, body string, headers *byte, headersSize uint32, grpcStatus int32,
) uint32

// allocations keeps what the host has asked for reachable, so that the garbage collector leaves
// it alone until the plugin has taken it.
var allocations = map[uint32][]byte{}

//go:wasmexport proxy_on_memory_allocate
func onMemoryAllocate(size uint32) uint32 {
	// One byte at least: an empty slice has no address of its own.
	block := make([]byte, max(size, 1))
	address := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(block))))
	allocations[address] = block
	return address
}

// takeAllocation hands over the size bytes that the host wrote to a block it asked for.
func takeAllocation(address, size uint32) ([]byte, bool) {
	block, ok := allocations[address]
	delete(allocations, address)
	if !ok || uint64(size) > uint64(len(block)) {
		return nil, false
	}
	return block[:size], true
}

func pluginConfiguration(size uint32) (string, bool) {
	if size == 0 {
		return "", true
	}
	var address, length uint32
	status := proxyGetBufferBytes(bufferPluginConfiguration, 0, size, &address, &length)
	if status != statusOK {
		logFailure("proxy_get_buffer_bytes", status)
		return "", false
	}
	bytes, ok := takeAllocation(address, length)
	return string(bytes), ok
}

// Log logs a message at info level.
func Log(message string) { proxyLog(logLevelInfo, message) }

func logFailure(hostcall string, status uint32) {
	proxyLog(logLevelError, hostcall+" returned status "+strconv.FormatUint(uint64(status), 10))
}

// Now is the host's time in nanoseconds since the Unix epoch.
func Now() uint64 {
	var now uint64
	if status := proxyGetCurrentTimeNanoseconds(&now); status != statusOK {
		logFailure("proxy_get_current_time_nanoseconds", status)
	}
	return now
}

// AddResponseHeader adds a response header beside those of the same name.
func AddResponseHeader(name, value string) {
	if status := proxyAddHeaderMapValue(mapResponseHeaders, name, value); status != statusOK {
		logFailure("proxy_add_header_map_value", status)
	}
}

// SendLocalResponse answers the request in place of the upstream.
func SendLocalResponse(statusCode uint32, headers [][2]string, body string) {
	fields := serializeFields(headers)
	status := proxySendLocalResponse(
		statusCode, "", body, unsafe.SliceData(fields), uint32(len(fields)), noGRPCStatus)
	if status != statusOK {
		logFailure("proxy_send_local_response", status)
	}
}

// serializeFields lays fields out as the ABI's map serialization: the number of pairs, the
// length of each name and value, then each name and value with a zero byte behind it.
func serializeFields(fields [][2]string) []byte {
	bytes := binary.LittleEndian.AppendUint32(nil, uint32(len(fields)))
	for _, field := range fields {
		bytes = binary.LittleEndian.AppendUint32(bytes, uint32(len(field[0])))
		bytes = binary.LittleEndian.AppendUint32(bytes, uint32(len(field[1])))
	}
	for _, field := range fields {
		bytes = append(append(bytes, field[0]...), 0)
		bytes = append(append(bytes, field[1]...), 0)
	}
	return bytes
}
