package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/cluster/state"
)

const (
	stateFile = "state.json"
	lockFile  = "cluster.lock"
)

// board is where the newest state hangs, and its copy on disk.
type board struct {
	path string
	log  *slog.Logger
	file func(path string, b []byte) error // writes the copy; tests make it fail
	disk sync.Mutex                        // held while the copy is written or removed

	mu      sync.Mutex
	state   *state.State
	changed chan struct{} // closed when state changes
	tried   uint64        // index of the state whose copy was written last, or could not be
	trial   chan struct{} // closed when tried changes
	urgent  chan struct{} // somebody waits for the copy
}

func newBoard(path string, log *slog.Logger) *board {
	return &board{
		path: path, log: log, file: replaceFile,
		changed: make(chan struct{}), trial: make(chan struct{}), urgent: make(chan struct{}, 1),
	}
}

func (b *board) get() *state.State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

func (b *board) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// set hangs up a state if it is newer than the one that hangs there.
func (b *board) set(s *state.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == nil || s.Index > b.state.Index {
		b.hang(s)
	}
}

// put hangs up a state whatever hangs there; nil is that of no member.
func (b *board) put(s *state.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tried = 0
	b.hang(s)
}

func (b *board) hang(s *state.State) {
	b.state = s
	close(b.changed)
	b.changed = make(chan struct{})
}

// keep writes the states to disk as they come, the newest only, until ctx ends. It rests in between, the longer the longer
// writing takes, unless somebody waits.
func (b *board) keep(ctx context.Context) {
	var written *state.State
	for ctx.Err() == nil {
		changed := b.next()
		if b.get() == written {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		begin := time.Now()
		s, err := b.copy()
		rest := min(10*time.Since(begin), time.Second)
		if err != nil {
			b.log.Error("the cluster's state cannot be kept on disk; a restart would begin with an older one", "file", b.path, "error", err)
			s, rest = nil, time.Second // again: the disk may have room by then
		}
		written = s
		select {
		case <-ctx.Done():
		case <-b.urgent:
		case <-time.After(rest):
		}
	}
	if b.get() != written {
		b.copy() // its failure was logged, or the process ends before it could be of use
	}
}

// copy writes the state that hangs there to disk, and returns which that was.
func (b *board) copy() (*state.State, error) {
	b.disk.Lock()
	defer b.disk.Unlock()
	s := b.get()
	if s == nil {
		return nil, nil
	}
	err := b.file(b.path, s.Encode())
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tried = max(b.tried, s.Index)
	close(b.trial)
	b.trial = make(chan struct{})
	return s, err
}

// await returns when the state has that index, and its copy is on disk if the disk takes it.
func (b *board) await(ctx context.Context, index uint64) error {
	for {
		b.mu.Lock()
		s, changed, tried, trial := b.state, b.changed, b.tried, b.trial
		b.mu.Unlock()
		switch {
		case s == nil:
			return ErrNoMember
		case s.Index < index:
			trial = changed
		case tried >= index:
			return nil
		default:
			select {
			case b.urgent <- struct{}{}:
			default:
			}
		}
		select {
		case <-trial:
		case <-ctx.Done():
			return fmt.Errorf("the change is made (index %d), but this node does not know of it yet: %w", index, context.Cause(ctx))
		}
	}
}

// save writes a state to disk now: that of a node that becomes a member.
func (b *board) save(s *state.State) error {
	b.disk.Lock()
	defer b.disk.Unlock()
	return b.file(b.path, s.Encode())
}

// read returns the state on disk.
func (b *board) read() (*state.State, error) {
	text, err := os.ReadFile(b.path)
	if err != nil {
		return nil, err
	}
	s, err := state.Decode(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.path, err)
	}
	return s, nil
}

// wipe removes the state from disk.
func (b *board) wipe() error {
	b.disk.Lock()
	defer b.disk.Unlock()
	if err := os.Remove(b.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// replaceFile puts text into a file in one step, and returns when it is on disk. On an error the old file stays.
func replaceFile(path string, text []byte) (err error) {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(path + ".new")
		}
	}()
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// lockDir keeps other processes out of a data directory for as long as the file is open.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another agent uses the data directory %s; stop it, or choose another directory", dir)
	}
	return f, nil
}
