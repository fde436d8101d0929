package bucket

import (
	"reflect"
	"testing"
)

// take returns the tokens left after each request, -1 for a limited one. Times are milliseconds.
func take(times ...uint64) []int {
	const start = 1_000_000_000_000_000
	var b Bucket
	var taken []int
	for _, time := range times {
		left, ok := b.Take(start + time*1_000_000)
		if !ok {
			left = -1
		}
		taken = append(taken, left)
	}
	return taken
}

func TestBucket(t *testing.T) {
	for name, c := range map[string]struct {
		times []uint64
		taken []int
	}{
		"two requests a period are accepted": {
			[]uint64{0, 1, 2, 999, 1000}, []int{1, 0, -1, -1, -1},
		},
		"refilled when more than a second has passed": {
			[]uint64{0, 1, 1001, 1002, 1003, 2002}, []int{1, 0, 1, 0, -1, 1},
		},
		"a clock set back does not block for longer than a period": {
			[]uint64{9000, 9001, 9002, 0, 1, 2}, []int{1, 0, -1, 1, 0, -1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if taken := take(c.times...); !reflect.DeepEqual(taken, c.taken) {
				t.Errorf("got %v, want %v", taken, c.taken)
			}
		})
	}
}
