package wire

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip/record"
)

var red, blue = state.NetworkID{1}, state.NetworkID{2}

func keyOf(i int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(append(make([]byte, 31), byte(i)))
}

func idOf(i int) identity.NodeID { return identity.IDOf(keyOf(i).Public().(ed25519.PublicKey)) }

func signed(t testing.TB, i int, network state.NetworkID, r record.Record) *record.Record {
	t.Helper()
	r.Owner = idOf(i)
	out, err := record.New(keyOf(i), network, r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func appendSummaries(b []byte, all []OwnerSummary) []byte {
	for _, s := range all {
		b = s.Append(b)
	}
	return b
}

func bodies(t testing.TB) map[Kind][]byte {
	r := signed(t, 0, red, record.Record{Key: "a", Value: []byte("1")})
	part := signed(t, 0, state.NetworkID{}, record.Record{Key: red.String()})
	return map[Kind][]byte{
		Push:    r.Wire(),
		Digest:  Digests{Answer: true, Sums: []Sum{{red, r.Digest()}, {blue, record.Digest{}}}, Attached: []*record.Record{part}}.Append(nil),
		Buckets: BucketSums{{1}, {2}}.Append(nil),
		Owners:  OwnerSums{Mask: 3, Sums: []OwnerSum{{idOf(0), Short{1}}, {idOf(1), Short{}}}}.Append(nil),
		Summary: appendSummaries(nil, []OwnerSummary{{Owner: idOf(0), Entries: []Entry{{Hash{1}, 2, Short{3}}}}, {Owner: idOf(1)}}),
		Records: Chunk{Token: 1, Index: 2, Total: 3, Records: []*record.Record{r}}.Append(nil),
		Want:    Wants{Token: 1, Keys: []Key{{idOf(0), Hash{1}}}}.Append(nil),
	}
}

// parse reads a body of a kind and returns it written again.
func parse(k Kind, b []byte) ([]byte, error) {
	switch k {
	case Push:
		v, err := ParseRecords(red, b)
		return AppendRecords(nil, v), err
	case Digest:
		v, err := ParseDigests(b)
		return v.Append(nil), err
	case Buckets:
		v, err := ParseBuckets(b)
		return v.Append(nil), err
	case Owners:
		v, err := ParseOwners(b)
		return v.Append(nil), err
	case Summary:
		v, err := ParseSummary(b)
		return appendSummaries(nil, v), err
	case Records:
		v, err := ParseChunk(red, b)
		return v.Append(nil), err
	case Want:
		v, err := ParseWants(b)
		return v.Append(nil), err
	}
	return nil, ErrVersion
}

func TestBodiesReadBack(t *testing.T) {
	for k, b := range bodies(t) {
		if got, err := parse(k, b); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s: %v, %x, expected %x", k, err, got, b)
		}
	}
}

func TestTruncatedBodiesAreRefusedOrShorter(t *testing.T) {
	for k, b := range bodies(t) {
		for n := range b {
			got, err := parse(k, b[:n])
			if err == nil && !bytes.Equal(got, b[:n]) {
				t.Errorf("%s cut to %d bytes reads as something else", k, n)
			}
		}
		if _, err := parse(k, b[:len(b)-1]); !errors.Is(err, record.ErrTruncated) {
			t.Errorf("%s without its last byte: %v", k, err)
		}
	}
}

func TestHeadsReadBack(t *testing.T) {
	h := Head{Want, idOf(0), red}
	if got, err := ParseHead(h.Append(nil)); err != nil || !reflect.DeepEqual(got, h) {
		t.Errorf("%+v, %v", got, err)
	}
	for name, b := range map[string][]byte{
		"another version":  append([]byte{Version + 1}, h.Append(nil)[1:]...),
		"kind zero":        append([]byte{Version, 0}, h.Append(nil)[2:]...),
		"a kind too large": append([]byte{Version, byte(Kinds)}, h.Append(nil)[2:]...),
	} {
		if _, err := ParseHead(b); !errors.Is(err, ErrVersion) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseHead(h.Append(nil)[:HeadSize-1]); !errors.Is(err, record.ErrTruncated) {
		t.Error("a short head is read")
	}
}

// A broadcast larger than a packet was one of moby's traps: the largest record must fit, with all that goes around it.
func TestTheLargestRecordAndTheFullestDigestFitAPacket(t *testing.T) {
	if record.MaxSize > PacketBody {
		t.Errorf("a record may have %d bytes, a packet's body %d", record.MaxSize, PacketBody)
	}
	full := Digests{Attached: []*record.Record{signed(t, 0, state.NetworkID{}, record.Record{Key: strings.Repeat("k", 25)})}}
	for range MaxSums {
		full.Sums = append(full.Sums, Sum{})
	}
	if n := HeadSize + len(full.Append(nil)); n > PacketSize {
		t.Errorf("the fullest digest has %d bytes, a packet %d", n, PacketSize)
	}
}

func FuzzBodies(f *testing.F) {
	for k, b := range bodies(f) {
		f.Add(byte(k), b)
	}
	f.Fuzz(func(t *testing.T, k byte, b []byte) {
		if got, err := parse(Kind(k), b); err == nil && Kind(k) != Digest && Kind(k) != Buckets && !bytes.Equal(got, b) {
			t.Errorf("%x reads as %x", b, got)
		}
		if h, err := ParseHead(b); err == nil && !bytes.Equal(h.Append(nil), b[:HeadSize]) {
			t.Error("a head reads as another")
		}
	})
}
