package userns_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/engine/process"
	"github.com/weftnet/weft/engine/userns"
	"github.com/weftnet/weft/internal/lab"
)

const nobody = 65534

// enter makes this test binary a program that begins with Enter, and tells what it then is.
const enter = "enter"

// leave among its arguments makes it end with Leave.
const leave = "leave"

// told is that.
type told struct {
	PID, UID        int
	Privileged      bool
	User, Net       string // namespaces
	Args            []string
	DataDir         string
	UIDs, SetGroups string
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case userns.HoldCommand:
			os.Exit(userns.Hold(os.Args[2:]))
		case enter:
			os.Exit(tell(os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

func tell(dir string) int {
	if err := userns.Enter(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	t := told{PID: os.Getpid(), UID: os.Getuid(), Privileged: userns.Privileged(), Args: os.Args[3:], DataDir: os.Getenv("WEFT_DATA_DIR")}
	t.User, _ = os.Readlink("/proc/self/ns/user")
	t.Net, _ = os.Readlink("/proc/self/ns/net")
	uids, _ := os.ReadFile("/proc/self/uid_map")
	groups, _ := os.ReadFile("/proc/self/setgroups")
	t.UIDs, t.SetGroups = strings.Join(strings.Fields(string(uids)), " "), strings.TrimSpace(string(groups))
	_ = json.NewEncoder(os.Stdout).Encode(t)
	_, _ = io.Copy(os.Stdout, os.Stdin)
	if slices.Contains(t.Args, leave) {
		if err := userns.Leave(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 42
}

// ordinary is an ordinary user's place, where a copy of this binary is.
type ordinary struct {
	t      *testing.T
	dir    string // the holder's
	binary string
}

func newOrdinary(t *testing.T) *ordinary {
	t.Helper()
	top, err := os.MkdirTemp("/tmp", "weft-userns")
	lab.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(top) })
	lab.Must(t, os.Chmod(top, 0o755))
	o := &ordinary{t, filepath.Join(top, "data"), filepath.Join(top, "userns.test")}
	lab.Must(t, os.Mkdir(o.dir, 0o700))
	self, err := os.ReadFile("/proc/self/exe")
	lab.Must(t, err)
	lab.Must(t, os.WriteFile(o.binary, self, 0o755))
	if os.Getuid() == 0 {
		lab.Must(t, os.Chown(o.dir, nobody, nobody))
	}
	t.Cleanup(func() { // before the directory goes
		if err := userns.End(o.dir); err != nil {
			t.Error(err)
		}
	})
	return o
}

// command is the program, run by an ordinary user.
func (o *ordinary) command(args ...string) *exec.Cmd {
	cmd := exec.Command(o.binary, append([]string{enter, o.dir}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return cmd
}

// run runs the program, which must get through.
func (o *ordinary) run(args ...string) told {
	o.t.Helper()
	cmd := o.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if e := new(exec.ExitError); !errors.As(err, &e) || e.ExitCode() != 42 {
		o.t.Fatalf("%v: %s", err, errs.String())
	}
	var t told
	lab.Must(o.t, json.Unmarshal(out.Bytes(), &t))
	return t
}

// processes returns those that run its copy of this binary.
func (o *ordinary) processes() (pids []int) {
	all, err := process.All()
	lab.Must(o.t, err)
	for pid := range all {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && exe == o.binary {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (o *ordinary) holder() (p process.Process) {
	o.t.Helper()
	b, err := os.ReadFile(filepath.Join(o.dir, "holder"))
	lab.Must(o.t, err)
	lab.Must(o.t, json.Unmarshal(b, &p))
	return p
}

func TestPrivilegedProcessGoesOnAsItIs(t *testing.T) {
	if !userns.Privileged() {
		t.Skip("it takes root")
	}
	dir := filepath.Join(t.TempDir(), "data")
	lab.Must(t, userns.Enter(dir))
	if _, err := os.Stat(dir); err == nil {
		t.Error("it made the holder's directory, which it does not need")
	}
	lab.Must(t, userns.End(dir))
}

func TestOrdinaryUserIsRootInTheHostsNetwork(t *testing.T) {
	o := newOrdinary(t)
	cmd := o.command("a b", "", "--c")
	cmd.Env = append(os.Environ(), "WEFT_DATA_DIR=/elsewhere")
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("from standard input"), &out, &errs
	err := cmd.Run()
	if e := new(exec.ExitError); !errors.As(err, &e) || e.ExitCode() != 42 {
		t.Fatalf("%v: %s", err, errs.String())
	}
	line, rest, _ := strings.Cut(out.String(), "\n")
	var got told
	lab.Must(t, json.Unmarshal([]byte(line), &got))
	net, err := os.Readlink("/proc/self/ns/net")
	lab.Must(t, err)
	if got.PID != cmd.Process.Pid || got.UID != 0 || !got.Privileged || got.Net != net || got.DataDir != o.dir {
		t.Errorf("inside it is %+v; expected process %d, root in the network %s, with data in %s", got, cmd.Process.Pid, net, o.dir)
	}
	if strings.Join(got.Args, "|") != "a b||--c" || rest != "from standard input" {
		t.Errorf("inside there are the arguments %q and the input %q", got.Args, rest)
	}
}

func TestHolderIsOneAndOutlivesWhoMadeIt(t *testing.T) {
	o := newOrdinary(t)
	var users sync.Map
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { users.Store(o.run().User, true) })
	}
	all.Wait()
	n := 0
	users.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d user namespaces were made by four processes at once, expected one", n)
	}
	h := o.holder()
	if sid, err := unix.Getsid(h.PID); err != nil || sid != h.PID {
		t.Errorf("the holder is in session %d, %v; expected its own", sid, err)
	}
	lab.Must(t, h.Signal(unix.SIGHUP))
	again := o.run()
	if !h.Alive() || o.holder() != h {
		t.Error("a hangup ended the holder")
	}
	if _, ok := users.Load(again.User); !ok {
		t.Errorf("later %s is entered, another namespace", again.User)
	}
	lab.Must(t, userns.End(o.dir))
	lab.Eventually(t, func() bool { return !h.Alive() }, 10*time.Second)
	lab.Must(t, userns.End(o.dir))
}

func TestHolderThatIsGoneIsMadeAgain(t *testing.T) {
	o := newOrdinary(t)
	for name, spoil := range map[string]func(h process.Process) string{
		"ended":                  func(h process.Process) string { _ = h.Signal(unix.SIGKILL); return "" },
		"its PID was used again": func(h process.Process) string { return fmt.Sprintf(`{"pid":%d,"start":1,"boot":"b"}`, os.Getpid()) },
		"the record was cut":     func(process.Process) string { return `{"pid":1` },
		"the record is nonsense": func(process.Process) string { return `{"pid":-5}` },
	} {
		o.run()
		h := o.holder()
		text := spoil(h)
		if text != "" {
			lab.Must(t, os.WriteFile(filepath.Join(o.dir, "holder"), []byte(text), 0o600))
			lab.Must(t, h.Signal(unix.SIGKILL)) // nobody knows it any more
		}
		lab.Eventually(t, func() bool { return !h.Alive() }, 10*time.Second)
		if got := o.run(); !got.Privileged {
			t.Errorf("%s: %+v", name, got)
		}
		if now := o.holder(); now == h || !now.Alive() {
			t.Errorf("%s: the holder is %+v, and was %+v", name, now, h)
		}
	}
}

func TestLastOneThatLeavesEndsTheHolder(t *testing.T) {
	o := newOrdinary(t)
	o.run(leave)
	if _, err := os.Stat(filepath.Join(o.dir, "holder")); err == nil {
		t.Error("the only process has left, and the holder is still on record")
	}
	for range 5 { // none of those that leave at once meets the others
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { o.run(leave) })
		}
		all.Wait()
	}
	lab.Eventually(t, func() bool { return len(o.processes()) == 0 }, 10*time.Second)
}

func TestHolderStaysWhileAnythingIsInItsNamespaceOrBelow(t *testing.T) {
	for name, args := range map[string][]string{
		"a process":                    {"cat"},
		"one in a namespace below":     {"unshare", "--user", "--map-root-user", "cat"},
		"one of the namespace's users": {"setpriv", "--no-new-privs", "cat"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrdinary(t)
			o.run()
			h := o.holder()
			other := exec.Command("nsenter", append([]string{"--user", "--preserve-credentials", "--target", strconv.Itoa(h.PID), "--"}, args...)...)
			other.SysProcAttr = o.command().SysProcAttr
			in, err := other.StdinPipe()
			lab.Must(t, err)
			out, err := other.StdoutPipe()
			lab.Must(t, err)
			lab.Must(t, other.Start())
			fmt.Fprintln(in, "here")
			_, err = out.Read(make([]byte, 1)) // it is there
			lab.Must(t, err)
			o.run(leave)
			lab.Must(t, userns.End(o.dir))
			if !h.Alive() || o.holder() != h {
				t.Error("the holder was ended under a process that needs the namespace")
			}
			in.Close()
			lab.Must(t, other.Wait())
			o.run(leave)
			lab.Eventually(t, func() bool { return !h.Alive() }, 10*time.Second)
		})
	}
}

func TestUnusableDirectoryIsNamedWithARemedy(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make them")
	}
	o := newOrdinary(t)
	top := filepath.Dir(o.binary)
	foreign, file, full := filepath.Join(top, "foreign"), filepath.Join(top, "file"), filepath.Join(top, "full")
	lab.Must(t, os.MkdirAll(filepath.Join(foreign, "data"), 0o700))
	lab.Must(t, os.WriteFile(file, nil, 0o644))
	lab.Must(t, os.Mkdir(full, 0o755))
	for dir, want := range map[string]string{
		foreign + "/data":    "permission denied; it must belong to user 65534, who runs weft: chown it, or name another directory than " + foreign + "/data with --data-dir",
		top + "/other":       "permission denied; it must belong to user 65534",
		file + "/data":       "not a directory; name another directory than " + file + "/data with --data-dir",
		"/proc/none":         "--data-dir",
		full + "/data":       "no space left on device; make room there, or name another directory than " + full + "/data with --data-dir",
		full + "/there/data": "no space left on device; make room there",
	} {
		script := `mount -t tmpfs -o size=4k,nr_inodes=2,mode=0777 tmpfs "$1"; touch "$1/last"; shift; exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"`
		cmd := exec.Command("sh", "-ec", script, "sh", full, o.binary, enter, dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: got %v, %q; expected %q", dir, err, out, want)
		}
	}
}

func TestKilledHolderIsReplacedInTheNamespaceThatStillHasProcesses(t *testing.T) {
	o := newOrdinary(t)
	cmd := o.command()
	in, err := cmd.StdinPipe()
	lab.Must(t, err)
	out, err := cmd.StdoutPipe()
	lab.Must(t, err)
	lab.Must(t, cmd.Start())
	defer func() { in.Close(); _ = cmd.Wait() }()
	var first told
	lab.Must(t, json.NewDecoder(out).Decode(&first))
	h := o.holder()
	lab.Must(t, h.Signal(unix.SIGKILL))
	lab.Eventually(t, func() bool { return !h.Alive() }, 10*time.Second)
	if again := o.run(); again.User != first.User || !again.Privileged {
		t.Errorf("entered %+v, expected the namespace %s, where a process still is", again, first.User)
	}
	if now := o.holder(); now == h || !now.Alive() {
		t.Errorf("the holder is %+v", now)
	}
}

func TestSubordinateIDsAreMappedWhereTheyAreGranted(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can grant them")
	}
	if _, err := exec.LookPath("newuidmap"); err != nil {
		t.Skip("newuidmap is not installed (Debian: uidmap)")
	}
	o := newOrdinary(t)
	if got := o.run(); got.UIDs != fmt.Sprintf("0 %d 1", nobody) || got.SetGroups != "deny" {
		t.Errorf("without any: uids %s, setgroups %s", got.UIDs, got.SetGroups)
	}
	lab.Must(t, userns.End(o.dir))

	granted := filepath.Join(filepath.Dir(o.binary), "subuid")
	lab.Must(t, os.WriteFile(granted, []byte("nobody:200000:1000\nother:300000:1000\n65534:400000:10\n"), 0o644))
	// In a mount namespace of its own, so that the machine's files stay as they are.
	script := `mount --bind "$1" /etc/subuid && mount --bind "$1" /etc/subgid && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$2" ` + enter + ` "$3"`
	cmd := exec.Command("sh", "-ec", script, "sh", granted, o.binary, o.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, _ := cmd.Output()
	var got told
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %q %s", err, out, errs.String())
	}
	if want := fmt.Sprintf("0 %d 1 1 200000 1000 1001 400000 10", nobody); got.UIDs != want || got.SetGroups != "allow" {
		t.Errorf("uids %s, setgroups %s; expected %s, allow", got.UIDs, got.SetGroups, want)
	}
}

func TestMissingNsenterIsNamedWithItsPackage(t *testing.T) {
	o := newOrdinary(t)
	cmd := o.command()
	cmd.Env = []string{"PATH=/none"}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "nsenter is not installed; it comes with util-linux") {
		t.Errorf("got %v, %q", err, out)
	}
}

func TestUserNamespacesThatAreUsedUpAreNamed(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("it takes root")
	}
	o := newOrdinary(t)
	// A user namespace whose own limit is zero: in it, there can be no other.
	cmd := o.command()
	inner := exec.Command("sh", "-ec", `echo 0 >/proc/sys/user/max_user_namespaces; exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"`, "sh")
	inner.Args = append(inner.Args, cmd.Args...)
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}, {ContainerID: nobody, HostID: nobody, Size: 1}}
	inner.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true}
	out, err := inner.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "sysctl -w user.max_user_namespaces=") {
		t.Errorf("got %v, %q", err, out)
	}
}

func TestHolderWithoutARecorderEnds(t *testing.T) {
	if !userns.Privileged() {
		t.Skip("it needs no namespace, but one place is enough")
	}
	cmd := exec.Command("/proc/self/exe", userns.HoldCommand)
	in, err := cmd.StdinPipe()
	lab.Must(t, err)
	out, err := cmd.StdoutPipe()
	lab.Must(t, err)
	lab.Must(t, cmd.Start())
	b := make([]byte, 16)
	n, err := out.Read(b)
	if pid := strings.TrimSpace(string(b[:n])); err != nil || pid != strconv.Itoa(cmd.Process.Pid) {
		t.Errorf("it says %q, %v; expected its PID %d", pid, err, cmd.Process.Pid)
	}
	in.Close()
	if err := cmd.Wait(); err == nil {
		t.Error("it ended well, expected a failure")
	}
}
