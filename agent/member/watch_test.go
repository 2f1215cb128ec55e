package member

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/internal/lab"
)

func TestEndOfAContainerIsNoticedAtOnce(t *testing.T) {
	looks := make(chan struct{}, 100)
	w := &watch{look: func() { looks <- struct{}{} }}
	defer w.close()
	looked := func(why string) {
		t.Helper()
		select {
		case <-looks:
		case <-time.After(30 * time.Second):
			t.Fatalf("%s, and nobody looks", why)
		}
	}
	sleep := func() (*endpoint.Endpoint, *exec.Cmd) {
		cmd := exec.Command("sleep", "infinity")
		lab.Must(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return &endpoint.Endpoint{Container: endpoint.Container{PID: cmd.Process.Pid}}, cmd
	}
	dir := t.TempDir()
	file := func(name string) *endpoint.Endpoint {
		path := filepath.Join(dir, name)
		lab.Must(t, os.WriteFile(path, nil, 0o600))
		return &endpoint.Endpoint{Container: endpoint.Container{NetNS: path}}
	}
	p1, cmd1 := sleep()
	p2, cmd2 := sleep()
	f1, f2 := file("1"), file("2")
	_ = file("other")
	bridge := &endpoint.Endpoint{Container: endpoint.Container{Bridge: "br0"}}
	all := []*endpoint.Endpoint{p1, p1, p2, f1, f2, bridge}
	w.follow(all)
	w.follow(all) // nothing twice

	lab.Must(t, cmd1.Process.Kill())
	looked("a process ended")
	lab.Must(t, os.Remove(f1.Container.NetNS))
	looked("a namespace's file was removed")
	lab.Must(t, os.Rename(filepath.Join(dir, "other"), f2.Container.NetNS))
	looked("another file came in its place")
	if n := len(w.ends); n != 2 {
		t.Errorf("%d processes are watched, expected 2", n)
	}

	// What is no container's any more is not looked after.
	w.follow([]*endpoint.Endpoint{bridge})
	if len(w.ends) != 0 || len(w.folders.WatchList()) != 0 {
		t.Errorf("watched are %v and %v", w.ends, w.folders.WatchList())
	}
	lab.Must(t, cmd2.Process.Kill())
	lab.Must(t, os.Remove(f2.Container.NetNS))
	for len(looks) > 0 {
		<-looks // of the renaming, which is more than one event
	}
	p3, cmd3 := sleep()
	w.follow([]*endpoint.Endpoint{p3})
	lab.Must(t, cmd3.Process.Kill())
	looked("a later container's process ended")
	w.close()
	if len(looks) > 0 {
		t.Error("the end of what was a container's is looked after")
	}
}
