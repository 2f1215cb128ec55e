package state

import (
	"fmt"

	"github.com/weftnet/weft/cluster/identity"
)

// String returns the ID as 25 digits of base 36.
func (id NetworkID) String() string { return identity.NodeID(id).String() }

// IsZero reports whether the ID names no network.
func (id NetworkID) IsZero() bool { return id == NetworkID{} }

// MarshalText is String (encoding.TextMarshaler).
func (id NetworkID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is ParseNetworkID (encoding.TextUnmarshaler).
func (id *NetworkID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseNetworkID(string(text))
	return err
}

// ParseNetworkID is the inverse of String.
func ParseNetworkID(s string) (NetworkID, error) {
	id, err := identity.ParseNodeID(s)
	if err != nil {
		return NetworkID{}, fmt.Errorf("network ID %q; expected 25 digits and small letters", s)
	}
	return NetworkID(id), nil
}
