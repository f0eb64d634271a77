package bmc

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/gosnmp/gosnmp"

	"github.com/rackstage/provision/fleet"
)

// veiledTarget is a BMC whose password needs to be written in other letters wherever
// there are some to write it in.
func veiledTarget() Target {
	return Target{Node: "n1", Address: "10.0.9.14", Driver: fleet.DriverDell, Username: "admin", Password: `Tr0ub4&dor"<3`}
}

func TestWhatABMCRepeatsOfOurPasswordIsNotSeen(t *testing.T) {
	target := veiledTarget()
	basic := base64.StdEncoding.EncodeToString([]byte("admin:" + string(target.Password)))
	for name, said := range map[string]string{
		"as it is":               `{"error": {"message": "no such value Tr0ub4&dor\"<3"}}`,
		"in other letters":       `{"error": {"message": "no such value Tr0ub4\u0026dor\u0022\u003c3"}}`,
		"in the extended words":  `{"error": {"message": "no", "@Message.ExtendedInfo": [{"Message": "no such value Tr0ub4&dor\"<3"}]}}`,
		"as a form has it":       `{"error": {"message": "username=admin&password=Tr0ub4%26dor%22%3C3"}}`,
		"as a page has it":       `{"error": {"message": "<b>Tr0ub4&amp;dor&#34;&lt;3</b>"}}`,
		"with the whole request": `{"error": {"message": "Authorization: Basic ` + basic + `"}}`,
		"at the end of much":     `{"error": {"message": "` + strings.Repeat("x", 250) + `Tr0ub4&dor\"<3"}}`,
		"with dirt in it":        `{"error": {"message": "no such value Tr0\u001bub4&dor\u0000\"<3"}}`,
		"after very much":        `{"error": {"message": "` + strings.Repeat("x", 100_000) + `Tr0ub4&dor\"<3"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			seen := newStatusError(400, []byte(said), target.quote).Error()
			if strings.Contains(seen, "Tr0") || strings.Contains(seen, basic[:8]) || !strings.Contains(seen, hidden[:1]) && len(said) < 1000 {
				t.Errorf("what is seen is %q", seen)
			}
		})
	}
	if got := (Target{Username: "admin"}).newVeil().over("user admin"); got != "user admin" {
		t.Errorf("without a password, %q is seen", got)
	}
}

// However a BMC writes it, and as much of it as it has kept.
func TestAPasswordIsKnownInEverySpelling(t *testing.T) {
	target := veiledTarget()
	target.next, target.token = `Nächstes\Wort 7/8😀`, "3f2a9c0d-77aa-4b1e"
	both := []byte("admin:" + string(target.Password))
	other := Target{Username: "Ü", Password: "?>~~?>~~?>~~"} // whose Base64 has the letters that differ
	raw := []byte(other.Password)
	tests := map[string]struct {
		target Target
		said   string
	}{
		"plain":                               {target, `Tr0ub4&dor"<3`},
		"a page, with names":                  {target, `Tr0ub4&amp;dor&quot;&lt;3`},
		"a page, some of it":                  {target, `Tr0ub4&dor&quot;&lt;3`},
		"a page, with numbers":                {target, `Tr0ub4&#38;dor&#034;&#60;3`},
		"a page, with numbers of base 16":     {target, `Tr0ub4&#x26;dor&#X0022;&#x3C;3`},
		"a page in a page":                    {target, `Tr0ub4&amp;amp;dor&amp;quot;&amp;lt;3`},
		"a page, by who forgets semicolons":   {target, `Tr0ub4&ampdor&quot&lt3`},
		"a form, in small letters":            {target, `Tr0ub4%26dor%22%3c3`},
		"a form, in capitals":                 {target, `Tr0ub4%26dor%22%3C3`},
		"a form in a form":                    {target, `Tr0ub4%2526dor%2522%253C3`},
		"a form, of the whole":                {target, `%54%72%30%75%62%34%26%64%6f%72%22%3c%33`},
		"JSON, in small letters":              {target, `Tr0ub4\u0026dor\u0022\u003c3`},
		"JSON, in capitals":                   {target, `Tr0ub4\u0026dor\u0022\u003C3`},
		"JSON, in two ways":                   {target, `Tr0ub4&dor\"\u003c3`},
		"JSON in JSON":                        {target, `Tr0ub4&dor\\\"\\u003c3`},
		"a script":                            {target, `Tr0ub4\x26dor\x22\x3C3`},
		"a shell":                             {target, `Tr0ub4\&dor\"\<3`},
		"quoted-printable":                    {target, `Tr0ub4=26dor=22=3C3`},
		"in two ways at once":                 {target, `Tr0ub4&amp;dor\"%3C3`},
		"cut at 8":                            {target, `Tr0ub4&d`},
		"cut at 10, in other letters":         {target, `Tr0ub4&amp;dor`},
		"Base64":                              {target, base64.StdEncoding.EncodeToString([]byte(target.Password))},
		"Base64 without padding":              {target, base64.RawStdEncoding.EncodeToString([]byte(target.Password))},
		"Base64 of the login":                 {target, base64.StdEncoding.EncodeToString(both)},
		"Base64 of the login, cut":            {target, base64.StdEncoding.EncodeToString(both)[:20]},
		"Base64 of the login in a form":       {target, strings.ReplaceAll(base64.StdEncoding.EncodeToString(both), "=", "%3D")},
		"Base64 with letters that differ":     {other, base64.StdEncoding.EncodeToString(raw)},
		"Base64 for URLs":                     {other, base64.URLEncoding.EncodeToString(raw)},
		"Base64 for URLs, without padding":    {other, base64.RawURLEncoding.EncodeToString(raw)},
		"Base64 in a form":                    {other, strings.NewReplacer("+", "%2b", "/", "%2F").Replace(base64.StdEncoding.EncodeToString(raw))},
		"Base64 of the login for URLs":        {other, base64.RawURLEncoding.EncodeToString([]byte("Ü:" + string(raw)))},
		"the next one":                        {target, `Nächstes\Wort 7/8😀`},
		"the next one, in JSON":               {target, `N\u00e4chstes\\Wort 7\/8\ud83d\ude00`},
		"the next one, in a form":             {target, `N%C3%A4chstes%5CWort+7%2F8%F0%9F%98%80`},
		"the next one, in a page":             {target, `N&auml;chstes&bsol;Wort&#32;7&sol;8&#x1F600;`},
		"the next one, cut":                   {target, `Nächstes\Wort`},
		"the token":                           {target, `3f2a9c0d-77aa-4b1e`},
		"the token, in a form":                {target, `3f2a9c0d%2D77aa%2D4b1e`},
		"one that is longer than we look":     {Target{Password: Password(strings.Repeat("äb", 500))}, strings.Repeat("äb", 500)},
		"one that is short":                   {Target{Password: "on&"}, `on&amp;`},
		"one that is short, in a form":        {Target{Password: "admin"}, `%22admin%22`},
		"one that is short, after a new line": {Target{Password: "admin"}, `\nadmin\n`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := tt.target.newVeil().over("value=" + tt.said + ",x")
			if got = regexp.MustCompile(`(%3D|=)+,x$`).ReplaceAllString(got, ",x"); strings.NewReplacer(`%22`, "", `\n`, "").Replace(got) != "value="+hidden+",x" {
				t.Errorf("of %s is seen %s", tt.said, got)
			}
		})
	}
}

// A password that is a word of everybody's, or a part of one, takes no word out
// of another, nor out of what we say ourselves: what is missing there would tell it.
func TestAnOrdinaryPasswordGarblesNothing(t *testing.T) {
	tests := map[string]struct {
		password Password
		err      error
		want     string
	}{
		"a part of a word":         {"on", fmt.Errorf("%w (Turn on the connection)", ErrRejected), "BMC 10.0.9.14: the BMC refuses the command (Turn [hidden] the connection)"},
		"a word of ours":           {"password", fmt.Errorf("%w (password)", ErrLogin), "BMC 10.0.9.14: the BMC does not know this user name with this password ([hidden])"},
		"a sentence of ours":       {"the BMC", ErrNoAnswer, "BMC 10.0.9.14: the BMC does not answer"},
		"less than we show in all": {"an", fmt.Errorf("%w: Gran Canaria", ErrUnsupported), "BMC 10.0.9.14: the BMC cannot do that: Gran Canaria"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			target := veiledTarget()
			target.Password = tt.password
			var seen *fleet.Error
			if !errors.As(trouble("power on", target, tt.err), &seen) || seen.Err.Error() != tt.want {
				t.Errorf("seen is %v, want %s", seen.Err, tt.want)
			}
		})
	}
}

// What a driver's program or library says is understood before anything is taken
// out of it.
func TestWhatIsTakenOutIsUnderstoodBefore(t *testing.T) {
	tool := func(p Password, said string) error { return (&ipmitoolLine{target: Target{Password: p}}).failure(said) }
	library := func(p Password, said string) error {
		l := &vendorLine{target: Target{Password: p, Driver: fleet.DriverDell}, wire: &wire{}}
		return l.failure(errors.New(said))
	}
	tests := map[string]struct {
		failure  func(Password, string) error
		password Password
		said     string
		want     error
	}{
		"ipmitool, of a privilege":      {tool, "insufficient", "Set failed: insufficient privilege level", ErrDenied},
		"ipmitool, of a command":        {tool, "command", "Invalid command", ErrUnsupported},
		"bmclib, of a login":            {library, "401", "status 401: go away", ErrLogin},
		"bmclib, of a login, in words":  {library, "unauthorized", "status: unauthorized", ErrLogin},
		"bmclib, of sessions":           {library, "RAC0218", "RAC0218: go away", ErrSessions},
		"bmclib, of what it cannot do":  {library, "supported", "it is not supported by this service", ErrUnsupported},
		"bmclib, of a service too slow": {library, "Timeout", "Client.Timeout exceeded", ErrHangs},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := tt.failure(tt.password, tt.said)
			if shown := strings.TrimPrefix(err.Error(), tt.want.Error()); !errors.Is(err, tt.want) || strings.Contains(shown, string(tt.password)) {
				t.Errorf("%v, want %v without %s", err, tt.want, tt.password)
			}
		})
	}
}

// Whatever way an error came, it passes one place before anybody sees it.
func TestNoErrorShowsASecretWhereverItComesFrom(t *testing.T) {
	target := veiledTarget()
	target.next = "Next1234Password"
	said := "no: " + string(target.Password) + " nor Next1234Password"
	for name, err := range map[string]error{
		"SSH, of a login":       nameOfSSH(fmt.Errorf("ssh: unable to authenticate: %s", said)),
		"SSH, of the rest":      nameOfSSH(errors.New(said)),
		"SNMP":                  snmpError(errors.New(said)),
		"SNMP, of a login":      snmpError(fmt.Errorf("%w: %s", gosnmp.ErrWrongDigest, said)),
		"a library":             classify(errors.New(said)),
		"a name with a new one": fmt.Errorf("%w: its table of users has none of the name %q", ErrNoUser, said),
	} {
		t.Run(name, func(t *testing.T) {
			got := trouble("power on", target, err)
			if text := fmt.Sprintf("%v %+v", got, got); strings.Contains(text, "Tr0ub4") || strings.Contains(text, "Next1234") || !strings.Contains(text, hidden) {
				t.Errorf("what is seen is %s", text)
			}
		})
	}
}

func TestWhatCarriesALoginIsNotSeenEither(t *testing.T) {
	for said, want := range map[string]string{
		"X-Auth-Token: 7f3d9a is too old":                           "X-Auth-Token: [hidden] is too old",
		`{"X-CSRFTOKEN": "aZ9/x=", "a": 1}`:                         `{"X-CSRFTOKEN": "[hidden]", "a": 1}`,
		"Cookie: QSESSIONID=abc; lang=en":                           "Cookie: [hidden]",
		`Authorization: Digest username="admin", response="0123af"`: "Authorization: [hidden]",
		`no such Digest username="admin", response="0123af"`:        "no such Digest [hidden]",
		"Authorization: Bearer abc.def, sorry":                      "Authorization: [hidden]",
		"no authorization for this cookie":                          "no authorization for this cookie",
	} {
		if got := (Target{}).newVeil().over(said); got != want {
			t.Errorf("of %q is seen %q, want %q", said, got, want)
		}
	}
}

func FuzzAPasswordIsVeiledWhateverItIs(f *testing.F) {
	f.Add(`Tr0ub4&dor"<3`, "no ")
	f.Add("on", "connection")
	f.Add("\xff\x00(?i)[a-", `\u003c%`)
	f.Fuzz(func(t *testing.T, password, said string) {
		target := Target{Username: "admin", Password: Password(password)}
		got := target.newVeil().over(said + " " + password + " ")
		if len([]rune(password)) >= 8 && !strings.Contains(hidden, password) && strings.Contains(got, password) {
			t.Errorf("%q is seen of %q", got, password)
		}
		if target.legible(errors.New(said)).Error() == password && len([]rune(password)) >= 8 {
			t.Errorf("%q is seen", password)
		}
	})
}
