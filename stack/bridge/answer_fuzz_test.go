package bridge

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/weftnet/weft/stack/frame"
)

func FuzzARPRequest(f *testing.F) {
	f.Add(frameOf(f, frame.Broadcast, layers.EthernetTypeARP, arp(1)))
	f.Add(taggedFrameOf(f, frame.Broadcast, layers.EthernetTypeARP, arp(2)))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, ok := readAny(b)
		if !ok {
			return
		}
		_, sender, target, request, ok := arpRequest(fr)
		if !ok || !request {
			return
		}
		dst := make([]byte, replyLen+8)
		answer := parsed(t, dst[:arpReply(dst, fr, ownerMAC)])
		mac, from, to, request, ok := arpRequest(answer)
		if mac != ownerMAC || from != target || to != sender || request || !ok {
			t.Fatalf("the reply says %v %v %v %v %v", mac, from, to, request, ok)
		}
	})
}

func FuzzNeighbor(f *testing.F) {
	f.Add(nd{options: linkAddr(1, askerMAC)}.build(f))
	f.Add(nd{advert: true, flags: 0x20, options: append([]byte{14, 1, 0, 0, 0, 0, 0, 0}, linkAddr(2, askerMAC)...)}.build(f))
	f.Add(nd{src: netip.IPv6Unspecified(), tagged: true}.build(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, ok := readAny(b)
		if !ok {
			return
		}
		fr.Checksum = frame.Verified // so that mutations come past the checksum
		kind, _, target, _, ok := neighbor(fr)
		if !ok || kind != neighborSolicitation {
			return
		}
		dst := make([]byte, replyLen+8)
		answer := parsed(t, dst[:neighborAdvert(dst, fr, ownerMAC, false)])
		kind, src, about, mac, ok := neighbor(answer)
		if kind != neighborAdvertisement || src != target || about != target || mac != ownerMAC || !ok {
			t.Fatalf("the answer says %v %v %v %v %v", kind, src, about, mac, ok)
		}
	})
}

func FuzzPacketTooBig(f *testing.F) {
	f.Add(udp4Frame(f, ownerMAC, owner4, 1500), 1400)
	f.Add(udp6Frame(f, ownerMAC, owner6, 1500), 1400)
	f.Add(nd{}.build(f), 70000)
	f.Fuzz(func(t *testing.T, b []byte, mtu int) {
		fr, ok := readAny(b)
		if !ok {
			return
		}
		dst := make([]byte, replyLen)
		n := packetTooBig(dst, fr, mtu, ownerMAC, gw4, gw6)
		if n == 0 {
			return
		}
		answer := parsed(t, dst[:n])
		if !answer.Verify() || answer.Checksum != frame.Verified || answer.DstAddr() != fr.SrcAddr() {
			t.Fatalf("a wrong message: % x", dst[:n])
		}
		if packetTooBig(dst, answer, mtu, ownerMAC, gw4, gw6) != 0 {
			t.Fatal("an error about an error")
		}
	})
}
