package member

import (
	"errors"
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
