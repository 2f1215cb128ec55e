package bridge

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// who is a station.
type who struct {
	mac    frame.MAC
	v4, v6 netip.Addr
}

// host returns the station numbered n: 02:42:0a:00:00:0n, 10.0.0.n, fd00::n.
func host(n byte) who {
	return who{0x02420a000000 + frame.MAC(n), netip.AddrFrom4([4]byte{10, 0, 0, n}), netip.AddrFrom16([16]byte{0: 0xfd, 15: n})}
}

var (
	asker, owner = host(1), host(2) // at the ports a and b
	far, wide    = host(3), host(4) // at the first and the second other node
	kernel       = host(5)          // at the third, a static one
	nobody       = host(9)
	gateway      = who{gwMAC, gw4, gw6}
)

// datagram is a UDP datagram of n payload bytes between stations, over IPv6 if their v4 addresses are missing.
func datagram(t testing.TB, from, to who, n int) []byte {
	t.Helper()
	ether := layers.Ethernet{SrcMAC: hardware(from.mac), DstMAC: hardware(to.mac), EthernetType: layers.EthernetTypeIPv4}
	udp := layers.UDP{SrcPort: 1000, DstPort: 2000}
	payload := gopacket.Payload(bytes.Repeat([]byte{byte(n)}, n))
	if from.v4.IsValid() && to.v4.IsValid() {
		ip := layers.IPv4{Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolUDP, SrcIP: from.v4.AsSlice(), DstIP: to.v4.AsSlice()}
		check(t, udp.SetNetworkLayerForChecksum(&ip))
		return serialize(t, &ether, &ip, &udp, payload)
	}
	ether.EthernetType = layers.EthernetTypeIPv6
	ip := layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: from.v6.AsSlice(), DstIP: to.v6.AsSlice()}
	check(t, udp.SetNetworkLayerForChecksum(&ip))
	return serialize(t, &ether, &ip, &udp, payload)
}

// segment is a TCP segment of n payload bytes between stations.
func segment(t testing.TB, from, to who, n int) []byte {
	t.Helper()
	ip := layers.IPv4{Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolTCP, SrcIP: from.v4.AsSlice(), DstIP: to.v4.AsSlice()}
	tcp := layers.TCP{SrcPort: 1000, DstPort: 2000, Seq: 1 << 31, ACK: true, Window: 500}
	check(t, tcp.SetNetworkLayerForChecksum(&ip))
	payload := make([]byte, n)
	for i := range payload {
		payload[i] = byte(i * 7)
	}
	ether := layers.Ethernet{SrcMAC: hardware(from.mac), DstMAC: hardware(to.mac), EthernetType: layers.EthernetTypeIPv4}
	return serialize(t, &ether, &ip, &tcp, gopacket.Payload(payload))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// six is w with its IPv6 address alone.
func (w who) six() who { return who{mac: w.mac, v6: w.v6} }

// readdressed is b between other MACs.
func readdressed(b []byte, from, to frame.MAC) []byte {
	b = bytes.Clone(b)
	to.Put(b)
	from.Put(b[6:])
	return b
}

// retagged is b with an 802.1Q tag.
func retagged(b []byte) []byte { return slices.Concat(b[:12], []byte{0x81, 0, 0, 77}, b[12:]) }

// input is what a device hands out for a frame and what is left to do with it.
func input(o frame.Offload, b []byte) []byte {
	in := make([]byte, frame.OffloadLen, frame.OffloadLen+len(b))
	o.Marshal(in)
	return append(in, b...)
}

// plain is the input for a frame with nothing left to do.
func plain(b []byte) []byte { return input(frame.Offload{}, b) }

// owed is the input for a frame whose checksum is owed, in segments of size if that is not 0.
func owed(t testing.TB, b []byte, size int) []byte {
	t.Helper()
	f := parsed(t, b)
	o := frame.Offload{Checksum: frame.Partial, Start: f.L4, Offset: 16}
	if f.Proto == frame.ProtoUDP {
		o.Offset = 6
	}
	if size > 0 {
		o.Size, o.HdrLen = uint16(size), f.Payload
		switch {
		case f.Proto == frame.ProtoUDP:
			o.GSO = frame.GSOUDP
		case f.Ether == frame.EtherIPv6:
			o.GSO = frame.GSOTCP6
		default:
			o.GSO = frame.GSOTCP4
		}
	}
	b = bytes.Clone(b)
	binary.BigEndian.PutUint16(b[o.Start+o.Offset:], frame.PseudoSum(f))
	return input(o, b)
}

// wireOf returns the wire frames of what was written to a device; their checksums must be right.
func wireOf(t testing.TB, all []written) (frames [][]byte) {
	t.Helper()
	for _, w := range all {
		f := new(frame.Frame)
		f.Set(append(make([]byte, frame.Headroom), w.bytes...), frame.Headroom, len(w.bytes))
		f.Offload = w.Offload
		if reason := f.Parse(); reason != drop.None {
			t.Fatalf("a device was given a frame that contradicts itself: %s: %d bytes, %+v % x", reason, len(w.bytes), w.Offload, w.bytes[:min(len(w.bytes), 80)])
		}
		if f.GSO == frame.GSONone {
			f.Complete()
			frames = append(frames, f.Bytes())
			continue
		}
		segs, _, reason := frame.Cut(f, f.Len(), nil, make([]byte, 1<<20), nil)
		if reason != drop.None {
			t.Fatalf("a device was given a superframe that cannot be cut: %s", reason)
		}
		for _, s := range segs {
			frames = append(frames, slices.Concat(s.Header, s.Payload))
		}
	}
	for _, b := range frames {
		if f := parsed(t, b); !f.Verify() {
			t.Fatalf("a frame with a wrong checksum was delivered: % x", b[:min(len(b), 80)])
		}
	}
	return frames
}
