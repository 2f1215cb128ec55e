package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
)

func TestOrdinaryUserIsToldWhatIsWrongWithTheSurroundings(t *testing.T) {
	if again(t) {
		return
	}
	u := users(t, "a")[0]
	top := filepath.Dir(u.home)
	foreign := filepath.Join(top, "foreign")
	lab.Must(t, os.MkdirAll(filepath.Join(foreign, "containers"), 0o755))
	lab.Must(t, os.Chmod(foreign, 0o755))
	runtime, home, path := "XDG_RUNTIME_DIR="+u.runtime(), "HOME="+u.home, "PATH="+os.Getenv("PATH")
	usual := []string{path, home, runtime}
	for name, c := range map[string]struct {
		env    []string
		args   string
		status int
		stderr string
	}{
		"no runtime directory is named":        {[]string{path, home}, "agent", 1, "there is no $XDG_RUNTIME_DIR (as under su and cron); name one with --socket"},
		"the runtime directory is missing":     {[]string{path, home, "XDG_RUNTIME_DIR=" + top + "/none"}, "agent", 1, "/none/weft.sock.lock: no such file or directory; choose another socket with --socket"},
		"the socket's path is too long":        {usual, "agent --socket /tmp/" + strings.Repeat("x", 120), 1, "choose a shorter one with --socket"},
		"the socket's path is too long to ask": {usual, "status --socket /tmp/" + strings.Repeat("x", 120), 1, "longer than a socket's path can be"},
		"no home":                              {[]string{path, runtime}, "agent", 2, "--data-dir is empty; name the directory"},
		"no home, for containers":              {[]string{path, runtime}, "ps", 2, "this user has no home; name one with --data-dir, or in $WEFT_DATA_DIR"},
		"a home that is not there":             {[]string{path, runtime, "HOME=/nonexistent"}, "agent", 1, "mkdir /nonexistent: permission denied; it must belong to user 65534"},
		"data of another user":                 {usual, "agent --data-dir " + foreign, 1, "holder.lock: permission denied; it must belong to user 65534"},
		"containers of another user":           {usual, "ps --data-dir " + foreign, 1, "permission denied; they are another user's: name your own data directory with --data-dir"},
		"nsenter is missing":                   {[]string{"PATH=/none", home, runtime}, "agent", 1, "nsenter is not installed; it comes with util-linux"},
		"nsenter is missing, for weft exec":    {[]string{"PATH=/none", home, runtime}, "exec c1 true", 125, "nsenter is not installed; it comes with util-linux"},
		"no agent":                             {usual, "run --network net1 -- true", 125, "start one with weft agent"},
	} {
		each := *u
		each.env = c.env
		o := each.try(strings.Fields(c.args)...)
		if o.status != c.status || !strings.Contains(o.stderr, c.stderr) {
			t.Errorf("%s: weft %s: %+v; expected %d and %q", name, c.args, o, c.status, c.stderr)
		}
	}
	u.eventually("none of them leaves a process", func() error { return nobodyLeft(t, u) })
}

func TestDriverThatIsClosedToUsersIsNamedWhenAContainerIsStarted(t *testing.T) {
	if again(t) {
		return
	}
	lab.Must(t, os.Chmod("/dev/net/tun", 0o600)) // this mount namespace's own
	u := users(t, "a")[0]
	u.start()
	u.weft("init")
	u.weft("network", "create", "net1")
	o := u.try("run", "--name", "c1", "--network", "net1", "--", "true")
	if o.status != 125 || !strings.Contains(o.stderr, "/dev/net/tun: permission denied; every user needs to read and write it: `chmod 0666 /dev/net/tun`") {
		t.Errorf("weft run: %+v", o)
	}
	if o := u.try("doctor"); o.status != 1 || !strings.Contains(o.stdout, "chmod 0666 /dev/net/tun, and packaging/udev/70-weft-tun.rules") {
		t.Errorf("weft doctor: %+v", o)
	}
	lab.Must(t, syscall.Unmount("/dev/net/tun", unix.MNT_DETACH))
	lab.Must(t, syscall.Mount("tmpfs", "/dev/net", "tmpfs", 0, "mode=0755"))
	o = u.try("run", "--name", "c1", "--network", "net1", "--", "true")
	if o.status != 125 || !strings.Contains(o.stderr, "modprobe tun") {
		t.Errorf("weft run without the driver: %+v", o)
	}
	if got := u.weft("ps", "-a", "--json"); got != "[]" {
		t.Errorf("of containers that could not be started there is %s", got)
	}
	u.stop(unix.SIGTERM)
}

func TestFullDiskKeepsContainersFromStartingAndNothingElse(t *testing.T) {
	if again(t) {
		return
	}
	u := users(t, "a")[0]
	lab.Must(t, syscall.Mount("tmpfs", u.home, "tmpfs", 0, "size=2m,mode=0777"))
	defer func() { lab.Must(t, syscall.Unmount(u.home, unix.MNT_DETACH)) }()
	lab.Must(t, os.Mkdir(u.runtime(), 0o777))
	lab.Must(t, os.Chmod(u.runtime(), 0o777))
	u.start()
	u.weft("init")
	u.weft("network", "create", "net1")
	u.contain("c1")
	filler := filepath.Join(u.home, "filler")
	f, err := os.Create(filler)
	lab.Must(t, err)
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	f.Close()
	o := u.try("run", "-d", "--name", "c2", "--network", "net1", "--", "sleep", "3600")
	if o.status != 125 || !strings.Contains(o.stderr, "no space left on device") {
		t.Errorf("weft run on a full disk: %+v", o)
	}
	u.weft("exec", "c1", "--", "true")
	lab.Must(t, os.Remove(filler))
	u.contain("c2")
	u.weft("rm", "-f", "c1", "c2")
	u.stop(unix.SIGTERM)
	u.eventually("no process is left", func() error { return nobodyLeft(t, u) })
}
