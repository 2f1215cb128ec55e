// Package endpoint keeps what a node has attached: a file that outlives the agent, so that the next one takes every port up again.
//
//	DIR/endpoints.json   {"version": 1, "endpoints": [{"id": ..., "container": {...}, "network": ..., ...}]}
//
// The file is replaced as a whole, by rename after fsync: a crash leaves the old one or the new one.
package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/cluster/state"
	"github.com/weftnet/weft/dns"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/stack/tap"
)

// Endpoint is a container's end of one network, on this node.
type Endpoint struct {
	ID        string          `json:"id"`
	Container Container       `json:"container"`
	Network   state.NetworkID `json:"network"`
	Interface string          `json:"interface"`
	MAC       frame.MAC       `json:"mac"`
	Addresses []netip.Addr    `json:"addresses"`
	Aliases   []string        `json:"aliases,omitempty"`
	Metric    int             `json:"metric,omitempty"` // of its default routes: a container leaves by the lowest; 0 in a list of an earlier version
	Created   time.Time       `json:"created"`
}

// Container is who an endpoint is for. Exactly one of PID, NetNS and Bridge is set.
type Container struct {
	Name       string `json:"name"`
	Hostname   string `json:"hostname,omitempty"`
	Service    string `json:"service,omitempty"`
	PID        int    `json:"pid,omitempty"`
	NetNS      string `json:"netns,omitempty"`
	Bridge     string `json:"bridge,omitempty"`
	Supervisor int    `json:"supervisor,omitempty"`
	Space      Space  `json:"space,omitzero"` // of PID and NetNS

	Ports []dns.Port `json:"ports,omitempty"` // that it exposes
}

// Path returns the path of the container's network namespace; empty for a bridge.
func (c *Container) Path() string {
	if c.PID != 0 {
		return fmt.Sprintf("/proc/%d/ns/net", c.PID)
	}
	return c.NetNS
}

// String says where the container's interfaces are, for people.
func (c *Container) String() string {
	switch {
	case c.Bridge != "":
		return "bridge " + c.Bridge
	case c.PID != 0:
		return fmt.Sprintf("pid %d", c.PID)
	}
	return c.NetNS
}

// Space is a network namespace itself, whatever its path names later: a reused PID is told from the container's. A host that starts in
// the same way each time gives PIDs and inodes in the same order, hence Boot.
type Space struct {
	Boot   string `json:"boot"` // the kernel's random boot_id
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

// ErrGone says that a namespace is not there any more.
var ErrGone = errors.New("the container's network namespace is gone")

// SpaceAt returns the namespace that path names now.
func SpaceAt(path string) (Space, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
			err = ErrGone
		}
		return Space{}, fmt.Errorf("network namespace %s: %w", path, err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Space{}, fmt.Errorf("network namespace %s: %w", path, err)
	}
	return Space{strings.TrimSpace(string(boot)), st.Dev, st.Ino}, nil
}

// Alive returns ErrGone if the container's namespace has ended, or its path names another one now.
func (c *Container) Alive() error {
	if c.Bridge != "" {
		return nil
	}
	now, err := SpaceAt(c.Path())
	switch {
	case errors.Is(err, ErrGone) && !tap.Vanished(c.Path()):
		err = nil // its command is just being started
	case err == nil && now != c.Space:
		err = fmt.Errorf("network namespace %s is another one now: %w", c.Path(), ErrGone)
	}
	return err
}

// Store is the list of a node's endpoints, in memory and on disk. Its methods need the caller's lock.
type Store struct {
	file  string
	list  []*Endpoint
	stale bool // what is on disk may differ from list: writing failed
}

type content struct {
	Version   int         `json:"version"`
	Endpoints []*Endpoint `json:"endpoints"`
}

const version = 1

// Load reads the list in dir, an empty one if there is none yet.
func Load(dir string) (*Store, error) {
	s := &Store{file: filepath.Join(dir, "endpoints.json")}
	b, err := os.ReadFile(s.file)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	if s.list, err = parse(b); err != nil {
		return nil, fmt.Errorf("endpoint: %s: %w; move it away and attach the containers again", s.file, err)
	}
	return s, nil
}

func parse(b []byte) ([]*Endpoint, error) {
	var c content
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, err
	}
	if c.Version != version {
		return nil, fmt.Errorf("version %d; this agent reads %d", c.Version, version)
	}
	seen := make(map[string]bool)
	for i, e := range c.Endpoints {
		switch {
		case e == nil || e.ID == "" || e.Container.Name == "" || len(e.Addresses) == 0:
			return nil, fmt.Errorf("endpoint %d lacks its ID, container or addresses", i)
		case e.Container.PID < 0 || !oneOf(e.Container.PID != 0, e.Container.NetNS != "", e.Container.Bridge != ""):
			return nil, fmt.Errorf("endpoint %s names not exactly one of pid, netns and bridge", e.ID)
		case seen[e.ID]:
			return nil, fmt.Errorf("endpoint %s is listed twice", e.ID)
		}
		seen[e.ID] = true
	}
	return c.Endpoints, nil
}

func oneOf(given ...bool) bool {
	n := 0
	for _, g := range given {
		if g {
			n++
		}
	}
	return n == 1
}

// All returns the endpoints, oldest first. The list is the caller's; what it points to is not to be changed.
func (s *Store) All() []*Endpoint { return slices.Clone(s.list) }

// Of returns the endpoints of a container.
func (s *Store) Of(container string) []*Endpoint {
	return slices.DeleteFunc(s.All(), func(e *Endpoint) bool { return e.Container.Name != container })
}

// In returns the endpoints in a network.
func (s *Store) In(network state.NetworkID) []*Endpoint {
	return slices.DeleteFunc(s.All(), func(e *Endpoint) bool { return e.Network != network })
}

// Add enters endpoints. On an error nothing is entered.
func (s *Store) Add(fresh ...*Endpoint) error { return s.save(append(s.All(), fresh...)) }

// Remove takes endpoints out. On an error they are out all the same, but not on disk until Flush succeeds: an agent that starts before
// that would take them up again.
func (s *Store) Remove(old ...*Endpoint) error {
	left := slices.DeleteFunc(s.All(), func(e *Endpoint) bool { return slices.Contains(old, e) })
	err := s.save(left)
	s.list = left
	return err
}

// Flush writes the list if it is not on disk as it is.
func (s *Store) Flush() error {
	if !s.stale {
		return nil
	}
	return s.save(s.list)
}

// save writes next to disk and, if that went well, makes it the list.
func (s *Store) save(next []*Endpoint) error {
	b, err := json.MarshalIndent(content{version, next}, "", "\t")
	if err != nil {
		return fmt.Errorf("endpoint: %w", err)
	}
	if err := replace(s.file, append(b, '\n')); err != nil {
		s.stale = true
		return fmt.Errorf("endpoint: write %s: %w; what is on disk is as before", s.file, err)
	}
	s.list, s.stale = next, false
	return nil
}

// replace puts a file in the place of another, whole or not at all.
func replace(path string, b []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))+"-")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
