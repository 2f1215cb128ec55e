package inside

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// host is where the container's /etc has the host's.
const host = ".host"

// dress gives the container an /etc of its own: a file system with the files that are the container's and, for all else,
// links to the host's, which is mounted in it.
//
//	/etc                  tmpfs
//	/etc/resolv.conf      the container's, by a bind mount
//	/etc/passwd           -> .host/passwd
//	/etc/.host            the host's /etc
//
// Binding the files over the host's would not last: the kernel takes away whatever is mounted on a file that somebody
// replaces or removes (d_invalidate), in all namespaces, and replacing /etc/resolv.conf is how programs write it.
func (o *Orders) dress() error {
	etc := filepath.Join(o.Folder, "etc")
	if err := os.Mkdir(etc, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := unix.Mount("tmpfs", etc, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=16m"); err != nil {
		return fmt.Errorf("mount a file system for /etc: %w", err)
	}
	inner := filepath.Join(etc, host)
	if err := os.Mkdir(inner, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/etc", inner, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind the host's /etc into the container's: %w", err)
	}
	own := map[string]bool{"hosts": true, "hostname": true, "resolv.conf": true}
	if _, err := os.Stat("/etc/nsswitch.conf"); err == nil { // else it is musl, which has none
		own["nsswitch.conf"] = true
	}
	for name := range own {
		if err := stand(filepath.Join(o.Folder, name), filepath.Join(etc, name)); err != nil {
			return err
		}
	}
	if err := linkAll(inner, etc, own); err != nil {
		return err
	}
	if err := unix.Mount(etc, "/etc", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the container's /etc to its place: %w", err)
	}
	return nil
}

// stand makes a file at path that shows source, as it changes.
func stand(source, path string) error {
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		return err
	}
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s over %s: %w", source, path, err)
	}
	return nil
}

// linkAll links whatever is in the host's /etc, but what the container has already.
func linkAll(inner, etc string, own map[string]bool) error {
	entries, err := os.ReadDir(inner)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if own[name] || name == host { // a container in a container
			continue
		}
		to := filepath.Join(host, name)
		if e.Type() == fs.ModeSymlink {
			// One such as ../usr/lib/os-release leads there from /etc, and nowhere from a directory below.
			if text, err := os.Readlink(filepath.Join(inner, name)); err == nil && !filepath.IsAbs(text) {
				to = text
			}
		}
		if err := os.Symlink(to, filepath.Join(etc, name)); err != nil {
			return err
		}
	}
	return nil
}
