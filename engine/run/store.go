package run

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Store is the directory of a node's containers.
type Store struct{ dir string }

// NewStore returns the store in a data directory. It is made with its first container.
func NewStore(data string) Store { return Store{filepath.Join(data, "containers")} }

var (
	// ErrNotFound means that there is no such container.
	ErrNotFound = errors.New("no such container")
	// ErrInUse means that the name is another container's.
	ErrInUse = errors.New("in use")
)

// List returns all containers, in the order in which they were made.
func (s Store) List() ([]*Container, error) {
	unlock, err := s.lock(unix.LOCK_SH)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer unlock()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("containers: %w", err)
	}
	var all []*Container
	for _, e := range entries {
		if !e.IsDir() || CheckName(e.Name()) != nil {
			continue
		}
		c, err := s.folder(e.Name()).inspect()
		if errors.Is(err, ErrNotFound) {
			continue // its supervisor has just removed it
		} else if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b *Container) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name))
	})
	return all, nil
}

// Get returns one container.
func (s Store) Get(name string) (*Container, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	unlock, err := s.lock(unix.LOCK_SH)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing(name)
	} else if err != nil {
		return nil, err
	}
	defer unlock()
	return s.folder(name).inspect()
}

func missing(name string) error {
	return fmt.Errorf("container %q: %w on this node; weft ps -a lists those there are", name, ErrNotFound)
}

func (s Store) folder(name string) folder { return folder(filepath.Join(s.dir, name)) }

// inspect reads the record and looks whether the supervisor lives.
func (f folder) inspect() (*Container, error) {
	if _, err := os.Stat(string(f)); errors.Is(err, fs.ErrNotExist) {
		return nil, missing(f.name())
	}
	supervised, err := f.supervised()
	if err != nil {
		return nil, err
	}
	c, err := f.load() // after looking: a supervisor that ended in between has written it
	if err != nil {
		return nil, err
	}
	c.State = c.state(supervised)
	return c, nil
}

// supervised reports whether the lock is held.
func (f folder) supervised() (bool, error) {
	lock, err := os.OpenFile(f.file("lock"), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("container %s: %w", f.name(), err)
	}
	defer lock.Close()
	switch err := flock(lock, unix.LOCK_SH|unix.LOCK_NB); {
	case err == nil:
		return false, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		return true, nil
	default:
		return false, fmt.Errorf("container %s: its lock: %w", f.name(), err)
	}
}

// create makes a container's directory and locks it for its supervisor. A failure leaves nothing behind.
func (s Store) create(c *Container) (f folder, held *os.File, err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("containers: %w", err)
	}
	unlock, err := s.lock(unix.LOCK_EX)
	if err != nil {
		return "", nil, err
	}
	defer unlock()
	f = s.folder(c.Name)
	if err := os.Mkdir(string(f), 0o700); errors.Is(err, fs.ErrExist) {
		return "", nil, s.taken(f)
	} else if err != nil {
		return "", nil, fmt.Errorf("container %s: %w", c.Name, err)
	}
	made := f // a failing return empties f
	defer func() {
		if err != nil {
			_ = os.RemoveAll(string(made))
		}
	}()
	if held, err = os.OpenFile(f.file("lock"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return "", nil, fmt.Errorf("container %s: %w", c.Name, err)
	}
	if err = flock(held, unix.LOCK_EX); err == nil {
		err = errors.Join(f.furnish(c), f.save(c))
	}
	if err != nil {
		held.Close()
		return "", nil, err
	}
	return f, held, nil
}

func (s Store) taken(f folder) error {
	c, err := f.inspect()
	if err != nil {
		return err
	}
	remedy := "weft rm " + c.Name
	if c.State != Exited {
		remedy = "weft rm -f " + c.Name
	}
	return fmt.Errorf("container name %q is %w (%s); choose another --name, or remove that one: %s", c.Name, ErrInUse, c.State, remedy)
}

// discard removes the directory of a container whose lock its caller holds, or that has no supervisor: not one that came
// by the name since.
func (s Store) discard(f folder, c *Container) error {
	unlock, err := s.lock(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	if now, err := f.load(); err != nil || now.Supervisor != c.Supervisor {
		return err
	}
	if err := os.RemoveAll(string(f)); err != nil {
		return fmt.Errorf("container %s: remove it: %w", f.name(), err)
	}
	return nil
}

// lock keeps the set of containers as it is (LOCK_SH), or for one process to change (LOCK_EX).
func (s Store) lock(how int) (unlock func(), err error) {
	lock, err := os.OpenFile(filepath.Join(s.dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("containers: %w; they are another user's: name your own data directory with --data-dir, or run weft as that user", err)
	} else if err != nil {
		return nil, fmt.Errorf("containers: %w", err)
	}
	if err := flock(lock, how); err != nil {
		lock.Close()
		return nil, fmt.Errorf("containers: lock %s: %w", lock.Name(), err)
	}
	return func() { lock.Close() }, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
