package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/tap"
)

// Step is how far a trial came.
type Step string

// The steps, in order.
const (
	UserNamespace    Step = "user namespace"
	NetworkNamespace Step = "network namespace"
	Device           Step = "device"
	Done             Step = "done"
)

// Finding is the result of a trial.
type Finding struct {
	Step     Step   `json:"step"` // the one that failed, or Done
	Error    string `json:"error,omitempty"`
	Offloads string `json:"offloads,omitempty"` // what the device hands over unfinished; empty if it is plain
}

// ProbeArgs are the arguments by which this program calls Probe.
var ProbeArgs = []string{"doctor", "--probe"}

// patience is how long a trial may take.
const patience = 10 * time.Second

// Probe tries to make a TAP device in a network namespace of its own, as whoever calls it, and writes its Finding.
func Probe(w io.Writer) error {
	if err := json.NewEncoder(w).Encode(try()); err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	return nil
}

func try() Finding {
	ns, err := tap.Fresh()
	if err != nil {
		return Finding{Step: NetworkNamespace, Error: err.Error()}
	}
	defer ns.Close()
	d, err := tap.Open(tap.Config{Namespace: tap.ByFD(int(ns.Fd())), Name: "weft"})
	if err != nil {
		return Finding{Step: Device, Error: err.Error()}
	}
	f := Finding{Step: Done}
	if d.Mode() == tap.Offloaded {
		f.Offloads = d.Caps().String()
	}
	if err := d.Remove(); err != nil && !errors.Is(err, tap.ErrClosed) {
		return Finding{Step: Device, Error: err.Error()}
	}
	return f
}

// child has Probe called by a process in a user namespace of its own, in which this user is root.
func child() Finding {
	self, err := os.Executable()
	if err != nil {
		return Finding{Step: UserNamespace, Error: err.Error()}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, ProbeArgs...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	var said, complained bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &complained
	if err := cmd.Start(); err != nil {
		return Finding{Step: UserNamespace, Error: err.Error()}
	}
	var f Finding
	if err := errors.Join(cmd.Wait(), json.Unmarshal(said.Bytes(), &f)); err != nil {
		return Finding{Step: Device, Error: strings.TrimSpace(err.Error() + " " + complained.String())}
	}
	return f
}
