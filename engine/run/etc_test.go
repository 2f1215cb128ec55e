package run_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/weftnet/weft/internal/lab"
)

// The kernel takes a mount away from a file that is replaced, in all namespaces; and replacing is how resolv.conf is
// written.
func TestAContainersNameServerStaysWhenTheHostsFileIsReplaced(t *testing.T) {
	w := newWorld(t)
	if os.Getuid() != 0 {
		t.Skip("it takes root, to give the container another host's /etc")
	}
	dir := t.TempDir()
	replace := func(name, text string) {
		t.Helper()
		lab.Must(t, os.WriteFile(filepath.Join(dir, "new"), []byte(text), 0o644))
		lab.Must(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, name)))
	}
	replace("resolv.conf", "nameserver 192.0.2.1\n")
	replace("passwd", "root:x:0:0::/root:/bin/sh\n")
	lab.Must(t, os.Mkdir(filepath.Join(dir, "below"), 0o755))
	replace("below/file", "one\n")
	lab.Must(t, os.Symlink("../usr/lib", filepath.Join(dir, "relative")))
	d := driven{Do: "run", Spec: script("c1", "exec sleep 1000"), Detach: true, Etc: dir, Gateways: []netip.Addr{netip.MustParseAddr("10.77.0.1")}}
	if got := w.do(d); got.status != 0 {
		t.Fatalf("run -d: %+v", got)
	}
	replace("resolv.conf", "nameserver 192.0.2.2\n")
	replace("passwd", "root:x:0:0::/elsewhere:/bin/sh\n")
	replace("below/file", "two\n")
	lab.Must(t, os.Remove(filepath.Join(dir, "resolv.conf"))) // and without one, programs would ask localhost
	for _, tt := range []struct{ command, want string }{
		{"cat /etc/resolv.conf", "nameserver 10.77.0.1\noptions ndots:0\n"},
		{"cat /etc/passwd", "root:x:0:0::/elsewhere:/bin/sh\n"},
		{"cat /etc/below/file", "two\n"},
		{"cd /etc/relative && pwd -P", "/usr/lib\n"},
		{"tail -n 1 /etc/hosts", "10.77.0.2\tc1\n"},
	} {
		if got := w.exec("c1", "sh", "-c", tt.command); got.stdout != tt.want {
			t.Errorf("%s: %+v, expected %q", tt.command, got, tt.want)
		}
	}
}

func TestAContainerHasANameServerWhereTheHostHasNone(t *testing.T) {
	w := newWorld(t)
	if os.Getuid() != 0 {
		t.Skip("it takes root, to give the container another host's /etc")
	}
	o := script("c1", "cat /etc/resolv.conf")
	o.Remove = true
	want := "nameserver 10.77.0.1\noptions ndots:0\n"
	if got := w.do(driven{Do: "run", Spec: o, Etc: t.TempDir(), Gateways: []netip.Addr{netip.MustParseAddr("10.77.0.1")}}); got.stdout != want {
		t.Errorf("got %+v, expected %q", got, want)
	}
}
