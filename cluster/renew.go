package cluster

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

// report tells the cluster what this node tells of itself, whenever that is not what the cluster knows, until ctx ends.
func (m *Member) report(ctx context.Context) {
	tick := time.NewTicker(m.cfg.Timing.Report)
	defer tick.Stop()
	for {
		if s, err := m.standing(); err == nil {
			if r := m.own(); !reflect.DeepEqual(r, plain(s.Nodes[m.ID()].Report)) {
				if _, err := m.Propose(ctx, state.Command{Report: &r}); err != nil {
					m.cfg.Log.Debug("report", "error", err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// own returns this node's report.
func (m *Member) own() state.Report {
	r := m.cfg.Report()
	r.API = m.addr
	if r.Version == "" {
		r.Version = m.cfg.Version
	}
	return plain(r)
}

// plain makes reports comparable: no routes are no routes.
func plain(r state.Report) state.Report {
	if len(r.Routes) == 0 {
		r.Routes = nil
	}
	return r
}

// renew keeps this node's certificate from ending, until ctx ends.
func (m *Member) renew(ctx context.Context) {
	r := renewal{
		now:     m.cfg.Now,
		every:   m.cfg.Timing.Renew,
		changed: m.Changed,
		cert: func() *x509.Certificate {
			cert, _ := m.Identity().Certificates()
			return cert
		},
		ask: m.renewOnce,
		failed: func(cert *x509.Certificate, err error) {
			m.cfg.Log.Error("this node's certificate cannot be renewed", "until", cert.NotAfter, "error", err)
		},
	}
	r.run(ctx)
}

// renewal renews a certificate at two thirds of its life, and tries again now and then until it has another.
type renewal struct {
	now     func() time.Time
	every   time.Duration          // between attempts
	changed func() <-chan struct{} // closed when there may be another certificate
	cert    func() *x509.Certificate
	ask     func(context.Context) error
	failed  func(*x509.Certificate, error)
}

func (r renewal) run(ctx context.Context) {
	for ctx.Err() == nil {
		changed, wait := r.changed(), r.every
		if cert := r.cert(); cert != nil {
			wait = identity.RenewAt(cert).Sub(r.now())
			if wait <= 0 {
				wait, changed = r.every, nil // an attempt is not made again at every change
				if err := r.ask(ctx); err != nil {
					r.failed(cert, err)
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(min(wait, r.every)):
		}
	}
}

// renewOnce gets a new certificate from any manager.
func (m *Member) renewOnce(ctx context.Context) error {
	s, err := m.standing()
	if err != nil {
		return err
	}
	var faults []error
	for _, to := range m.route(s) {
		cert, err := m.askCertificate(ctx, s, to)
		if err == nil {
			return m.Identity().Save(m.cfg.Dir, cert, s.Cluster.CACert)
		}
		faults = append(faults, fmt.Errorf("%s: %w", s.Nodes[to].Name, err))
	}
	return errors.Join(faults...)
}

func (m *Member) askCertificate(ctx context.Context, s *state.State, to identity.NodeID) ([]byte, error) {
	if to == m.ID() {
		return m.sign(s, s.Nodes[to])
	}
	ctx, cancel := m.patience(ctx)
	defer cancel()
	c, err := m.client.Renew(ctx, to)
	if err != nil {
		return nil, err
	}
	return c.Cert, nil
}

// sign makes a node's certificate. The state must be a manager's.
func (m *Member) sign(s *state.State, n *state.Node) ([]byte, error) {
	ca, err := identity.ParseCA(s.Cluster.CACert, s.Cluster.CAKey)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	cert, err := ca.Sign(n.Key, n.Name, s.Cluster.CertLife, m.cfg.Now())
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return cert, nil
}
