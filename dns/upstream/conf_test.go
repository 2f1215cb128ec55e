package upstream

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func at(s string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(s), port) }

func TestParse(t *testing.T) {
	servers := func(all ...string) (c Conf) {
		for _, s := range all {
			c.Servers = append(c.Servers, at(s))
		}
		return c
	}
	for name, test := range map[string]struct {
		text string
		want Conf
	}{
		"an empty file":                    {"", Conf{}},
		"systemd-resolved's stub":          {"# made by systemd-resolved\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n", Conf{Servers: servers("127.0.0.53").Servers, TrustAD: true}},
		"several servers in order":         {"nameserver 192.0.2.1\nnameserver 2001:db8::1\nnameserver 192.0.2.2\n", servers("192.0.2.1", "2001:db8::1", "192.0.2.2")},
		"the same server twice":            {"nameserver 192.0.2.1\nnameserver 192.0.2.1\nnameserver ::ffff:192.0.2.1\n", servers("192.0.2.1")},
		"a server with a scope":            {"nameserver fe80::1%eth0\n", servers("fe80::1%eth0")},
		"no newline at the end":            {"nameserver 192.0.2.1", servers("192.0.2.1")},
		"lines ended as on Windows":        {"nameserver 192.0.2.1\r\nnameserver 192.0.2.2\r\n", servers("192.0.2.1", "192.0.2.2")},
		"tabs and blanks":                  {" \tnameserver \t 192.0.2.1 \t\n", servers("192.0.2.1")},
		"a word behind the address":        {"nameserver 192.0.2.1 # ours\n", servers("192.0.2.1")},
		"comments":                         {"#nameserver 192.0.2.1\n;nameserver 192.0.2.2\n # nameserver 192.0.2.3\n", Conf{}},
		"what is no address":               {"nameserver\nnameserver 192.0.2\nnameserver example.com\nnameserver 192.0.2.1:53\nnameserver 256.1.1.1\nnameserver 224.0.0.251\nnameserver ff02::fb\n", Conf{}},
		"half a line":                      {"nameserver 192.0.2.1\nnameserv", servers("192.0.2.1")},
		"other lines":                      {"sortlist 192.0.2.0/24\nlookup file bind\nfamily inet4\nnameservers 192.0.2.1\nNAMESERVER 192.0.2.1\n", Conf{}},
		"more servers than are asked":      {strings.Repeat("nameserver 192.0.2.1\n", 20) + numbered(20), servers("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7", "192.0.2.8")},
		"a search list":                    {"search example.com corp.example.com.\n", Conf{Search: []string{"example.com", "corp.example.com"}}},
		"a domain":                         {"domain example.com ignored\n", Conf{Search: []string{"example.com"}}},
		"the last of domain and search":    {"search a.example b.example\ndomain c.example\n", Conf{Search: []string{"c.example"}}},
		"the last of search and search":    {"domain c.example\nsearch a.example\nsearch b.example\n", Conf{Search: []string{"b.example"}}},
		"a search list with a comment":     {"search a.example # b.example\n", Conf{Search: []string{"a.example"}}},
		"a search list of nonsense":        {"search a..b \\046 a\x01b \xff " + strings.Repeat("a", 64) + " " + strings.Repeat("a.", 130) + " ok\n", Conf{Search: []string{"ok"}}},
		"options":                          {"options ndots:2 timeout:3 attempts:4 rotate use-vc trust-ad edns0 single-request inet6\n", Conf{NDots: 2, Timeout: 3 * time.Second, Attempts: 4, Rotate: true, TCP: true, TrustAD: true}},
		"options on several lines":         {"options ndots:2\noptions timeout:3\n", Conf{NDots: 2, Timeout: 3 * time.Second}},
		"options beyond what glibc allows": {"options ndots:99 timeout:99 attempts:99\n", Conf{NDots: maxNDots, Timeout: maxTimeout * time.Second, Attempts: maxAttempts}},
		"options of nonsense":              {"options ndots: ndots:-1 ndots:x timeout:1s attempts:99999999999 timeout rotate:1\n", Conf{}},
		"bytes of nonsense":                {"\x00\xff\xfe\n\n\n\x00nameserver 192.0.2.1\nnameserver \x00\n", Conf{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Parse([]byte(test.text)); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, expected %+v", got, test.want)
			}
		})
	}
}

// numbered are servers 192.0.2.1 to 192.0.2.n.
func numbered(n int) string {
	var b strings.Builder
	for a := netip.MustParseAddr("192.0.2.1"); n > 0; a, n = a.Next(), n-1 {
		b.WriteString("nameserver " + a.String() + "\n")
	}
	return b.String()
}

func TestParseServer(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1":               "192.0.2.1:53",
		"192.0.2.1:5353":          "192.0.2.1:5353",
		"2001:db8::1":             "[2001:db8::1]:53",
		"[2001:db8::1]":           "[2001:db8::1]:53",
		"[2001:db8::1]:5353":      "[2001:db8::1]:5353",
		"fe80::1%eth0":            "[fe80::1%eth0]:53",
		"[fe80::1%eth0]:5353":     "[fe80::1%eth0]:5353",
		"::ffff:192.0.2.1":        "192.0.2.1:53",
		"[::ffff:192.0.2.1]:5353": "192.0.2.1:5353",
	} {
		if got, err := ParseServer(text); err != nil || got.String() != want {
			t.Errorf("%q gave %v, %v; expected %s", text, got, err, want)
		}
	}
	for text, says := range map[string]string{
		"":                "expected an address",
		"example.com":     "expected an address",
		"192.0.2.1:":      "expected an address",
		"192.0.2.1:0":     "port 0",
		"192.0.2.1:65536": "expected an address",
		"192.0.2.1 ":      "expected an address",
		"224.0.0.251":     "one host",
		"[ff02::fb]:5353": "one host",
		"0.0.0.0":         "one host",
		"[::]:53":         "one host",
	} {
		if got, err := ParseServer(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q gave %v, %v; expected an error that says %q", text, got, err, says)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "nameserver 192.0.2.1\nsearch example.com\noptions ndots:1 timeout:2 attempts:3 rotate\n", "nameserver fe80::1%eth0",
		"domain a\r\n#x\n;y\nsearch \\046 b.\n", "nameserver\x00 1\noptions timeout:99999999999999999999 :::\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c := Parse(text)
		if len(c.Servers) > maxServers || len(c.Search) > maxSearch || c.NDots < 0 || c.NDots > maxNDots || c.Attempts < 0 || c.Attempts > maxAttempts ||
			c.Timeout < 0 || c.Timeout > maxTimeout*time.Second {
			t.Fatalf("out of bounds: %+v", c)
		}
		again := "search " + strings.Join(c.Search, " ") + "\n"
		for _, s := range c.Servers {
			again += "nameserver " + s.Addr().String() + "\n"
		}
		if d := Parse([]byte(again)); !slices.Equal(c.Servers, d.Servers) || !slices.Equal(c.Search, d.Search) {
			t.Fatalf("%+v, written and read again, is %+v", c, d)
		}
	})
}

func FuzzParseServer(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "192.0.2.1:53", "[2001:db8::1]:53", "fe80::1%eth0", "[", "[]:1", "::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, err := ParseServer(s)
		if err != nil {
			return
		}
		if again, err := ParseServer(at.String()); err != nil || again != at {
			t.Fatalf("%q is %v, which is %v, %v", s, at, again, err)
		}
	})
}
