package api

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/vxlan"
)

// request is the body of a POST. Its check finds what is wrong with its form, whatever the node or the cluster knows.
type request interface{ check() error }

func (r InitRequest) check() error {
	for i, p := range r.Pools {
		if !p.IsValid() {
			return fmt.Errorf(`field "pools[%d]" is empty; expected a subnet such as "10.0.0.0/8"`, i)
		}
	}
	if r.PoolSize < 0 || r.PoolSize > 128 {
		return fmt.Errorf(`field "pool_size" is %d; expected a prefix length such as 24`, r.PoolSize)
	}
	return nil
}

func (r JoinRequest) check() error {
	if r.Token == "" {
		return errors.New(`field "token" is missing; expected a join token, as weft token show prints it`)
	}
	host, port, err := net.SplitHostPort(r.Remote)
	if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || portErr != nil || n == 0 {
		return fmt.Errorf(`field "remote" is %q; expected HOST:PORT of a manager`, r.Remote)
	}
	return nil
}

func (LeaveRequest) check() error { return nil }

func (r RestoreRequest) check() error {
	if len(r.Backup) == 0 {
		return errors.New(`field "backup" is missing; expected what weft cluster backup wrote`)
	}
	if len(r.Backup) > maxBackup {
		return fmt.Errorf(`field "backup" has %d octets; expected at most %d`, len(r.Backup), maxBackup)
	}
	return nil
}

func (r MemberChange) check() error {
	if r == (MemberChange{}) {
		return errors.New(`nothing to change; expected "role" or "availability"`)
	}
	return errors.Join(oneOf("role", r.Role, "", "worker", "manager"), oneOf("availability", r.Availability, "", "active", "drain"))
}

func (r NetworkRequest) check() error {
	if r.Name == "" {
		return errors.New(`field "name" is missing; expected the new network's name`)
	}
	for i, s := range r.Subnets {
		if !s.Prefix.IsValid() {
			return fmt.Errorf(`field "subnets[%d].prefix" is missing; expected a subnet such as "10.0.1.0/24"`, i)
		}
	}
	if r.MTU < 0 || r.MTU > 65535 {
		return fmt.Errorf(`field "mtu" is %d; expected 1 to 65535, or 0 to have it computed`, r.MTU)
	}
	if r.VNI > vxlan.MaxVNI {
		return fmt.Errorf(`field "vni" is %d; expected at most %d`, r.VNI, vxlan.MaxVNI)
	}
	if r.Internal && r.Egress != "" && r.Egress != "none" {
		return fmt.Errorf(`field "internal" is true and "egress" is %q; expected one of them: an internal network has no way out`, r.Egress)
	}
	return errors.Join(oneOf("driver", r.Driver, "", "overlay", "bridge"), oneOf("egress", r.Egress, "", "internet", "full", "none"))
}

func (r AttachRequest) check() error {
	if r.Name == "" {
		return errors.New(`field "name" is missing; expected the container's name`)
	}
	places := 0
	for _, given := range []bool{r.PID != 0, r.NetNS != "", r.Bridge != ""} {
		if given {
			places++
		}
	}
	if places != 1 {
		return fmt.Errorf(`%d of the fields "pid", "netns" and "bridge" are given; expected one`, places)
	}
	if r.PID < 0 || r.Supervisor < 0 {
		return fmt.Errorf(`fields "pid" and "supervisor" are %d and %d; expected process numbers`, r.PID, r.Supervisor)
	}
	if len(r.Networks) == 0 {
		return errors.New(`field "networks" is missing; expected at least one network`)
	}
	if err := endpoint.CheckPorts(r.Ports); err != nil {
		return fmt.Errorf(`field "ports": %w`, err)
	}
	for i, n := range r.Networks {
		if err := n.check(fmt.Sprintf("networks[%d]", i)); err != nil {
			return err
		}
	}
	return nil
}

// check looks at the attachment at a place in its request.
func (a Attachment) check(place string) error {
	if a.Network == "" {
		return fmt.Errorf(`field "%s.network" is missing; expected a network's name or ID`, place)
	}
	for i, addr := range a.Addresses {
		if !addr.IsValid() || addr.Zone() != "" {
			return fmt.Errorf(`field "%s.addresses[%d]" is %q; expected an address such as "10.0.1.9"`, place, i, addr)
		}
		same := func(other netip.Addr) bool { return other.Is4() == addr.Is4() }
		if slices.ContainsFunc(a.Addresses[:i], same) {
			return fmt.Errorf(`field "%s.addresses" has two of one family; expected at most one of each`, place)
		}
	}
	return nil
}

func oneOf(field, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	if allowed[0] == "" {
		allowed = allowed[1:]
	}
	last := len(allowed) - 1
	return fmt.Errorf("field %q is %q; expected %s or %s", field, value, strings.Join(allowed[:last], ", "), allowed[last])
}
