package relay

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rackstage/provision/api"
)

// Servers say so of a path that they have never heard of, since the first one.
func TestARefusalOfAnOlderServerSaysWhatToUpgrade(t *testing.T) {
	tests := map[string]struct {
		status int
		body   string
		want   string
	}{
		"an endpoint that it does not have": {404, `{"code":"E-PATH","detail":"there is nothing at this path","hint":"see /api/v1/openapi.json"}`, "does not know " + api.PathRelayQuirk + ": it is older than this relay; upgrade the server"},
		"a file that it does not have":      {404, `{"code":"E-PATH","detail":"no such file"}`, "no such file"},
		"a chunk that it does not have":     {404, "404 page not found", "Not Found"},
		"a relay that it does not know":     {401, `{"code":"E-RELAY","detail":"none of a relay","hint":"enrol it again"}`, "none of a relay"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			res := &http.Response{StatusCode: tt.status, Body: io.NopCloser(strings.NewReader(tt.body)), Request: httptest.NewRequest("GET", "https://server"+api.PathRelayQuirk, nil)}
			if got := refused(res).Error(); !strings.HasSuffix(got, tt.want) {
				t.Errorf("refused = %q, want %q at its end", got, tt.want)
			}
		})
	}
}
