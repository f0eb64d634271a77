package api

import (
	"context"
	"net/http"
	"net/url"
)

// Alarms returns the trouble that there is now, newest first.
func (c *Client) Alarms(ctx context.Context) ([]Alarm, error) {
	var list AlarmList
	err := c.call(ctx, http.MethodGet, Root+"/alarms", nil, nil, &list)
	return list.Alarms, err
}

// Counters returns what the server counted since it started, by name.
func (c *Client) Counters(ctx context.Context) (counters map[string]int64, err error) {
	return counters, c.call(ctx, http.MethodGet, Root+"/counters", nil, nil, &counters)
}

// Subnets returns the declared networks and how they do.
func (c *Client) Subnets(ctx context.Context) (list SubnetList, err error) {
	return list, c.call(ctx, http.MethodGet, Root+"/subnets", nil, nil, &list)
}

// Leases returns the leases of a subnet, or of all ("").
func (c *Client) Leases(ctx context.Context, subnet string) (all []Lease, err error) {
	for after := ""; ; {
		q := url.Values{"limit": {"1000"}}
		setIf(q, "subnet", subnet)
		setIf(q, "after", after)
		var page LeaseList
		if err := c.call(ctx, http.MethodGet, Root+"/leases", q, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Leases...)
		if page.Next == "" || page.Next == after {
			return all, nil
		}
		after = page.Next
	}
}

// ReleaseLease ends the lease of an address.
func (c *Client) ReleaseLease(ctx context.Context, addr string) (l Lease, err error) {
	return l, c.call(ctx, http.MethodDelete, Root+"/leases/"+url.PathEscape(addr), nil, nil, &l)
}

// ImportLeases takes over leases of another server.
func (c *Client) ImportLeases(ctx context.Context, leases ImportLeases) (done ImportedLeases, err error) {
	return done, c.call(ctx, http.MethodPost, Root+"/leases/import", nil, leases, &done)
}

// Doctor asks the server to look at itself.
func (c *Client) Doctor(ctx context.Context) ([]Check, error) {
	var list CheckList
	err := c.call(ctx, http.MethodGet, Root+"/doctor", nil, nil, &list)
	return list.Checks, err
}
