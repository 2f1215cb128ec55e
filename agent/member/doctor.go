package member

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/cluster"
)

// Checks looks whether this node is in line with its cluster (api.Doctor).
func (m *Member) Checks(ctx context.Context) ([]api.Check, error) {
	st := m.cluster.State()
	if st == nil {
		return []api.Check{{Name: "cluster", Level: api.CheckWarn, Found: "this node is in no cluster", Remedy: "weft init, or weft join"}}, nil
	}
	all := []api.Check{m.checkQuorum(), m.checkNodes(ctx)}
	m.mu.Lock()
	problems, epoch, primary := append([]string{}, m.problems...), m.epoch.Load(), st.Cluster.Gossip.Primary
	m.mu.Unlock()
	all = append(all,
		found("tables", m.cfg.Plane.Verify(), "as the cluster's state and the records say", "report this with the output of weft fdb --json; restarting the agent compiles them anew"),
		found("records", problems, "all believed", "see each; weft endpoint ls and weft ipam audit show more"))
	if epoch < primary {
		all = append(all, api.Check{Name: "keys", Level: api.CheckFail, Found: fmt.Sprintf("this node has keys up to epoch %d, and epoch %d is in use", epoch, primary), Remedy: "check that a manager is reachable"})
	}
	audit, err := m.Audit(ctx)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, a := range audit {
		lines = append(lines, fmt.Sprintf("%s in %s of node %s: %s", a.Address, a.Network, a.Node, a.Finding))
	}
	return append(all, found("addresses", lines, "all accounted for", "weft ipam audit")), nil
}

// found is a check that warns of each finding.
func found(name string, findings []string, fine, remedy string) api.Check {
	if len(findings) == 0 {
		return api.Check{Name: name, Level: api.CheckOK, Found: fine}
	}
	return api.Check{Name: name, Level: api.CheckWarn, Found: strings.Join(findings, "; "), Remedy: remedy}
}

func (m *Member) checkQuorum() api.Check {
	_, err := m.cluster.Quorum()
	switch {
	case err == nil:
		return api.Check{Name: "quorum", Level: api.CheckOK, Found: "a leader answers"}
	case errors.Is(err, cluster.ErrRemoved):
		return api.Check{Name: "quorum", Level: api.CheckFail, Found: err.Error(), Remedy: "weft leave --force, then weft join"}
	}
	return api.Check{Name: "quorum", Level: api.CheckFail, Found: err.Error(), Remedy: "bring a majority of the managers back, or restore a backup (docs/recovery.md)"}
}

func (m *Member) checkNodes(ctx context.Context) api.Check {
	nodes, err := m.Members(ctx)
	if err != nil {
		return api.Check{Name: "nodes", Level: api.CheckFail, Found: err.Error()}
	}
	var bad []string
	for _, n := range nodes {
		if n.Status != api.NodeReady {
			bad = append(bad, n.Name+" is "+n.Status)
		}
	}
	return found("nodes", bad, fmt.Sprintf("all %d are ready", len(nodes)), "start their agents, check UDP and TCP port of gossip between the nodes, or weft node rm those that are gone for good")
}
