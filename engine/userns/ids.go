package userns

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// span is a range of ids of the host.
type span struct{ start, count uint32 }

// mapIDs makes this user root in the namespace of a process, and gives it the user's subordinate ids if that is possible:
// without them there is one uid and one gid, and groups cannot be set.
func mapIDs(pid int) error {
	if !mapSubordinate("newuidmap", "/etc/subuid", pid, os.Getuid()) {
		if err := write(pid, "uid_map", fmt.Sprintf("0 %d 1\n", os.Getuid())); err != nil {
			return err
		}
	}
	if !mapSubordinate("newgidmap", "/etc/subgid", pid, os.Getgid()) {
		if err := write(pid, "setgroups", "deny"); err != nil {
			return err
		}
		if err := write(pid, "gid_map", fmt.Sprintf("0 %d 1\n", os.Getgid())); err != nil {
			return err
		}
	}
	return nil
}

func write(pid int, file, text string) error {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, file), []byte(text), 0); err != nil {
		return fmt.Errorf("userns: map this user to root (%s): %w; %s", file, err, remedy("/proc/sys"))
	}
	return nil
}

// mapSubordinate maps id to 0, and the subordinate ones that file grants from 1 on, with shadow's set-uid program.
func mapSubordinate(program, file string, pid, id int) bool {
	path, err := exec.LookPath(program)
	if err != nil {
		return false
	}
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	names := []string{strconv.Itoa(os.Getuid())} // subgid names users too
	if u, err := user.LookupId(names[0]); err == nil {
		names = append(names, u.Username)
	}
	spans, err := subordinate(f, names)
	if err != nil || len(spans) == 0 {
		return false
	}
	args := []string{strconv.Itoa(pid), "0", strconv.Itoa(id), "1"}
	next := uint64(1)
	for _, s := range spans {
		args = append(args, strconv.FormatUint(next, 10), strconv.FormatUint(uint64(s.start), 10), strconv.FormatUint(uint64(s.count), 10))
		next += uint64(s.count)
	}
	return exec.Command(path, args...).Run() == nil
}

// subordinate reads what a file of the form of subuid(5) grants to one of the names: lines of name:start:count. Others'
// lines and malformed ones count for nothing, as with newuidmap itself.
func subordinate(r io.Reader, names []string) (spans []span, err error) {
	lines := bufio.NewScanner(r)
	total := uint64(1)
	for lines.Scan() {
		fields := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(fields) != 3 {
			continue
		}
		mine := false
		for _, n := range names {
			mine = mine || fields[0] == n
		}
		start, errStart := strconv.ParseUint(fields[1], 10, 32)
		count, errCount := strconv.ParseUint(fields[2], 10, 32)
		if !mine || errStart != nil || errCount != nil || count == 0 || start+count > 1<<32-1 || total+count > 1<<32-1 {
			continue
		}
		total += count
		spans = append(spans, span{uint32(start), uint32(count)})
	}
	if err := lines.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) {
		return nil, err
	}
	return spans, nil
}

// remedy says what of the kernel's settings, found below root (/proc/sys), keeps users from having user namespaces.
func remedy(root string) string {
	for _, s := range []struct{ file, bad, text string }{
		{"user/max_user_namespaces", "0", "user namespaces are off: sysctl -w user.max_user_namespaces=15000"},
		{"kernel/unprivileged_userns_clone", "0", "user namespaces are for root alone: sysctl -w kernel.unprivileged_userns_clone=1"},
		{"kernel/apparmor_restrict_unprivileged_userns", "1", "AppArmor restricts them: give weft a profile with \"userns,\" in /etc/apparmor.d, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
	} {
		if b, err := os.ReadFile(filepath.Join(root, s.file)); err == nil && strings.TrimSpace(string(b)) == s.bad {
			return s.text + " (persistently: a file in /etc/sysctl.d), or run as root"
		}
	}
	return "the kernel's settings allow user namespaces; a container or seccomp filter around this process may not: run as root there"
}
