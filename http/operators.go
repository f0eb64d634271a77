package http

import (
	"context"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"
	"github.com/labstack/echo/v4"

	"github.com/rackstage/provision/api"
)

// A reply is a JSON answer.
type reply[T any] struct {
	Body T
}

type nothing struct{}

// operatorRoutes makes the operators' API. The OpenAPI document comes out of
// the same calls.
func (s *Server) operatorRoutes(e *echo.Echo) {
	config := huma.DefaultConfig("provision", s.o.Version.Version)
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.CreateHooks = nil // no $schema in answers
	config.Transformers = []huma.Transformer{humaErrors}
	config.RejectUnknownQueryParameters = true
	h := humaecho.New(e, config)

	add(s, h, "GET /health", "Whether the server serves", s.health)
	add(s, h, "GET /version", "What is running", s.version)
	add(s, h, "GET /nodes", "List nodes", s.listNodes)
	add(s, h, "GET /nodes/{ref}", "One node, by id, name or MAC", s.getNode)
	add(s, h, "GET /nodes/{ref}/render", "What a machine would be given, without tickets", s.renderNode)
	add(s, h, "GET /templates", "What is filled in for machines", s.listTemplates)
	add(s, h, "POST /nodes/{ref}/power", "Switch a node, or ask whether it is on", s.powerNode)
	add(s, h, "POST /nodes/{ref}/power/done", "Say that a person has done what was asked of a node", s.powerDone)
	add(s, h, "POST /nodes/{ref}/bmc/probe", "Find out how a node's BMC is spoken to", s.probeBMC)
	add(s, h, "POST /nodes/{ref}/bmc/rotate", "Give a node's BMC a new password", s.rotateBMC)
	add(s, h, "POST /nodes/{ref}/bmc/check", "Begin to test how far a node's BMC does what its standard says", s.checkBMC)
	add(s, h, "GET /nodes/{ref}/bmc/check", "What the last test of a node's BMC found; with wait, when it is over", s.getBMCCheck)
	add(s, h, "GET /nodes/{ref}/bmc/bios", "A machine's BIOS settings, and which are not as declared", s.getBIOS)
	add(s, h, "POST /nodes/{ref}/bmc/bios", "Make a machine's BIOS settings those of its profile; restarts it", s.applyBIOS)
	add(s, h, "GET /nodes/{ref}/bmc/firmware", "Which firmware is not as declared, and how far updates are", s.getFirmware)
	add(s, h, "POST /nodes/{ref}/bmc/firmware", "Bring a machine's firmware to the declared versions", s.updateFirmware)
	add(s, h, "GET /bmc", "How all machines are, as their BMCs said last", s.listCheckups)
	add(s, h, "GET /nodes/{ref}/bmc", "What a node's BMC has said last about its machine", s.getCheckup)
	add(s, h, "POST /nodes/{ref}/bmc/examine", "Ask a node's BMC now how its machine is", s.examineNode)
	add(s, h, "POST /nodes/{ref}/bmc/log/clear", "Empty the event log of a node's BMC", s.clearBMCLog)
	add(s, h, "GET /secrets", "The keys that secrets are sealed with", s.listSecrets)
	add(s, h, "POST /secrets/rotate", "Seal every secret with a new key", s.rotateSecrets)
	add(s, h, "POST /nodes/{ref}/bmc/accept", "Accept the TLS certificate that a node's BMC shows now", s.acceptPin)
	add(s, h, "POST /nodes/{ref}/rescue", "Put a node into the rescue system, or back into what it was", s.rescueNode)
	add(s, h, "POST /enrol/{ref}/approve", "Let a discovered machine in", s.approveNode)
	add(s, h, "GET /nodes/{ref}/console/records", "What was recorded of a node's serial console", s.consoleRecords)
	add(s, h, "GET /nodes/{ref}/console/log", "Lines of what was recorded", s.searchConsole)
	e.GET(api.Root+"/nodes/:ref/console", s.serialSocket)
	e.GET(api.Root+"/nodes/:ref/console/records/:record", s.rawConsole)
	add(s, h, "GET /pools", "List pools", s.listPools)
	add(s, h, "GET /pools/{pool}", "One pool", s.getPool)
	add(s, h, "POST /pools/{pool}/plan", "What a run would do", s.planPool)
	add(s, h, "POST /pools/{pool}/runs", "Start a run, or attach to the one that does the same", s.startRun)
	add(s, h, "GET /runs", "List runs, newest first", s.listRuns)
	add(s, h, "GET /runs/{id}", "One run; with wait, as soon as it changed", s.getRun)
	add(s, h, "GET /site", "The declared world", s.getSite)
	add(s, h, "POST /site", "Apply a site.yaml", s.applySite)
	add(s, h, "GET /images", "List images", s.listImages)
	add(s, h, "GET /relays", "List relays", s.listRelays)
	add(s, h, "POST /relays", "Add a relay, and get the token that it enrols with", s.addRelay)
	add(s, h, "DELETE /relays/{name}", "Take a relay's rights away", s.removeRelay)
	add(s, h, "GET /alarms", "The trouble that there is now, newest first", s.listAlarms)
	add(s, h, "GET /subnets", "Subnets: how full they are, and other DHCP servers", s.listSubnets)
	add(s, h, "GET /leases", "List leases, by address", s.listLeases)
	add(s, h, "DELETE /leases/{addr}", "Release a lease", s.releaseLease)
	add(s, h, "POST /leases/import", "Take over leases of another server", s.importLeases)
	add(s, h, "GET /doctor", "What the server finds when it looks at itself", s.doctor)
	add(s, h, "GET /counters", "What was counted since the start", s.listCounters)
	add(s, h, "GET /events", "Follow events as they happen (server-sent events)", s.followEvents)

	document := h.OpenAPI()
	for _, name := range []string{"ErrorModel", "ErrorDetail"} {
		delete(document.Components.Schemas.Map(), name) // huma's own, which we do not send
	}
	e.GET(api.Root+"/openapi.json", func(c echo.Context) error {
		raw, err := document.MarshalJSON()
		if err != nil {
			return err
		}
		return c.Blob(http.StatusOK, "application/openapi+json", raw)
	})
}

// add registers one operation; route is "METHOD /path".
func add[I, O any](s *Server, h huma.API, route, summary string, fn func(context.Context, *I) (*O, error)) {
	method, path, _ := strings.Cut(route, " ")
	problems := h.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.Problem](), true, "Problem")
	huma.Register(h, huma.Operation{
		OperationID: operationID(method, path), Method: method, Path: api.Root + path, Summary: summary,
		BodyReadTimeout: -1, // the intake has read it
		Responses: map[string]*huma.Response{"default": {
			Description: "A problem (RFC 9457)",
			Content:     map[string]*huma.MediaType{problemType: {Schema: problems}},
		}},
	}, func(ctx context.Context, in *I) (*O, error) {
		out, err := fn(ctx, in)
		if err != nil {
			return nil, s.report(ctx, err)
		}
		return out, nil
	})
}

// operationID makes "get-nodes-ref" of "GET" and "/nodes/{ref}".
func operationID(method, path string) string {
	return strings.ToLower(method) + strings.NewReplacer("/", "-", "{", "", "}", "").Replace(path)
}
