package etc

import "strings"

// Switch is a container's nsswitch.conf, given the host's: host names are looked up in the container's own hosts and resolv.conf alone.
// On a container that has the host's file system nss-resolve and others would ask the host's services, which know nothing of networks.
func Switch(host string) string {
	const hosts = "hosts: files dns\n"
	var b strings.Builder
	for line := range strings.Lines(host) {
		if key, _, ok := strings.Cut(line, ":"); !ok || strings.TrimSpace(key) != "hosts" {
			b.WriteString(line)
		}
	}
	if s := b.String(); s != "" && !strings.HasSuffix(s, "\n") {
		b.WriteByte('\n')
	}
	b.WriteString(hosts)
	return b.String()
}
