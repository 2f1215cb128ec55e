package upstream

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

const (
	before = "nameserver 192.0.2.1\n"
	later  = "nameserver 192.0.2.2\n" // of the same size
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// servers returns whom the resolver would ask.
func servers(r *Resolver) []netip.AddrPort { return r.current().pool.conf.Servers }

// change is what is done to the file, and the servers at each of the looks that follow.
type change struct {
	do   func()
	then []string
}

func TestFileIsFollowed(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, dir, path string) []change{
		"written anew": func(t *testing.T, _, path string) []change {
			put(t, path, before)
			return []change{{func() { put(t, path, later) }, []string{"192.0.2.2"}}}
		},
		"changed with its size and time kept": func(t *testing.T, _, path string) []change {
			put(t, path, before)
			then := time.Unix(1e9, 0)
			do(t, os.Chtimes(path, then, then))
			return []change{{func() { put(t, path, later); do(t, os.Chtimes(path, then, then)) }, []string{"192.0.2.2"}}}
		},
		"replaced by a rename": func(t *testing.T, _, path string) []change {
			put(t, path, before)
			return []change{{func() { put(t, path+".new", later); do(t, os.Rename(path+".new", path)) }, []string{"192.0.2.2"}}}
		},
		"a symlink that leads elsewhere": func(t *testing.T, dir, path string) []change {
			put(t, filepath.Join(dir, "run/a"), before)
			put(t, filepath.Join(dir, "run/b"), later)
			do(t, os.MkdirAll(filepath.Dir(path), 0o755))
			do(t, os.Symlink("../run/a", path))
			return []change{{func() { do(t, os.Symlink("../run/b", path+".new")); do(t, os.Rename(path+".new", path)) }, []string{"192.0.2.2"}}}
		},
		"a symlink whose target is replaced": func(t *testing.T, dir, path string) []change {
			target := filepath.Join(dir, "run/stub")
			put(t, target, before)
			do(t, os.MkdirAll(filepath.Dir(path), 0o755))
			do(t, os.Symlink(target, path))
			return []change{{func() { put(t, target+".new", later); do(t, os.Rename(target+".new", target)) }, []string{"192.0.2.2"}}}
		},
		"a symlink to nothing, at first": func(t *testing.T, dir, path string) []change {
			target := filepath.Join(dir, "run/stub")
			do(t, os.MkdirAll(filepath.Dir(path), 0o755))
			do(t, os.Symlink(target, path))
			return []change{{func() {}, []string{""}}, {func() { put(t, target, later) }, []string{"192.0.2.2"}}}
		},
		"its directory replaced": func(t *testing.T, dir, path string) []change {
			put(t, path, before)
			put(t, filepath.Join(dir, "new/resolv.conf"), later)
			return []change{{func() {
				do(t, os.Rename(filepath.Dir(path), filepath.Join(dir, "old")))
				do(t, os.Rename(filepath.Join(dir, "new"), filepath.Dir(path)))
			}, []string{"192.0.2.2"}}}
		},
		"gone, and back": func(t *testing.T, _, path string) []change {
			put(t, path, before)
			return []change{
				{func() { do(t, os.Remove(path)) }, []string{"192.0.2.1", "", ""}}, // the first look may be between a remove and a create
				{func() { put(t, path, later) }, []string{"192.0.2.2"}},
			}
		},
		"half written": func(t *testing.T, _, path string) []change {
			put(t, path, before)
			return []change{
				{func() { put(t, path, "") }, []string{"192.0.2.1"}},
				{func() { put(t, path, "nameserver 192.0.2") }, []string{"192.0.2.1"}},
				{func() { put(t, path, "nameserver 192.0.2.2") }, []string{"192.0.2.1"}},
				{func() { put(t, path, "nameserver 192.0.2.22\n") }, []string{"192.0.2.22"}},
			}
		},
		"half written, then as it was": func(t *testing.T, _, path string) []change {
			put(t, path, before)
			return []change{
				{func() { put(t, path, "") }, []string{"192.0.2.1"}},
				{func() { put(t, path, before) }, []string{"192.0.2.1"}},
				{func() { put(t, path, "") }, []string{"192.0.2.1", ""}},
			}
		},
		"without its last newline, for good": func(t *testing.T, _, path string) []change {
			put(t, path, strings.TrimSpace(before))
			return []change{{func() {}, []string{"192.0.2.1"}}, {func() { put(t, path, strings.TrimSpace(later)) }, []string{"192.0.2.1", "192.0.2.2", "192.0.2.2"}}}
		},
		"filled with nonsense": func(t *testing.T, _, path string) []change {
			put(t, path, before)
			return []change{{func() { put(t, path, strings.Repeat("\x00\xff nameserver\n", 1<<16)) }, []string{"192.0.2.1", ""}}, {func() { put(t, path, later) }, []string{"192.0.2.2"}}}
		},
		"no file but a directory": func(t *testing.T, _, path string) []change {
			do(t, os.MkdirAll(path, 0o755))
			return []change{{func() {}, []string{""}}, {func() { do(t, os.Remove(path)); put(t, path, later) }, []string{"192.0.2.2"}}}
		},
		"no file but a pipe that nobody writes to": func(t *testing.T, _, path string) []change {
			do(t, os.MkdirAll(filepath.Dir(path), 0o755))
			do(t, syscall.Mkfifo(path, 0o644))
			return []change{{func() {}, []string{""}}, {func() { do(t, os.Remove(path)); put(t, path, later) }, []string{"192.0.2.2"}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			watch(t, filepath.Join(dir, "etc/resolv.conf"), func(path string) []change { return test(t, dir, path) })
		})
	}
}

// watch has a resolver follow a file while it changes, with a second between looks.
func watch(t *testing.T, path string, changes func(path string) []change) {
	all := changes(path)
	synctest.Test(t, func(t *testing.T) {
		r := resolver(t, Config{ResolvConf: path})
		for i, c := range all {
			was := servers(r)
			c.do()
			if now := servers(r); !slices.Equal(now, was) {
				t.Errorf("change %d was seen within the same second: the file is read too often", i)
			}
			for j, s := range c.then {
				time.Sleep(lookEvery)
				var want []netip.AddrPort
				if s != "" {
					want = append(want, at(s))
				}
				if got := servers(r); !slices.Equal(got, want) {
					t.Fatalf("change %d, look %d: servers %v, expected %v", i, j, got, want)
				}
			}
		}
	})
}

// mounts gives the test a mount namespace of its own, and a directory in it.
func mounts(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	dir := t.TempDir()
	runtime.LockOSThread() // never unlocked: the thread, and with it the namespace, ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		t.Skipf("no mount namespace: %v", err)
	}
	do(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	do(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
	t.Cleanup(func() { do(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// look has the file looked at, as a question a second later does.
func look(r *Resolver, now *time.Time) []netip.AddrPort {
	*now = now.Add(lookEvery)
	r.follow(*now)
	return r.view.Load().conf.Servers
}

func TestBindMountedFileIsFollowed(t *testing.T) {
	dir := mounts(t)
	source, path := filepath.Join(dir, "source"), filepath.Join(dir, "resolv.conf")
	put(t, source, before)
	put(t, path, "")
	do(t, unix.Mount(source, path, "", unix.MS_BIND, ""))
	r := resolver(t, Config{ResolvConf: path})
	now := time.Now()
	if got := look(r, &now); !slices.Equal(got, []netip.AddrPort{one}) {
		t.Errorf("at first: %v", got)
	}
	put(t, source, later)
	if got := look(r, &now); !slices.Equal(got, []netip.AddrPort{two}) {
		t.Errorf("written through the mount's source: %v", got)
	}
	put(t, source+".new", before)
	do(t, os.Rename(source+".new", source))
	do(t, unix.Unmount(path, 0))
	do(t, unix.Mount(source, path, "", unix.MS_BIND, ""))
	if got := look(r, &now); !slices.Equal(got, []netip.AddrPort{one}) {
		t.Errorf("mounted anew: %v", got)
	}
}

func TestFileOnAnOverlayIsFollowed(t *testing.T) {
	dir := mounts(t)
	merged := filepath.Join(dir, "merged")
	for _, d := range []string{"upper", "work", "merged"} {
		do(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	put(t, filepath.Join(dir, "lower/resolv.conf"), before)
	options := "lowerdir=" + dir + "/lower,upperdir=" + dir + "/upper,workdir=" + dir + "/work"
	if err := unix.Mount("overlay", merged, "overlay", 0, options); err != nil {
		t.Skipf("no overlayfs: %v", err)
	}
	path := filepath.Join(merged, "resolv.conf")
	r := resolver(t, Config{ResolvConf: path})
	now := time.Now()
	if got := look(r, &now); !slices.Equal(got, []netip.AddrPort{one}) {
		t.Errorf("at first: %v", got)
	}
	put(t, path, later) // copied up
	if got := look(r, &now); !slices.Equal(got, []netip.AddrPort{two}) {
		t.Errorf("copied up: %v", got)
	}
}

func TestWithoutServersThereIsAReason(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	put(t, empty, "# nothing\n")
	for path, says := range map[string]string{
		filepath.Join(dir, "none"): "no such file",
		empty:                      empty + " names none",
		dir:                        "no regular file",
	} {
		_, err := resolver(t, Config{ResolvConf: path}).Forward(t.Context(), query("example.com.", dns.TypeA), false)
		if !errors.Is(err, ErrNoServers) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "--dns") {
			t.Errorf("%s: got %v, expected that it says %q", path, err, says)
		}
	}
}

func TestOtherServersAreAskedAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	put(t, path, "search a.example\n"+before)
	synctest.Test(t, func(t *testing.T) {
		w := wires{one: after(0, always(dns.RcodeSuccess, "example.com. 60 A 192.0.2.1")), two: after(0, always(dns.RcodeSuccess, "example.com. 60 A 192.0.2.2"))}
		r := resolver(t, Config{ResolvConf: path, Dial: w.dial})
		expect := func(server netip.AddrPort, cached bool) {
			t.Helper()
			_, trace, err := took(t, r, "example.com.")
			if err != nil || trace.Server != server || trace.Cached != cached {
				t.Errorf("%+v, %v; expected %v, cached %v", trace, err, server, cached)
			}
		}
		expect(one, false)
		put(t, path, "search b.example\n"+before)
		time.Sleep(lookEvery)
		if s := r.Search(); !slices.Equal(s, []string{"b.example"}) {
			t.Errorf("search list %q", s)
		}
		expect(one, true)
		put(t, path, later)
		time.Sleep(lookEvery)
		expect(two, false)
		expect(two, true)
		if s := r.Stats().Servers; len(s) != 1 || s[0].Address != two || s[0].Answers != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestOptionsOfTheFileAreHeeded(t *testing.T) {
	for name, test := range map[string]struct {
		options string
		want    time.Duration
		from    netip.AddrPort
	}{
		"timeout":                    {"timeout:1", time.Second, two},
		"a timeout beyond the whole": {"timeout:30", 1250 * time.Millisecond, two},
		"attempts":                   {"attempts:1", 2500 * time.Millisecond, two},
		"use-vc":                     {"use-vc", 3 * time.Second / 4, one},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "resolv.conf")
			put(t, path, before+later+"options "+test.options+"\n")
			synctest.Test(t, func(t *testing.T) {
				w := wires{two: after(0, sound), one: func(h heard, conn net.Conn) {
					if h.network == "tcp" {
						after(3*time.Second/4, sound)(h, conn)
					}
				}}
				d, trace, err := took(t, resolver(t, Config{ResolvConf: path, Dial: w.dial}), "example.com.")
				if err != nil || d != test.want || trace.Server != test.from || trace.TCP != (test.from == one) {
					t.Errorf("took %v: %+v, %v; expected %v from %v", d, trace, err, test.want, test.from)
				}
			})
		})
	}
	t.Run("rotate", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		put(t, path, before+later+"options rotate\n")
		synctest.Test(t, func(t *testing.T) {
			w := wires{one: after(0, sound), two: after(0, sound)}
			r := resolver(t, Config{ResolvConf: path, Dial: w.dial, Entries: -1})
			for range 10 {
				took(t, r, "example.com.")
			}
			if s := r.Stats().Servers; s[0].Asked != 5 || s[1].Asked != 5 {
				t.Errorf("%+v", s)
			}
		})
	})
}
