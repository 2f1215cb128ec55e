package capture

import (
	"errors"
	"fmt"
	"io"
)

// maxBlock is the largest block that Run writes: a superframe with its encapsulation and options.
const maxBlock = 128 << 10

// Copy copies a pcapng stream of Run's from src to dst, whole blocks only: wherever the stream breaks off, what was written is a
// file that opens. It returns how many packets there were, and how many were lost before one of them.
func Copy(dst io.Writer, src io.Reader) (packets, lost uint64, err error) {
	buf := make([]byte, 0, 2*maxBlock)
	for {
		n, readErr := src.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		whole := 0
		for rest := buf; len(rest) >= 12; rest = buf[whole:] {
			n := int(le.Uint32(rest[4:]))
			if n < 12 || n%4 != 0 || n > maxBlock {
				return packets, lost, fmt.Errorf("capture: a block of %d bytes; expected 12 to %d: this is no stream of weft's", n, maxBlock)
			}
			if n > len(rest) {
				break
			}
			if le.Uint32(rest) == blockPacket {
				packets++
				lost += dropCount(rest[8 : n-4])
			}
			whole += n
		}
		if whole > 0 {
			if _, err := dst.Write(buf[:whole]); err != nil {
				return packets, lost, err
			}
			buf = buf[:copy(buf, buf[whole:])]
		}
		if errors.Is(readErr, io.EOF) {
			return packets, lost, nil
		}
		if readErr != nil {
			return packets, lost, readErr
		}
	}
}

// dropCount returns the value of epb_dropcount in the body of a packet block, which stands behind epb_flags.
func dropCount(body []byte) uint64 {
	if len(body) < 20 {
		return 0
	}
	at := 20 + (uint64(le.Uint32(body[12:]))+3)/4*4 + 8
	if at+12 > uint64(len(body)) || le.Uint16(body[at:]) != optPacketDropped {
		return 0
	}
	return le.Uint64(body[at+4:])
}
