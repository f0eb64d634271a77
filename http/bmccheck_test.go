package http

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

func TestACheckIsBegunAndThenRead(t *testing.T) {
	s, _ := newTestServer(t)
	s.o.Profile = func(n fleet.Node, c fleet.BMCCheck) string { return string(n.ID) + " " + c.Model.Firmware }
	const path = "/api/v1/nodes/n-0000000001/bmc/check"
	begun := ask(s, "POST", path, "operator", `{"power":true}`)
	var got api.BMCCheck
	if err := json.Unmarshal(begun.Body.Bytes(), &got); err != nil || begun.Code != http.StatusOK || !got.Running || !got.Power || got.Profile != "" {
		t.Errorf("begun: status %d, %s, %v", begun.Code, begun.Body, err)
	}
	read := ask(s, "GET", path+"?wait=1s", "viewer", "")
	got = api.BMCCheck{}
	if err := json.Unmarshal(read.Body.Bytes(), &got); err != nil || read.Code != http.StatusOK {
		t.Fatalf("read: status %d, %s, %v", read.Code, read.Body, err)
	}
	want := api.BMCCheck{
		Node: got.Node, Driver: "redfish", Vendor: "Contoso", Product: "BMC 3000", Firmware: "1.7", Profile: "n-0000000001 1.7",
		Results: []api.BMCResult{
			{Check: "sign in", Grade: "ok", Detail: "as admin", Took: 1.5},
			{Check: "boot device", Grade: "warning", Detail: "once is shown as always", Fix: "nothing: keep its profile"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if bad := ask(s, "GET", path+"?wait=soon", "viewer", ""); bad.Code != http.StatusUnprocessableEntity {
		t.Errorf("a wait that is none: status %d", bad.Code)
	}
}
