package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/vxlan"
)

func newNetworkCreate() *cobra.Command {
	var q question
	var o networkOptions
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a network, on all nodes at once",
		Long: `Make a network, and print its ID. An overlay is there on all nodes; a bridge is the same without tunnels, on this node only.

Without --subnet it gets one out of the cluster's pools, which overlaps neither another network nor a route of any node. With
it, it may overlap others: networks are apart. --ip-range, --gateway and --aux-address belong to the subnet that contains them.

Options, by --opt:
  mtu=BYTES            of the containers' interfaces; by default what the underlay of each node leaves
  vni=NUMBER           the VXLAN network identifier; by default the lowest free one from 4096
  spoof=allow|deny     whether containers may send from addresses that are not theirs; by default deny
  egress=internet|full|none
                       what containers reach beyond the network: by default all that their node does, and the node itself
                       as host.weft.internal, but no link-local addresses (a cloud's metadata); those too; or nothing
  encrypted[=BOOLEAN]  between nodes. Not there yet: such a network is made, but attaching to it is refused
  secure[=BOOLEAN]     an older name of encrypted`,
		Example: `  weft network create web
  weft network create --subnet 10.9.0.0/16 --ip-range 10.9.5.0/24 --gateway 10.9.5.1 --aux-address printer=10.9.5.9 lan
  weft network create --subnet 10.8.0.0/24 --subnet fd00:8::/64 --opt mtu=1400 --label team=a both
  weft network create --opt egress=none --driver bridge here`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, args []string) error {
			r, notes, err := o.request(args[0])
			if err != nil {
				return usageError{err}
			}
			for _, note := range notes {
				fmt.Fprintln(c.ErrOrStderr(), "note: "+note)
			}
			n, err := q.client().CreateNetwork(c.Context(), r)
			if err != nil {
				return err
			}
			if q.json {
				return q.show(c, n, nil)
			}
			fmt.Fprintln(c.OutOrStdout(), n.ID)
			return nil
		},
	}
	q.flags(c)
	o.flags(c)
	return c
}

// networkOptions are the flags of weft network create.
type networkOptions struct {
	driver                         string
	subnets, ranges, gateways, aux []string
	ipv6, internal, attachable     bool
	labels, options                []string
}

func (o *networkOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&o.driver, "driver", "d", "overlay", "overlay, on all nodes, or bridge, on this one")
	f.StringArrayVar(&o.subnets, "subnet", nil, "a `subnet`, such as 10.9.0.0/24; may be repeated")
	f.StringArrayVar(&o.ranges, "ip-range", nil, "hand out addresses of this `part` of a subnet only; may be repeated")
	f.StringArrayVar(&o.gateways, "gateway", nil, "`address` of a subnet's gateway (default: the first); may be repeated")
	f.StringArrayVar(&o.aux, "aux-address", nil, "an address that is in use elsewhere, as `NAME=ADDRESS`; may be repeated")
	f.BoolVar(&o.ipv6, "ipv6", false, "have an IPv6 subnet too")
	f.BoolVar(&o.internal, "internal", false, "no way out of the network, as --opt egress=none")
	f.BoolVar(&o.attachable, "attachable", false, "carried and shown only: Docker wants it for single containers, which weft attaches in any case")
	f.StringArrayVar(&o.labels, "label", nil, "a label, as `KEY=VALUE`; may be repeated")
	f.StringArrayVarP(&o.options, "opt", "o", nil, "an option, as `KEY=VALUE`; may be repeated")
	complete(c, "driver", words("overlay", "bridge"))
	complete(c, "opt", words("mtu=", "vni=", "spoof=allow", "spoof=deny", "egress=internet", "egress=full", "egress=none", "encrypted", "secure"))
}

// request makes the API's request of the flags, and notes on what the user may not expect.
func (o *networkOptions) request(name string) (r api.NetworkRequest, notes []string, err error) {
	if name == "" {
		return r, nil, errors.New("the network's name is empty; expected letters, digits, and _ . - after the first")
	}
	r = api.NetworkRequest{Name: name, Driver: o.driver, IPv6: o.ipv6, Internal: o.internal, Attachable: o.attachable}
	if o.driver != "overlay" && o.driver != "bridge" {
		return r, nil, fmt.Errorf("--driver %q; expected overlay or bridge", o.driver)
	}
	if r.Subnets, err = o.ranged(); err != nil {
		return r, nil, err
	}
	for _, label := range o.labels {
		key, value, _ := strings.Cut(label, "=")
		if key == "" {
			return r, nil, fmt.Errorf("--label %q; expected KEY=VALUE", label)
		}
		if r.Labels == nil {
			r.Labels = make(map[string]string)
		}
		r.Labels[key] = value
	}
	for _, option := range o.options {
		note, err := setOption(&r, option)
		if err != nil {
			return r, nil, err
		}
		if note != "" {
			notes = append(notes, note)
		}
	}
	if r.Internal && r.Egress != "" && r.Egress != "none" {
		return r, nil, fmt.Errorf("--internal beside --opt egress=%s; expected one of them: an internal network has no way out", r.Egress)
	}
	return r, notes, nil
}

// setOption reads one --opt. Docker's longer names of the same are taken too.
func setOption(r *api.NetworkRequest, option string) (note string, err error) {
	key, value, given := strings.Cut(option, "=")
	switch key {
	case "mtu", "com.docker.network.driver.mtu":
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n == 0 {
			return "", fmt.Errorf("--opt %s; expected a number of bytes, such as mtu=1400", option)
		}
		r.MTU = int(n)
	case "vni", "com.docker.network.driver.overlay.vxlanid_list":
		n, err := strconv.ParseUint(value, 10, 24)
		if err != nil || n == 0 {
			return "", fmt.Errorf("--opt %s; expected a number from 1 to %d, such as vni=5000", option, vxlan.MaxVNI)
		}
		r.VNI = vxlan.VNI(n)
	case "spoof":
		if value != "allow" && value != "deny" {
			return "", fmt.Errorf("--opt %s; expected spoof=allow or spoof=deny", option)
		}
		r.Spoof = value == "allow"
	case "egress":
		if value != "internet" && value != "full" && value != "none" {
			return "", fmt.Errorf("--opt %s; expected egress=internet, egress=full or egress=none", option)
		}
		r.Egress = value
	case "encrypted", "secure":
		r.Encrypted = true
		if given && value != "" { // as Docker, which takes encrypted= for a yes
			if r.Encrypted, err = strconv.ParseBool(value); err != nil {
				return "", fmt.Errorf("--opt %s; expected %s, %s=true or %s=false", option, key, key, key)
			}
		}
		switch {
		case r.Encrypted && key == "secure":
			note = "secure is taken as encrypted, its newer name; there is no encryption yet, so attaching to this network will be refused"
		case r.Encrypted:
			note = "there is no encryption yet, so attaching to this network will be refused"
		}
	default:
		return "", fmt.Errorf("--opt %q; expected mtu=, vni=, spoof=, egress=, encrypted or secure", option)
	}
	return note, nil
}

// ranged makes subnets of what the flags say about them.
func (o *networkOptions) ranged() ([]api.Subnet, error) {
	var all []api.Subnet
	for _, text := range o.subnets {
		p, err := parseSubnet(text)
		if err != nil {
			return nil, fmt.Errorf("--subnet %w", err)
		}
		all = append(all, api.Subnet{Prefix: p})
	}
	for _, text := range o.ranges {
		p, err := parseSubnet(text)
		if err != nil {
			return nil, fmt.Errorf("--ip-range %w", err)
		}
		s := containing(all, p.Addr())
		if s == nil || s.Prefix.Bits() > p.Bits() {
			return nil, fmt.Errorf("--ip-range %s is in no --subnet; name the subnet that contains it", p)
		}
		if s.Range.IsValid() {
			return nil, fmt.Errorf("--ip-range %s beside %s; expected at most one for each subnet", p, s.Range)
		}
		s.Range = p
	}
	for _, text := range o.gateways {
		a, s, err := placed(all, "--gateway", text)
		if err != nil {
			return nil, err
		}
		if s.Gateway.IsValid() {
			return nil, fmt.Errorf("--gateway %s beside %s; expected at most one for each subnet", a, s.Gateway)
		}
		s.Gateway = a
	}
	for _, text := range o.aux {
		name, address, named := strings.Cut(text, "=")
		if !named || name == "" {
			return nil, fmt.Errorf("--aux-address %q; expected NAME=ADDRESS, such as printer=10.9.0.9", text)
		}
		a, s, err := placed(all, "--aux-address "+name, address)
		if err != nil {
			return nil, err
		}
		if s.Aux == nil {
			s.Aux = make(map[string]netip.Addr)
		}
		if old, double := s.Aux[name]; double {
			return nil, fmt.Errorf("--aux-address %s=%s beside %s=%s; expected each name once", name, a, name, old)
		}
		s.Aux[name] = a
	}
	return all, nil
}

// placed reads an address, and finds the subnet that it is of.
func placed(all []api.Subnet, flag, text string) (netip.Addr, *api.Subnet, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return a, nil, fmt.Errorf("%s %q; expected an address such as 10.9.0.1", flag, text)
	}
	s := containing(all, a)
	if s == nil {
		return a, nil, fmt.Errorf("%s %s is in no --subnet; name the subnet that contains it", flag, a)
	}
	return a, s, nil
}

func containing(all []api.Subnet, a netip.Addr) *api.Subnet {
	for i := range all {
		if all[i].Prefix.Contains(a) {
			return &all[i]
		}
	}
	return nil
}

// parseSubnet reads a subnet, whose address has nothing set beyond its length: what else it meant is not to be guessed.
func parseSubnet(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q; expected a subnet such as 10.9.0.0/24", text)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%s; expected %s, the subnet that this address is in, or another length", p, p.Masked())
	}
	return p, nil
}
