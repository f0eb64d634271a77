package bmc

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/rackstage/provision/fleet"
)

func TestWhatABMCRepeatsOfOurPasswordIsNotSeen(t *testing.T) {
	target := Target{Driver: fleet.DriverDell, Username: "admin", Password: `Tr0ub4&dor"<3`}
	basic := base64.StdEncoding.EncodeToString([]byte("admin:" + string(target.Password)))
	for name, said := range map[string]string{
		"as it is":               `{"error": {"message": "no such value Tr0ub4&dor\"<3"}}`,
		"in other letters":       `{"error": {"message": "no such value Tr0ub4\u0026dor\u0022\u003c3"}}`,
		"in the extended words":  `{"error": {"message": "no", "@Message.ExtendedInfo": [{"Message": "no such value Tr0ub4&dor\"<3"}]}}`,
		"as a form has it":       `{"error": {"message": "username=admin&password=Tr0ub4%26dor%22%3C3"}}`,
		"as a page has it":       `{"error": {"message": "<b>Tr0ub4&amp;dor&#34;&lt;3</b>"}}`,
		"with the whole request": `{"error": {"message": "Authorization: Basic ` + basic + `"}}`,
		"at the end of much":     `{"error": {"message": "` + strings.Repeat("x", 250) + `Tr0ub4&dor\"<3"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			seen := newStatusError(400, []byte(said), target.veil).Error()
			if strings.Contains(seen, "Tr0ub4") || strings.Contains(seen, basic[:8]) || !strings.Contains(seen, hidden[:1]) {
				t.Errorf("what is seen is %q", seen)
			}
		})
	}
	if got := (Target{Username: "admin"}).veil("user admin"); got != "user admin" {
		t.Errorf("without a password, %q is seen", got)
	}
}
