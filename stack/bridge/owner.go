package bridge

import (
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// admit refuses a frame whose network source, also the one that an ARP packet or a neighbor advertisement claims, is not the station's.
func (t *Table) admit(s *station, f *frame.Frame) drop.Reason {
	b := f.Bytes()
	switch f.Ether {
	case frame.EtherIPv4:
		if !s.owns4(b[f.L3+12:]) {
			return drop.SpoofedAddress
		}
	case frame.EtherIPv6:
		src := b[f.L3+8:]
		if !s.owns6(src) && !unspecified(src[:16]) { // :: asks whether an address is free (RFC 4862 §5.4)
			return drop.SpoofedAddress
		}
		if f.Proto == frame.ProtoICMPv6 {
			return s.admitNeighbor(f)
		}
	case frame.EtherARP:
		return s.admitARP(f)
	}
	return drop.None
}

func (s *station) admitARP(f *frame.Frame) drop.Reason {
	mac, sender, _, _, ok := arpRequest(f)
	switch {
	case !ok:
		return drop.BadARP
	case mac != s.mac:
		return drop.SpoofedMAC
	}
	if four := sender.As4(); !sender.IsUnspecified() && !s.owns4(four[:]) { // 0.0.0.0 is a probe (RFC 5227 §1.1)
		return drop.SpoofedAddress
	}
	return drop.None
}

func (s *station) admitNeighbor(f *frame.Frame) drop.Reason {
	kind, _, target, mac, ok := neighbor(f)
	lies := ok && mac != 0 && mac != s.mac
	switch {
	case kind == neighborSolicitation && lies: // it would teach its receivers so (RFC 4861 §7.2.3)
		return drop.SpoofedMAC
	case kind != neighborAdvertisement:
		return drop.None
	case !ok:
		return drop.BadICMP
	}
	if six := target.As16(); !s.owns6(six[:]) {
		return drop.SpoofedAddress
	}
	if lies {
		return drop.SpoofedMAC
	}
	return drop.None
}

// admitRemote refuses a frame that peer sent in somebody else's name. A static peer may speak for MACs and addresses that nobody owns.
func (w *way) admitRemote(f *frame.Frame) drop.Reason {
	t, s := w.table, w.from
	switch {
	case !w.known:
		return drop.UnknownVTEP
	case s != nil && s.peer == w.peer:
		if t.spoof || t.admit(s, f) == drop.None || w.static && t.ownerless(f) {
			return drop.None
		}
	case s == nil && w.src != t.gateway.MAC:
		if t.spoof || w.static && t.ownerless(f) {
			return drop.None
		}
	}
	return drop.NotOwner
}

// ownerless reports whether no station owns the frame's network source.
func (t *Table) ownerless(f *frame.Frame) bool {
	switch f.Ether {
	case frame.EtherIPv4, frame.EtherIPv6:
		if f.Proto == frame.ProtoICMPv6 {
			if kind, _, target, _, ok := neighbor(f); kind == neighborAdvertisement && (!ok || t.neighbors[target] != nil) {
				return false
			}
		}
		return t.neighbors[f.SrcAddr()] == nil
	case frame.EtherARP:
		_, sender, _, _, ok := arpRequest(f)
		return ok && t.neighbors[sender] == nil
	}
	return true
}

func unspecified(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
