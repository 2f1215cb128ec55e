package inside

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Volume is a file or directory of the host's that is at another place in a container.
type Volume struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// ParseVolume reads SRC:DST[:ro|:rw], as docker run -v. A relative SRC is below the working directory.
func ParseVolume(s string) (v Volume, err error) {
	parts := strings.Split(s, ":")
	wrong := func(what string) error {
		return fmt.Errorf("volume %q: %s; expected SRC:DST, SRC:DST:ro or SRC:DST:rw", s, what)
	}
	switch {
	case strings.ContainsRune(s, 0):
		return v, wrong("a path has no zero character")
	case len(parts) < 2 || len(parts) > 3:
		return v, wrong(fmt.Sprintf("%d parts", len(parts)))
	case parts[0] == "":
		return v, wrong("SRC is empty")
	case !strings.HasPrefix(parts[1], "/"):
		return v, wrong("DST is no absolute path")
	}
	if len(parts) == 3 {
		switch parts[2] {
		case "ro":
			v.ReadOnly = true
		case "rw":
		default:
			return v, wrong(fmt.Sprintf("unknown mode %q", parts[2]))
		}
	}
	if v.Source, err = filepath.Abs(parts[0]); err != nil {
		return v, fmt.Errorf("volume %q: %w", s, err)
	}
	v.Target = filepath.Clean(parts[1])
	if v.Target == "/" {
		return v, wrong("DST is the root")
	}
	return v, nil
}
