package redfish_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/rackstage/provision/lab/redfish"
)

func TestAccountsAreMadeInTheWayOfTheService(t *testing.T) {
	const all = "/redfish/v1/AccountService/Accounts"
	in := object{"UserName": "provision", "Password": "N3wPassw0rdN3wPw", "RoleId": "Operator", "Enabled": true}
	tests := map[string]struct {
		slots bool
		make  func(c *caller) string
	}{
		"by POST": {false, func(c *caller) string {
			r, _ := c.do("POST", all, in)
			if r.StatusCode != http.StatusCreated {
				c.t.Fatalf("status %d", r.StatusCode)
			}
			return r.Header.Get("Location")
		}},
		"by PATCH of an empty slot": {true, func(c *caller) string {
			c.want(405, "POST", all, in)
			c.want(200, "PATCH", all+"/5", in)
			return all + "/5"
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := start(t, redfish.Options{Slots: tt.slots})
			at := tt.make(c)
			login := func(status int, password string) {
				t.Helper()
				c.want(status, "POST", "/redfish/v1/SessionService/Sessions", object{"UserName": "provision", "Password": password})
			}
			login(201, "N3wPassw0rdN3wPw")
			c.want(400, "PATCH", all+"/2", object{"UserName": "provision"}) // there is one of that name
			c.want(400, "PATCH", at, object{"Password": "short"})
			c.want(400, "PATCH", at, object{"Password": strings.Repeat("long", 6)})
			c.want(200, "PATCH", at, object{"Password": "An0therPassw0rd!"})
			login(401, "N3wPassw0rdN3wPw")
			login(201, "An0therPassw0rd!")
			if o := c.get(at); o["Password"] != nil || o["UserName"] != "provision" {
				t.Errorf("the account shows %v", o)
			}
			c.want(200, "PATCH", at, object{"Enabled": false})
			login(401, "An0therPassw0rd!")
			if !tt.slots {
				c.want(204, "DELETE", at, nil)
				c.want(404, "GET", at, nil)
			}
		})
	}
}

func TestFirmwareIsUpdatedByATask(t *testing.T) {
	c := start(t, redfish.Options{Task: 1})
	const service = "/redfish/v1/UpdateService"
	update := func(status int, in object) string {
		t.Helper()
		r, o := c.do("POST", service+"/Actions/UpdateService.SimpleUpdate", in)
		if r.StatusCode != status {
			t.Errorf("status %d, want %d: %v", r.StatusCode, status, o)
		}
		return r.Header.Get("Location")
	}
	update(400, object{"ImageURI": "bios-2.1.bin"})
	update(400, object{"ImageURI": "http://10.0.0.1/toaster-2.1.bin"})
	task := update(202, object{"ImageURI": "http://10.0.0.1/bios-2.1.bin"})
	eventually(t, "the task", func() bool { return c.get(task)["TaskState"] == "Completed" })
	if got := c.get(service + "/FirmwareInventory/BIOS")["Version"]; got != "2.1" {
		t.Errorf("the version is %v", got)
	}
	if got := c.get(sys)["BiosVersion"]; got != "2.1" {
		t.Errorf("the system's BIOS version is %v", got)
	}
	c.v.Service.SetFaults(redfish.Faults{FetchesURLs: true})
	task = update(202, object{"ImageURI": "http://127.0.0.1:1/x-3.0.bin", "Targets": []string{service + "/FirmwareInventory/BMC"}})
	eventually(t, "the task", func() bool { return c.get(task)["TaskState"] == "Exception" })
	if got := c.get(service + "/FirmwareInventory/BMC")["Version"]; got != "1.0" {
		t.Errorf("after an update that failed the version is %v", got)
	}
}

func TestWhatHappensIsLoggedAndTold(t *testing.T) {
	c, _ := memory(t, redfish.Faults{})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+c.v.Addr()+"/redfish/v1/EventService/SSE", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("admin", "Secret123Secret1")
	answer, err := c.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	lines.Scan() // the greeting: from now on we are heard
	c.reset(204, "On")
	c.v.Service.Record("Critical", "The lid is open.")
	for _, want := range []string{"power on", "The lid is open."} {
		for lines.Scan() && !strings.HasPrefix(lines.Text(), "data:") {
		}
		if !strings.Contains(lines.Text(), want) {
			t.Errorf("told was %q, want %q", lines.Text(), want)
		}
	}
	const log = sys + "/LogServices/SEL"
	entries, _ := c.get(log + "/Entries")["Members"].([]any)
	if len(entries) != 3 || dig(entries[0], "Message") != "The lid is open." || dig(entries[0], "Severity") != "Critical" {
		t.Errorf("the log is %v", entries)
	}
	c.want(204, "POST", log+"/Actions/LogService.ClearLog", object{})
	if n := c.get(log + "/Entries")["Members@odata.count"]; n != 0.0 {
		t.Errorf("%v entries in a log that was cleared", n)
	}
}

func TestTheCertificateCanBeReplaced(t *testing.T) {
	c := start(t, redfish.Options{})
	before := c.v.Service.Leaf()
	if before.Subject.CommonName != "127.0.0.1" || before.CheckSignature(before.SignatureAlgorithm, before.RawTBSCertificate, before.Signature) != nil {
		t.Errorf("the first certificate is of %s and not signed by itself", before.Subject)
	}
	next, err := redfish.Certificate("bmc.example")
	if err != nil {
		t.Fatal(err)
	}
	pem, err := redfish.EncodePEM(next)
	if err != nil {
		t.Fatal(err)
	}
	c.want(400, "POST", "/redfish/v1/CertificateService/Actions/CertificateService.ReplaceCertificate", object{"CertificateString": "x"})
	c.want(204, "POST", "/redfish/v1/CertificateService/Actions/CertificateService.ReplaceCertificate", object{"CertificateString": string(pem), "CertificateType": "PEM"})
	c.client.CloseIdleConnections()
	r, _ := c.do("GET", "/redfish/v1/", nil)
	if got := r.TLS.PeerCertificates[0].Subject.CommonName; got != "bmc.example" {
		t.Errorf("the certificate is still of %s", got)
	}
}

func TestAManagerThatRestartsForgetsItsSessions(t *testing.T) {
	c := start(t, redfish.Options{Manager: "iDRAC.Embedded.1"})
	c.want(201, "POST", "/redfish/v1/SessionService/Sessions", object{"UserName": "admin", "Password": "Secret123Secret1"})
	const m = "/redfish/v1/Managers/iDRAC.Embedded.1"
	c.want(400, "POST", m+"/Actions/Manager.Reset", object{"ResetType": "On"})
	c.want(204, "POST", m+"/Actions/Manager.Reset", object{"ResetType": "GracefulRestart"})
	if n := c.v.Service.Sessions(); n != 0 {
		t.Errorf("%d sessions after a restart", n)
	}
	c.want(200, "PATCH", m+"/NetworkProtocol", object{"IPMI": object{"ProtocolEnabled": false}})
	if o := c.get(m + "/NetworkProtocol"); dig(o, "IPMI", "ProtocolEnabled") != false || dig(o, "IPMI", "Port") != 623.0 {
		t.Errorf("IPMI is %v", o["IPMI"])
	}
	c.want(400, "PATCH", m+"/NetworkProtocol", object{"Gopher": object{"ProtocolEnabled": true}})
}

func TestSensorsAreTheSameInOldAndNewSchemas(t *testing.T) {
	c := start(t, redfish.Options{Systems: []redfish.System{{ID: "42", Facts: redfish.Facts{Sensors: []redfish.Sensor{
		{Name: "Inlet Temp", Kind: "Temperature", Reading: 55, Upper: 42},
		{Name: "Fan1", Kind: "Fan", Absent: true},
		{Name: "System Power", Kind: "Power", Reading: 301},
	}}}}})
	const p = "/redfish/v1/Chassis/42"
	temperatures, _ := c.get(p + "/Thermal")["Temperatures"].([]any)
	if len(temperatures) != 1 || dig(temperatures[0], "ReadingCelsius") != 55.0 || dig(temperatures[0], "Status", "Health") != "Critical" {
		t.Errorf("temperatures: %v", temperatures)
	}
	fans, _ := c.get(p + "/Thermal")["Fans"].([]any)
	if len(fans) != 1 || dig(fans[0], "Reading") != nil || dig(fans[0], "Status", "State") != "Absent" {
		t.Errorf("fans: %v", fans)
	}
	control, _ := c.get(p + "/Power")["PowerControl"].([]any)
	if len(control) != 1 || dig(control[0], "PowerConsumedWatts") != 301.0 {
		t.Errorf("power: %v", control)
	}
	if o := c.get(p + "/Sensors/InletTemp"); o["Reading"] != 55.0 || dig(o, "Status", "Health") != "Critical" {
		t.Errorf("sensor: %v", o)
	}
	if o := c.get(p + "/EnvironmentMetrics"); dig(o, "PowerWatts", "Reading") != 301.0 || dig(o, "TemperatureCelsius", "Reading") != 55.0 {
		t.Errorf("environment: %v", o)
	}
}
