package frame

import "testing"

func TestSumWithoutVectorRegisters(t *testing.T) {
	had := hasAVX2
	defer func() { hasAVX2 = had }()
	hasAVX2 = false
	for _, n := range []int{0, 127, 128, 1399, 65536} {
		checkSum(t, random(n, uint64(n)), 0x4321)
	}
}
