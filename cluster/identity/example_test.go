package identity_test

import (
	"fmt"
	"log"
	"time"

	"github.com/weftnet/weft/cluster/identity"
)

// A manager makes a token; a joining node reads from it which CA to trust.
func Example() {
	ca, err := identity.NewCA("demo", time.Now())
	if err != nil {
		log.Fatal(err)
	}
	token := identity.Token{Digest: identity.Digest(ca.Cert.Raw), Secret: identity.NewSecret()}
	read, err := identity.ParseToken(token.String())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token.String()[:8], read == token)

	_, err = identity.ParseToken(token.String()[:60])
	fmt.Println(err)
	// Output:
	// WFTKN-1- true
	// the join token's secret (fourth part) has 1 characters; expected 25; copy the whole of what weft token show prints
}
