package frame

import (
	"fmt"
	"net"
)

// Broadcast is the address of all stations.
const Broadcast MAC = 0xffff_ffff_ffff

// IsGroup reports whether m is a broadcast or multicast address.
func (m MAC) IsGroup() bool { return m>>40&1 == 1 }

// Put writes the six bytes of m to b.
func (m MAC) Put(b []byte) {
	_ = b[5]
	b[0], b[1], b[2], b[3], b[4], b[5] = byte(m>>40), byte(m>>32), byte(m>>24), byte(m>>16), byte(m>>8), byte(m)
}

// String formats m as 02:42:0a:00:00:02.
func (m MAC) String() string {
	b := make(net.HardwareAddr, 6)
	m.Put(b)
	return b.String()
}

// ParseMAC reads a 48-bit Ethernet address in any form that net.ParseMAC takes.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 {
		return 0, fmt.Errorf("%q is not an Ethernet address; expected six hexadecimal bytes such as 02:42:0a:00:00:02", s)
	}
	return MACFrom(hw), nil
}

// MarshalText and UnmarshalText make a MAC read as text in JSON and YAML.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (m *MAC) UnmarshalText(b []byte) (err error) { *m, err = ParseMAC(string(b)); return err }
