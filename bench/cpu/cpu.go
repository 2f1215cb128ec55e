// Package cpu reads where the machine's processors spent their time, from the first line of /proc/stat (proc_stat(5)),
// in hundredths of a second since boot, all processors together:
//
//	cpu  user nice system idle iowait irq softirq steal guest guest_nice
package cpu

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// hertz is USER_HZ, the unit of /proc/stat. It is 100 on every architecture that Go runs Linux on.
const hertz = 100

// Times is processor time in seconds, all processors together.
type Times struct {
	User    float64 `json:"user"`    // programs, those with low priority included
	System  float64 `json:"system"`  // the kernel on behalf of programs
	Softirq float64 `json:"softirq"` // the kernel on behalf of devices: interrupts and what they defer
	Steal   float64 `json:"steal"`   // taken by the hypervisor for other machines
	Idle    float64 `json:"idle"`    // nothing to do, waiting for disks included
	Own     float64 `json:"own"`     // the part of User that this process and its children took
}

// Read returns the machine's times since boot.
func Read() (Times, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Times{}, fmt.Errorf("cpu: read processor times: %w", err)
	}
	t, err := parse(string(text))
	if err != nil {
		return t, err
	}
	t.Own, err = own()
	return t, err
}

func parse(text string) (Times, error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return Times{}, fmt.Errorf("cpu: /proc/stat begins with %q; expected \"cpu\" and at least 8 numbers", line)
	}
	var v [8]float64
	for i := range v {
		n, err := strconv.ParseUint(fields[i+1], 10, 64)
		if err != nil {
			return Times{}, fmt.Errorf("cpu: /proc/stat holds %q; expected a number of ticks", fields[i+1])
		}
		v[i] = float64(n) / hertz
	}
	return Times{
		User:    v[0] + v[1],
		System:  v[2],
		Idle:    v[3] + v[4],
		Softirq: v[5] + v[6],
		Steal:   v[7],
	}, nil
}

// Since returns the time spent between the readings earlier and t. A counter that ran backwards (idle time does at times)
// counts as no time.
func (t Times) Since(earlier Times) Times {
	return Times{
		User:    max(t.User-earlier.User, 0),
		System:  max(t.System-earlier.System, 0),
		Softirq: max(t.Softirq-earlier.Softirq, 0),
		Steal:   max(t.Steal-earlier.Steal, 0),
		Idle:    max(t.Idle-earlier.Idle, 0),
		Own:     max(t.Own-earlier.Own, 0),
	}
}

// Busy returns the time in which this machine's processors worked.
func (t Times) Busy() float64 { return t.User + t.System + t.Softirq }

// Stolen returns the share of all time that other machines took, from 0 to 1.
func (t Times) Stolen() float64 { return t.share(t.Steal) }

// Foreign returns the share of all time that programs other than this process and its children took, from 0 to 1. What
// the kernel did for them cannot be told from what it did for us, and is left out.
func (t Times) Foreign() float64 { return t.share(max(t.User-t.Own, 0)) }

func (t Times) share(part float64) float64 {
	total := t.Busy() + t.Idle + t.Steal
	if total == 0 {
		return 0
	}
	return part / total
}
