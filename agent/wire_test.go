package agent_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
)

// TestAnotherParserFindsNoFaultOnTheWire lets tshark read what two nodes say to one another: everything is VXLAN, nothing malformed, and
// every checksum inside and outside is right. Between offloading veths checksums are owed, and rightly wrong; so there are none here.
func TestAnotherParserFindsNoFaultOnTheWire(t *testing.T) {
	for _, program := range []string{"tcpdump", "tshark"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	for _, c := range []struct {
		name   string
		kernel bool
		wire
	}{
		{"two agents over IPv4", false, wire{noOffload: true}},
		{"two agents over IPv6", false, wire{noOffload: true, v6: true}},
		{"an agent and the kernel over IPv4", true, wire{noOffload: true}},
		{"an agent and the kernel over IPv6", true, wire{noOffload: true, v6: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := lay(t, c.wire)
			c2, c3 := newContainer(t, 2), newContainer(t, 3)
			if c.kernel {
				b.kernel(t, c.wire, c3, a.vtep, c2)
			} else {
				start(t, b, b.config(c3).with(a, c2))
			}
			start(t, a, a.config(c2).with(b, c3))
			file := record(t, a, func() {
				for i, to := range c3.addresses() {
					back := c2.addresses()[i]
					for _, size := range []int{0, 56, c.overlayMTU() - headers(to), 4001} {
						ping(t, c2, to, size)
						ping(t, c3, back, size)
					}
					datagrams(t, c2, c3, to, c.overlayMTU())
					datagrams(t, c3, c2, back, c.overlayMTU())
					deliver(t, c2, c3, to, 1<<20)
					deliver(t, c3, c2, back, 1<<20)
					echoes(t, c2, c3, to, 8)
				}
				groups(t, c2, c3)
			})
			all := packets(t, file, "udp.port == 4789")
			if inner := packets(t, file, "vxlan && vxlan.vni == 77 && eth"); all < 2000 || inner != all {
				t.Errorf("%d of %d datagrams are VXLAN of the network; expected all, and thousands", inner, all)
			}
			for _, fault := range []string{
				"_ws.malformed", "ip.checksum.status == Bad", "udp.checksum.status == Bad",
				tcpBad(c.kernel),
				"icmp.checksum.status == Bad", "icmpv6.checksum.status == Bad",
				"ip.fragment.error || ip.fragment.overlap || ipv6.fragment.error", "udp.length.bad || udp.length.bad_zero",
				"udp.port == 4789 && !vxlan",
			} {
				if n := packets(t, file, fault); n > 0 {
					examples, _ := exec.Command("tshark", append(judge(file, fault), "-V")...).Output()
					first, _, _ := bytes.Cut(examples, []byte("\n\n"))
					t.Errorf("%d of %d packets have %s; the first is\n%s", n, all, fault, first)
				}
			}
		})
	}
}

// tcpBad finds wrong TCP checksums. Linux writes ones where it computed zero (skb_checksum_help), which RFC 1624 calls wrong, in
// one packet of 65536: the kernel's own are no fault of the agent's.
func tcpBad(kernel bool) string {
	if kernel {
		return "tcp.checksum.status == Bad && tcp.checksum != 0xffff"
	}
	return "tcp.checksum.status == Bad"
}

// record captures what crosses the host's eth0 while traffic runs.
func record(t *testing.T, s site, traffic func()) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "wire.pcap")
	said := &lab.Journal{}
	c := s.Command("tcpdump", "-Z", "root", "-ni", "eth0", "-s0", "-B", "65536", "-U", "-w", file)
	c.Stderr = said
	lab.Must(t, c.Start())
	lab.Eventually(t, func() bool { return strings.Contains(said.String(), "listening on") }, patience)
	traffic()
	lab.Must(t, c.Process.Signal(unix.SIGINT))
	lab.Must(t, c.Wait())
	if !strings.Contains(said.String(), "\n0 packets dropped by kernel") {
		t.Logf("the capture is not complete: %s", said)
	}
	return file
}

// judge returns arguments for tshark that make it check all sums, and show what matches filter.
func judge(file, filter string) []string {
	args := []string{"-n", "-r", file, "-Y", filter}
	for _, sum := range []string{"ip", "udp", "tcp"} {
		args = append(args, "-o", sum+".check_checksum:TRUE")
	}
	return args
}

func packets(t *testing.T, file, filter string) int {
	t.Helper()
	out, err := exec.Command("tshark", append(judge(file, filter), "-T", "fields", "-e", "frame.number")...).Output()
	if e, ok := err.(*exec.ExitError); ok {
		t.Fatalf("tshark -Y %q: %v: %s", filter, err, e.Stderr)
	}
	lab.Must(t, err)
	return bytes.Count(out, []byte("\n"))
}
