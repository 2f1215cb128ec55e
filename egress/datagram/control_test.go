package datagram

import (
	"bytes"
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/packet"
)

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

func TestControlMessagesAreReadAsTheyAreWritten(t *testing.T) {
	var c controls
	c.put(unix.IPPROTO_IP, unix.IP_TTL, 17)
	c.put(unix.IPPROTO_IP, unix.IP_TOS, 0xb8)
	c.next(unix.IPPROTO_UDP, unix.UDP_GRO, 4)
	*(*int32)(unsafe.Pointer(&c.bytes()[c.n-unix.CmsgSpace(4)+unix.CmsgLen(0)])) = 1200
	if got := readControls(c.bytes()[:c.n]); got.ttl != 17 || got.tos != 0xb8 || got.segment != 1200 {
		t.Errorf("%+v", got)
	}
	all, err := unix.ParseSocketControlMessage(c.bytes()[:c.n])
	if err != nil || len(all) != 3 {
		t.Errorf("another reader finds %d messages: %v", len(all), err)
	}
}

func TestErrorsMeanWhatTheySay(t *testing.T) {
	type meaning struct {
		say  say
		code packet.Code
	}
	for name, c := range map[string]struct {
		e    failure
		v4   bool
		want meaning
	}{
		"IPv4 port":               {failure{origin: originICMP, kind: 3, code: 3}, true, meaning{sayUnreachable, packet.PortUnreachable}},
		"IPv4 host":               {failure{origin: originICMP, kind: 3, code: 1}, true, meaning{sayUnreachable, packet.HostUnreachable}},
		"IPv4 net":                {failure{origin: originICMP, kind: 3, code: 0}, true, meaning{sayUnreachable, packet.NetUnreachable}},
		"IPv4 protocol":           {failure{origin: originICMP, kind: 3, code: 2}, true, meaning{sayUnreachable, packet.ProtocolUnreachable}},
		"IPv4 prohibited":         {failure{origin: originICMP, kind: 3, code: 13}, true, meaning{sayUnreachable, packet.Prohibited}},
		"IPv4 too big":            {failure{origin: originICMP, kind: 3, code: 4}, true, meaning{sayTooBig, 0}},
		"IPv4 time":               {failure{origin: originICMP, kind: 11}, true, meaning{sayTimeExceeded, 0}},
		"IPv4 reassembly":         {failure{origin: originICMP, kind: 11, code: 1}, true, meaning{}},
		"IPv4 parameter":          {failure{origin: originICMP, kind: 12}, true, meaning{}},
		"IPv6 port":               {failure{origin: originICMP6, kind: 1, code: 4}, false, meaning{sayUnreachable, packet.PortUnreachable}},
		"IPv6 address":            {failure{origin: originICMP6, kind: 1, code: 3}, false, meaning{sayUnreachable, packet.HostUnreachable}},
		"IPv6 no route":           {failure{origin: originICMP6, kind: 1}, false, meaning{sayUnreachable, packet.NetUnreachable}},
		"IPv6 prohibited":         {failure{origin: originICMP6, kind: 1, code: 1}, false, meaning{sayUnreachable, packet.Prohibited}},
		"IPv6 too big":            {failure{origin: originICMP6, kind: 2}, false, meaning{sayTooBig, 0}},
		"IPv6 time":               {failure{origin: originICMP6, kind: 3}, false, meaning{sayTimeExceeded, 0}},
		"IPv6 next header":        {failure{origin: originICMP6, kind: 4, code: 1}, false, meaning{sayUnreachable, packet.ProtocolUnreachable}},
		"IPv6 parameter":          {failure{origin: originICMP6, kind: 4}, false, meaning{}},
		"the host's own, too big": {failure{origin: originLocal, errno: uint32(unix.EMSGSIZE)}, true, meaning{sayTooBig, 0}},
		"the host's own, other":   {failure{origin: originLocal, errno: uint32(unix.EACCES)}, true, meaning{}},
		"of the other family":     {failure{origin: originICMP6, kind: 1, code: 4}, true, meaning{}},
		"of a time stamp":         {failure{origin: 4}, true, meaning{}},
	} {
		t.Run(name, func(t *testing.T) {
			say, code := c.e.meaning(c.v4)
			if got := (meaning{say, code}); got != c.want {
				t.Errorf("%+v, expected %+v", got, c.want)
			}
		})
	}
}

// FuzzFailure has control messages and a quote of any form come with an error: no panic, and what is told the container is well-formed.
func FuzzFailure(f *testing.F) {
	var c controls
	c.put(unix.IPPROTO_IP, unix.IP_TTL, 17)
	f.Add(c.bytes()[:c.n], []byte("payload"), true, true)
	e := append(bytes.Clone(c.bytes()[:c.n]), make([]byte, 48)...)
	h := (*unix.Cmsghdr)(unsafe.Pointer(&e[c.n]))
	h.Level, h.Type = unix.IPPROTO_IP, unix.IP_RECVERR
	h.SetLen(unix.CmsgLen(32))
	copy(e[c.n+unix.CmsgLen(0):], []byte{113, 0, 0, 0, 2, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 192, 0, 2, 1})
	f.Add(e, []byte{8, 0, 0, 0, 0, 1, 0, 2, 3}, true, false)
	f.Add(e[:len(e)-20], []byte{8, 0}, false, false)
	table, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, control, quote []byte, v4, isUDP bool) {
		a := readControls(control)
		w, proto := families["IPv6"], uint8(frame.ProtoICMPv6)
		if v4 {
			w, proto = families["IPv4"], frame.ProtoICMP
		}
		if isUDP {
			proto = frame.ProtoUDP
		}
		l := newLink()
		n := table.Network("blue", l, anywhere)
		m := &mapping{key: key{net: n, addr: w.host, port: 4000, proto: proto}}
		dst := netip.AddrPortFrom(w.elsewhere, 0)
		r := &remote{m: m, dst: dst, wire: dst}
		r.last.Store(uint64(len(quote)+ipv6Len+l4Len) << 48)
		m.remotes = map[netip.AddrPort]*remote{dst: r}
		m.refused = r
		reader := &reader{t: table}
		reader.failure(m, &a.failure, dst, quote)
		for len(l.arrived) > 0 {
			got := <-l.arrived
			if reason := got.Parse(); reason != drop.None {
				t.Fatalf("%s: % x", reason, got.Bytes())
			}
			got.Checksum = frame.Unverified
			if !got.Verify() {
				t.Fatalf("a wrong checksum: % x", got.Bytes())
			}
		}
	})
}
