package histogram

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestQuantilesAreWithinHalfAPercentOfTheExactOnes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	distributions := map[string]func() float64{
		"uniform below 200 ns":      func() float64 { return r.Float64() * 200 },
		"exponential around 60 µs":  func() float64 { return r.ExpFloat64() * 60e3 },
		"log-normal with long tail": func() float64 { return math.Exp(10 + 2*r.NormFloat64()) },
		"all the same":              func() float64 { return 48_123 },
	}
	for name, draw := range distributions {
		t.Run(name, func(t *testing.T) {
			var h Histogram
			values := make([]time.Duration, 20_000)
			for i := range values {
				values[i] = time.Duration(draw())
				h.Record(values[i])
			}
			slices.Sort(values)
			for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1} {
				exact := values[max(int(math.Ceil(q*float64(len(values))))-1, 0)]
				got := h.Quantile(q)
				if diff := math.Abs(float64(got - exact)); diff > 0.005*float64(exact) {
					t.Errorf("quantile %v: got %v, exactly %v", q, got, exact)
				}
			}
			if n := h.Count(); n != uint64(len(values)) {
				t.Errorf("counted %d of %d", n, len(values))
			}
		})
	}
}

func TestEveryValueFallsIntoTheBucketThatItsMiddleNames(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 255, 256, 257, 511, 512, 1 << 20, 1<<20 + 1, 1<<40 - 1} {
		i := bucket(v)
		if bucket(middle(i)) != i {
			t.Errorf("%d is in bucket %d, whose middle %d is in bucket %d", v, i, middle(i), bucket(middle(i)))
		}
	}
	for i := range size {
		if bucket(middle(i)) != i {
			t.Errorf("bucket %d: its middle %d is in bucket %d", i, middle(i), bucket(middle(i)))
		}
	}
}

func TestDurationsBeyondTheRangeCountAtItsEnds(t *testing.T) {
	var h Histogram
	h.Record(-time.Second)
	h.Record(time.Hour)
	if got := h.Quantile(0); got != 0 {
		t.Errorf("a negative duration was counted as %v", got)
	}
	if got := h.Quantile(1); got < 18*time.Minute {
		t.Errorf("an hour was counted as %v", got)
	}
}

func TestAnEmptyHistogramHasNoQuantiles(t *testing.T) {
	if got := new(Histogram).Quantile(0.5); got != 0 {
		t.Errorf("got %v", got)
	}
}

func TestJSONKeepsEveryBucket(t *testing.T) {
	var h, back Histogram
	for i := range 1000 {
		h.Record(time.Duration(i * i * i))
	}
	text, err := json.Marshal(&h)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if h != back {
		t.Error("what was read differs from what was written")
	}
	if err := json.Unmarshal([]byte(`[[1,2,3]]`), &back); err == nil {
		t.Error("a bucket of three numbers was accepted")
	}
}

func TestMergeAddsCounts(t *testing.T) {
	var a, b Histogram
	a.Record(10)
	b.Record(10)
	b.Record(20)
	a.Merge(&b)
	if got := fmt.Sprint(a.Buckets()); got != "[{10ns 2} {20ns 1}]" {
		t.Errorf("got %s", got)
	}
}

func FuzzUnmarshalJSON(f *testing.F) {
	f.Add([]byte(`[[48000,12],[51200,3]]`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`[[18446744073709551615,1]]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var h, back Histogram
		if json.Unmarshal(text, &h) != nil {
			return
		}
		again, err := json.Marshal(&h)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(again, &back); err != nil || h != back {
			t.Errorf("%s became %s: %v", text, again, err)
		}
	})
}

func TestRecordDoesNotAllocate(t *testing.T) {
	h := new(Histogram)
	if n := testing.AllocsPerRun(100, func() { h.Record(48_000) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	b.ReportAllocs()
	h := new(Histogram)
	for i := 0; b.Loop(); i++ {
		h.Record(time.Duration(40_000 + i&0xffff))
	}
}

func ExampleHistogram() {
	var h Histogram
	for i := 1; i <= 100; i++ {
		h.Record(time.Duration(i) * time.Nanosecond)
	}
	fmt.Println(h.Quantile(0.5), h.Quantile(0.99))
	// Output: 50ns 99ns
}
