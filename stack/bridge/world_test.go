package bridge

import (
	"bytes"
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/drop"
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

const allJoins = frame.JoinTCP4 | frame.JoinTCP6 | frame.JoinUDP

// memory is a Device that hands out what was put into it, and remembers what was written to it.
type memory struct {
	in      [][]byte
	end     syscall.Errno // of a Read when there is nothing; EAGAIN if 0
	failure syscall.Errno // of every Write
	out     []written
}

type written struct {
	frame.Offload
	bytes []byte
}

func (m *memory) FD() int { return -1 }

func (m *memory) Read(b []byte) (int, syscall.Errno) {
	if len(m.in) == 0 {
		return 0, cmp.Or(m.end, unix.EAGAIN)
	}
	n := copy(b, m.in[0])
	m.in = m.in[1:]
	return n, 0
}

func (m *memory) Write(o *frame.Offload, parts [][]byte) syscall.Errno {
	if m.failure == 0 {
		m.out = append(m.out, written{*o, slices.Concat(parts...)})
	}
	return m.failure
}

// jack is a port with a device in memory.
type jack struct {
	*Port
	*memory
	queue *Queue
}

// say hands the inputs to the switch, in batches, and flushes.
func (j *jack) say(inputs ...[]byte) {
	j.in = append(j.in, inputs...)
	for len(j.in) > 0 {
		j.queue.Ready()
	}
	j.queue.lane.Flush()
}

// other is another node: a bare tunnel endpoint.
type other struct {
	*vxlan.Sender
	receiver   *vxlan.Receiver
	peer, home *vxlan.Peer // the node as the world sees it, and the world as the node does
	got        [][]byte
	vnis       []vxlan.VNI
}

func (o *other) Receive(v vxlan.VNI, _ *vxlan.Peer, f *frame.Frame) {
	o.got = append(o.got, bytes.Clone(f.Bytes()))
	o.vnis = append(o.vnis, v)
}

// world is one lane of a switch, and other nodes around it on loopback.
type world struct {
	testing.TB
	tunnel   *vxlan.Tunnel
	networks Networks
	lane     *Lane
	receiver *vxlan.Receiver
	others   []*other
}

// newWorld returns a world with n other nodes.
func newWorld(t testing.TB, n int) *world {
	t.Helper()
	w := &world{TB: t}
	home := netip.MustParseAddr("127.0.2.1")
	port := freePort(t, home)
	open := func(addr netip.Addr) *vxlan.Tunnel {
		tunnel, err := vxlan.Listen(vxlan.Config{Local: addr, Port: port})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(tunnel.Close)
		return tunnel
	}
	peer := func(from *vxlan.Tunnel, addr netip.Addr) *vxlan.Peer {
		p, err := from.Peer(addr)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	w.tunnel = open(home)
	w.networks.Store(&map[vxlan.VNI]*Network{})
	w.lane = NewLane(&w.networks, w.tunnel)
	w.receiver = w.tunnel.Receiver(0, w.lane)
	for addr := home; n > 0; n-- {
		addr = addr.Next()
		tunnel := open(addr)
		o := &other{Sender: vxlan.NewSender(&tunnel.Drops), peer: peer(w.tunnel, addr), home: peer(tunnel, home)}
		o.receiver = tunnel.Receiver(0, o)
		w.others = append(w.others, o)
	}
	return w
}

func freePort(t testing.TB, addr netip.Addr) uint16 {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.As4()}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(name.(*unix.SockaddrInet4).Port)
}

// network adds a network.
func (w *world) network(name string, v vxlan.VNI) *Network {
	n := NewNetwork(name, v, nil)
	all := map[vxlan.VNI]*Network{v: n}
	for v, n := range *w.networks.Load() {
		all[v] = n
	}
	w.networks.Store(&all)
	return n
}

// jack adds a port to n, whose table does not name it yet.
func (w *world) jack(n *Network, c PortConfig) *jack {
	m := new(memory)
	c.Queues = append(c.Queues, m)
	j := &jack{Port: n.NewPort(c), memory: m}
	j.queue = j.Port.Queue(0, w.lane)
	return j
}

// await takes in datagrams by r until sent of them have arrived in got.
func (w *world) await(r *vxlan.Receiver, sent, got *vxlan.Peer) {
	w.Helper()
	for got.RxFrames.Load() < sent.TxFrames.Load() {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(r.FD()), Events: unix.POLLIN}}, 10_000); n == 0 {
			w.Fatalf("%d frames arrived of %d sent; poll: %v", got.RxFrames.Load(), sent.TxFrames.Load(), err)
		}
		r.Ready()
		w.lane.Flush() // as at the end of a loop's round: the receiver's buffers are free for the next batch
	}
}

// hear returns the frames that arrived at o since it was last asked, sorted. The lane must have been flushed.
func (w *world) hear(o *other) [][]byte {
	w.Helper()
	w.await(o.receiver, o.peer, o.home)
	got := o.got
	o.got, o.vnis = nil, nil
	return got
}

// tell sends frames from o to the world, and lets it flush.
func (w *world) tell(o *other, v vxlan.VNI, frames ...[]byte) {
	w.Helper()
	for _, b := range frames {
		if reason := o.Send(o.home, v, parsed(w, b), 65000); reason != drop.None {
			w.Fatalf("cannot send: %s", reason)
		}
	}
	o.Flush()
	w.await(w.receiver, o.home, o.peer)
	w.lane.Flush()
}

func (w who) endpoint(p *jack, o *other) Endpoint {
	e := Endpoint{Name: w.mac.String(), MAC: w.mac, Addresses: []netip.Addr{w.v4, w.v6}}
	if p != nil {
		e.Port = p.Port
	}
	if o != nil {
		e.Peer = o.peer
	}
	return e
}

// house is a network with two ports, three other nodes of which the last is static, and a gateway.
type house struct {
	*world
	net           *Network
	a, b          *jack
	first, second *other
	static        *other
	config        Config
}

const houseVNI = 100

// newHouse returns a house with an MTU of 1450, after change.
func newHouse(t testing.TB, change ...func(*house)) *house {
	t.Helper()
	h := &house{world: newWorld(t, 3)}
	h.first, h.second, h.static = h.others[0], h.others[1], h.others[2]
	h.net = h.network("house", houseVNI)
	h.a = h.jack(h.net, PortConfig{Name: "a", Joins: allJoins})
	h.b = h.jack(h.net, PortConfig{Name: "b", Joins: allJoins})
	h.config = Config{
		MTU: 1450, Gateway: Gateway{MAC: gateway.mac, V4: gateway.v4, V6: gateway.v6}, Ports: []*Port{h.a.Port, h.b.Port},
		Endpoints: []Endpoint{
			asker.endpoint(h.a, nil), owner.endpoint(h.b, nil),
			far.endpoint(nil, h.first), wide.endpoint(nil, h.second), kernel.endpoint(nil, h.static),
		},
		Statics: []*vxlan.Peer{h.static.peer},
	}
	for _, f := range change {
		f(h)
	}
	h.net.SetTable(Compile(h.config))
	return h
}

// hear returns the wire frames written to the port's device since it was last asked.
func (j *jack) hear(t testing.TB) [][]byte {
	t.Helper()
	out := j.out
	j.out = nil
	return wireOf(t, out)
}

// drops returns what the house has counted as refused since it was last asked, by place and reason.
func (h *house) drops() map[string]uint64 {
	all := make(map[string]uint64)
	for place, c := range map[string]*drop.Counters{"a": &h.a.Drops, "b": &h.b.Drops, "net": &h.net.Drops, "tunnel": &h.tunnel.Drops} {
		for r := range c {
			if n := c[r].Swap(0); n > 0 {
				all[place+" "+drop.Reason(r).String()] = n
			}
		}
	}
	return all
}

// heard returns the wire frames that each place got since it was last asked; places that got nothing are left out.
func (h *house) heard() map[string][][]byte {
	h.Helper()
	all := make(map[string][][]byte)
	for place, got := range map[string][][]byte{
		"a": h.a.hear(h), "b": h.b.hear(h), "first": h.world.hear(h.first), "second": h.world.hear(h.second), "static": h.world.hear(h.static),
	} {
		if len(got) > 0 {
			all[place] = got
		}
	}
	return all
}

// send lets a place send a frame.
func (h *house) send(place string, b []byte) {
	h.Helper()
	switch place {
	case "a":
		h.a.say(plain(b))
	case "b":
		h.b.say(plain(b))
	default:
		h.tell(map[string]*other{"first": h.first, "second": h.second, "static": h.static}[place], houseVNI, b)
	}
}

// step is a frame from somewhere, who gets it as it was, and what is counted.
type step struct {
	name, from string
	frame      []byte
	to         []string
	drop       string // place and reason; empty for none
}

func (s step) run(h *house) {
	h.Helper()
	h.send(s.from, s.frame)
	got := h.heard()
	for _, place := range s.to {
		if len(got[place]) != 1 || !bytes.Equal(got[place][0], s.frame) {
			h.Errorf("%s got %d frames, want this one: % x", place, len(got[place]), s.frame)
		}
		delete(got, place)
	}
	for place, frames := range got {
		h.Errorf("%s got %d frames, want none: % x", place, len(frames), frames[0])
	}
	want := map[string]uint64{}
	if s.drop != "" {
		want[s.drop] = 1
	}
	if drops := h.drops(); !maps.Equal(drops, want) {
		h.Errorf("counted %v, want %v", drops, want)
	}
}

func runSteps(t *testing.T, steps []step, change ...func(*house)) {
	h := newHouse(t, change...)
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			h.TB = t
			s.run(h)
		})
	}
	h.TB = t
}
