// Package seeded has the parts of math/rand/v2 and crypto/rand that the library uses, from
// a source that can be seeded. A simulation is built with it in their place, so that a seed
// gives the same jitter and the same names each time.
package seeded

import (
	"math/rand/v2"
	"sync"
)

var (
	mu  sync.Mutex // guards src
	src = rand.New(rand.NewPCG(0, 0))
)

// Seed starts the source again.
func Seed(seed uint64) {
	mu.Lock()
	defer mu.Unlock()
	src = rand.New(rand.NewPCG(seed, 0x5eed))
}

// IntN is rand.IntN.
func IntN(n int) int { return int(Int64N(int64(n))) }

// Int64N is rand.Int64N.
func Int64N(n int64) int64 {
	mu.Lock()
	defer mu.Unlock()
	return src.Int64N(n)
}

// Float64 is rand.Float64.
func Float64() float64 {
	mu.Lock()
	defer mu.Unlock()
	return src.Float64()
}

// Text is rand.Text.
func Text() string {
	const base32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	text := make([]byte, 26)
	for i := range text {
		text[i] = base32[IntN(len(base32))]
	}
	return string(text)
}

// N is rand.N for signed integers.
func N[T ~int | ~int32 | ~int64](n T) T { return T(Int64N(int64(n))) }
