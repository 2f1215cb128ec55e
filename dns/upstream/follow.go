package upstream

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// view is what the resolver knows of its servers at a time.
type view struct {
	conf Conf
	why  error // that there are no servers; nil: the file just names none
	pool *pool
}

// see makes a view. Questions and answers that are asked of the same servers in the same way stay.
func (r *Resolver) see(c Conf, why error) *view {
	v := &view{conf: c, why: why}
	if old := r.view.Load(); old != nil && old.conf.asks(&c) {
		v.pool = old.pool
	} else {
		v.pool = newPool(c, &r.c)
	}
	return v
}

// current returns the present view, after a look at the file if that is due.
func (r *Resolver) current() *view {
	if r.file != nil {
		if now := time.Now(); r.file.due(now) {
			r.follow(now)
		}
	}
	return r.view.Load()
}

// lookEvery is how often the file is looked at, while there are questions.
const lookEvery = time.Second

// maxFile bounds what is read of it.
const maxFile = 64 << 10

// file is a resolv.conf that is followed. It is read whole, at most once a second and only when somebody asks. That costs some ten
// microseconds, and is right where notification and modification times are not: for a symlink whose target is replaced, a bind mount, an overlayfs,
// a directory that is replaced, two changes within one tick of the clock.
type file struct {
	path string
	next atomic.Int64 // when to look again

	mu    sync.Mutex
	known sight // that the view is made of
	doubt sight // that may be half of what somebody is writing
	begun bool
}

// sight is what a look at the file finds.
type sight struct{ text, fault string }

// due reports, to one caller a second, that it is to look.
func (f *file) due(now time.Time) bool {
	next := f.next.Load()
	return now.UnixNano() >= next && f.next.CompareAndSwap(next, now.Add(lookEvery).UnixNano())
}

// follow looks at the file, and has the view changed if the file has.
func (r *Resolver) follow(now time.Time) {
	f := r.file
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next.Store(now.Add(lookEvery).UnixNano())
	text, err := read(f.path)
	s := sight{text: string(text)}
	if err != nil {
		s.fault = err.Error()
	}
	c := Parse(text)
	if !f.believe(s, &c) {
		return
	}
	v := r.see(c, err)
	if old := r.view.Swap(v); old != nil && !slices.Equal(old.conf.Servers, c.Servers) {
		r.c.Log.Info("name servers changed", "file", f.path, "servers", c.Servers)
	}
}

// believe reports whether what was found is new, and is what the file's writer meant. One that has no server, is not there, or does
// not end with its last line may be half written: that is believed when a second look finds the same.
func (f *file) believe(s sight, c *Conf) bool {
	if f.begun && s == f.known {
		f.doubt = s
		return false
	}
	whole := len(c.Servers) > 0 && s.text[len(s.text)-1] == '\n'
	if f.begun && !whole && s != f.doubt {
		f.doubt = s
		return false
	}
	f.begun, f.known, f.doubt = true, s, s
	return true
}

// read returns what is in a file, which must be one: a pipe or a device would keep the reader waiting.
func read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}
