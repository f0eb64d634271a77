package http

import (
	"maps"
	"slices"

	"github.com/rackstage/provision/access"
)

// An audience is who may use a route.
type audience string

const (
	everybody audience = "everybody"
	machines  audience = "machines" // TLS listener, no certificate yet
	agents    audience = "agents"   // TLS listener, certificate of a node
	relays    audience = "relays"   // TLS listener, certificate of a relay
	viewers   audience = audience(access.Viewer)
	operators audience = audience(access.Operator)
	admins    audience = audience(access.Admin)
)

// audiences is the one table of who may use what. A route that is not in it
// answers 404, and a test fails.
func audiences() map[string]audience {
	return map[string]audience{
		"POST /agent/v1/hello":       machines,
		"POST /agent/v1/poll":        agents,
		"POST /agent/v1/join":        agents,
		"POST /agent/v1/certify":     agents,
		"POST /agent/v1/rack":        agents,
		"GET /agent/v1/images/:name": agents,

		"POST /relay/v1/enrol":   machines,
		"POST /relay/v1/renew":   relays,
		"POST /relay/v1/report":  relays,
		"GET /relay/v1/snapshot": relays,
		"GET /relay/v1/files/*":  relays,
		"GET /relay/v1/chunks/*": relays,
		"GET /relay/v1/boot/*":   relays,
		"HEAD /relay/v1/boot/*":  relays,
		"GET /relay/v1/tftp/*":   relays,
		"GET /relay/v1/quirk":    relays,
		"POST /relay/v1/tunnel":  relays,

		"GET /api/v1/relays":          viewers,
		"POST /api/v1/relays":         admins,
		"DELETE /api/v1/relays/:name": admins,

		"GET /api/v1/health":                 everybody,
		"GET /api/v1/version":                viewers,
		"GET /api/v1/openapi.json":           viewers,
		"GET /api/v1/nodes":                  viewers,
		"GET /api/v1/nodes/:ref":             viewers,
		"GET /api/v1/nodes/:ref/render":      operators,
		"GET /api/v1/templates":              viewers,
		"POST /api/v1/nodes/:ref/power":      operators,
		"POST /api/v1/nodes/:ref/power/done": operators,
		"POST /api/v1/nodes/:ref/bmc/probe":  operators,
		"POST /api/v1/nodes/:ref/bmc/accept": operators,
		"POST /api/v1/nodes/:ref/bmc/rotate": operators,
		"POST /api/v1/nodes/:ref/bmc/check":  operators,
		"GET /api/v1/nodes/:ref/bmc/check":   viewers,

		"GET /api/v1/bmc":                       viewers,
		"GET /api/v1/nodes/:ref/bmc/bios":       operators,
		"POST /api/v1/nodes/:ref/bmc/bios":      operators,
		"GET /api/v1/nodes/:ref/bmc/firmware":   viewers,
		"POST /api/v1/nodes/:ref/bmc/firmware":  operators,
		"GET /api/v1/nodes/:ref/bmc":            viewers,
		"POST /api/v1/nodes/:ref/bmc/examine":   operators,
		"POST /api/v1/nodes/:ref/bmc/log/clear": operators,

		"GET /api/v1/secrets":             admins,
		"POST /api/v1/secrets/rotate":     admins,
		"POST /api/v1/nodes/:ref/rescue":  operators,
		"POST /api/v1/enrol/:ref/approve": operators,
		"GET /api/v1/pools":               viewers,
		"GET /api/v1/pools/:pool":         viewers,
		"POST /api/v1/pools/:pool/plan":   viewers, // changes nothing
		"POST /api/v1/pools/:pool/runs":   operators,
		"GET /api/v1/runs":                viewers,
		"GET /api/v1/runs/:id":            viewers,
		"GET /api/v1/site":                viewers,
		"POST /api/v1/site":               admins,
		"GET /api/v1/images":              viewers,
		"GET /api/v1/events":              viewers,
		"GET /api/v1/alarms":              viewers,
		"GET /api/v1/subnets":             viewers,
		"GET /api/v1/leases":              viewers,
		"POST /api/v1/leases/import":      admins,
		"DELETE /api/v1/leases/:addr":     operators,
		"GET /api/v1/doctor":              viewers,
		"GET /api/v1/counters":            viewers,

		"GET /api/v1/nodes/:ref/console":                 operators,
		"GET /api/v1/nodes/:ref/console/records":         operators,
		"GET /api/v1/nodes/:ref/console/records/:record": operators,
		"GET /api/v1/nodes/:ref/console/log":             operators,
		"GET /nodes/:ref/console":                        operators,

		"GET /login":        everybody,
		"POST /login":       everybody,
		"POST /logout":      everybody,
		"GET /assets/:file": everybody,
		"GET /":             viewers,
		"GET /live":         viewers,
		"GET /nodes/:ref":   viewers,
		"GET /boot":         viewers,
		"POST /approve":     operators,
		"POST /rescue":      operators,
	}
}

// Routes are what the TLS listener and the socket serve, as "METHOD /path/:name",
// in order.
func Routes() []string { return slices.Sorted(maps.Keys(audiences())) }

// covers reports whether a person belongs to an audience.
func covers(who access.Identity, need audience) bool {
	switch need {
	case viewers, operators, admins:
		return who.May(access.Role(need))
	default:
		return false
	}
}
