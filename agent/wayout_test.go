package agent_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
)

// gateway is that of the overlay network of most tests.
var gateway = netip.MustParseAddr("10.77.0.1")

// outside listens on a host without weft.
func outside(t testing.TB, s site) (l net.Listener) {
	t.Helper()
	lab.Must(t, s.Do(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(s.vtep, 0).String())
		return err
	}))
	t.Cleanup(func() { l.Close() })
	return l
}

// leaves opens a connection from a container to a host outside, by which a byte has passed.
func leaves(t testing.TB, c *container, l net.Listener) (inner, outer net.Conn) {
	t.Helper()
	inner, err := c.dial("tcp", l.Addr().String())
	lab.Must(t, err)
	t.Cleanup(func() { inner.Close() })
	outer, err = l.Accept()
	lab.Must(t, err)
	t.Cleanup(func() { outer.Close() })
	for _, x := range []net.Conn{inner, outer} {
		lab.Must(t, x.SetDeadline(time.Now().Add(patience)))
	}
	passes(t, inner, outer)
	return inner, outer
}

func passes(t testing.TB, from, to net.Conn) {
	t.Helper()
	_, err := from.Write([]byte{1})
	lab.Must(t, err)
	_, err = io.ReadFull(to, make([]byte, 1))
	lab.Must(t, err)
}

// reset fails the test unless a connection ends by a reset.
func reset(t testing.TB, whose string, c net.Conn) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%s reads: %v; expected %v", whose, err, unix.ECONNRESET)
	}
}

// asks returns what a container's gateway says to a name: addresses, or why there are none.
func asks(t testing.TB, c *container, name string) string {
	t.Helper()
	var conn net.Conn
	lab.Must(t, c.Do(func() (err error) {
		conn, err = net.Dial("udp", netip.AddrPortFrom(gateway, 53).String())
		return err
	}))
	defer conn.Close()
	q := new(mdns.Msg).SetQuestion(mdns.Fqdn(name), mdns.TypeA)
	a, _, err := (&mdns.Client{Timeout: patience}).ExchangeWithConn(q, &mdns.Conn{Conn: conn})
	lab.Must(t, err)
	if a.Rcode != mdns.RcodeSuccess {
		return mdns.RcodeToString[a.Rcode]
	}
	var all []string
	for _, r := range a.Answer {
		all = append(all, r.(*mdns.A).A.String())
	}
	return strings.Join(all, " ")
}

func TestReloadChangesTheWayOutAndNames(t *testing.T) {
	a, b := lay(t, wire{})
	c2, c3 := newContainer(t, 2), newContainer(t, 3)
	l := outside(t, b)
	old := a.config(c2, c3) // of a time before these keys
	n := start(t, a, old)
	lab.Must(t, c2.Default(gateway))
	among, _ := connect(t, c2, c3, c3.v4)

	for _, shut := range []func(*network){func(n *network) { n.Egress = "none" }, func(n *network) { n.Internal = true }} {
		inner, outer := leaves(t, c2, l)
		closed := a.config(c2, c3)
		shut(&closed.Networks[0])
		n.reload(closed)
		reset(t, "the container", inner)
		reset(t, "the host outside", outer)
		if _, err := c2.dial("tcp", l.Addr().String()); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("without a way out the container is told %v, expected %v", err, syscall.EHOSTUNREACH)
		}
		if got := asks(t, c2, "example.org"); got != "REFUSED" {
			t.Errorf("without a way out a name of others is %s, expected REFUSED", got)
		}
		n.reload(old)
	}

	inner, outer := leaves(t, c2, l)
	wrong := a.config(c2, c3)
	wrong.Networks[0].Egress = "some"
	n.reload(wrong)
	n.said("some", "internet, full, none")
	passes(t, inner, outer)

	if got := asks(t, c2, "db"); got != "NXDOMAIN" {
		t.Errorf("a name that nobody has is %s, expected NXDOMAIN", got)
	}
	named := a.config(c2, c3)
	named.Networks[0].Endpoints[1].Aliases = []string{"db"}
	n.reload(named)
	if got := asks(t, c2, "db"); got != c3.v4.String() {
		t.Errorf("the new alias leads to %s, expected %s", got, c3.v4)
	}
	n.reload(old)
	if got := asks(t, c2, "db"); got != "NXDOMAIN" {
		t.Errorf("an alias that was taken away is %s, expected NXDOMAIN", got)
	}
	passes(t, outer, inner)
	_, err := among.Write([]byte{1})
	lab.Must(t, err)
}

func TestConnectionsWithTheOutsideEndWithTheAgent(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			a, b := lay(t, wire{})
			c2 := newContainer(t, 2)
			l := outside(t, b)
			cfg := a.config(c2)
			cfg.Networks[0].Endpoints[0].Persistent = true
			n := start(t, a, cfg)
			lab.Must(t, c2.Default(gateway))
			inner, outer := leaves(t, c2, l)
			if err := n.stop(sig); sig == unix.SIGTERM && err != nil {
				t.Fatal(err)
			}
			if sig == unix.SIGTERM {
				reset(t, "the host outside", outer)
				reset(t, "the container", inner)
			} else if _, err := outer.Read(make([]byte, 1)); !errors.Is(err, io.EOF) { // the kernel closes what nobody has any more
				t.Errorf("the host outside reads: %v; expected %v", err, io.EOF)
			}
			n.exec()
			n.ready()
			if sig == unix.SIGKILL { // nobody could tell it, and what it sends now belongs to nothing
				_, err := inner.Write([]byte{1})
				lab.Must(t, err)
				reset(t, "the container", inner)
			}
			leaves(t, c2, l)
			if got := asks(t, c2, "c2"); got != c2.v4.String() {
				t.Errorf("its name leads to %s, expected %s", got, c2.v4)
			}
		})
	}
}
