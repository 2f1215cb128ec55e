package rpc

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/mux"
	"github.com/weftnet/weft/cluster/state"
)

// Joiner takes nodes in.
type Joiner interface {
	Join(ctx context.Context, from netip.Addr, cs tls.ConnectionState, j *Join) (*Welcome, error)
}

// Node answers other members.
type Node interface {
	Forward(ctx context.Context, peer identity.NodeID, p *Proposal) (*Answer, error)
	Renew(peer identity.NodeID) (*Certificate, error)
	Status() Status
	Known(ctx context.Context, peer identity.NodeID, k *Known) error // waits at most Patience
	Feed
}

// Feed is what watchers watch.
type Feed interface {
	Beat(peer identity.NodeID, index uint64) (b Beat, now uint64, err error) // with the state if it is newer than index
	Changed() <-chan struct{}
}

// coalesce is the shortest time between two states to a watcher: changes that come faster go together.
const coalesce = 20 * time.Millisecond

// Server serves the node API.
type Server struct {
	Joiner  Joiner
	Node    Node
	Beat    time.Duration // between signs of life to a watcher
	Log     *slog.Logger
	refused atomic.Uint64
}

// Refused returns how many requests were answered by an error.
func (s *Server) Refused() uint64 { return s.refused.Load() }

// connKey is where a request's context has its connection.
type connKey struct{}

// Run serves joining nodes and members until ctx ends; then it closes what it serves.
func (s *Server) Run(ctx context.Context, joins, nodes net.Listener) error {
	join := http.NewServeMux()
	join.HandleFunc("POST /v1/join", s.join)
	node := http.NewServeMux()
	node.HandleFunc("POST /v1/propose", s.propose)
	node.HandleFunc("POST /v1/renew", s.renew)
	node.HandleFunc("POST /v1/known", s.known)
	node.HandleFunc("GET /v1/status", s.status)
	node.HandleFunc("GET /v1/watch", s.watch)
	ended := make(chan error, 2)
	servers := []*http.Server{s.server(ctx, join), s.server(ctx, node)}
	servers[0].SetKeepAlivesEnabled(false) // who is no member asks once, and keeps no place
	servers[0].ReadTimeout = 10 * time.Second
	go func() { ended <- servers[0].Serve(joins) }()
	go func() { ended <- servers[1].Serve(nodes) }()
	<-ctx.Done()
	for _, h := range servers {
		h.Close()
	}
	<-ended
	<-ended
	return nil
}

func (s *Server) server(ctx context.Context, h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
}

func conn(r *http.Request) *mux.Conn { return r.Context().Value(connKey{}).(*mux.Conn) }

// answer writes what a request gives.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, v any, err error) {
	status := http.StatusOK
	if err != nil {
		s.refused.Add(1)
		s.Log.Debug("request refused", "path", r.URL.Path, "from", r.RemoteAddr, "error", err)
		status, v = encodeFault(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // an error is the client's absence
}

func (s *Server) join(w http.ResponseWriter, r *http.Request) {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		s.answer(w, r, nil, fmt.Errorf("rpc: remote address %q: %w", r.RemoteAddr, err))
		return
	}
	j, err := DecodeJoin(r.Body)
	if err != nil {
		s.answer(w, r, nil, err)
		return
	}
	welcome, err := s.Joiner.Join(r.Context(), from.Addr().Unmap(), conn(r).ConnectionState(), j)
	s.answer(w, r, welcome, err)
}

func (s *Server) propose(w http.ResponseWriter, r *http.Request) {
	p, err := DecodeProposal(r.Body)
	if err != nil {
		s.answer(w, r, nil, err)
		return
	}
	c := conn(r)
	if p.Command.RemoveNode != nil && p.Command.RemoveNode.ID == c.Peer() {
		c.Linger()
		w.Header().Set("Connection", "close")
	}
	a, err := s.Node.Forward(r.Context(), c.Peer(), p)
	s.answer(w, r, a, err)
}

func (s *Server) renew(w http.ResponseWriter, r *http.Request) {
	cert, err := s.Node.Renew(conn(r).Peer())
	s.answer(w, r, cert, err)
}

// known waits for what a peer asks about. The peer may leave meanwhile.
func (s *Server) known(w http.ResponseWriter, r *http.Request) {
	k, err := DecodeKnown(r.Body)
	if err == nil {
		ctx, cancel := context.WithTimeout(r.Context(), Patience)
		defer cancel()
		err = s.Node.Known(ctx, conn(r).Peer(), k)
	}
	s.answer(w, r, struct{}{}, err)
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	s.answer(w, r, s.Node.Status(), nil)
}

// watch sends the state as it changes. It lingers when its peer is removed, and ends with telling so.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	var index uint64
	if text := r.URL.Query().Get("index"); text != "" {
		var err error
		if index, err = strconv.ParseUint(text, 10, 64); err != nil {
			s.answer(w, r, nil, fmt.Errorf("rpc: index %q; expected a number: %w", text, state.ErrInvalid))
			return
		}
	}
	c, control := conn(r), http.NewResponseController(w)
	control.SetReadDeadline(time.Time{})
	c.Linger()
	w.Header().Set("Connection", "close")
	enc := json.NewEncoder(w)
	for first := true; ; first = false {
		changed := s.Node.Changed()
		b, now, err := s.Node.Beat(c.Peer(), index)
		if err != nil {
			if first {
				s.answer(w, r, nil, err)
			}
			return
		}
		index = max(index, now)
		control.SetWriteDeadline(time.Now().Add(3 * s.Beat))
		if enc.Encode(b) != nil || control.Flush() != nil || b.Removed {
			return
		}
		if !s.wait(r.Context(), changed, time.Now()) {
			return
		}
	}
}

// wait returns when it is time for the next beat, or false when there is none.
func (s *Server) wait(ctx context.Context, changed <-chan struct{}, last time.Time) bool {
	beat := time.NewTimer(s.Beat)
	defer beat.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-beat.C:
		return true
	case <-changed:
	}
	beat.Reset(coalesce - time.Since(last))
	select {
	case <-ctx.Done():
		return false
	case <-beat.C:
		return true
	}
}
