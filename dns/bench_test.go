package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"

	mdns "github.com/miekg/dns"
)

// loop is a socket in memory that brings the same datagram n times, and takes the answers.
type loop struct {
	net.PacketConn
	message []byte
	from    netip.AddrPort
	left    int
	end     context.CancelFunc
}

func (l *loop) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	if l.left--; l.left < 0 {
		l.end()
		return 0, netip.AddrPort{}, net.ErrClosed
	}
	return copy(b, l.message), l.from, nil
}

func (l *loop) WriteToUDPAddrPort(b []byte, _ netip.AddrPort) (int, error) { return len(b), nil }
func (l *loop) Close() error                                               { return nil }

func BenchmarkServe(b *testing.B) {
	for _, bb := range []struct {
		why, name string
		qtype     uint16
	}{
		{"A", "db.", typeA},
		{"AAAA NODATA", "db.", typeAAAA},
		{"A of three", "pair.", typeA},
		{"SRV", "_http._tcp.pair.", mdns.TypeSRV},
		{"PTR", "30.1.0.10.in-addr.arpa.", mdns.TypePTR},
		{"NXDOMAIN under domain", "nix.front.weft.internal.", typeA},
	} {
		b.Run(bb.why, func(b *testing.B) {
			s := serverOf(town())
			wire, err := new(mdns.Msg).SetQuestion(bb.name, bb.qtype).SetEdns0(1232, false).Pack()
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			b.ReportAllocs()
			b.ResetTimer()
			if err := s.Serve(ctx, "front", &loop{message: wire, from: netip.MustParseAddrPort("10.0.1.20:5353"), left: b.N, end: cancel}, nil); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	c := Config{Networks: []Network{{Name: "large", Subnets: prefixList("10.64.0.0/10"), Gateways: addresses("10.64.0.1")}}}
	n := &c.Networks[0]
	for i := range 10000 {
		service := fmt.Sprintf("service%d", i/10)
		if i%10 == 0 {
			n.Services = append(n.Services, Service{Name: service})
		}
		a := netip.AddrFrom4([4]byte{10, 65, byte(i >> 8), byte(i)})
		n.Records = append(n.Records, Record{
			Name: fmt.Sprintf("%s.%d", service, i), Addresses: []netip.Addr{a},
			Names: Names{Hostname: fmt.Sprintf("%012x", i), Service: service, Aliases: []string{fmt.Sprintf("alias%d", i)}},
		})
		if i < 100 {
			c.Containers = append(c.Containers, Container{Name: n.Records[i].Name, Networks: []Membership{{"large", []netip.Addr{a}}}})
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		Compile(c)
	}
}
