package frame

import (
	"encoding/binary"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/weftnet/weft/stack/drop"
)

func be16(b []byte) uint16     { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32     { return binary.BigEndian.Uint32(b) }
func put16(b []byte, v uint16) { binary.BigEndian.PutUint16(b, v) }
func put32(b []byte, v uint32) { binary.BigEndian.PutUint32(b, v) }

// extension is an IPv6 extension header; its body lacks the next-header byte.
type extension struct {
	kind uint8
	body []byte
}

// packet describes a frame to build. The zero value is TCP over IPv4, without payload.
type packet struct {
	tags       []uint16 // TPIDs, outermost first
	v6         bool
	tos        byte
	id         uint16
	noDF       bool
	ttl        byte
	options    []byte // IPv4 options
	extensions []extension
	proto      uint8
	client     byte // last byte of the source address
	port       uint16
	seq        uint32
	ack        uint32
	flags      byte
	window     uint16
	tcpOptions []byte
	payload    []byte
}

// timestamps is what Linux puts into each segment: NOP, NOP, timestamps.
var timestamps = []byte{1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4}

// hopByHop is a hop-by-hop header with padding only.
var hopByHop = extension{extHopByHop, []byte{0, 1, 4, 0, 0, 0, 0}}

// build writes the frame with right lengths and checksums.
func (p packet) build() []byte {
	b := []byte{2, 0x42, 10, 0, 0, 2, 2, 0x42, 10, 0, 0, 1 + p.client}
	for i, tpid := range p.tags {
		b = binary.BigEndian.AppendUint16(b, tpid)
		b = binary.BigEndian.AppendUint16(b, uint16(100+i))
	}
	if p.proto == 0 {
		p.proto = ProtoTCP
	}
	if p.ttl == 0 {
		p.ttl = 64
	}
	l4 := p.transport()
	var pseudo uint16
	if p.v6 {
		b, pseudo = p.ipv6(b, len(l4))
	} else {
		b, pseudo = p.ipv4(b, len(l4))
	}
	if at := map[uint8]int{ProtoTCP: 16, ProtoUDP: 6, ProtoICMP: 2, ProtoICMPv6: 2}[p.proto]; at != 0 {
		if p.proto == ProtoICMP {
			pseudo = 0
		}
		check := ^sumNaive(l4, pseudo)
		if check == 0 && p.proto == ProtoUDP {
			check = 0xffff
		}
		put16(l4[at:], check)
	}
	return append(b, l4...)
}

func (p packet) transport() []byte {
	var h []byte
	switch p.proto {
	case ProtoTCP:
		h = make([]byte, 20)
		put32(h[4:], p.seq)
		put32(h[8:], p.ack)
		h[12], h[13] = byte(5+len(p.tcpOptions)/4)<<4, 0x10|p.flags
		put16(h[14:], p.window)
		h = append(h, p.tcpOptions...)
	case ProtoUDP:
		h = make([]byte, 8)
		put16(h[4:], uint16(8+len(p.payload)))
	case ProtoSCTP:
		h = make([]byte, 12)
	case ProtoICMP:
		h = []byte{8, 0, 0, 0, 0, 1, 0, 1}
	case ProtoICMPv6:
		h = []byte{128, 0, 0, 0, 0, 1, 0, 1}
	}
	if p.proto == ProtoTCP || p.proto == ProtoUDP || p.proto == ProtoSCTP {
		put16(h, 40000+p.port)
		put16(h[2:], 80)
	}
	return append(h, p.payload...)
}

func (p packet) ipv4(b []byte, transport int) ([]byte, uint16) {
	b = binary.BigEndian.AppendUint16(b, EtherIPv4)
	h := make([]byte, 20+len(p.options))
	h[0], h[1], h[8], h[9] = 0x40|byte(5+len(p.options)/4), p.tos, p.ttl, p.proto
	put16(h[2:], uint16(len(h)+transport))
	put16(h[4:], p.id)
	if !p.noDF {
		h[6] = 0x40
	}
	copy(h[12:], []byte{10, 0, 0, 1 + p.client, 10, 0, 0, 2})
	copy(h[20:], p.options)
	put16(h[10:], ^sumNaive(h, 0))
	return append(b, h...), sumNaive(h[12:20], sumNaive([]byte{0, p.proto, byte(transport >> 8), byte(transport)}, 0))
}

func (p packet) ipv6(b []byte, transport int) ([]byte, uint16) {
	b = binary.BigEndian.AppendUint16(b, EtherIPv6)
	h := make([]byte, 40)
	h[0], h[1], h[7] = 0x60|p.tos>>4, p.tos<<4, p.ttl
	h[8], h[9], h[23] = 0xfd, 1, 1+p.client
	h[24], h[25], h[39] = 0xfd, 1, 2
	pseudo := sumNaive(h[8:40], sumNaive([]byte{0, p.proto, byte(transport >> 8), byte(transport)}, 0))
	next := 6
	for _, e := range p.extensions {
		h[next] = e.kind
		next = len(h)
		h = append(append(h, 0), e.body...)
	}
	h[next] = p.proto
	put16(h[4:], uint16(len(h)-40+transport))
	return append(b, h...), pseudo
}

// wire is a Frame of b behind the usual headroom, parsed.
func wire(t testing.TB, b []byte) *Frame {
	t.Helper()
	f := view(b)
	if r := f.Parse(); r != drop.None {
		t.Fatalf("Parse: %v", r)
	}
	return f
}

// view is a Frame of a copy of b behind the usual headroom.
func view(b []byte) *Frame {
	f := new(Frame)
	f.Set(append(make([]byte, Headroom), b...), Headroom, len(b))
	return f
}

// super is the frame of p as a superframe with segments of size bytes, as a TAP hands it over.
func (p packet) super(t testing.TB, size int) *Frame {
	t.Helper()
	f := wire(t, p.build())
	f.Offload = Offload{GSO: GSOTCP4, Checksum: Partial, Size: uint16(size), Start: f.L4, Offset: tcpCheck, HdrLen: f.Payload}
	switch {
	case f.Proto == ProtoUDP:
		f.GSO, f.Offset = GSOUDP, udpCheck
	case p.v6:
		f.GSO = GSOTCP6
	}
	put16(f.Bytes()[f.L4+f.Offset:], PseudoSum(f))
	if r := f.Parse(); r != drop.None {
		t.Fatalf("Parse of the superframe: %v", r)
	}
	return f
}

// decode has an independent parser read b, and check that all is well-formed and all checksums are right.
func decode(t testing.TB, b []byte) gopacket.Packet {
	t.Helper()
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("gopacket: %v in % x", e.Error(), b[:min(len(b), 80)])
	}
	if p.Metadata().Truncated {
		t.Fatalf("gopacket: truncated:\n%s", p)
	}
	network := p.NetworkLayer()
	for _, l := range p.Layers() {
		if n, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := n.SetNetworkLayerForChecksum(network); err != nil {
				t.Fatalf("gopacket: %v", err)
			}
		}
	}
	if err, bad := p.VerifyChecksums(); err != nil || len(bad) > 0 {
		t.Fatalf("gopacket: checksums: %v %+v", err, bad)
	}
	return p
}
