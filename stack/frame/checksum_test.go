package frame

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// sumNaive is RFC 1071 as written: 16-bit words, one at a time.
func sumNaive(b []byte, initial uint16) uint16 {
	s := uint32(initial)
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		s += w
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func random(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func filled(n int, v byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = v
	}
	return b
}

func checkSum(t *testing.T, b []byte, initial uint16) {
	t.Helper()
	want := sumNaive(b, initial)
	if got := Sum(b, initial); got != want {
		t.Fatalf("Sum of %d bytes from %#04x = %#04x, want %#04x", len(b), initial, got, want)
	}
	if got := sumPortable(b, initial); got != want {
		t.Fatalf("portable sum of %d bytes from %#04x = %#04x, want %#04x", len(b), initial, got, want)
	}
}

// sumPortable is Sum on a processor without vector registers.
func sumPortable(b []byte, initial uint16) uint16 {
	swap := func(v uint16) uint16 { return v>>8 | v<<8 }
	return swap(fold16(sumWords(b, uint64(swap(initial)))))
}

func TestSumEqualsTheNaiveSum(t *testing.T) {
	for name, data := range map[string][]byte{
		"random bytes": random(2100, 7), "all ones": filled(2100, 0xff), "all zeros": make([]byte, 2100),
	} {
		t.Run(name+" of every length and alignment", func(t *testing.T) {
			for n := 0; n <= 2000; n++ {
				off := n % 64
				checkSum(t, data[off:off+n], uint16(n*40503))
			}
			for off := range 64 {
				checkSum(t, data[off:off+1398], 0)
				checkSum(t, data[off:off+1399], 0xffff)
			}
		})
	}
	for _, n := range []int{4095, 9000, 65483, 65535, 65536} {
		t.Run(fmt.Sprintf("%d bytes", n), func(t *testing.T) {
			checkSum(t, random(n, uint64(n)), 0x1234)
			checkSum(t, filled(n, 0xff), 0xffff)
		})
	}
}

func FuzzSum(f *testing.F) {
	f.Add([]byte{}, uint16(0))
	f.Add([]byte{1}, uint16(0xffff))
	f.Add(filled(300, 0xff), uint16(0xffff))
	f.Add(random(1399, 3), uint16(7))
	f.Fuzz(checkSum)
}

func TestUpdateEqualsSummingAgain(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 10000 {
		b := random(40, r.Uint64())
		check := ^Sum(b, 0)
		old, now := be16(b[8:]), uint16(r.Uint32())
		put16(b[8:], now)
		check = Update(check, old, now)
		if want := ^Sum(b, 0); check != want && check+want != 0xffff {
			t.Fatalf("Update = %#04x, want %#04x", check, want)
		}
		old32, now32 := be32(b[12:]), r.Uint32()
		put32(b[12:], now32)
		check = Update32(check, old32, now32)
		if want := ^Sum(b, 0); check != want && check+want != 0xffff {
			t.Fatalf("Update32 = %#04x, want %#04x", check, want)
		}
	}
}

// RFC 1624 §4 gives the case that equation 2 gets wrong.
func TestUpdateOfTheExampleInRFC1624(t *testing.T) {
	if got := Update(0xdd2f, 0x5555, 0x3285); got != 0 {
		t.Errorf("Update = %#04x, want 0x0000", got)
	}
}

func TestChecksumsDoNotAllocate(t *testing.T) {
	b := random(1400, 1)
	var sink uint16
	if n := testing.AllocsPerRun(100, func() { sink += Sum(b, sink) + Update32(sink, 1, 2) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 64, 1400, 65536} {
		data := random(n, 1)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			var s uint16
			for b.Loop() {
				s = Sum(data, s)
			}
		})
		b.Run(fmt.Sprint(n, "/portable"), func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			var s uint16
			for b.Loop() {
				s = sumPortable(data, s)
			}
		})
	}
}
