package bench

import (
	"context"
	"slices"
	"time"

	"github.com/weftnet/weft/bench/cpu"
	"github.com/weftnet/weft/bench/histogram"
	"github.com/weftnet/weft/bench/load"
	"github.com/weftnet/weft/bench/report"
	"github.com/weftnet/weft/bench/topology"
)

// Scenarios returns all there are. The bench takes them in this order.
func Scenarios() []Scenario {
	overlay, both, names := []topology.Group{topology.Overlay}, []topology.Group{topology.Overlay, topology.Egress}, []topology.Group{topology.Names}
	return []Scenario{
		{Name: "tcp1", About: "TCP in bulk, one stream", Groups: both, measure: bulk(load.Spec{Kind: load.Stream})},
		{Name: "tcp4", About: "TCP in bulk, four streams", Groups: both, measure: bulk(load.Spec{Kind: load.Stream, Streams: 4})},
		{Name: "tcp1-reverse", About: "TCP in bulk, one stream from server to client", Groups: both, measure: bulk(load.Spec{Kind: load.Reverse})},
		{Name: "udp64", About: "UDP datagrams of 64 bytes as fast as they can be sent", Groups: both, measure: datagrams(64)},
		{Name: "udp1400", About: "UDP datagrams of 1400 bytes as fast as they can be sent", Groups: both, measure: datagrams(1400)},
		{Name: "rr", About: "one byte there and one back, over and over on one TCP connection", Groups: both, measure: transactions(load.Echo)},
		{Name: "crr", About: "TCP connect, one byte there and one back, close", Groups: both, measure: transactions(load.Connect)},
		{Name: "local-tcp1", About: "tcp1 between two containers on one host", Groups: overlay, Local: true, measure: bulk(load.Spec{Kind: load.Stream})},
		{Name: "local-rr", About: "rr between two containers on one host", Groups: overlay, Local: true, measure: transactions(load.Echo)},
		{Name: "dns", About: "DNS queries for names that the resolver has itself, 64 at a time", Groups: names, measure: queries},
	}
}

// Scenario is a load from one container, and what is measured of it.
type Scenario struct {
	Name   string
	About  string
	Groups []topology.Group // whose paths can carry it; the first is where it runs if no paths are named
	Local  bool             // between containers of one host

	measure func(context.Context, bed) (measurement, error)
}

// fits reports whether the path can carry the scenario.
func (s Scenario) fits(p topology.Path) bool { return slices.Contains(s.Groups, p.Group) }

// bed is what a scenario is measured on.
type bed struct {
	client, server topology.Container
	names          []string // that a resolver at the server's address knows
	window         load.Window
	congestion     string
	iperf3         bool // generate with iperf3 where it can
}

// measurement is what a scenario found.
type measurement struct {
	metrics   []report.Metric // the first is what the scenario is about
	seconds   float64
	cpu       cpu.Times
	latency   *histogram.Histogram
	generator string
}

// run puts a load on the bed with our own generators.
func (b bed) run(ctx context.Context, s load.Spec) (load.Outcome, error) {
	s.Server, s.Congestion = b.server.Addr, b.congestion
	return load.Run(ctx, b.client.Host, b.server.Host, s, b.window)
}

func bulk(s load.Spec) func(context.Context, bed) (measurement, error) {
	return func(ctx context.Context, b bed) (measurement, error) {
		if b.iperf3 {
			return b.iperf3Bulk(ctx, s)
		}
		o, err := b.run(ctx, s)
		if err != nil {
			return measurement{}, err
		}
		receiver := o.Server
		if s.Kind == load.Reverse {
			receiver = o.Client
		}
		return throughput(float64(receiver.Bytes), receiver.Seconds, o.CPU, GeneratorWeft), nil
	}
}

func throughput(bytes, seconds float64, used cpu.Times, generator string) measurement {
	m := measurement{seconds: seconds, cpu: used, generator: generator, metrics: []report.Metric{
		{Name: "throughput", Unit: "Gbit/s", Value: bytes * 8 / 1e9 / seconds, Better: report.Higher},
	}}
	m.cost("s/GB", 1, bytes/1e9)
	return m
}

func datagrams(size int) func(context.Context, bed) (measurement, error) {
	return func(ctx context.Context, b bed) (measurement, error) {
		if b.iperf3 {
			return b.iperf3Datagrams(ctx, size)
		}
		o, err := b.run(ctx, load.Spec{Kind: load.Datagram, Size: size})
		if err != nil {
			return measurement{}, err
		}
		return packets(float64(o.Server.Count), o.Server.Loss(), o.Server.Seconds, o.CPU, GeneratorWeft), nil
	}
}

// packets describes delivered datagrams; loss is a share from 0 to 1.
func packets(delivered, loss, seconds float64, used cpu.Times, generator string) measurement {
	m := measurement{seconds: seconds, cpu: used, generator: generator, metrics: []report.Metric{
		{Name: "rate", Unit: "packets/s", Value: delivered / seconds, Better: report.Higher},
		{Name: "loss", Unit: "%", Value: loss * 100, Better: report.Lower},
	}}
	m.cost("µs/packet", 1e6, delivered)
	return m
}

func transactions(kind load.Kind) func(context.Context, bed) (measurement, error) {
	return func(ctx context.Context, b bed) (measurement, error) {
		o, err := b.run(ctx, load.Spec{Kind: kind})
		if err != nil {
			return measurement{}, err
		}
		m := measurement{seconds: o.Client.Seconds, cpu: o.CPU, generator: GeneratorWeft, metrics: []report.Metric{
			{Name: "rate", Unit: "/s", Value: float64(o.Client.Count) / o.Client.Seconds, Better: report.Higher},
		}}
		m.times(o.Client.Latency)
		m.cost("µs/transaction", 1e6, float64(o.Client.Count))
		return m, nil
	}
}

// queries asks the resolver for all of its names in turn.
func queries(ctx context.Context, b bed) (measurement, error) {
	o, err := b.run(ctx, load.Spec{Kind: load.Query, Names: b.names})
	if err != nil {
		return measurement{}, err
	}
	m := measurement{seconds: o.Client.Seconds, cpu: o.CPU, generator: GeneratorWeft, metrics: []report.Metric{
		{Name: "rate", Unit: "queries/s", Value: float64(o.Client.Count) / o.Client.Seconds, Better: report.Higher},
		{Name: "loss", Unit: "%", Value: o.Client.Loss() * 100, Better: report.Lower},
	}}
	m.times(o.Client.Latency)
	m.cost("µs/query", 1e6, float64(o.Client.Count))
	return m, nil
}

// times adds how long transactions took.
func (m *measurement) times(latency *histogram.Histogram) {
	m.latency = latency
	for _, p := range []struct {
		name  string
		share float64
	}{{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}} {
		value := float64(latency.Quantile(p.share)) / float64(time.Microsecond)
		m.metrics = append(m.metrics, report.Metric{Name: p.name, Unit: "µs", Value: value, Better: report.Lower})
	}
}

// cost adds what the machine's processors spent on each of n things: in all, and by whom; and the shares of the machine that other
// machines and other programs took.
func (m *measurement) cost(unit string, scale, n float64) {
	if n > 0 {
		for _, part := range []struct {
			name    string
			seconds float64
		}{{"cpu", m.cpu.Busy()}, {"cpu-user", m.cpu.User}, {"cpu-system", m.cpu.System}, {"cpu-softirq", m.cpu.Softirq}} {
			m.metrics = append(m.metrics, report.Metric{Name: part.name, Unit: unit, Value: part.seconds * scale / n, Better: report.Lower})
		}
	}
	m.metrics = append(m.metrics,
		report.Metric{Name: "steal", Unit: "%", Value: m.cpu.Stolen() * 100, Better: report.Lower},
		report.Metric{Name: "others", Unit: "%", Value: m.cpu.Foreign() * 100, Better: report.Lower})
}
