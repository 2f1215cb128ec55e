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
	"strings"
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

// unprivileged marks the environment of the tests that run again as nobody, and says where.
const (
	unprivileged = "TAP_TEST_UNPRIVILEGED"
	ownNetwork   = "in network and user namespaces of its own"  // as `weft run`, and the bench
	hostNetwork  = "in the host's network and a user namespace" // as `podman unshare weft agent`
)

func TestMain(m *testing.M) {
	lab.Change()
	switch where := os.Getenv(unprivileged); {
	case where == ownNetwork:
		if done, code, err := lab.Reexec(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		} else if done {
			os.Exit(code)
		}
	case where == hostNetwork && lab.Unprivileged():
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = lab.Rootless()
		cmd.SysProcAttr.Cloneflags &^= unix.CLONE_NEWNET
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
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

// connect opens a TCP connection from a to addr at b.
func connect(t testing.TB, a, b *lab.Host, addr string) (client, server net.Conn) {
	t.Helper()
	var l net.Listener
	lab.Must(t, b.Do(func() (err error) { l, err = net.Listen("tcp", net.JoinHostPort(addr, "0")); return err }))
	defer l.Close()
	lab.Must(t, a.Do(func() (err error) { client, err = net.DialTimeout("tcp", l.Addr().String(), 5*time.Second); return err }))
	server, err := l.Accept()
	lab.Must(t, err)
	for _, c := range []net.Conn{client, server} {
		t.Cleanup(func() { c.Close() })
		lab.Must(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	}
	return client, server
}

// transfer sends n random bytes from a to addr at b, and fails the test unless they arrive as they were.
func transfer(t testing.TB, a, b *lab.Host, addr string, n int) {
	t.Helper()
	client, server := connect(t, a, b, addr)
	data := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(data)
	sent := make(chan error, 1)
	go func() {
		_, err := client.Write(data)
		client.Close()
		sent <- err
	}()
	h := sha256.New()
	got, err := io.Copy(h, server)
	lab.Must(t, errors.Join(err, <-sent))
	if want := sha256.Sum256(data); !bytes.Equal(h.Sum(nil), want[:]) {
		t.Fatalf("%d of the %d bytes to %s arrived, and not as they were sent", got, n, addr)
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

// withOpenDriver runs $0 as nobody. Some machines keep /dev/net/tun to root: in a mount namespace of its own another node
// takes its place, so that the machine stays as it is.
const withOpenDriver = `
dir=$(dirname "$0")/dev
mkdir -p "$dir"
mount -t tmpfs -o mode=0755 tmpfs "$dir"
mknod -m 0666 "$dir/tun" c 10 200
mount --bind "$dir/tun" /dev/net/tun
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$0" "$@"`

// TestOrdinaryUserInAUserNamespace runs the main tests again as nobody, who is root in a user namespace of his own.
func TestOrdinaryUserInAUserNamespace(t *testing.T) {
	if os.Getuid() != 0 || os.Getenv(unprivileged) != "" {
		t.Skip("only root can become another user")
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
		"TestConnectionSurvivesARestart", "TestDeviceTakenUpAgainEndsWithItsContainer", "TestPortOfALinuxBridge",
		"TestStatisticsCountDroppedFrames", "TestOpenInTheProcessesOwnNamespace",
	}
	for _, where := range []string{ownNetwork, hostNetwork} {
		t.Run(where, func(t *testing.T) {
			cmd := exec.Command("sh", "-ec", withOpenDriver, binary, "-test.v", "-test.run", "^("+strings.Join(tests, "|")+")$")
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), unprivileged+"="+where)
			out, err := cmd.CombinedOutput()
			if passed := bytes.Count(out, []byte("\n--- PASS")); err != nil || passed != len(tests) {
				t.Fatalf("as nobody: %v; %d of %d tests passed\n%s", err, passed, len(tests), out)
			}
		})
	}
}
