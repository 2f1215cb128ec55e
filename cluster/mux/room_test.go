package mux

import (
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/cluster/identity"
)

func TestWhatCountsAsOneHost(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7":            "192.0.2.7/32",
		"::ffff:192.0.2.7":     "192.0.2.7/32",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"fe80::1%eth0":         "fe80::/64",
	} {
		if got := Source(netip.MustParseAddr(text)); got.String() != want {
			t.Errorf("%s counts as %s, expected %s", text, got, want)
		}
	}
}

// until waits for what must become true.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// counted returns how many strangers, sources and nodes a port counts.
func (p *port) counted() [3]int {
	p.Mux.mu.Lock()
	defer p.Mux.mu.Unlock()
	return [3]int{p.room.strangers, len(p.room.sources), len(p.room.nodes)}
}

// from connects from an address of this host.
func (p *port) from(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}).Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func TestASilentHostStarvesNoOther(t *testing.T) {
	ca := newCA(t)
	a := newNode(t, ca)
	for name, silent := range map[string]func(*testing.T, net.Conn) error{
		"before the handshake": func(*testing.T, net.Conn) error { return nil },
		"within the handshake": func(_ *testing.T, c net.Conn) error { // a record is announced that never comes
			_, err := c.Write([]byte{22, 3, 1, 1, 0})
			return err
		},
		"as one who joins": func(_ *testing.T, c net.Conn) error {
			return tls.Client(c, identity.JoinTLS(identity.Digest(ca.Cert.Raw))).Handshake()
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t, ca, a)
			l := p.Listen(identity.NodeALPN)
			p.Listen(identity.JoinALPN)
			var silence []net.Conn
			for range perSource {
				c := p.from(t, "127.0.0.2")
				if err := silent(t, c); err != nil {
					t.Fatal(err)
				}
				silence = append(silence, c)
			}
			until(t, "all are counted", func() bool { return p.counted() == [3]int{perSource, 1, 0} })
			if _, err := p.from(t, "127.0.0.2").Read(make([]byte, 1)); err == nil {
				t.Error("one more from there is not closed")
			}
			until(t, "it is counted", func() bool { return p.Refused(Full) == 1 })
			dial(t, p, a, identity.NodeALPN) // from 127.0.0.1
			if _, err := l.Accept(); err != nil {
				t.Fatal(err)
			}
			for _, c := range silence {
				c.Close()
			}
			if name == "as one who joins" {
				p.CloseAll() // nobody serves them here
			} else {
				until(t, "there is room again", func() bool { return p.counted() == [3]int{0, 0, 1} })
			}
		})
	}
}

func TestGarbageLeavesNoTrace(t *testing.T) {
	ca := newCA(t)
	p := open(t, ca, newNode(t, ca))
	garbage := make([]byte, 512)
	rand.Read(garbage)
	for i := range 3 * perSource {
		c := p.from(t, "127.0.0.2")
		c.Write(garbage[:i%len(garbage)])
		c.Close()
	}
	until(t, "all are refused", func() bool { return p.Refused(Handshake)+p.Refused(Full) == 3*perSource })
	until(t, "none is counted", func() bool { return p.counted() == [3]int{} })
}

func TestANodeLeavesRoomForOthers(t *testing.T) {
	ca := newCA(t)
	a, b := newNode(t, ca), newNode(t, ca)
	p := open(t, ca, a, b)
	l := p.Listen(identity.NodeALPN)
	for range perNode {
		dial(t, p, a, identity.NodeALPN)
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	c := dial(t, p, a, identity.NodeALPN)
	if _, err := io.ReadAll(c); p.Refused(Full) != 1 {
		t.Errorf("one more of a node ends by %v, and %d are refused; expected 1", err, p.Refused(Full))
	}
	dial(t, p, b, identity.NodeALPN)
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	if got, want := p.counted(), [3]int{0, 0, 2}; got != want {
		t.Errorf("counted are %v, expected %v", got, want)
	}
	p.CloseAll()
	if got := p.counted(); got != [3]int{} {
		t.Errorf("counted are %v after all were closed", got)
	}
}
