package bench

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weftnet/weft/bench/topology"
)

// choose picks the named ones of all, in the order in which they were named. No names mean all.
func choose[T any](flag string, names []string, all []T, name func(T) string) ([]T, error) {
	if names == nil {
		return all, nil
	}
	var list []T
	for i, n := range names {
		at := slices.IndexFunc(all, func(t T) bool { return name(t) == n })
		if at < 0 {
			return nil, fmt.Errorf("bench: %s %q; expected one of %s", flag, n, join(all, name))
		}
		if slices.Contains(names[:i], n) {
			return nil, fmt.Errorf("bench: %s names %s twice; expected each once", flag, n)
		}
		list = append(list, all[at])
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("bench: %s names nothing; leave the flag out to take all", flag)
	}
	return list, nil
}

// join lists the names of those in list that all of the tests accept.
func join[T any](list []T, name func(T) string, tests ...func(T) bool) string {
	var names []string
	for _, t := range list {
		if !slices.ContainsFunc(tests, func(test func(T) bool) bool { return !test(t) }) {
			names = append(names, name(t))
		}
	}
	return strings.Join(names, ", ")
}

// ungroup puts the paths of a group in the place of its name.
func ungroup(names []string) []string {
	if names == nil {
		return nil
	}
	list := []string{} // nil would mean all
	for _, name := range names {
		if !slices.Contains(topology.Groups(), topology.Group(name)) {
			list = append(list, name)
			continue
		}
		for _, p := range topology.Paths() {
			if p.Group == topology.Group(name) {
				list = append(list, p.Name)
			}
		}
	}
	return list
}

// match leaves out paths and scenarios that nobody named and that do not go with what was named. What was named has to go
// with something.
func match(o *Options, paths []topology.Path, scenarios []Scenario) ([]topology.Path, []Scenario, error) {
	if o.Paths == nil {
		paths = slices.DeleteFunc(paths, func(p topology.Path) bool {
			if o.Scenarios == nil {
				return p.Group != topology.Overlay
			}
			return !slices.ContainsFunc(scenarios, func(s Scenario) bool { return s.Groups[0] == p.Group })
		})
	}
	if o.Scenarios == nil {
		scenarios = slices.DeleteFunc(scenarios, func(s Scenario) bool { return !slices.ContainsFunc(paths, s.fits) })
	}
	pathName, scenarioName := func(p topology.Path) string { return p.Name }, func(s Scenario) string { return s.Name }
	for _, s := range scenarios {
		if !slices.ContainsFunc(paths, s.fits) {
			return nil, nil, fmt.Errorf("bench: --scenarios %s: none of the paths %s can carry it; expected one of %s among --paths",
				s.Name, join(paths, pathName), join(topology.Paths(), pathName, s.fits))
		}
	}
	for _, p := range paths {
		carries := func(s Scenario) bool { return s.fits(p) }
		if !slices.ContainsFunc(scenarios, carries) {
			return nil, nil, fmt.Errorf("bench: --paths %s: it can carry none of the scenarios %s; expected one of %s among --scenarios",
				p.Name, join(scenarios, scenarioName), join(Scenarios(), scenarioName, carries))
		}
	}
	return paths, scenarios, nil
}
