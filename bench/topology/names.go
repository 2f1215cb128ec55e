package topology

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/weftnet/weft/stack/frame"
)

// known is how many names each resolver knows: those of a network of some size.
const known = 64

// others returns the stations behind the names, which are elsewhere and need not be there.
func others() []station {
	list := make([]station, known)
	addr := netip.MustParseAddr("10.77.0.100")
	for i := range list {
		list[i] = station{name: fmt.Sprintf("name%d", i), addr: addr, mac: 0x0242_0a4d_0100 + frame.MAC(i)}
		addr = addr.Next()
	}
	return list
}

// The resolvers.
var (
	// dnsmasq is what serves names on many a bridge.
	dnsmasq = Path{
		Name:  "dnsmasq",
		About: "dnsmasq behind a veth pair, with the names in a hosts file",
		Group: Names,
		Missing: func() error {
			_, err := program("dnsmasq", "dnsmasq-base")
			return err
		},
		build: func(ctx context.Context, n *Net) error {
			if err := n.resolver(); err != nil {
				return err
			}
			if err := n.wire("veth1", ""); err != nil {
				return err
			}
			file, err := program("dnsmasq", "dnsmasq-base")
			if err != nil {
				return err
			}
			hosts, err := n.hostsFile()
			if err != nil {
				return err
			}
			// As another user, which is its default, it would outlive a harness that is killed; and a user namespace may have none.
			d, err := n.start("dnsmasq", n.a.Command(file, "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=", "--group=",
				"--log-facility=-", "--no-resolv", "--no-hosts", "--addn-hosts="+hosts, "--bind-interfaces", "--listen-address="+gateway.String(), "--local-ttl=1"))
			if err != nil {
				return err
			}
			// It reads its names before it answers, and says so after.
			return d.await(ctx, func(context.Context) bool { return bytes.Contains(d.said(), []byte("read "+hosts)) })
		},
	}

	// weftDNS is the resolver at a network's gateway.
	weftDNS = Path{
		Name:    "weft-dns",
		About:   "weft's resolver at the network's gateway, behind a TAP, with the names of the network",
		Group:   Names,
		Missing: taps,
		build: func(ctx context.Context, n *Net) error {
			if err := n.resolver(); err != nil {
				return err
			}
			a := newAgent("a", vtepA)
			a.attach(n.Client, client)
			a.remote(vtepB, others()...)
			return a.run(ctx, n, n.a)
		},
	}
)

// resolver makes the client, without an interface, whose resolver is on host a at the gateway's address.
func (n *Net) resolver() error {
	h, err := n.host(client.name, client.cpu)
	if err != nil {
		return err
	}
	n.Client, n.Server = Container{h, client.addr}, Container{n.a, gateway}
	for _, s := range others() {
		n.Names = append(n.Names, s.name)
	}
	return nil
}

// hostsFile writes the names as hosts(5) wants them.
func (n *Net) hostsFile() (string, error) {
	dir, err := n.scratch()
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	for _, s := range others() {
		fmt.Fprintf(&text, "%s %s\n", s.addr, s.name)
	}
	name := filepath.Join(dir, "hosts")
	return name, os.WriteFile(name, text.Bytes(), 0o644)
}
