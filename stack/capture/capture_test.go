package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

var (
	port1  = Where{Network: "net1", Port: "c1"}
	port2  = Where{Network: "net1", Port: "c2", Out: true}
	tunnel = Where{
		Network: "net1", Out: true, VNI: 4097, MTU: 1450,
		Local: netip.MustParseAddrPort("192.0.2.1:50000"), Remote: netip.MustParseAddrPort("192.0.2.2:4789"),
	}
)

// read is a packet of a pcapng file, as the tests' own reader finds it.
type read struct {
	iface   string
	length  int
	flags   uint32
	dropped uint64
	data    []byte
}

// parse reads the pcapng file b, and checks its form on the way.
func parse(t *testing.T, b []byte) (packets []read, received, lost uint64) {
	t.Helper()
	var ifaces []string
	for len(b) > 0 {
		kind, n := le.Uint32(b), int(le.Uint32(b[4:]))
		if n%4 != 0 || n > len(b) || le.Uint32(b[n-4:]) != uint32(n) {
			t.Fatalf("block %#x of %d bytes: its lengths contradict each other", kind, n)
		}
		body := b[8 : n-4]
		b = b[n:]
		switch kind {
		case blockInterface:
			ifaces = append(ifaces, string(options(t, body[8:])[optIfName]))
		case blockPacket:
			kept := int(le.Uint32(body[12:]))
			o := options(t, body[20+(kept+3)/4*4:])
			p := read{iface: ifaces[le.Uint32(body)], length: int(le.Uint32(body[16:])), data: body[20 : 20+kept], flags: le.Uint32(o[optPacketFlags])}
			if d := o[optPacketDropped]; d != nil {
				p.dropped = le.Uint64(d)
			}
			packets = append(packets, p)
		case blockStatistics:
			o := options(t, body[12:])
			received += le.Uint64(o[optStatReceived])
			lost += le.Uint64(o[optStatDropped])
		}
	}
	return packets, received, lost
}

func options(t *testing.T, b []byte) map[uint16][]byte {
	t.Helper()
	m := make(map[uint16][]byte)
	for len(b) >= 4 && le.Uint16(b) != optEnd {
		n := int(le.Uint16(b[2:]))
		m[le.Uint16(b)] = b[4 : 4+n]
		b = b[4+(n+3)/4*4:]
	}
	if !bytes.Equal(b, make([]byte, 4)) {
		t.Fatalf("options end with % x, expected opt_endofopt", b)
	}
	return m
}

// superframe builds a TCP superframe of which the kernel left the checksum and the cutting to do.
func superframe(t testing.TB, v6 bool, payload int) ([]byte, frame.Offload) {
	t.Helper()
	body := gopacket.Payload(bytes.Repeat([]byte("weft!"), payload/5+1)[:payload])
	b := packet(t, ether(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP), tcp(), body)
	o := frame.Offload{GSO: frame.GSOTCP4, Checksum: frame.Partial, Size: 1398, Start: 34, Offset: 16, HdrLen: 54}
	if v6 {
		b = packet(t, ether(layers.EthernetTypeIPv6), ip6(layers.IPProtocolTCP), tcp(), body)
		o.GSO, o.Start, o.HdrLen = frame.GSOTCP6, 54, 74
	}
	var f frame.Frame
	f.Set(b, 0, len(b))
	f.Offload = o
	if r := f.Parse(); r != drop.None {
		t.Fatal(r)
	}
	binary.BigEndian.PutUint16(b[int(o.Start)+16:], frame.PseudoSum(&f))
	return b, o
}

// capture opens a session, offers it what feed does, and returns the file.
func capture(t *testing.T, opt Options, feed func(*Tap)) []byte {
	t.Helper()
	tap := New()
	s, err := tap.Open(opt)
	must(t, err)
	feed(tap)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	must(t, s.Run(ctx, &out))
	if tap.Enabled() {
		t.Error("the tap is enabled after its only session ended")
	}
	return out.Bytes()
}

// tshark prints fields of the packets in file, a line each, with all checksums validated.
func tshark(t *testing.T, file []byte, fields ...string) []string {
	t.Helper()
	bin, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("tshark is not installed")
	}
	path := filepath.Join(t.TempDir(), "a.pcapng")
	must(t, os.WriteFile(path, file, 0o600))
	args := []string{"-n", "-r", path, "-T", "fields", "-E", "separator=,", "-E", "occurrence=a", "-E", "aggregator=+"}
	for _, check := range []string{"ip.check_checksum", "tcp.check_checksum", "udp.check_checksum"} {
		args = append(args, "-o", check+":TRUE")
	}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, stderr.String())
	}
	if len(out) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

func TestCaptureNamesInterfacesAndDirections(t *testing.T) {
	plain := packet(t, ether(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), udp(), gopacket.Payload("hello"))
	file := capture(t, Options{}, func(tap *Tap) {
		tap.Frame(port1, &frame.Offload{}, [][]byte{plain})
		tap.Frame(port2, &frame.Offload{}, [][]byte{plain[:42], plain[42:]})
		tap.Frame(tunnel, &frame.Offload{}, [][]byte{plain})
	})
	packets, received, lost := parse(t, file)
	if len(packets) != 2 || received != 2 || lost != 0 {
		t.Fatalf("%d packets, %d received, %d lost; expected the two at ports", len(packets), received, lost)
	}
	for i, want := range []read{{"net1/c1", len(plain), inbound, 0, plain}, {"net1/c2", len(plain), outbound, 0, plain}} {
		if got := packets[i]; got.iface != want.iface || got.flags != want.flags || got.length != want.length || !bytes.Equal(got.data, want.data) {
			t.Errorf("packet %d: got %+v, expected %+v", i, got, want)
		}
	}
	want := []string{"net1/c1,0x00000001,10.77.0.2,53,1", "net1/c2,0x00000002,10.77.0.2,53,1"}
	got := tshark(t, file, "frame.interface_name", "frame.packet_flags", "ip.src", "udp.dstport", "udp.checksum.status")
	if !slices.Equal(got, want) {
		t.Errorf("tshark read %q, expected %q", got, want)
	}
}

func TestCaptureSelectsPointNetworkPortAndFilter(t *testing.T) {
	plain := packet(t, ether(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), udp(), gopacket.Payload("hello"))
	elsewhere := Where{Network: "net2", Port: "c1"}
	for _, c := range []struct {
		name string
		opt  Options
		want string
	}{
		{"all ports", Options{}, "net1/c1 net1/c2 net2/c1"},
		{"one network", Options{Network: "net1"}, "net1/c1 net1/c2"},
		{"one port", Options{Network: "net1", Port: "c1"}, "net1/c1"},
		{"the tunnel", Options{Point: AtTunnel}, "net1/192.0.2.2"},
		{"the tunnel of another network", Options{Point: AtTunnel, Network: "net2"}, ""},
		{"a port number", Options{Filter: Filter{Port: 54}}, ""},
		{"the first only", Options{Count: 1}, "net1/c1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			packets, _, _ := parse(t, capture(t, c.opt, func(tap *Tap) {
				for _, at := range []Where{port1, port2, elsewhere, tunnel} {
					tap.Frame(at, &frame.Offload{}, [][]byte{plain})
				}
			}))
			var got []string
			for _, p := range packets {
				got = append(got, p.iface)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %q, expected %q", got, c.want)
			}
		})
	}
}

func TestCaptureOfASuperframeIsOneCorrectPacket(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		b, o := superframe(t, v6, 40001)
		kept := bytes.Clone(b)
		file := capture(t, Options{}, func(tap *Tap) { tap.Frame(port1, &o, [][]byte{b[:54], b[54:]}) })
		if !bytes.Equal(b, kept) {
			t.Error("capturing changed the frame itself")
		}
		got := tshark(t, file, "frame.len", "tcp.len", "tcp.checksum.status")
		if want := []string{fmt.Sprintf("%d,40001,1", len(b))}; !slices.Equal(got, want) {
			t.Errorf("IPv6 %v: tshark read %q, expected %q", v6, got, want)
		}
	}
}

func TestCaptureCutsSuperframesIntoWireFrames(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		b, o := superframe(t, v6, 3000)
		file := capture(t, Options{Cut: true}, func(tap *Tap) { tap.Frame(port1, &o, [][]byte{b}) })
		got := tshark(t, file, "tcp.seq_raw", "tcp.len", "tcp.checksum.status")
		if want := []string{"1000,1398,1", "2398,1398,1", "3796,204,1"}; !slices.Equal(got, want) {
			t.Errorf("IPv6 %v: tshark read %q, expected %q", v6, got, want)
		}
	}
}

func TestCaptureOfTheOuterViewIsWhatAWireWouldCarry(t *testing.T) {
	b, o := superframe(t, false, 2000)
	six := tunnel
	six.Local, six.Remote = netip.MustParseAddrPort("[2001:db8::1]:50000"), netip.MustParseAddrPort("[2001:db8::2]:4789")
	in := tunnel
	in.Out = false
	plain := packet(t, ether(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), udp(), gopacket.Payload("odd"))
	file := capture(t, Options{Point: AtTunnel, Outer: true}, func(tap *Tap) {
		tap.Frame(tunnel, &o, [][]byte{b})
		tap.Frame(six, &frame.Offload{}, [][]byte{plain})
		tap.Frame(in, &frame.Offload{}, [][]byte{plain[:41], plain[41:]})
	})
	want := []string{
		"1502,192.0.2.1+10.77.0.2,,50000,4097,1+1,1,3",
		"706,192.0.2.1+10.77.0.2,,50000,4097,1+1,1,3",
		"130,10.77.0.2,2001:db8::1,50000+40000,4097,1,,1+1",
		"110,192.0.2.2+10.77.0.2,,4789+40000,4097,1+1,,3+1",
	}
	got := tshark(t, file, "frame.len", "ip.src", "ipv6.src", "udp.srcport", "vxlan.vni", "ip.checksum.status", "tcp.checksum.status", "udp.checksum.status")
	if !slices.Equal(got, want) {
		t.Errorf("tshark read\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestCaptureKeepsSnaplenBytesAndTheTrueLength(t *testing.T) {
	b, o := superframe(t, false, 3000)
	for _, c := range []struct {
		name    string
		opt     Options
		at      Where
		lengths []int
	}{
		{"whole", Options{Snaplen: 100}, port1, []int{3054}},
		{"cut", Options{Snaplen: 100, Cut: true}, port1, []int{1452, 1452, 258}},
		{"outer", Options{Snaplen: 100, Point: AtTunnel, Outer: true}, tunnel, []int{1502, 1502, 308}},
	} {
		packets, _, _ := parse(t, capture(t, c.opt, func(tap *Tap) { tap.Frame(c.at, &o, [][]byte{b}) }))
		if len(packets) != len(c.lengths) {
			t.Fatalf("%s: %d packets, expected %d", c.name, len(packets), len(c.lengths))
		}
		for i, p := range packets {
			if p.length != c.lengths[i] || len(p.data) != 100 {
				t.Errorf("%s: packet %d is %d bytes of %d, expected 100 of %d", c.name, i, len(p.data), p.length, c.lengths[i])
			}
		}
	}
}

func TestCaptureCountsWhatItLoses(t *testing.T) {
	b, o := superframe(t, false, 60000)
	const offered = 50
	file := capture(t, Options{Buffer: minBuffer}, func(tap *Tap) {
		for range offered {
			tap.Frame(port1, &o, [][]byte{b})
		}
	})
	packets, received, lost := parse(t, file)
	if lost == 0 || uint64(len(packets))+lost != offered || received != uint64(len(packets)) {
		t.Errorf("%d packets, %d received, %d lost of %d offered to a full ring", len(packets), received, lost, offered)
	}
	if packets[0].dropped != lost {
		t.Errorf("the packet after the loss says %d, expected %d", packets[0].dropped, lost)
	}
}

func TestCaptureOfNothingIsAFileThatOpens(t *testing.T) {
	file := capture(t, Options{}, func(*Tap) {})
	if got := tshark(t, file, "frame.number"); len(got) != 0 {
		t.Errorf("tshark read %q, expected no packets", got)
	}
}

func TestCaptureWritesMalformedFramesAsTheyAre(t *testing.T) {
	short := []byte{1, 2, 3, 4, 5}
	packets, _, _ := parse(t, capture(t, Options{Cut: true}, func(tap *Tap) {
		tap.Frame(port1, &frame.Offload{GSO: frame.GSOTCP4, Checksum: frame.Partial, Start: 9000}, [][]byte{short})
		tap.Frame(port1, &frame.Offload{}, nil)
	}))
	if len(packets) != 2 || !bytes.Equal(packets[0].data, short) || len(packets[1].data) != 0 {
		t.Errorf("got %+v", packets)
	}
}

// live is a writer that passes on each write to whoever waits for it.
type live chan []byte

func (l live) Write(b []byte) (int, error) { l <- bytes.Clone(b); return len(b), nil }

func TestRunWritesWhileTheCaptureGoesOn(t *testing.T) {
	plain := packet(t, ether(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), udp(), gopacket.Payload("hello"))
	tap, out, done := New(), make(live), make(chan error)
	s, err := tap.Open(Options{})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- s.Run(ctx, out) }()
	if head := <-out; le.Uint32(head) != blockSection {
		t.Fatalf("the file begins with % x", head)
	}
	tap.Frame(port1, &frame.Offload{}, [][]byte{plain})
	if b := <-out; !bytes.Contains(b, plain) {
		t.Fatal("the first write after a frame does not hold it")
	}
	cancel()
	<-out
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestRunEndsWhenItsWriterFails(t *testing.T) {
	tap := New()
	s, err := tap.Open(Options{})
	must(t, err)
	r, w := io.Pipe()
	_ = r.CloseWithError(errors.New("nobody reads"))
	if err := s.Run(t.Context(), w); err == nil || tap.Enabled() {
		t.Errorf("got %v, enabled %v; expected the writer's error and a closed session", err, tap.Enabled())
	}
}

func TestOpenRefusesOptionsThatContradictThemselves(t *testing.T) {
	for part, o := range map[string]Options{
		"snaplen 63":  {Snaplen: 63},
		"buffer of 1": {Buffer: 1},
		`port "c1"`:   {Point: AtTunnel, Port: "c1"},
		"outer view":  {Outer: true},
	} {
		if _, err := New().Open(o); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%+v gave %v, expected it to name %s", o, err, part)
		}
	}
}

func TestATapWithoutSessionsCostsNothing(t *testing.T) {
	var none *Tap
	if none.Enabled() || New().Enabled() {
		t.Error("enabled without a session")
	}
	none.Frame(port1, &frame.Offload{}, nil)
}

func TestFrameDoesNotAllocate(t *testing.T) {
	b, o := superframe(t, false, 3000)
	tap := New()
	s, err := tap.Open(Options{Filter: Filter{Port: 80}})
	must(t, err)
	defer s.Close()
	parts := [][]byte{b[:54], b[54:]}
	if n := testing.AllocsPerRun(1000, func() { tap.Frame(port1, &o, parts) }); n != 0 {
		t.Errorf("%v allocations per frame, expected none", n)
	}
	if seen, _ := s.Statistics(); seen == 0 {
		t.Error("the filter selected nothing, so that nothing was measured")
	}
}

func BenchmarkFrame(b *testing.B) {
	data, o := superframe(b, false, 60000)
	for name, payload := range map[string]int{"small": 64, "superframe": len(data)} {
		b.Run(name, func(b *testing.B) {
			tap := New()
			s, err := tap.Open(Options{Filter: Filter{Port: 80}})
			must(b, err)
			defer s.Close()
			parts := [][]byte{data[:54], data[54:payload]}
			b.ReportAllocs()
			b.SetBytes(int64(payload))
			for b.Loop() {
				tap.Frame(port1, &o, parts)
				for s.ring.next() != nil {
					s.ring.release()
				}
			}
		})
	}
}

func BenchmarkDisabled(b *testing.B) {
	tap := New()
	b.ReportAllocs()
	for b.Loop() {
		if tap.Enabled() {
			b.Fatal("enabled")
		}
	}
}

func ExampleTap_Open() {
	tap := New()
	s, _ := tap.Open(Options{Count: 1})
	tap.Frame(Where{Network: "net1", Port: "c1"}, &frame.Offload{}, [][]byte{make([]byte, 60)})
	var file bytes.Buffer
	err := s.Run(context.Background(), &file)
	fmt.Println(err, file.Len() > 60)
	// Output: <nil> true
}
