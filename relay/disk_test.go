package relay

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/internal/netns"
)

// full is the state folder of a relay whose disk takes nothing, until room is made.
func full(t *testing.T) (dir string, room func()) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "later")
	return dir, func() {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatAFullDiskDidNotTakeIsKeptWhenItHasRoom(t *testing.T) {
	dir, room := full(t)
	synctest.Test(t, func(t *testing.T) {
		r := &Relay{o: alone(t).o, keeping: make(chan kept, 1)}
		r.cache = newCache(t, t.TempDir(), leastCache)
		r.o.StateDir, r.o.Now = dir, time.Now
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go r.keepSnapshots(ctx)
		r.keeping <- kept{Tag: "1"}
		synctest.Wait()
		if got := r.troublesNow(); len(got) != 1 || got[0].Code != fleet.CodeRelayDisk {
			t.Errorf("reported is %v, want that the disk takes nothing", got)
		}
		room()
		<-time.After(keepEvery)
		synctest.Wait()
		if got, err := readSnapshot(dir); err != nil || got.Tag != "1" {
			t.Errorf("kept is %q, %v", got.Tag, err)
		}
		if got := r.troublesNow(); len(got) != 0 {
			t.Errorf("reported is %v after all was kept", got)
		}
	})
}

func TestWhatIsDamagedIsNotWhatTheServerKnows(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, snapshotFile), []byte(`{"tag":"1","snapshot":{"name":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readSnapshot(dir); err == nil || got.Tag != "" {
		t.Errorf("read is %+v, %v", got, err)
	}
}

// signer is the link to a server that answers so.
func signer(t *testing.T, answer func(w http.ResponseWriter)) *link {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w)
	}))
	t.Cleanup(server.Close)
	id := &identity{Name: "west", Server: "https://127.0.0.1:1", Pin: "sha256:" + strings.Repeat("0", 64), dir: t.TempDir()}
	var err error
	if id.Key, err = newKey(); err != nil {
		t.Fatal(err)
	}
	l, err := newLink(id, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.base, l.control = server.URL, server.Client()
	return l
}

// A certificate that the disk does not take is used, and kept later.
func TestACertificateIsUsedAlsoWhenTheDiskIsFull(t *testing.T) {
	var signed string
	l := signer(t, func(w http.ResponseWriter) { _ = json.NewEncoder(w).Encode(api.RelayRenewReply{Certificate: signed}) })
	signed = selfSigned(t, l.id.Key)
	dir, room := full(t)
	l.id.dir = dir
	if err := l.renew(t.Context()); err == nil {
		t.Error("nothing is said of the disk")
	}
	if l.cert.Load() == nil || l.id.Certificate != signed {
		t.Error("the certificate is not used")
	}
	if err := l.id.retry(); err == nil {
		t.Error("it counts as kept")
	}
	room()
	if err := l.id.retry(); err != nil {
		t.Error(err)
	}
	if id, err := readIdentity(dir); err != nil || !id.enrolled() || id.Certificate != signed {
		t.Errorf("kept is %+v, %v", id, err)
	}
}

// selfSigned is a certificate of a key.
func selfSigned(t *testing.T, keyPEM string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(keyPEM))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.(crypto.Signer).Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestACertificateThatIsNoneIsNotKept(t *testing.T) {
	l := signer(t, func(w http.ResponseWriter) { _ = json.NewEncoder(w).Encode(api.RelayRenewReply{Certificate: "junk"}) })
	if err := l.renew(t.Context()); err == nil || l.id.Certificate != "" {
		t.Errorf("%q was taken on, %v", l.id.Certificate, err)
	}
}

// The server takes the token once more from who has the same key: it is kept
// before the token is sent.
func TestARelayWhoseAnswerGotLostAsksAgainWithItsKey(t *testing.T) {
	o := Options{Server: "https://127.0.0.1:1", Token: "secret." + strings.Repeat("0", 64), StateDir: t.TempDir(), Interfaces: []string{"lo"}}
	var keys [2]string
	for i := range keys {
		if _, err := Open(t.Context(), o); err == nil {
			t.Fatal("it has enrolled at a server that is not there")
		}
		id, err := readIdentity(o.StateDir)
		if err != nil || id == nil || id.enrolled() {
			t.Fatalf("kept is %+v, %v; want a key", id, err)
		}
		keys[i] = id.Key
	}
	if keys[0] != keys[1] || keys[0] == "" {
		t.Error("it asks again with another key")
	}
}

// A large site comes slowly: the server hears of the relay meanwhile.
func TestWhatTheServerKnowsDoesNotHoldTheBeats(t *testing.T) {
	asked, ended := make(chan bool), make(chan bool)
	r := behind(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == api.PathRelaySnapshot {
			asked <- true
			<-ended
		}
		_ = json.NewEncoder(w).Encode(struct{}{})
	})
	r.wake = make(chan struct{}, 1)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan bool)
	go func() { r.keepLearning(ctx); close(done) }()
	for range 3 {
		r.learned = time.Time{}
		if err := r.beat(ctx); err != nil {
			t.Error(err)
		}
	}
	<-asked // and it has not answered
	stop()
	close(ended)
	<-done
}

// TestAServerThatTellsOtherPortsIsBelieved moves the boot listener.
func TestAServerThatTellsOtherPortsIsBelieved(t *testing.T) {
	if !netns.Inside(t) {
		return
	}
	ip(t, "link", "add", "eth1", "type", "veth", "peer", "name", "nic0")
	ip(t, "link", "set", "eth1", "up")
	ip(t, "address", "add", "10.78.0.1/24", "dev", "eth1")
	r := relayBehind(t)
	defer run(t, r)()
	await(t, "open at the first port", func() bool { return opensAt(t, "10.78.0.1", "80") })
	told := farSnapshot()
	told.BootPort = 8080
	if err := r.learn(told, "2"); err != nil {
		t.Fatal(err)
	}
	await(t, "open at the other port", func() bool { return opensAt(t, "10.78.0.1", "8080") })
	if opensAt(t, "10.78.0.1", "80") {
		t.Error("the first port is open still")
	}
}
