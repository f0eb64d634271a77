package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Root is where the operators' API begins.
const Root = "/api/v1"

// NodeQuery picks nodes.
type NodeQuery struct {
	Query  string // the search grammar: "state:failed pool:prd web-"
	Limit  int    // 0: the server's default
	Cursor string // NodeList.Next of the page before
}

// Nodes returns one page of nodes.
func (c *Client) Nodes(ctx context.Context, q NodeQuery) (list NodeList, err error) {
	values := url.Values{}
	setIf(values, "q", q.Query)
	setIf(values, "cursor", q.Cursor)
	if q.Limit > 0 {
		values.Set("limit", strconv.Itoa(q.Limit))
	}
	return list, c.call(ctx, http.MethodGet, Root+"/nodes", values, nil, &list)
}

// AllNodes returns every node that a query matches, page by page.
func (c *Client) AllNodes(ctx context.Context, query string) ([]Node, error) {
	var all []Node
	for q := (NodeQuery{Query: query, Limit: 1000}); ; {
		page, err := c.Nodes(ctx, q)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Nodes...)
		if page.Next == "" || page.Next == q.Cursor {
			return all, nil
		}
		q.Cursor = page.Next
	}
}

// Node returns the node with this id, name or MAC.
func (c *Client) Node(ctx context.Context, ref string) (n Node, err error) {
	return n, c.call(ctx, http.MethodGet, Root+"/nodes/"+url.PathEscape(ref), nil, nil, &n)
}

// Approve lets a discovered machine in.
func (c *Client) Approve(ctx context.Context, ref string) (n Node, err error) {
	return n, c.call(ctx, http.MethodPost, Root+"/enrol/"+url.PathEscape(ref)+"/approve", nil, nil, &n)
}

// Power switches a node, or asks for its status, and returns "on", "off" or
// "unknown".
func (c *Client) Power(ctx context.Context, ref string, r PowerRequest) (string, error) {
	var reply PowerReply
	err := c.patient().call(ctx, http.MethodPost, Root+"/nodes/"+url.PathEscape(ref)+"/power", nil, r, &reply)
	return reply.State, err
}

// PowerDone says that a person has done what was asked of a node.
func (c *Client) PowerDone(ctx context.Context, ref string) (n Node, err error) {
	return n, c.call(ctx, http.MethodPost, Root+"/nodes/"+url.PathEscape(ref)+"/power/done", nil, nil, &n)
}

// ProbeBMC finds out how a node's BMC is spoken to.
func (c *Client) ProbeBMC(ctx context.Context, ref string, r ProbeBMCRequest) (n Node, err error) {
	return n, c.call(ctx, http.MethodPost, Root+"/nodes/"+url.PathEscape(ref)+"/bmc/probe", nil, r, &n)
}

// CheckBMC begins to test a node's BMC.
func (c *Client) CheckBMC(ctx context.Context, ref string, r CheckBMCRequest) (b BMCCheck, err error) {
	return b, c.call(ctx, http.MethodPost, Root+"/nodes/"+url.PathEscape(ref)+"/bmc/check", nil, r, &b)
}

// BMCCheck returns the last test of a node's BMC as soon as it is over, or wait
// has passed (at most a minute).
func (c *Client) BMCCheck(ctx context.Context, ref string, wait time.Duration) (b BMCCheck, err error) {
	return b, c.call(ctx, http.MethodGet, Root+"/nodes/"+url.PathEscape(ref)+"/bmc/check", url.Values{"wait": {wait.String()}}, nil, &b)
}

// RotateBMC gives a node's BMC a new password.
func (c *Client) RotateBMC(ctx context.Context, ref string) (n Node, err error) {
	return n, c.call(ctx, http.MethodPost, Root+"/nodes/"+url.PathEscape(ref)+"/bmc/rotate", nil, nil, &n)
}

// Checkups returns how all machines are, without sensors and logs.
func (c *Client) Checkups(ctx context.Context) (all []Checkup, err error) {
	return all, c.call(ctx, http.MethodGet, Root+"/bmc", nil, nil, &all)
}

// Checkup returns what a node's BMC has said last.
func (c *Client) Checkup(ctx context.Context, ref string) (r Checkup, err error) {
	return r, c.call(ctx, http.MethodGet, Root+"/nodes/"+url.PathEscape(ref)+"/bmc", nil, nil, &r)
}

// Examine asks a node's BMC now.
func (c *Client) Examine(ctx context.Context, ref string) (r Checkup, err error) {
	return r, c.call(ctx, http.MethodPost, Root+"/nodes/"+url.PathEscape(ref)+"/bmc/examine", nil, nil, &r)
}

// ClearBMCLog empties the event log of a node's BMC.
func (c *Client) ClearBMCLog(ctx context.Context, ref string) (r Checkup, err error) {
	return r, c.call(ctx, http.MethodPost, Root+"/nodes/"+url.PathEscape(ref)+"/bmc/log/clear", nil, nil, &r)
}

// BIOS returns a machine's BIOS settings, and which are not as declared.
func (c *Client) BIOS(ctx context.Context, ref string) (b BIOS, err error) {
	return b, c.call(ctx, http.MethodGet, Root+"/nodes/"+url.PathEscape(ref)+"/bmc/bios", nil, nil, &b)
}

// ApplyBIOS makes a machine's BIOS settings those of its profile.
func (c *Client) ApplyBIOS(ctx context.Context, ref string, r ApplyBIOSRequest) (b BIOS, err error) {
	return b, c.call(ctx, http.MethodPost, Root+"/nodes/"+url.PathEscape(ref)+"/bmc/bios", nil, r, &b)
}

// Firmware returns which firmware of a machine is not as declared.
func (c *Client) Firmware(ctx context.Context, ref string) (all []FirmwareUpdate, err error) {
	return all, c.call(ctx, http.MethodGet, Root+"/nodes/"+url.PathEscape(ref)+"/bmc/firmware", nil, nil, &all)
}

// UpdateFirmware brings a machine's firmware to the declared versions.
func (c *Client) UpdateFirmware(ctx context.Context, ref string, r UpdateFirmwareRequest) (all []FirmwareUpdate, err error) {
	return all, c.call(ctx, http.MethodPost, Root+"/nodes/"+url.PathEscape(ref)+"/bmc/firmware", nil, r, &all)
}

// Secrets returns the keys that secrets are sealed with.
func (c *Client) Secrets(ctx context.Context) (s Secrets, err error) {
	return s, c.call(ctx, http.MethodGet, Root+"/secrets", nil, nil, &s)
}

// RotateSecrets seals every secret with a new key.
func (c *Client) RotateSecrets(ctx context.Context, r RotateSecrets) (s Secrets, err error) {
	return s, c.call(ctx, http.MethodPost, Root+"/secrets/rotate", nil, r, &s)
}

// AcceptPin accepts the TLS certificate that a node's BMC shows now.
func (c *Client) AcceptPin(ctx context.Context, ref string, r AcceptPinRequest) (n Node, err error) {
	return n, c.call(ctx, http.MethodPost, Root+"/nodes/"+url.PathEscape(ref)+"/bmc/accept", nil, r, &n)
}

// Rescue puts a node into the rescue system, or back into what it was.
func (c *Client) Rescue(ctx context.Context, ref string, r RescueRequest) (n Node, err error) {
	return n, c.call(ctx, http.MethodPost, Root+"/nodes/"+url.PathEscape(ref)+"/rescue", nil, r, &n)
}

// Pools returns the declared pools.
func (c *Client) Pools(ctx context.Context) ([]Pool, error) {
	var list PoolList
	err := c.call(ctx, http.MethodGet, Root+"/pools", nil, nil, &list)
	return list.Pools, err
}

// Pool returns one pool.
func (c *Client) Pool(ctx context.Context, name string) (p Pool, err error) {
	return p, c.call(ctx, http.MethodGet, Root+"/pools/"+url.PathEscape(name), nil, nil, &p)
}

// Plan asks what a run of a pool would do. It changes nothing.
func (c *Client) Plan(ctx context.Context, pool string) (p Plan, err error) {
	return p, c.call(ctx, http.MethodPost, Root+"/pools/"+url.PathEscape(pool)+"/plan", nil, nil, &p)
}

// Start starts a run of a pool, or attaches to the one that does the same.
func (c *Client) Start(ctx context.Context, pool string, start StartRun) (r Run, err error) {
	return r, c.call(ctx, http.MethodPost, Root+"/pools/"+url.PathEscape(pool)+"/runs", nil, start, &r)
}

// Runs returns the runs that the server knows, newest first.
func (c *Client) Runs(ctx context.Context) ([]Run, error) {
	var list RunList
	err := c.call(ctx, http.MethodGet, Root+"/runs", nil, nil, &list)
	return list.Runs, err
}

// Run returns a run as it is now.
func (c *Client) Run(ctx context.Context, id string) (r Run, err error) {
	return r, c.call(ctx, http.MethodGet, Root+"/runs/"+url.PathEscape(id), nil, nil, &r)
}

// WaitRun returns a run as soon as it differs from seen (Run.Revision), is
// over, or wait has passed (at most a minute).
func (c *Client) WaitRun(ctx context.Context, id, seen string, wait time.Duration) (r Run, err error) {
	q := url.Values{"wait": {wait.String()}}
	setIf(q, "seen", seen)
	return r, c.call(ctx, http.MethodGet, Root+"/runs/"+url.PathEscape(id), q, nil, &r)
}

// Apply makes a site.yaml the declared world, or only says what would change.
func (c *Client) Apply(ctx context.Context, request ApplyRequest) ([]string, error) {
	var reply ApplyReply
	err := c.call(ctx, http.MethodPost, Root+"/site", nil, request, &reply)
	return reply.Changes, err
}

// Site returns the declared world.
func (c *Client) Site(ctx context.Context) (s Site, err error) {
	return s, c.call(ctx, http.MethodGet, Root+"/site", nil, nil, &s)
}

// Images returns the images of the server's store.
func (c *Client) Images(ctx context.Context) ([]Image, error) {
	var list ImageList
	err := c.call(ctx, http.MethodGet, Root+"/images", nil, nil, &list)
	return list.Images, err
}

// Version returns what the server runs.
func (c *Client) Version(ctx context.Context) (v Version, err error) {
	return v, c.call(ctx, http.MethodGet, Root+"/version", nil, nil, &v)
}

// Health returns nil when the server serves.
func (c *Client) Health(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, Root+"/health", nil, nil, nil)
}

func setIf(v url.Values, key, value string) {
	if value != "" {
		v.Set(key, value)
	}
}
