package gossip

import (
	"time"

	"github.com/hashicorp/memberlist"
)

// Profile sets the pace.
type Profile int

// The profiles.
const (
	LAN Profile = iota // round trips of some milliseconds
	WAN                // round trips of some hundred milliseconds
)

// pace is what a profile means.
type pace struct {
	exchange time.Duration // between two digests, on average
	catchUp  time.Duration // until a node that must catch up asks again
	answer   time.Duration // until a peer that did not answer a digest is pinged
}

func (p Profile) pace() pace {
	if p == WAN {
		return pace{exchange: 2 * time.Second, catchUp: time.Second, answer: 3 * time.Second}
	}
	return pace{exchange: time.Second, catchUp: 250 * time.Millisecond, answer: 500 * time.Millisecond}
}

// memberlist returns memberlist's part of the profile: its defaults, with Lifeguard's awareness, and with news of members
// spreading faster, which costs nothing while there are none.
func (p Profile) memberlist() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.TCPTimeout = 5 * time.Second
	c.GossipInterval = 100 * time.Millisecond
	if p == WAN {
		c = memberlist.DefaultWANConfig()
		c.TCPTimeout = 15 * time.Second
		c.GossipInterval = 250 * time.Millisecond
	}
	c.GossipNodes = 4
	c.UDPBufferSize = 1400 - 5              // it does not count the checksum that it adds
	c.EnableCompression = false             // what is sealed does not compress
	c.DeadNodeReclaimTime = time.Second     // a node that restarts with another address is still the same node
	c.GossipToTheDeadTime = 2 * time.Minute // short partitions heal without being dialed
	return c
}
