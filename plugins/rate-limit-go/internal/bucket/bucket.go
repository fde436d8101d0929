// Package bucket is a token bucket that is refilled all at once.
package bucket

const (
	// capacity is the number of requests that one refill allows.
	capacity = 2
	// refillPeriod is the time in nanoseconds that must have passed since the last refill.
	refillPeriod = 1_000_000_000
)

// Bucket starts full; its first period begins with its first request. The zero value is ready.
type Bucket struct {
	tokens     int
	refilledAt uint64
}

// Take takes a token at the time now, in nanoseconds since the Unix epoch. It tells how many
// tokens are left, and false if there was none to take.
func (b *Bucket) Take(now uint64) (left int, ok bool) {
	// A clock that was set back counts as a period passed: the limiter must not wait for the
	// old time to come round again.
	if now < b.refilledAt || now-b.refilledAt > refillPeriod {
		b.tokens = capacity
		b.refilledAt = now
	}
	if b.tokens == 0 {
		return 0, false
	}
	b.tokens--
	return b.tokens, true
}
