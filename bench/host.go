package bench

import (
	"os"
	"regexp"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/report"
	"github.com/weftnet/weft/bench/topology"
)

// hostCongestion is what sockets have that nobody asks for another.
func hostCongestion() string {
	name, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(name))
}

// describe says what machine this is, and which program.
func describe(features map[string]bool, opt Options) report.Host {
	h := report.Host{
		CPU: processor(), Cores: runtime.NumCPU(), Kernel: "unknown", Arch: runtime.GOARCH, Go: runtime.Version(),
		Commit: opt.Commit, Root: realRoot(), Congestion: opt.Congestion,
		MTU:      map[string]int{"underlay": topology.UnderlayMTU, "overlay": topology.OverlayMTU},
		Offloads: make(map[string]bool),
	}
	if opt.Congestion == "" {
		h.Congestion = hostCongestion()
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		h.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		h.MemoryMB = int(uint64(info.Totalram) * uint64(info.Unit) >> 20)
	}
	// Of the dozens of features these decide what a tunnel costs.
	for _, name := range []string{"tx-checksum-ip-generic", "rx-checksum", "tx-generic-segmentation", "tx-tcp-segmentation",
		"tx-udp-segmentation", "tx-udp_tnl-segmentation", "rx-gro"} {
		if on, known := features[name]; known {
			h.Offloads[name] = on
		}
	}
	return h
}

var model = regexp.MustCompile(`(?m)^(?:model name|Model|Hardware|CPU part)\s*:\s*(.+)$`)

// processor returns the first name that /proc/cpuinfo has for it; which keys there are depends on the architecture.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown"
	}
	if m := model.FindSubmatch(text); m != nil {
		return strings.TrimSpace(string(m[1]))
	}
	return "unknown"
}

// realRoot reports whether this is root in the first user namespace, which maps every user to itself.
func realRoot() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	fields := strings.Fields(string(text))
	return err == nil && os.Geteuid() == 0 && len(fields) == 3 && fields[0] == "0" && fields[1] == "0" && fields[2] == "4294967295"
}
