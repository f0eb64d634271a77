package swarm

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"

	"github.com/rackstage/provision/fleet"
)

// maxBody bounds what goes through a tunnel in one request: a list of ten
// thousand swarm nodes is about 10 MiB.
const maxBody = 16 << 20

// versionPrefix is what the client puts before each path; agents allow paths
// without it.
var versionPrefix = regexp.MustCompile(`^/v[0-9.]+/`)

type roundTripper struct {
	ask  Ask
	node fleet.NodeID
}

// tunnel returns an HTTP client whose requests go to one node's engine.
func tunnel(ask Ask, node fleet.NodeID) *http.Client {
	return &http.Client{Transport: roundTripper{ask, node}}
}

// RoundTrip implements http.RoundTripper.
func (t roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	r := fleet.DockerRequest{Method: req.Method, Path: versionPrefix.ReplaceAllString(req.URL.RequestURI(), "/")}
	if req.Body != nil {
		body, err := io.ReadAll(io.LimitReader(req.Body, maxBody))
		_ = req.Body.Close() // it was read to its end
		if err != nil {
			return nil, fmt.Errorf("read request body: %w", err)
		}
		r.Body = body
	}
	resp, err := t.ask(req.Context(), t.node, r)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: resp.Status, Status: http.StatusText(resp.Status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Request: req,
		Body: io.NopCloser(bytes.NewReader(resp.Body)), ContentLength: int64(len(resp.Body)),
	}, nil
}
