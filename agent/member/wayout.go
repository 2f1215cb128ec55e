package member

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/weftnet/weft/agent/endpoint"
	"github.com/weftnet/weft/agent/plan"
	"github.com/weftnet/weft/cluster/state"
)

// A container on several networks leaves by the one whose default route has the lowest metric: by the number in its interface's name, or
// else in the order in which it was attached, after all of those. The kernel takes the next one once a container is off that
// network, and one that another engine made before any of ours.
const (
	firstMetric = 512
	otherMetric = 640  // of interfaces by other names than eth0 to eth127
	metric6     = 1024 // more for IPv6, where routes that say nothing have 1024
)

// metricOf returns the metric of the default routes by an interface, given those of the container's others.
func metricOf(name string, taken map[int]bool) int {
	if text, ok := strings.CutPrefix(name, "eth"); ok {
		if n, err := strconv.ParseUint(text, 10, 16); err == nil && n < otherMetric-firstMetric && strconv.FormatUint(n, 10) == text {
			return firstMetric + int(n)
		}
	}
	metric := otherMetric
	for taken[metric] {
		metric++
	}
	return metric
}

// rank gives endpoints of an earlier version's list their metrics. It does so before any of them is attached: a route that changes makes
// the interface anew.
func rank(all []*endpoint.Endpoint) {
	taken := make(map[string]map[int]bool) // by container
	for _, e := range all {
		name := e.Container.Name
		if taken[name] == nil {
			taken[name] = make(map[int]bool)
		}
		taken[name][e.Metric] = true
	}
	for _, e := range all {
		if e.Metric == 0 && e.Container.Bridge == "" {
			e.Metric = metricOf(e.Interface, taken[e.Container.Name])
			taken[e.Container.Name][e.Metric] = true
		}
	}
}

// wayOut returns the container's routes to what is outside of its network: by the gateways, one for each family that it has an address of.
func wayOut(n *state.Network, e *endpoint.Endpoint) (all []plan.Route) {
	if e.Container.Bridge != "" || n.Reach() == state.EgressNone {
		return nil
	}
	_, gateways := prefixed(n, e.Addresses)
	seen := make(map[bool]bool)
	for _, via := range gateways {
		v4 := via.Is4()
		if seen[v4] {
			continue
		}
		seen[v4] = true
		if v4 {
			all = append(all, plan.Route{To: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Via: via, Metric: e.Metric})
		} else {
			all = append(all, plan.Route{To: netip.PrefixFrom(netip.IPv6Unspecified(), 0), Via: via, Metric: metric6 + e.Metric})
		}
	}
	return all
}
