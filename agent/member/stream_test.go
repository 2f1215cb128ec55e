package member_test

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/internal/lab"
)

func errorf(format string, args ...any) error { return fmt.Errorf(format, args...) }

// conn is a TCP connection from one container to another that sends back each line.
type conn struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, from, to *box) *conn {
	t.Helper()
	addr := netip.AddrPortFrom(to.addr, 7).String()
	var lis net.Listener
	lab.Must(t, to.Do(func() (err error) { lis, err = net.Listen("tcp", addr); return err }))
	t.Cleanup(func() { lis.Close() })
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					line, err := r.ReadBytes('\n')
					if err != nil {
						return
					}
					if _, err := c.Write(line); err != nil {
						return
					}
				}
			}()
		}
	}()
	c := &conn{t: t}
	lab.Must(t, from.Do(func() (err error) { c.Conn, err = net.DialTimeout("tcp", addr, patience); return err }))
	t.Cleanup(func() { c.Close() })
	c.r = bufio.NewReader(c)
	return c
}

func (c *conn) send(line string) {
	c.t.Helper()
	_, err := fmt.Fprintln(c, line)
	lab.Must(c.t, err)
}

func (c *conn) expect(line string) {
	c.t.Helper()
	lab.Must(c.t, c.SetReadDeadline(time.Now().Add(patience)))
	got, err := c.r.ReadString('\n')
	if err != nil || got != line+"\n" {
		c.t.Fatalf("got %q, %v; expected %q", got, err, line)
	}
}

func (c *conn) echo(line string) {
	c.t.Helper()
	c.send(line)
	c.expect(line)
}
