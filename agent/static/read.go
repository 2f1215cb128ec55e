package static

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weftnet/weft/stack/frame"
)

// reader walks the YAML tree and collects faults. Its getters return false when the value is absent or at fault, so that one
// mistake is told once.
type reader struct{ faults []Fault }

func (r *reader) fault(at *yaml.Node, format string, args ...any) {
	r.faults = append(r.faults, Fault{at.Line, fmt.Sprintf(format, args...)})
}

func (r *reader) sorted() []Fault {
	slices.SortStableFunc(r.faults, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	return r.faults
}

var (
	syntaxLine = regexp.MustCompile(`^yaml: line (\d+): (.*)`)
	// parserFault matches what the YAML library reports with lines counted from 0, where all else is counted from 1.
	parserFault   = regexp.MustCompile(`^did not find expected (key|node content|['<])`)
	unknownAnchor = regexp.MustCompile(`unknown anchor '(.*)' referenced`)
)

// document returns the root of the file's only document.
func (r *reader) document(data []byte) *yaml.Node {
	var doc, more yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		r.faults = append(r.faults, Fault{1, "the file is empty; expected at least node: and underlay:"})
		return nil
	}
	if err == nil {
		if err = dec.Decode(&more); err == nil {
			r.fault(&more, "a second YAML document begins; expected one; remove it and its ---")
			return nil
		}
		if errors.Is(err, io.EOF) && len(doc.Content) == 1 {
			return doc.Content[0]
		}
	}
	line, text := syntaxFault(err, data)
	r.faults = append(r.faults, Fault{line, "not YAML: " + text + "; check indentation and quotes near this line"})
	return nil
}

// syntaxFault takes the YAML library's message apart.
func syntaxFault(err error, data []byte) (line int, text string) {
	line, text = 1, strings.TrimPrefix(err.Error(), "yaml: ")
	if m := syntaxLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = m[2]
	}
	if m := unknownAnchor.FindStringSubmatch(text); m != nil {
		before, _, _ := bytes.Cut(data, []byte("*"+m[1]))
		line = 1 + bytes.Count(before, []byte("\n"))
	} else if parserFault.MatchString(text) {
		line++
	}
	return max(line, 1), text
}

// table is a mapping whose keys are known. Its name leads every message about it.
type table struct {
	*reader
	node *yaml.Node
	name string
	keys map[string]*yaml.Node
}

// table reads n as a mapping with the given keys.
func (r *reader) table(n *yaml.Node, name string, known ...string) (table, bool) {
	t := table{r, n, name, make(map[string]*yaml.Node, len(known))}
	if n.Kind != yaml.MappingNode {
		r.fault(n, "%s: %s; expected a mapping of %s", name, describe(n), strings.Join(known, ", "))
		return t, false
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch first := t.keys[key.Value]; {
		case !slices.Contains(known, key.Value):
			r.fault(key, "%s: unknown key %q; expected one of %s%s", name, key.Value, strings.Join(known, ", "), suggest(key.Value, known))
		case first != nil:
			r.fault(key, "%s: %s is given twice, first at line %d; remove one", name, key.Value, first.Line)
		default:
			t.keys[key.Value] = value
		}
	}
	return t, true
}

// get returns the value of key, nil if it is absent or null.
func (t table) get(key string) *yaml.Node {
	n := t.keys[key]
	if n == nil || n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	return n
}

// at returns where to report a fault about key: at its value, or at the table if it is absent.
func (t table) at(key string) *yaml.Node {
	if n := t.keys[key]; n != nil {
		return n
	}
	return t.node
}

func (t table) path(key string) string {
	if t.name == "file" {
		return key
	}
	return t.name + ": " + key
}

// need reports an absent key and returns its value otherwise.
func (t table) need(key, remedy string) *yaml.Node {
	n := t.get(key)
	if n == nil {
		t.fault(t.at(key), "%s is missing; %s", t.path(key), remedy)
	}
	return n
}

// scalar returns the text of n.
func (t table) scalar(n *yaml.Node, key, expected string) (string, bool) {
	if n.Kind != yaml.ScalarNode {
		t.fault(n, "%s: %s; expected %s", t.path(key), describe(n), expected)
		return "", false
	}
	return n.Value, true
}

// list returns the elements of key, none if it is absent.
func (t table) list(key, expected string) []*yaml.Node {
	n := t.get(key)
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		t.fault(n, "%s: %s; expected a list of %s, such as [ ... ]", t.path(key), describe(n), expected)
		return nil
	}
	return n.Content
}

// number returns the integer at key, or otherwise def.
func (t table) number(key string, lo, hi, def int, remedy string) int {
	n := t.get(key)
	if n == nil {
		return def
	}
	v, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || v < lo || v > hi {
		t.fault(n, "%s: %s; expected a whole number from %d to %d; %s", t.path(key), describe(n), lo, hi, remedy)
		return def
	}
	return v
}

// truth returns the boolean at key, false if it is absent.
func (t table) truth(key string) bool {
	n := t.get(key)
	if n == nil {
		return false
	}
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		t.fault(n, "%s: %s; expected true or false, without quotes", t.path(key), describe(n))
		return false
	}
	return strings.EqualFold(n.Value, "true")
}

// choice returns which of the words stands at key, 0 if it is absent.
func (t table) choice(key string, words []string) int {
	n := t.get(key)
	if n == nil {
		return 0
	}
	i := slices.Index(words, n.Value)
	if n.Kind != yaml.ScalarNode || i < 0 {
		t.fault(n, "%s: %s; expected one of %s", t.path(key), describe(n), strings.Join(words, ", "))
		return 0
	}
	return i
}

// address reads n as an address without prefix length or zone.
func (t table) address(n *yaml.Node, key string) (netip.Addr, bool) {
	const expected = "an IPv4 or IPv6 address such as 10.77.0.2"
	s, ok := t.scalar(n, key, expected)
	if !ok {
		return netip.Addr{}, false
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		t.fault(n, "%s: %q has a prefix length; expected %s; write %s", t.path(key), s, expected, p.Addr())
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		t.fault(n, "%s: %q; expected %s", t.path(key), s, expected)
	case a.Zone() != "":
		t.fault(n, "%s: %q has a zone, which means nothing to other hosts; use a global or unique-local address", t.path(key), s)
	case a.Is4In6():
		t.fault(n, "%s: %q is an IPv4 address in IPv6 form; write %s", t.path(key), s, a.Unmap())
	case a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		t.fault(n, "%s: %q; expected the address of one host; choose a unicast address", t.path(key), s)
	default:
		return a, true
	}
	return netip.Addr{}, false
}

// prefix reads n as a prefix without host bits.
func (t table) prefix(n *yaml.Node, key string) (netip.Prefix, bool) {
	const expected = "a subnet such as 10.77.0.0/24"
	s, ok := t.scalar(n, key, expected)
	if !ok {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		t.fault(n, "%s: %q; expected %s", t.path(key), s, expected)
	case p.Addr().Is4In6():
		t.fault(n, "%s: %q is an IPv4 subnet in IPv6 form; write it as IPv4", t.path(key), s)
	case p != p.Masked():
		t.fault(n, "%s: %q has host bits set; expected a subnet; write %s", t.path(key), s, p.Masked())
	default:
		return p, true
	}
	return netip.Prefix{}, false
}

// mac reads the Ethernet address of one station at key.
func (t table) mac(n *yaml.Node, key string) (frame.MAC, bool) {
	s, ok := t.scalar(n, key, "an Ethernet address")
	if !ok {
		return 0, false
	}
	m, err := frame.ParseMAC(s)
	switch {
	case err != nil:
		t.fault(n, "%s: %v", t.path(key), err)
	case m.IsGroup():
		t.fault(n, "%s: %s is a group address; expected the address of one station; make its first byte even, such as 02", t.path(key), m)
	case m == 0:
		t.fault(n, "%s: %s is no station's address; choose one such as 02:42:0a:4d:00:02", t.path(key), m)
	default:
		return m, true
	}
	return 0, false
}

// describe says in a message what n is.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return fmt.Sprintf("the alias *%s (aliases are not read; write the value out)", n.Value)
	}
	return strconv.Quote(n.Value)
}

// suggest names the known key that word most likely stands for: the one that differs by case, - or _ alone, or by one letter.
func suggest(word string, known []string) string {
	plain := strings.NewReplacer("-", "", "_", "")
	fold := func(s string) string { return strings.ToLower(plain.Replace(s)) }
	for _, k := range known {
		a, b := fold(word), fold(k)
		if a == b || a+"s" == b || a == b+"s" || len(a) == len(b) && len(a) > 2 && differ(a, b) == 1 {
			return fmt.Sprintf("; did you mean %s?", k)
		}
	}
	return ""
}

func differ(a, b string) (n int) {
	for i := range len(a) {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}
