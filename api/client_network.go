package api

import (
	"context"
	"net/http"
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
