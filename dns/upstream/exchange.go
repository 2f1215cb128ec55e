package upstream

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// room is that of a UDP answer: more than we ask for, since some servers do not care. One that fills it counts as truncated.
const room = 4096

// tolerance is how many wrong answers may arrive at a UDP socket before somebody is thought to guess at the right one. Then TCP, where
// that is hopeless, takes over (RFC 5452 §9.3 leaves no better way).
const tolerance = 64

var buffers = sync.Pool{New: func() any { return new([room]byte) }}

// errCut says that a server's answer is to be asked for by TCP.
var errCut = errors.New("the answer is truncated")

func dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	if network == "udp" {
		return net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)) // does not wait, and skips what the general way looks up
	}
	var d net.Dialer
	return d.DialContext(ctx, network, to.String())
}

// exchange asks one server.
func (r *Resolver) exchange(ctx context.Context, s *server, k question, c *Conf) (*answer, error) {
	begun := time.Now()
	s.asked.Add(1)
	m, tcp, err := r.try(ctx, s, k, c, true)
	if err == nil && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeBadVers) {
		m, tcp, err = r.try(ctx, s, k, c, false) // it may be one that does not know EDNS (RFC 6891 §7)
	}
	if err != nil {
		if ctx.Err() == nil {
			s.miss(begun, time.Now())
		}
		return nil, fmt.Errorf("%s: %w", s.at, err)
	}
	s.answers.Add(1)
	s.seen(time.Now())
	a, err := newAnswer(k, m, c.TrustAD)
	if err != nil {
		return nil, fmt.Errorf("%s: an answer that cannot be passed on: %w", s.at, err)
	}
	a.from, a.tcp = s.at, tcp
	return a, nil
}

// try asks one server by UDP, and by TCP if that has to be.
func (r *Resolver) try(ctx context.Context, s *server, k question, c *Conf, edns bool) (m *dns.Msg, tcp bool, err error) {
	if !c.TCP {
		m, err = r.over(ctx, "udp", s, k, edns)
		if !errors.Is(err, errCut) {
			return m, false, err
		}
		s.seen(time.Now())
	}
	r.count.tcp.Add(1)
	m, err = r.over(ctx, "tcp", s, k, edns)
	return m, true, err
}

// over asks by a socket of its own.
func (r *Resolver) over(ctx context.Context, network string, s *server, k question, edns bool) (*dns.Msg, error) {
	buf := buffers.Get().(*[room]byte)
	defer buffers.Put(buf)
	id := identifier()
	query, err := k.message(id, edns).PackBuffer(buf[2:])
	if err != nil {
		return nil, err
	}
	conn, err := r.c.Dial(ctx, network, s.at)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if network == "tcp" {
		binary.BigEndian.PutUint16(buf[:], uint16(len(query)))
		if _, err := conn.Write(buf[:2+len(query)]); err != nil {
			return nil, err
		}
		return r.receive(k, id, false, func() ([]byte, error) { return whole(conn) })
	}
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	return r.receive(k, id, true, func() ([]byte, error) {
		n, err := conn.Read(buf[:])
		return buf[:n], err
	})
}

// receive returns the first message that is the answer. What is not is counted, and the wait goes on.
func (r *Resolver) receive(k question, id uint16, datagram bool, next func() ([]byte, error)) (*dns.Msg, error) {
	for wrong := 0; wrong < tolerance; wrong++ {
		b, err := next()
		if err != nil {
			return nil, err
		}
		full := datagram && len(b) == room
		if m := k.match(b, id, full); m != nil && (full || m.Truncated) {
			return nil, errCut
		} else if m != nil {
			return m, nil
		}
		r.count.ignored.Add(1)
	}
	if datagram {
		return nil, errCut
	}
	return nil, fmt.Errorf("%d messages, and none is the answer", tolerance)
}

// whole reads a message from a stream (RFC 1035 §4.2.2).
func whole(conn net.Conn) ([]byte, error) {
	var n [2]byte
	if _, err := io.ReadFull(conn, n[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(n[:]))
	_, err := io.ReadFull(conn, b)
	return b, err
}

const (
	headerLen   = 12
	flagsAt     = 2
	countsAt    = 6 // of answers and the other records
	isAnswer    = 0x80
	isTruncated = 0x02
)

// match returns the message if it answers the question with this id, spelled as it was sent; else nil. Of one that is truncated, or full,
// only the question is read: the records may end anywhere.
func (k question) match(b []byte, id uint16, full bool) *dns.Msg {
	if len(b) < headerLen || binary.BigEndian.Uint16(b) != id || b[flagsAt]&isAnswer == 0 {
		return nil
	}
	if b[flagsAt]&isTruncated != 0 || full {
		clear(b[countsAt:headerLen])
	}
	m := new(dns.Msg)
	if m.Unpack(b) != nil || m.Opcode != dns.OpcodeQuery {
		return nil
	}
	for i, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		if int(binary.BigEndian.Uint16(b[countsAt+2*i:])) != len(section) {
			return nil // cut off where a record ends
		}
	}
	if len(m.Question) == 0 && m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return m // some servers refuse with a bare header
	}
	if len(m.Question) != 1 || m.Question[0] != (dns.Question{Name: k.name, Qtype: k.kind, Qclass: k.class}) {
		return nil
	}
	return m
}

// identifier returns an id that nobody can guess (RFC 5452 §9.2).
func identifier() uint16 {
	var b [2]byte
	rand.Read(b[:]) // never fails: it ends the program if the system has no randomness
	return binary.BigEndian.Uint16(b[:])
}
