package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/agent/api"
)

func TestDoctorWithoutAnAgentChecksTheHost(t *testing.T) {
	args := []string{"doctor", "--socket", filepath.Join(t.TempDir(), "none"), "--data-dir", t.TempDir()}
	got := call(t, append(args, "--json")...)
	var checks []api.Check
	if err := json.Unmarshal([]byte(got.stdout), &checks); err != nil {
		t.Fatalf("%v in %q", err, got.stdout)
	}
	failed, names := 0, []string{}
	for _, c := range checks {
		names = append(names, c.Name)
		if c.Level == api.CheckFail {
			failed++
		}
		if c.Name == "agent" && (c.Level != api.CheckWarn || !strings.Contains(c.Found, "no agent at")) {
			t.Errorf("%+v; want a warning that there is no agent", c)
		}
	}
	for _, want := range []string{"tun device", "port 4789/udp", "data directory", "agent"} {
		if !slices.Contains(names, want) {
			t.Errorf("checks %q lack %q", names, want)
		}
	}
	if wrong := failed > 0; wrong != (got.status == 1) {
		t.Errorf("status %d with %d failed checks", got.status, failed)
	}
	if table := call(t, args...); !strings.HasPrefix(table.stdout, "CHECK") {
		t.Errorf("table %q", table.stdout)
	}
}

func TestDoctorsVerdictIsThatOfTheWorstCheck(t *testing.T) {
	fine, warning, bad := api.Check{Level: api.CheckOK}, api.Check{Level: api.CheckWarn}, api.Check{Level: api.CheckFail}
	if err := verdict([]api.Check{fine, warning}); err != nil {
		t.Errorf("a warning: %v", err)
	}
	if err := verdict([]api.Check{fine, bad, warning, bad}); err == nil || err.Error() != "2 of 4 checks fail" {
		t.Errorf("two that fail: %v", err)
	}
}

func TestDoctorHidesItsTrial(t *testing.T) {
	if got := call(t, "doctor", "--help"); strings.Contains(got.stdout, "probe") {
		t.Errorf("help shows the trial:\n%s", got.stdout)
	}
	got := call(t, "doctor", "--probe")
	if got.status != 0 || !strings.Contains(got.stdout, `"step"`) {
		t.Errorf("status %d, %q %q", got.status, got.stdout, got.stderr)
	}
}
