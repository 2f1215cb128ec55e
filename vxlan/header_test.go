package vxlan

import (
	"encoding/hex"
	"testing"

	"github.com/weftnet/weft/stack/drop"
)

func TestHeaderIsRFC7348(t *testing.T) {
	var b [HeaderLen]byte
	PutHeader(b[:], 0x123456)
	if got, want := hex.EncodeToString(b[:]), "0800000012345600"; got != want {
		t.Errorf("header of VNI 0x123456 is %s, want %s", got, want)
	}
}

func TestParseHeader(t *testing.T) {
	tests := []struct {
		name, in string
		vni      VNI
		reason   drop.Reason
	}{
		{"the smallest VNI", "0800000000000000", 0, drop.None},
		{"the largest VNI", "08000000ffffff00", MaxVNI, drop.None},
		{"a frame follows", "0800000000100100aabb", 0x1001, drop.None},
		{"nothing", "", 0, drop.BadVXLAN},
		{"cut off", "08000000000010", 0, drop.BadVXLAN},
		{"without the I flag", "0000000000100100", 0, drop.BadVXLAN},
		{"with the group policy extension", "8800000000100100", 0, drop.BadVXLAN},
		{"with the generic protocol extension", "0c00000300100100", 0, drop.BadVXLAN},
		{"with reserved bits behind the flags", "0800010000100100", 0, drop.BadVXLAN},
		{"with reserved bits behind the VNI", "0800000000100101", 0, drop.BadVXLAN},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in, err := hex.DecodeString(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if vni, reason := ParseHeader(in); vni != tt.vni || reason != tt.reason {
				t.Errorf("ParseHeader(%s) = %d, %s; want %d, %s", tt.in, vni, reason, tt.vni, tt.reason)
			}
		})
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add([]byte{8, 0, 0, 0, 0, 0x10, 1, 0})
	f.Add([]byte{8, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, reason := ParseHeader(b)
		if reason != drop.None {
			return
		}
		var again [HeaderLen]byte
		PutHeader(again[:], v)
		if string(again[:]) != string(b[:HeaderLen]) {
			t.Errorf("%x was read as VNI %d, which is written as %x", b[:HeaderLen], v, again)
		}
	})
}
