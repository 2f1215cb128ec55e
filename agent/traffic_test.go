package agent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
)

// ping sends two echo requests with so many bytes of payload, and fails the test unless both are answered.
func ping(t testing.TB, from *container, to netip.Addr, size int, options ...string) {
	t.Helper()
	args := append([]string{"-c2", "-i0.02", "-W5", "-s", strconv.Itoa(size)}, options...)
	if out, err := from.Command("ping", append(args, to.String())...).CombinedOutput(); err != nil {
		t.Fatalf("ping %v from %s to %s: %v\n%s", args, from.Name(), to, err, out)
	}
}

// reaches reports whether one echo request is answered within a second.
func reaches(from *container, to netip.Addr) bool {
	return from.Command("ping", "-c1", "-W1", to.String()).Run() == nil
}

// headers is the length of an IP header and an ICMP or UDP one.
func headers(a netip.Addr) int {
	if a.Is4() {
		return 20 + 8
	}
	return 40 + 8
}

// listen opens a TCP listener inside the container; dial a connection from there.
func (c *container) listen(t testing.TB, addr netip.Addr) (l net.Listener) {
	t.Helper()
	lab.Must(t, c.Do(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
		return err
	}))
	t.Cleanup(func() { l.Close() })
	return l
}

func (c *container) dial(network, to string) (conn net.Conn, err error) {
	err = c.Do(func() (err error) {
		conn, err = net.DialTimeout(network, to, patience)
		return err
	})
	return conn, err
}

// connect opens a TCP connection from one container to an address of the other.
func connect(t testing.TB, from, to *container, addr netip.Addr) (client, server *net.TCPConn) {
	t.Helper()
	l := to.listen(t, addr)
	defer l.Close()
	c, err := from.dial("tcp", l.Addr().String())
	lab.Must(t, err)
	s, err := l.Accept()
	lab.Must(t, err)
	client, server = c.(*net.TCPConn), s.(*net.TCPConn)
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// transfer sends so many random bytes by TCP. It fails the test unless they arrive as they were, and hardly any was sent twice. What
// the kernel of a host between them has dropped is not held against weft: a busy VXLAN device drops what exceeds a thousand packets.
func transfer(t testing.TB, from, to *container, addr netip.Addr, size int64, between ...site) {
	t.Helper()
	lost := -dropped(t, between)
	info := deliver(t, from, to, addr, size)
	lost += dropped(t, between)
	if int(info.Total_retrans) > 2*lost+max(int(info.Segs_out)/1000, 10) { // what is sent again may be lost again
		t.Errorf("%s sent %d of %d segments to %s again; expected at most ten, or one in a thousand, and the %d that the hosts' kernels dropped",
			from.Name(), info.Total_retrans, info.Segs_out, addr, lost)
	}
}

// deliver sends so many random bytes by TCP, fails the test unless they arrive as they were, and returns what it took.
func deliver(t testing.TB, from, to *container, addr netip.Addr, size int64) *unix.TCPInfo {
	t.Helper()
	client, server := connect(t, from, to, addr)
	lab.Must(t, errors.Join(client.SetDeadline(time.Now().Add(3*patience)), server.SetDeadline(time.Now().Add(3*patience))))
	sent, got := sha256.New(), sha256.New()
	received := make(chan error, 1)
	go func() {
		_, err := io.Copy(got, server)
		_, e := server.Write(got.Sum(nil)) // tells the client that all is acknowledged
		received <- errors.Join(err, e, server.CloseWrite())
	}()
	_, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(client, sent)},
		io.LimitReader(rand.NewChaCha8([32]byte{byte(size)}), size), make([]byte, 256<<10))
	lab.Must(t, errors.Join(err, client.CloseWrite()))
	answer, err := io.ReadAll(client)
	lab.Must(t, errors.Join(err, <-received))
	if !bytes.Equal(answer, sent.Sum(nil)) {
		t.Fatalf("the %d bytes that %s sent to %s did not arrive as they were: SHA-256 %x, expected %x", size, from.Name(), addr, answer, sent.Sum(nil))
	}
	return tcpInfo(t, client)
}

// dropped returns how many packets the hosts' interfaces have received and dropped.
func dropped(t testing.TB, hosts []site) (count int) {
	t.Helper()
	for _, h := range hosts {
		links, err := h.Netlink().LinkList()
		lab.Must(t, err)
		for _, l := range links {
			count += int(l.Attrs().Statistics.RxDropped)
		}
	}
	return count
}

func tcpInfo(t testing.TB, c *net.TCPConn) (info *unix.TCPInfo) {
	t.Helper()
	raw, err := c.SyscallConn()
	lab.Must(t, err)
	var failed error
	lab.Must(t, raw.Control(func(fd uintptr) { info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }))
	lab.Must(t, failed)
	return info
}

// echo sends back all that it reads, on every connection that l accepts.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c) // the other side sees what is missing
		}()
	}
}

// echoes opens so many short connections, and fails the test unless each brings back the bytes that it carried. A sum over a long
// stream does not show every corruption: retransmission mends what the receiver's checksum refuses.
func echoes(t testing.TB, from, to *container, addr netip.Addr, count int) {
	t.Helper()
	l := to.listen(t, addr)
	go echo(l)
	const workers = 4
	failed := make([]error, workers)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), uint64(count)))
			failed[w] = from.Do(func() error {
				for i := range count / workers {
					if err := echoed(l.Addr().String(), r); err != nil {
						return fmt.Errorf("connection %d from %s to %s: %w", i, from.Name(), addr, err)
					}
				}
				return nil
			})
		})
	}
	all.Wait()
	lab.Must(t, errors.Join(failed...))
}

func echoed(addr string, r *rand.Rand) error {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	data := make([]byte, 1+r.IntN(20000))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	sent := make(chan error, 1)
	go func() {
		var err error
		for left := data; err == nil && len(left) > 0; {
			n := min(1+len(data)/3, len(left))
			_, err = c.Write(left[:n])
			left = left[n:]
		}
		sent <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err := errors.Join(err, <-sent); err != nil {
		return err
	}
	if !bytes.Equal(got, data) {
		return fmt.Errorf("%d bytes came back as %d others", len(data), len(got))
	}
	return nil
}

// datagrams sends UDP datagrams from small to many fragments, one by one and in one segmented send, and fails the test unless each
// arrives whole and comes back whole.
func datagrams(t testing.TB, from, to *container, addr netip.Addr, mtu int) {
	t.Helper()
	server := to.packets(t, netip.AddrPortFrom(addr, 0))
	c, err := from.dial("udp", server.LocalAddr().String())
	lab.Must(t, err)
	defer c.Close()
	client := c.(*net.UDPConn)
	lab.Must(t, errors.Join(client.SetDeadline(time.Now().Add(patience)), server.SetDeadline(time.Now().Add(patience))))
	fits := mtu - headers(addr)
	buf := make([]byte, 1<<16)
	for _, size := range []int{0, 1, 64, fits - 1, fits, fits + 1, 8000, 40000} {
		data := random(size)
		_, err := client.Write(data)
		lab.Must(t, err)
		n, back, err := server.ReadFromUDPAddrPort(buf)
		if err != nil || !bytes.Equal(buf[:n], data) {
			t.Fatalf("a datagram of %d bytes from %s to %s arrived as %d bytes: %v", size, from.Name(), addr, n, err)
		}
		_, err = server.WriteToUDPAddrPort(data, back)
		lab.Must(t, err)
		if n, err = client.Read(buf); err != nil || !bytes.Equal(buf[:n], data) {
			t.Fatalf("a datagram of %d bytes came back to %s from %s as %d bytes: %v", size, from.Name(), addr, n, err)
		}
	}
	for _, size := range []int{100, 1000, fits} {
		segmented(t, client, server, size, 12)
	}
}

// segmented hands so many datagrams, and a shorter one, to the kernel in one send (UDP_SEGMENT).
func segmented(t testing.TB, client, server *net.UDPConn, size, count int) {
	t.Helper()
	data := random(size*count + size/2)
	control := make([]byte, unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(ptr(control))
	h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	*(*uint16)(ptr(control[unix.CmsgLen(0):])) = uint16(size)
	_, _, err := client.WriteMsgUDP(data, control, nil)
	lab.Must(t, err)
	buf := make([]byte, 1<<16)
	for i := 0; len(data) > 0; i++ {
		want := data[:min(size, len(data))]
		data = data[len(want):]
		n, _, err := server.ReadFromUDPAddrPort(buf)
		if err != nil || !bytes.Equal(buf[:n], want) {
			t.Fatalf("datagram %d of a segmented send, %d bytes, arrived as %d others: %v", i, len(want), n, err)
		}
	}
}

// packets opens a UDP socket inside the container.
func (c *container) packets(t testing.TB, at netip.AddrPort) (conn *net.UDPConn) {
	t.Helper()
	lab.Must(t, c.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	}))
	t.Cleanup(func() { conn.Close() })
	return conn
}

// groups sends one datagram each to multicast groups that the other container has joined, and to the broadcast addresses.
func groups(t testing.TB, from, to *container) {
	t.Helper()
	for _, c := range []struct {
		what, to string
		source   netip.Addr
	}{
		{"an IPv4 group", "239.7.7.7", from.v4},
		{"an IPv6 group", "ff15::77", from.v6},
		{"the subnet's broadcast address", "10.77.0.255", from.v4},
		{"the broadcast address", "255.255.255.255", from.v4},
	} {
		addr := netip.MustParseAddr(c.to)
		server := to.member(t, addr)
		client := from.packets(t, netip.AddrPortFrom(c.source, 0))
		if addr.Is6() {
			addr = addr.WithZone("eth0") // by which the kernel chooses the interface: there is no route
			lab.Must(t, from.Do(func() error { return multicastInterface(client) }))
		}
		data := random(300)
		port := uint16(server.LocalAddr().(*net.UDPAddr).Port)
		_, err := client.WriteToUDPAddrPort(data, netip.AddrPortFrom(addr.WithZone(""), port))
		lab.Must(t, err)
		lab.Must(t, server.SetDeadline(time.Now().Add(patience)))
		buf := make([]byte, 2000)
		n, source, err := server.ReadFromUDPAddrPort(buf)
		if err != nil || !bytes.Equal(buf[:n], data) || source.Addr().Unmap() != c.source {
			t.Fatalf("what %s sent to %s arrived as %d bytes from %s: %v", from.Name(), c.what, n, source, err)
		}
	}
}

// multicastInterface makes c send to groups through eth0 of the thread's namespace.
func multicastInterface(c *net.UDPConn) error {
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, eth0.Index)
	})
	return errors.Join(err, failed)
}

// member opens a UDP socket that receives what is sent to a multicast or broadcast address.
func (c *container) member(t testing.TB, group netip.Addr) (conn *net.UDPConn) {
	t.Helper()
	if !group.IsMulticast() {
		return c.packets(t, netip.AddrPortFrom(netip.IPv4Unspecified(), 0))
	}
	lab.Must(t, c.Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		conn, err = net.ListenMulticastUDP("udp", eth0, net.UDPAddrFromAddrPort(netip.AddrPortFrom(group, 0)))
		return err
	}))
	t.Cleanup(func() { conn.Close() })
	return conn
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(b)
	return b
}

// stream sends numbered blocks over a connection until it is stopped, while the other side checks them.
type stream struct {
	cancel context.CancelFunc
	done   chan error
	blocks chan struct{} // one token for each block that arrived
}

// startStream starts one. It fails the test at its end if the connection broke, or bytes changed.
func startStream(t testing.TB, from, to *container, addr netip.Addr) *stream {
	t.Helper()
	client, server := connect(t, from, to, addr)
	ctx, cancel := context.WithCancel(context.Background())
	s := &stream{cancel: cancel, done: make(chan error, 2), blocks: make(chan struct{})}
	const size = 4000
	go func() {
		var err error
		for i := 0; err == nil && ctx.Err() == nil; i++ {
			_, err = client.Write(random(size + i%97))
		}
		s.done <- errors.Join(err, client.CloseWrite())
	}()
	go func() {
		for i := 0; ; i++ {
			got := make([]byte, size+i%97)
			if n, err := io.ReadFull(server, got); err != nil {
				if n == 0 && err == io.EOF {
					err = nil
				}
				s.done <- err
				return
			}
			if !bytes.Equal(got, random(len(got))) {
				s.done <- fmt.Errorf("block %d changed on its way", i)
				return
			}
			select {
			case s.blocks <- struct{}{}:
			default: // nobody waits for one
			}
		}
	}()
	return s
}

// flows waits until a few more blocks have arrived.
func (s *stream) flows(t testing.TB) {
	t.Helper()
	deadline := time.After(2 * patience)
	for range 20 {
		select {
		case <-s.blocks:
		case err := <-s.done:
			t.Fatalf("the stream ended: %v", err)
		case <-deadline:
			t.Fatal("the stream stands still")
		}
	}
}

// end stops the stream and checks that all of it arrived.
func (s *stream) end(t testing.TB) {
	t.Helper()
	s.cancel()
	lab.Must(t, errors.Join(<-s.done, <-s.done))
}

func ptr(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }
