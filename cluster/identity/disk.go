package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The files and what their PEM blocks are called.
const (
	keyFile  = "key.pem"
	certFile = "certificates.pem"

	keyBlock  = "PRIVATE KEY"
	certBlock = "CERTIFICATE"
)

// Load reads the identity that is kept in dir. On first use it makes dir (mode 0700) and the key (mode 0600); it returns
// when they are on disk.
func Load(dir string) (*Identity, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	defer unlock()
	key, err := readKey(filepath.Join(dir, keyFile))
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeKey(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	i := &Identity{Key: key}
	if err := i.readCertificates(filepath.Join(dir, certFile)); err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return i, nil
}

// Save keeps the node's certificate and the CA's (DER) in dir and makes new handshakes use them. It returns when they are
// on disk; on an error, or a crash, the ones before stay. It refuses a certificate that is not for this node's key or that
// this CA did not sign.
func (i *Identity) Save(dir string, cert, ca []byte) error {
	c, a, err := i.check(cert, ca)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: cert})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: ca})...)
	unlock, err := lock(dir)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	defer unlock()
	if err := replace(dir, certFile, text, 0o644); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.Cert, i.CA = c, a
	return nil
}

// Forget removes the identity from dir, if there is one. A crash halfway leaves a node without a cluster.
func Forget(dir string) error {
	unlock, err := lock(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	defer unlock()
	for _, name := range []string{certFile, keyFile} {
		for _, path := range []string{name, name + ".new"} {
			if err := os.Remove(filepath.Join(dir, path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("identity: %w", err)
			}
		}
		if err := flush(dir); err != nil {
			return fmt.Errorf("identity: %w", err)
		}
	}
	return nil
}

// lock keeps other processes from making or replacing files of dir at the same time.
func lock(dir string) (unlock func() error, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX)
		if err == nil {
			return d.Close, nil // closing unlocks
		}
		if !errors.Is(err, unix.EINTR) {
			d.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
	}
}

func readKey(path string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o; expected 0600, as who reads it can act as this node; run chmod 600 %s", path, mode, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	const remedy = "restore the file from a backup, or remove it and join as a new node"
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keyBlock {
		return nil, fmt.Errorf("%s has no PEM block %q; %s", path, keyBlock, remedy)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; %s", path, err, remedy)
	}
	k, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s has a %T; expected an ed25519 key; %s", path, key, remedy)
	}
	return k, nil
}

func makeKey(dir string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, replace(dir, keyFile, pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), 0o600)
}

// readCertificates reads the two certificates, if there are any.
func (i *Identity) readCertificates(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	const remedy = "restore the file from a backup, or remove it and join again"
	cert, rest := pem.Decode(text)
	ca, _ := pem.Decode(rest)
	if cert == nil || ca == nil || cert.Type != certBlock || ca.Type != certBlock {
		return fmt.Errorf("%s does not have the two PEM blocks %q of node and CA; %s", path, certBlock, remedy)
	}
	if i.Cert, i.CA, err = i.check(cert.Bytes, ca.Bytes); err != nil {
		return fmt.Errorf("%s: %w; %s", path, err, remedy)
	}
	return nil
}

// replace puts text into the file dir/name in one step, and returns when it is on disk. On an error the old file stays.
func replace(dir, name string, text []byte, mode os.FileMode) (err error) {
	made := filepath.Join(dir, name+".new")
	if err := os.Remove(made); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a crash before; its mode may be another
		return err
	}
	f, err := os.OpenFile(made, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(made))
		}
	}()
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(made, filepath.Join(dir, name)); err != nil {
		return err
	}
	// The new file is in its place: a directory that cannot be synced is no reason to remove it.
	return flush(dir)
}

// flush makes the names in dir durable.
func flush(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
