// Package gossip tells nodes what is where right now: per-network records, each owned and signed by one node, over
// hashicorp/memberlist.
package gossip

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

// Config is what a Gossip is made from.
type Config struct {
	Self      identity.NodeID
	Key       ed25519.PrivateKey // signs this node's records
	Bind      netip.AddrPort     // UDP and TCP; port 0: any
	Advertise netip.AddrPort     // what the others dial; zero: Bind
	Directory Directory
	Profile   Profile              // how fast, and how patient
	Transport memberlist.Transport // nil: UDP and TCP at Bind
	Keys      state.Keyring        // seals all that travels; SetKeys changes it
	Log       *slog.Logger         // nil: none
	Rand      *rand.Rand           // picks peers; nil: seeded at random. Not for others to use meanwhile
}

// Gossip is one node's part in it. Its methods may be called from any goroutine.
type Gossip struct {
}

// New binds the addresses and starts to listen; Run does the work.
func New(cfg Config) (*Gossip, error) { return &Gossip{}, nil }

// Run works until ctx ends or Close is called.
func (g *Gossip) Run(ctx context.Context) error { return nil }

// Join tells the addresses of all nodes that are known, in place of those of an earlier call, and returns how many could
// be joined as soon as one could, or an error that says why none could. Those that are no members are dialled again in the
// background for as long as they are in the list.
func (g *Gossip) Join(peers []netip.AddrPort) (int, error) { return 0, nil }

// Leave deletes all records of this node, tells the members that it goes, and waits that long for the word to get out.
// Only Close is of use afterwards.
func (g *Gossip) Leave(timeout time.Duration) error { return nil }

// Close stops all, without a word to the others, and waits. It may be called more than once.
func (g *Gossip) Close() error { return nil }

// SetKeys replaces the keys that seal all that travels.
func (g *Gossip) SetKeys(keys state.Keyring) error { return nil }

// Enter makes this node take part in a network. Called again it replaces the network's keys.
func (g *Gossip) Enter(network state.NetworkID, keys state.Keyring) error { return nil }

// Exit ends taking part: this node's records of the network vanish everywhere, and all of the network's vanish here.
func (g *Gossip) Exit(network state.NetworkID) {}

// Put publishes a record of this node, in place of the one it had under this key.
func (g *Gossip) Put(network state.NetworkID, key string, value []byte) error { return nil }

// Delete withdraws a record of this node.
func (g *Gossip) Delete(network state.NetworkID, key string) {}

// Records returns what is known of a network, ordered by owner and key.
func (g *Gossip) Records(network state.NetworkID) []Record { return nil }

// Changed returns a channel that is closed at the next change of any record or member.
func (g *Gossip) Changed() <-chan struct{} { return nil }

// Sync returns when this node has what a live peer in the network has; at once if there is none.
func (g *Gossip) Sync(ctx context.Context, network state.NetworkID) error { return nil }

// Members returns all nodes that were ever seen and still belong to the cluster, this one too, ordered by ID.
func (g *Gossip) Members() []Member { return nil }

// Stats returns the counters.
func (g *Gossip) Stats() Stats { return Stats{} }
