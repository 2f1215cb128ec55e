// Package rpc is the node API: what nodes ask of each other, as HTTP/1.1 and JSON on connections whose ends are known (mux).
//
//	POST /v1/join             Join      → Welcome     weft-join/1 only; who asks is no member yet
//	POST /v1/propose          Proposal  → Answer
//	POST /v1/renew                      → Certificate
//	POST /v1/known            Known     → {}          when it is so, or Patience later an error that is ErrUnavailable
//	GET  /v1/status                     → Status
//	GET  /v1/watch?index=N              → a Beat per line, until one side leaves
//
// A request that fails is answered by {"code": "...", "error": "..."}. Fields are added in later versions, never renamed, and
// unknown ones are ignored: nodes of two versions talk to each other while a cluster is upgraded.
package rpc

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/quorum"
	"github.com/weftnet/weft/cluster/state"
)

// Join asks a manager to take a node in. The token's secret is not in it: any node can show a certificate of the CA, and who
// answers may be a worker that collects tokens.
type Join struct {
	Token  []byte            `json:"token"` // that the asker knows a join token, on this connection: Token.Proof; it decides the role
	Key    ed25519.PublicKey `json:"key"`
	Proof  []byte            `json:"proof"` // that the asker has the key, on this connection: Prove
	Name   string            `json:"name"`
	Clock  time.Time         `json:"clock"`
	Report state.Report      `json:"report"`
}

// Welcome makes a node a member.
type Welcome struct {
	Cert    []byte          `json:"cert"` // DER, as the next
	CA      []byte          `json:"ca"`
	State   json.RawMessage `json:"state"` // state.Encode of what the node may know
	Warning string          `json:"warning,omitempty"`
}

// Proposal asks for a command.
type Proposal struct {
	ID        quorum.ID     `json:"id"`
	Command   state.Command `json:"command"`
	Forwarded bool          `json:"forwarded,omitempty"` // by a manager, which knows who asked; not to be passed on again
}

// Answer is what became of a proposal that was accepted.
type Answer struct {
	Result state.Result `json:"result"`
	Index  uint64       `json:"index"` // of the state that has it
}

// Certificate is a renewed node certificate, DER.
type Certificate struct {
	Cert []byte `json:"cert"`
}

// Status is how far a node is.
type Status struct {
	Index       uint64          `json:"index"`       // of its state
	Raft        bool            `json:"raft"`        // it takes part in Raft
	Applied     uint64          `json:"applied"`     // of Raft's log
	Incarnation uint64          `json:"incarnation"` // that the log is of
	Leader      identity.NodeID `json:"leader"`      // zero: it knows none
}

// Known asks whether a record of the asker's is in force on a node: whether the containers there find what it tells.
type Known struct {
	Network state.NetworkID `json:"network"`
	Key     string          `json:"key"`
	Index   uint64          `json:"index"` // of the asker's state, which has the asker's lease
}

// Patience is how long a node waits for a record before it says that it does not know it.
const Patience = 2 * time.Second

// Beat is what a watcher hears: that its manager lives, and the state whenever it is another one.
type Beat struct {
	Leader  identity.NodeID `json:"leader"`
	State   json.RawMessage `json:"state,omitempty"`   // state.Encode of what the watcher may know
	Removed bool            `json:"removed,omitempty"` // the watcher was removed from the cluster; the last it hears
}

// Limits of what is read from others.
const (
	maxName     = 63
	maxJoin     = 64 << 10 // of whom nobody knows yet
	maxProposal = 1 << 20  // a report of 16,384 routes, or a network
	maxKnown    = 4 << 10
	maxKey      = 255
	maxText     = 8 << 10
	maxAnswer   = 256 << 20 // a state of thousands of networks
)

// ErrUnavailable is an answer that another manager, or a later time, may change: a node that is not the leader, or no manager.
var ErrUnavailable = errors.New("unavailable")

// ErrUnasked is an answer of a node whose version of weft does not know the question.
var ErrUnasked = errors.New("the node's version of weft does not know this request")

// codes are the errors that keep their meaning on the way.
var codes = []struct {
	code   string
	status int
	err    error
}{
	{"not_found", http.StatusNotFound, state.ErrNotFound},
	{"exists", http.StatusConflict, state.ErrExists},
	{"in_use", http.StatusConflict, state.ErrInUse},
	{"invalid", http.StatusBadRequest, state.ErrInvalid},
	{"exhausted", http.StatusInsufficientStorage, state.ErrExhausted},
	{"denied", http.StatusForbidden, state.ErrDenied},
	{"unavailable", http.StatusServiceUnavailable, ErrUnavailable},
}

// fault is an error as it travels.
type fault struct {
	Code string `json:"code"`
	Text string `json:"error"`
}

func (f *fault) Error() string { return f.Text }

// Unwrap returns the sentinel that the other side's error was.
func (f *fault) Unwrap() error {
	for _, c := range codes {
		if c.code == f.Code {
			return c.err
		}
	}
	return nil
}

// encodeFault returns an error's HTTP status, and what of it travels.
func encodeFault(err error) (int, *fault) {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.status, &fault{Code: c.code, Text: err.Error()}
		}
	}
	return http.StatusInternalServerError, &fault{Code: "internal", Text: err.Error()}
}

// decode reads one JSON value of at most limit bytes.
func decode(r io.Reader, limit int64, into any) error {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return fmt.Errorf("rpc: %w", err)
	}
	if int64(len(b)) > limit {
		return fmt.Errorf("rpc: the message has more than %d bytes: %w", limit, state.ErrInvalid)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("rpc: the message is not as expected: %w: %w", err, state.ErrInvalid)
	}
	return nil
}

// DecodeJoin reads a Join and refuses one that no node sends.
func DecodeJoin(r io.Reader) (*Join, error) {
	var j Join
	if err := decode(r, maxJoin, &j); err != nil {
		return nil, err
	}
	switch {
	case len(j.Key) != ed25519.PublicKeySize || len(j.Proof) != ed25519.SignatureSize:
		return nil, fmt.Errorf("rpc: a key of %d bytes and a proof of %d; expected %d and %d: %w",
			len(j.Key), len(j.Proof), ed25519.PublicKeySize, ed25519.SignatureSize, state.ErrInvalid)
	case len(j.Token) != sha256.Size:
		return nil, fmt.Errorf("rpc: a token's proof of %d bytes; expected %d; use the same release of weft on all nodes: %w",
			len(j.Token), sha256.Size, state.ErrInvalid)
	case len(j.Name) > maxName: // it is logged, and named in errors, before it is known who asks
		return nil, fmt.Errorf("rpc: a node name of %d bytes; expected up to %d: %w", len(j.Name), maxName, state.ErrInvalid)
	}
	return &j, nil
}

// DecodeProposal reads a Proposal and refuses one that cannot be told from others.
func DecodeProposal(r io.Reader) (*Proposal, error) {
	var p Proposal
	if err := decode(r, maxProposal, &p); err != nil {
		return nil, err
	}
	if p.ID == (quorum.ID{}) {
		return nil, fmt.Errorf("rpc: the proposal has no ID; expected 16 random bytes: %w", state.ErrInvalid)
	}
	return &p, nil
}

// DecodeKnown reads a Known and refuses one that no node sends.
func DecodeKnown(r io.Reader) (*Known, error) {
	var k Known
	if err := decode(r, maxKnown, &k); err != nil {
		return nil, err
	}
	if k.Network.IsZero() || k.Key == "" || len(k.Key) > maxKey {
		return nil, fmt.Errorf("rpc: a key of %d bytes in network %s; expected 1 to %d bytes, and a network: %w", len(k.Key), k.Network, maxKey, state.ErrInvalid)
	}
	return &k, nil
}

// Prove signs what only the two ends of this connection know (RFC 5705, RFC 9266), so that a proof cannot be carried elsewhere.
func Prove(cs tls.ConnectionState, key ed25519.PrivateKey) ([]byte, error) {
	text, err := proofText(cs)
	if err != nil {
		return nil, err
	}
	return ed25519.Sign(key, text), nil
}

// Check verifies the proof of a Join that came by this connection.
func (j *Join) Check(cs tls.ConnectionState) error {
	text, err := proofText(cs)
	if err != nil {
		return err
	}
	if !ed25519.Verify(j.Key, text, j.Proof) {
		return fmt.Errorf("rpc: the node does not prove that it has the key of %s: %w", identity.IDOf(j.Key), state.ErrDenied)
	}
	return nil
}

func proofText(cs tls.ConnectionState) ([]byte, error) {
	secret, err := cs.ExportKeyingMaterial("EXPORTER-weft-join", nil, 32)
	if err != nil {
		return nil, fmt.Errorf("rpc: %w", err)
	}
	return append([]byte("weft join 1\x00"), secret...), nil
}
