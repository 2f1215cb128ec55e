package doctor

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/engine/userns"
)

// asUser marks the environment of this test program run as an ordinary user, to check the real host.
const asUser = "DOCTOR_TEST_AS_USER"

func TestMain(m *testing.M) {
	if slices.Equal(os.Args[1:], ProbeArgs) {
		if err := Probe(os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(asUser) != "" {
		for _, c := range Host(Options{Dir: os.TempDir()}) {
			fmt.Printf("%s|%s|%s|%s\n", c.Name, c.Level, c.Found, c.Remedy)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// sound is an ordinary user's host that lacks nothing; files are those of its file system.
func sound(t *testing.T, files map[string]string) system {
	t.Helper()
	s := system{
		root: t.TempDir(), uid: 1000, user: "alice", rootless: true,
		openTUN:  func() error { return nil },
		features: func() (uint32, error) { return unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE, nil },
		probe:    func() Finding { return Finding{Step: Done, Offloads: "csum,tso4,tso6,ecn,uso"} },
		ping:     func(int) error { return nil },
		look:     func(string) error { return nil },
		clock:    func() (int, int, error) { return 0, unix.TIME_OK, nil },
		space: func(string) (unix.Statfs_t, error) {
			return unix.Statfs_t{Bsize: 4096, Bavail: 1 << 20, Files: 1 << 20, Ffree: 1 << 19}, nil
		},
		writable: func(string) error { return nil },
	}
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	all := map[string]string{
		"/proc/sys/user/max_user_namespaces":                "15000\n",
		"/proc/sys/net/ipv4/ip_unprivileged_port_start":     "80\n",
		"/proc/sys/net/core/rmem_max":                       "4194304\n",
		"/proc/sys/net/core/wmem_max":                       "4194304\n",
		"/proc/sys/net/ipv4/ip_local_port_range":            "32768\t60999\n",
		"/proc/sys/net/ipv4/ping_group_range":               "1\t0\n",
		"/proc/self/limits":                                 limits("1048576"),
		"/etc/resolv.conf":                                  "nameserver 192.0.2.53\n",
		"/proc/self/net/tcp":                                head,
		"/proc/self/net/udp":                                head,
		"/etc/subuid":                                       "bob:1:1\nalice:100000:65536\n",
		"/etc/subgid":                                       "alice:1:1\n1000:100000:65536\n",
		"/run/systemd/system/x":                             "",
		"/var/lib/systemd/linger/alice":                     "",
		"/home/alice/x":                                     "",
		"/proc/sys/kernel/unprivileged_userns_clone":        "1\n",
		"/proc/sys/kernel/apparmor_restrict_unprivileged_x": "1\n",
	}
	for name, text := range files {
		all[name] = text
	}
	for name, text := range all {
		if text == absent {
			continue
		}
		if strings.HasPrefix(name, "/proc/self/net/") && !strings.HasPrefix(text, head) {
			text = head + text
		}
		put(t, s.path(name), text)
	}
	return s
}

// limits are those of a process, that on open files being this.
func limits(hard string) string {
	return fmt.Sprintf("Limit                     Soft Limit           Hard Limit           Units     \n"+
		"Max processes             63451                63451                processes \n"+
		"Max open files            1024                 %-20s files     \n", hard)
}

// absent stands for a file that is not there.
const absent = "\x00"

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

var options = Options{Dir: "/home/alice/.local/share/weft", Ports: Ports{API: 7373, Gossip: 7946, VXLAN: 4789}}

func TestSoundHostHasNothingToDo(t *testing.T) {
	for _, rootless := range []bool{true, false} {
		s := sound(t, nil)
		s.rootless = rootless
		for _, c := range examine(options, s) {
			if c.Level != api.CheckOK || c.Found == "" || c.Remedy != "" {
				t.Errorf("rootless %v: %+v", rootless, c)
			}
		}
	}
}

func TestRootIsNotAskedForWhatUsersNeed(t *testing.T) {
	s := sound(t, map[string]string{"/etc/subuid": absent, "/proc/sys/net/core/rmem_max": "212992\n", "/var/lib/systemd/linger/alice": absent})
	s.rootless, s.uid, s.user = false, 0, "root"
	s.look = func(string) error { return exec.ErrNotFound }
	for _, c := range examine(options, s) {
		if c.Level != api.CheckOK {
			t.Errorf("%+v", c)
		}
	}
}

// A row has one thing wrong with the sound host; exactly the named check sees it.
func TestFaultsAreNamedWithTheirRemedy(t *testing.T) {
	held := func(table, line string) map[string]string { return map[string]string{"/proc/self/net/" + table: line} }
	const (
		tcpLine  = "   0: 00000000:%s 00000000:0000 0A 00000000:00000000 00:00000000 00000000  %d        0 77 1 0 100\n"
		udpLine  = "   0: 00000000:%s 00000000:0000 07 00000000:00000000 00:00000000 00000000  %d        0 77 2 0 0\n"
		udp6Line = "   0: 00000000000000000000000000000000:%s 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000  %d        0 77 2 0 0\n"
	)
	noUsers := func(s *system) { s.probe = func() Finding { return Finding{Step: UserNamespace, Error: "EPERM"} } }
	for name, test := range map[string]struct {
		files  map[string]string
		change func(*system)
		check  string
		level  string
		found  string
		remedy string
	}{
		"no tun driver":       {change: func(s *system) { s.openTUN = func() error { return unix.ENOENT } }, check: "tun device", level: "fail", found: "is not there", remedy: "modprobe tun"},
		"a driver not loaded": {change: func(s *system) { s.openTUN = func() error { return unix.ENODEV } }, check: "tun device", level: "fail", found: "is not there", remedy: "modprobe tun"},
		"tun for root only": {change: func(s *system) { s.openTUN = func() error { return unix.EACCES } }, check: "tun device", level: "fail",
			found: "cannot be opened by user alice", remedy: "70-weft-tun.rules"},
		"a strange tun": {change: func(s *system) { s.openTUN = func() error { return unix.EIO } }, check: "tun device", level: "fail", found: "input/output", remedy: "dmesg"},
		"user namespaces off": {files: map[string]string{"/proc/sys/user/max_user_namespaces": "0\n"}, change: noUsers,
			check: "namespaces", level: "fail", found: "no user namespace for user alice: EPERM", remedy: "sysctl -w user.max_user_namespaces=15000"},
		"user namespaces for root only": {files: map[string]string{"/proc/sys/kernel/unprivileged_userns_clone": "0\n"}, change: noUsers,
			check: "namespaces", level: "fail", found: "no user namespace", remedy: "kernel.unprivileged_userns_clone=1"},
		"AppArmor in the way": {files: map[string]string{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"},
			change: func(s *system) {
				s.probe = func() Finding { return Finding{Step: NetworkNamespace, Error: "EPERM"} }
			},
			check: "namespaces", level: "fail", found: "no network namespace", remedy: "packaging/apparmor/weft"},
		"network namespaces off": {files: map[string]string{"/proc/sys/user/max_net_namespaces": "0\n"}, change: noUsers,
			check: "namespaces", level: "fail", remedy: "user.max_net_namespaces"},
		"a filter in the way": {change: noUsers, check: "namespaces", level: "fail", remedy: "seccomp"},
		"a device that cannot be made": {change: func(s *system) { s.probe = func() Finding { return Finding{Step: Device, Error: "EBUSY"} } },
			check: "tap device", level: "fail", found: "EBUSY", remedy: "dmesg"},
		"a plain driver": {change: func(s *system) { s.probe = func() Finding { return Finding{Step: Done} } },
			check: "offloads", level: "warn", found: "alone", remedy: "virtio_net_hdr"},
		"a driver without TSO": {change: func(s *system) { s.probe = func() Finding { return Finding{Step: Done, Offloads: "csum"} } },
			check: "offloads", level: "warn", found: "csum: TCP", remedy: "newer"},
		"a driver with one queue": {change: func(s *system) { s.features = func() (uint32, error) { return unix.IFF_VNET_HDR, nil } },
			check: "offloads", level: "warn", found: "one queue", remedy: "newer"},
		"no nsenter":   {change: lacks("nsenter"), check: "nsenter", level: "fail", remedy: "util-linux"},
		"no newuidmap": {change: lacks("newuidmap"), check: "subordinate ids", level: "warn", found: "newuidmap is not installed", remedy: "uidmap"},
		"no newgidmap": {change: lacks("newgidmap"), check: "subordinate ids", level: "warn", found: "newgidmap is not installed", remedy: "uidmap"},
		"no subuid":    {files: map[string]string{"/etc/subuid": absent}, check: "subordinate ids", level: "warn", found: "/etc/subuid is not there", remedy: "usermod"},
		"subgid of others": {files: map[string]string{"/etc/subgid": "bob:1:1000\nalice:1\nalice:1:x\n"}, check: "subordinate ids", level: "warn",
			found: "/etc/subgid grants nothing to user alice", remedy: "usermod"},
		"low ports for root": {files: map[string]string{"/proc/sys/net/ipv4/ip_unprivileged_port_start": "1024\n"}, check: "low ports", level: "warn",
			found: "from 1024 on", remedy: "net.ipv4.ip_unprivileged_port_start=80"},
		"no lingering": {files: map[string]string{"/var/lib/systemd/linger/alice": absent}, check: "lingering", level: "warn", found: "logout", remedy: "loginctl enable-linger alice"},
		"API port taken": {files: held("tcp", fmt.Sprintf(tcpLine, "1CCD", 1001)), check: "port 7373/tcp", level: "fail",
			found: "a process of user 1001, or the kernel", remedy: "--listen-port"},
		"gossip's TCP port taken": {files: held("tcp6", fmt.Sprintf(strings.Replace(udp6Line, " 07 ", " 0A ", 1), "1F0A", 1001)), check: "port 7946/tcp", level: "fail",
			found: "user 1001", remedy: "--gossip-port"},
		"gossip's UDP port taken": {files: held("udp", fmt.Sprintf(udpLine, "1F0A", 1001)), check: "port 7946/udp", level: "fail", found: "user 1001", remedy: "--gossip-port"},
		"VXLAN's port taken on IPv6": {files: held("udp6", fmt.Sprintf(udp6Line, "12B5", 0)), check: "port 4789/udp", level: "fail",
			found: "a process of user 0, or the kernel", remedy: "--vxlan-port"},
		"a kernel VXLAN device": {files: held("udp", fmt.Sprintf(udpLine, "12B5", 0)), change: func(s *system) { s.uid = 0 }, check: "port 4789/udp", level: "fail",
			found: "VXLAN device", remedy: "ip -d link show type vxlan"},
		"a port of another program": {files: held("udp", fmt.Sprintf(udpLine, "12B5", 0)), change: process("dnsmasq"), check: "port 4789/udp", level: "fail",
			found: "process 123 (dnsmasq) holds it", remedy: "stop it"},
		"sockets that cannot be read": {files: held("tcp", "   0: zz 00000000:0000 0A 0 0 0 0 0 0 0 0\n"), check: "port 7373/tcp", level: "warn", found: "none of a socket", remedy: "ss"},
		"small receive buffers": {files: map[string]string{"/proc/sys/net/core/rmem_max": "212992\n"}, check: "socket buffers", level: "warn",
			found: "net.core.rmem_max is 212992", remedy: "net.core.rmem_max=4194304"},
		"small send buffers": {files: map[string]string{"/proc/sys/net/core/wmem_max": "212992\n"}, check: "socket buffers", level: "warn",
			found: "net.core.wmem_max is 212992", remedy: "net.core.wmem_max=4194304"},
		"pings not allowed":       {change: pings(unix.EACCES, unix.EACCES), check: "ping", level: "warn", found: `net.ipv4.ping_group_range is "1 0"`, remedy: "sysctl -w 'net.ipv4.ping_group_range=0 2147483647'"},
		"pings filtered":          {change: pings(unix.EPERM, unix.EPERM), check: "ping", level: "warn", found: "no ping socket for IPv4: operation not permitted", remedy: "seccomp"},
		"pings filtered for IPv6": {change: pings(nil, unix.EPERM), check: "ping", level: "warn", found: "no ping socket for IPv6", remedy: "seccomp"},
		"a kernel without pings":  {change: pings(unix.EPROTONOSUPPORT, nil), check: "ping", level: "warn", found: "IPv4: protocol not supported", remedy: "outside"},
		"few local ports": {files: map[string]string{"/proc/sys/net/ipv4/ip_local_port_range": "60000\t60999\n"}, check: "local ports", level: "warn",
			found: "1000 ports", remedy: "sysctl -w 'net.ipv4.ip_local_port_range=32768 60999'"},
		"no local ports at all": {files: map[string]string{"/proc/sys/net/ipv4/ip_local_port_range": "60999\t60000\n"}, check: "local ports", level: "warn", found: ": 0 ports", remedy: "sysctl -w"},
		"strange local ports":   {files: map[string]string{"/proc/sys/net/ipv4/ip_local_port_range": "x y\n"}, check: "local ports", level: "warn", found: "not two numbers", remedy: "sysctl"},
		"few open files": {files: map[string]string{"/proc/self/limits": limits("4096")}, check: "open files", level: "warn", found: "4096 at most for this session",
			remedy: `"alice hard nofile 1048576"`},
		"unknown open files": {files: map[string]string{"/proc/self/limits": absent}, check: "open files", level: "warn", found: "no such file", remedy: "ulimit"},
		"no resolv.conf":     {files: map[string]string{"/etc/resolv.conf": absent}, check: "name servers", level: "warn", found: "no such file", remedy: "--dns"},
		"no server in it":    {files: map[string]string{"/etc/resolv.conf": "nameserver example.com\nsearch example.com\n"}, check: "name servers", level: "warn", found: "names none", remedy: "nameserver ADDRESS"},
		"a clock by itself": {change: func(s *system) { s.clock = func() (int, int, error) { return unix.STA_UNSYNC, unix.TIME_ERROR, nil } },
			check: "clock", level: "warn", found: "nothing synchronises", remedy: "timedatectl"},
		"a clock that cannot be asked": {change: func(s *system) { s.clock = func() (int, int, error) { return 0, 0, unix.EPERM } },
			check: "clock", level: "warn", found: "not permitted", remedy: "date -u"},
		"a full disk":       {change: left(4<<20, 5000), check: "data directory", level: "fail", found: "/home/alice has 4 MB left", remedy: "make room"},
		"a nearly full one": {change: left(100<<20, 5000), check: "data directory", level: "warn", found: "100 MB left", remedy: "make room"},
		"few files left":    {change: left(1<<30, 5), check: "data directory", level: "warn", found: "room for 5 more files", remedy: "remove files"},
		"a directory of others": {change: func(s *system) { s.writable = func(string) error { return unix.EACCES } }, check: "data directory", level: "fail",
			found: "/home/alice cannot be written by user alice", remedy: "--data-dir"},
		"a file where the directory goes": {files: map[string]string{"/home/alice/.local": ""}, check: "data directory", level: "fail", found: "not a directory", remedy: "--data-dir"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sound(t, test.files)
			if test.change != nil {
				test.change(&s)
			}
			seen := false
			for _, c := range examine(options, s) {
				if c.Name != test.check {
					if c.Level != api.CheckOK && !strings.HasPrefix(name, "sockets that") {
						t.Errorf("sees another fault too: %+v", c)
					}
					continue
				}
				seen = true
				if c.Level != test.level || !strings.Contains(c.Found, test.found) || !strings.Contains(c.Remedy, test.remedy) {
					t.Errorf("%+v; want %s, %q and %q", c, test.level, test.found, test.remedy)
				}
			}
			if !seen {
				t.Errorf("no check %q", test.check)
			}
		})
	}
}

func lacks(program string) func(*system) {
	return func(s *system) {
		s.look = func(p string) error {
			if p == program {
				return exec.ErrNotFound
			}
			return nil
		}
	}
}

func pings(v4, v6 error) func(*system) {
	return func(s *system) {
		s.ping = func(family int) error {
			if family == unix.AF_INET {
				return v4
			}
			return v6
		}
	}
}

func left(bytes, files uint64) func(*system) {
	return func(s *system) {
		s.space = func(string) (unix.Statfs_t, error) {
			return unix.Statfs_t{Bsize: 1, Bavail: bytes, Files: 10000, Ffree: files}, nil
		}
	}
}

// process makes a process 123 that has the socket with inode 77.
func process(command string) func(*system) {
	return func(s *system) {
		fds := s.path("/proc/123/fd")
		err := os.MkdirAll(fds, 0o755)
		if err == nil {
			err = os.Symlink("socket:[77]", filepath.Join(fds, "5"))
		}
		if err == nil {
			err = os.WriteFile(s.path("/proc/123/comm"), []byte(command+"\n"), 0o644)
		}
		if err != nil {
			panic(err)
		}
	}
}

func TestPortsOfTheAgentItselfAreFine(t *testing.T) {
	s := sound(t, map[string]string{"/proc/self/net/udp": "   0: 0100007F:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 77 2 0 0\n"})
	process("weft")(&s)
	vxlan := use{"udp", 4789, "VXLAN", "--vxlan-port"}
	if c := s.port(vxlan, 123); c.Level != api.CheckOK || c.Found != "held by the agent for VXLAN" {
		t.Errorf("%+v", c)
	}
	if c := s.port(vxlan, 0); c.Level != api.CheckFail || !strings.Contains(c.Found, "process 123 (weft)") {
		t.Errorf("another user's agent: %+v", c)
	}
}

func TestConnectionsFromAPortDoNotHoldIt(t *testing.T) {
	s := sound(t, map[string]string{"/proc/self/net/tcp": "   0: 0100007F:1CCD 0100007F:0050 01 00000000:00000000 00:00000000 00000000  1000        0 77 2 0 0\n"})
	if c := s.port(use{"tcp", 7373, "node API", "--listen-port"}, 0); c.Level != api.CheckOK {
		t.Errorf("%+v", c)
	}
}

// The real table of this host shows a port while it is held, by whom, and not after.
func TestPortIsSeenOnThisHost(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Logf("without IPv6: %v", err)
		if udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	s := here()
	tcpPort := uint16(lis.Addr().(*net.TCPAddr).Port)
	udpPort := uint16(udp.LocalAddr().(*net.UDPAddr).Port)
	want := fmt.Sprintf("process %d (", os.Getpid())
	for network, port := range map[string]uint16{"tcp": tcpPort, "udp": udpPort} {
		if c := s.port(use{network, port, "it", "--x"}, 0); c.Level != api.CheckFail || !strings.Contains(c.Found, want) {
			t.Errorf("%s: %+v; want %q", network, c, want)
		}
	}
	lis.Close()
	udp.Close()
	for network, port := range map[string]uint16{"tcp": tcpPort, "udp": udpPort} {
		if c := s.port(use{network, port, "it", "--x"}, 0); c.Level != api.CheckOK {
			t.Errorf("%s: %+v after it was closed", network, c)
		}
	}
}

func TestOuterReadsTheMapOfAUserNamespace(t *testing.T) {
	for _, test := range []struct {
		uids      string
		uid, want int
	}{
		{"         0          0 4294967295\n", 1000, 1000},
		{"         0       1000          1\n", 0, 1000},
		{"0 1000 1\n1 100000 65536\n", 33, 100032},
		{"0 1000 1\n", 5, 5},
		{"", 7, 7},
		{"x y z\n1\n", 7, 7},
	} {
		if got := outer(test.uids, test.uid); got != test.want {
			t.Errorf("%d by %q is %d; want %d", test.uid, test.uids, got, test.want)
		}
	}
}

func TestTrialMakesADeviceAndLeavesNone(t *testing.T) {
	if !userns.Privileged() {
		t.Skip("needs CAP_SYS_ADMIN and CAP_NET_ADMIN")
	}
	if err := openTUN(); err != nil {
		t.Skipf("needs %s: %v", device, err)
	}
	before, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	if f := here().probe(); f.Step != Done {
		t.Fatalf("%+v", f)
	}
	after, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(before) {
		t.Errorf("%d interfaces; there were %d", len(after), len(before))
	}
}

// An ordinary user's trial is a child in a user namespace.
func TestTrialOfAnOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	for _, test := range []struct {
		mode  string // of /dev/net/tun
		want  []string
		wrong string
	}{
		{"0666", []string{"tun device|ok", "namespaces|ok", "offloads|ok"}, "tap device"},
		{"0600", []string{"tun device|fail|/dev/net/tun cannot be opened by user nobody", "namespaces|ok"}, "tap device"},
	} {
		said := asNobody(t, test.mode)
		for _, want := range test.want {
			if !strings.Contains(said, want) {
				t.Errorf("mode %s: %q is not in\n%s", test.mode, want, said)
			}
		}
		if strings.Contains(said, test.wrong) {
			t.Errorf("mode %s: %q is in\n%s", test.mode, test.wrong, said)
		}
	}
}

// withDriver runs $0 as nobody, with a tun device of mode $1 in a mount namespace of its own, so that the machine stays as
// it is.
const withDriver = `
dir=$(dirname "$0")/dev
mkdir "$dir"
mount -t tmpfs -o mode=0755 tmpfs "$dir"
mknod -m "$1" "$dir/tun" c 10 200
mount --bind "$dir/tun" /dev/net/tun
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$0"`

// asNobody runs a copy of this test program, below no directory of root's, as an ordinary user that checks this host.
func asNobody(t *testing.T, mode string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "doctor")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "doctor.test")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(binary, program, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-ec", withDriver, binary, mode)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), asUser+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func FuzzParseSockets(f *testing.F) {
	f.Add("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"+
		" 8404: 00000000:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 11085096 2 0 0\n", false)
	f.Add("   0: 0100007F:1CCD 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 77 1 0 100 0 0 10 0\n", true)
	f.Add("   0: 0100007F 0 zz 0 0 0 0 0 0\n", true)
	f.Fuzz(func(t *testing.T, table string, tcp bool) {
		all, err := parseSockets(strings.NewReader(table), tcp)
		if len(all) > strings.Count(table, "\n")+1 {
			t.Errorf("%d sockets in %q (%v)", len(all), table, err)
		}
	})
}

func FuzzGrants(f *testing.F) {
	f.Add("alice:100000:65536\nbob:1:1\n", "alice")
	f.Add("1000:1:4294967295\n", "x")
	f.Add(":::\n", "")
	f.Fuzz(func(t *testing.T, text, name string) {
		if n := grants(strings.NewReader(text), name, "1000"); n > 0 && !strings.Contains(text, name+":") && !strings.Contains(text, "1000:") {
			t.Errorf("%q grants %d to %q", text, n, name)
		}
	})
}
