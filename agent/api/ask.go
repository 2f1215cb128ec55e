package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Cluster asks what cluster the node is a member of.
func (c *Client) Cluster(ctx context.Context) (v Cluster, err error) {
	return v, c.get(ctx, "/v1/cluster", nil, &v)
}

// Init makes a cluster with this node as its first manager.
func (c *Client) Init(ctx context.Context, r InitRequest) (v JoinTokens, err error) {
	return v, c.post(ctx, "/v1/cluster/init", r, &v)
}

// Join makes this node a member of a cluster, and returns it.
func (c *Client) Join(ctx context.Context, r JoinRequest) (v Member, err error) {
	return v, c.post(ctx, "/v1/cluster/join", r, &v)
}

// Leave ends this node's membership.
func (c *Client) Leave(ctx context.Context, r LeaveRequest) error {
	return c.post(ctx, "/v1/cluster/leave", r, nil)
}

// Tokens asks for the join tokens.
func (c *Client) Tokens(ctx context.Context) (v JoinTokens, err error) {
	return v, c.get(ctx, "/v1/cluster/tokens", nil, &v)
}

// RotateToken makes another token for a role; the old one is void.
func (c *Client) RotateToken(ctx context.Context, role string) (v JoinTokens, err error) {
	path, err := under("/v1/cluster/tokens/", "role", role)
	if err != nil {
		return v, err
	}
	return v, c.post(ctx, path+"/rotate", nil, &v)
}

// RotateKeys begins a rotation of all symmetric keys.
func (c *Client) RotateKeys(ctx context.Context) error {
	return c.post(ctx, "/v1/cluster/rotate-keys", nil, nil)
}

// Backup asks for the whole state of the cluster, its secrets too.
func (c *Client) Backup(ctx context.Context) ([]byte, error) {
	body, err := c.ask(ctx, http.MethodGet, "/v1/cluster/backup", nil, nil)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		return nil, fmt.Errorf("the backup was cut short: %w", err)
	}
	return b, nil
}

// Restore makes this node the one manager of the cluster in a backup.
func (c *Client) Restore(ctx context.Context, r RestoreRequest) error {
	if err := r.check(); err != nil {
		return err
	}
	return c.post(ctx, "/v1/cluster/restore", r, nil)
}

// Members asks for all nodes of the cluster.
func (c *Client) Members(ctx context.Context) (v []Member, err error) {
	return v, c.get(ctx, "/v1/nodes", nil, &v)
}

// Member asks for the node with this name, ID, or unique beginning of an ID.
func (c *Client) Member(ctx context.Context, ref string) (v Member, err error) {
	path, err := under("/v1/nodes/", "node", ref)
	if err != nil {
		return v, err
	}
	return v, c.get(ctx, path, nil, &v)
}

// ChangeMember changes a node and returns what it is then.
func (c *Client) ChangeMember(ctx context.Context, ref string, change MemberChange) (v Member, err error) {
	path, err := under("/v1/nodes/", "node", ref)
	if err != nil {
		return v, err
	}
	return v, c.post(ctx, path, change, &v)
}

// RemoveMember removes a node for ever; force removes one that is alive too.
func (c *Client) RemoveMember(ctx context.Context, ref string, force bool) error {
	path, err := under("/v1/nodes/", "node", ref)
	if err != nil {
		return err
	}
	q := url.Values{}
	if force {
		q.Set("force", "1")
	}
	return c.delete(ctx, path, q)
}

// Segments asks for all networks of the cluster.
func (c *Client) Segments(ctx context.Context) (v []NetworkDetail, err error) {
	return v, c.get(ctx, "/v1/cluster/networks", nil, &v)
}

// Segment asks for the network with this name, ID, or unique beginning of an ID.
func (c *Client) Segment(ctx context.Context, ref string) (v NetworkDetail, err error) {
	path, err := under("/v1/networks/", "network", ref)
	if err != nil {
		return v, err
	}
	return v, c.get(ctx, path, nil, &v)
}

// CreateNetwork makes a network.
func (c *Client) CreateNetwork(ctx context.Context, r NetworkRequest) (v NetworkDetail, err error) {
	return v, c.post(ctx, "/v1/networks", r, &v)
}

// RemoveNetwork removes a network that nobody uses.
func (c *Client) RemoveNetwork(ctx context.Context, ref string) error {
	path, err := under("/v1/networks/", "network", ref)
	if err != nil {
		return err
	}
	return c.delete(ctx, path, nil)
}

// PruneNetworks removes all networks that nobody uses, and returns their names.
func (c *Client) PruneNetworks(ctx context.Context) (v []string, err error) {
	return v, c.post(ctx, "/v1/networks/prune", nil, &v)
}

// Endpoints asks for the endpoints of a network, of all if it is empty.
func (c *Client) Endpoints(ctx context.Context, network string) (v []Endpoint, err error) {
	return v, c.get(ctx, "/v1/endpoints", ofNetwork(network), &v)
}

// Endpoint asks for all endpoints of the container with this name, or for the endpoint with this ID.
func (c *Client) Endpoint(ctx context.Context, ref string) (v []Endpoint, err error) {
	path, err := under("/v1/endpoints/", "endpoint", ref)
	if err != nil {
		return v, err
	}
	return v, c.get(ctx, path, nil, &v)
}

// Attach attaches a container to networks. It returns when they can be used.
func (c *Client) Attach(ctx context.Context, r AttachRequest) (v []Endpoint, err error) {
	return v, c.post(ctx, "/v1/endpoints", r, &v)
}

// Detach detaches a container of this node from all its networks.
func (c *Client) Detach(ctx context.Context, container string) error {
	return c.DetachFrom(ctx, container, "")
}

// DetachFrom detaches a container of this node from one network, from all if it is empty.
func (c *Client) DetachFrom(ctx context.Context, container, network string) error {
	path, err := under("/v1/endpoints/", "container", container)
	if err != nil {
		return err
	}
	return c.delete(ctx, path, ofNetwork(network))
}

// Usage asks how full the networks' ranges are.
func (c *Client) Usage(ctx context.Context) (v []Usage, err error) {
	return v, c.get(ctx, "/v1/ipam/usage", nil, &v)
}

// Audit asks for the addresses that are not accounted for.
func (c *Client) Audit(ctx context.Context) (v []Audit, err error) {
	return v, c.get(ctx, "/v1/ipam/audit", nil, &v)
}

// Checks asks what the node has of what it needs.
func (c *Client) Checks(ctx context.Context) (v []Check, err error) {
	return v, c.get(ctx, "/v1/doctor", nil, &v)
}

// under returns the path of what ref names. What a path cannot carry names nothing.
func under(path, kind, ref string) (string, error) {
	if ref == "" || ref == "." || ref == ".." {
		return "", fmt.Errorf("%s %q; expected a name or an ID", kind, ref)
	}
	return path + url.PathEscape(ref), nil
}
