package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/stack/capture"
)

func newCapture() *cobra.Command {
	var o captureOptions
	c := &cobra.Command{
		Use:   "capture",
		Short: "Capture frames from the switch's ports or the tunnel, as pcapng",
		Long: `Capture frames off the data path and write pcapng, until ^C, --count or --duration.

At --point port frames are seen as containers send and get them, each port an interface of the file; inbound is from the
container. At --point tunnel they are seen before encapsulation and after decapsulation, each peer an interface; with
--view outer the datagram around each frame is written too. Superframes are written whole, up to 64 KiB, with their checksum
filled in; --cut cuts them into the frames of a wire, as the outer view always does. Filters match in either direction, and
look at the inner frame.`,
		Example: `  weft capture --port c1 | tshark -r -
  weft capture --network net1 --host 10.77.0.2 --l4port 80 -w web.pcapng
  weft capture --point tunnel --view outer -w - | wireshark -k -i -`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			what, err := o.parse(c)
			if err != nil {
				return usageError{err}
			}
			return o.run(c, what)
		},
	}
	o.flags(c)
	return c
}

// captureOptions are the flags of weft capture.
type captureOptions struct {
	socket, write, point, view, host string
	port                             uint16
	what                             api.Capture
}

func (o *captureOptions) flags(c *cobra.Command) {
	f := c.Flags()
	socketFlag(c, &o.socket)
	f.StringVarP(&o.write, "write", "w", "-", "write to this `file`; - is standard output, unless that is a terminal")
	f.StringVar(&o.point, "point", "port", "where to capture: port or tunnel")
	f.StringVar(&o.view, "view", "inner", "at the tunnel: inner, the frames, or outer, the datagrams around them too")
	f.StringVar(&o.what.Network, "network", "", "only this `network`")
	f.StringVar(&o.what.Port, "port", "", "only this `port` of the switch; see weft port ls")
	f.StringVar(&o.host, "host", "", "only frames from or to this `address` or subnet")
	f.Uint16Var(&o.port, "l4port", 0, "only frames from or to this TCP, UDP or SCTP port `number`")
	f.BoolVar(&o.what.Cut, "cut", false, "cut superframes into wire frames")
	f.IntVarP(&o.what.Snaplen, "snaplen", "s", 0, "keep this many `bytes` of each frame; 0 keeps all")
	f.Uint64VarP(&o.what.Count, "count", "c", 0, "end after this many frames; 0 never does")
	f.DurationVar(&o.what.Duration, "duration", 0, "end after this `time`, such as 10s; 0 never does")
	complete(c, "point", words("port", "tunnel"))
	complete(c, "view", words("inner", "outer"))
	complete(c, "network", ask(&o.socket, networkNames))
	complete(c, "port", ask(&o.socket, portNames))
}

// parse makes the request of the flags, by the rules of the API.
func (o *captureOptions) parse(c *cobra.Command) (api.Capture, error) {
	q := o.what.Query()
	q.Set("point", o.point)
	q.Set("view", o.view)
	q.Set("host", o.host)
	q.Set("l4port", fmt.Sprint(o.port))
	what, err := api.ParseCapture(q)
	if err != nil {
		return what, fmt.Errorf("--%w", err)
	}
	if o.write == "-" && terminal(c.OutOrStdout()) {
		return what, fmt.Errorf("pcapng on a terminal would garble it; write to a file with -w FILE, or pipe into tshark -r -")
	}
	return what, nil
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func (o *captureOptions) run(c *cobra.Command, what api.Capture) (err error) {
	body, err := api.NewClient(o.socket).Capture(c.Context(), what)
	if err != nil {
		return err
	}
	defer body.Close()
	out := c.OutOrStdout()
	if o.write != "-" {
		f, err := os.Create(o.write)
		if err != nil {
			return err
		}
		defer func() {
			if closeErr := f.Close(); err == nil {
				err = closeErr
			}
		}()
		out = f
	}
	packets, lost, err := capture.Copy(out, body)
	if context.Cause(c.Context()) != nil {
		err = nil // ^C is how a capture ends
	}
	fmt.Fprintf(c.ErrOrStderr(), "%d frames captured, %d lost\n", packets, lost)
	return err
}
