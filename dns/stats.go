package dns

// Stats is what a Server has counted since it was made. Names with nothing to count are left out.
type Stats struct {
	UDP         uint64            `json:"udp"`         // questions that came
	TCP         uint64            `json:"tcp"`         //
	Conns       int               `json:"conns"`       // TCP connections now
	Outstanding int               `json:"outstanding"` // questions with the forwarder now
	Answers     map[string]uint64 `json:"answers"`     // by the Rule that decided
	Rcodes      map[string]uint64 `json:"rcodes"`
	Truncated   uint64            `json:"truncated"`
	Drops       map[string]uint64 `json:"drops"` // what got no answer, or not the one that it wanted, by reason
}
