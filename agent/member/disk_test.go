package member_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/internal/lab"
)

// smallDisk puts the data directory of a node, whose agent starts anew for that, on a disk that fill fills. It is seen by the agent alone,
// and gone with this test.
func (n *node) smallDisk() {
	n.t.Helper()
	lab.Must(n.t, n.stop(unix.SIGTERM))
	lab.Must(n.t, os.RemoveAll(n.Dir))
	lab.Must(n.t, os.Mkdir(n.Dir, 0o700))
	holder := n.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", `mount -t tmpfs -o size=8m weft "$0" && exec sleep infinity`, n.Dir)
	lab.Must(n.t, holder.Start())
	n.disk = holder.Process.Pid
	n.eventually("the disk is mounted", func() error {
		var here, there unix.Stat_t
		lab.Must(n.t, unix.Stat(n.Dir, &here))
		err := unix.Stat(n.behind(""), &there)
		if err == nil && here.Dev == there.Dev {
			err = errors.New("it is not")
		}
		return err
	})
	n.start()
}

// behind returns the path of a file on the small disk.
func (n *node) behind(name string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", n.disk), n.Dir, name)
}

// fill takes all the room on the small disk, and returns what gives it back.
func (n *node) fill() (empty func()) {
	n.t.Helper()
	f, err := os.Create(n.behind("ballast"))
	lab.Must(n.t, err)
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else {
			lab.Must(n.t, err)
		}
	}
	return func() { lab.Must(n.t, os.Remove(n.behind("ballast"))) }
}

func TestFullDiskOfWorker(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	l := newLAN(t)
	a := l.cluster("a")[0]
	b := l.node("b")
	b.smallDisk()
	b.join(a, false)
	a.sees(2)
	b.sees(2)
	a.network(api.NetworkRequest{Name: "net1"}, b)
	c1, c2 := a.contain("c1", "net1"), b.contain("c2", "net1")
	c2.reaches(c1)

	empty := b.fill()
	h := lab.T(t, "c3")
	for range 3 {
		_, err := b.try(h, "c3", api.Attachment{Network: "net1"})
		refused(t, err, "no space left", "endpoints.json")
	}
	if have := interfaces(t, h); len(have) != 0 {
		t.Errorf("the container has %v", have)
	}
	a.network(api.NetworkRequest{Name: "net2"}, b) // it follows all the same
	a.lists("net1", "c1", "c2")
	lab.Must(t, b.stop(unix.SIGKILL))
	b.start()
	c2.reaches(c1)
	sound([]*node{a, b})

	empty()
	c3, _ := b.containAt(h, "c3", api.Attachment{Network: "net1"}, api.Attachment{Network: "net2"})
	c3.reaches(c1, c2)
	lab.Must(t, b.stop(unix.SIGKILL))
	b.start()
	c3.reaches(c1, c2)
	sound([]*node{a, b})
}

func TestDetachingOnFullDisk(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	l := newLAN(t)
	a := l.cluster("a")[0]
	b := l.node("b")
	b.smallDisk()
	b.join(a, false)
	a.sees(2)
	a.network(api.NetworkRequest{Name: "net1"}, b)
	c1, c2, c3 := a.contain("c1", "net1"), b.contain("c2", "net1"), b.contain("c3", "net1")
	empty := b.fill()
	refused(t, b.Detach(t.Context(), "c2"), "no space left", "endpoints.json")
	a.lists("net1", "c1", "c3")
	if have := interfaces(t, c2.Host); len(have) != 0 {
		t.Errorf("the container has %v", have)
	}
	empty()
	b.eventually("the list on disk is as the one in force", func() error {
		text, err := os.ReadFile(b.behind("endpoints.json"))
		if err == nil && (!bytes.Contains(text, []byte(`"c3"`)) || bytes.Contains(text, []byte(`"c2"`))) {
			err = errorf("it is %s", text)
		}
		return err
	})
	lab.Must(t, b.stop(unix.SIGKILL))
	b.start()
	a.lists("net1", "c1", "c3")
	c3.reaches(c1)
	sound([]*node{a, b})
}

func TestFullDiskOfTheOnlyManager(t *testing.T) {
	needsRoot(t)
	t.Parallel()
	l := newLAN(t)
	l.timing = impatient
	a := l.node("a")
	a.smallDisk()
	_, err := a.Init(t.Context(), api.InitRequest{Name: "a"})
	lab.Must(t, err)
	b := l.node("b")
	b.join(a, false)
	a.sees(2)
	b.sees(2)
	a.network(api.NetworkRequest{Name: "net1"}, b)
	c1, c2 := a.contain("c1", "net1"), b.contain("c2", "net1")
	c2.reaches(c1)

	empty := a.fill()
	var last error
	made := 0
	for ; made < 200 && last == nil; made++ { // until what the log had room for is used up
		_, last = a.CreateNetwork(t.Context(), api.NetworkRequest{Name: fmt.Sprint("more", made)})
	}
	if last == nil {
		t.Fatal("200 networks were made though the disk is full")
	}
	t.Logf("network %d is refused: %v", made, last)
	c2.reaches(c1)
	c3 := b.contain("c3", "net1") // from spare addresses
	c3.reaches(c1, c2)

	empty()
	a.eventually("networks can be made again", func() error {
		_, err := a.CreateNetwork(t.Context(), api.NetworkRequest{Name: "net2"})
		return err
	})
	lab.Must(t, a.stop(unix.SIGKILL))
	a.start()
	a.quorum(true)
	a.network(api.NetworkRequest{Name: "net3"}, b)
	for _, name := range []string{"net1", "net2", "net3", fmt.Sprint("more", made-2)} {
		if _, err := b.Segment(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	c1.reaches(c2, c3)
	sound([]*node{a, b})
}
