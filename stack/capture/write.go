package capture

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
)

// Run writes what the session captures to w as pcapng, whole blocks at a time, until ctx ends, Count is reached, or w fails.
// Then it closes the session. That ctx ended is not an error.
//
// Each port, and each peer of the tunnel, is an interface of the file. Its packets carry their direction as seen from the
// switch: inbound is from the container or the underlay. Frames that were lost are counted in the packet that follows.
func (s *Session) Run(ctx context.Context, w io.Writer) error {
	defer s.Close()
	f := &file{s: s, ng: newPcapng(w), ids: make(map[source]int)}
	for !f.full() {
		rec := s.ring.next()
		if rec == nil || ctx.Err() != nil {
			if err := f.ng.flush(); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return f.finish()
			case <-s.ring.wake:
			}
			continue
		}
		err := f.record(rec)
		s.ring.release()
		if err != nil {
			return err
		}
	}
	return f.finish()
}

// file is the pcapng file that a session writes.
type file struct {
	s       *Session
	ng      *pcapng
	ids     map[source]int
	counts  []uint64 // frames written, by interface
	written uint64
	told    uint64 // lost frames that were counted in a packet

	scratch []byte
	segs    []frame.Segment
	outer   []byte
}

// source is what becomes an interface of the file.
type source struct {
	network, port string
	remote        netip.Addr
}

func (f *file) full() bool { return f.s.opt.Count > 0 && f.written >= f.s.opt.Count }

// finish writes what is left in the ring, and the statistics.
func (f *file) finish() error {
	f.s.Close()
	for rec := f.s.ring.next(); rec != nil && !f.full(); rec = f.s.ring.next() {
		err := f.record(rec)
		f.s.ring.release()
		if err != nil {
			return err
		}
	}
	if f.ng.interfaces == 0 { // a file without any would not be read
		f.add("weft", "nothing was captured")
	}
	_, lost := f.s.Statistics()
	now := time.Now().UnixNano()
	for id, n := range f.counts {
		f.ng.statistics(id, f.s.started.UnixNano(), now, n, lost)
		lost = 0 // losses are those of the session: the first interface stands for all
	}
	return f.ng.flush()
}

// id returns the number of the interface for frames seen at at.
func (f *file) id(at *Where) int {
	key := source{at.Network, at.Port, at.Remote.Addr()}
	id, ok := f.ids[key]
	switch {
	case ok:
	case at.Port != "":
		id = f.add(at.Network+"/"+at.Port, fmt.Sprintf("port %s of network %s", at.Port, at.Network))
	default:
		id = f.add(fmt.Sprintf("%s/%s", at.Network, key.remote), fmt.Sprintf("tunnel of network %s, VNI %d, with %s", at.Network, at.VNI, key.remote))
	}
	f.ids[key] = id
	return id
}

func (f *file) add(name, description string) int {
	f.counts = append(f.counts, 0)
	return f.ng.iface(name, description, f.s.opt.Filter.String(), f.s.opt.Snaplen)
}

// String returns the filter in the manner of tcpdump.
func (f Filter) String() string {
	var words []string
	if f.Net.IsValid() {
		if f.Net.IsSingleIP() {
			words = append(words, "host "+f.Net.Addr().String())
		} else {
			words = append(words, "net "+f.Net.String())
		}
	}
	if f.Port != 0 {
		words = append(words, fmt.Sprintf("port %d", f.Port))
	}
	return strings.Join(words, " and ")
}

// record writes one frame of the data path: as one packet, or cut into several.
func (f *file) record(rec *record) error {
	var fr frame.Frame
	fr.Set(rec.data, 0, len(rec.data))
	fr.Offload = rec.offload
	opt := &f.s.opt
	if len(rec.data) < rec.length || fr.Parse() != drop.None {
		return f.frame(rec, nil, rec.data) // cut off, or malformed: as it is
	}
	if fr.GSO == frame.GSONone {
		fr.Complete()
		return f.frame(rec, nil, rec.data)
	}
	if opt.Cut || opt.Outer {
		mtu := rec.at.MTU
		if mtu == 0 {
			mtu = 65535
		}
		if need := frame.CutSpace(&fr, mtu, 0); cap(f.scratch) < need {
			f.scratch = make([]byte, need)
		}
		var reason drop.Reason
		f.segs, _, reason = frame.Cut(&fr, mtu, nil, f.scratch[:cap(f.scratch)], f.segs[:0])
		if reason == drop.None {
			for _, g := range f.segs {
				if err := f.frame(rec, g.Header, g.Payload); err != nil || f.full() {
					return err
				}
			}
			return nil
		}
	}
	complete(&fr)
	return f.frame(rec, nil, rec.data)
}

// frame writes one frame, made of header and payload, with its encapsulation where that is wanted.
func (f *file) frame(rec *record, header, payload []byte) error {
	length := len(header) + len(payload)
	if header == nil {
		length = rec.length
	}
	front := header
	if f.s.opt.Outer {
		front = appendOuter(f.outer[:0], &rec.at, header, payload, length)
		length += len(front)
		front = append(front, header...)
		f.outer = front
	}
	id := f.id(&rec.at)
	f.counts[id]++
	f.written++
	direction := uint32(inbound)
	if rec.at.Out {
		direction = outbound
	}
	_, lost := f.s.Statistics()
	dropped := lost - f.told
	f.told = lost
	kept := min(len(front)+len(payload), f.s.opt.Snaplen)
	return f.ng.packet(id, rec.nanos, length, kept, front, payload, direction, dropped)
}
