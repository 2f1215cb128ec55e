package frame

import (
	"encoding/binary"

	"github.com/weftnet/weft/stack/drop"
)

// GSO is how a superframe is to be cut into wire frames.
type GSO uint8

// The kinds of superframe, named as in linux/virtio_net.h.
const (
	GSONone GSO = iota
	GSOTCP4     // VIRTIO_NET_HDR_GSO_TCPV4
	GSOTCP6     // VIRTIO_NET_HDR_GSO_TCPV6
	GSOUDP      // VIRTIO_NET_HDR_GSO_UDP_L4, over either IP version
)

// Checksum is how far a frame's transport checksum has come.
type Checksum uint8

// The states of a transport checksum.
const (
	Unverified Checksum = iota // the field holds what the sender wrote there; nobody has looked
	Partial                    // the field holds the folded pseudo-header sum; the rest is owed (NEEDS_CSUM)
	Verified                   // the field is right, or something that covered the whole frame vouches for it (DATA_VALID)
)

// Offload is what a virtio_net_hdr says about the frame behind it: which work the kernel left, or leaves, to the other
// side (linux/virtio_net.h, struct virtio_net_hdr). The zero value describes a plain frame.
type Offload struct {
	GSO      GSO
	ECN      bool // the first segment alone keeps CWR (VIRTIO_NET_HDR_GSO_ECN)
	Checksum Checksum
	Size     uint16 // GSO: payload bytes per segment
	Start    uint16 // Partial: where summing starts, from the frame's first byte
	Offset   uint16 // Partial: where the sum goes, from Start
	HdrLen   uint16 // GSO: length of all headers; a hint, not trusted
}

// OffloadLen is the length in bytes of the virtio_net_hdr that TAPs are opened with (TUNSETVNETHDRSZ).
const OffloadLen = 10

// Bits of a virtio_net_hdr (linux/virtio_net.h).
const (
	flagNeedsCsum = 1 << 0
	flagDataValid = 1 << 1

	kindNone  = 0
	kindTCP4  = 1
	kindTCP6  = 4
	kindUDPL4 = 5
	kindECN   = 1 << 7
)

//	 0       1      2        4         6            8             10
//	┌───────┬──────┬────────┬─────────┬────────────┬─────────────┐
//	│ flags │ kind │ HdrLen │ Size    │ Start      │ Offset      │  each in host byte order
//	└───────┴──────┴────────┴─────────┴────────────┴─────────────┘

// Unmarshal reads a virtio_net_hdr in host byte order. It refuses kinds of segmentation that the frame code cannot
// describe, and reports BadOffload for a header that is cut off.
func (o *Offload) Unmarshal(b []byte) drop.Reason {
	if len(b) < OffloadLen {
		return drop.BadOffload
	}
	*o = Offload{}
	switch b[1] {
	case kindNone:
	case kindTCP4, kindTCP4 | kindECN:
		o.GSO = GSOTCP4
	case kindTCP6, kindTCP6 | kindECN:
		o.GSO = GSOTCP6
	case kindUDPL4:
		o.GSO = GSOUDP
	default: // UFO, whose pieces are IP fragments, tunnels, and what later kernels may add
		return drop.BadOffload
	}
	if o.GSO != GSONone {
		o.ECN = b[1]&kindECN != 0
		o.HdrLen = binary.NativeEndian.Uint16(b[2:])
		o.Size = binary.NativeEndian.Uint16(b[4:])
	}
	switch {
	case b[0]&flagNeedsCsum != 0:
		o.Checksum = Partial
		o.Start = binary.NativeEndian.Uint16(b[6:])
		o.Offset = binary.NativeEndian.Uint16(b[8:])
	case b[0]&flagDataValid != 0:
		o.Checksum = Verified
	}
	return drop.None
}

// Marshal writes the virtio_net_hdr for o into b, which must hold OffloadLen bytes.
func (o *Offload) Marshal(b []byte) {
	_ = b[OffloadLen-1]
	var flags, kind byte
	switch o.Checksum {
	case Partial:
		flags = flagNeedsCsum
	case Verified:
		flags = flagDataValid
	}
	switch o.GSO {
	case GSOTCP4:
		kind = kindTCP4
	case GSOTCP6:
		kind = kindTCP6
	case GSOUDP:
		kind = kindUDPL4
	}
	if o.ECN {
		kind |= kindECN
	}
	b[0], b[1] = flags, kind
	binary.NativeEndian.PutUint16(b[2:], o.HdrLen)
	binary.NativeEndian.PutUint16(b[4:], o.Size)
	binary.NativeEndian.PutUint16(b[6:], o.Start)
	binary.NativeEndian.PutUint16(b[8:], o.Offset)
}
