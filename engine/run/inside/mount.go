package inside

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// furnish makes the namespaces that this process is in the container's.
func (o *Orders) furnish() error {
	if err := unix.Sethostname([]byte(o.Hostname)); err != nil {
		return fmt.Errorf("set the host name %q: %w", o.Hostname, err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep the container's mounts from the host: %w", err)
	}
	if err := loopback(); err != nil {
		return err
	}
	// As Docker's containers have them: ports below 1024 and ping for everybody. A user namespace with one gid has no more.
	allow("net/ipv4/ip_unprivileged_port_start", "0")
	allow("net/ipv4/ping_group_range", "0 2147483647", "0 0")
	remountSys()
	if err := o.dress(); err != nil {
		return err
	}
	for _, v := range o.Volumes {
		if err := v.mount(); err != nil {
			return err
		}
	}
	return nil
}

// allow sets the first value that a network sysctl takes.
func allow(name string, values ...string) {
	for _, v := range values {
		if os.WriteFile(filepath.Join("/proc/sys", name), []byte(v), 0) == nil {
			return
		}
	}
}

func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring the loopback interface up: %w", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("bring the loopback interface up: %w", err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring the loopback interface up: %w", err)
	}
	return nil
}

// remountSys shows the container's interfaces in /sys/class/net, and keeps the control groups there. Where that is not
// allowed, /sys is the host's, which only misleads.
func remountSys() {
	groups, err := unix.OpenTree(unix.AT_FDCWD, "/sys/fs/cgroup", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		groups = -1
	} else {
		defer unix.Close(groups)
	}
	if unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "") != nil || groups < 0 {
		return
	}
	_ = unix.MoveMount(groups, "", unix.AT_FDCWD, "/sys/fs/cgroup", unix.MOVE_MOUNT_F_EMPTY_PATH)
}

func (v Volume) mount() error {
	from, err := os.Stat(v.Source)
	if err != nil {
		return fmt.Errorf("volume %s: %w", v.Source, err)
	}
	to, err := os.Stat(v.Target)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("volume %s: %s does not exist; containers have the host's file system, so make it there first", v.Source, v.Target)
	} else if err != nil {
		return fmt.Errorf("volume %s: %w", v.Source, err)
	}
	if from.IsDir() != to.IsDir() {
		return fmt.Errorf("volume %s: it and %s must both be directories, or both files", v.Source, v.Target)
	}
	if err := unix.Mount(v.Source, v.Target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("volume %s: bind it to %s: %w", v.Source, v.Target, err)
	}
	if !v.ReadOnly {
		return nil
	}
	err = unix.MountSetattr(unix.AT_FDCWD, v.Target, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	if errors.Is(err, unix.ENOSYS) { // before Linux 5.12
		err = remountReadOnly(v.Target)
	}
	if err != nil {
		return fmt.Errorf("volume %s: make %s read-only: %w", v.Source, v.Target, err)
	}
	return nil
}

// remountReadOnly keeps the other flags, which in a user namespace may not be taken off.
func remountReadOnly(path string) error {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return err
	}
	keep := uintptr(s.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME | unix.MS_RELATIME)
	return unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|keep, "")
}
