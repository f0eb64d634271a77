package redfish_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/rackstage/provision/lab/redfish"
)

// TestEveryLinkLeadsSomewhere walks the whole service from its root.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	c := start(t, redfish.Options{Systems: []redfish.System{{ID: "System.Embedded.1"}, {ID: "437XR1138R2"}}})
	seen := map[string]bool{}
	var visit func(path string)
	visit = func(path string) {
		path, _, _ = strings.Cut(path, "#")
		if seen[path] || path == "/redfish/v1/EventService/SSE" {
			return
		}
		seen[path] = true
		o := c.get(path)
		if got, _ := o["@odata.id"].(string); strings.TrimSuffix(got, "/") != strings.TrimSuffix(path, "/") {
			t.Errorf("%s says that it is %q", path, got)
		}
		if o["@odata.type"] == nil || o["Name"] == nil {
			t.Errorf("%s has no type or no name", path)
		}
		for _, p := range linksIn(o) {
			visit(p)
		}
	}
	visit("/redfish/v1/")
	for _, want := range []string{
		"/redfish/v1/Systems/437XR1138R2/Bios/Settings", "/redfish/v1/Systems/System.Embedded.1/Storage/Controller.1/Drives/Disk.0",
		"/redfish/v1/Managers/BMC/VirtualMedia/Cd-437XR1138R2", "/redfish/v1/Chassis/437XR1138R2/Thermal",
		"/redfish/v1/UpdateService/FirmwareInventory/BIOS", "/redfish/v1/Systems/437XR1138R2/LogServices/SEL/Entries",
		"/redfish/v1/AccountService/Accounts/2", "/redfish/v1/Registries/BiosAttributeRegistry.1.0",
	} {
		if !seen[want] {
			t.Errorf("no link leads to %s", want)
		}
	}
}

// linksIn finds the links to other resources, wherever they stand.
func linksIn(v any) []string {
	var found []string
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			found = append(found, linksIn(e)...)
		}
	case map[string]any:
		for name, e := range v {
			if s, ok := e.(string); ok && (name == "@odata.id" || name == "@Redfish.ActionInfo") {
				found = append(found, s)
			}
			found = append(found, linksIn(e)...)
		}
	}
	slices.Sort(found)
	return found
}

func TestWhoMayAsk(t *testing.T) {
	tests := map[string]struct {
		faults redfish.Faults
		method string
		path   string
		user   string
		want   int
	}{
		"anybody sees the root":                   {redfish.Faults{}, "GET", "/redfish/v1/", "", 200},
		"anybody sees the versions":               {redfish.Faults{}, "GET", "/redfish", "", 200},
		"nobody sees a system without an account": {redfish.Faults{}, "GET", "/redfish/v1/Systems/1", "", 401},
		"nobody sees the sessions":                {redfish.Faults{}, "GET", "/redfish/v1/SessionService/Sessions", "", 401},
		"Basic auth":                              {redfish.Faults{}, "GET", "/redfish/v1/Systems/1", "admin:Secret123Secret1", 200},
		"a wrong password":                        {redfish.Faults{}, "GET", "/redfish/v1/Systems/1", "admin:secret", 401},
		"an unknown user":                         {redfish.Faults{}, "GET", "/redfish/v1/Systems/1", "root:Secret123Secret1", 401},
		"a service without Basic auth":            {redfish.Faults{NoBasic: true}, "GET", "/redfish/v1/Systems/1", "admin:Secret123Secret1", 401},
		"a service without sessions":              {redfish.Faults{BasicOnly: true}, "POST", "/redfish/v1/SessionService/Sessions", "", 404},
		"a system that is not there":              {redfish.Faults{}, "GET", "/redfish/v1/Systems/2", "admin:Secret123Secret1", 404},
		"an address that is not there":            {redfish.Faults{}, "GET", "/redfish/v1/Toaster", "admin:Secret123Secret1", 404},
		"a method that is not there":              {redfish.Faults{}, "DELETE", "/redfish/v1/Systems/1", "admin:Secret123Secret1", 405},
		"a service without logs":                  {redfish.Faults{NoLogs: true}, "GET", "/redfish/v1/Systems/1/LogServices", "admin:Secret123Secret1", 404},
		"a service without accounts":              {redfish.Faults{NoAccounts: true}, "GET", "/redfish/v1/AccountService", "admin:Secret123Secret1", 404},
		"a path may end in a slash":               {redfish.Faults{}, "GET", "/redfish/v1/Systems/1/", "admin:Secret123Secret1", 200},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := start(t, redfish.Options{Faults: tt.faults})
			c.basic = false
			r, err := http.NewRequestWithContext(t.Context(), tt.method, "https://"+c.v.Addr()+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if user, password, ok := strings.Cut(tt.user, ":"); ok {
				r.SetBasicAuth(user, password)
			}
			answer, err := c.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.StatusCode != tt.want {
				t.Errorf("status %d, want %d", answer.StatusCode, tt.want)
			}
		})
	}
}

func TestASessionLastsUntilItIsDeleted(t *testing.T) {
	c := start(t, redfish.Options{Faults: redfish.Faults{Sessions: 2}})
	c.basic = false
	login := func(want int) (token, location string) {
		t.Helper()
		r, _ := c.do("POST", "/redfish/v1/SessionService/Sessions", object{"UserName": "admin", "Password": "Secret123Secret1"})
		if r.StatusCode != want {
			t.Fatalf("login: status %d, want %d", r.StatusCode, want)
		}
		return r.Header.Get("X-Auth-Token"), r.Header.Get("Location")
	}
	c.want(401, "POST", "/redfish/v1/SessionService/Sessions", object{"UserName": "admin", "Password": "wrong"})
	token, location := login(201)
	login(201)
	login(503) // the limit
	c.token = token
	c.get("/redfish/v1/Systems/1")
	c.get(location)
	c.want(204, "DELETE", location, nil)
	c.want(401, "GET", "/redfish/v1/Systems/1", nil)
	c.token = ""
	login(201)
	if n := c.v.Service.Sessions(); n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
	if got := c.v.Service.Counts(); got.Logins != 3 || got.Refused != 2 {
		t.Errorf("counts %+v, want 3 logins and 2 refusals", got)
	}
}

func TestAChangeMayNeedTheTagOfWhatItChanges(t *testing.T) {
	c, m := memory(t, redfish.Faults{NeedsETag: true})
	change := object{"Boot": object{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}}
	r, o := c.do("GET", "/redfish/v1/Systems/1", nil)
	etag := r.Header.Get("ETag")
	if etag == "" || o["@odata.etag"] != etag {
		t.Fatalf("the tag is %q in the header and %q in the body", etag, o["@odata.etag"])
	}
	c.want(428, "PATCH", "/redfish/v1/Systems/1", change)
	c.header = map[string]string{"If-Match": `"0"`}
	c.want(412, "PATCH", "/redfish/v1/Systems/1", change)
	c.header = map[string]string{"If-Match": etag}
	c.want(200, "PATCH", "/redfish/v1/Systems/1", change)
	c.header = map[string]string{"If-None-Match": etag}
	c.want(200, "GET", "/redfish/v1/Systems/1", nil) // it has changed
	if b, _ := m.Boot(t.Context()); b.Target != "Pxe" {
		t.Errorf("the override is %+v", b)
	}
}
