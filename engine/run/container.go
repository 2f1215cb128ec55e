package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/weftnet/weft/engine/process"
	"github.com/weftnet/weft/engine/run/etc"
	"github.com/weftnet/weft/engine/run/inside"
)

// State is what a container is doing.
type State string

const (
	Starting State = "starting" // its command has not been started yet
	Running  State = "running"
	Exited   State = "exited" // its command has ended; see Status
	Dead     State = "dead"   // its supervisor was killed, or the host went down: how the command ended is not known
)

// Container is what is on record about a container.
type Container struct {
	Name       string          `json:"name"`
	Hostname   string          `json:"hostname"`
	Service    string          `json:"service,omitempty"`
	Command    []string        `json:"command"`
	Workdir    string          `json:"workdir"`
	Volumes    []inside.Volume `json:"volumes"`
	Resolv     etc.Resolv      `json:"resolv,omitzero"`
	Hosts      []etc.Host      `json:"hosts,omitempty"`
	Remove     bool            `json:"remove"`
	Detached   bool            `json:"detached"`
	Created    time.Time       `json:"created"`
	Started    time.Time       `json:"started,omitzero"`
	Finished   time.Time       `json:"finished,omitzero"`
	Status     int             `json:"status"` // once finished
	Process    process.Process `json:"process,omitzero"`
	Supervisor process.Process `json:"supervisor"`
	Endpoints  []Endpoint      `json:"endpoints"`
	State      State           `json:"state"` // as it was when it was asked for
}

// state is what the record means, given whether the supervisor lives.
func (c *Container) state(supervised bool) State {
	switch {
	case !c.Finished.IsZero():
		return Exited
	case !supervised:
		return Dead
	case c.Started.IsZero():
		return Starting
	}
	return Running
}

// Summary says in a few words what a container does, as docker ps.
func (c *Container) Summary(now time.Time) string {
	switch c.State {
	case Starting:
		return "Starting"
	case Running:
		return "Up " + about(now.Sub(c.Started))
	case Exited:
		return fmt.Sprintf("Exited (%d) %s ago", c.Status, about(now.Sub(c.Finished)))
	}
	return "Dead"
}

// about is a length of time as people say it.
func about(d time.Duration) string {
	for _, u := range []struct {
		name string
		len  time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}} {
		if n := int(d / u.len); n == 1 {
			return "1 " + u.name
		} else if n > 1 {
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	if n := int(d / time.Second); n > 1 {
		return fmt.Sprintf("%d seconds", n)
	}
	return "a second"
}

// folder is one container's directory.
type folder string

func (f folder) file(name string) string { return filepath.Join(string(f), name) }

func (f folder) name() string { return filepath.Base(string(f)) }

// load reads the record. One that a crash has cut short, or kept from being written, is of a dead container.
func (f folder) load() (*Container, error) {
	b, err := os.ReadFile(f.file("container.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("container %s: %w", f.name(), err)
	}
	c := &Container{}
	if err != nil || json.Unmarshal(b, c) != nil {
		c = &Container{}
	}
	c.Name = f.name()
	return c, nil
}

func (f folder) save(c *Container) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("container %s: %w", f.name(), err)
	}
	fresh := f.file("container.json.new")
	if err := os.WriteFile(fresh, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("container %s: record it: %w", f.name(), err)
	}
	if err := os.Rename(fresh, f.file("container.json")); err != nil {
		return fmt.Errorf("container %s: record it: %w", f.name(), err)
	}
	return nil
}

// furnish writes the files that stand in for those of /etc. It does so again once the addresses are known; a bind mount
// would show that, too.
func (f folder) furnish(c *Container) error {
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		resolv = []byte("# the host has no resolv.conf\n")
	}
	services, _ := os.ReadFile("/etc/nsswitch.conf") // musl has none
	var gateways [][]netip.Addr
	var own []netip.Addr
	for _, e := range c.Endpoints {
		gateways = append(gateways, e.Gateways)
		for _, a := range e.Addresses {
			own = append(own, a.Addr())
		}
	}
	for name, text := range map[string]string{
		"nsswitch.conf": etc.Switch(string(services)),
		"hosts":         etc.Hosts(etc.Names(c.Hostname, c.Name), own, c.Hosts),
		"hostname":      c.Hostname + "\n",
		"resolv.conf":   c.Resolv.Text(etc.Server(gateways...), string(resolv)),
	} {
		if err := os.WriteFile(f.file(name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("container %s: %w", f.name(), err)
		}
		if err := os.Chmod(f.file(name), 0o644); err != nil { // whatever the umask: the container may have other users
			return fmt.Errorf("container %s: %w", f.name(), err)
		}
	}
	return nil
}
