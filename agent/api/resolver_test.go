package api

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/weftnet/weft/stack/capture"
)

var (
	fakeAnswer = LookupAnswer{Node: "a", Rcode: "NOERROR", Answers: []ResourceRecord{{Name: "db.", TTL: 1, Type: "A", Data: "10.0.1.7"}},
		Explanation: &Explanation{Rule: "name", Networks: []AskerNetwork{{Network: "net1", Addresses: []netip.Addr{netip.MustParseAddr("10.0.1.2")}}}, Records: []NameRecord{}}}
	fakeRecord = NameRecord{Network: "net1", Container: "db", Names: []string{"db"}, Node: "a", Addresses: []netip.Addr{netip.MustParseAddr("10.0.1.7")}}
	fakeFlows  = []OutsideFlow{{Network: "net1", Container: "c1", Protocol: "tcp"}, {Network: "net2", Container: "c1", Protocol: "udp"}, {Network: "net1", Container: "c2", Protocol: "udp"}}
)

func (c *control) Lookup(_ context.Context, r LookupRequest) (LookupAnswer, error) {
	a := fakeAnswer
	a.LookupRequest = r
	c.asked = append(c.asked, fmt.Sprintf("lookup %+v", r))
	return a, c.err
}

func (c *control) Records(_ context.Context, network string) ([]NameRecord, error) {
	c.asked = append(c.asked, "records "+network)
	return []NameRecord{fakeRecord}, c.err
}

func (c *control) Flows(context.Context) ([]OutsideFlow, error) {
	c.asked = append(c.asked, "flows")
	return append([]OutsideFlow{}, fakeFlows...), c.err
}

// serveOutward runs a server that knows names and ways out until the test ends; alone, without a cluster.
func serveOutward(t *testing.T, alone bool) (*control, *Client) {
	t.Helper()
	c := &control{several: true}
	o := Options{Node: fake{capture.New()}, Control: c, Doctor: c, Resolver: c, Outside: c}
	if alone {
		o.Control = nil
	}
	s, err := Open(filepath.Join(t.TempDir(), "s"), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return c, NewClient(s.path)
}

func TestLookUpsReachTheNodeCompleted(t *testing.T) {
	control, client := serveOutward(t, false)
	for _, c := range []struct {
		ask  LookupRequest
		want LookupRequest
	}{
		{LookupRequest{"db", "", "c1"}, LookupRequest{"db", "A", "c1"}},
		{LookupRequest{"db.", "aaaa", "c1"}, LookupRequest{"db.", "AAAA", "c1"}},
		{LookupRequest{"10.0.1.7", "", "c1"}, LookupRequest{"7.1.0.10.in-addr.arpa.", "PTR", "c1"}},
		{LookupRequest{"::ffff:10.0.1.7", "ptr", "c1"}, LookupRequest{"7.1.0.10.in-addr.arpa.", "PTR", "c1"}},
		{LookupRequest{"fd00::1", "", "c1"}, LookupRequest{"1." + strings.Repeat("0.", 29) + "d.f.ip6.arpa.", "PTR", "c1"}},
		{LookupRequest{"10.0.1.7", "A", "c1"}, LookupRequest{"10.0.1.7", "A", "c1"}},
		{LookupRequest{"_http._tcp.db", "SRV", "c1"}, LookupRequest{"_http._tcp.db", "SRV", "c1"}},
	} {
		control.asked = nil
		explained, err := client.Explain(t.Context(), c.ask)
		want := fakeAnswer
		want.LookupRequest = c.want
		if err != nil || !reflect.DeepEqual(explained, want) {
			t.Errorf("explain %+v: %+v, %v; expected %+v", c.ask, explained, err, want)
		}
		answered, err := client.Query(t.Context(), c.ask)
		want.Explanation = nil
		if err != nil || !reflect.DeepEqual(answered, want) {
			t.Errorf("query %+v: %+v, %v; expected %+v", c.ask, answered, err, want)
		}
		if asked := fmt.Sprintf("lookup %+v", c.want); !reflect.DeepEqual(control.asked, []string{asked, asked}) {
			t.Errorf("the node was asked %q, expected %q twice", control.asked, asked)
		}
	}
}

func TestFaultyLookUpsAreRefusedWithTheRemedy(t *testing.T) {
	control, client := serveOutward(t, false)
	for _, c := range []struct {
		ask    LookupRequest
		status int
		part   string
	}{
		{LookupRequest{"db", "", ""}, 400, "name a container of this node"},
		{LookupRequest{"", "", "c1"}, 400, `name ""; expected up to 253 characters`},
		{LookupRequest{"a..b", "", "c1"}, 400, `name "a..b"`},
		{LookupRequest{strings.Repeat("a", 64), "", "c1"}, 400, "labels of up to 63"},
		{LookupRequest{"a b", "", "c1"}, 400, `name "a b"`},
		{LookupRequest{"db", "ADDRESS", "c1"}, 400, `type "ADDRESS"; expected A, AAAA`},
		{LookupRequest{"db", "", "c2"}, 409, "container c2 is on node b; ask the agent there"},
		{LookupRequest{"db", "", "c3"}, 404, `no container "c3" on this node, nor on others of its networks; see weft endpoint ls`},
	} {
		_, err := client.Query(t.Context(), c.ask)
		var got *Refusal
		if !errors.As(err, &got) || got.Status != c.status || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%+v: %v, expected %d and %q", c.ask, err, c.status, c.part)
		}
	}
	if len(control.asked) > 0 {
		t.Errorf("the node was asked %q, expected nothing", control.asked)
	}
}

func TestRecordsAndFlowsAreThoseAskedFor(t *testing.T) {
	control, client := serveOutward(t, false)
	ctx := t.Context()
	if got, err := client.Records(ctx, "net1"); err != nil || !reflect.DeepEqual(got, []NameRecord{fakeRecord}) || control.asked[0] != "records net1" {
		t.Errorf("records: %+v, %v, asked %q", got, err, control.asked)
	}
	for _, c := range []struct {
		network, container string
		want               []OutsideFlow
	}{
		{"", "", fakeFlows},
		{"net1", "", []OutsideFlow{fakeFlows[0], fakeFlows[2]}},
		{"", "c1", fakeFlows[:2]},
		{"net2", "c1", fakeFlows[1:2]},
		{"net1", "c0", []OutsideFlow{}},
	} {
		if got, err := client.Flows(ctx, c.network, c.container); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("flows of %q, %q: %+v, %v; expected %+v", c.network, c.container, got, err, c.want)
		}
	}
	if _, err := client.Records(ctx, "net3"); err == nil || !strings.Contains(err.Error(), `no network "net3"; this node has net1, net2`) {
		t.Errorf("records of no network: %v", err)
	}
	if _, err := client.Flows(ctx, "", "c2"); err == nil || !strings.Contains(err.Error(), "is on node b") {
		t.Errorf("flows of another node's container: %v", err)
	}
	control.err = Refuse(503, "the router of net1 has failed")
	if _, err := client.Flows(ctx, "", ""); err == nil || err.Error() != "the router of net1 has failed" {
		t.Errorf("a refusal comes as %v", err)
	}
}

func TestANodeWithoutClusterAnswersForItsContainersToo(t *testing.T) {
	control, client := serveOutward(t, true)
	if _, err := client.Query(t.Context(), LookupRequest{"db", "", "whoever"}); err != nil || len(control.asked) != 1 {
		t.Errorf("%v, and asked %q", err, control.asked)
	}
}

func TestANodeThatServesNoNetworkSaysSo(t *testing.T) {
	_, client := serveCluster(t)
	ctx := t.Context()
	for _, ask := range []func() error{
		func() error { _, err := client.Query(ctx, LookupRequest{"db", "", "c1"}); return err },
		func() error { _, err := client.Explain(ctx, LookupRequest{"db", "", "c1"}); return err },
		func() error { _, err := client.Records(ctx, ""); return err },
		func() error { _, err := client.Flows(ctx, "", ""); return err },
	} {
		var got *Refusal
		if err := ask(); !errors.As(err, &got) || got.Status != 409 || !strings.Contains(err.Error(), "weft run --network") {
			t.Errorf("got %v, expected 409 and the remedy", err)
		}
	}
}
