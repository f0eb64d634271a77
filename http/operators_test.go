package http

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

func TestWhatTheCommandLineAsks(t *testing.T) {
	c, e := local(t)
	ctx := t.Context()
	check := func(what string, ok bool, got any, err error) {
		t.Helper()
		if !ok || err != nil {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	check("health", true, nil, c.Health(ctx))
	v, err := c.Version(ctx)
	check("version", v.Version == "1.2.3", v, err)
	n, err := c.Node(ctx, "prd-1")
	check("node", n.MAC == "52:54:00:00:00:01" && n.Inventory.Disks != nil, n, err)
	power, err := c.Power(ctx, "prd-1", api.PowerRequest{Op: "status"})
	check("power", power == "off", power, err)
	pools, err := c.Pools(ctx)
	check("pools", len(pools) == 1 && pools[0].Nodes["active"] == 1 && pools[0].Image == "debian-12", pools, err)
	pool, err := c.Pool(ctx, "prd")
	check("pool", pool.Managers == 1, pool, err)
	plan, err := c.Plan(ctx, "prd")
	check("plan", plan.Digest == "sha256:aa" && len(plan.Items) == 2 && plan.Hash != "" && !plan.AsDeclared, plan, err)
	run, err := c.Start(ctx, "prd", api.StartRun{Plan: plan.Hash, Key: "k"})
	check("start", run.Plan == plan.Hash && strings.HasPrefix(run.Actor, "local/"), run, err)
	runs, err := c.Runs(ctx)
	check("runs", len(runs) == 0, runs, err)
	site, err := c.Site(ctx)
	check("site", len(site.Pools) == 1, site, err)
	images, err := c.Images(ctx)
	check("images", images[0].Name == "debian-12", images, err)
	changes, err := c.Apply(ctx, api.ApplyRequest{YAML: "pools: []", DryRun: true})
	check("apply", len(changes) == 1, changes, err)
	approved, err := c.Approve(ctx, "52:54:00:00:00:02")
	check("approve", approved.Approved && e.nodes[1].Approved, approved, err)

	var p *api.Problem
	if _, err := c.Pool(ctx, "prod"); !errors.As(err, &p) || p.Code != "E-POOL-UNKNOWN" || !strings.Contains(p.Hint, `"prd"`) {
		t.Errorf("unknown pool: %v, want a problem that suggests prd", err)
	}
}

func TestNodesPageByPage(t *testing.T) {
	c, e := local(t)
	e.nodes = nil
	for i := range 250 {
		e.nodes = append(e.nodes, fleet.Node{ID: fleet.NodeID(fmt.Sprintf("n-%010x", i)), Name: fmt.Sprintf("web-%d", i%40), MAC: "52:54:00:00:00:01", State: fleet.Active})
	}
	seen := map[string]bool{}
	q := api.NodeQuery{Query: "web", Limit: 30}
	for pages := 1; ; pages++ {
		list, err := c.Nodes(t.Context(), q)
		if err != nil || list.Total != 250 {
			t.Fatalf("page %d: total %d, %v", pages, list.Total, err)
		}
		for _, n := range list.Nodes {
			if seen[n.ID] {
				t.Fatalf("%s stands on two pages", n.ID)
			}
			seen[n.ID] = true
		}
		if q.Cursor = list.Next; q.Cursor == "" {
			if pages != 9 {
				t.Errorf("%d pages, want 9", pages)
			}
			break
		}
	}
	all, err := c.AllNodes(t.Context(), "web")
	if len(seen) != 250 || len(all) != 250 || err != nil {
		t.Errorf("%d nodes page by page, %d at once, %v; want 250", len(seen), len(all), err)
	}
}

func TestTheOpenAPIDocument(t *testing.T) {
	s, _ := newTestServer(t)
	got := ask(s, "GET", "/api/v1/openapi.json", "viewer", "")
	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			OperationID string         `json:"operationId"`
			Responses   map[string]any `json:"responses"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(got.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("version %q, want 3.1", doc.OpenAPI)
	}
	count := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			count++
			route := strings.ToUpper(method) + " " + strings.NewReplacer("{", ":", "}", "").Replace(path)
			if _, ok := audiences()[route]; !ok || op.OperationID == "" || op.Responses["default"] == nil {
				t.Errorf("%s is documented and no route, or has no errors: %+v", route, op)
			}
		}
	}
	if count != 47 {
		t.Errorf("%d operations documented, want 47", count)
	}
	if strings.Contains(got.Body.String(), "ErrorModel") {
		t.Error("the document shows huma's own errors, which we do not send")
	}
}
