package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rackstage/provision/access"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/store"
)

// A real server lives through a day: a site with passwords, people, a relay, a
// machine whose BMC gets an account, machines whose rules give one, of each kind
// of BMC, people before consoles, BMCs that fail and succeed, rotations, a kill.
// Then everything that it ever wrote or said is searched for every
// secret that it was given or made.
func TestNoSecretIsEverWrittenOrSaid(t *testing.T) {
	if testing.Short() {
		t.Skip("a day takes 20 s: make test runs it")
	}
	l := startLife(t)
	l.signIn(t)
	l.addRelay(t)
	l.enrol(t)
	l.fail(t)
	l.rotate(t)
	l.sit(t, l.node, &l.ssh.Line)
	l.meetGiven(t)
	l.sit(t, l.given["ipmi"], &l.serial.Line)
	l.readRecords(t, l.given["ipmi"])
	l.failGiven(t)
	l.ask(t, "/api/v1/runs/:id", "/api/v1/nodes/:ref/bmc/check")
	l.readRelay(t)
	l.end(t, syscall.SIGKILL)
	l.start(t)
	l.rotate(t)
	l.askGiven(t)
	l.ask(t, "/api/v1/runs/:id", "/api/v1/nodes/:ref/bmc/check")
	l.readRelay(t)
	l.end(t, syscall.SIGTERM)
	l.openSealed(t)
	l.ranTool(t)
	l.search(t)
}

// stored is what a server that has ended keeps of nodes, and what opens their
// secrets.
func (s *ownServer) stored(t *testing.T) (*access.Sealer, []fleet.Node) {
	t.Helper()
	state := filepath.Join(s.dir, "state")
	sealer, err := access.OpenSealer(filepath.Join(state, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), filepath.Join(state, "provision.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w, err := db.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return sealer, w.Nodes
}

// openSealed opens what is left on disk: these are secrets too, and so are the
// keys that open them. The BMCs of some nodes were not listened to.
func (l *life) openSealed(t *testing.T, unheard ...fleet.NodeID) {
	t.Helper()
	sealer, nodes := l.stored(t)
	for _, n := range nodes {
		password, err := openBMC(sealer, n)
		if slices.Contains(unheard, n.ID) {
			l.secret("password of a BMC", string(password))
		}
		if err != nil || l.secrets[string(password)] == "" {
			t.Errorf("the password that is stored was never seen by the BMC: %v", err)
		}
		if n.BMC.Next != (fleet.BMCAccount{}) {
			t.Errorf("a second password is kept for no reason")
		}
	}
	keys, err := os.ReadFile(filepath.Join(l.dir, "state", "keys", "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(keys)) {
		_, key, _ := strings.Cut(strings.TrimSpace(line), " ")
		l.secret("sealing key", key)
	}
}

// search looks into everything for every secret, in each form that it may have
// been written in.
func (l *life) search(t *testing.T) {
	t.Helper()
	forms := map[string]string{}
	for secret, what := range l.secrets {
		if len(secret) < 8 {
			t.Fatalf("%s is too short to be searched for", what)
		}
		forms[secret] = what
		forms[base64.StdEncoding.EncodeToString([]byte(secret))[:len(secret)]] = what + " in base64"
		forms[hex.EncodeToString([]byte(secret))] = what + " in hex"
		forms[url.QueryEscape(secret)] = what
		forms[html.EscapeString(secret)] = what
		quoted, _ := json.Marshal(secret) // a text always can be
		forms[string(quoted[1:len(quoted)-1])] = what
	}
	if len(l.secrets) < 10 {
		t.Errorf("only %d secrets are known: %v", len(l.secrets), len(forms))
	}
	look := func(where string, text []byte) {
		for form, what := range forms {
			if bytes.Contains(text, []byte(form)) {
				t.Errorf("%s is in %s", what, where)
			}
		}
		if bytes.Contains(text, []byte("PRIVATE KEY-----")) {
			t.Errorf("a private key is in %s", where)
		}
	}
	look("what the server said", l.said.Bytes())
	files := 0
	given := map[string]bool{"factory": true, "given": true, "community": true, "person": true, "seal.key": true} // they are for secrets
	for driver := range vendors {
		given[driver] = true
	}
	err := filepath.WalkDir(l.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || given[d.Name()] {
			return err
		}
		text, err := os.ReadFile(path)
		look(path, text)
		look(path+", uncompressed", uncompressed(text))
		files++
		return err
	})
	if err != nil || files < 5 {
		t.Errorf("looked into %d files: %v", files, err)
	}
	// A search that finds nothing anywhere proves nothing.
	if raw, err := os.ReadFile(filepath.Join(l.dir, "given")); err != nil || !bytes.Contains(raw, []byte(givenSecret)) {
		t.Errorf("the file with the password is not what it was: %v", err)
	}
}

// uncompressed is what is in a file of gzip, as far as it can be read.
func uncompressed(file []byte) []byte {
	z, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		return nil
	}
	text, _ := io.ReadAll(z) // it may be torn
	return text
}
