package load

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/histogram"
)

// The queries on their way at once: a thread of its own asks on each socket.
const (
	askers = 4
	window = 16 // of each
)

// overdue is how long an answer may take until its query counts as lost.
const overdue = 500 * time.Millisecond

// queries asks a resolver for A records over UDP, a window of queries at a time, and matches answers by their id:
//
//	id   generation of the slot (12 bits) │ slot in the window (4 bits)
//
// An answer that comes too late has an old generation, and is not counted twice. One that says anything but that the name
// has an address ends the load.
type queries struct {
	end
	fds  []int
	asks [][]byte // a query per name, without its id
}

func (q *queries) open() error {
	if q.server {
		return nil // the resolver is there already
	}
	for _, name := range q.spec.Names {
		ask, err := question(name)
		if err != nil {
			return err
		}
		q.asks = append(q.asks, ask)
	}
	for range askers {
		fd, err := dial(unix.SOCK_DGRAM, q.spec)
		if err != nil {
			return err
		}
		q.fds = append(q.fds, fd)
	}
	q.m.latency = new(histogram.Histogram)
	return q.try()
}

func (q *queries) threads() (list []func() error) {
	for i, fd := range q.fds {
		list = append(list, func() error { return newAsker(fd, i, q.asks, q.m).run() })
	}
	return list
}

// try asks every name once, and again while the resolver is only coming up.
func (q *queries) try() error {
	if err := setTimeout(q.fds[0], 50*time.Millisecond); err != nil {
		return err
	}
	deadline := time.Now().Add(patience)
	answer := make([]byte, maxDatagram)
	for i, ask := range q.asks {
		binary.BigEndian.PutUint16(ask, uint16(i))
		for {
			_, errno := rawWrite(q.fds[0], ask)
			n := 0
			if errno == 0 {
				n, errno = rawRead(q.fds[0], answer)
			} else {
				time.Sleep(time.Millisecond) // no route yet
			}
			if errno != 0 && !refused(errno) || time.Now().After(deadline) {
				return fmt.Errorf("no answer from the resolver at %s to %s: %w", q.spec.Server, q.spec.Names[i], errno)
			}
			if errno != 0 || n < headerLen || binary.BigEndian.Uint16(answer) != uint16(i) {
				continue // the answer to an earlier try, at best
			}
			if err := verify(ask, answer[:n]); err != nil {
				return fmt.Errorf("the resolver at %s, asked for %s: %w", q.spec.Server, q.spec.Names[i], err)
			}
			break
		}
	}
	return nil
}

// asker is one socket with its window.
type asker struct {
	fd    int
	m     *meter
	asks  [][]byte
	next  int // which name comes next
	slots [window]slot
	free  []int // slots without a query
	out   *messages
	in    *messages
	epoch time.Time
}

// slot is a place in the window.
type slot struct {
	generation uint16
	busy       bool
	ask        []byte
	since      time.Duration // after the epoch
}

func newAsker(fd, turn int, asks [][]byte, m *meter) *asker {
	a := &asker{fd: fd, m: m, asks: asks, next: turn * len(asks) / askers, out: newMessages(maxQuery), in: newMessages(maxDatagram), epoch: time.Now()}
	for i := range a.slots {
		a.free = append(a.free, i)
	}
	return a
}

func (a *asker) run() error {
	if err := setTimeout(a.fd, overdue/10); err != nil {
		return err
	}
	for {
		if err := a.fill(); err != nil {
			return err
		}
		n, errno := a.in.call(unix.SYS_RECVMMSG, a.fd, 0, batch, unix.MSG_WAITFORONE)
		now := time.Since(a.epoch)
		if errno != 0 {
			if !refused(errno) {
				return os.NewSyscallError("recvmmsg", errno)
			}
			a.expire(now)
			continue
		}
		for i := range n {
			if err := a.take(a.in.bufs[i][:a.in.list[i].n], now); err != nil {
				return err
			}
		}
		// Answers that keep coming must not hide those that never do.
		a.expire(now)
	}
}

// fill sends a query for each free slot. What the kernel does not take is tried again after the next answers, or its time.
func (a *asker) fill() error {
	if len(a.free) == 0 {
		return nil
	}
	for i, at := range a.free {
		ask := a.asks[(a.next+i)%len(a.asks)]
		s := &a.slots[at]
		b := a.out.bufs[i][:copy(a.out.bufs[i], ask)]
		binary.BigEndian.PutUint16(b, (s.generation+1)<<4|uint16(at))
		a.out.iovs[i].SetLen(len(b))
		s.ask = ask
	}
	n, errno := a.out.call(unix.SYS_SENDMMSG, a.fd, 0, len(a.free), 0)
	if errno != 0 {
		if !refused(errno) {
			return os.NewSyscallError("sendmmsg", errno)
		}
		n = 0
	}
	now := time.Since(a.epoch)
	for _, at := range a.free[:n] {
		s := &a.slots[at]
		s.generation, s.busy, s.since = s.generation+1, true, now
	}
	a.next = (a.next + n) % len(a.asks)
	a.free = a.free[:copy(a.free, a.free[n:])]
	return nil
}

// take counts an answer, if it is to a query that waits for one.
func (a *asker) take(answer []byte, now time.Duration) error {
	if len(answer) < headerLen {
		return nil
	}
	id := binary.BigEndian.Uint16(answer)
	at := int(id % window)
	s := &a.slots[at]
	if !s.busy || id != s.generation<<4|uint16(at) {
		return nil
	}
	if err := verify(s.ask, answer); err != nil {
		return err
	}
	s.busy = false
	a.free = append(a.free, at)
	a.m.sequence.Add(1)
	a.m.done(now - s.since)
	return nil
}

// expire counts as lost what has waited too long.
func (a *asker) expire(now time.Duration) {
	for at := range a.slots {
		if s := &a.slots[at]; s.busy && now-s.since > overdue {
			s.busy = false
			a.free = append(a.free, at)
			a.m.sequence.Add(1)
		}
	}
}

// setTimeout bounds how long a read waits.
func setTimeout(fd int, d time.Duration) error {
	wait := unix.NsecToTimeval(d.Nanoseconds())
	return os.NewSyscallError("setsockopt SO_RCVTIMEO", unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait))
}

// The header of a DNS message (RFC 1035 §4.1.1), and the longest query: header, name, type and class.
const (
	headerLen = 12
	maxQuery  = headerLen + 255 + 4
)

// question returns a query for the A record of a name (RFC 1035 §4.1), with an id of 0.
func question(name string) ([]byte, error) {
	b := []byte{0, 0, 1 /* recursion desired */, 0, 0, 1 /* question */, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label == "" || len(label) > 63 {
			return nil, fmt.Errorf("load: %q is no name to ask for; expected labels of 1 to 63 bytes between dots", name)
		}
		b = append(append(b, byte(len(label))), label...)
	}
	b = append(b, 0, 0, 1 /* A */, 0, 1 /* IN */)
	if len(b) > maxQuery {
		return nil, fmt.Errorf("load: the name %.20s... takes %d bytes; expected at most 255", name, len(b)-headerLen-4)
	}
	return b, nil
}

// verify reports an answer that is not the whole one with an address to ask.
func verify(ask, answer []byte) error {
	const response, truncated, code = 0x80, 0x02, 0x0f
	switch {
	case answer[2]&response == 0:
		return fmt.Errorf("a query came back for an answer")
	case answer[3]&code != 0:
		return fmt.Errorf("it answers with code %d; expected no error (0)", answer[3]&code)
	case answer[2]&truncated != 0 || binary.BigEndian.Uint16(answer[6:]) == 0:
		return fmt.Errorf("it answers without an address; expected one")
	case binary.BigEndian.Uint16(answer[4:]) != 1 || len(answer) < len(ask) || string(answer[headerLen:len(ask)]) != string(ask[headerLen:]):
		return fmt.Errorf("it answers another question")
	}
	return nil
}
