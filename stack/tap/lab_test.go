package tap_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/tap"
)

// unprivileged marks the environment of the tests that run again as nobody.
const unprivileged = "TAP_TEST_UNPRIVILEGED"

func TestMain(m *testing.M) {
	if os.Getenv(unprivileged) != "" {
		if done, code, err := lab.Reexec(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		} else if done {
			os.Exit(code)
		}
	}
	os.Exit(m.Run())
}

// open opens a device that is removed when the test ends.
func open(t testing.TB, cfg tap.Config) *tap.Device {
	t.Helper()
	d, err := tap.Open(cfg)
	lab.Must(t, err)
	t.Cleanup(func() { _ = d.Remove() })
	return d
}

// config is the device of container number n on the test network.
func config(h *lab.Host, n int) tap.Config {
	return tap.Config{
		Namespace: h.Namespace(), Name: "eth0", MAC: frame.MAC(0x0242_0a00_0000 | n), MTU: 1450,
		Addresses: []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 24),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(n)}), 64),
		},
	}
}

// pump carries frames between two devices, as the switch does, and keeps account of them.
type pump struct {
	longest  atomic.Int64 // longest frame, without header
	gso      atomic.Int64 // superframes
	refused  atomic.Int64 // writes that failed
	queues   sync.Map     // queues that frames were read from
	stop     atomic.Bool
	finished sync.WaitGroup
}

func startPump(t testing.TB, a, b *tap.Device) *pump {
	t.Helper()
	p := &pump{}
	for _, way := range [][2]*tap.Device{{a, b}, {b, a}} {
		for i, q := range way[0].Queues() {
			to := way[1].Queues()
			p.finished.Add(1)
			go p.carry(q, to[i%len(to)])
		}
	}
	t.Cleanup(p.halt)
	return p
}

func (p *pump) halt() {
	p.stop.Store(true)
	p.finished.Wait()
}

func (p *pump) carry(from, to *tap.Queue) {
	defer p.finished.Done()
	b := make([]byte, frame.OffloadLen+frame.MaxLen)
	for !p.stop.Load() {
		n, errno := from.Read(b)
		switch errno {
		case 0:
		case syscall.EAGAIN:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(from.FD()), Events: unix.POLLIN}}, 20)
			continue
		default:
			return
		}
		p.queues.Store(from, true)
		var o frame.Offload
		if o.Unmarshal(b) != drop.None {
			p.refused.Add(1)
			continue
		}
		p.longest.Store(max(p.longest.Load(), int64(n-frame.OffloadLen)))
		if o.GSO != frame.GSONone {
			p.gso.Add(1)
		}
		// In two parts, as a frame with a rewritten header is.
		if to.Write(&o, [][]byte{b[frame.OffloadLen : frame.OffloadLen+14], b[frame.OffloadLen+14 : n]}) != 0 {
			p.refused.Add(1)
		}
	}
}

// transfer sends n random bytes from a to a listener at b, and reports whether they arrive as they were.
func transfer(t testing.TB, a, b *lab.Host, addr string, n int) {
	t.Helper()
	var l net.Listener
	lab.Must(t, b.Do(func() (err error) { l, err = net.Listen("tcp", net.JoinHostPort(addr, "0")); return err }))
	defer l.Close()
	data := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(data)
	got := make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			got <- nil
			return
		}
		defer c.Close()
		h := sha256.New()
		_, _ = io.Copy(h, c)
		got <- h.Sum(nil)
	}()
	var c net.Conn
	lab.Must(t, a.Do(func() (err error) { c, err = net.DialTimeout("tcp", l.Addr().String(), 5*time.Second); return err }))
	lab.Must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	c.Close()
	want := sha256.Sum256(data)
	if sum := <-got; !bytes.Equal(sum, want[:]) {
		t.Fatalf("the %d bytes to %s did not arrive as they were sent", n, addr)
	}
}

// link returns the interface of the name in the host.
func link(t testing.TB, h *lab.Host, name string) netlink.Link {
	t.Helper()
	l, err := h.Netlink().LinkByName(name)
	lab.Must(t, err)
	return l
}

func absent(h *lab.Host, name string) bool {
	_, err := h.Netlink().LinkByName(name)
	return errors.As(err, new(netlink.LinkNotFoundError))
}

// waitGone fails the test if the device does not notice its end.
func waitGone(t testing.TB, d *tap.Device) {
	t.Helper()
	select {
	case <-d.Gone():
	case <-time.After(10 * time.Second):
		t.Fatal("Gone was not closed")
	}
}

// read reads until something other than EAGAIN comes.
func read(t testing.TB, q *tap.Queue, b []byte) (n int, errno syscall.Errno) {
	t.Helper()
	lab.Eventually(t, func() bool { n, errno = q.Read(b); return errno != syscall.EAGAIN }, 5*time.Second)
	return n, errno
}

// TestOrdinaryUserInAUserNamespace runs the main tests again as nobody, who is root in a user namespace of his own.
func TestOrdinaryUserInAUserNamespace(t *testing.T) {
	if os.Getuid() != 0 || os.Getenv(unprivileged) != "" {
		t.Skip("only root can become another user")
	}
	fi, err := os.Stat("/dev/net/tun")
	lab.Must(t, err)
	if fi.Mode().Perm() != 0o666 {
		lab.Must(t, os.Chmod("/dev/net/tun", 0o666))
		defer os.Chmod("/dev/net/tun", fi.Mode().Perm())
	}
	dir, err := os.MkdirTemp("", "weft-tap")
	lab.Must(t, err)
	defer os.RemoveAll(dir)
	lab.Must(t, os.Chmod(dir, 0o755))
	binary := filepath.Join(dir, "tap.test")
	self, err := os.ReadFile("/proc/self/exe")
	lab.Must(t, err)
	lab.Must(t, os.WriteFile(binary, self, 0o755))
	tests := []string{
		"TestDeviceIsAsItWasAskedFor", "TestSuperframesCrossBothWays", "TestPlainModeCarriesWireFrames", "TestManyQueuesShareTheFlows",
		"TestContainersEndEndsTheDevice", "TestEndOfTheContainersLastProcessEndsTheDevice", "TestPersistentDeviceIsTakenUpAgain",
		"TestPortOfALinuxBridge", "TestStatisticsCountDroppedFrames",
	}
	pattern := "^("
	for i, name := range tests {
		if i > 0 {
			pattern += "|"
		}
		pattern += name
	}
	cmd := exec.Command("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", binary, "-test.v", "-test.run", pattern+")$")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), unprivileged+"=1")
	out, err := cmd.CombinedOutput()
	if passed := bytes.Count(out, []byte("\n--- PASS")); err != nil || passed != len(tests) {
		t.Fatalf("as nobody: %v; %d of %d tests passed\n%s", err, passed, len(tests), out)
	}
}
