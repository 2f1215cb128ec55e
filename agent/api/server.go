// Package api is the node's local API: HTTP and JSON over a unix socket that only its owner may open.
//
//	GET /v1/status     Status
//	GET /v1/networks   []Network
//	GET /v1/fdb        []FDBEntry      ?network=
//	GET /v1/ports      []PortStatus    ?network=
//	GET /v1/stats      Stats
//	GET /v1/capture    pcapng, until the client leaves
//	                   ?point=port|tunnel &view=inner|outer &network= &port= &host=ADDRESS|SUBNET &l4port= &cut=1 &snaplen= &count= &duration=
//	GET /v1/dns/query     LookupAnswer    ?name= &type= &from=CONTAINER
//	GET /v1/dns/explain   LookupAnswer, with its Explanation
//	GET /v1/dns/records   []NameRecord    ?network=
//	GET /v1/egress/flows  []OutsideFlow   ?network= &container=
//
// and, unless the node runs with --static:
//
//	GET    /v1/cluster                     Cluster           GET    /v1/cluster/networks     []NetworkDetail
//	POST   /v1/cluster/init                InitRequest → JoinTokens
//	POST   /v1/cluster/join                JoinRequest → Member, this node
//	POST   /v1/cluster/leave               LeaveRequest
//	GET    /v1/cluster/tokens              JoinTokens
//	POST   /v1/cluster/tokens/ROLE/rotate  JoinTokens
//	POST   /v1/cluster/rotate-keys
//	GET    /v1/cluster/backup              octets            POST   /v1/cluster/restore      RestoreRequest
//	GET    /v1/nodes                       []Member          GET    /v1/nodes/NODE           Member
//	POST   /v1/nodes/NODE                  MemberChange → Member
//	DELETE /v1/nodes/NODE                  ?force=1
//	POST   /v1/networks                    NetworkRequest → NetworkDetail
//	GET    /v1/networks/NETWORK            NetworkDetail     DELETE /v1/networks/NETWORK
//	POST   /v1/networks/prune              []string, the names of the networks removed
//	GET    /v1/endpoints                   []Endpoint        ?network=
//	GET    /v1/endpoints/NAME              []Endpoint, by a container's name or an endpoint's ID
//	POST   /v1/endpoints                   AttachRequest → []Endpoint
//	DELETE /v1/endpoints/CONTAINER         ?network=
//	GET    /v1/ipam/usage                  []Usage           GET    /v1/ipam/audit           []Audit
//	GET    /v1/doctor                      []Check
//
// A request that fails is answered by {"error": "..."} and a fitting status: 400 for a faulty one, 404 for what is not
// there, 409 for what the present state does not allow, 503 for what takes a quorum of managers. Curl is a client:
//
//	curl --unix-socket /run/weft.sock http://weft/v1/ports
//
// Fields are added in later versions, never renamed.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/stack/capture"
)

// Node is what the API shows. Its methods may be called from any goroutine, and return what belongs to the caller.
type Node interface {
	Tables
	Meter
}

// Tables is what a node knows.
type Tables interface {
	Status() Status
	Networks() []Network
	FDB() []FDBEntry
	Ports() []PortStatus
}

// Meter is what a node counts and shows of its traffic.
type Meter interface {
	Stats() Stats
	Tap() *capture.Tap
}

// Server serves a Node on a unix socket.
type Server struct {
	Options
	path  string
	lis   net.Listener
	lock  *os.File
	close sync.Once
}

// maxPath is how long a socket's path may be (unix(7), sun_path), with room for the temporary directory that it is made in.
const maxPath = 107 - len("/.weft-0123456789")

// Listen is Open for a node that has no cluster.
func Listen(path string, node Node) (*Server, error) { return Open(path, Options{Node: node}) }

// Open takes the socket at path, with mode 0600. A socket that a dead agent left there is replaced; one that a live agent
// serves is an error.
func Open(path string, o Options) (*Server, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	if len(path) > maxPath {
		return nil, fmt.Errorf("api: the socket's path %s has %d bytes; expected at most %d; choose a shorter one with --socket", path, len(path), maxPath)
	}
	s := &Server{Options: o, path: path}
	if err := s.acquire(); err != nil {
		return nil, err
	}
	if s.lis, err = bind(path); err != nil {
		s.lock.Close()
		return nil, fmt.Errorf("api: %w; choose another socket with --socket", err)
	}
	return s, nil
}

// acquire locks the socket's name. The lock lives as long as this process, and its file stays: removing it would let two
// agents hold locks of different files by the same name.
func (s *Server) acquire() (err error) {
	s.lock, err = os.OpenFile(s.path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("api: %w; choose another socket with --socket", err)
	}
	if unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		s.lock.Close()
		return fmt.Errorf("api: another agent serves %s; stop it, or choose another socket with --socket", s.path)
	}
	info, err := os.Lstat(s.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
	case info.Mode()&os.ModeSocket == 0:
		err = fmt.Errorf("%s exists and is not a socket; remove it", s.path)
	default:
		c, dialErr := net.Dial("unix", s.path)
		if dialErr != nil {
			return nil // stale: bind replaces it
		}
		c.Close()
		err = fmt.Errorf("another process serves %s; stop it", s.path)
	}
	s.lock.Close()
	return fmt.Errorf("api: %w, or choose another socket with --socket", err)
}

// bind makes the socket where nobody can reach it, sets its mode, and moves it to its place in one step.
func bind(path string) (net.Listener, error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".weft-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	made := filepath.Join(dir, "s")
	lis, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, err
	}
	lis.SetUnlinkOnClose(false)
	if err = os.Chmod(made, 0o600); err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		lis.Close()
		return nil, err
	}
	return lis, nil
}

// Close removes the socket. It is idempotent; Run calls it.
func (s *Server) Close() error {
	var err error
	s.close.Do(func() {
		err = errors.Join(os.Remove(s.path), s.lis.Close(), s.lock.Close())
	})
	return err
}

// Run serves until ctx ends, then ends running captures and closes the server.
func (s *Server) Run(ctx context.Context) error {
	h := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(s.lis) }()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
		end, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if h.Shutdown(end) != nil {
			h.Close() // a capture's client that does not read
		}
		<-served
	}
	if closeErr := s.Close(); err == nil && closeErr != nil && !errors.Is(closeErr, net.ErrClosed) {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("api: serve %s: %w", s.path, err)
	}
	return nil
}

// known refuses a network that the node does not have.
func (s *Server) known(r *http.Request) error {
	name := r.URL.Query().Get("network")
	if name == "" {
		return nil
	}
	var names []string
	for _, n := range s.Node.Networks() {
		if n.Name == name {
			return nil
		}
		names = append(names, n.Name)
	}
	return Refuse(http.StatusNotFound, "no network %q; this node has %s", name, words(names))
}

// only returns the elements of the network that r asks for.
func only[T any](all []T, r *http.Request, network func(T) string) []T {
	if name := r.URL.Query().Get("network"); name != "" {
		all = slices.DeleteFunc(all, func(v T) bool { return network(v) != name })
	}
	return list(all)
}

// list makes an empty list of none, which JSON would call null.
func list[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

func words(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Failure is the body of an answer that is none.
type Failure struct {
	Error string `json:"error"`
}

func fail(w http.ResponseWriter, status int, err error) {
	b, _ := json.Marshal(Failure{err.Error()}) // a string always can be
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}
