// Package capture copies frames off the data path into pcapng files (draft-ietf-opsawg-pcapng).
//
//	bridge, tunnel ── Tap.Frame ── filter ── copy ──► ring ──► Session.Run ── complete checksums, cut, encapsulate ──► pcapng
//	(forwarding threads: no lock, no wait,            │        (its own goroutine)
//	 nothing at all while nobody captures)            └─ full: the frame is counted as lost
//
// A frame is seen at one of two points: at a container's port, on its way in from the container or out to it, or at the
// tunnel, on its way in from the underlay or out to it. Superframes are written as the data path carries them, up to 64 KiB
// long, or cut into the frames that a wire would carry.
package capture

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/stack/frame"
)

// Where says at which point of the data path a frame is.
type Where struct {
	Network string
	Port    string // name of the container's port; empty at the tunnel
	Out     bool   // out of the switch, to the container or the underlay; otherwise in from there

	// At the tunnel only.
	VNI    uint32
	Local  netip.AddrPort // this node's end of the tunnel; port 0 is taken for one of its sending sockets, unknown which
	Remote netip.AddrPort // the other node's end
	MTU    int            // longest inner IP packet on the way to Remote; 0 if it does not bind
}

// Tap is the place in the data path where sessions listen. All methods may be called from any goroutine. A nil Tap is one
// that nobody captures from.
type Tap struct {
	sessions atomic.Pointer[[]*Session] // nil while there are none
	mu       sync.Mutex                 // guards changes of sessions
}

// New returns a Tap without sessions.
func New() *Tap { return &Tap{} }

// Enabled reports whether anybody captures. It costs one load; the data path asks before it prepares a call of Frame.
func (t *Tap) Enabled() bool { return t != nil && t.sessions.Load() != nil }

// Frame offers the frame made of parts, from its destination MAC on, to all sessions. It copies what they want; it never
// blocks and never allocates. All headers of the frame must lie in the first part, or in the first 256 bytes.
func (t *Tap) Frame(at Where, o *frame.Offload, parts [][]byte) {
	if t == nil {
		return
	}
	list := t.sessions.Load()
	if list == nil {
		return
	}
	for _, s := range *list {
		s.offer(&at, o, parts)
	}
}

// Point is a kind of place where frames are seen.
type Point uint8

// The points.
const (
	AtPort   Point = iota // ports of containers
	AtTunnel              // the tunnel, before encapsulation and after decapsulation
)

// Defaults and limits of Options.
const (
	DefaultSnaplen = 256 << 10 // longer than any superframe
	DefaultBuffer  = 16 << 20
)

// Options say what a session captures, and how it is written.
type Options struct {
	Point   Point
	Network string // only this network; empty: all
	Port    string // only this port, at AtPort; empty: all
	Filter  Filter
	Snaplen int    // bytes of each frame that are kept; 0 means DefaultSnaplen
	Cut     bool   // cut superframes into wire frames
	Outer   bool   // at AtTunnel: write the datagrams around the frames too, which always cuts superframes
	Count   uint64 // end after that many written frames; 0: never
	Buffer  int    // bytes of frames that may wait to be written; 0 means DefaultBuffer
}

// Session is one capture. Frames are kept from Open on and written by Run.
type Session struct {
	opt     Options
	tap     *Tap
	ring    *ring
	started time.Time
	seen    atomic.Uint64 // frames that passed the filter
	lost    atomic.Uint64 // of these, frames that found no room
	closed  sync.Once
}

// Open begins a session. It must be closed.
func (t *Tap) Open(o Options) (*Session, error) {
	if o.Snaplen == 0 {
		o.Snaplen = DefaultSnaplen
	}
	if o.Buffer == 0 {
		o.Buffer = DefaultBuffer
	}
	switch {
	case o.Snaplen < 64 || o.Snaplen > DefaultSnaplen:
		return nil, fmt.Errorf("capture: snaplen %d; expected %d to %d bytes, or 0 for all", o.Snaplen, 64, DefaultSnaplen)
	case o.Buffer < minBuffer:
		return nil, fmt.Errorf("capture: buffer of %d bytes; expected at least %d, which one superframe may need", o.Buffer, minBuffer)
	case o.Point == AtTunnel && o.Port != "":
		return nil, fmt.Errorf("capture: port %q at the tunnel; ports are seen at the point port; capture there, or name a network", o.Port)
	case o.Point == AtPort && o.Outer:
		return nil, fmt.Errorf("capture: the outer view exists at the tunnel only; capture there, or leave it out")
	}
	s := &Session{opt: o, tap: t, ring: newRing(o.Buffer), started: time.Now()}
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []*Session
	if old := t.sessions.Load(); old != nil {
		list = slices.Clone(*old)
	}
	list = append(list, s)
	t.sessions.Store(&list)
	return s, nil
}

// Close ends the session: no further frame is kept. It is idempotent.
func (s *Session) Close() {
	s.closed.Do(func() {
		s.tap.mu.Lock()
		defer s.tap.mu.Unlock()
		list := slices.DeleteFunc(slices.Clone(*s.tap.sessions.Load()), func(o *Session) bool { return o == s })
		if len(list) == 0 {
			s.tap.sessions.Store(nil)
			return
		}
		s.tap.sessions.Store(&list)
	})
}

// Statistics returns how many frames passed the filter, and how many of these were lost because the reader of the capture was
// too slow.
func (s *Session) Statistics() (seen, lost uint64) { return s.seen.Load(), s.lost.Load() }

// offer keeps a frame if the session wants it. It runs on forwarding threads.
func (s *Session) offer(at *Where, o *frame.Offload, parts [][]byte) {
	if !s.wants(at) || !s.opt.Filter.matches(parts) {
		return
	}
	s.seen.Add(1)
	length := 0
	for _, p := range parts {
		length += len(p)
	}
	kept := length
	if !s.opt.Cut && !s.opt.Outer { // these need the whole frame; the writer shortens what comes of it
		kept = min(length, s.opt.Snaplen)
	}
	if !s.ring.put(time.Now().UnixNano(), at, o, parts, length, kept) {
		s.lost.Add(1)
	}
}

func (s *Session) wants(at *Where) bool {
	if s.opt.Network != "" && s.opt.Network != at.Network {
		return false
	}
	if at.Port == "" {
		return s.opt.Point == AtTunnel
	}
	return s.opt.Point == AtPort && (s.opt.Port == "" || s.opt.Port == at.Port)
}
