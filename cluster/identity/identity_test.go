package identity

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	gosync "sync"
	"testing"
	"time"
)

func public(i *Identity) ed25519.PublicKey { return i.Key.Public().(ed25519.PublicKey) }

func TestIdentityStaysOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	first, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if first.Cert != nil || first.CA != nil {
		t.Error("a new node has certificates")
	}
	ca := newCA(t)
	join(t, first, dir, ca)
	again, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.ID() != first.ID() || !again.Cert.Equal(first.Cert) || !again.CA.Equal(ca.Cert) {
		t.Error("the identity differs after loading it again")
	}
	for path, want := range map[string]fs.FileMode{"": 0o700 | fs.ModeDir, keyFile: 0o600, certFile: 0o644} {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%q has mode %s; want %s", path, info.Mode(), want)
		}
	}
	if err := Forget(dir); err != nil {
		t.Fatal(err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 0 {
		t.Errorf("%v are left", names)
	}
	if err := Forget(dir); err != nil {
		t.Errorf("to forget twice: %v", err)
	}
	if err := Forget(filepath.Join(dir, "none")); err != nil {
		t.Errorf("to forget what never was: %v", err)
	}
	fresh, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if fresh.ID() == first.ID() || fresh.Cert != nil {
		t.Error("a forgotten identity comes back")
	}
}

func TestLoadMakesOneKeyForAll(t *testing.T) {
	dir := t.TempDir()
	ids := make([]NodeID, 16)
	var all gosync.WaitGroup
	for n := range ids {
		all.Go(func() {
			i, err := Load(dir)
			if err != nil {
				t.Error(err)
				return
			}
			ids[n] = i.ID()
		})
	}
	all.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("IDs %v; want one", ids)
		}
	}
}

func TestLoadNamesWhatIsWrong(t *testing.T) {
	ca := newCA(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	stranger := member(t, ca)
	block := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	pair := func(a, b []byte) []byte { return append(block(certBlock, a), block(certBlock, b)...) }
	for name, test := range map[string]struct {
		file string
		text []byte
		mode fs.FileMode
		want string
	}{
		"an empty key file":           {keyFile, nil, 0o600, "has no PEM block"},
		"a key that is no key":        {keyFile, block(keyBlock, []byte("x")), 0o600, "asn1"},
		"a key of another kind":       {keyFile, block(keyBlock, ecDER), 0o600, "expected an ed25519 key"},
		"a key that others may read":  {keyFile, nil, 0o640, "chmod 600"},
		"one certificate only":        {certFile, block(certBlock, ca.Cert.Raw), 0o644, "does not have the two PEM blocks"},
		"an empty certificate file":   {certFile, nil, 0o644, "does not have the two PEM blocks"},
		"a certificate that is none":  {certFile, pair([]byte("x"), ca.Cert.Raw), 0o644, "the node's certificate"},
		"a CA that is none":           {certFile, pair(stranger.Cert.Raw, []byte("x")), 0o644, "the CA's certificate"},
		"another node's certificate":  {certFile, pair(stranger.Cert.Raw, ca.Cert.Raw), 0o644, "expected this node's"},
		"a node's certificate as CA":  {certFile, pair(ca.Cert.Raw, stranger.Cert.Raw), 0o644, "expected the ID of its key"},
		"half of a certificates file": {certFile, pair(stranger.Cert.Raw, ca.Cert.Raw)[:500], 0o644, "does not have the two PEM blocks"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := Load(dir); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, test.file)
			if err := os.WriteFile(path, test.text, test.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, test.mode); err != nil {
				t.Fatal(err)
			}
			_, err := Load(dir)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v; want %q and the path %s", err, test.want, path)
			}
			if got, _ := os.ReadFile(path); string(got) != string(test.text) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestSaveRefusesAndChangesNothing(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	dir := t.TempDir()
	i, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	join(t, i, dir, ca)
	before, text := i.Cert, read(t, dir)
	foreign, err := other.Sign(public(i), "n", life, epoch)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ cert, ca []byte }{
		"garbage":                           {[]byte("x"), ca.Cert.Raw},
		"a truncated CA":                    {i.Cert.Raw, ca.Cert.Raw[:100]},
		"a certificate of another node":     {member(t, ca).Cert.Raw, ca.Cert.Raw},
		"a certificate that the CA did not": {foreign, ca.Cert.Raw},
		"nothing":                           {nil, nil},
	} {
		if err := i.Save(dir, test.cert, test.ca); err == nil {
			t.Errorf("%s is taken", name)
		}
		if i.Cert != before || read(t, dir) != text {
			t.Errorf("%s changed something", name)
		}
	}
}

func read(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, certFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A crash at any point of Save leaves the old pair, and maybe a piece of the new file beside it, which is no obstacle.
func TestSaveAfterACrashHalfway(t *testing.T) {
	ca := newCA(t)
	dir := t.TempDir()
	i, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	join(t, i, dir, ca)
	old := i.Cert
	for _, name := range []string{keyFile, certFile} {
		if err := os.WriteFile(filepath.Join(dir, name+".new"), []byte("-----BEGIN CERT"), 0o444); err != nil {
			t.Fatal(err)
		}
	}
	again, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Cert.Equal(old) {
		t.Error("another certificate than the old one")
	}
	join(t, again, dir, ca)
	if last, err := Load(dir); err != nil || !last.Cert.Equal(again.Cert) || last.Cert.Equal(old) {
		t.Errorf("the new certificate is not there after all (%v)", err)
	}
	if err := Forget(dir); err != nil {
		t.Fatal(err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 0 {
		t.Errorf("%v are left", names)
	}
}

// A directory in the new file's place stands for a disk that takes nothing.
func TestSaveThatFailsKeepsTheOld(t *testing.T) {
	ca := newCA(t)
	dir := t.TempDir()
	i, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	join(t, i, dir, ca)
	before, text := i.Cert, read(t, dir)
	if err := os.MkdirAll(filepath.Join(dir, certFile+".new", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Sign(public(i), "n", life, epoch)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Save(dir, cert, ca.Cert.Raw); err == nil {
		t.Fatal("Save returns no error")
	}
	if i.Cert != before || read(t, dir) != text {
		t.Error("something changed")
	}
	gone := filepath.Join(t.TempDir(), "gone")
	if err := i.Save(gone, cert, ca.Cert.Raw); !errors.Is(err, fs.ErrNotExist) || i.Cert != before {
		t.Errorf("to a directory that is gone: %v", err)
	}
}

// Readers see the old pair or the new one at every moment.
func TestSaveIsAtomicForReaders(t *testing.T) {
	ca := newCA(t)
	dir := t.TempDir()
	i, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	join(t, i, dir, ca)
	stop := make(chan struct{})
	var reader gosync.WaitGroup
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			fresh := &Identity{Key: i.Key}
			if err := fresh.readCertificates(filepath.Join(dir, certFile)); err != nil || fresh.Cert == nil {
				t.Errorf("half a file: %v", err)
				return
			}
			if c, a := i.Certificates(); c == nil || a == nil {
				t.Error("half a pair")
				return
			}
		}
	})
	for range 20 {
		join(t, i, dir, ca)
	}
	close(stop)
	reader.Wait()
}

func TestCASurvivesItsBytes(t *testing.T) {
	ca := newCA(t)
	key, err := ca.MarshalKey()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseCA(ca.Cert.Raw, key)
	if err != nil {
		t.Fatal(err)
	}
	i := member(t, again)
	if err := i.Cert.CheckSignatureFrom(ca.Cert); err != nil {
		t.Error(err)
	}
	otherKey, err := newCA(t).MarshalKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		cert, key []byte
		want      string
	}{
		"another CA's key":     {ca.Cert.Raw, otherKey, "not that of its certificate"},
		"a node's certificate": {i.Cert.Raw, key, "is not a CA's"},
		"a garbage key":        {ca.Cert.Raw, []byte("x"), "the CA's key"},
		"no certificate":       {nil, key, "the CA's certificate"},
	} {
		if _, err := ParseCA(test.cert, test.key); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want %q", name, err, test.want)
		}
	}
}

func TestSign(t *testing.T) {
	ca := newCA(t)
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.Sign(pub, "n1", life, epoch)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if !cert.NotBefore.Equal(epoch.Add(-10*time.Minute)) || !cert.NotAfter.Equal(epoch.Add(life)) {
		t.Errorf("valid from %s to %s", cert.NotBefore, cert.NotAfter)
	}
	if cert.Subject.CommonName != IDOf(pub).String() || cert.Subject.OrganizationalUnit[0] != "n1" || cert.IsCA {
		t.Errorf("subject %s, CA %t", cert.Subject, cert.IsCA)
	}
	if want := cert.NotBefore.Add((life + 10*time.Minute) / 3 * 2); !RenewAt(cert).Equal(want) {
		t.Errorf("renewed at %s; want %s", RenewAt(cert), want)
	}
	if der, err = ca.Sign(pub, "n1", 100*365*24*time.Hour, epoch); err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil || cert.NotAfter.After(ca.Cert.NotAfter) {
		t.Errorf("valid to %s, longer than its CA, %s (%v)", cert.NotAfter, ca.Cert.NotAfter, err)
	}
	for name, test := range map[string]struct {
		key  ed25519.PublicKey
		life time.Duration
		want string
	}{
		"no key":      {nil, life, "0 bytes; expected the 32"},
		"a short key": {pub[:31], life, "31 bytes"},
		"no life":     {pub, 0, "expected more than nothing"},
	} {
		if _, err := ca.Sign(test.key, "n1", test.life, epoch); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want %q", name, err, test.want)
		}
	}
}
