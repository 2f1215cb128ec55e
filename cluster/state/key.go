package state

import (
	"bytes"
	"regexp"
	"slices"
)

// keySize is the length of a symmetric key.
const keySize = 32

// secretText is what the secret of a join token looks like: at least 80 bits in base 36.
var secretText = regexp.MustCompile(`^[0-9a-z]{16,64}$`)

// newest returns the epoch of the newest key, 0 if there is none.
func (k Keyring) newest() uint64 {
	if len(k.Keys) == 0 {
		return 0
	}
	return k.Keys[len(k.Keys)-1].Epoch
}

// firstKey returns a keyring with one key in use.
func (d *draft) firstKey(epoch uint64, secret []byte) (Keyring, error) {
	return d.withKey(Keyring{Primary: epoch}, epoch, secret)
}

// withKey returns the keyring with one more key.
func (d *draft) withKey(k Keyring, epoch uint64, secret []byte) (Keyring, error) {
	if len(secret) != keySize {
		return k, refuse(ErrInvalid, "a key of %d bytes; expected %d random ones", len(secret), keySize)
	}
	k.Keys = append(slices.Clone(k.Keys), Key{Epoch: epoch, Secret: bytes.Clone(secret), Created: d.at})
	return k, nil
}

func (d *draft) rotateToken(c *RotateToken) error {
	if c.Role != Worker && c.Role != Manager {
		return refuse(ErrInvalid, "a join token for role %q; expected %s or %s", c.Role, Worker, Manager)
	}
	if !secretText.MatchString(c.Secret) {
		return refuse(ErrInvalid, "the new secret of the %s token has %d characters; expected 16 to 64 digits and small letters", c.Role, len(c.Secret))
	}
	tokens := map[Role]string{c.Role: c.Secret}
	for role, secret := range d.Cluster.Tokens {
		if role != c.Role {
			tokens[role] = secret
		}
	}
	d.Cluster.Tokens, d.changed = tokens, true
	return nil
}

// rotateKeys does one step. All keyrings go through the same epochs, so that one number in a node's report says that it has
// installed a new key of each; a network made in between begins with the newest epoch. Whether the nodes are ready for a step,
// who proposes it judges: a node that is down must not stop a rotation for ever.
func (d *draft) rotateKeys(c *RotateKeys) error {
	g := d.Cluster.Gossip
	newest := g.newest()
	under := len(g.Keys) > 1
	var step func(k Keyring, secret []byte) (Keyring, error)
	switch c.Step {
	case StepInstall:
		if under {
			return refuse(ErrInvalid, "a rotation of keys is under way (epoch %d); it ends by itself once all nodes have the keys", newest)
		}
		step = func(k Keyring, secret []byte) (Keyring, error) { return d.withKey(k, newest+1, secret) }
	case StepUse:
		if g.Primary == newest {
			return refuse(ErrInvalid, "no newer key than that of epoch %d is installed; a rotation begins with %s", newest, StepInstall)
		}
		step = func(k Keyring, _ []byte) (Keyring, error) { k.Primary = newest; return k, nil }
	case StepRemove:
		if !under || g.Primary != newest {
			return refuse(ErrInvalid, "the key of epoch %d is in use and that of epoch %d the newest; expected %s and %s before %s", g.Primary, newest, StepInstall, StepUse, StepRemove)
		}
		step = func(k Keyring, _ []byte) (Keyring, error) {
			k.Keys = slices.Clone(k.Keys[len(k.Keys)-1:])
			return k, nil
		}
	default:
		return refuse(ErrInvalid, "step %q of a rotation; expected %s, %s, %s", c.Step, StepInstall, StepUse, StepRemove)
	}

	var err error
	if d.Cluster.Gossip, err = step(g, c.Gossip); err != nil {
		return err
	}
	for id, n := range d.Networks {
		next := *n
		if next.Keys, err = step(n.Keys, c.Network[id]); err != nil {
			return refuse(ErrInvalid, "network %s was not thought of when the rotation was proposed (%v); propose it again", n.Name, err)
		}
		d.setNetwork(&next)
	}
	d.changed = true
	return nil
}
