package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/weftnet/weft/agent/api/object"
)

// router finds the answer to a request by its method and path.
type router struct{ mux *http.ServeMux }

// answer is what a request gives: a value to be sent as JSON, or nil for nothing.
type answer func(r *http.Request) (any, error)

// handle gives what matches pattern, a method and a path, to h, after a look at its parameters.
func (m router) handle(pattern string, params []string, h http.HandlerFunc) {
	m.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		for key, values := range r.URL.Query() {
			if !slices.Contains(params, key) {
				fail(w, http.StatusBadRequest, fmt.Errorf("unknown parameter %q; %s takes %s", key, r.URL.Path, words(params)))
				return
			}
			if len(values) > 1 {
				fail(w, http.StatusBadRequest, fmt.Errorf("parameter %q is given %d times; expected once", key, len(values)))
				return
			}
		}
		h(w, r)
	})
}

// json is handle for what is answered in JSON.
func (m router) json(pattern string, params []string, a answer) {
	m.handle(pattern, params, func(w http.ResponseWriter, r *http.Request) {
		v, err := a(r)
		switch {
		case err != nil:
			refuse(w, err)
		case v == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			reply(w, v)
		}
	})
}

// unknown answers what nothing else does: a method that its path does not have, or a path that is none.
func (m router) unknown(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		other := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := m.mux.Handler(other); strings.HasPrefix(pattern, method) {
			allowed = append(allowed, method)
		}
	}
	if allowed == nil {
		fail(w, http.StatusNotFound, fmt.Errorf("no %s here; expected /v1/ and one of status, networks, fdb, ports, stats, capture, cluster, nodes, endpoints, ipam, dns, egress or doctor", r.URL.Path))
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	fail(w, http.StatusMethodNotAllowed, fmt.Errorf("method %s on %s; expected %s", r.Method, r.URL.Path, strings.Join(allowed, " or ")))
}

func (s *Server) handler() http.Handler {
	m := router{http.NewServeMux()}
	network := []string{"network"}
	m.json("GET /v1/status", nil, func(*http.Request) (any, error) { return s.Node.Status(), nil })
	m.json("GET /v1/networks", nil, func(*http.Request) (any, error) { return list(s.Node.Networks()), nil })
	m.json("GET /v1/stats", nil, func(*http.Request) (any, error) { return s.Node.Stats(), nil })
	m.json("GET /v1/fdb", network, func(r *http.Request) (any, error) {
		return only(s.Node.FDB(), r, func(e FDBEntry) string { return e.Network }), s.known(r)
	})
	m.json("GET /v1/ports", network, func(r *http.Request) (any, error) {
		return only(s.Node.Ports(), r, func(p PortStatus) string { return p.Network }), s.known(r)
	})
	m.handle("GET /v1/capture", captureParams, s.capture)
	m.json("GET /v1/doctor", nil, func(r *http.Request) (any, error) {
		if s.Doctor == nil {
			return nil, errStatic
		}
		return listed(s.Doctor.Checks(r.Context()))
	})
	s.clusterRoutes(m)
	s.nodeRoutes(m)
	s.networkRoutes(m)
	s.endpointRoutes(m)
	s.outwardRoutes(m)
	m.mux.HandleFunc("/", m.unknown)
	return m.mux
}

func (s *Server) clusterRoutes(m router) {
	m.json("GET /v1/cluster", nil, s.member(func(c Control, r *http.Request) (any, error) { return c.Cluster(r.Context()) }))
	m.json("POST /v1/cluster/init", nil, body(s, maxBody, func(c Control, r *http.Request, q InitRequest) (any, error) { return c.Init(r.Context(), q) }))
	m.json("POST /v1/cluster/join", nil, body(s, maxBody, func(c Control, r *http.Request, q JoinRequest) (any, error) { return c.Join(r.Context(), q) }))
	m.json("POST /v1/cluster/leave", nil, body(s, maxBody, func(c Control, r *http.Request, q LeaveRequest) (any, error) {
		return nil, c.Leave(r.Context(), q)
	}))
	m.json("GET /v1/cluster/tokens", nil, s.member(func(c Control, r *http.Request) (any, error) { return c.Tokens(r.Context()) }))
	m.json("POST /v1/cluster/tokens/{role}/rotate", nil, s.member(func(c Control, r *http.Request) (any, error) {
		role := r.PathValue("role")
		if err := oneOf("role", role, "worker", "manager"); err != nil {
			return nil, &Refusal{http.StatusBadRequest, err}
		}
		return c.RotateToken(r.Context(), role)
	}))
	m.json("POST /v1/cluster/rotate-keys", nil, s.member(func(c Control, r *http.Request) (any, error) { return nil, c.RotateKeys(r.Context()) }))
	m.handle("GET /v1/cluster/backup", nil, s.backup)
	m.json("POST /v1/cluster/restore", nil, body(s, maxCopy, func(c Control, r *http.Request, q RestoreRequest) (any, error) {
		return nil, c.Restore(r.Context(), q)
	}))
}

func (s *Server) nodeRoutes(m router) {
	m.json("GET /v1/nodes", nil, s.member(func(c Control, r *http.Request) (any, error) { return listed(c.Members(r.Context())) }))
	m.json("GET /v1/nodes/{node}", nil, s.member(func(c Control, r *http.Request) (any, error) { return c.Member(r.Context(), r.PathValue("node")) }))
	m.json("POST /v1/nodes/{node}", nil, body(s, maxBody, func(c Control, r *http.Request, q MemberChange) (any, error) {
		return c.ChangeMember(r.Context(), r.PathValue("node"), q)
	}))
	m.json("DELETE /v1/nodes/{node}", []string{"force"}, s.member(func(c Control, r *http.Request) (any, error) {
		force, err := choice(r.URL.Query(), "force", "0", "1")
		if err != nil {
			return nil, &Refusal{http.StatusBadRequest, err}
		}
		return nil, c.RemoveMember(r.Context(), r.PathValue("node"), force)
	}))
}

func (s *Server) networkRoutes(m router) {
	m.json("GET /v1/cluster/networks", nil, s.member(func(c Control, r *http.Request) (any, error) { return listed(c.Segments(r.Context())) }))
	m.json("POST /v1/networks", nil, body(s, maxBody, func(c Control, r *http.Request, q NetworkRequest) (any, error) {
		return c.CreateNetwork(r.Context(), q)
	}))
	m.json("POST /v1/networks/prune", nil, s.member(func(c Control, r *http.Request) (any, error) { return listed(c.PruneNetworks(r.Context())) }))
	m.json("GET /v1/networks/{network}", nil, s.member(func(c Control, r *http.Request) (any, error) { return c.Segment(r.Context(), r.PathValue("network")) }))
	m.json("DELETE /v1/networks/{network}", nil, s.member(func(c Control, r *http.Request) (any, error) {
		return nil, c.RemoveNetwork(r.Context(), r.PathValue("network"))
	}))
	m.json("GET /v1/ipam/usage", nil, s.member(func(c Control, r *http.Request) (any, error) { return listed(c.Usage(r.Context())) }))
	m.json("GET /v1/ipam/audit", nil, s.member(func(c Control, r *http.Request) (any, error) { return listed(c.Audit(r.Context())) }))
}

func (s *Server) endpointRoutes(m router) {
	network := []string{"network"}
	m.json("GET /v1/endpoints", network, s.member(func(c Control, r *http.Request) (any, error) {
		return listed(c.Endpoints(r.Context(), r.URL.Query().Get("network")))
	}))
	m.json("GET /v1/endpoints/{name}", nil, s.member(func(c Control, r *http.Request) (any, error) {
		return listed(c.Endpoint(r.Context(), r.PathValue("name")))
	}))
	m.json("POST /v1/endpoints", nil, body(s, maxBody, func(c Control, r *http.Request, q AttachRequest) (any, error) {
		return listed(c.Attach(r.Context(), q))
	}))
	m.json("DELETE /v1/endpoints/{container}", network, s.member(func(c Control, r *http.Request) (any, error) {
		return nil, c.Detach(r.Context(), r.PathValue("container"), r.URL.Query().Get("network"))
	}))
}

func (s *Server) outwardRoutes(m router) {
	lookup := []string{"name", "type", "from"}
	m.json("GET /v1/dns/query", lookup, func(r *http.Request) (any, error) {
		a, err := s.lookup(r)
		a.Explanation = nil
		return a, err
	})
	m.json("GET /v1/dns/explain", lookup, func(r *http.Request) (any, error) { return s.lookup(r) })
	m.json("GET /v1/dns/records", []string{"network"}, func(r *http.Request) (any, error) {
		if s.Resolver == nil {
			return nil, errNoNames
		}
		if err := s.known(r); err != nil {
			return nil, err
		}
		return listed(s.Resolver.Records(r.Context(), r.URL.Query().Get("network")))
	})
	m.json("GET /v1/egress/flows", []string{"network", "container"}, func(r *http.Request) (any, error) {
		if s.Outside == nil {
			return nil, errNoWay
		}
		if err := s.known(r); err != nil {
			return nil, err
		}
		container := r.URL.Query().Get("container")
		if container != "" {
			if err := s.here(r.Context(), container); err != nil {
				return nil, err
			}
		}
		all, err := s.Outside.Flows(r.Context())
		return flowsOf(only(all, r, func(f OutsideFlow) string { return f.Network }), container), err
	})
}

var (
	errNoNames = Refuse(http.StatusConflict, "this node answers no names yet: it serves no network; attach a container to one first (weft run --network, weft attach)")
	errNoWay   = Refuse(http.StatusConflict, "nothing leads out of this node's networks yet: it serves none; attach a container to one first (weft run --network, weft attach)")
)

var errStatic = Refuse(http.StatusConflict, "this agent runs with --static; it belongs to no cluster, and takes what it does from its file: for a cluster start weft agent without --static")

// member makes an answer of do, which takes a node that has a cluster or may have one, and no body.
func (s *Server) member(do func(Control, *http.Request) (any, error)) answer {
	return func(r *http.Request) (any, error) {
		if s.Control == nil {
			return nil, errStatic
		}
		if err := bare(r); err != nil {
			return nil, err
		}
		return do(s.Control, r)
	}
}

// body makes an answer of do, which takes a Q of up to limit octets of JSON.
func body[Q request](s *Server, limit int64, do func(Control, *http.Request, Q) (any, error)) answer {
	return func(r *http.Request) (any, error) {
		b, err := read(r, limit) // in any case: a client that still writes would not see the answer
		if err != nil {
			return nil, err
		}
		if s.Control == nil {
			return nil, errStatic
		}
		var q Q
		if err := object.Decode(b, &q); err != nil {
			return nil, &Refusal{http.StatusBadRequest, err}
		}
		if err := q.check(); err != nil {
			return nil, &Refusal{http.StatusBadRequest, err}
		}
		return do(s.Control, r, q)
	}
}

// backup sends octets as they are.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) {
	var b []byte
	_, err := s.member(func(c Control, r *http.Request) (_ any, err error) {
		b, err = c.Backup(r.Context())
		return nil, err
	})(r)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(b) // a client that has left needs no answer
}

// listed makes an empty list of none, as list does.
func listed[T any](all []T, err error) (any, error) { return list(all), err }

func reply(w http.ResponseWriter, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n')) // a client that has left needs no answer
}

// refuse answers an error with the status that it carries.
func refuse(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if r := (*Refusal)(nil); errors.As(err, &r) && r.Status >= 400 && r.Status < 600 {
		status = r.Status
	}
	fail(w, status, err)
}
