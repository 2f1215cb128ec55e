package gossip

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/gossip/record"
)

func signed(t testing.TB, i int, network state.NetworkID, r record.Record) *record.Record {
	t.Helper()
	r.Owner = idOf(i)
	out, err := record.New(keyOf(i), network, r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func bodies(t testing.TB) map[kind][]byte {
	r := signed(t, 0, red, record.Record{Key: "a", Value: []byte("1")})
	part := signed(t, 0, state.NetworkID{}, record.Record{Key: red.String()})
	return map[kind][]byte{
		pushKind:    r.Wire(),
		digestKind:  digests{answer: true, sums: []netDigest{{red, r.Digest()}, {blue, record.Digest{}}}, attached: []*record.Record{part}}.append(nil),
		bucketsKind: bucketSums{{1}, {2}}.append(nil),
		ownersKind:  ownerSums{mask: 3, sums: []ownerSum{{idOf(0), shortDigest{1}}, {idOf(1), shortDigest{}}}}.append(nil),
		summaryKind: appendSummaries(nil, []summary{{owner: idOf(0), entries: []summaryEntry{{keyHash{1}, 2, shortDigest{3}}}}, {owner: idOf(1)}}),
		recordsKind: chunk{token: 1, index: 2, total: 3, records: []*record.Record{r}}.append(nil),
		wantKind:    wants{token: 1, keys: []wantKey{{idOf(0), keyHash{1}}}}.append(nil),
	}
}

// parse reads a body of a kind and returns it written again.
func parse(k kind, b []byte) ([]byte, error) {
	switch k {
	case pushKind:
		v, err := parseRecords(red, b)
		return appendRecords(nil, v), err
	case digestKind:
		v, err := parseDigests(b)
		return v.append(nil), err
	case bucketsKind:
		v, err := parseBuckets(b)
		return v.append(nil), err
	case ownersKind:
		v, err := parseOwners(b)
		return v.append(nil), err
	case summaryKind:
		v, err := parseSummaries(b)
		return appendSummaries(nil, v), err
	case recordsKind:
		v, err := parseChunk(red, b)
		return v.append(nil), err
	case wantKind:
		v, err := parseWants(b)
		return v.append(nil), err
	}
	return nil, errVersion
}

func TestBodiesReadBack(t *testing.T) {
	for k, b := range bodies(t) {
		if got, err := parse(k, b); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s: %v, %x, expected %x", kindNames[k], err, got, b)
		}
	}
}

func TestTruncatedBodiesAreRefusedOrShorter(t *testing.T) {
	for k, b := range bodies(t) {
		for n := range b {
			got, err := parse(k, b[:n])
			if err == nil && !bytes.Equal(got, b[:n]) {
				t.Errorf("%s cut to %d bytes reads as something else", kindNames[k], n)
			}
		}
		if _, err := parse(k, b[:len(b)-1]); !errors.Is(err, record.ErrTruncated) {
			t.Errorf("%s without its last byte: %v", kindNames[k], err)
		}
	}
}

func TestHeadsReadBack(t *testing.T) {
	h := head{wantKind, idOf(0), red}
	if got, err := parseHead(h.append(nil)); err != nil || !reflect.DeepEqual(got, h) {
		t.Errorf("%+v, %v", got, err)
	}
	for name, b := range map[string][]byte{
		"another version":  append([]byte{2}, h.append(nil)[1:]...),
		"kind zero":        append([]byte{version, 0}, h.append(nil)[2:]...),
		"a kind too large": append([]byte{version, byte(kindEnd)}, h.append(nil)[2:]...),
	} {
		if _, err := parseHead(b); !errors.Is(err, errVersion) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := parseHead(h.append(nil)[:headSize-1]); !errors.Is(err, record.ErrTruncated) {
		t.Error("a short head is read")
	}
}

// A broadcast larger than a packet was one of moby's traps: the largest record must fit, with all that goes around it.
func TestTheLargestRecordAndTheFullestDigestFitAPacket(t *testing.T) {
	if record.MaxSize > packetBody {
		t.Errorf("a record may have %d bytes, a packet's body %d", record.MaxSize, packetBody)
	}
	full := digests{attached: []*record.Record{signed(t, 0, state.NetworkID{}, record.Record{Key: strings.Repeat("k", 25)})}}
	for range maxDigests {
		full.sums = append(full.sums, netDigest{})
	}
	if n := headSize + len(full.append(nil)); n > packetSize {
		t.Errorf("the fullest digest has %d bytes, a packet %d", n, packetSize)
	}
}

func FuzzBodies(f *testing.F) {
	for k, b := range bodies(f) {
		f.Add(byte(k), b)
	}
	f.Fuzz(func(t *testing.T, k byte, b []byte) {
		if got, err := parse(kind(k), b); err == nil && kind(k) != digestKind && kind(k) != bucketsKind && !bytes.Equal(got, b) {
			t.Errorf("%x reads as %x", b, got)
		}
		if h, err := parseHead(b); err == nil && !bytes.Equal(h.append(nil), b[:headSize]) {
			t.Error("a head reads as another")
		}
	})
}
