package frame

import (
	"encoding/binary"
	"testing"

	"github.com/weftnet/weft/stack/drop"
)

// vnetHeader writes a virtio_net_hdr as linux/virtio_net.h lays it out.
func vnetHeader(flags, kind byte, hdrLen, size, start, offset uint16) []byte {
	b := []byte{flags, kind}
	for _, v := range []uint16{hdrLen, size, start, offset} {
		b = binary.NativeEndian.AppendUint16(b, v)
	}
	return b
}

func TestOffloadReadsAndWritesVnetHeaders(t *testing.T) {
	for name, c := range map[string]struct {
		b []byte
		o Offload
	}{
		"a plain frame":         {vnetHeader(0, 0, 0, 0, 0, 0), Offload{}},
		"a checksum owed":       {vnetHeader(1, 0, 0, 0, 34, 16), Offload{Checksum: Partial, Start: 34, Offset: 16}},
		"a checksum vouched":    {vnetHeader(2, 0, 0, 0, 0, 0), Offload{Checksum: Verified}},
		"a TCPv4 superframe":    {vnetHeader(1, 1, 66, 1398, 34, 16), Offload{GSO: GSOTCP4, Checksum: Partial, Size: 1398, Start: 34, Offset: 16, HdrLen: 66}},
		"a TCPv6 one with ECN":  {vnetHeader(1, 0x84, 86, 1378, 54, 16), Offload{GSO: GSOTCP6, ECN: true, Checksum: Partial, Size: 1378, Start: 54, Offset: 16, HdrLen: 86}},
		"a superframe over UDP": {vnetHeader(1, 5, 42, 1200, 34, 6), Offload{GSO: GSOUDP, Checksum: Partial, Size: 1200, Start: 34, Offset: 6, HdrLen: 42}},
	} {
		t.Run(name, func(t *testing.T) {
			o := Offload{GSO: GSOUDP, Size: 7, Checksum: Verified} // what an earlier frame left
			if r := o.Unmarshal(c.b); r != drop.None || o != c.o {
				t.Errorf("Unmarshal = %v, %+v; want %+v", r, o, c.o)
			}
			b := make([]byte, OffloadLen)
			if c.o.Marshal(b); string(b) != string(c.b) {
				t.Errorf("Marshal wrote % x, want % x", b, c.b)
			}
		})
	}
}

func TestOffloadRefusesWhatItCannotDescribe(t *testing.T) {
	for name, b := range map[string][]byte{
		"a header cut off":            make([]byte, OffloadLen-1),
		"UFO":                         vnetHeader(1, 3, 42, 1480, 34, 6),
		"a tunnel":                    vnetHeader(1, 0x21, 66, 1398, 34, 16),
		"ECN without segmentation":    vnetHeader(1, 0x80, 0, 0, 34, 16),
		"ECN of datagrams":            vnetHeader(1, 0x85, 42, 1200, 34, 6),
		"a kind that nobody has made": vnetHeader(1, 2, 0, 1, 34, 16),
	} {
		t.Run(name, func(t *testing.T) {
			if r := new(Offload).Unmarshal(b); r != drop.BadOffload {
				t.Errorf("Unmarshal = %v, want %v", r, drop.BadOffload)
			}
		})
	}
}
