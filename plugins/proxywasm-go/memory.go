//go:build wasip1

package proxywasm

import (
	"encoding/binary"
	"unsafe"
)

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

// takeAllocation hands over the size bytes that the host wrote to a block it asked for. For an
// empty value the host asks for no block.
func takeAllocation(address, size uint32) ([]byte, bool) {
	if size == 0 {
		return nil, true
	}
	block, ok := allocations[address]
	delete(allocations, address)
	if !ok || uint64(size) > uint64(len(block)) {
		return nil, false
	}
	return block[:size], true
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
