package doctor_test

import (
	"fmt"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/agent/doctor"
)

// What keeps this host from running an agent with the usual ports.
func Example() {
	checks := doctor.Host(doctor.Options{Dir: "/var/lib/weft", Ports: doctor.Ports{API: 7373, Gossip: 7946, VXLAN: 4789}})
	for _, c := range checks {
		if c.Level == api.CheckFail {
			fmt.Printf("%s: %s; %s\n", c.Name, c.Found, c.Remedy)
		}
	}
}
