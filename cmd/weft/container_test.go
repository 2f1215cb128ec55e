package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/weftnet/weft/internal/lab"
)

// own runs weft as a process of its own: run takes all children for the container's, and exec becomes another program.
func own(t *testing.T, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal, wherever the tests run
	err := cmd.Run()
	if e := new(exec.ExitError); err != nil && !errors.As(err, &e) {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func TestContainersFromRunToRemoval(t *testing.T) {
	needsNamespaces(t)
	f := newFakeAgent()
	socket, data := f.serve(t), t.TempDir()
	t.Cleanup(func() { call(t, "rm", "-f", "c1", "c2", "--data-dir", data) })
	for _, c := range []struct {
		args           []string
		status         int
		stdout, stderr string // part of them
	}{
		{[]string{"run", "--socket", socket, "--network", "web:ip=10.0.1.2,alias=db", "--name", "c1", "--hostname", "h1", "--service", "s1", "-e", "A=1", "-w", "/usr", "--", "sh", "-c", "echo $A; pwd; hostname; exit 3"},
			3, "1\n/usr\nh1\n", "weft: warning: network web: no other node answered within 3s\n"},
		{[]string{"run", "--socket", socket, "--network", "web", "--rm", "--expose", "http=80", "--add-host", "build:host-gateway", "--dns-search", "lab.example", "--", "sh", "-c", "cat /etc/resolv.conf; tail -n 1 /etc/hosts"},
			0, "nameserver 10.0.1.1\nsearch lab.example\noptions ndots:0\n192.0.2.1\tbuild\n", ""},
		{[]string{"run", "--socket", socket, "--network", "web", "--rm", "--dns", "192.0.2.53", "--dns-search", ".", "--", "cat", "/etc/resolv.conf"}, 0, "nameserver 192.0.2.53\n", ""},
		{[]string{"ps"}, 0, "NAME  COMMAND  STATUS  PID  NETWORKS  ADDRESSES\n", ""},
		{[]string{"ps", "-a"}, 0, "c1    sh -c echo $A; pwd; hostname;…  Exited (3) a second ago  -    web       10.0.1.2,fd00::2\n", ""},
		{[]string{"run", "--socket", socket, "--network", "web", "--name", "c1", "true"}, 125, "", `weft: container name "c1" is in use (exited)`},
		{[]string{"run", "--socket", socket, "--network", "web", "-d", "--name", "c2", "--", "sh", "-c", "echo out; exec sleep 1000"}, 0, "c2\n", "weft: warning: network web"},
		{[]string{"ps"}, 0, "c2    sh -c echo out; exec sleep 10…  Up ", ""},
		{[]string{"exec", "c2", "-e", "B=2", "--", "sh", "-c", "echo $B; hostname; exit 4"}, 4, "2\nc2\n", ""},
		{[]string{"exec", "c2", "hostname"}, 0, "c2\n", ""},
		{[]string{"exec", "c2", "no-such-command"}, 127, "", "not found"},
		{[]string{"exec", "c1", "hostname"}, 125, "", `"c1" is exited, not running`},
		{[]string{"rm", "c2"}, 1, "", `"c2" is running; stop it first`},
		{[]string{"stop", "-t", "0", "c2", "none"}, 1, "c2\n", `container "none": no such container`},
		{[]string{"logs", "c2"}, 0, "out\n", ""},
		{[]string{"rm", "c1", "c2"}, 0, "c1\nc2\n", ""},
		{[]string{"ps", "-a", "--json"}, 0, "[]\n", ""},
		{[]string{"run", "--socket", socket, "--network", "web", "--rm", "--", "no-such-command"}, 127, "", `"no-such-command" is not found`},
		{[]string{"run", "--socket", socket, "--network", "web", "-d", "--", "no-such-command"}, 127, "", `"no-such-command" is not found`},
	} {
		o := own(t, append([]string{c.args[0], "--data-dir", data}, c.args[1:]...)...)
		if o.status != c.status || !strings.Contains(o.stdout, c.stdout) || !strings.Contains(o.stderr, c.stderr) {
			t.Errorf("weft %q: %+v, expected %d %q %q", c.args, o, c.status, c.stdout, c.stderr)
		}
	}
	asked := f.told()
	kinds := make([]string, len(asked))
	for i, s := range asked {
		kinds[i], _, _ = strings.Cut(s, " ")
	}
	if want := slices.Repeat([]string{"attach", "detach"}, 6); !slices.Equal(kinds, want) {
		t.Fatalf("the agent was asked for %q, expected %q", asked, want)
	}
	var r struct {
		Name, Hostname, Service string
		Networks                json.RawMessage
		PID, Supervisor         int
	}
	if !strings.Contains(asked[2], `"ports":[{"name":"http","number":80,"protocol":"tcp"}]`) {
		t.Errorf("of a container that exposes a port the agent was asked for %s", asked[2])
	}
	lab.Must(t, json.Unmarshal([]byte(strings.TrimPrefix(asked[0], "attach ")), &r))
	if r.Name != "c1" || r.Hostname != "h1" || r.Service != "s1" || r.PID == 0 || r.Supervisor == 0 || r.PID == r.Supervisor ||
		string(r.Networks) != `[{"network":"web","addresses":["10.0.1.2"],"aliases":["db"]}]` {
		t.Errorf("the agent was asked for %s", asked[0])
	}
}

func TestAgentThatRefusesKeepsTheContainerFromStarting(t *testing.T) {
	needsNamespaces(t)
	f := newFakeAgent()
	f.err = errors.New("no network web; this cluster has ingress")
	socket, data := f.serve(t), t.TempDir()
	for _, detach := range []string{"--detach=false", "--detach"} {
		o := own(t, "run", "--socket", socket, "--data-dir", data, "--network", "web", detach, "--", "echo", "started")
		if o.status != 125 || o.stdout != "" || !strings.Contains(o.stderr, "no network web; this cluster has ingress") {
			t.Errorf("%s: %+v", detach, o)
		}
	}
	o := own(t, "run", "--socket", socket+"none", "--data-dir", data, "--network", "web", "--", "echo", "started")
	if o.status != 125 || o.stdout != "" || !strings.Contains(o.stderr, "start one with weft agent") {
		t.Errorf("without an agent: %+v", o)
	}
	if list, err := os.ReadDir(data + "/containers"); err != nil || len(list) != 1 { // .lock
		t.Errorf("there are %v, %v; expected nothing of a container", list, err)
	}
}

func TestContainerCommandsRefuseWhatTheyDoNotUnderstand(t *testing.T) {
	data := t.TempDir()
	for _, c := range []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{"run", "--", "true"}, 125, "name one with --network"},
		{[]string{"run", "--network", "web"}, 125, "no command; name one after --"},
		{[]string{"run", "--network", "web:ip=x", "--", "true"}, 125, "--network: "},
		{[]string{"run", "--network", "web", "--name", "a/b", "true"}, 125, `--name: container name "a/b"`},
		{[]string{"run", "--network", "web", "-v", "a", "true"}, 125, "--volume: "},
		{[]string{"run", "--network", "web", "-e", "=x", "true"}, 125, "--env: "},
		{[]string{"run", "--network", "web", "--expose", "1-65", "true"}, 125, "--expose: \"1-65\" makes more than 64 ports"},
		{[]string{"run", "--network", "web", "--dns", "x", "true"}, 125, `--dns "x"; expected the address of a server`},
		{[]string{"run", "--network", "web", "--dns-option", "a b", "true"}, 125, `option "a b"; expected a word`},
		{[]string{"run", "--network", "web", "--add-host", "a", "true"}, 125, `--add-host: host "a": there is no address; expected NAME:ADDRESS`},
		{[]string{"run", "--nonsense"}, 125, "unknown flag: --nonsense\nSee weft run --help."},
		{[]string{"exec"}, 125, "no argument; expected weft exec"},
		{[]string{"exec", "c1"}, 125, "no command"},
		{[]string{"exec", "c1", "--nonsense", "--", "true"}, 125, "unknown flag: --nonsense"},
		{[]string{"exec", "c1", "true"}, 125, `container "c1": no such container on this node; weft ps -a lists those there are`},
		{[]string{"stop"}, 2, "no argument; expected weft stop"},
		{[]string{"stop", "-t", "-1", "c1"}, 2, "--time -1; expected seconds"},
		{[]string{"rm", "../c1"}, 1, `container name "../c1"; expected`},
		{[]string{"logs", "--tail", "x", "c1"}, 2, `--tail "x"; expected a number of lines, or all`},
		{[]string{"logs", "c1"}, 1, "no such container"},
		{[]string{"ps", "x"}, 2, `argument "x"; expected weft ps`},
	} {
		if os.Getuid() != 0 && (c.args[0] == "rm" || strings.Contains(c.stderr, "no such")) {
			continue // they enter a user namespace first
		}
		if o := own(t, append([]string{c.args[0], "--data-dir", data}, c.args[1:]...)...); o.status != c.status || !strings.Contains(o.stderr, c.stderr) {
			t.Errorf("weft %q: %+v, expected %d %q", c.args, o, c.status, c.stderr)
		}
	}
}
