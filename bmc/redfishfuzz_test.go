package bmc_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
	"github.com/rackstage/provision/lab/redfish"
)

// A hostile service answers whatever the fuzzer thought of, by the path that is
// asked for.
type hostile struct {
	mu                       sync.Mutex
	root, collection, system string
	status                   int
	location                 string
}

func (h *hostile) say(root, collection, system string, status int, location string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.root, h.collection, h.system, h.status, h.location = root, collection, system, status, location
}

// ServeHTTP implements http.Handler.
func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.location != "" {
		w.Header()["Location"] = []string{h.location}
		w.Header()["Etag"] = []string{h.location}
		w.Header()["X-Auth-Token"] = []string{h.location}
	}
	body := h.system
	switch path := strings.TrimSuffix(r.URL.Path, "/"); {
	case path == "/redfish/v1":
		body = h.root
	case strings.HasSuffix(path, "Systems"), strings.HasSuffix(path, "Accounts"):
		body = h.collection
	}
	w.WriteHeader(h.status)
	_, _ = io.WriteString(w, body)
}

// spoken is what a service of ours says to somebody who may know.
func spoken(f *testing.F, path string) string {
	f.Helper()
	s := redfish.New(redfish.Options{})
	defer s.Close()
	r := httptest.NewRequestWithContext(f.Context(), http.MethodGet, path, http.NoBody)
	r.SetBasicAuth("admin", "Secret123Secret1")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Body.String()
}

func FuzzWhatARedfishServiceSaysBreaksNothing(f *testing.F) {
	root, collection, system := spoken(f, "/redfish/v1/"), spoken(f, "/redfish/v1/Systems"), spoken(f, "/redfish/v1/Systems/1")
	add := func(root, collection, system string, status uint16, location string) {
		for _, basic := range []bool{true, false} {
			f.Add(root, collection, system, status, location, basic)
		}
	}
	add(root, collection, system, 0, "")
	add(root, collection, system, 1, "/redfish/v1/SessionService/Sessions/1")
	add(root, collection, `{"PowerState":"On","Boot":{"BootSourceOverrideTarget":"UefiHttp","BootSourceOverrideEnabled":"Once","HttpBootUri":"http://10.0.0.1/x"}}`, 0, "")
	add(root, `{"Members":[{"@odata.id":"/redfish/v1/Systems/1"},{"@odata.id":"//elsewhere/Systems"}],"Members@odata.nextLink":"/redfish/v1/Systems"}`, system, 0, "")
	add(root, `{"Members":[{"@odata.id":"https://elsewhere/redfish/v1/Systems/1"}]}`, `{"@odata.id":7}`, 0, "https://elsewhere/")
	add(root, collection, `{"Actions":{"#ComputerSystem.Reset":{"target":"//elsewhere/reset","@Redfish.ActionInfo":"/redfish/v1/Systems"}}}`, 0, "\x00")
	add(`{"error":{"message":"Secret123Secret1 is not welcome"}}`, "[]", "null", 200, "/")
	add("{}", "{}", "{}", 303, "loop")
	add(root, collection, system, 107, "https://192.0.2.1/")
	add(strings.Repeat(`{"Systems":`, 1000), strings.Repeat("[", 20000), `{"PowerState":{"a":[1,2,{}]}}`, 0, "")

	add(root, `{"Members":[{"@odata.id":"/redfish/v1/AccountService/Accounts/1"},{"@odata.id":"/redfish/v1/AccountService/Accounts/2"}]}`,
		`{"UserName":"","RoleId":"None","Enabled":"no","PasswordChangeRequired":true,"MinPasswordLength":-1,"MaxPasswordLength":"many","Accounts":{"@odata.id":"//elsewhere"}}`, 0, "")
	add(root, collection, `{"error":{"@Message.ExtendedInfo":[{"MessageId":"Base.1.18.PasswordChangeRequired","MessageArgs":["//elsewhere/Accounts/1",7]}]}}`, 203, "\"tag\"")

	h := &hostile{}
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	f.Cleanup(server.Close)
	sum := sha256.Sum256(server.Certificate().Raw)
	target := bmc.Target{
		Node: "n1", Driver: fleet.DriverRedfish, Address: strings.TrimPrefix(server.URL, "https://"), Username: "admin", Password: "Secret123Secret1",
		Pin: hex.EncodeToString(sum[:]), UUID: "7ab00077-0000-4000-9000-000000000001",
	}
	f.Fuzz(func(t *testing.T, root, collection, system string, status uint16, location string, basic bool) {
		h.say(root, collection, system, 200+int(status)%400, location)
		target.BasicAuth = basic
		converse(t, target)
	})
}

// converse asks and orders what there is to be asked and ordered.
func converse(t *testing.T, target bmc.Target) {
	t.Helper()
	const wait = 500 * time.Millisecond
	c := bmc.New(bmc.Options{Interval: time.Microsecond, Timeout: wait, Settle: 5 * time.Millisecond})
	began := time.Now()
	_, probe := c.Probe(t.Context(), target)
	state, power := c.Power(t.Context(), target)
	boot := c.SetNextBoot(t.Context(), target, bmc.Boot{Device: bmc.HTTP, Mode: bmc.UEFI, Once: true, URL: "http://10.0.0.1/boot.efi"})
	on := c.PowerOn(t.Context(), target)
	made := c.MakeAccount(t.Context(), target, "provision", nextPassword)
	set := c.ChangePassword(t.Context(), target, nextPassword)
	if power == nil && state != fleet.PowerIsOn && state != fleet.PowerIsOff && state != fleet.PowerIsUnknown {
		t.Errorf("the power is %q", state)
	}
	if took := time.Since(began); took > 40*wait {
		t.Errorf("it took %s", took)
	}
	for _, err := range []error{probe, power, boot, on, made, set} {
		if err != nil && (strings.Contains(err.Error(), nextPassword) || strings.Contains(err.Error(), string(target.Password)) || fleet.KindOf(err) == fleet.Internal) {
			t.Errorf("%v (%s)", err, fleet.KindOf(err))
		}
	}
}
