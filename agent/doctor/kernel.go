package doctor

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/api"
)

// tun checks that this user may open the driver of the containers' interfaces.
func (s system) tun() api.Check {
	const name = "tun device"
	err := s.openTUN()
	switch {
	case err == nil:
		return ok(name, "%s can be opened", device)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fail(name, "chmod 0666 "+device+", and packaging/udev/70-weft-tun.rules for the next start; in a container: --device "+device,
			"%s cannot be opened by user %s: %v", device, s.user, err)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return fail(name, "modprobe tun, and the line \"tun\" in a file of /etc/modules-load.d; in a container: --device "+device,
			"%s is not there: %v", device, err)
	}
	return fail(name, "see the kernel's log (dmesg)", "%s: %v", device, err)
}

// trial makes the checks that a trial answers: namespaces, and what a device can do.
func (s system) trial() []api.Check {
	const spaces, offloads = "namespaces", "offloads"
	f := s.probe()
	switch {
	case f.Step == UserNamespace, f.Step == NetworkNamespace:
		return []api.Check{fail(spaces, s.forbidden(), "no %s for user %s: %s", f.Step, s.user, f.Error)}
	case f.Step == Device && s.openTUN() != nil: // said already
		return []api.Check{ok(spaces, "user %s can make network namespaces", s.user)}
	case f.Step == Device:
		return []api.Check{
			ok(spaces, "user %s can make network namespaces", s.user),
			fail("tap device", "see the kernel's log (dmesg); a device cgroup, a seccomp filter or a container around this process may forbid it: run weft outside",
				"none can be made: %s", f.Error),
		}
	}
	found := []api.Check{ok(spaces, "user %s can make network namespaces, and devices in them", s.user)}
	multi := true
	if v, err := s.features(); err == nil {
		multi = v&unix.IFF_MULTI_QUEUE != 0
	}
	switch {
	case f.Offloads == "":
		return append(found, warn(offloads, "a kernel whose tun driver has virtio_net_hdr; sandboxes such as gVisor's have none",
			"none: every frame crosses to the kernel alone, at about a fifth of the rate"))
	case !strings.Contains(f.Offloads, "tso4"):
		return append(found, warn(offloads, "a newer kernel", "%s: TCP crosses to the kernel in single frames", f.Offloads))
	case !multi:
		return append(found, warn(offloads, "a newer kernel", "%s, but one queue per device: one thread forwards for each container", f.Offloads))
	}
	return append(found, ok(offloads, "%s", f.Offloads))
}

// forbidden says what keeps this user from having namespaces.
func (s system) forbidden() string {
	switch {
	case s.setting("user.max_user_namespaces") == "0":
		return sysctl("user.max_user_namespaces", "15000")
	case s.setting("kernel.unprivileged_userns_clone") == "0":
		return sysctl("kernel.unprivileged_userns_clone", "1")
	case s.setting("kernel.apparmor_restrict_unprivileged_userns") == "1":
		return "AppArmor keeps them for programs with a profile: install packaging/apparmor/weft as /etc/apparmor.d/weft and run apparmor_parser -r on it; or " +
			sysctl("kernel.apparmor_restrict_unprivileged_userns", "0")
	case s.setting("user.max_net_namespaces") == "0":
		return sysctl("user.max_net_namespaces", "15000")
	}
	return "no setting of the kernel forbids it: a seccomp filter or a container around this process may; run weft outside, or as root"
}

// wantBuffer is what the tunnel asks for per socket (vxlan), in bytes.
const wantBuffer = 4 << 20

// buffers checks how long a burst from the underlay may be. Root's agent goes beyond the limits.
func (s system) buffers() api.Check {
	const name = "socket buffers"
	if !s.rootless {
		return ok(name, "as large as asked for: this user may go beyond net.core.rmem_max")
	}
	for _, limit := range []string{"net.core.rmem_max", "net.core.wmem_max"} {
		v, err := strconv.Atoi(s.setting(limit))
		if err == nil && v < wantBuffer {
			return warn(name, sysctl(limit, strconv.Itoa(wantBuffer)), "%s is %d; the tunnel would like %d: bursts may be lost", limit, v, wantBuffer)
		}
	}
	return ok(name, "at least %d bytes", wantBuffer)
}

// time checks that something keeps the clock: certificates, leases and joining take clocks that agree within minutes.
func (s system) time() api.Check {
	const name = "clock"
	status, state, err := s.clock()
	switch {
	case err != nil:
		return warn(name, "compare it with other nodes' by hand (date -u)", "cannot be asked: %v", err)
	case state == unix.TIME_ERROR || status&unix.STA_UNSYNC != 0:
		return warn(name, "timedatectl set-ntp true, or install chrony", "nothing synchronises it; a node whose clock is off by more than 5 minutes cannot join")
	}
	return ok(name, "synchronised")
}
