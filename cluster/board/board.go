// Package board is where a node's newest state of the cluster hangs, for all to read, with a copy on disk that outlives a
// restart.
//
//	Set (newer only), Put ──► Get, Next ──► whoever works by it
//	                             │
//	                             └─ Keep ──► DIR/state.json.new ──rename──► DIR/state.json ──Read──► the next process
//
// A disk that is full or broken stops nothing: the state hangs all the same, and the old copy stays whole.
package board

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

// ErrEmpty is why there is nothing to wait for: the node is a member of no cluster any more.
var ErrEmpty = errors.New("board: the node is a member of no cluster")

// File puts text into a file in one step, and returns when it is on disk. On an error the old file stays.
type File func(path string, text []byte) error

// Board is where the newest state hangs, and its copy on disk.
type Board struct {
	path string
	log  *slog.Logger
	file File
	disk sync.Mutex // held while the copy is written or removed

	mu      sync.Mutex
	state   *state.State
	changed chan struct{} // closed when state changes
	tried   uint64        // index of the state whose copy was written last, or could not be
	trial   chan struct{} // closed when tried changes
	urgent  chan struct{} // somebody waits for the copy
}

// New returns an empty board that keeps its copy in dir, written by file; nil is the usual way.
func New(dir string, file File, log *slog.Logger) *Board {
	if file == nil {
		file = replaceFile
	}
	return &Board{
		path: filepath.Join(dir, stateFile), log: log, file: file,
		changed: make(chan struct{}), trial: make(chan struct{}), urgent: make(chan struct{}, 1),
	}
}

// Get returns the state, nil if there is none.
func (b *Board) Get() *state.State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

// Next returns a channel that is closed when another state is hung up.
func (b *Board) Next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// Set hangs up a state if it is newer than the one that hangs there.
func (b *Board) Set(s *state.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == nil || s.Index > b.state.Index {
		b.hang(s)
	}
}

// Put hangs up a state whatever hangs there; nil is that of no member.
func (b *Board) Put(s *state.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tried = 0
	b.hang(s)
}

func (b *Board) hang(s *state.State) {
	b.state = s
	close(b.changed)
	b.changed = make(chan struct{})
}

// Keep writes the states to disk as they come, the newest only, until ctx ends. It rests in between, the longer the longer
// writing takes, unless somebody waits.
func (b *Board) Keep(ctx context.Context) {
	var written *state.State
	for ctx.Err() == nil {
		changed := b.Next()
		if b.Get() == written {
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
	if b.Get() != written {
		b.copy() // its failure was logged, or the process ends before it could be of use
	}
}

// copy writes the state that hangs there to disk, and returns which that was.
func (b *Board) copy() (*state.State, error) {
	b.disk.Lock()
	defer b.disk.Unlock()
	s := b.Get()
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

// Await returns when the state has that index, and its copy is on disk if the disk takes it.
func (b *Board) Await(ctx context.Context, index uint64) error {
	for {
		b.mu.Lock()
		s, changed, tried, trial := b.state, b.changed, b.tried, b.trial
		b.mu.Unlock()
		switch {
		case s == nil:
			return ErrEmpty
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

// Save writes a state to disk now: that of a node that becomes a member.
func (b *Board) Save(s *state.State) error {
	b.disk.Lock()
	defer b.disk.Unlock()
	return b.file(b.path, s.Encode())
}

// Read returns the state on disk.
func (b *Board) Read() (*state.State, error) {
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

// Wipe removes the state from disk.
func (b *Board) Wipe() error {
	b.disk.Lock()
	defer b.disk.Unlock()
	if err := os.Remove(b.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// replaceFile is the usual File.
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

// Lock keeps other processes out of a data directory for as long as the file is open.
func Lock(dir string) (*os.File, error) {
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
