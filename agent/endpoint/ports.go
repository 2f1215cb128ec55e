package endpoint

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/weftnet/weft/dns"
)

// MaxPorts is how many ports a container may expose: its record goes to all nodes of its networks.
const MaxPorts = 64

// protocols are those that have ports, and SRV records.
var protocols = []string{"tcp", "udp", "sctp"}

// ParsePorts reads the ports that a container exposes, as Docker's --expose has them, with a name of what answers there before them:
//
//	[NAME=]PORT[-PORT][/tcp|/udp|/sctp]      80    8000-8010    53/udp    http=8080/tcp
//
// A port that is given twice, by the same name, counts once.
func ParsePorts(specs []string) ([]dns.Port, error) {
	var all []dns.Port
	for _, spec := range specs {
		first, last, err := parsePorts(spec)
		if err != nil {
			return nil, err
		}
		for n := int(first.Number); n <= last; n++ {
			p := first
			if p.Number = uint16(n); slices.Contains(all, p) {
				continue
			}
			if len(all) == MaxPorts {
				return nil, fmt.Errorf("%q makes more than %d ports; expected at most that many of a container", spec, MaxPorts)
			}
			all = append(all, p)
		}
	}
	return all, nil
}

// parsePorts reads one range: the first of it, and the last number.
func parsePorts(spec string) (first dns.Port, last int, err error) {
	wrong := func(what string) error {
		return fmt.Errorf("port %q: %s; expected [NAME=]PORT[-PORT][/tcp|/udp|/sctp], such as 80, 8000-8010/udp or http=8080", spec, what)
	}
	name, rest, named := strings.Cut(spec, "=")
	if !named {
		name, rest = "", spec
	} else if !portName(name) {
		return first, 0, wrong(fmt.Sprintf("%q is no service's name, which has up to 15 letters, digits and single - within, and a letter among them", name))
	}
	numbers, protocol, given := strings.Cut(rest, "/")
	if !given {
		protocol = "tcp"
	}
	protocol = strings.ToLower(protocol)
	if !slices.Contains(protocols, protocol) {
		return first, 0, wrong(fmt.Sprintf("unknown protocol %q", protocol))
	}
	from, to, ranged := strings.Cut(numbers, "-")
	if !ranged {
		to = from
	}
	a, errA := portNumber(from)
	b, errB := portNumber(to)
	switch {
	case errA != nil || errB != nil:
		return first, 0, wrong("a port is a number from 1 to 65535")
	case a > b:
		return first, 0, wrong("the range ends before it begins")
	}
	return dns.Port{Name: strings.ToLower(name), Number: a, Protocol: protocol}, int(b), nil
}

func portNumber(s string) (uint16, error) {
	if strings.HasPrefix(s, "+") {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err == nil && n == 0 {
		err = strconv.ErrRange
	}
	return uint16(n), err
}

// portName reports whether s can name a service (RFC 6335 §5.1).
func portName(s string) bool {
	letter := false
	for i, c := range []byte(s) {
		switch {
		case 'a' <= c|0x20 && c|0x20 <= 'z':
			letter = true
		case '0' <= c && c <= '9':
		case c == '-' && i > 0 && i < len(s)-1 && s[i-1] != '-':
		default:
			return false
		}
	}
	return letter && len(s) <= 15
}

// CheckPorts says what is wrong with ports that others say a container exposes.
func CheckPorts(ports []dns.Port) error {
	if len(ports) > MaxPorts {
		return fmt.Errorf("%d exposed ports; expected at most %d", len(ports), MaxPorts)
	}
	for i, p := range ports {
		switch {
		case p.Number == 0:
			return fmt.Errorf("exposed port %d has no number; expected 1 to 65535", i)
		case !slices.Contains(protocols, p.Protocol):
			return fmt.Errorf("exposed port %d has the protocol %.16q; expected tcp, udp or sctp", p.Number, p.Protocol)
		case p.Name != "" && !portName(p.Name):
			return fmt.Errorf("exposed port %d has the name %.32q; expected up to 15 letters, digits and single - within, a letter among them (RFC 6335)", p.Number, p.Name)
		}
	}
	return nil
}
