package rpc_test

import (
	"fmt"
	"strings"

	"github.com/weftnet/weft/cluster/rpc"
)

func ExampleDecodeJoin() {
	_, err := rpc.DecodeJoin(strings.NewReader(`{"name": "a", "key": "AQID"}`))
	fmt.Println(err)
	// Output: rpc: a key of 3 bytes and a proof of 0; expected 32 and 64: invalid
}
