package capture

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/weftnet/weft/stack/frame"
)

func lossy(t testing.TB) (file []byte, packets, lost uint64) {
	b, o := superframe(t, false, 60000)
	tap := New()
	s, err := tap.Open(Options{Buffer: minBuffer, Count: 3})
	must(t, err)
	for range 10 {
		tap.Frame(port1, &o, [][]byte{b})
	}
	tap.Frame(port1, &frame.Offload{}, nil)
	var out bytes.Buffer
	must(t, s.Run(t.Context(), &out))
	_, lost = s.Statistics()
	return out.Bytes(), 3, lost
}

func TestCopyPassesTheStreamAndCounts(t *testing.T) {
	file, packets, lost := lossy(t)
	for name, src := range map[string]io.Reader{
		"at once":       bytes.NewReader(file),
		"byte by byte":  iotest.OneByteReader(bytes.NewReader(file)),
		"half by half":  iotest.HalfReader(bytes.NewReader(file)),
		"EOF with data": iotest.DataErrReader(bytes.NewReader(file)),
	} {
		var out bytes.Buffer
		p, l, err := Copy(&out, src)
		if err != nil || p != packets || l != lost || !bytes.Equal(out.Bytes(), file) {
			t.Errorf("%s: %d packets, %d lost, %v; expected %d, %d and the same %d bytes, got %d", name, p, l, err, packets, lost, len(file), out.Len())
		}
	}
}

func TestCopyOfABrokenStreamEndsWithAWholeBlock(t *testing.T) {
	file, _, _ := lossy(t)
	for cut := 0; cut < len(file); cut += 997 {
		var out bytes.Buffer
		_, _, err := Copy(&out, io.MultiReader(bytes.NewReader(file[:cut]), iotest.ErrReader(io.ErrUnexpectedEOF)))
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d: got %v, expected the reader's error", cut, err)
		}
		parse(t, out.Bytes())
	}
	if _, _, err := Copy(io.Discard, bytes.NewReader(bytes.Repeat([]byte("not pcapng"), 5))); err == nil {
		t.Error("what is no pcapng was taken")
	}
}

func FuzzCopy(f *testing.F) {
	file, _, _ := lossy(f)
	f.Add(file[:200])
	f.Add(file[len(file)-400:])
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		if _, _, err := Copy(&out, bytes.NewReader(b)); err == nil && !bytes.HasPrefix(b, out.Bytes()) {
			t.Fatal("what was written is not what was read")
		}
	})
}
