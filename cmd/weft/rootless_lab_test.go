package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/engine/process"
	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/tap"
)

// nobody is an ordinary user.
const nobody = 65534

// withDriver marks the environment of the tests that run again where every user may open the tun driver.
const withDriver = "WEFT_TEST_WITH_DRIVER"

// openDriver runs its arguments. Some machines keep /dev/net/tun to root: in a mount namespace of its own another node
// takes its place, so that the machine stays as it is.
const openDriver = `
dir=$1; shift
mount -t tmpfs -o mode=0755 tmpfs "$dir"
mknod -m 0666 "$dir/tun" c 10 200
mount --bind "$dir/tun" /dev/net/tun
exec "$@"`

// again runs a test again, as root with the driver for every user. It returns false there.
func again(t *testing.T) bool {
	t.Helper()
	if os.Getuid() != 0 || lab.Unprivileged() {
		t.Skip("only root can become another user")
	}
	if os.Getenv(withDriver) != "" {
		return false
	}
	cmd := exec.Command("sh", "-ec", openDriver, "sh", t.TempDir(), executable(t), "-test.v", "-test.run", "^"+t.Name()+"$")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	cmd.Env = append(os.Environ(), withDriver+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("%v\n%s", err, out)
	}
	return true
}

func executable(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	lab.Must(t, err)
	return path
}

// user is an ordinary user on a host, who has weft, a home, a directory for sockets, and no privilege.
type user struct {
	*lab.Host
	t      testing.TB
	addr   netip.Addr
	binary string
	home   string
	env    []string
	engine []string // how the user's commands get into an engine's user namespace, if they do
	agent  *lab.Cmd
	said   *lab.Journal
}

// users makes a user on each of some hosts, which share a wire. When the test ends, nothing may be left of what they did.
func users(t testing.TB, names ...string) []*user {
	t.Helper()
	top, err := os.MkdirTemp("/tmp", "weft-user") // short, for sockets, and open to others
	lab.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(top) })
	lab.Must(t, os.Chmod(top, 0o755))
	binary := filepath.Join(top, "weft")
	self, err := os.ReadFile(executable(t))
	lab.Must(t, err)
	lab.Must(t, os.WriteFile(binary, self, 0o755))
	wire := lab.T(t, "wire")
	lab.Must(t, wire.Bridge("br0"))
	var all []*user
	for i, name := range names {
		u := &user{
			Host: lab.T(t, name), t: t, addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), binary: binary, home: filepath.Join(top, name),
		}
		lab.Must(t, lab.Link(u.Host, wire, lab.LinkOptions{
			Names: [2]string{"eth0", name}, Masters: [2]string{"", "br0"}, Addresses: [2][]netip.Prefix{{netip.PrefixFrom(u.addr, 24)}},
		}))
		for _, dir := range []string{u.home, u.runtime()} {
			lab.Must(t, os.Mkdir(dir, 0o700))
			lab.Must(t, os.Chown(dir, nobody, nobody))
		}
		u.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + u.home, "XDG_RUNTIME_DIR=" + u.runtime()}
		all = append(all, u)
	}
	t.Cleanup(func() {
		left := running(t, binary)
		for end := time.Now().Add(10 * time.Second); !t.Failed() && len(left) > 0 && time.Now().Before(end); left = running(t, binary) {
			time.Sleep(20 * time.Millisecond)
		}
		for _, p := range left {
			t.Errorf("process %d is left", p.PID)
			_ = p.Signal(unix.SIGKILL)
		}
	})
	return all
}

func (u *user) runtime() string { return filepath.Join(u.home, "run") }
func (u *user) data() string    { return filepath.Join(u.home, ".local/share/weft") }

// running returns the processes that run a binary, or have their home beside it.
func running(t testing.TB, binary string) (list []process.Process) {
	t.Helper()
	all, err := process.All()
	lab.Must(t, err)
	for pid := range all {
		p, err := process.Find(pid)
		exe, exeErr := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		env, envErr := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if errors.Join(err, exeErr, envErr) == nil && (exe == binary || bytes.Contains(env, []byte("HOME="+filepath.Dir(binary)))) {
			list = append(list, p)
		}
	}
	return list
}

// nobodyLeft is an error as long as anything of the user's runs, on any host.
func nobodyLeft(t testing.TB, u *user) error {
	if left := running(t, u.binary); len(left) > 0 {
		return fmt.Errorf("processes %v", left)
	}
	return nil
}

// command is a program that the user runs.
func (u *user) command(program string, args ...string) *lab.Cmd {
	line := slices.Concat(u.engine, []string{program}, args)
	cmd := u.Command(line[0], line[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Setsid: true}
	cmd.Dir, cmd.Env = u.home, u.env
	return cmd
}

// try runs weft as the user.
func (u *user) try(args ...string) outcome {
	u.t.Helper()
	cmd := u.command(u.binary, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		u.t.Fatalf("weft %s: %v", strings.Join(args, " "), err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// weft runs weft as the user, which must succeed, and returns what it printed.
func (u *user) weft(args ...string) string {
	u.t.Helper()
	o := u.try(args...)
	if o.status != 0 {
		u.t.Fatalf("on %s, weft %s: status %d: %s%s\nits agent said:\n%s", u.Name(), strings.Join(args, " "), o.status, o.stdout, o.stderr, u.said)
	}
	return strings.TrimSpace(o.stdout)
}

// start runs the user's agent and waits until it answers.
func (u *user) start() {
	u.t.Helper()
	u.said = &lab.Journal{}
	u.agent = u.command(u.binary, "agent", "--log-level", "debug")
	u.agent.Stdout, u.agent.Stderr = u.said, u.said
	lab.Must(u.t, u.agent.Start())
	u.eventually("the agent answers", func() error {
		if o := u.try("status"); o.status != 0 {
			return errors.New(o.stderr)
		}
		return nil
	})
}

// stop ends the agent by a signal.
func (u *user) stop(s unix.Signal) {
	u.t.Helper()
	lab.Must(u.t, u.agent.Process.Signal(s))
	if err := u.agent.Wait(); err != nil && s != unix.SIGKILL {
		u.t.Errorf("the agent of %s ended: %v\n%s", u.Name(), err, u.said)
	}
}

func (u *user) eventually(what string, try func() error) {
	u.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			u.t.Fatalf("host %s: not in time: %s: %v\nits agent said:\n%s", u.Name(), what, err, u.said)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// reaches waits until a container gets answers from an address.
func (u *user) reaches(container string, addr netip.Addr) {
	u.t.Helper()
	u.eventually(container+" reaches "+addr.String(), func() error {
		if o := u.try("exec", container, "--", "ping", "-n", "-c", "3", "-i", "0.05", "-W", "1", addr.String()); o.status != 0 {
			return fmt.Errorf("status %d: %s%s", o.status, o.stdout, o.stderr)
		}
		return nil
	})
}

// container is what weft ps says of one.
type container struct {
	Name    string
	State   string
	Process struct{ PID int }

	Endpoints []struct{ Addresses []netip.Prefix }
}

func (u *user) container(name string) (c container) {
	u.t.Helper()
	var all []container
	lab.Must(u.t, json.Unmarshal([]byte(u.weft("ps", "-a", "--json")), &all))
	for _, c := range all {
		if c.Name == name {
			return c
		}
	}
	u.t.Fatalf("weft ps has no %s: %+v", name, all)
	return c
}

// guest is a network namespace that weft has not made, with a process in it.
type guest struct {
	cmd *lab.Cmd
	pid int
	in  io.WriteCloser
	out io.Reader
}

// guest starts the process, by a program that makes the namespace and runs its arguments there.
func (u *user) guest(program ...string) *guest {
	u.t.Helper()
	g := &guest{cmd: u.command(program[0], append(program[1:], "sh", "-c", `echo $$; read line && ping -q -c 1 -W 2 "$line"; exec cat`)...)}
	var err error
	g.in, err = g.cmd.StdinPipe()
	lab.Must(u.t, err)
	g.out, err = g.cmd.StdoutPipe()
	lab.Must(u.t, err)
	lab.Must(u.t, g.cmd.Start())
	_, err = fmt.Fscanln(g.out, &g.pid)
	lab.Must(u.t, err)
	return g
}

// ping sends one echo request, and ends the guest.
func (g *guest) ping(addr netip.Addr) error {
	_, err := fmt.Fprintln(g.in, addr)
	g.in.Close()
	got, readErr := io.ReadAll(g.out)
	if err := errors.Join(err, readErr); err != nil || !bytes.Contains(got, []byte(" 1 received")) {
		return fmt.Errorf("ping %s: %w: %s", addr, err, got)
	}
	return nil
}

// contain runs a container in the background and returns its address.
func (u *user) contain(name string) netip.Addr {
	u.t.Helper()
	if got := u.weft("run", "-d", "--name", name, "--network", "net1", "--", "sleep", "3600"); got != name {
		u.t.Fatalf("weft run -d printed %q", got)
	}
	return u.container(name).Endpoints[0].Addresses[0].Addr()
}

// namespace is the network of a process.
func namespace(pid int) tap.Namespace { return tap.ByPID(pid) }

// dial makes a TCP connection from one container's process to another's.
func dial(t testing.TB, from, to int, addr netip.Addr) (client, server net.Conn) {
	t.Helper()
	var lis net.Listener
	lab.Must(t, namespace(to).Do(func() (err error) {
		lis, err = net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
		return err
	}))
	defer lis.Close()
	lab.Must(t, namespace(from).Do(func() (err error) {
		client, err = net.DialTimeout("tcp", lis.Addr().String(), 10*time.Second)
		return err
	}))
	server, err := lis.Accept()
	lab.Must(t, err)
	for _, c := range []net.Conn{client, server} {
		t.Cleanup(func() { c.Close() })
		lab.Must(t, c.SetDeadline(time.Now().Add(time.Minute)))
	}
	return client, server
}
