package doctor

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/weftnet/weft/agent/api"
)

// socket is one of the host's, as proc_net_tcp(5) lists them.
type socket struct {
	port  uint16
	uid   int
	inode uint64
}

// The states that keep a port: of TCP listening, of UDP bound and connected.
const (
	tcpListen      = 0x0A
	udpBound       = 0x07
	udpEstablished = 0x01
)

// use is what the agent does with a port.
type use struct {
	network string
	port    uint16
	what    string
	change  string // how to have another one
}

// ports checks that the agent's ports are free, or the agent's already.
func (s system) ports(o Options) []api.Check {
	var all []api.Check
	for _, u := range []use{
		{"tcp", o.Ports.API, "node API", "weft agent --listen-port"},
		{"tcp", o.Ports.Gossip, "gossip", "weft agent --gossip-port"},
		{"udp", o.Ports.Gossip, "gossip", "weft agent --gossip-port"},
		{"udp", o.Ports.VXLAN, "VXLAN", "weft agent --vxlan-port, the same on all nodes"},
	} {
		if u.port != 0 {
			all = append(all, s.port(u, o.PID))
		}
	}
	return all
}

// port checks one port. It reads the list of sockets instead of taking the port: an agent may start at this moment.
func (s system) port(u use, agent int) api.Check {
	name := fmt.Sprintf("port %d/%s", u.port, u.network)
	var taken []socket
	for _, file := range []string{u.network, u.network + "6"} {
		all, err := s.sockets(file)
		if errors.Is(err, fs.ErrNotExist) && file != u.network {
			continue // a kernel without IPv6
		}
		if err != nil {
			return warn(name, "ss -lntup shows who holds ports", "cannot be looked up: %v", err)
		}
		for _, k := range all {
			if k.port == u.port {
				taken = append(taken, k)
			}
		}
	}
	if len(taken) == 0 {
		return ok(name, "free for %s", u.what)
	}
	pid, command := s.owner(taken)
	remedy := "stop it, or give the agent another port: " + u.change
	switch {
	case pid != 0 && pid == agent:
		return ok(name, "held by the agent for %s", u.what)
	case pid != 0:
		return fail(name, remedy, "%s needs it, and process %d (%s) holds it", u.what, pid, command)
	case taken[0].uid != s.uid && s.uid != 0:
		return fail(name, remedy, "%s needs it, and a process of user %d, or the kernel, holds it", u.what, taken[0].uid)
	}
	return fail(name, "remove the device (ip -d link show type vxlan; Docker Swarm's are in /run/docker/netns), or give the agent another port: "+u.change,
		"%s needs it, and the kernel holds it: a VXLAN device, perhaps of Docker Swarm", u.what)
}

// sockets reads the sockets that keep a port, out of a table of /proc/self/net.
func (s system) sockets(table string) ([]socket, error) {
	f, err := os.Open(s.path("/proc/self/net", table))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseSockets(f, strings.HasPrefix(table, "tcp"))
}

// parseSockets reads a table:
//
//	sl  local_address rem_address   st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ...
//	 0: 0100007F:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000   0       0 11085 ...
func parseSockets(r io.Reader, tcp bool) (all []socket, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[0] == "sl" {
			continue
		}
		_, portText, found := strings.Cut(f[1], ":")
		port, err1 := hex.DecodeString(portText)
		state, err2 := strconv.ParseUint(f[3], 16, 8)
		uid, err3 := strconv.Atoi(f[7])
		inode, err4 := strconv.ParseUint(f[9], 10, 64)
		if err := errors.Join(err1, err2, err3, err4); err != nil || !found || len(port) != 2 {
			return nil, fmt.Errorf("the line %q is none of a socket", lines.Text())
		}
		if tcp && state == tcpListen || !tcp && (state == udpBound || state == udpEstablished) {
			all = append(all, socket{binary.BigEndian.Uint16(port), uid, inode})
		}
	}
	return all, lines.Err()
}

// owner finds a process that has one of the sockets, as far as this user may see. Kernel sockets are no process's.
func (s system) owner(sockets []socket) (pid int, command string) {
	links := make(map[string]bool)
	for _, k := range sockets {
		links[fmt.Sprintf("socket:[%d]", k.inode)] = true
	}
	fds, err := filepath.Glob(s.path("/proc/[0-9]*/fd/*"))
	if err != nil {
		return 0, ""
	}
	for _, fd := range fds {
		link, err := os.Readlink(fd)
		if err != nil || !links[link] {
			continue
		}
		process := filepath.Dir(filepath.Dir(fd))
		name, err := os.ReadFile(filepath.Join(process, "comm"))
		if err != nil {
			continue // it ended meanwhile
		}
		if pid, err = strconv.Atoi(filepath.Base(process)); err == nil {
			return pid, strings.TrimSpace(string(name))
		}
	}
	return 0, ""
}
