package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weftnet/weft/bench/cpu"
	"github.com/weftnet/weft/bench/load"
	"github.com/weftnet/weft/internal/lab"
)

// iperf3Report is the part of `iperf3 --json` that the bench reads.
type iperf3Report struct {
	Error string `json:"error"`
	End   struct {
		Received iperf3Sum `json:"sum_received"` // TCP, and UDP since 3.13
		Sum      iperf3Sum `json:"sum"`          // UDP
	} `json:"end"`
}

type iperf3Sum struct {
	Seconds float64 `json:"seconds"`
	Bytes   float64 `json:"bytes"`
	Packets float64 `json:"packets"`
	Lost    float64 `json:"lost_packets"`
}

func (b bed) iperf3Bulk(ctx context.Context, s load.Spec) (measurement, error) {
	args := []string{"--parallel", strconv.Itoa(max(s.Streams, 1))}
	if s.Kind == load.Reverse {
		args = append(args, "--reverse")
	}
	r, used, err := b.runIperf3(ctx, args...)
	if err != nil {
		return measurement{}, err
	}
	sum := r.End.Received
	if sum.Seconds == 0 || sum.Bytes == 0 {
		return measurement{}, errors.New("bench: iperf3 reports that nothing was received")
	}
	return throughput(sum.Bytes, sum.Seconds, used, GeneratorIperf3), nil
}

func (b bed) iperf3Datagrams(ctx context.Context, size int) (measurement, error) {
	r, used, err := b.runIperf3(ctx, "--udp", "--bitrate", "0", "--length", strconv.Itoa(size))
	if err != nil {
		return measurement{}, err
	}
	sum := r.End.Sum
	if sum.Seconds == 0 || sum.Packets == 0 {
		return measurement{}, errors.New("bench: iperf3 reports that nothing was received")
	}
	return packets(sum.Packets-sum.Lost, sum.Lost/sum.Packets, sum.Seconds, used, GeneratorIperf3), nil
}

// runIperf3 runs a server and a client. The processor time is from the end of the warm-up to the client's end, which
// includes the exchange of results.
func (b bed) runIperf3(ctx context.Context, args ...string) (r iperf3Report, used cpu.Times, err error) {
	port := strconv.Itoa(load.Port)
	server := b.server.Host.Command("iperf3", "--server", "--one-off", "--forceflush", "--port", port)
	out, err := server.StdoutPipe()
	if err != nil {
		return r, used, err
	}
	server.SysProcAttr.Setpgid = true
	if err := server.Start(); err != nil {
		return r, used, err
	}
	defer server.Stop()
	for lines := bufio.NewScanner(out); ; {
		if !lines.Scan() {
			return r, used, errors.New("bench: the iperf3 server ended before it listened")
		}
		if strings.Contains(lines.Text(), "listening") {
			break
		}
	}

	seconds := func(d time.Duration) string { return strconv.Itoa(int(max(d.Round(time.Second)/time.Second, 1))) }
	client := b.client.Host.Command("iperf3", append([]string{
		"--client", b.server.Addr.String(), "--port", port, "--json",
		"--time", seconds(b.window.Duration), "--omit", seconds(b.window.Warmup)}, args...)...)
	if b.congestion != "" {
		client.Args = append(client.Args, "--congestion", b.congestion)
	}
	var text bytes.Buffer
	client.Stdout = &text
	client.SysProcAttr.Setpgid = true
	if used, err = watchIperf3(ctx, client, b.window); err != nil && text.Len() == 0 {
		return r, used, err
	}
	if err := json.Unmarshal(text.Bytes(), &r); err != nil {
		return r, used, fmt.Errorf("bench: read what iperf3 said: %w", err)
	}
	if r.Error != "" {
		return r, used, fmt.Errorf("bench: iperf3: %s", r.Error)
	}
	return r, used, nil
}

// watchIperf3 runs the client to its end, or stops it with ctx, and reads the processors' times.
func watchIperf3(ctx context.Context, client *lab.Cmd, w load.Window) (cpu.Times, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*(w.Warmup+w.Duration)+15*time.Second)
	defer cancel()
	if err := client.Start(); err != nil {
		return cpu.Times{}, err
	}
	defer client.Stop()
	ended := make(chan error, 1)
	go func() { ended <- client.Wait() }()
	// iperf3 takes whole seconds only.
	warm := time.NewTimer(max(w.Warmup.Round(time.Second), time.Second))
	defer warm.Stop()
	var before cpu.Times
	for {
		select {
		case <-warm.C:
			var err error
			if before, err = cpu.Read(); err != nil {
				return cpu.Times{}, err
			}
		case err := <-ended:
			if err != nil {
				return cpu.Times{}, fmt.Errorf("bench: iperf3: %w", err)
			}
			after, err := cpu.Read()
			return after.Since(before), err
		case <-ctx.Done():
			return cpu.Times{}, ctx.Err()
		}
	}
}
