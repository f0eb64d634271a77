package docker

import (
	"net/url"
	"regexp"

	"github.com/rackstage/provision/agent/fault"
	"github.com/rackstage/provision/api"
)

// allowed is all that the server may ask of an engine: read the cluster, and
// form it. Nothing on it starts a container, reads a secret or a file, or
// joins: a join needs a ticket. The version in front is optional.
var allowed = regexp.MustCompile(`^(` +
	`GET (/v1\.[0-9]{1,3})?/(_ping|info|version|swarm|nodes|tasks|(nodes|tasks)/[A-Za-z0-9][A-Za-z0-9._-]{0,127})` +
	`|POST (/v1\.[0-9]{1,3})?/(swarm/(init|leave|update)|nodes/[A-Za-z0-9][A-Za-z0-9._-]{0,127}/update)` +
	`|DELETE (/v1\.[0-9]{1,3})?/nodes/[A-Za-z0-9][A-Za-z0-9._-]{0,127}` +
	`)$`)

// Allowed refuses what is not on the short list.
func Allowed(r api.DockerRequest) error {
	u, err := url.ParseRequestURI(r.Path)
	if err != nil || u.IsAbs() || u.Host != "" || u.RawPath != "" || !allowed.MatchString(r.Method+" "+u.Path) {
		return fault.Errorf(fault.DockerRefused, "%.10q %.100q is not on the agent's list of Docker requests", r.Method, r.Path)
	}
	return nil
}
