package dns

import "time"

// Names are what a container is found by, and who says so.
type Names struct {
	Hostname string
	Service  string
	Aliases  []string
	Ports    []Port // that it exposes
	Node     string // the name of its node
	Since    time.Time
}

// Port is one that a container exposes.
type Port struct {
	Name     string `json:"name,omitempty"` // of what answers there, such as http
	Number   uint16 `json:"number"`
	Protocol string `json:"protocol"` // tcp, udp or sctp
}
