package api

import (
	"context"
	"fmt"
)

// Options say what a server shows. Only Node is required.
type Options struct {
	Node    Node
	Control Control // nil for a node that runs with --static: its routes then answer 409
	Doctor  Doctor  // nil likewise

	Resolver Resolver // nil for a node that answers no names: its routes then answer 409
	Outside  Outside  // nil for a node without a way out, likewise
}

// Control is all that a member of a cluster, or a node that may become one, is asked for. Its methods may be called from
// any goroutine, and return what belongs to the caller. A request's form has been checked before they see it. They end
// with ctx, which ends when the client leaves. An error that is a *Refusal has its status; others become 500.
type Control interface {
	Membership
	Keeper
	Nodes
	Segments
	Endpoints
	Addresses
}

// Membership is how this node belongs to a cluster.
type Membership interface {
	Cluster(ctx context.Context) (Cluster, error) // 409 on a node that is no member
	Init(ctx context.Context, r InitRequest) (JoinTokens, error)
	Join(ctx context.Context, r JoinRequest) (Member, error) // this node, as the cluster now has it
	Leave(ctx context.Context, r LeaveRequest) error
}

// Keeper keeps the cluster's secrets.
type Keeper interface {
	Tokens(ctx context.Context) (JoinTokens, error)
	RotateToken(ctx context.Context, role string) (JoinTokens, error) // role is worker or manager
	RotateKeys(ctx context.Context) error
	Backup(ctx context.Context) ([]byte, error)
	Restore(ctx context.Context, r RestoreRequest) error
}

// Nodes are the members of the cluster. A ref is a name, an ID, or a unique beginning of an ID.
type Nodes interface {
	Members(ctx context.Context) ([]Member, error)
	Member(ctx context.Context, ref string) (Member, error)
	ChangeMember(ctx context.Context, ref string, change MemberChange) (Member, error)
	RemoveMember(ctx context.Context, ref string, force bool) error // force: also one that is alive
}

// Segments are the networks of the cluster. A ref is a name, an ID, or a unique beginning of an ID.
type Segments interface {
	Segments(ctx context.Context) ([]NetworkDetail, error)
	Segment(ctx context.Context, ref string) (NetworkDetail, error)
	CreateNetwork(ctx context.Context, r NetworkRequest) (NetworkDetail, error)
	RemoveNetwork(ctx context.Context, ref string) error
	PruneNetworks(ctx context.Context) ([]string, error) // the names of those removed
}

// Endpoints are the containers' ends of networks.
type Endpoints interface {
	Endpoints(ctx context.Context, network string) ([]Endpoint, error) // of all networks if it is empty
	Endpoint(ctx context.Context, ref string) ([]Endpoint, error)      // all of a container by its name, or the one with this ID
	Attach(ctx context.Context, r AttachRequest) ([]Endpoint, error)
	Detach(ctx context.Context, container, network string) error // from all networks if it is empty
}

// Addresses is what becomes of the networks' addresses.
type Addresses interface {
	Usage(ctx context.Context) ([]Usage, error)
	Audit(ctx context.Context) ([]Audit, error)
}

// Doctor looks whether a node has what it needs.
type Doctor interface {
	Checks(ctx context.Context) ([]Check, error)
}

// Refusal is an error with the HTTP status that the API answers it with, such as 404 for what is not there, 409 for what
// the present state does not allow, and 503 for what takes a quorum when there is none.
type Refusal struct {
	Status int
	Err    error
}

// Refuse returns a Refusal whose text is as fmt.Errorf makes it.
func Refuse(status int, format string, args ...any) error {
	return &Refusal{status, fmt.Errorf(format, args...)}
}

// Error is the text of the error within.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns the error within.
func (r *Refusal) Unwrap() error { return r.Err }
