package capture

import (
	"encoding/binary"
	"io"
)

// pcapng writes the blocks of a pcapng file (draft-ietf-opsawg-pcapng) that a capture needs, in little-endian order:
//
//	┌────────────┬────────┬──────────────┬─────────────────────────────────┬────────┐
//	│ block type │ length │ fixed fields │ options: code, length, value... │ length │
//	└────────────┴────────┴──────────────┴─────────────────────────────────┴────────┘
//	 section header, then: interface description | enhanced packet | interface statistics ...
//
// Blocks gather in buf until flush, so that whoever reads along sees whole ones.
type pcapng struct {
	w          io.Writer
	buf        []byte
	interfaces int
}

const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockStatistics = 5
	blockPacket     = 6
	byteOrderMagic  = 0x1a2b3c4d

	optEnd           = 0
	optSectionApp    = 4 // shb_userappl
	optIfName        = 2
	optIfDescription = 3
	optIfResolution  = 9
	optIfFilter      = 11
	optPacketFlags   = 2 // epb_flags
	optPacketDropped = 4 // epb_dropcount
	optStatStart     = 2
	optStatEnd       = 3
	optStatReceived  = 4
	optStatDropped   = 5

	linkEthernet = 1
	inbound      = 1 // in epb_flags
	outbound     = 2

	flushAt = 64 << 10
)

var le = binary.LittleEndian

func newPcapng(w io.Writer) *pcapng {
	p := &pcapng{w: w}
	at := p.begin(blockSection)
	p.buf = le.AppendUint32(p.buf, byteOrderMagic)
	p.buf = le.AppendUint32(p.buf, 1) // version 1.0
	p.buf = le.AppendUint64(p.buf, ^uint64(0))
	p.text(optSectionApp, "weft capture")
	p.end(at)
	return p
}

// begin starts a block and returns where.
func (p *pcapng) begin(kind uint32) int {
	at := len(p.buf)
	p.buf = le.AppendUint32(p.buf, kind)
	p.buf = le.AppendUint32(p.buf, 0) // its length, which end fills in
	return at
}

// end finishes the block that was begun at at.
func (p *pcapng) end(at int) {
	p.buf = le.AppendUint32(p.buf, optEnd)
	n := uint32(len(p.buf) - at + 4)
	le.PutUint32(p.buf[at+4:], n)
	p.buf = le.AppendUint32(p.buf, n)
}

func (p *pcapng) pad() {
	for len(p.buf)%4 != 0 {
		p.buf = append(p.buf, 0)
	}
}

func (p *pcapng) option(code uint16, length int) {
	p.buf = le.AppendUint16(p.buf, code)
	p.buf = le.AppendUint16(p.buf, uint16(length))
}

func (p *pcapng) text(code uint16, s string) {
	if s == "" {
		return
	}
	p.option(code, len(s))
	p.buf = append(p.buf, s...)
	p.pad()
}

func (p *pcapng) number(code uint16, v uint64) {
	p.option(code, 8)
	p.buf = le.AppendUint64(p.buf, v)
}

// time appends nanoseconds since 1970 as pcapng wants them, the high half first.
func (p *pcapng) time(nanos int64) {
	p.buf = le.AppendUint32(p.buf, uint32(uint64(nanos)>>32))
	p.buf = le.AppendUint32(p.buf, uint32(nanos))
}

// iface describes an Ethernet interface and returns its number.
func (p *pcapng) iface(name, description, filter string, snaplen int) int {
	at := p.begin(blockInterface)
	p.buf = le.AppendUint32(p.buf, linkEthernet)
	p.buf = le.AppendUint32(p.buf, uint32(snaplen))
	p.text(optIfName, name)
	p.text(optIfDescription, description)
	p.option(optIfResolution, 1)
	p.buf = append(p.buf, 9, 0, 0, 0) // 10⁻⁹ s
	if filter != "" {
		p.text(optIfFilter, "\x00"+filter) // 0: in words, as libpcap takes them
	}
	p.end(at)
	p.interfaces++
	return p.interfaces - 1
}

// packet writes the first bytes of a packet of length bytes, made of two parts, behind dropped others that were lost.
func (p *pcapng) packet(id int, nanos int64, length, kept int, a, b []byte, direction uint32, dropped uint64) error {
	at := p.begin(blockPacket)
	p.buf = le.AppendUint32(p.buf, uint32(id))
	p.time(nanos)
	p.buf = le.AppendUint32(p.buf, uint32(kept))
	p.buf = le.AppendUint32(p.buf, uint32(length))
	n := min(kept, len(a))
	p.buf = append(p.buf, a[:n]...)
	p.buf = append(p.buf, b[:kept-n]...)
	p.pad()
	p.option(optPacketFlags, 4)
	p.buf = le.AppendUint32(p.buf, direction)
	if dropped > 0 {
		p.number(optPacketDropped, dropped)
	}
	p.end(at)
	if len(p.buf) >= flushAt {
		return p.flush()
	}
	return nil
}

// statistics writes what interface id received from start to end, and how many packets were lost.
func (p *pcapng) statistics(id int, start, end int64, received, lost uint64) {
	at := p.begin(blockStatistics)
	p.buf = le.AppendUint32(p.buf, uint32(id))
	p.time(end)
	p.option(optStatStart, 8)
	p.time(start)
	p.option(optStatEnd, 8)
	p.time(end)
	p.number(optStatReceived, received)
	p.number(optStatDropped, lost)
	p.end(at)
}

// flush hands all blocks to the writer.
func (p *pcapng) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	_, err := p.w.Write(p.buf)
	p.buf = p.buf[:0]
	return err
}
