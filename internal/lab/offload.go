package lab

import (
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// offloads are the features that a NIC without any lacks, as `ethtool -k` names them, by prefix.
var offloads = []string{
	"tx-checksum-", "rx-checksum", "tx-tcp", "tx-udp", "tx-sctp-segmentation", "tx-gre", "tx-ipxip", "tx-gso-", "tx-esp",
	"tx-tunnel", "tx-generic-segmentation", "rx-gro", "rx-udp-gro",
}

// Offload switches all checksum, segmentation and coalescing offloads of an interface on or off. Off is what the stack sees
// of a NIC without tunnel offload: every packet is cut and summed before it reaches the interface. What the driver holds
// fixed stays as it is.
func (h *Host) Offload(name string, on bool) error {
	err := h.Do(func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		e := ethtool{socket: s, name: name}
		features, err := e.features()
		if err != nil {
			return err
		}
		return e.set(features, func(feature string) bool {
			for _, prefix := range offloads {
				if strings.HasPrefix(feature, prefix) {
					return true
				}
			}
			return false
		}, on)
	})
	if err != nil {
		return fmt.Errorf("lab: host %s: offloads of %s: %w", h.name, name, err)
	}
	return nil
}

// Features returns which features of an interface are on, by the names that `ethtool -k` gives them.
func (h *Host) Features(name string) (map[string]bool, error) {
	m := make(map[string]bool)
	err := h.Do(func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		e := ethtool{socket: s, name: name}
		names, err := e.features()
		if err != nil {
			return err
		}
		active, err := e.active(len(names))
		if err != nil {
			return err
		}
		for i, n := range names {
			m[n] = active[i/32]>>(i%32)&1 == 1
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("lab: host %s: features of %s: %w", h.name, name, err)
	}
	return m, nil
}

// ethtool speaks to an interface by SIOCETHTOOL (linux/ethtool.h). Requests are arrays of 32-bit words: the command, a
// count, and what the command defines.
type ethtool struct {
	socket int
	name   string
}

const (
	stringLen   = 32 // ETH_GSTRING_LEN
	setFeatures = 4  // ETH_SS_FEATURES
)

func (e ethtool) do(request []uint32) error {
	ifr, err := unix.NewIfreq(e.name)
	if err != nil {
		return err
	}
	// struct ifreq with its pointer member; unix.Ifreq keeps that to itself.
	var r struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		pad  [16]byte
	}
	copy(r.name[:], ifr.Name())
	r.data = unsafe.Pointer(unsafe.SliceData(request))
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(e.socket), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r)))
	if errno != 0 {
		return fmt.Errorf("ethtool command %#x: %w", request[0], errno)
	}
	return nil
}

// features returns the names of all features, in the order of their bits.
func (e ethtool) features() ([]string, error) {
	info := make([]uint32, 5) // command, reserved, mask (64 bits), count
	info[0] = unix.ETHTOOL_GSSET_INFO
	*(*uint64)(unsafe.Pointer(&info[2])) = 1 << setFeatures
	if err := e.do(info); err != nil {
		return nil, err
	}
	n := int(info[4])
	list := make([]uint32, 3+n*stringLen/4) // command, set, count, strings
	list[0], list[1], list[2] = unix.ETHTOOL_GSTRINGS, setFeatures, uint32(n)
	if err := e.do(list); err != nil {
		return nil, err
	}
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&list[3])), n*stringLen)
	names := make([]string, n)
	for i := range names {
		names[i] = unix.ByteSliceToString(raw[i*stringLen : (i+1)*stringLen])
	}
	return names, nil
}

// active returns the bits of the n features.
func (e ethtool) active(n int) ([]uint32, error) {
	words := (n + 31) / 32
	get := make([]uint32, 2+4*words) // command, words, then available, requested, active, fixed for each word
	get[0], get[1] = unix.ETHTOOL_GFEATURES, uint32(words)
	if err := e.do(get); err != nil {
		return nil, err
	}
	bits := make([]uint32, words)
	for i := range bits {
		bits[i] = get[2+4*i+2]
	}
	return bits, nil
}

// set asks for the chosen features to be on or off.
func (e ethtool) set(names []string, choose func(string) bool, on bool) error {
	words := (len(names) + 31) / 32
	set := make([]uint32, 2+2*words) // command, words, then valid and requested for each word
	set[0], set[1] = unix.ETHTOOL_SFEATURES, uint32(words)
	for i, n := range names {
		if !choose(n) {
			continue
		}
		set[2+2*(i/32)] |= 1 << (i % 32)
		if on {
			set[2+2*(i/32)+1] |= 1 << (i % 32)
		}
	}
	return e.do(set)
}
