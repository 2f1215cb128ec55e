package router

import (
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/weftnet/weft/stack/drop"
)

// catch is deferred around everything that runs in netstack on a goroutine of ours or of our callers.
func (r *Router) catch() {
	if cause := recover(); cause != nil {
		r.fail(cause)
	}
}

// catchFrame is catch for the data path.
func (r *Router) catchFrame(reason *drop.Reason) {
	if cause := recover(); cause != nil {
		r.fail(cause)
		*reason = drop.RouterFault
	}
}

// catchError is catch for what returns an error.
func (r *Router) catchError(err *error) {
	if cause := recover(); cause != nil {
		r.fail(cause)
		*err = errDead
	}
}

// fail makes the router dead. The first panic is told; those that follow are its consequences.
func (r *Router) fail(cause any) {
	stack := debug.Stack()
	for {
		was := r.state.Load()
		if was == dead {
			return
		}
		if !r.state.CompareAndSwap(was, dead) {
			continue
		}
		if was == up {
			close(r.done)
			r.cancel()
		}
		break
	}
	if r.c.Log != nil {
		r.c.Log.Error("router failed", "network", r.c.Network, "cause", fmt.Sprint(cause), slog.String("stack", string(stack)))
	}
	if r.c.Fault != nil {
		go r.c.Fault(r.c.Network, cause, stack)
	}
}

// ended returns why the router does nothing any more, nil while it is up.
func (r *Router) ended() error {
	switch r.state.Load() {
	case up:
		return nil
	case dead:
		return errDead
	}
	return net.ErrClosed
}

// guarded runs fn.
func (r *Router) guarded(fn func()) {
	defer r.catch()
	fn()
}

// clock is the time that netstack lives by. What its timers call is guarded, and labeled.
type clock struct {
	tcpip.Clock
	router *Router
}

func (c *clock) AfterFunc(d time.Duration, fn func()) tcpip.Timer {
	return c.Clock.AfterFunc(d, func() {
		pprof.SetGoroutineLabels(c.router.labels)
		defer c.router.catch()
		fn()
	})
}
