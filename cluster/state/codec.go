package state

import (
	"encoding/json"
	"fmt"
)

// version is that of the encoding. A change that an older weft would misread takes another one.
const version = 1

type envelope struct {
	Version int    `json:"version"`
	State   *State `json:"state"`
}

// Encode returns the state as bytes, for snapshots, backups and a worker's disk: JSON with a version. Equal states have equal
// bytes. They hold secrets, as the state does.
func (s *State) Encode() []byte {
	b, err := json.Marshal(envelope{version, s})
	if err != nil {
		panic(fmt.Sprintf("state: %v", err)) // no state from Apply or Decode has what JSON cannot say
	}
	return b
}

// Decode is the inverse of Encode, for views too. It refuses what no Apply could have made, so that Apply can go on from a whole
// state; a view, which has no CAKey, is for reading.
func Decode(b []byte) (*State, error) {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, refuse(ErrInvalid, "these %d bytes are no state of a cluster: %v", len(b), err)
	}
	if head.Version != version {
		return nil, refuse(ErrInvalid, "a state of version %d; expected version %d; use the weft that wrote it", head.Version, version)
	}
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, refuse(ErrInvalid, "a state that cannot be read: %v", err)
	}
	if e.State == nil {
		return nil, refuse(ErrInvalid, "a state without content; expected the fields of a cluster")
	}
	if err := e.State.check(); err != nil {
		return nil, fmt.Errorf("a state that contradicts itself: %w", err)
	}
	return e.State, nil
}
