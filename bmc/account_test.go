package bmc_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	ipmi "github.com/bougou/go-ipmi/pkg/bmc"
	"github.com/bougou/go-ipmi/pkg/hal/mock"

	"github.com/rackstage/provision/bmc"
	"github.com/rackstage/provision/fleet"
)

const nextPassword = "Next1234Password"

// accounts is a Redfish service of one machine, as far as signing in and
// changing passwords goes.
type accounts struct {
	mu        sync.Mutex
	passwords map[string]string
	refuses   string // passwords with this in them, and repeats them
	tag       int    // of the accounts: changes need the one that was read last
}

// startAccounts starts the service and returns how to sign in to it.
func startAccounts(t *testing.T) (bmc.Target, *accounts) {
	t.Helper()
	a := &accounts{passwords: map[string]string{"root": "calvin"}, tag: 1}
	srv := httptest.NewTLSServer(a)
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	target := bmc.Target{Address: u.Host, Username: "root", Password: "calvin"}
	found, err := quick().Probe(t.Context(), target)
	if err != nil || found.Driver != fleet.DriverRedfish {
		t.Fatalf("Probe = %+v, %v", found, err)
	}
	return found.Use(target), a
}

func quick() *bmc.Controller {
	return bmc.New(bmc.Options{Interval: time.Millisecond, Settle: 8 * time.Second})
}

// ServeHTTP answers what is asked for with a login, and the root without.
func (a *accounts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	path := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/redfish/v1"), "/")
	var in map[string]string
	_ = json.NewDecoder(r.Body).Decode(&in) // most have none
	user, password, basic := r.BasicAuth()
	in2 := path == "/SessionService/Sessions" && r.Method == http.MethodPost
	if in2 {
		user, password, basic = in["UserName"], in["Password"], true
	}
	if path != "" && r.Header.Get("X-Auth-Token") == "" && (!basic || a.passwords[user] != password || password == "") {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch {
	case in2:
		w.Header().Set("X-Auth-Token", "t")
		w.WriteHeader(http.StatusCreated)
	case path == "/AccountService/Accounts/3" && r.Method == http.MethodPatch:
		a.patch(w, r, in["Password"])
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprint(a.tag)))
		fmt.Fprint(w, pages[path])
	}
}

var pages = map[string]string{
	"":                                `{"RedfishVersion": "1.6.0", "Vendor": "Contoso", "Systems": {"@odata.id": "/redfish/v1/Systems"}}`,
	"/Systems":                        `{"Members": [{"@odata.id": "/redfish/v1/Systems/1"}]}`,
	"/Systems/1":                      `{"@odata.id": "/redfish/v1/Systems/1", "PowerState": "On", "SerialNumber": "C0FFEE", "UUID": "11111111-0000-4000-8000-000000000001", "Manufacturer": "Contoso", "Model": "R1", "EthernetInterfaces": {"@odata.id": "/redfish/v1/Systems/1/EthernetInterfaces"}}`,
	"/Systems/1/EthernetInterfaces":   `{"Members": [{"@odata.id": "/redfish/v1/Systems/1/EthernetInterfaces/1"}]}`,
	"/Systems/1/EthernetInterfaces/1": `{"MACAddress": "52:54:00:77:00:01"}`,
	"/AccountService/Accounts":        `{"Members": [{"@odata.id": "/redfish/v1/AccountService/Accounts/1"}, {"@odata.id": "/redfish/v1/AccountService/Accounts/3"}]}`,
	"/AccountService/Accounts/1":      `{"UserName": ""}`,
	"/AccountService/Accounts/3":      `{"UserName": "root"}`,
}

func (a *accounts) patch(w http.ResponseWriter, r *http.Request, password string) {
	switch {
	case r.Header.Get("If-Match") != fmt.Sprintf("%q", fmt.Sprint(a.tag)):
		w.WriteHeader(http.StatusPreconditionFailed)
	case a.refuses != "" && strings.Contains(password, a.refuses):
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error": {"message": "The value '%s' for the property Password is of a different format"}}`, password)
	default:
		a.passwords["root"] = password
		a.tag++
		w.WriteHeader(http.StatusNoContent)
	}
}

// changers are BMCs of each kind with an administrator.
func changers(t *testing.T) map[string]bmc.Target {
	t.Helper()
	redfish, _ := startAccounts(t)
	reference, _, _ := startReferenceWith(t, func(*mock.HAL) {}, func(b *ipmi.BMC) {
		err := b.Users.Update(2, func(u *ipmi.User) error {
			u.ChannelAccess[1] = ipmi.UserChannelAccess{MaxPrivilege: ipmi.PrivilegeLevelAdministrator, Enabled: true}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	return map[string]bmc.Target{"ipmi_sim": startSim(t), "the reference BMC": reference, "Redfish": redfish}
}

func TestAPasswordIsChangedOverTheNetwork(t *testing.T) {
	t.Parallel()
	for name, target := range changers(t) {
		t.Run(name, func(t *testing.T) {
			c := quick()
			if err := c.ChangePassword(t.Context(), target, nextPassword); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Power(t.Context(), target); !errors.Is(err, bmc.ErrLogin) {
				t.Errorf("with the old password: %v, want %v", err, bmc.ErrLogin)
			}
			target.Password = nextPassword
			if _, err := c.Power(t.Context(), target); err != nil {
				t.Errorf("with the new password: %v", err)
			}
		})
	}
}

func TestWhoMayNotChangePasswordsIsTold(t *testing.T) {
	t.Parallel()
	target, _ := startReference(t) // an operator
	err := quick().ChangePassword(t.Context(), target, nextPassword)
	if !errors.Is(err, bmc.ErrDenied) || fleet.KindOf(err) != fleet.Denied {
		t.Errorf("ChangePassword = %v, want %v", err, bmc.ErrDenied)
	}
	if _, err := quick().Power(t.Context(), target); err != nil {
		t.Errorf("the password is another now: %v", err)
	}
}

func TestARefusedPasswordIsNamedAndNotRepeated(t *testing.T) {
	t.Parallel()
	target, a := startAccounts(t)
	a.refuses = "Next"
	err := quick().ChangePassword(t.Context(), target, nextPassword)
	if !errors.Is(err, bmc.ErrShape) || fleet.CodeOf(err) != fleet.CodeBMCShape || fleet.HintOf(err) == "" {
		t.Errorf("ChangePassword = %v (%s), want %v and what to do", err, fleet.CodeOf(err), bmc.ErrShape)
	}
	if strings.Contains(fmt.Sprintf("%v %+v %s", err, err, fleet.HintOf(err)), nextPassword) {
		t.Errorf("the error shows the password: %v", err)
	}
	if err := quick().ChangePassword(t.Context(), target, "This password is far too long"); fleet.KindOf(err) != fleet.Invalid {
		t.Errorf("a long password: %v, want an invalid input", err)
	}
	target.Username = "nobody"
	target.BasicAuth = false
	if err := quick().ChangePassword(t.Context(), target, nextPassword); !errors.Is(err, bmc.ErrLogin) {
		t.Errorf("an unknown user: %v, want %v", err, bmc.ErrLogin)
	}
}

func TestWhatIsWrongWithABMCIsSeenWithoutSigningIn(t *testing.T) {
	t.Parallel()
	reference, _ := startReference(t) // whose user 1 is enabled and has no password
	closed, _, _ := startReferenceWith(t, func(*mock.HAL) {}, func(b *ipmi.BMC) {
		if err := b.Users.Update(1, func(u *ipmi.User) error { u.Enabled = false; return nil }); err != nil {
			t.Fatal(err)
		}
	})
	redfish, _ := startAccounts(t)
	tests := map[string]struct {
		target bmc.Target
		want   []string
	}{
		"ipmi_sim has cipher suite 0":     {startSim(t), []string{fleet.CodeBMCCipherZero}},
		"a user without a name":           {reference, []string{fleet.CodeBMCAnonymous}},
		"all is well":                     {closed, nil},
		"Redfish is none of its business": {redfish, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.target.Password = "not used"
			found, err := quick().Look(t.Context(), tt.target)
			var got []string
			for _, f := range found {
				got = append(got, f.Code)
			}
			if err != nil || fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("Look = %v, %v, want %v", found, err, tt.want)
			}
		})
	}
}
