package gossip

// Profile sets the pace.
type Profile int

// The profiles.
const (
	LAN Profile = iota // round trips of some milliseconds
	WAN                // round trips of some hundred milliseconds
)
