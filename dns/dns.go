// Package dns answers what the containers of a node ask at the gateways of their networks (RFC 1034, RFC 1035). What a name leads to
// depends on who asks: a container sees the names on the networks that it is attached to, and nothing else of the cluster.
//
//	(network that the question came by, source address) ──► container ──► its networks: that one first, then as attached
//
//	question ─┬─ under <domain> ────────── host, <name>, <name>.<network>; never forwarded
//	          ├─ localhost, *.localhost ── loopback (RFC 6761 §6.3)
//	          ├─ *.in-addr, *.ip6.arpa ─── addresses of the cluster's subnets; others forwarded
//	          ├─ _port._proto.<name> ───── SRV (RFC 2782) of the ports that <name> exposes
//	          ├─ <name>.<network> ──────── <name> on that network of the asker's, the longest network that fits
//	          ├─ <name> ────────────────── on the first of the asker's networks that has it
//	          ├─ *.<network>, dotless ──── NXDOMAIN: such names mean nothing outside
//	          └─ else ──────────────────── forwarded, unless all of the asker's networks are internal: REFUSED
//
// A <name> is a container's name, its hostname or an alias; a service's name (its VIPs, else its tasks); tasks.<service>; and, with a network
// behind it, gateway. Case does not matter. All containers that have a name on a network share it.
//
// Names may have dots. "a.b" is first <name>.<network>, as whoever names a network means it, and then a name with a dot: a container "a.b"
// that stands behind "a" of network "b" is still found as a.b.<network>. The first network that has a name decides, also
// where it has no address of the type asked for: an answer must not come from one network for A and from another for AAAA.
//
// A network may be called as a top-level domain is, such as dev or app. Then only those names under it that exist there are ours, for those
// who are on it; everything else is forwarded: go.dev stays reachable. Of other networks the whole of *.<network>
// is kept from the outside, also from containers that are not on them. Likewise a name with a dot that only networks which the asker is
// not on have is kept back unless it ends in a top-level domain: an alias must not take a public name from others.
//
// A name that exists without an address of the type asked for gets an empty answer (NODATA), never NXDOMAIN: musl gives up on the name for
// both families otherwise. So does a name whose containers are all hidden, as their nodes do not answer at the moment (moby#53142).
// Negative answers carry an SOA, so that nobody keeps them for longer than the TTL (RFC 2308).
package dns
