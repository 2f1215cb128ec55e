package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
	"github.com/weftnet/weft/dns"
)

func newDNS() *cobra.Command {
	c := &cobra.Command{Use: "dns", Short: "Show what names lead to, as containers see it"}
	c.AddCommand(newDNSQuery(), newDNSExplain(), newDNSList())
	return c
}

// lookup are the flags of the commands that ask for a name.
type lookup struct {
	question
	format
	kind, from string
}

// kinds are the types that completion offers; others are taken too.
var kinds = []string{"A", "AAAA", "PTR", "SRV", "TXT", "MX", "CNAME", "NS", "SOA"}

func (l *lookup) flags(c *cobra.Command) {
	l.question.flags(c)
	l.format.flag(c)
	c.Flags().StringVar(&l.kind, "type", "", "what is asked for: A, AAAA, PTR, SRV, ... (default A, and PTR of an address)")
	c.Flags().StringVar(&l.from, "from", "", "the `container` of this node that asks")
	complete(c, "type", words(kinds...))
	complete(c, "from", ask(&l.socket, containerNames))
}

func (l *lookup) request(name string) (api.LookupRequest, error) {
	if l.from == "" {
		return api.LookupRequest{}, usageError{errors.New("--from is missing; name the container that asks: what is answered hangs on its networks (weft endpoint ls --local)")}
	}
	if name == "" {
		return api.LookupRequest{}, usageError{errors.New("the name is empty; expected one such as db, db.web or an address")}
	}
	return api.LookupRequest{Name: name, Type: strings.ToUpper(l.kind), From: l.from}, nil
}

// show prints an answer in the form that the flags ask for, by default as fill does.
func (l *lookup) show(c *cobra.Command, a api.LookupAnswer, fill func(*table)) error {
	if l.text != "" {
		return print(c, l.format, []api.LookupAnswer{a})
	}
	return l.question.show(c, a, fill)
}

func newDNSQuery() *cobra.Command {
	var l lookup
	c := &cobra.Command{
		Use:   "query NAME --from CONTAINER",
		Short: "Ask for a name as a container would",
		Long: `Ask for a name as a container of this node would, by its gateway: what it is answered hangs on which networks it is on. An
address is asked for its name. The exit status is 1 if the answer is an error, such as NXDOMAIN for a name that there is not.`,
		Example: `  weft dns query db --from c1
  weft dns query db --type AAAA --from c1 --json
  weft dns query _http._tcp.db --type SRV --from c1
  weft dns query 10.0.1.7 --from c1 --format '{{range .Answers}}{{.Data}} {{end}}'`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: first(ask(&l.socket, endpointNames)),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := l.request(args[0])
			if err != nil {
				return err
			}
			a, err := l.client().Query(c.Context(), r)
			if err != nil {
				return err
			}
			if err := l.show(c, a, func(t *table) { showAnswers(t, a) }); err != nil || a.Rcode == "NOERROR" {
				return err
			}
			return fmt.Errorf("%s of %s: %s; weft dns explain %s --from %s says why", a.Type, a.Name, a.Rcode, args[0], a.From)
		},
	}
	l.flags(c)
	return c
}

func showAnswers(t *table, a api.LookupAnswer) {
	if len(a.Answers) == 0 {
		if a.Rcode == "NOERROR" {
			fmt.Fprintf(t.w, "There is such a name, but nothing of type %s (NODATA).\n", a.Type)
		}
		return
	}
	t.row("NAME", "TTL", "TYPE", "DATA")
	for _, r := range a.Answers {
		t.row(r.Name, r.TTL, r.Type, r.Data)
	}
}

func newDNSExplain() *cobra.Command {
	var l lookup
	c := &cobra.Command{
		Use:   "explain NAME --from CONTAINER",
		Short: "Say why a container is answered what it is answered",
		Long: `Ask for a name as a container of this node would, and say how the answer came about: which networks are searched in which
order, which rule matched, which records the name stands for, on which node each container is and since when, which were
left out and why; or which of the host's servers was asked, and how long it took.`,
		Example: `  weft dns explain db --from c1
  weft dns explain www.example.org --from c1 --json | jq .explanation.forwarded`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: first(ask(&l.socket, endpointNames)),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := l.request(args[0])
			if err != nil {
				return err
			}
			a, err := l.client().Explain(c.Context(), r)
			if err != nil {
				return err
			}
			return l.show(c, a, func(t *table) { showExplanation(t, a) })
		},
	}
	l.flags(c)
	return c
}

func showExplanation(t *table, a api.LookupAnswer) {
	e := a.Explanation
	if e == nil {
		e = &api.Explanation{}
	}
	fmt.Fprintf(t.w, "%s asks on node %s for %s of %s: %s\n", a.From, a.Node, a.Type, a.Name, a.Rcode)
	fmt.Fprintf(t.w, "Rule: %s%s\n", e.Rule, after(". ", e.Reason))
	if e.Network != "" {
		fmt.Fprintf(t.w, "Answered of network %s, to be kept for %d s.\n", e.Network, e.TTL)
	}
	t.section("Searched, in this order")
	t.row("NETWORK", "ADDRESSES")
	for _, n := range e.Networks {
		t.row(n.Network, joined(n.Addresses))
	}
	if len(e.Records) > 0 {
		t.section("Records")
		t.row("CONTAINER", "AS", "NETWORK", "NODE", "ADDRESSES", "SINCE", "ANSWERED")
		for _, r := range e.Records {
			answered := "yes"
			if r.LeftOut != "" {
				answered = "no: " + r.LeftOut
			}
			t.row(r.Container, r.As, r.Network, r.Node, joined(r.Addresses), since(r.Since), answered)
		}
	}
	if f := e.Forwarded; f != nil {
		t.section("Forwarded")
		fmt.Fprintln(t.w, forwarded(f))
	}
	if len(a.Answers) > 0 {
		t.section("Answer")
		showAnswers(t, a)
	}
}

func forwarded(f *api.Forwarded) string {
	took := f.Took.Round(time.Microsecond)
	switch {
	case f.Error != "" && f.Server.IsValid():
		return fmt.Sprintf("no answer by %s, in %s: %s", f.Server, took, f.Error)
	case f.Error != "":
		return "no answer: " + f.Error
	case f.Cached:
		return fmt.Sprintf("answered from the cache; once said by %s", f.Server)
	}
	return fmt.Sprintf("answered by %s, in %s", f.Server, took)
}

// after prints s behind a separator, and nothing if there is none.
func after(separator, s string) string {
	if s == "" {
		return ""
	}
	return separator + s
}

// since prints a time that may not be known.
func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func newDNSList() *cobra.Command {
	var q question
	var f format
	var network string
	c := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the names that this node answers",
		Long: `List the containers that names lead to, on the networks that this node serves. Each of NAMES, the last of which is the
service's if there is one, leads to the addresses for all containers of that network, also with the network's name behind it
(db.web). STATE is hidden while a container's node is down.`,
		Example: `  weft dns ls
  weft dns ls --network web --format '{{.Container}} {{join .Addresses ","}}'`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := q.client().Records(c.Context(), network)
			if err != nil {
				return err
			}
			slices.SortStableFunc(all, func(a, b api.NameRecord) int {
				return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Container, b.Container), cmp.Compare(a.Node, b.Node))
			})
			if f.text != "" {
				return print(c, f, all)
			}
			return q.show(c, all, func(t *table) {
				t.row("NETWORK", "CONTAINER", "NAMES", "ADDRESSES", "PORTS", "NODE", "SINCE", "STATE")
				for _, r := range all {
					state := api.StateUp
					if r.Hidden {
						state = api.StateHidden
					}
					names := r.Names
					if r.Service != "" {
						names = append(slices.Clone(names), r.Service)
					}
					t.row(r.Network, r.Container, strings.Join(names, ","), joined(r.Addresses), ports(r.Ports), r.Node, since(r.Since), state)
				}
			})
		},
	}
	q.flags(c)
	f.flag(c)
	c.Flags().StringVar(&network, "network", "", "only of this `network`")
	complete(c, "network", ask(&q.socket, networkNames))
	return c
}

// ports prints what a container exposes, as --expose has it.
func ports(all []dns.Port) string {
	list := make([]string, len(all))
	for i, p := range all {
		list[i] = strconv.Itoa(int(p.Number)) + "/" + p.Protocol
		if p.Name != "" {
			list[i] = p.Name + "=" + list[i]
		}
	}
	return strings.Join(list, ",")
}
