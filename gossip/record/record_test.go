package record

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

var (
	key  = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	self = identity.IDOf(key.Public().(ed25519.PublicKey))
	red  = state.NetworkID{1}
	blue = state.NetworkID{2}
)

func keyring(primary uint64, epochs ...uint64) state.Keyring {
	k := state.Keyring{Primary: primary}
	for _, e := range epochs {
		k.Keys = append(k.Keys, state.Key{Epoch: e, Secret: bytes.Repeat([]byte{byte(e)}, 32)})
	}
	return k
}

func sign(t testing.TB, r Record) *Record {
	t.Helper()
	r.Owner = self
	out, err := New(key, red, r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestARecordReadsBack(t *testing.T) {
	for name, r := range map[string]Record{
		"small":    {Key: "a", Value: []byte("1"), Time: 7},
		"deleted":  {Key: "a", Time: 1 << 63, Deleted: true},
		"largest":  {Key: strings.Repeat("k", MaxKey), Value: make([]byte, MaxValue)},
		"no value": {Key: "\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			out := sign(t, r)
			got, rest, err := Parse(red, append(bytes.Clone(out.Wire()), "rest"...))
			if err != nil || string(rest) != "rest" {
				t.Fatalf("rest %q, error %v", rest, err)
			}
			if got.Owner != self || got.Key != r.Key || !bytes.Equal(got.Value, r.Value) || got.Time != r.Time || got.Deleted != r.Deleted {
				t.Errorf("got %+v, expected %+v", got, r)
			}
			if err := got.Verify(key.Public().(ed25519.PublicKey), red); err != nil {
				t.Error(err)
			}
			if len(out.Wire()) > MaxSize {
				t.Errorf("%d bytes, more than MaxSize %d", len(out.Wire()), MaxSize)
			}
		})
	}
}

func TestWhatIsTooLargeIsNotSigned(t *testing.T) {
	for name, r := range map[string]Record{
		"no key":         {},
		"a long key":     {Key: strings.Repeat("k", MaxKey+1)},
		"a large value":  {Key: "a", Value: make([]byte, MaxValue+1)},
		"both too large": {Key: strings.Repeat("k", 300), Value: make([]byte, 70000)},
	} {
		if _, err := New(key, red, r); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASignatureHoldsForOneContentOneOwnerAndOneNetwork(t *testing.T) {
	r := sign(t, Record{Key: "key", Value: []byte("value"), Time: 7})
	pub := key.Public().(ed25519.PublicKey)
	if got, _, _ := Parse(blue, r.Wire()); !errors.Is(got.Verify(pub, blue), ErrSignature) {
		t.Error("it holds for another network")
	}
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	if !errors.Is(r.Verify(other, red), ErrSignature) || !errors.Is(r.Verify(nil, red), ErrSignature) {
		t.Error("it holds for another key")
	}
	for i := range r.Wire() {
		b := bytes.Clone(r.Wire())
		b[i] ^= 1
		got, rest, err := Parse(red, b)
		if err == nil && len(rest) == 0 && got.Verify(pub, red) == nil {
			t.Errorf("it holds with byte %d changed", i)
		}
	}
}

func TestEveryTruncationIsRefused(t *testing.T) {
	r := sign(t, Record{Key: "key", Value: []byte("value")})
	for n := range r.Wire() {
		if _, _, err := Parse(red, r.Wire()[:n]); !errors.Is(err, ErrTruncated) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestTheNewerReplacesAndEqualTimesHaveOneWinner(t *testing.T) {
	a, b := sign(t, Record{Key: "k", Value: []byte("a"), Time: 1}), sign(t, Record{Key: "k", Value: []byte("b"), Time: 1})
	later := sign(t, Record{Key: "k", Time: 2, Deleted: true})
	if !later.Newer(a) || a.Newer(later) || !a.Newer(nil) || a.Newer(a) {
		t.Error("time does not decide")
	}
	if a.Newer(b) == b.Newer(a) {
		t.Error("two records of one time have not exactly one winner")
	}
}

func TestOnlyTheKeyOpensAndNothingMayChange(t *testing.T) {
	ring, err := NewRing(keyring(2, 1, 2))
	if err != nil {
		t.Fatal(err)
	}
	sealed := ring.Seal([]byte("head"), []byte("body"))
	if body, err := ring.Open(sealed, 4); err != nil || string(body) != "body" {
		t.Fatalf("%q, %v", body, err)
	}
	old, _ := NewRing(keyring(1, 1))
	if _, err := old.Open(sealed, 4); !errors.Is(err, ErrEpoch) {
		t.Errorf("a ring without the epoch: %v", err)
	}
	wrong := keyring(2, 2)
	wrong.Keys[0].Secret[0]++
	foreign, _ := NewRing(wrong)
	if _, err := foreign.Open(sealed, 4); !errors.Is(err, ErrSeal) {
		t.Errorf("another key of the epoch: %v", err)
	}
	for i := range sealed {
		b := bytes.Clone(sealed)
		b[i] ^= 1
		if _, err := ring.Open(b, 4); err == nil {
			t.Errorf("it opens with byte %d changed", i)
		}
		if _, err := ring.Open(sealed[:i], 4); err == nil {
			t.Errorf("it opens cut to %d bytes", i)
		}
	}
	if again := ring.Seal([]byte("head"), []byte("body")); bytes.Equal(again, sealed) {
		t.Error("two seals are the same: no nonce")
	}
}

func TestARingNeedsItsPrimaryAndWholeKeys(t *testing.T) {
	short := keyring(1, 1)
	short.Keys[0].Secret = short.Keys[0].Secret[:16]
	for name, k := range map[string]state.Keyring{"empty": {}, "without the primary": keyring(3, 1, 2), "with a short key": short} {
		if _, err := NewRing(k); err == nil {
			t.Errorf("a keyring %s is accepted", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	r := sign(f, Record{Key: "key", Value: []byte("value"), Time: 7})
	f.Add(r.Wire())
	f.Add(append(bytes.Clone(r.Wire()), r.Wire()...))
	f.Add(r.Wire()[:30])
	f.Add(sign(f, Record{Key: "gone", Deleted: true}).Wire())
	f.Fuzz(func(t *testing.T, b []byte) {
		r, rest, err := Parse(red, b)
		if err != nil {
			return
		}
		if !bytes.Equal(append(bytes.Clone(r.Wire()), rest...), b) {
			t.Error("it does not read what is there")
		}
		if len(r.Wire()) > MaxSize || r.Key == "" {
			t.Errorf("it reads a record that New refuses: %d bytes, key %q", len(r.Wire()), r.Key)
		}
	})
}

func FuzzOpen(f *testing.F) {
	ring, err := NewRing(keyring(1, 1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ring.Seal([]byte("head"), []byte("body")), 4)
	f.Add([]byte("head"), 4)
	f.Fuzz(func(t *testing.T, b []byte, head int) {
		if head < 0 || head > 64 {
			return
		}
		ring.Open(b, head)
	})
}

func BenchmarkVerify(b *testing.B) {
	r := sign(b, Record{Key: "endpoint/web.1", Value: make([]byte, 150)})
	pub := key.Public().(ed25519.PublicKey)
	b.ReportAllocs()
	for b.Loop() {
		if r.Verify(pub, red) != nil {
			b.Fatal("refused")
		}
	}
}

func Example() {
	network := state.NetworkID{1}
	r, err := New(key, network, Record{Owner: self, Key: "web.1", Value: []byte("10.0.0.5"), Time: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	ring, err := NewRing(state.Keyring{Primary: 1, Keys: []state.Key{{Epoch: 1, Secret: make([]byte, 32)}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	sealed := ring.Seal(nil, r.Wire())

	body, err := ring.Open(sealed, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	got, _, err := Parse(network, body)
	fmt.Println(got.Key, string(got.Value), got.Verify(key.Public().(ed25519.PublicKey), network), err)
	// Output: web.1 10.0.0.5 <nil> <nil>
}
