package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/gossip"
	"github.com/weftnet/weft/internal/lab"
)

func TestListsAreTables(t *testing.T) {
	socket := newFakeAgent().serve(t)
	for _, c := range []struct{ args, want string }{
		{"network ls", `
NETWORK ID    NAME     DRIVER   SCOPE  EGRESS
b3b1c9d8e7f6  here     bridge   local  none
i3b1c9d8e7f6  ingress  overlay  swarm  internet
w3b1c9d8e7f6  web      overlay  swarm  internet
`},
		{"network ls --no-trunc --filter driver=bridge", `
NETWORK ID                 NAME  DRIVER  SCOPE  EGRESS
b3b1c9d8e7f6g5h4i3j2k1l0x  here  bridge  local  none
`},
		{"network ls -q -f name=w -f name=gres", "\ni3b1c9d8e7f6\nw3b1c9d8e7f6\n"},
		{"network ls -q -f label=team", "\nb3b1c9d8e7f6\nw3b1c9d8e7f6\n"},
		{"network ls -q -f label=team=a -f label=tmp", "\nw3b1c9d8e7f6\n"},
		{"network ls -q -f label=team=a -f label=team=b", "\n"},
		{"network ls -q -f scope=swarm -f id=i3", "\ni3b1c9d8e7f6\n"},
		{"network ls -q -f dangling=true", "\nb3b1c9d8e7f6\ni3b1c9d8e7f6\nw3b1c9d8e7f6\n"},
		{"network ls -q -f dangling=false", "\n"},
		{"network ls --format {{.Name}}\\t{{upper_.Scope}}", "\nhere\tLOCAL\ningress\tSWARM\nweb\tSWARM\n"},
		{"node ls", `
ID                           NAME   STATUS   AVAILABILITY  MANAGER STATUS  ADDRESS    VERSION
0a3b1c9d8e7f6g5h4i3j2k1l0 *  alpha  Ready    Active        Leader          192.0.2.1  v1
1b3b1c9d8e7f6g5h4i3j2k1l0    beta   Down     Drain         Unreachable     -          v1
2c3b1c9d8e7f6g5h4i3j2k1l0    gamma  Suspect  Active        -               192.0.2.3  -
`},
		{"node ls -q", "\n" + idA + "\n" + idB + "\n2c3b1c9d8e7f6g5h4i3j2k1l0\n"},
		{"node ls --format {{.Name}}={{.Role}}", "\nalpha=manager\nbeta=manager\ngamma=worker\n"},
		{"endpoint ls", `
NAME  NETWORK  ADDRESSES               MAC                NODE   INTERFACE  STATE
c1    here     10.0.2.2/24             02:42:0a:00:02:02  alpha  eth1       gone: its namespace ended
c1    web      10.0.1.2/24,fd00::2/64  02:42:0a:00:01:02  alpha  eth0       up
c2    web      10.0.1.3/24             02:42:0a:00:01:03  gamma  -          hidden
`},
		{"endpoint ls --network web --local", `
NAME  NETWORK  ADDRESSES               MAC                NODE   INTERFACE  STATE
c1    web      10.0.1.2/24,fd00::2/64  02:42:0a:00:01:02  alpha  eth0       up
`},
		{"endpoint ls -q", "\ne3\ne1\ne2\n"},
		{"endpoint ls --format {{.Name}}:{{join_.Addresses_\"+\"}}", "\nc1:10.0.2.2/24\nc1:10.0.1.2/24+fd00::2/64\nc2:10.0.1.3/24\n"},
		{"ipam usage", `
NETWORK  SUBNET       RANGE          SIZE  LEASED  USED  FREE  RESERVED
web      10.0.1.0/24  10.0.1.128/25  127   32      3     95    1
here     10.0.2.0/24  -              253   0       0     253   3
`},
		{"ipam audit", "\nAll addresses are accounted for.\n"},
		{"network prune", "\nold\nolder\n"},
		{"dns query db --from c1", `
NAME  TTL  TYPE  DATA
db.   1    A     10.0.1.3
`},
		{"dns query db --from c1 --format {{range_.Answers}}{{.Data}}{{end}}", "\n10.0.1.3\n"},
		{"dns query 10.0.1.3 --from c1 --format {{.Name}}_{{.Type}}", "\n3.1.0.10.in-addr.arpa. PTR\n"},
		{"dns explain db --from c1", `
c1 asks on node alpha for A of db: NOERROR
Rule: name. db is an alias on network web
Answered of network web, to be kept for 1 s.

Searched, in this order
NETWORK  ADDRESSES
web      10.0.1.2
here     10.0.2.2

Records
CONTAINER  AS     NETWORK  NODE   ADDRESSES  SINCE                 ANSWERED
c2         alias  web      gamma  10.0.1.3   2026-01-31T12:00:00Z  yes
c3         alias  web      beta   10.0.1.4   2026-01-31T12:00:00Z  no: its node does not answer

Answer
NAME  TTL  TYPE  DATA
db.   1    A     10.0.1.3
`},
		{"dns ls", `
NETWORK  CONTAINER  NAMES        ADDRESSES  PORTS                 NODE   SINCE                 STATE
web      c1         c1           10.0.1.2   http=8080/tcp,53/udp  alpha  2026-01-31T12:00:00Z  up
web      c2         c2,db,store  10.0.1.3   -                     gamma  2026-01-31T12:00:00Z  hidden
`},
		{"dns ls --network web --format {{.Container}}", "\nc1\nc2\n"},
		{"egress ls", `
NETWORK  CONTAINER  PROTOCOL  STATE        SOURCE          TARGET            OUTER            IDLE  SENT     RECEIVED
here     c9         icmp      replied      10.0.2.9:7      192.0.2.9:0       -                0s    0 B      0 B
web      c1         tcp       established  10.0.1.2:40000  198.51.100.7:443  192.0.2.1:50000  12ms  1.23 KB  5.68 MB
web      c1         udp       unreplied    10.0.1.2:5353   192.0.2.53:53     -                2s    40 B     0 B
`},
		{"egress ls --container c1 --format {{.Protocol}}", "\ntcp\nudp\n"},
		{"egress ls --network web --container c1 --format {{.Target}}", "\n198.51.100.7:443\n192.0.2.53:53\n"},
	} {
		args := strings.Fields(c.args)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "_", " ")
		}
		o := call(t, append(args, "--socket", socket)...)
		if o.status != 0 || o.stdout != c.want[1:] {
			t.Errorf("weft %s: status %d %s\n%s\nexpected\n%s", c.args, o.status, o.stderr, o.stdout, c.want[1:])
		}
	}
}

func TestEveryListIsJSONToo(t *testing.T) {
	f := newFakeAgent()
	socket := f.serve(t)
	for args, into := range map[string]any{
		"network ls": &[]api.NetworkDetail{}, "network ls -q": &[]api.NetworkDetail{}, "node ls": &[]api.Member{}, "endpoint ls": &[]api.Endpoint{},
		"ipam usage": &[]api.Usage{}, "ipam audit": &[]api.Audit{}, "cluster info": &api.Cluster{}, "network prune": &[]string{},
		"token show": &api.JoinTokens{}, "token rotate worker": &api.JoinTokens{}, "network create web": &api.NetworkDetail{},
		"attach --network web --pid 7": &[]api.Endpoint{}, "init": &api.JoinTokens{}, "join --token T h": &api.Member{}, "status": &struct{ Cluster *api.Cluster }{},
		"dns query db --from c1": &api.LookupAnswer{}, "dns explain db --from c1": &api.LookupAnswer{}, "dns ls": &[]api.NameRecord{}, "egress ls": &[]api.OutsideFlow{},
	} {
		o := call(t, append(strings.Fields(args), "--json", "--socket", socket)...)
		if err := json.Unmarshal([]byte(o.stdout), into); o.status != 0 || err != nil || strings.TrimSpace(o.stdout) == "null" {
			t.Errorf("weft %s --json: status %d, %q, %v %s", args, o.status, o.stdout, err, o.stderr)
		}
	}
	var ids []api.NetworkDetail
	if err := json.Unmarshal([]byte(call(t, "network", "ls", "--json", "--socket", socket).stdout), &ids); err != nil || len(ids) != 3 || len(ids[0].ID) != 25 {
		t.Errorf("JSON has %+v (%v), expected whole IDs", ids, err)
	}
}

func TestInspectPrintsAnArrayOrATemplate(t *testing.T) {
	f := newFakeAgent()
	socket := f.serve(t)
	for _, c := range []struct {
		args   []string
		status int
		stdout string
		stderr string
	}{
		{[]string{"network", "inspect", "web", "--format", "{{.VNI}} {{json .Subnets}}"}, 0, `4097 [{"prefix":"10.0.1.0/24","gateway":"10.0.1.1"}]` + "\n", ""},
		{[]string{"network", "inspect", "web", "here", "--format", "{{.Name}}"}, 0, "web\nhere\n", ""},
		{[]string{"network", "inspect", "web", "none", "--format", "{{.Name}}"}, 1, "web\n", "weft: no network \"none\"\n"},
		{[]string{"network", "inspect", "none", "nil"}, 1, "[]\n", "weft: no network \"none\"\nweft: no network \"nil\"\n"},
		{[]string{"network", "inspect", "web", "--format", "{{.IPAM}}"}, 2, "", "the fields are .ID .Name .Created"},
		{[]string{"network", "inspect", "web", "--format", "{{.Name"}, 2, "", "--format: template"},
		{[]string{"network", "ls", "--format", `table {{.Name}}\t{{json .VNI}}\t{{.ID}}`}, 0, "NAME     VNI   ID\nhere     4098  b3b1c9d8e7f6\ningress  4096  i3b1c9d8e7f6\nweb      4097  w3b1c9d8e7f6\n", ""},
		{[]string{"node", "ls", "--format", `table {{.MTU}} {{end}}`}, 2, "", "--format: template"},
		{[]string{"endpoint", "ls", "--network", "here", "--format", `table {{join .Addresses ","}}\t{{.NetworkID}}x`}, 0, "ADDRESSES    NETWORK IDx\n10.0.2.2/24  x\n", ""},
		{[]string{"network", "inspect", "web", "--format", "table"}, 2, "", "expected a template after it"},
		{[]string{"network", "inspect", "web", "--format", "{{join .Name \",\"}}"}, 2, "", "join of a string; expected a list"},
		{[]string{"node", "inspect", "self", "--format", "{{.Name}} {{.VTEP}}"}, 0, "alpha 192.0.2.1:4789\n", ""},
		{[]string{"node", "inspect", "delta"}, 1, "[]\n", `no node "delta"`},
		{[]string{"endpoint", "inspect", "c1", "--format", "{{.ID}}"}, 0, "e1\ne3\n", ""},
		{[]string{"endpoint", "inspect", "e2", "--format", "{{.Name}}"}, 0, "c2\n", ""},
	} {
		o := call(t, append(c.args, "--socket", socket)...)
		if o.status != c.status || o.stdout != c.stdout || !strings.Contains(o.stderr, c.stderr) {
			t.Errorf("weft %q: %+v, expected %d %q %q", c.args, o, c.status, c.stdout, c.stderr)
		}
	}
	o := call(t, "network", "inspect", "web", "ingress", "--socket", socket)
	var got []api.NetworkDetail
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || !reflect.DeepEqual(got, []api.NetworkDetail{f.networks[0], f.networks[2]}) {
		t.Errorf("inspect gave %s (%v), expected the two networks", o.stdout, err)
	}
}

func TestCommandsAskForWhatTheirFlagsSay(t *testing.T) {
	f := newFakeAgent()
	socket := f.serve(t)
	for _, c := range []struct{ args, asked, stdout string }{
		{"init", `init {}`, "    weft join --token WFTKN-1-d-w 192.0.2.1:7373\n"},
		{"init --name a --default-addr-pool 10.8.0.0/16 --default-addr-pool-mask-length 26", `init {"name":"a","pools":["10.8.0.0/16"],"pool_size":26}`, "    weft join --token WFTKN-1-d-m 192.0.2.1:7373\n"},
		{"join --token T 192.0.2.1", `join {"token":"T","remote":"192.0.2.1:7373"}`, "joined the cluster as a worker. Its name is gamma."},
		{"join --token T --name b m.example:99", `join {"token":"T","remote":"m.example:99","name":"b"}`, ""},
		{"join --token T 2001:db8::1", `join {"token":"T","remote":"[2001:db8::1]:7373"}`, ""},
		{"join --token T [2001:db8::1]:99", `join {"token":"T","remote":"[2001:db8::1]:99"}`, ""},
		{"leave", `leave {"force":false}`, "has left"},
		{"leave --force", `leave {"force":true}`, ""},
		{"token show", "tokens", "WFTKN-1-d-m"},
		{"token show worker -q", "tokens", "WFTKN-1-d-w\n"},
		{"token rotate manager -q", "rotate manager", "WFTKN-1-d-m\n"},
		{"node promote beta", `change beta {"role":"manager"}`, "beta\n"},
		{"node demote beta", `change beta {"role":"worker"}`, "beta\n"},
		{"node drain beta", `change beta {"availability":"drain"}`, "beta\n"},
		{"node activate beta", `change beta {"availability":"active"}`, "beta\n"},
		{"node rm beta", `rm node beta false`, "beta\n"},
		{"node rm -f beta", `rm node beta true`, "beta\n"},
		{"network create web", `create {"name":"web","driver":"overlay"}`, "w3b1c9d8e7f6g5h4i3j2k1l0x\n"},
		{"network create -d bridge --ipv6 --internal --attachable --label a=b --label c web", `create {"name":"web","driver":"bridge","ipv6":true,"internal":true,"attachable":true,"labels":{"a":"b","c":""}}`, ""},
		{"network create -o mtu=1400 -o vni=5000 -o spoof=allow web", `create {"name":"web","driver":"overlay","mtu":1400,"vni":5000,"spoof":true}`, ""},
		{"network create -o com.docker.network.driver.mtu=1400 -o encrypted web", `create {"name":"web","driver":"overlay","mtu":1400,"encrypted":true}`, ""},
		{"network create -o egress=full web", `create {"name":"web","driver":"overlay","egress":"full"}`, ""},
		{"network create -o egress=none --internal web", `create {"name":"web","driver":"overlay","internal":true,"egress":"none"}`, ""},
		{"network create -o secure=false web", `create {"name":"web","driver":"overlay"}`, ""},
		{"network create --subnet 10.9.0.0/16 --subnet fd09::/64 --ip-range 10.9.5.0/24 --gateway fd09::1 --gateway 10.9.5.1 --aux-address p=10.9.5.9 web",
			`create {"name":"web","driver":"overlay","subnets":[{"prefix":"10.9.0.0/16","range":"10.9.5.0/24","gateway":"10.9.5.1","aux":{"p":"10.9.5.9"}},{"prefix":"fd09::/64","gateway":"fd09::1"}]}`, ""},
		{"network rm web", "rm network web", "web\n"},
		{"network prune -f", "prune", "old\nolder\n"},
		{"attach --network web --pid 7", `attach {"name":"pid-7","networks":[{"network":"web"}],"pid":7}`, "eth0"},
		{"attach --network web --ip 10.0.1.9 --alias db --alias x --ifname lan0 --netns /run/netns/c1", `attach {"name":"c1","networks":[{"network":"web","addresses":["10.0.1.9"],"aliases":["db","x"],"interface":"lan0"}],"netns":"/run/netns/c1"}`, ""},
		{"attach --network web:ip=10.0.1.9 --network here:mac=02:42:0a:00:01:09 --bridge br0 --name b --service s --hostname h", `attach {"name":"b","hostname":"h","service":"s","networks":[{"network":"web","addresses":["10.0.1.9"]},{"network":"here","mac":"02:42:0a:00:01:09"}],"bridge":"br0"}`, ""},
		{"attach --network web --pid 7 --expose http=8080 --expose 53/udp --expose 7-8", `attach {"name":"pid-7","networks":[{"network":"web"}],"ports":[{"name":"http","number":8080,"protocol":"tcp"},{"number":53,"protocol":"udp"},{"number":7,"protocol":"tcp"},{"number":8,"protocol":"tcp"}],"pid":7}`, ""},
		{"detach c1", "detach c1 ", "c1\n"},
		{"detach c1 --network web", "detach c1 web", "c1\n"},
		{"cluster rotate-keys", "rotate-keys", "has begun"},
		{"cluster backup -", "backup", "state\n"},
	} {
		o := call(t, append(strings.Fields(c.args), "--socket", socket)...)
		if asked := f.told(); o.status != 0 || !reflect.DeepEqual(asked, []string{c.asked}) || !strings.Contains(o.stdout, c.stdout) {
			t.Errorf("weft %s: %+v, and asked %q;\nexpected %q and %q", c.args, o, asked, c.asked, c.stdout)
		}
	}
}

func TestATokenIsReadFromAFile(t *testing.T) {
	f := newFakeAgent()
	socket := f.serve(t)
	dir := t.TempDir()
	for name, content := range map[string]string{"good": "  T\n", "empty": "\n", "several": "weft join --token T"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for file, part := range map[string]string{
		"good": "", "empty": "empty has 0 words; expected a token alone", "several": "has 4 words; expected a token alone", "none": "read the token: open",
	} {
		o := call(t, "join", "--token-file", filepath.Join(dir, file), "192.0.2.1", "--socket", socket)
		asked := strings.Join(f.told(), "\n")
		if good := part == ""; (o.status == 0) != good || !strings.Contains(o.stderr, part) || (asked == `join {"token":"T","remote":"192.0.2.1:7373"}`) != good {
			t.Errorf("a token from file %s: %+v, and asked %q; expected %q", file, o, asked, part)
		}
	}
}

func TestSeveralNamesAreEachTried(t *testing.T) {
	f := newFakeAgent()
	socket := f.serve(t)
	o := call(t, "node", "drain", "alpha", "delta", "gamma", "epsilon", "--socket", socket)
	if o.status != 1 || o.stdout != "alpha\ngamma\n" || o.stderr != "weft: no node \"delta\"\nweft: no node \"epsilon\"\n" {
		t.Errorf("got %+v", o)
	}
}

func TestNotesAndWarningsGoToStandardError(t *testing.T) {
	socket := newFakeAgent().serve(t)
	for args, part := range map[string]string{
		"network create -o encrypted web": "note: there is no encryption yet, so attaching to this network will be refused\n",
		"network create -o secure web":    "note: secure is taken as encrypted",
		"attach --network web --pid 7":    "warning: c1 on web: no other node answered within 3s\n",
	} {
		if o := call(t, append(strings.Fields(args), "--socket", socket)...); o.status != 0 || !strings.Contains(o.stderr, part) {
			t.Errorf("weft %s: %+v, expected %q", args, o, part)
		}
	}
}

func TestFaultyFlagsAreRefusedBeforeTheAgentIsAsked(t *testing.T) {
	f := newFakeAgent()
	socket := f.serve(t)
	for args, part := range map[string]string{
		"init --default-addr-pool 10.0.0.0":         `--default-addr-pool "10.0.0.0"; expected a subnet`,
		"init extra":                                "extra",
		"join --token T":                            "no argument; expected weft join (--token TOKEN",
		"join 192.0.2.1":                            "--token and --token-file are missing; expected one of them: weft token show",
		"join --token T --token-file f h":           "--token beside --token-file",
		"join --token T host:99999":                 `manager "host:99999"; expected HOST`,
		"join --token T host:0":                     "expected HOST",
		"join --token T host:":                      `manager "host:"; expected HOST`,
		"join --token T :7373":                      "expected HOST",
		"join --token T http://host":                "expected HOST",
		"token show boss":                           `argument "boss"; expected weft token show [worker|manager]`,
		"token rotate":                              "no argument; expected weft token rotate worker|manager",
		"node rm":                                   "no argument; expected weft node rm NODE...",
		"network create":                            "no argument; expected weft network create NAME",
		"network create a b":                        `arguments ["a" "b"]; expected weft network create NAME`,
		"network create -d macvlan web":             `--driver "macvlan"; expected overlay or bridge`,
		"network create --subnet 10.9.0.1/16 web":   "--subnet 10.9.0.1/16; expected 10.9.0.0/16",
		"network create --subnet 10.9 web":          `--subnet "10.9"; expected a subnet`,
		"network create --gateway 10.9.0.1 web":     "--gateway 10.9.0.1 is in no --subnet",
		"network create --ip-range 10.9.0.0/24 web": "--ip-range 10.9.0.0/24 is in no --subnet",
		"network create --subnet 10.9.0.0/24 --ip-range 10.9.0.0/16 web":                "is in no --subnet",
		"network create --subnet 10.9.0.0/24 --gateway x web":                           `--gateway "x"; expected an address`,
		"network create --subnet 10.9.0.0/24 --gateway 10.9.0.1 --gateway 10.9.0.2 web": "at most one for each subnet",
		"network create --subnet 10.9.0.0/24 --aux-address 10.9.0.3 web":                `--aux-address "10.9.0.3"; expected NAME=ADDRESS`,
		"network create --subnet 10.9.0.0/24 --aux-address =10.9.0.3 web":               "expected NAME=ADDRESS",
		"network create --label =x web":                                                 `--label "=x"; expected KEY=VALUE`,
		"network create -o mtu=big web":                                                 "--opt mtu=big; expected a number",
		"network create -o vni=16777216 web":                                            "from 1 to 16777215",
		"network create -o spoof web":                                                   "expected spoof=allow or spoof=deny",
		"network create -o encrypted=maybe web":                                         "expected encrypted, encrypted=true or encrypted=false",
		"network create -o parent=eth0 web":                                             `--opt "parent=eth0"; expected mtu=`,
		"network ls --filter colour=red":                                                `--filter "colour=red"; expected name=`,
		"network ls --filter name":                                                      "with a value",
		"network ls --filter dangling=perhaps":                                          "dangling=true|false",
		"network rm":                                                                    "no argument; expected weft network rm NETWORK...",
		"network create -o egress=all web":                                              "--opt egress=all; expected egress=internet, egress=full or egress=none",
		"network create --internal -o egress=full web":                                  "--internal beside --opt egress=full; expected one of them",
		"attach --network web --pid 7 --expose 0":                                       `--expose: port "0": a port is a number from 1 to 65535`,
		"dns query db":        "--from is missing; name the container that asks",
		"dns query --from c1": "no argument; expected weft dns query NAME --from CONTAINER",
		"dns explain db":      "--from is missing",
		"dns query db --from c1 --format {{.Nonsense}}": "the fields are",
		"dns ls extra":         `argument "extra"; expected weft dns ls`,
		"egress ls extra":      `argument "extra"; expected weft egress ls`,
		"attach --pid 7":       "--network is missing",
		"attach --network web": "0 of --pid, --netns and --bridge",
		"attach --network web --pid 7 --bridge br0":                 "2 of --pid",
		"attach --network web --pid -7":                             "--pid -7",
		"attach --network web --bridge a/b":                         `--bridge "a/b"`,
		"attach --network web:ip=x --pid 7":                         `--network "web:ip=x": ip "x"; expected an address`,
		"attach --network web --ip 0.0.0.0 --pid 7":                 `--ip "0.0.0.0"; expected an address`,
		"attach --network web:ip=10.0.0.1 --ip 10.0.0.2 --pid 7":    "at most one address of each family",
		"attach --network web --network here --ip 10.0.0.2 --pid 7": "are of one network, and there are 2",
		"cluster backup":  "no argument; expected weft cluster backup FILE",
		"cluster restore": "no argument; expected weft cluster restore FILE",
	} {
		o := call(t, append(strings.Fields(args), "--socket", socket)...)
		if asked := f.told(); o.status != 2 || !strings.Contains(o.stderr, part) || asked != nil {
			t.Errorf("weft %s: %+v, and asked %q; expected status 2, %q and nothing asked", args, o, asked, part)
		}
	}
}

func TestStatusShowsTheClusterOrItsAbsence(t *testing.T) {
	f := newFakeAgent()
	socket := f.serve(t)
	for _, c := range []struct {
		change func()
		want   []string
	}{
		{func() {}, []string{"cluster     c0ffee", "role        manager", "nodes       3", "managers    2", "quorum      yes, the leader is alpha"}},
		{func() { f.cluster.Quorum, f.cluster.Problem = false, "1 of 2 managers answers" }, []string{"quorum      no: nothing can be changed", "problem     1 of 2 managers answers"}},
		{func() { f.cluster.Role, f.cluster.Problem = "", "this node was removed" }, []string{"role        -", "problem     this node was removed"}},
		{func() { f.err = api.Refuse(409, "this node is no member") }, []string{"cluster     none"}},
	} {
		c.change()
		o := call(t, "status", "--socket", socket)
		for _, want := range c.want {
			if o.status != 0 || !containsRow(o.stdout, want) {
				t.Errorf("weft status does not show %q: %+v", want, o)
			}
		}
	}
	f.err, f.cluster.Role = nil, ""
	if o := call(t, "status", "--socket", socket); o.status != 0 || strings.Contains(o.stdout, "quorum") {
		t.Errorf("weft status of a removed node speaks of the quorum, which it does not know: %+v", o)
	}
	f.err = errors.New("the disk is on fire")
	if o := call(t, "status", "--socket", socket); o.status != 1 || !strings.Contains(o.stderr, "disk is on fire") {
		t.Errorf("got %+v, expected the error", o)
	}
}

// containsRow reports whether text has a line of these words, however far apart.
func containsRow(text, row string) bool {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.Join(strings.Fields(line), " "), strings.Join(strings.Fields(row), " ")) {
			return true
		}
	}
	return false
}

func TestAuditFailsIfAnythingIsFound(t *testing.T) {
	f := newFakeAgent()
	f.audit = []api.Audit{{Network: "web", Node: "beta", Finding: "down, and holds 3 addresses"}}
	o := call(t, "ipam", "audit", "--socket", f.serve(t))
	if o.status != 1 || !strings.Contains(o.stdout, "web      -        beta  down, and holds 3 addresses") || !strings.Contains(o.stderr, "1 findings") {
		t.Errorf("got %+v", o)
	}
}

func TestABackupIsWrittenWholeAndForItsOwnerAlone(t *testing.T) {
	f := newFakeAgent()
	socket := f.serve(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "b")
	if err := os.WriteFile(file, []byte("older and longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if o := call(t, "cluster", "backup", file, "--socket", socket); o.status != 0 {
		t.Fatalf("backup: %+v", o)
	}
	b, err := os.ReadFile(file)
	info, statErr := os.Stat(file)
	if err != nil || statErr != nil || string(b) != "state\n" || info.Mode().Perm() != 0o600 {
		t.Errorf("got %q with mode %v (%v, %v)", b, info.Mode(), err, statErr)
	}
	f.told()
	if o := call(t, "cluster", "restore", "--force", file, "--socket", socket); o.status != 0 || !reflect.DeepEqual(f.told(), []string{`restore {"backup":"c3RhdGUK","force":true}`}) {
		t.Errorf("restore: %+v", o)
	}
	f.err = api.Refuse(503, "no quorum")
	if o := call(t, "cluster", "backup", file, "--socket", socket); o.status != 1 || !strings.Contains(o.stderr, "no quorum") {
		t.Errorf("a backup without a quorum: %+v", o)
	}
	if o := call(t, "cluster", "backup", filepath.Join(dir, "none", "b"), "--socket", socket); o.status != 1 {
		t.Errorf("a backup into no directory: %+v", o)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "state\n" {
		t.Errorf("a failed backup left %q (%v)", b, err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if o := call(t, "cluster", "restore", file, "--socket", socket); o.status != 1 || !strings.Contains(o.stderr, "is empty") {
		t.Errorf("restore of nothing: %+v", o)
	}
	left := 0
	_ = filepath.WalkDir(dir, func(string, fs.DirEntry, error) error { left++; return nil })
	if left != 2 {
		t.Errorf("%d files in the directory, expected it and the backup", left)
	}
}

func TestNamesAreCompletedByTheAgent(t *testing.T) {
	f := newFakeAgent()
	socket := f.serve(t)
	for _, c := range []struct{ args, want string }{
		{"network inspect w", "web"},
		{"network inspect web ", "here ingress"},
		{"network rm i", "ingress"},
		{"node promote ", "alpha beta gamma"},
		{"node promote beta g", "gamma"},
		{"detach ", "c1"},
		{"endpoint inspect ", "c1 c2"},
		{"attach --network ", "here ingress web"},
		{"dns query --from ", "c1"},
		{"dns query ", "c1 c2"},
		{"dns explain db --type ", "A AAAA PTR SRV TXT MX CNAME NS SOA"},
		{"dns ls --network w", "web"},
		{"egress ls --container ", "c1"},
		{"egress ls --network h", "here"},
		{"endpoint ls --network h", "here"},
		{"fdb --network w", "web"},
		{"capture --port ", "c1"},
		{"agent --profile ", "lan wan"},
		{"token rotate ", "worker manager"},
	} {
		args := strings.Split(c.args, " ")
		last := args[len(args)-1]
		flags := []string{"--socket", socket}
		if args[0] == "agent" {
			flags = nil
		}
		args = append(append(append([]string{"__complete"}, args[:len(args)-1]...), flags...), last)
		if strings.HasPrefix(args[len(args)-len(flags)-2], "--") { // a flag's value follows it at once
			args = append([]string{"__complete"}, strings.Split(c.args, " ")...)
			args = append(args[:2], append(flags, args[2:]...)...)
		}
		o := call(t, args...)
		lines := strings.Split(strings.TrimSpace(o.stdout), "\n")
		if got := strings.Join(lines[:len(lines)-1], " "); got != c.want {
			t.Errorf("%q completes to %q, expected %q (%s)", c.args, got, c.want, o.stderr)
		}
	}
	if o := call(t, "__complete", "node", "rm", "--socket", "/nowhere", ""); o.status != 0 || o.stdout != ":4\n" {
		t.Errorf("without an agent: %+v, expected no completions and no files", o)
	}
}

func TestCompletionScriptsAreMadeForEachShell(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if o := call(t, "completion", shell); o.status != 0 || !strings.Contains(o.stdout, "weft") {
			t.Errorf("%s: status %d, %d bytes", shell, o.status, len(o.stdout))
		}
	}
	if o := call(t, "completion", "tcsh"); o.status != 2 {
		t.Errorf("tcsh: %+v", o)
	}
}

func TestCommandsOfPeopleHaveExamplesAndSayWhatTheyDo(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" { // cobra's own
			return
		}
		if c.HasParent() && !c.HasSubCommands() && (c.Long == "" || c.Example == "") && !strings.HasPrefix(c.CommandPath(), "weft bench") && c.Name() != "version" {
			t.Errorf("%s: long help %q, example %q; expected both", c.CommandPath(), c.Long, c.Example)
		}
		for line := range strings.Lines(c.Long) {
			if len([]rune(line)) > 128 {
				t.Errorf("%s: a line of %d characters: %s", c.CommandPath(), len(line), line)
			}
		}
		if strings.HasSuffix(c.CommandPath(), " ls") && c.Flags().Lookup("json") == nil {
			t.Errorf("%s has no --json", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
}

func TestTheEnvironmentNamesTheAgentAndItsData(t *testing.T) {
	for _, c := range []struct {
		env          map[string]string
		socket, data string
	}{
		{map[string]string{"WEFT_SOCKET": "/s", "XDG_RUNTIME_DIR": "/r", "WEFT_DATA_DIR": "/d"}, "/s", "/d"},
		{map[string]string{"XDG_RUNTIME_DIR": "/r"}, "/r/weft.sock", ""},
		{nil, "/run/weft.sock", ""},
	} {
		for _, key := range []string{"WEFT_SOCKET", "XDG_RUNTIME_DIR", "WEFT_DATA_DIR", "XDG_DATA_HOME"} {
			t.Setenv(key, c.env[key])
		}
		if os.Geteuid() == 0 && c.env["WEFT_SOCKET"] == "" {
			c.socket = "/run/weft.sock" // whatever session root has
		}
		if got := defaultSocket(); got != c.socket {
			t.Errorf("%v: socket %s, expected %s", c.env, got, c.socket)
		}
		if c.data == "" {
			c.data = "/var/lib/weft"
			if os.Geteuid() != 0 {
				c.data = filepath.Join(os.Getenv("HOME"), ".local/share/weft")
			}
		}
		if got := defaultDataDir(); got != c.data {
			t.Errorf("%v: data in %s, expected %s", c.env, got, c.data)
		}
	}
}

func TestWhatIsRefusedIsShownByReason(t *testing.T) {
	for want, info := range map[string]api.Cluster{
		"": {Refused: map[string]uint64{"denied": 0}},
		"\nRefused\nWHERE     REASON  TIMES\nnode API  denied  2\ngossip    stale   7\n": {
			Refused: map[string]uint64{"denied": 2, "full": 0}, Gossip: &gossip.Stats{Refused: map[string]uint64{"stale": 7}},
		},
	} {
		var out bytes.Buffer
		tab := &table{columned(&out)}
		showRefused(tab, info)
		lab.Must(t, tab.w.Flush())
		if out.String() != want {
			t.Errorf("%+v is shown as %q, expected %q", info, out.String(), want)
		}
	}
}

func TestWhoIsAskedAboutANameIsTheNodeOfTheContainer(t *testing.T) {
	f := newFakeAgent()
	socket := f.serve(t)
	for _, c := range []struct{ args, part string }{
		{"dns query db --from c2", "weft: container c2 is on node gamma; ask the agent there"},
		{"dns explain db --from c9", `weft: no container "c9" on this node, nor on others of its networks; see weft endpoint ls`},
		{"dns query db --from c1 --type NONSENSE", `type "NONSENSE"; expected A, AAAA`},
		{"dns query a..b --from c1", `name "a..b"; expected up to 253 characters`},
		{"dns ls --network none", `no network "none"; this node has web`},
		{"egress ls --container c2", "container c2 is on node gamma"},
		{"egress ls --network none", `no network "none"`},
	} {
		if o := call(t, append(strings.Fields(c.args), "--socket", socket)...); o.status != 1 || o.stdout != "" || !strings.Contains(o.stderr, c.part) {
			t.Errorf("weft %s: %+v, expected %q", c.args, o, c.part)
		}
	}
}

func TestAnErrorForAnAnswerIsTold(t *testing.T) {
	f := newFakeAgent()
	f.answer.Answers = nil
	socket := f.serve(t)
	if o := call(t, "dns", "query", "db", "--type", "aaaa", "--from", "c1", "--socket", socket); o.status != 0 || o.stdout != "There is such a name, but nothing of type AAAA (NODATA).\n" {
		t.Errorf("a name without the type: %+v", o)
	}
	f.answer.Rcode = "NXDOMAIN"
	if o := call(t, "dns", "query", "db", "--from", "c1", "--socket", socket); o.status != 1 || o.stderr != "weft: A of db: NXDOMAIN; weft dns explain db --from c1 says why\n" {
		t.Errorf("no such name: %+v", o)
	}
	if o := call(t, "dns", "query", "db", "--from", "c1", "--json", "--socket", socket); o.status != 1 || !strings.Contains(o.stdout, `"answers": []`) || strings.Contains(o.stdout, "explanation") {
		t.Errorf("as JSON: %+v", o)
	}
	f.answer.Explanation = &api.Explanation{Rule: "forwarded", Reason: "the name is not the cluster's",
		Forwarded: &api.Forwarded{Server: netip.MustParseAddrPort("192.0.2.53:53"), Took: 12345 * time.Microsecond}}
	for _, c := range []struct {
		server *api.Forwarded
		want   string
	}{
		{&api.Forwarded{Server: netip.MustParseAddrPort("192.0.2.53:53"), Took: 12345 * time.Microsecond}, "answered by 192.0.2.53:53, in 12.345ms\n"},
		{&api.Forwarded{Server: netip.MustParseAddrPort("192.0.2.53:53"), Cached: true}, "answered from the cache; once said by 192.0.2.53:53\n"},
		{&api.Forwarded{Took: 4 * time.Second, Error: "none answered within 4s"}, "no answer: none answered within 4s\n"},
		{&api.Forwarded{Server: netip.MustParseAddrPort("192.0.2.53:53"), Took: time.Millisecond, Error: "refused"}, "no answer by 192.0.2.53:53, in 1ms: refused\n"},
	} {
		f.answer.Explanation.Forwarded = c.server
		if o := call(t, "dns", "explain", "example.org", "--from", "c1", "--socket", socket); o.status != 0 || !strings.HasSuffix(o.stdout, "\nForwarded\n"+c.want) {
			t.Errorf("forwarded: %+v, expected %q", o, c.want)
		}
	}
}

func TestAttachTellsWhatToWrite(t *testing.T) {
	socket := newFakeAgent().serve(t)
	o := call(t, "attach", "--network", "web", "--pid", "7", "--socket", socket)
	for _, part := range []string{"\nFor /etc/resolv.conf of c1:\nnameserver 10.0.1.1\n", "options ndots:0\n", "\nFor /etc/hosts of c1:\n127.0.0.1 ", "10.0.1.2 ", "fd00::2 "} {
		if !strings.Contains(o.stdout, part) {
			t.Errorf("attach wrote %q, expected %q in it", o.stdout, part)
		}
	}
	var all []struct {
		Name       string
		ResolvConf string `json:"resolv_conf"`
		Hosts      string
	}
	o = call(t, "attach", "--network", "web", "--pid", "7", "--json", "--socket", socket)
	if err := json.Unmarshal([]byte(o.stdout), &all); err != nil || len(all) != 1 || all[0].Name != "c1" ||
		!strings.HasPrefix(all[0].ResolvConf, "nameserver 10.0.1.1\n") || !strings.HasSuffix(all[0].Hosts, "\n10.0.1.2\tc1\nfd00::2\tc1\n") {
		t.Errorf("as JSON: %+v, %v", all, err)
	}
}

func TestStatsShowNamesAndWhatLeavesTheNetworks(t *testing.T) {
	f := newFakeAgent()
	f.stats = api.Stats{
		Networks: []api.NetworkStats{
			{Network: "web", VNI: 4097, Outside: &api.OutsideStats{Connections: 2, Opened: 9, Limited: 3, Sent: 1234, Received: 5678901, Retransmits: 4,
				Forbidden: map[string]uint64{"metadata": 5}, Failed: map[string]uint64{"refused": 1, "timeout": 2}, Drops: map[string]uint64{"ttl": 6}}},
			{Network: "none", VNI: 4098},
		},
		Names: &api.NameStats{UDP: 10, TCP: 1, Rcodes: map[string]uint64{"NOERROR": 8, "NXDOMAIN": 3}, Cached: 7, Drops: map[string]uint64{"limit": 8},
			Servers: []api.NameServer{{Address: netip.MustParseAddrPort("192.0.2.53:53"), Asked: 3, Answers: 2, Failed: 1, Down: true}}},
	}
	o := call(t, "stats", "--socket", f.serve(t))
	for _, part := range []string{`
Names
ASKED BY UDP  BY TCP  ANSWERS               FROM THE CACHE  OUTSTANDING
10            1       NOERROR=8,NXDOMAIN=3  7               0

Name servers
SERVER         ASKED  ANSWERS  FAILED  STATE
192.0.2.53:53  3      2        1       down

Beyond the networks
NETWORK  CONNECTIONS  OPENED  FAILED               LIMITED  SENT     RECEIVED  RETRANSMITS
web      2            9       refused=1,timeout=2  3        1.23 KB  5.68 MB   4

Refused
WHERE           REASON    FRAMES
web, router     ttl       6
web, forbidden  metadata  5
names           limit     8
`} {
		if o.status != 0 || !strings.Contains(o.stdout, part) {
			t.Errorf("weft stats: %+v, expected %s", o, part)
		}
	}
	f.stats = api.Stats{}
	if o := call(t, "stats", "--socket", f.serve(t)); o.status != 0 || strings.Contains(o.stdout, "Names") || strings.Contains(o.stdout, "Beyond") {
		t.Errorf("of a node without networks: %+v", o)
	}
}
