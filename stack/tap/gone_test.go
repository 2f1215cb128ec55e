package tap_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/tap"
)

func TestContainersEndEndsTheDevice(t *testing.T) {
	h, err := lab.New("c")
	lab.Must(t, err)
	defer h.Close()
	d := open(t, config(h, 2))
	select {
	case <-d.Gone():
		t.Fatal("Gone is closed while the container lives")
	default:
	}
	lab.Must(t, h.Close())
	b := make([]byte, frame.OffloadLen+frame.MaxLen)
	lab.Eventually(t, func() bool { _, errno := d.Queues()[0].Read(b); return errno == syscall.EBADFD }, 5*time.Second)
	if errno := d.Queues()[0].Write(&frame.Offload{}, [][]byte{make([]byte, 60)}); errno != syscall.EBADFD {
		t.Errorf("Write gave %v", errno)
	}
	waitGone(t, d)
	if _, err := d.Statistics(); !errors.Is(err, tap.ErrGone) {
		t.Errorf("Statistics gave %v", err)
	}
	lab.Must(t, d.Close())
}

// A process holds the namespace, and only the process: that EBADFD comes shows that the device does not pin it, and Gone
// that the watcher finds out without reading.
func TestEndOfTheContainersLastProcessEndsTheDevice(t *testing.T) {
	for name, by := range map[string]func(pid int) tap.Namespace{
		"by PID":  tap.ByPID,
		"by path": func(pid int) tap.Namespace { return tap.ByPath(fmt.Sprintf("/proc/%d/ns/net", pid)) },
	} {
		t.Run(name, func(t *testing.T) {
			h := lab.T(t, "engine")
			c := h.Command("sleep", "1000")
			c.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
			lab.Must(t, c.Start())
			d := open(t, tap.Config{Namespace: by(c.Process.Pid), Name: "eth0"})
			if !absent(h, "eth0") {
				t.Error("the device is in the namespace of the process's parent")
			}
			c.Stop()
			waitGone(t, d)
			fds := []unix.PollFd{{Fd: int32(d.Queues()[0].FD()), Events: unix.POLLIN}}
			if n, err := unix.Poll(fds, 1000); n != 1 || fds[0].Revents&unix.POLLERR == 0 {
				t.Errorf("poll gave %d, %v with events %#x; expected POLLERR", n, err, fds[0].Revents)
			}
		})
	}
}

func TestRemovedInterfaceIsGone(t *testing.T) {
	h := lab.T(t, "c")
	d := open(t, config(h, 2))
	lab.Must(t, h.Netlink().LinkDel(link(t, h, "eth0")))
	waitGone(t, d)
	lab.Must(t, d.Close())
}

func TestCloseRemovesTheDeviceUnlessPersistent(t *testing.T) {
	h := lab.T(t, "c")
	d := open(t, config(h, 2))
	// A thread waits in poll(2): the device must go all the same.
	polled := make(chan int16, 1)
	go func() {
		fds := []unix.PollFd{{Fd: int32(d.Queues()[0].FD()), Events: unix.POLLPRI}}
		_, _ = unix.Poll(fds, 10_000)
		polled <- fds[0].Revents
	}()
	lab.Must(t, d.Close())
	if !absent(h, "eth0") {
		t.Error("the device is still there")
	}
	if got := <-polled; got&unix.POLLERR == 0 {
		t.Errorf("the waiting thread saw %#x, expected POLLERR", got)
	}
	if _, errno := d.Queues()[0].Read(make([]byte, 2000)); errno != syscall.EBADFD {
		t.Errorf("Read after Close gave %v", errno)
	}
	lab.Must(t, d.Close())
	lab.Must(t, d.Remove())
	if _, err := d.Statistics(); !errors.Is(err, tap.ErrClosed) {
		t.Errorf("Statistics after Close gave %v", err)
	}
}

func TestPersistentDeviceIsTakenUpAgain(t *testing.T) {
	for _, queues := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d queues", queues), func(t *testing.T) {
			h, other := lab.T(t, "c"), lab.T(t, "other")
			peer := open(t, config(other, 3))
			cfg := config(h, 2)
			cfg.Queues, cfg.Persistent = queues, true
			first, err := tap.Open(cfg)
			lab.Must(t, err)
			p := startPump(t, first, peer)
			transfer(t, other, h, "10.0.0.2", 1<<16)
			before := link(t, h, "eth0").Attrs()
			p.halt()
			lab.Must(t, first.Close())
			if err := first.Remove(); !errors.Is(err, tap.ErrClosed) {
				t.Errorf("Remove after Close gave %v", err)
			}

			// The agent is down: the container keeps its address, and more that somebody gave it meanwhile.
			lab.Must(t, h.Address("eth0", netip.MustParsePrefix("10.0.0.99/24")))
			second := open(t, cfg)
			startPump(t, second, peer)
			after := link(t, h, "eth0").Attrs()
			if before.Index != after.Index || before.HardwareAddr.String() != after.HardwareAddr.String() {
				t.Errorf("interface %d with %s became %d with %s", before.Index, before.HardwareAddr, after.Index, after.HardwareAddr)
			}
			transfer(t, other, h, "10.0.0.2", 1<<20)
			transfer(t, other, h, "10.0.0.99", 1<<16)

			if _, err := tap.Open(cfg); !errors.Is(err, tap.ErrBusy) {
				t.Errorf("a third Open gave %v", err)
			}
			lab.Must(t, second.Remove())
			if !absent(h, "eth0") {
				t.Error("the device is still there after Remove")
			}
		})
	}
}

// The container's end of a TCP connection outlives the agent.
func TestConnectionSurvivesARestart(t *testing.T) {
	h, other := lab.T(t, "c"), lab.T(t, "other")
	peer := open(t, config(other, 3))
	cfg := config(h, 2)
	cfg.Persistent = true
	d, err := tap.Open(cfg)
	lab.Must(t, err)
	p := startPump(t, d, peer)
	client, server := connect(t, other, h, "10.0.0.2")
	say := func(from, to net.Conn, word string) {
		t.Helper()
		got := make([]byte, len(word))
		if _, err := io.WriteString(from, word); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(to, got); err != nil || string(got) != word {
			t.Fatalf("received %q, %v; expected %q", got, err, word)
		}
	}
	say(client, server, "before")
	p.halt()
	lab.Must(t, d.Close())
	startPump(t, open(t, cfg), peer)
	say(client, server, "after")
	say(server, client, "and back")
}

// A device that was taken up again pins its namespace: it has to notice by itself that the container has ended.
func TestDeviceTakenUpAgainEndsWithItsContainer(t *testing.T) {
	for name, by := range map[string]func(pid int) tap.Namespace{
		"by PID":  tap.ByPID,
		"by path": func(pid int) tap.Namespace { return tap.ByPath(fmt.Sprintf("/proc/%d/ns/net", pid)) },
	} {
		t.Run(name, func(t *testing.T) {
			h := lab.T(t, "engine")
			c := h.Command("sleep", "1000")
			c.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
			lab.Must(t, c.Start())
			cfg := tap.Config{Namespace: by(c.Process.Pid), Name: "eth0", Persistent: true}
			d, err := tap.Open(cfg)
			lab.Must(t, err)
			lab.Must(t, d.Close())
			d = open(t, cfg)
			c.Stop()
			waitGone(t, d)
			if _, errno := d.Queues()[0].Read(make([]byte, 2000)); errno != syscall.EBADFD {
				t.Errorf("Read gave %v", errno)
			}
		})
	}
}
