package run_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
)

// terminal is a pseudo-terminal.
type terminal struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	said   string // what has been written on it
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	lab.Must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	lab.Must(t, err)
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	lab.Must(t, err)
	p := &terminal{t: t, master: os.NewFile(uintptr(fd), "ptmx"), slave: slave}
	t.Cleanup(func() { p.master.Close(); p.slave.Close() })
	return p
}

func (p *terminal) write(s string) {
	p.t.Helper()
	_, err := p.master.WriteString(s)
	lab.Must(p.t, err)
}

// expect reads until something appears.
func (p *terminal) expect(what string) {
	p.t.Helper()
	lab.Must(p.t, p.master.SetReadDeadline(time.Now().Add(10*time.Second)))
	b := make([]byte, 4096)
	for !strings.Contains(p.said, what) {
		n, err := p.master.Read(b)
		p.said += string(b[:n])
		if err != nil {
			p.t.Fatalf("%q did not appear: %v; there is %q", what, err, p.said)
		}
	}
}
