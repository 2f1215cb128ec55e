package egress

import "net/netip"

// Mode says how far the containers of a network get.
type Mode string

// The modes. The subnets of the cluster's networks and the agent's own sockets are reached in none of them.
const (
	Internet Mode = "internet" // all that the host reaches, and the host itself, but no link-local addresses
	Full     Mode = "full"     // link-local addresses too, such as a cloud's metadata service
	None     Mode = "none"     // nothing
)

// Socket is one of the agent's own, on any address of this host.
type Socket struct {
	Protocol uint8 // frame.ProtoTCP or frame.ProtoUDP
	Port     uint16
	// Everywhere closes the port on every other host as well: VXLAN's, for a node knows another by its address alone, and would take what a
	// container sends it from here for a frame of this node's.
	Everywhere bool
}

// Host knows which addresses are this host's own. Local is that of the kernel.
type Host interface {
	Has(a netip.Addr) bool // it is called on threads of the data path
}

// Policy says what the containers of a network reach. It must not be changed once it is in use: set another.
type Policy struct {
	Mode    Mode           // empty: Internet
	Foreign []netip.Prefix // subnets of all the cluster's networks
	Host    Host
	Closed  []Socket // the agent's own
}

// Verdict is what a policy says of a destination: Allowed, or why not.
type Verdict uint8

// The verdicts.
const (
	Allowed      Verdict = iota
	NoEgress             // the network has no way out
	Unspecified          // 0.0.0.0 and ::, by which a host means itself
	Loopback             // 127.0.0.0/8 and ::1
	Multicast            // 224.0.0.0/4 and ff00::/8
	Broadcast            // 255.255.255.255
	Reserved             // what nobody may have: 0.0.0.0/8, 240.0.0.0/4, IPv4 addresses in the form of IPv6
	OtherNetwork         // the subnet of a network of the cluster
	LinkLocal            // 169.254.0.0/16 and fe80::/10
	Metadata             // a cloud's services for its machines, at an address that is not link-local
	Agent                // one of the agent's own sockets, or the tunnel of another node

	verdicts int = iota
)

var words = [verdicts]string{
	"allowed", "no-egress", "unspecified", "loopback", "multicast", "broadcast", "reserved", "other-network", "link-local", "metadata", "agent",
}

// String returns the verdict's word, for counters and people.
func (v Verdict) String() string {
	if int(v) < len(words) {
		return words[v]
	}
	return "invalid"
}

// Where clouds answer their machines about themselves, and hand out their credentials, beside 169.254.0.0/16.
var metadata = []netip.Prefix{
	netip.MustParsePrefix("168.63.129.16/32"),       // Azure: the wire server, DHCP and DNS ("What is IP address 168.63.129.16?")
	netip.MustParsePrefix("100.100.100.200/32"),     // Alibaba Cloud: instance metadata of ECS
	netip.MustParsePrefix("192.0.0.192/32"),         // Oracle Cloud: instance metadata, before it moved to 169.254.169.254
	netip.MustParsePrefix("fd00:ec2::/32"),          // AWS: ::254 metadata, ::253 DNS, ::123 time ("IPv6 on AWS"), ::23 EKS Pod Identity
	netip.MustParsePrefix("fd20:ce::254/128"),       // Google Cloud: metadata server, for machines with IPv6 alone
	netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), // Oracle Cloud: instance metadata (cloud-init, Oracle)
	netip.MustParsePrefix("fd00:42::42/128"),        // Scaleway: instance metadata (cloud-init, Scaleway)
	netip.MustParsePrefix("fd00:a9fe:a9fe::1/128"),  // Akamai: metadata (cloud-init, Akamai)
	netip.MustParsePrefix("fd00:100::100:200/128"),  // Alibaba Cloud: instance metadata of ECS
}

var (
	thisNetwork4 = netip.MustParsePrefix("0.0.0.0/8")           // RFC 791 §3.2
	classE       = netip.MustParsePrefix("240.0.0.0/4")         // RFC 1112 §4
	limited      = netip.AddrFrom4([4]byte{255, 255, 255, 255}) // RFC 919 §7
	compatible   = netip.MustParsePrefix("::/96")               // IPv4-compatible, RFC 4291 §2.5.5.1
	translatable = netip.MustParsePrefix("::ffff:0:0:0/96")     // IPv4-translatable, RFC 2765 §2.1
	nat64        = netip.MustParsePrefix("64:ff9b::/96")        // RFC 6052 §2.1
	nat64Local   = netip.MustParsePrefix("64:ff9b:1::/48")      // RFC 8215
	sixToFour    = netip.MustParsePrefix("2002::/16")           // RFC 3056 §2
	teredo       = netip.MustParsePrefix("2001::/32")           // RFC 4380 §4
)

// Admit decides whether containers may send to dst by the protocol. Broadcasts of the host's own links are not told apart here: the kernel
// lets nobody send to them who has not asked to.
//
// An IPv6 address that leads to an IPv4 address, through a translator or a tunnel, is as forbidden as that.
func (p *Policy) Admit(proto uint8, dst netip.AddrPort) Verdict {
	if p.Mode == None {
		return NoEgress
	}
	a := dst.Addr().WithZone("")
	if a.Is4In6() { // no packet may have one (RFC 4291 §2.5.5.2), and to a socket it would be the IPv4 address
		if v := p.address(a.Unmap()); v != Allowed {
			return v
		}
		return Reserved
	}
	if v := p.address(a); v != Allowed {
		return v
	}
	if v := p.wrapped(a); v != Allowed {
		return v
	}
	if c, ok := p.closed(proto, dst.Port()); ok && (c.Everywhere || p.Host == nil || p.Host.Has(a)) {
		return Agent
	}
	return Allowed
}

// address judges an address by what it is itself.
func (p *Policy) address(a netip.Addr) Verdict {
	switch {
	case !a.IsValid() || a.IsUnspecified():
		return Unspecified
	case a.IsLoopback():
		return Loopback
	case a.IsMulticast():
		return Multicast
	case a == limited:
		return Broadcast
	case thisNetwork4.Contains(a), classE.Contains(a), compatible.Contains(a):
		return Reserved
	}
	for _, f := range p.Foreign {
		if f.Contains(a) {
			return OtherNetwork
		}
	}
	if p.Mode == Full {
		return Allowed
	}
	if a.IsLinkLocalUnicast() {
		return LinkLocal
	}
	for _, m := range metadata {
		if m.Contains(a) {
			return Metadata
		}
	}
	return Allowed
}

// wrapped judges an IPv6 address by the IPv4 addresses in it.
func (p *Policy) wrapped(a netip.Addr) Verdict {
	if !a.Is6() {
		return Allowed
	}
	b := a.As16()
	switch {
	case nat64.Contains(a), translatable.Contains(a):
		return p.address(netip.AddrFrom4([4]byte(b[12:])))
	case nat64Local.Contains(a):
		return p.local64(b)
	case sixToFour.Contains(a):
		return p.address(netip.AddrFrom4([4]byte(b[2:6])))
	case teredo.Contains(a): // the server, and the client behind it (RFC 4380 §4)
		if v := p.address(netip.AddrFrom4([4]byte(b[4:8]))); v != Allowed {
			return v
		}
		return p.address(netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}))
	}
	return Allowed
}

// local64 judges an address of a translator whose prefix may be 48, 56, 64 or 96 bits long, which nobody here knows (RFC 6052 §2.2). Read as one
// length, an address for another often seems unspecified or reserved; that leads nowhere, and is no reason.
func (p *Policy) local64(b [16]byte) Verdict {
	for _, four := range [...][4]byte{
		{b[6], b[7], b[9], b[10]}, {b[7], b[9], b[10], b[11]}, {b[9], b[10], b[11], b[12]}, {b[12], b[13], b[14], b[15]},
	} {
		switch v := p.address(netip.AddrFrom4(four)); v {
		case Loopback, OtherNetwork, LinkLocal, Metadata:
			return v
		}
	}
	return Allowed
}

// closed returns the agent's socket of that port, if it has one somewhere. There is none for echo requests, which have no port.
func (p *Policy) closed(proto uint8, port uint16) (Socket, bool) {
	for _, c := range p.Closed {
		if c.Protocol == proto && c.Port == port {
			return c, true
		}
	}
	return Socket{}, false
}
