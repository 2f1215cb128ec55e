package cluster

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/cluster/identity"
	"github.com/weftnet/weft/cluster/state"
)

func TestKeysRotateStepByStep(t *testing.T) {
	var mine atomic.Uint64 // what a reports; a node that has crashed reports nothing new
	report := func() state.Report { return state.Report{KeyEpoch: mine.Load()} }
	mine.Store(1)
	a := start(t, "a", func(c *Config) { c.Report = report }).found()
	w := start(t, "w", func(c *Config) { c.Report = report }).join(a, state.Worker)
	ring := func(h *host) state.Keyring { return h.State().Cluster.Gossip }

	a.propose(state.Command{RotateKeys: NewKeys(a.State())})
	if r := ring(a); len(r.Keys) != 2 || r.Primary != 1 {
		t.Fatalf("after the first step the keyring is %+v; expected two keys, the older in use", r)
	}
	mine.Store(2)
	until(t, "the new key is in use alone", func() bool { r := ring(w); return len(r.Keys) == 1 && r.Primary == 2 })

	w.kill() // it will not report the next one
	a.propose(state.Command{RotateKeys: NewKeys(a.State())})
	mine.Store(3)
	until(t, "the rotation leaves w behind", func() bool { r := ring(a); return len(r.Keys) == 1 && r.Primary == 3 })
	w.boot()
	until(t, "w has caught up", func() bool { return ring(w).Primary == 3 })
}

func TestARemovedNodesKeysAreReplaced(t *testing.T) {
	a := start(t, "a", func(c *Config) { c.Report = func() state.Report { return state.Report{KeyEpoch: 9} } }).found()
	w := start(t, "w").join(a, state.Worker)
	a.propose(network("blue"))
	a.propose(state.Command{RemoveNode: &state.RemoveNode{ID: w.ID()}})
	until(t, "all keys are new ones", func() bool {
		s := a.State()
		n, err := s.Network("blue")
		return err == nil && len(s.Cluster.Gossip.Keys) == 1 && s.Cluster.Gossip.Primary == 2 && len(n.Keys.Keys) == 1 && n.Keys.Primary == 2
	})
}

func TestCertificatesAreRenewedAtTwoThirdsOfTheirLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		ca, err := identity.NewCA("test", begin)
		if err != nil {
			t.Fatal(err)
		}
		pub, _, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		sign := func() *x509.Certificate {
			der, err := ca.Sign(pub, "n", 90*24*time.Hour, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			return cert
		}
		cert := sign()
		due := identity.RenewAt(cert)
		var asked []time.Time
		failures := 3 // no manager answers for three hours
		r := renewal{
			now: time.Now, every: time.Hour,
			changed: func() <-chan struct{} { return nil },
			cert:    func() *x509.Certificate { return cert },
			ask: func(context.Context) error {
				asked = append(asked, time.Now())
				if failures--; failures >= 0 {
					return errors.New("no manager")
				}
				cert = sign()
				return nil
			},
			failed: func(*x509.Certificate, error) {},
		}
		ctx, cancel := context.WithDeadline(t.Context(), due.Add(24*time.Hour))
		defer cancel()
		r.run(ctx)
		if len(asked) != 4 {
			t.Fatalf("asked at %v; expected three attempts that fail and one more", asked)
		}
		if late := asked[0].Sub(due); late < 0 || late > time.Hour {
			t.Errorf("first asked %s after it was due", late)
		}
		for i := range 3 {
			if gap := asked[i+1].Sub(asked[i]); gap != time.Hour {
				t.Errorf("attempt %d came after %s, expected an hour", i+2, gap)
			}
		}
		if !identity.RenewAt(cert).After(due.Add(24 * time.Hour)) {
			t.Error("the certificate is not a new one")
		}
	})
}

func TestARenewedCertificateIsUsedAtOnce(t *testing.T) {
	var shift atomic.Int64
	clock := func(c *Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
		c.Timing.Renew = 50 * time.Millisecond
	}
	a := start(t, "a", clock).found()
	w := start(t, "w", clock).join(a, state.Worker)
	serial := func(h *host) string {
		cert, _ := h.Identity().Certificates()
		return fmt.Sprint(cert.SerialNumber)
	}
	olda, oldw := serial(a), serial(w)
	shift.Store(int64(70 * 24 * time.Hour))
	until(t, "both have new certificates", func() bool { return serial(a) != olda && serial(w) != oldw })
	shift.Store(int64(100 * 24 * time.Hour)) // the first ones are over
	conn, err := w.dial(t.Context(), a.ID(), identity.NodeALPN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := fmt.Sprint(conn.ConnectionState().PeerCertificates[0].SerialNumber); got == olda {
		t.Error("a shows its old certificate")
	}
}
