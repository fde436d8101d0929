//go:build wasip1

package main

import (
	"strconv"

	proxywasm "wasmplug.dev/plugins/proxywasm-go"
)

const (
	// countKey is the name of the count in the shared data.
	countKey = "tour.count"
	// countTries is how often another one may come first before the count is given up.
	countTries = 16
)

// countVisit counts one more response, together with all plugins and workers of the proxy, and
// returns the number; false if others were always faster.
func countVisit() (uint64, bool) {
	for range countTries {
		value, cas := proxywasm.SharedData(countKey)
		// What is no number begins anew.
		count, err := strconv.ParseUint(string(value), 10, 64)
		if err != nil {
			count = 0
		}
		count++
		// A write succeeds only if nobody else has written since the read.
		next := strconv.FormatUint(count, 10)
		if proxywasm.SetSharedData(countKey, next, cas) == proxywasm.StatusOK {
			return count, true
		}
	}
	return 0, false
}
