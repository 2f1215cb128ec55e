package agent_test

import (
	"bytes"
	"net"
	"testing"
	"unsafe"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/internal/lab"
	"github.com/weftnet/weft/stack/drop"
)

// raw is a packet socket on a container's eth0: kernels without 802.1Q devices still pass tagged frames to it.
type raw struct {
	t  testing.TB
	fd int
}

func (c *container) raw(t testing.TB) (r raw) {
	t.Helper()
	r.t = t
	lab.Must(t, c.Do(func() (err error) {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8) // in network order
		if r.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(r.fd) })
		return unix.Bind(r.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: eth0.Index})
	}))
	lab.Must(t, unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1))
	timeout := unix.NsecToTimeval(patience.Nanoseconds())
	lab.Must(t, unix.SetsockoptTimeval(r.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout))
	return r
}

func (r raw) send(frame []byte) {
	r.t.Helper()
	_, err := unix.Write(r.fd, frame)
	lab.Must(r.t, err)
}

// receive returns the next tagged frame from another host, with its tag in place, that is wanted.
func (r raw) receive(wanted func(gopacket.Packet) bool) gopacket.Packet {
	r.t.Helper()
	buf, control := make([]byte, 1<<16), make([]byte, 100)
	for {
		n, c, _, from, err := unix.Recvmsg(r.fd, buf, control, 0)
		if err != nil {
			r.t.Fatalf("the expected frame did not come: %v", err)
		}
		tag, ok := tagOf(control[:c])
		if !ok || from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		frame := append(append(bytes.Clone(buf[:12]), tag[:]...), buf[12:n]...)
		if p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default); wanted(p) {
			return p
		}
	}
}

// tagOf returns the tag that the kernel took out of a frame.
func tagOf(control []byte) (tag [4]byte, ok bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return tag, false
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA {
			aux := (*unix.TpacketAuxdata)(unsafe.Pointer(&m.Data[0]))
			if aux.Status&unix.TP_STATUS_VLAN_VALID != 0 {
				return [4]byte{byte(aux.Vlan_tpid >> 8), byte(aux.Vlan_tpid), byte(aux.Vlan_tci >> 8), byte(aux.Vlan_tci)}, true
			}
		}
	}
	return tag, false
}

// tagged returns a UDP datagram from one container to another with a tag, whose IP packet has size bytes and must not be fragmented.
func tagged(t testing.TB, from, to *container, v6 bool, size int) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: hardware(from.mac), DstMAC: hardware(to.mac), EthernetType: layers.EthernetTypeDot1Q}
	tag := &layers.Dot1Q{VLANIdentifier: 5, Priority: 3, Type: layers.EthernetTypeIPv4}
	udp := &layers.UDP{SrcPort: 7, DstPort: 9}
	stack := []gopacket.SerializableLayer{eth, tag, nil, udp, nil}
	if v6 {
		tag.Type = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: from.v6.AsSlice(), DstIP: to.v6.AsSlice()}
		lab.Must(t, udp.SetNetworkLayerForChecksum(ip))
		stack[2], stack[4] = ip, gopacket.Payload(random(size-48))
	} else {
		ip := &layers.IPv4{Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolUDP, SrcIP: from.v4.AsSlice(), DstIP: to.v4.AsSlice()}
		lab.Must(t, udp.SetNetworkLayerForChecksum(ip))
		stack[2], stack[4] = ip, gopacket.Payload(random(size-28))
	}
	buf := gopacket.NewSerializeBuffer()
	lab.Must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...))
	return buf.Bytes()
}

func TestTaggedFramesPass(t *testing.T) {
	a, b := lay(t, wire{})
	c2, c3, c4 := newContainer(t, 2), newContainer(t, 3), newContainer(t, 4)
	n := start(t, a, a.config(c2, c4).with(b, c3))
	start(t, b, b.config(c3).with(a, c2, c4))
	client := c2.raw(t)
	largest := wire{}.overlayMTU() - 4 // the tag takes its room from the path to the other node
	for _, c := range []struct {
		name string
		to   *container
		size int
	}{
		{"small, to another node", c3, 100},
		{"as large as the path takes, to another node", c3, largest},
		{"as large as the network's MTU, to a neighbor", c4, wire{}.overlayMTU()},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := c.to.raw(t)
			for _, v6 := range []bool{false, true} {
				sent := tagged(t, c2, c.to, v6, c.size)
				client.send(sent)
				server.receive(func(p gopacket.Packet) bool { return bytes.Equal(p.Data(), sent) })
			}
		})
	}
	t.Run("too large with its tag", func(t *testing.T) {
		for _, v6 := range []bool{false, true} {
			before := n.drops(drop.TooBig)
			client.send(tagged(t, c2, c3, v6, largest+1))
			told := client.receive(func(p gopacket.Packet) bool {
				return p.Layer(layers.LayerTypeICMPv4) != nil || p.Layer(layers.LayerTypeICMPv6) != nil
			})
			mtu := 0
			if m, ok := told.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
				mtu = int(m.Seq)
			} else if m, ok := told.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
				mtu = int(m.Payload[2])<<8 | int(m.Payload[3])
			}
			if mtu != largest {
				t.Errorf("the sender was told to send up to %d bytes; expected %d: %v", mtu, largest, told)
			}
			n.counts(drop.TooBig, before)
		}
	})
	t.Run("from an address that is not its own", func(t *testing.T) {
		forged := newContainer(t, 9)
		forged.mac = c2.mac
		before := n.drops(drop.SpoofedAddress)
		client.send(tagged(t, forged, c4, false, 100))
		n.counts(drop.SpoofedAddress, before)
	})
}
