package doctor

import (
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/engine/userns"
)

// system is the host, and who asks. Tests put another one in its place.
type system struct {
	root     string // of its file system
	uid      int    // of this user, as the host counts
	user     string // its name
	rootless bool   // an ordinary user, or root of a user namespace only

	openTUN  func() error
	features func() (uint32, error) // of the driver: TUNGETFEATURES
	probe    func() Finding
	ping     func(family int) error
	look     func(program string) error // in $PATH
	clock    func() (status, state int, err error)
	space    func(dir string) (unix.Statfs_t, error)
	writable func(dir string) error
}

const device = "/dev/net/tun"

// here is the host that this process runs on.
func here() system {
	s := system{root: "/", openTUN: openTUN, features: features, ping: ping, writable: writable}
	uids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		uids = nil // a kernel without user namespaces
	}
	s.uid = outer(string(uids), os.Geteuid())
	s.rootless = s.uid != 0 || !userns.Privileged()
	s.user = strconv.Itoa(s.uid)
	if u, err := user.LookupId(s.user); err == nil {
		s.user = u.Username
	}
	s.probe = func() Finding {
		if userns.Privileged() {
			return try()
		}
		return child()
	}
	s.look = func(program string) error {
		_, err := exec.LookPath(program)
		return err
	}
	s.clock = func() (int, int, error) {
		var t unix.Timex // no mode: only asks
		state, err := unix.Adjtimex(&t)
		return int(t.Status), state, err
	}
	s.space = func(dir string) (st unix.Statfs_t, err error) {
		err = unix.Statfs(dir, &st)
		return st, err
	}
	return s
}

// outer returns what a uid of this user namespace is outside, by a map in the form of user_namespaces(7).
func outer(uids string, uid int) int {
	for line := range strings.Lines(uids) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		inside, err1 := strconv.Atoi(f[0])
		outside, err2 := strconv.Atoi(f[1])
		count, err3 := strconv.Atoi(f[2])
		if err1 == nil && err2 == nil && err3 == nil && uid >= inside && uid-inside < count {
			return outside + uid - inside
		}
	}
	return uid
}

func openTUN() error {
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func features() (uint32, error) {
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return unix.IoctlGetUint32(fd, unix.TUNGETFEATURES)
}

// writable asks for this process's own user and capabilities, where access(2) asks for the real user's.
func writable(dir string) error {
	return unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
}
