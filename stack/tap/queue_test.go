package tap_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/tap"
)

func TestSuperframesCrossBothWays(t *testing.T) {
	a, b := lab.T(t, "a"), lab.T(t, "b")
	p := startPump(t, open(t, config(a, 1)), open(t, config(b, 2)))
	for _, addr := range []string{"10.0.0.2", "fd00::2"} {
		p.longest.Store(0)
		p.gso.Store(0)
		transfer(t, a, b, addr, 8<<20)
		if p.longest.Load() < 20000 || p.gso.Load() == 0 {
			t.Errorf("%s: the longest of %d superframes was %d bytes; expected some of many segments", addr, p.gso.Load(), p.longest.Load())
		}
	}
	if n := p.refused.Load(); n > 0 {
		t.Errorf("%d frames were refused", n)
	}
}

func TestSuperframesKeepToTheSizeAskedFor(t *testing.T) {
	a, b := lab.T(t, "a"), lab.T(t, "b")
	cfg := config(a, 1)
	cfg.GSOMaxSize = 16000
	p := startPump(t, open(t, cfg), open(t, config(b, 2)))
	transfer(t, a, b, "10.0.0.2", 4<<20)
	if l := p.longest.Load(); l > 16000 || l < 8000 {
		t.Errorf("the longest frame had %d bytes, expected nearly 16000", l)
	}
}

func TestPlainModeCarriesWireFrames(t *testing.T) {
	a, b := lab.T(t, "a"), lab.T(t, "b")
	ca, cb := config(a, 1), config(b, 2)
	ca.Plain, cb.Plain = true, true
	da := open(t, ca)
	p := startPump(t, da, open(t, cb))
	transfer(t, a, b, "10.0.0.2", 2<<20)
	if l := p.longest.Load(); l != 1450+14 || p.gso.Load() != 0 {
		t.Errorf("the longest frame had %d bytes, expected 1464; %d were superframes", l, p.gso.Load())
	}
	for name, o := range map[string]frame.Offload{"GSO": {GSO: frame.GSOTCP4}, "a partial checksum": {Checksum: frame.Partial}} {
		if errno := da.Queues()[0].Write(&o, [][]byte{make([]byte, 60)}); errno != syscall.EINVAL {
			t.Errorf("writing %s in plain mode gave %v, expected EINVAL", name, errno)
		}
	}
}

// A plain device and an offloaded one on one container, one after the other: nothing of the offloads must remain.
func TestPlainModeOnADeviceThatWasOffloaded(t *testing.T) {
	a, b := lab.T(t, "a"), lab.T(t, "b")
	ca, cb := config(a, 1), config(b, 2)
	ca.Persistent = true
	d, err := tap.Open(ca)
	lab.Must(t, err)
	lab.Must(t, d.Close())
	ca.Plain, cb.Plain = true, true
	p := startPump(t, open(t, ca), open(t, cb))
	transfer(t, a, b, "10.0.0.2", 2<<20)
	if l := p.longest.Load(); l != 1450+14 {
		t.Errorf("the longest frame had %d bytes, expected 1464", l)
	}
}

func TestManyQueuesShareTheFlows(t *testing.T) {
	a, b := lab.T(t, "a"), lab.T(t, "b")
	ca, cb := config(a, 1), config(b, 2)
	ca.Queues, cb.Queues = 4, 4
	da := open(t, ca)
	if len(da.Queues()) != 4 {
		t.Fatalf("got %d queues", len(da.Queues()))
	}
	p := startPump(t, da, open(t, cb))
	for range 12 {
		transfer(t, a, b, "10.0.0.2", 1<<18)
	}
	used := 0
	for _, q := range da.Queues() {
		if _, ok := p.queues.Load(q); ok {
			used++
		}
	}
	if used < 2 {
		t.Errorf("%d of 4 queues carried 12 connections", used)
	}
}

// packet is an Ethernet frame with a UDP/IPv4 packet to 10.0.0.2:9, without checksums to verify.
func packet(payload int) []byte {
	b := make([]byte, 14+20+8+payload)
	frame.MAC(0x0242_0a00_0002).Put(b)
	frame.MAC(0x0242_0a00_0001).Put(b[6:])
	binary.BigEndian.PutUint16(b[12:], frame.EtherIPv4)
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, frame.ProtoUDP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	copy(ip[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	udp := ip[20:]
	binary.BigEndian.PutUint16(udp, 4000)
	binary.BigEndian.PutUint16(udp[2:], 9)
	binary.BigEndian.PutUint16(udp[4:], uint16(8+payload))
	return b
}

// receiver opens a UDP socket on 10.0.0.2:9 in the host.
func receiver(t testing.TB, h *lab.Host) net.PacketConn {
	t.Helper()
	var c net.PacketConn
	lab.Must(t, h.Do(func() (err error) { c, err = net.ListenPacket("udp4", "10.0.0.2:9"); return err }))
	t.Cleanup(func() { c.Close() })
	lab.Must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	return c
}

func TestWriteGathersItsParts(t *testing.T) {
	for _, plain := range []bool{false, true} {
		h := lab.T(t, "c")
		cfg := config(h, 2)
		cfg.Plain = plain
		d := open(t, cfg)
		c := receiver(t, h)
		for _, n := range []int{1, 2, 7, 8, 9, tap.MaxParts} {
			whole := packet(1000)
			for i := range whole[42:] {
				whole[42+i] = byte(i * n)
			}
			parts := [][]byte{}
			for i := range n {
				parts = append(parts, whole[i*len(whole)/n:(i+1)*len(whole)/n])
			}
			if n > 1 && n < tap.MaxParts {
				parts = slices.Insert(parts, 1, nil) // an empty part is none
			}
			if errno := d.Queues()[0].Write(&frame.Offload{}, parts); errno != 0 {
				t.Fatalf("plain %v, %d parts: %v", plain, n, errno)
			}
			got := make([]byte, 2000)
			r, _, err := c.ReadFrom(got)
			if err != nil || !bytes.Equal(got[:r], whole[42:]) {
				t.Errorf("plain %v, %d parts: received %d bytes, %v; expected the 1000 that were sent", plain, n, r, err)
			}
		}
		if errno := d.Queues()[0].Write(&frame.Offload{}, make([][]byte, tap.MaxParts+1)); errno != syscall.EMSGSIZE {
			t.Errorf("%d parts gave %v, expected EMSGSIZE", tap.MaxParts+1, errno)
		}
	}
}

func TestWriteRefusesAHeaderThatLies(t *testing.T) {
	h := lab.T(t, "c")
	d := open(t, config(h, 2))
	if errno := d.Queues()[0].Write(&frame.Offload{Checksum: frame.Partial, Start: 5000, Offset: 6}, [][]byte{packet(10)}); errno != syscall.EINVAL {
		t.Errorf("got %v, expected EINVAL", errno)
	}
}

func TestReadNeedsRoomForAHeader(t *testing.T) {
	h := lab.T(t, "c")
	d := open(t, config(h, 2))
	if _, errno := d.Queues()[0].Read(make([]byte, frame.OffloadLen)); errno != syscall.EINVAL {
		t.Errorf("got %v, expected EINVAL", errno)
	}
}

func TestManyThreadsWriteAtOnce(t *testing.T) {
	h := lab.T(t, "c")
	d := open(t, config(h, 2))
	c := receiver(t, h)
	const threads, each = 4, 50
	var wg sync.WaitGroup
	for id := range threads {
		wg.Go(func() {
			for range each {
				p := packet(64)
				for i := range p[42:] {
					p[42+i] = byte(id)
				}
				d.Queues()[0].Write(&frame.Offload{}, [][]byte{p[:14], p[14:42], p[42:]})
			}
		})
	}
	wg.Wait()
	got := make([]byte, 100)
	for range threads * each {
		n, _, err := c.ReadFrom(got)
		if err != nil {
			t.Fatal(err)
		}
		if n != 64 || bytes.Count(got[:n], got[:1]) != n {
			t.Fatalf("received a frame that is a mixture: % x", got[:n])
		}
	}
}

func TestThreadsThatStillRunAtCloseGetEBADFD(t *testing.T) {
	h := lab.T(t, "c")
	d := open(t, config(h, 2))
	fd := d.Queues()[0].FD()
	var wg sync.WaitGroup
	started := make(chan struct{}, 2)
	for _, op := range []func() syscall.Errno{
		func() syscall.Errno { _, e := d.Queues()[0].Read(make([]byte, 2000)); return e },
		func() syscall.Errno { return d.Queues()[0].Write(&frame.Offload{}, [][]byte{packet(1)}) },
	} {
		wg.Go(func() {
			op()
			started <- struct{}{}
			for end := time.Now().Add(10 * time.Second); op() != syscall.EBADFD; {
				if time.Now().After(end) {
					t.Error("EBADFD did not come")
					return
				}
			}
		})
	}
	<-started
	<-started
	lab.Must(t, d.Close())
	wg.Wait()
	// The number belongs to the queue until nobody has it: a file that is opened now gets another.
	other, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	lab.Must(t, err)
	defer unix.Close(other)
	if other == fd {
		t.Errorf("descriptor %d was reused while the queue is reachable", fd)
	}
	runtime.KeepAlive(d)
}

func TestStatisticsCountDroppedFrames(t *testing.T) {
	h := lab.T(t, "c")
	cfg := config(h, 2)
	cfg.TxQueueLen = 4
	d := open(t, cfg)
	var c net.Conn
	// A known neighbor, so that the stack sends at once instead of asking.
	lab.Must(t, h.Netlink().NeighSet(&netlink.Neigh{
		LinkIndex: link(t, h, "eth0").Attrs().Index, State: netlink.NUD_PERMANENT,
		IP: net.IPv4(10, 0, 0, 1), HardwareAddr: net.HardwareAddr{2, 0x42, 10, 0, 0, 1},
	}))
	lab.Must(t, h.Do(func() (err error) { c, err = net.Dial("udp", "10.0.0.1:9"); return err }))
	defer c.Close()
	for range 20 {
		_, _ = c.Write([]byte("nobody reads this"))
	}
	lab.Eventually(t, func() bool {
		s, err := d.Statistics()
		lab.Must(t, err)
		return s.TxDropped >= 16
	}, 5*time.Second)
	b := make([]byte, frame.OffloadLen+frame.MaxLen)
	if _, errno := read(t, d.Queues()[0], b); errno != 0 {
		t.Fatal(errno)
	}
	if errno := d.Queues()[0].Write(&frame.Offload{}, [][]byte{packet(10)}); errno != 0 {
		t.Fatal(errno)
	}
	s, err := d.Statistics()
	lab.Must(t, err)
	if s.RxPackets != 1 || s.RxBytes != uint64(len(packet(10))) || s.TxPackets != 1 {
		t.Errorf("got %+v", s)
	}
}

func TestReadAndWriteAllocateNothing(t *testing.T) {
	for _, plain := range []bool{false, true} {
		h := lab.T(t, "c")
		cfg := config(h, 2)
		cfg.Plain = plain
		q := open(t, cfg).Queues()[0]
		b := make([]byte, frame.OffloadLen+frame.MaxLen)
		p := packet(100)
		few, many := [][]byte{p[:42], p[42:]}, make([][]byte, tap.MaxParts)
		many[0], many[tap.MaxParts-1] = p[:42], p[42:]
		for name, op := range map[string]func(){
			"Read":             func() { q.Read(b) },
			"Write":            func() { q.Write(&frame.Offload{}, few) },
			"Write many parts": func() { q.Write(&frame.Offload{}, many) },
		} {
			if n := testing.AllocsPerRun(200, op); n != 0 {
				t.Errorf("plain %v: %s allocates %v times", plain, name, n)
			}
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	for _, c := range []struct {
		name  string
		parts int
	}{{"2 parts", 2}, {"47 parts", 47}} {
		b.Run(c.name, func(b *testing.B) {
			h := lab.T(b, "c")
			q := open(b, config(h, 2)).Queues()[0]
			// An EtherType that nobody listens to: what is measured is the way in, not the UDP stack.
			p := packet(1400)
			binary.BigEndian.PutUint16(p[12:], 0x88b5)
			var parts [][]byte
			for i := range c.parts {
				parts = append(parts, p[i*len(p)/c.parts:(i+1)*len(p)/c.parts])
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if errno := q.Write(&frame.Offload{}, parts); errno != 0 {
					b.Fatal(errno)
				}
			}
		})
	}
}

func BenchmarkReadNothing(b *testing.B) {
	h := lab.T(b, "c")
	d, err := tap.Open(tap.Config{Namespace: h.Namespace(), Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}})
	lab.Must(b, err)
	defer d.Close()
	buf := make([]byte, frame.OffloadLen+frame.MaxLen)
	b.ReportAllocs()
	for b.Loop() {
		d.Queues()[0].Read(buf)
	}
}

func BenchmarkOpenClose(b *testing.B) {
	h := lab.T(b, "c")
	b.ReportAllocs()
	for b.Loop() {
		d, err := tap.Open(config(h, 2))
		lab.Must(b, err)
		lab.Must(b, d.Close())
	}
}

func ExampleOpen() {
	d, err := tap.Open(tap.Config{
		Namespace: tap.ByPath("/run/docker/netns/4f1c2b3a"),
		Name:      "eth0",
		MAC:       0x0242_0a00_0002,
		MTU:       1450,
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")},
		Routes:    []tap.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.0.0.1")}},
	})
	if err != nil {
		println(strings.TrimSpace(err.Error()))
		return
	}
	defer d.Close()
	b := make([]byte, frame.OffloadLen+frame.MaxLen)
	for _, q := range d.Queues() {
		if n, errno := q.Read(b); errno == 0 {
			println("a frame of", n-frame.OffloadLen, "bytes")
		}
	}
}
