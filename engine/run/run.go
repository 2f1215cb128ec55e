// Package run runs commands as containers without images: the host's file system, and network, mount and UTS namespaces of
// their own, attached to networks before the command starts.
//
//	weft run ─► supervisor ── clone ──────► init (package inside)
//	             │  lock, container.json      │ waits
//	             ├─ Attach(init's PID) ─► agent: eth0, addresses, routes
//	             ├─ hosts, resolv.conf and others (package etc)
//	             ├─ orders ──────────────────►│ hostname, mounts, user
//	             │                            └─ exec ─► the command
//	             ├─ signals, log              │
//	             ├─◄── end of the command ────┘
//	             ├─ kill what else is in its namespaces
//	             ├─ Detach ─────────────► agent
//	             └─ exit status ─► container.json
//
// The supervisor is weft run itself, or with Detach a process in a session of its own. It outlives the agent. A container
// is a directory:
//
//	DATA/containers/.lock               held for moments: who makes, lists or removes
//	DATA/containers/NAME/lock           held by the supervisor as long as it lives
//	                    /container.json Container
//	                    /log, log.1     output of a detached one (see Log)
//	                    /hosts, hostname, resolv.conf, nsswitch.conf   bound over those in /etc
//
// It is no boundary against hostile programs: a container of root's is root on the host's files.
package run

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"strings"

	"github.com/weftnet/weft/engine/run/etc"
	"github.com/weftnet/weft/engine/run/inside"
)

// StatusFailed is the exit status of weft run and weft exec when weft failed, not the command, as Docker's. The others that
// are not the command's are in package inside.
const StatusFailed = inside.StatusFailed

// Attacher gives containers their interfaces: the agent.
type Attacher interface {
	// Attach returns when the container has all its interfaces, or none.
	Attach(context.Context, Request) ([]Endpoint, error)
	Detach(ctx context.Context, name string) error
}

// Request says which container to attach.
type Request struct {
	Name, Hostname, Service string
	PID                     int // a process in its namespaces
	Supervisor              int
}

// Endpoint is a container's end of one network.
type Endpoint struct {
	Network   string         `json:"network"`
	Interface string         `json:"interface"`
	Addresses []netip.Prefix `json:"addresses"`
	Gateways  []netip.Addr   `json:"gateways,omitempty"`
	Warning   string         `json:"warning,omitempty"`
}

// Spec describes a container.
type Spec struct {
	Name     string // default: a random one
	Hostname string // default: Name
	Service  string
	Command  []string
	Env      []string // whole, NAME=value
	Workdir  string
	User     string // user[:group], names or numbers; empty: whoever runs it
	Volumes  []inside.Volume
	Resolv   etc.Resolv // what is wished of its resolv.conf, which otherwise leads to the gateway
	Hosts    []etc.Host // in its hosts file, besides its own names
	Remove   bool       // nothing stays of it at its end
}

// Options are a container to be run, and who takes part.
type Options struct {
	Spec
	Attacher Attacher
	Warn     func(string) // may be nil
	Ready    *Ready       // of a supervisor that Detach started; nil in the foreground
}

var (
	nameForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)
	hostForm = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9_-]*[a-zA-Z0-9])?)*$`)
)

// longest is how long names of containers and hosts may be: a label of DNS.
const longest = 63

// CheckName tells what is wrong with a container's name.
func CheckName(name string) error {
	if len(name) > longest || !nameForm.MatchString(name) {
		return fmt.Errorf("container name %q; expected a letter or digit, then letters, digits, _ . or -, up to %d in all", name, longest)
	}
	return nil
}

func (o *Options) complete() error {
	if len(o.Command) == 0 {
		return errors.New("no command to run; name one after --")
	}
	if o.Name == "" {
		o.Name = "weft-" + hex.EncodeToString([]byte{byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32())})
	}
	if err := CheckName(o.Name); err != nil {
		return err
	}
	if o.Hostname == "" {
		o.Hostname = strings.TrimRight(o.Name, "_.-")
	} else if len(o.Hostname) > longest || !hostForm.MatchString(o.Hostname) {
		return fmt.Errorf("host name %q; expected labels of letters, digits and -, joined by dots, up to %d characters in all", o.Hostname, longest)
	}
	for _, v := range o.Env {
		if i := strings.IndexByte(v, '='); i <= 0 {
			return fmt.Errorf("environment %q; expected NAME=value", v)
		}
	}
	if err := o.Resolv.Check(); err != nil {
		return err
	}
	o.Env = Environment(o.Env, []string{"HOSTNAME=" + o.Hostname})
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	return nil
}

// Run runs a container in the store to its end, and returns the command's exit status, 128 and the signal's number if one
// ended it. Until the command has been started, the end of ctx and the usual signals give up, and nothing remains; from
// then on signals are passed to the command. All children of this process are taken for the container's.
func Run(ctx context.Context, store Store, o Options) (status int, err error) {
	if err := o.complete(); err != nil {
		return StatusFailed, err
	}
	s, err := prepare(store, &o)
	if err != nil {
		return StatusFailed, err
	}
	defer s.close()
	if err := s.start(ctx); err != nil {
		if e := new(inside.StartError); errors.As(err, &e) {
			return e.Status, err
		}
		return StatusFailed, err
	}
	if o.Ready != nil {
		o.Ready.tell(outcome{Name: o.Name, Warnings: s.warnings()})
	}
	return s.supervise()
}

// Detach runs this program again with the same arguments, as a supervisor in a session of its own, which finds Detached.
// It returns the container's name when its command has been started, and calls warn for what is not as it should be.
func Detach(ctx context.Context, warn func(string)) (name string, status int, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", StatusFailed, fmt.Errorf("find this program: %w", err)
	}
	return detach(ctx, self, os.Args[1:], warn)
}
