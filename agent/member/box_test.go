package member_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/internal/lab"
)

// box is a container: a host that is attached.
type box struct {
	*lab.Host
	node *node
	name string
	addr netip.Addr
}

// contain makes a container and attaches it to networks; its address is that in the first.
func (n *node) contain(name string, networks ...string) *box {
	n.t.Helper()
	var all []api.Attachment
	for _, net := range networks {
		all = append(all, api.Attachment{Network: net})
	}
	b, _ := n.containAt(lab.T(n.t, name), name, all...)
	return b
}

// containAt attaches a host as a container.
func (n *node) containAt(h *lab.Host, name string, networks ...api.Attachment) (*box, []api.Endpoint) {
	n.t.Helper()
	got, err := n.try(h, name, networks...)
	lab.Must(n.t, err)
	return &box{Host: h, node: n, name: name, addr: got[0].Addresses[0].Addr()}, got
}

// try asks for an attachment.
func (n *node) try(h *lab.Host, name string, networks ...api.Attachment) ([]api.Endpoint, error) {
	return n.Attach(n.t.Context(), api.AttachRequest{Name: name, NetNS: h.Path(), Networks: networks})
}

// ping sends three echo requests to an address and returns an error unless an answer comes.
func (b *box) pingAddr(to netip.Addr) error {
	out, err := b.Command("ping", "-n", "-c", "3", "-i", "0.05", "-W", "1", to.String()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s to %s: %w: %s", b.name, to, err, out)
	}
	return nil
}

// ping pings a container at its first address.
func (b *box) ping(to *box) error { return b.pingAddr(to.addr) }

// reaches waits until the container reaches all others.
func (b *box) reaches(others ...*box) {
	b.node.t.Helper()
	for _, to := range others {
		if to != b {
			b.node.eventually(b.name+" reaches "+to.name, func() error { return b.ping(to) })
		}
	}
}

// interfaces returns what a host has besides loopback, with MACs and global addresses.
func interfaces(t testing.TB, h *lab.Host) map[string]string {
	t.Helper()
	links, err := h.Netlink().LinkList()
	lab.Must(t, err)
	all := make(map[string]string)
	for _, link := range links {
		if link.Attrs().Name == "lo" {
			continue
		}
		words := []string{link.Attrs().HardwareAddr.String()}
		addrs, err := h.Netlink().AddrList(link, 0)
		lab.Must(t, err)
		for _, a := range addrs {
			if p, _ := netip.ParsePrefix(a.IPNet.String()); !p.Addr().IsLinkLocalUnicast() {
				words = append(words, p.String())
			}
		}
		slices.Sort(words[1:])
		all[link.Attrs().Name] = strings.Join(words, " ")
	}
	return all
}

// refused fails unless an error came, with all the words in it.
func refused(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; expected one with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Fatalf("the error is %q; expected it to have %q", err, w)
		}
	}
}

// holds waits until a node leases at least, and at most, so many addresses of a network, and has that many endpoints there. -1 is: does
// not take part.
func (n *node) holds(network string, least, most, endpoints int) {
	n.t.Helper()
	n.eventually(fmt.Sprintf("%d to %d addresses of %s are leased, for %d endpoints", least, most, network, endpoints), func() error {
		d, err := n.Segment(n.t.Context(), network)
		if err != nil {
			return err
		}
		leased := -1
		for _, p := range d.Peers {
			if p.Node == n.Name() {
				leased = p.Leased
			}
		}
		here := 0
		for _, e := range d.Endpoints {
			if e.Local {
				here++
			}
		}
		if leased < least || leased > most || here != endpoints {
			return fmt.Errorf("%d are, for %d", leased, here)
		}
		return nil
	})
}

// sound waits until the doctor finds nothing on any of the nodes, but for what is named.
func sound(nodes []*node, but ...string) {
	for _, n := range nodes {
		n.t.Helper()
		n.eventually("the doctor finds nothing", func() error {
			all, err := n.Checks(n.t.Context())
			for _, c := range all {
				if c.Level != api.CheckOK && !slices.Contains(but, c.Name) {
					err = fmt.Errorf("%s: %s", c.Name, c.Found)
				}
			}
			return err
		})
	}
}

// lists waits until a node knows exactly these endpoints of a network.
func (n *node) lists(network string, names ...string) {
	n.t.Helper()
	slices.Sort(names)
	n.eventually(fmt.Sprintf("the endpoints of %s are %v", network, names), func() error {
		all, err := n.Endpoints(n.t.Context(), network)
		if err != nil {
			return err
		}
		var got []string
		for _, e := range all {
			if e.State == api.StateUp {
				got = append(got, e.Name)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, names) {
			return fmt.Errorf("they are %v", got)
		}
		return nil
	})
}
