package bridge

import (
	"github.com/weftnet/weft/stack/frame"
	"github.com/weftnet/weft/vxlan"
)

// way is what a table says of the two stations of a frame, and of the peer that it came from.
type way struct {
	table    *Table
	peer     *vxlan.Peer // nil for a frame from a port
	src, dst frame.MAC
	from, to *station // nil where the table knows none
	known    bool     // the peer is one of the network's
	static   bool     // and a static one
}

// way looks a parsed frame up, unless it goes the same way as the frame before. The result is valid until the next call.
func (l *Lane) way(t *Table, peer *vxlan.Peer, f *frame.Frame) *way {
	w, src, dst := &l.last, f.Src(), f.Dst()
	if w.table == t && w.src == src && w.dst == dst && w.peer == peer {
		return w
	}
	*w = way{table: t, peer: peer, src: src, dst: dst, from: t.stations[src], to: t.stations[dst]}
	if peer != nil {
		w.static, w.known = t.peers[peer]
	}
	return w
}
