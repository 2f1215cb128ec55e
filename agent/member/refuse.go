package member

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/cluster"
	"github.com/weftnet/weft/cluster/state"
)

var errNoMember = &api.Refusal{Status: http.StatusConflict, Err: errors.New("this node is in no cluster; begin one with weft init, or join one with weft join")}

// refuse gives an error the status that the API answers it with.
func refuse(err error) error {
	if err == nil || errors.As(err, new(*api.Refusal)) {
		return err
	}
	for _, k := range []struct {
		kind   error
		status int
	}{
		{state.ErrInvalid, http.StatusBadRequest},
		{state.ErrNotFound, http.StatusNotFound},
		{state.ErrDenied, http.StatusForbidden},
		{state.ErrExists, http.StatusConflict},
		{state.ErrInUse, http.StatusConflict},
		{state.ErrExhausted, http.StatusConflict},
		{cluster.ErrMember, http.StatusConflict},
		{cluster.ErrNoQuorum, http.StatusServiceUnavailable},
	} {
		if errors.Is(err, k.kind) {
			return &api.Refusal{Status: k.status, Err: err}
		}
	}
	return err
}

// fault is a sentence for a person that is one of state's sentinels to a program.
type fault struct{ kind, err error }

func (f *fault) Error() string   { return f.err.Error() }
func (f *fault) Unwrap() []error { return []error{f.kind, f.err} }

// deny returns an error of that kind, whose text is as fmt.Errorf makes it.
func deny(kind error, format string, args ...any) error {
	return &fault{kind, fmt.Errorf(format, args...)}
}
