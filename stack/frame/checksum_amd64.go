package frame

import "golang.org/x/sys/cpu"

// blockMin is the length from which vector registers pay for the call that fills them.
const blockMin = 128

// hasAVX2 also covers that the operating system keeps the wide registers across context switches.
var hasAVX2 = cpu.X86.HasAVX2

// sumBlocks adds as much of b as it can take at once, and returns that sum and how many bytes it covers.
func sumBlocks(b []byte) (sum uint64, n int) {
	if !hasAVX2 {
		return 0, 0
	}
	n = len(b) &^ 127
	return sumAVX2(&b[0], n), n
}

// sumAVX2 returns the sum of the n bytes at p as little-endian words of 32 bits. n is a positive multiple of 128, and less
// than 16 GiB, so that nothing overflows.
//
//go:noescape
func sumAVX2(p *byte, n int) uint64
