package main

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/agent/doctor"
)

func newDoctor() *cobra.Command {
	var q question
	var o doctor.Options
	var probe bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check what this host has and lacks for weft, and what its agent finds wrong",
		Long: `Check what this host has and lacks for weft, for the user who asks: the tun driver and its offloads, namespaces, free
ports, the clock, room for data; for an ordinary user also what containers without root take. If an agent runs here, it
checks itself and its cluster too: the quorum, the nodes, whether its tables are what the cluster wants.

Everything that is wrong comes with its remedy. It changes nothing. The exit status is 1 if a check fails, 0 if there are at
most warnings.`,
		Example: "  weft doctor\n  sudo -u alice weft doctor\n  weft doctor --json | jq '.[] | select(.level != \"ok\")'",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if probe {
				return doctor.Probe(c.OutOrStdout())
			}
			var own []api.Check
			own, o.PID = asked(c, q)
			checks := append(doctor.Host(o), own...)
			if err := q.show(c, checks, func(t *table) { showChecks(t, checks) }); err != nil {
				return err
			}
			return verdict(checks)
		},
	}
	q.flags(c)
	dataDirFlag(c, &o.Dir)
	f := c.Flags()
	f.Uint16Var(&o.Ports.API, "listen-port", 7373, "the agent's port of node API and Raft, TCP")
	f.Uint16Var(&o.Ports.Gossip, "gossip-port", 7946, "the agent's port of gossip, TCP and UDP")
	f.Uint16Var(&o.Ports.VXLAN, "vxlan-port", 4789, "the agent's port of the containers' traffic, UDP")
	f.BoolVar(&probe, "probe", false, "only try to make a device, and say how it went (doctor calls itself so)")
	_ = f.MarkHidden("probe") // the flag is there
	return c
}

// asked is what the agent says of itself, and its PID, if there is one.
func asked(c *cobra.Command, q question) (checks []api.Check, pid int) {
	status, err := q.client().Status(c.Context())
	if err != nil {
		return []api.Check{{Name: "agent", Level: api.CheckWarn, Found: err.Error(), Remedy: "weft agent"}}, 0
	}
	checks = []api.Check{{Name: "agent", Level: api.CheckOK, Found: fmt.Sprintf("answers, process %d", status.PID)}}
	for _, p := range status.Problems {
		checks = append(checks, api.Check{Name: "agent", Level: api.CheckWarn, Found: p})
	}
	own, err := q.client().Checks(c.Context())
	var refusal *api.Refusal
	switch {
	case errors.As(err, &refusal) && refusal.Status == http.StatusConflict: // --static, which is nothing wrong
		checks = append(checks, api.Check{Name: "cluster", Level: api.CheckOK, Found: err.Error()})
	case err != nil:
		checks = append(checks, api.Check{Name: "cluster", Level: api.CheckFail, Found: err.Error()})
	}
	return append(checks, own...), status.PID
}

func showChecks(t *table, checks []api.Check) {
	t.row("CHECK", "LEVEL", "FOUND")
	for _, k := range checks {
		t.row(k.Name, k.Level, k.Found)
	}
	var remedies []api.Check
	for _, k := range checks {
		if k.Level != api.CheckOK && k.Remedy != "" {
			remedies = append(remedies, k)
		}
	}
	if len(remedies) == 0 {
		return
	}
	t.section("What to do")
	for _, k := range remedies {
		t.row(k.Name, k.Remedy)
	}
}

// verdict is an error if a check fails.
func verdict(checks []api.Check) error {
	failed := 0
	for _, k := range checks {
		if k.Level == api.CheckFail {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks fail", failed, len(checks))
	}
	return nil
}
