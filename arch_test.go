package weft_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/weftnet/weft"

// levels orders the packages: each may import its own level and the ones below it. The longest matching prefix decides.
var levels = map[string]int{
	"cmd":           7,
	"bench":         6,
	"internal":      6,
	"agent":         5,
	"cluster":       4,
	"gossip":        4,
	"engine":        4,
	"ingress":       4,
	"egress":        4,
	"dns":           4,
	"vip":           3,
	"ipam":          3,
	"stack":         3,
	"vxlan":         2,
	"crypto":        2,
	"stack/capture": 1,
	"stack/frame":   0,
	"stack/drop":    0,
	"stack/loop":    0,
}

// only names all that a package near the bottom may import, where its level alone would allow more.
var only = map[string][]string{
	"stack/drop":    {},
	"stack/loop":    {},
	"stack/frame":   {"stack/drop"},
	"stack/capture": {"stack/frame", "stack/drop"},
	"stack/tap":     {"stack/frame", "stack/drop", "stack/loop"},
}

// external says which of our packages alone may import a module whose API must not spread.
var external = map[string]string{"gvisor.dev/gvisor": "stack/router"}

// level returns the level of one of our packages, by its longest known prefix.
func level(pkg string) (int, bool) {
	for p := pkg; p != "."; {
		if l, ok := levels[p]; ok {
			return l, true
		}
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			break
		}
		p = p[:i]
	}
	return 0, false
}

func under(pkg, prefix string) bool { return pkg == prefix || strings.HasPrefix(pkg, prefix+"/") }

// check returns what in a graph of imports, both sides as paths within the module or of other modules, is not allowed.
func check(graph map[string][]string) (faults []string) {
	for pkg, imports := range graph {
		from, ok := level(pkg)
		if !ok {
			faults = append(faults, fmt.Sprintf("%s has no place in the design; give it one in arch_test.go's levels", pkg))
			continue
		}
		for _, dep := range imports {
			if fault := checkImport(graph, pkg, from, dep); fault != "" {
				faults = append(faults, fmt.Sprintf("%s imports %s: %s", pkg, dep, fault))
			}
		}
	}
	slices.Sort(faults)
	return faults
}

func checkImport(graph map[string][]string, pkg string, from int, dep string) string {
	for prefix, owner := range external {
		if under(dep, prefix) && !under(pkg, owner) {
			return "only " + owner + " may"
		}
	}
	if _, ours := graph[dep]; !ours {
		return ""
	}
	to, ok := level(dep)
	switch {
	case !ok:
		return "" // reported where dep itself is looked at
	case to > from:
		return "dependencies run downwards only"
	case only[pkg] != nil && !slices.Contains(only[pkg], dep):
		return fmt.Sprintf("it may import %s alone", strings.Join(append([]string{"of ours"}, only[pkg]...), " "))
	case (under(dep, "bench") || under(dep, "internal")) && !(under(pkg, "bench") || under(pkg, "internal") || under(pkg, "cmd")):
		return "only tests and commands may"
	}
	return ""
}

// imports lists the packages of the module with what they import, tests left out.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-e", "-deps", "-json=ImportPath,Imports,Standard", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	graph := make(map[string][]string)
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p struct {
			ImportPath string
			Imports    []string
			Standard   bool
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return graph
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		path, ours := strings.CutPrefix(p.ImportPath, module+"/")
		if !ours {
			continue
		}
		graph[path] = []string{}
		for _, dep := range p.Imports {
			graph[path] = append(graph[path], strings.TrimPrefix(dep, module+"/"))
		}
	}
}

func TestDependenciesRunDownwards(t *testing.T) {
	graph := imports(t)
	if _, ok := graph["stack/frame"]; !ok {
		t.Fatalf("go list found no stack/frame; is this the module's root?")
	}
	for _, fault := range check(graph) {
		t.Error(fault)
	}
}

func TestCheckFindsWhatIsNotAllowed(t *testing.T) {
	sound := map[string][]string{
		"cmd/weft":      {"agent", "bench", "internal/lab"},
		"agent":         {"agent/static", "stack/bridge", "vxlan"},
		"agent/static":  {"stack/frame"},
		"bench":         {"internal/lab", "agent"},
		"internal/lab":  {"stack/tap"},
		"stack/bridge":  {"vxlan", "stack/tap", "stack/loop", "stack/capture"},
		"stack/tap":     {"stack/frame"},
		"stack/router":  {"gvisor.dev/gvisor/pkg/tcpip"},
		"vxlan":         {"stack/frame", "stack/capture"},
		"stack/capture": {"stack/frame"},
		"stack/frame":   {"stack/drop"},
		"stack/loop":    {"golang.org/x/sys/unix"},
		"stack/drop":    {},
	}
	if faults := check(sound); len(faults) > 0 {
		t.Fatalf("a sound graph has faults: %q", faults)
	}
	for name, bad := range map[string]struct{ from, to string }{
		"the fast path on the agent":           {"stack/bridge", "agent"},
		"the tunnel on the switch":             {"vxlan", "stack/bridge"},
		"a frame on the tunnel":                {"stack/frame", "vxlan"},
		"the thread loop on anything of ours":  {"stack/loop", "stack/drop"},
		"a TAP on the switch":                  {"stack/tap", "stack/bridge"},
		"the agent on the lab":                 {"agent", "internal/lab"},
		"the switch on the bench":              {"stack/bridge", "bench"},
		"netstack outside the router":          {"agent", "gvisor.dev/gvisor/pkg/tcpip/stack"},
		"a package that the design knows not":  {"helpers", "stack/drop"},
		"the agent on a command":               {"agent", "cmd/weft"},
		"the capture on the tunnel it watches": {"stack/capture", "vxlan"},
	} {
		t.Run(name, func(t *testing.T) {
			graph := make(map[string][]string)
			for pkg, deps := range sound {
				graph[pkg] = deps
			}
			graph[bad.from] = append(slices.Clone(graph[bad.from]), bad.to)
			faults := check(graph)
			if len(faults) != 1 || !strings.HasPrefix(faults[0], bad.from+" ") {
				t.Errorf("%s importing %s gave %q, expected one fault about it", bad.from, bad.to, faults)
			}
		})
	}
}
