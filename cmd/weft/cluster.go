package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/weftnet/weft/agent/api"
)

func newCluster() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Short: "Show, back up and restore the cluster as a whole"}
	c.AddCommand(newClusterInfo(), newClusterBackup(), newClusterRestore(), newClusterRotate())
	return c
}

func newClusterInfo() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:   "info",
		Short: "Show the cluster as this node sees it",
		Long: `Show the cluster as this node sees it: its managers, whether they have a quorum, its keys, and what this node has refused
of others: connections and requests at its API port, gossip's messages and records, each by reason. With --json also
gossip's traffic and queues.`,
		Example: "  weft cluster info\n  weft cluster info --json | jq .quorum",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			info, err := q.client().Cluster(c.Context())
			if err != nil {
				return err
			}
			return q.show(c, info, func(t *table) {
				t.row("cluster", info.ID)
				t.row("created", info.Created.Local().Format(time.DateTime))
				t.row("this node", info.Node)
				showCluster(t, info)
				for _, p := range info.Pools {
					t.row("pool", fmt.Sprintf("%s, in subnets of /%d", p.Base, p.Size))
				}
				keys := fmt.Sprintf("epoch %d", info.KeyEpoch)
				if info.Rotating {
					keys += ", a rotation is under way"
				}
				t.row("keys", keys)
				t.row("state", info.Index)
				showRefused(t, info)
			})
		},
	}
	q.flags(c)
	return c
}

// showRefused prints what this node has refused of others, by reason.
func showRefused(t *table, info api.Cluster) {
	var gossiped map[string]uint64
	if info.Gossip != nil {
		gossiped = info.Gossip.Refused
	}
	if total(info.Refused)+total(gossiped) == 0 {
		return
	}
	t.section("Refused")
	t.row("WHERE", "REASON", "TIMES")
	for _, from := range []struct {
		where  string
		counts map[string]uint64
	}{{"node API", info.Refused}, {"gossip", gossiped}} {
		for _, reason := range slices.Sorted(maps.Keys(from.counts)) {
			if n := from.counts[reason]; n > 0 {
				t.row(from.where, reason, n)
			}
		}
	}
}

// showCluster prints what weft status has of the cluster too.
func showCluster(t *table, info api.Cluster) {
	t.row("role", info.Role)
	t.row("nodes", info.Nodes)
	t.row("managers", info.Managers)
	switch {
	case info.Role == "": // removed: the managers do not talk to it
	case info.Quorum && info.Leader != "":
		t.row("quorum", "yes, the leader is "+info.Leader)
	case info.Quorum:
		t.row("quorum", "yes")
	default:
		t.row("quorum", "no: nothing can be changed, but what is attached works on")
	}
	if info.Problem != "" {
		t.row("problem", info.Problem)
	}
}

func newClusterBackup() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write the state of the cluster into a file",
		Long: `Write the whole state of the cluster into FILE, with mode 0600; - is standard output. It takes a manager.

The file holds all secrets of the cluster, the key of its certificate authority too: keep it as such. weft cluster restore
makes a manager of it when more than half of the managers are lost for ever.`,
		Example: "  weft cluster backup /srv/backup/weft-$(date +%F)",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if args[0] == "-" && terminal(c.OutOrStdout()) {
				return usageError{errors.New("secrets on a terminal stay in its history; write to a file, or pipe them on")}
			}
			b, err := q.client().Backup(c.Context())
			if err != nil {
				return err
			}
			if args[0] == "-" {
				_, err = c.OutOrStdout().Write(b)
				return err
			}
			if err := keep(args[0], b); err != nil {
				return fmt.Errorf("write the backup: %w (%s is what it was before)", err, args[0])
			}
			fmt.Fprintf(c.ErrOrStderr(), "The backup has %s. Whoever has it has the cluster: keep it safe.\n", amount(uint64(len(b))))
			return nil
		},
	}
	socketFlag(c, &q.socket)
	return c
}

// keep writes a file that nobody else may read, whole or not at all, and returns when it is on disk.
func keep(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".weft-backup-") // has mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // of no effect once it has its name
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func newClusterRestore() *cobra.Command {
	var q question
	var r api.RestoreRequest
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make this node the one manager of a backup's cluster",
		Long: `Make this node, and no other, the manager of the cluster in FILE; - is standard input. This is the way back when more than
half of the managers are lost for ever. At once, and without asking back:

  - the cluster is again what it was when the backup was made: what changed since then is undone;
  - all other managers of that time are none any more; do not start them again with their old data: remove it, then
    weft join makes them managers again.

Workers follow the new manager by themselves, and what is attached works on. A node that is a member of a cluster now gives
that up, which takes --force.`,
		Example: "  weft cluster restore /srv/backup/weft-2026-01-31\n  weft cluster restore --force backup",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if r.Backup, err = readAll(c, args[0]); err != nil {
				return fmt.Errorf("read the backup: %w", err)
			}
			if len(r.Backup) == 0 {
				return fmt.Errorf("%s is empty; expected what weft cluster backup wrote", args[0])
			}
			if err := q.client().Restore(c.Context(), r); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), "The cluster is restored; this node is its only manager. See weft node ls.")
			return nil
		},
	}
	socketFlag(c, &q.socket)
	c.Flags().BoolVarP(&r.Force, "force", "f", false, "also on a node that is a member of a cluster now")
	return c
}

func readAll(c *cobra.Command, path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(c.InOrStdin())
	}
	return os.ReadFile(path)
}

func newClusterRotate() *cobra.Command {
	var q question
	c := &cobra.Command{
		Use:   "rotate-keys",
		Short: "Replace the keys of gossip and of all networks",
		Long: `Replace the symmetric keys with which gossip and the networks' records are sealed. The managers do that every 12 hours by
themselves. It goes by steps, each of which waits for the nodes: the new keys are handed out, then used, then the old ones are
dropped. The command returns when it has begun; weft cluster info shows how far it is.`,
		Example: "  weft cluster rotate-keys",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := q.client().RotateKeys(c.Context()); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), "A rotation of the keys has begun; weft cluster info shows how far it is.")
			return nil
		},
	}
	socketFlag(c, &q.socket)
	return c
}
