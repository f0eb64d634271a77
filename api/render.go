package api

import (
	"context"
	"net/http"
	"net/url"
)

// Rendered is what a machine would be given.
type Rendered struct {
	Why   string         `json:"why,omitempty"` // the server's reason
	Files []RenderedFile `json:"files"`
}

// RenderedFile is one of its files.
type RenderedFile struct {
	Name string `json:"name"`
	Mode string `json:"mode,omitempty"` // octal; of files on a disk
	Text string `json:"text"`
}

// Template is something that is filled in for machines.
type Template struct {
	Name string   `json:"name"`
	Kind string   `json:"kind"`          // custom script seed
	For  []string `json:"for,omitempty"` // nodes and pools of a custom script
}

// TemplateList is all of them.
type TemplateList struct {
	Templates []Template `json:"templates"`
}

// Render returns what a node would be given, with zeros for tickets. as is
// ipxe, menu, custom, local, rescue, grub, grub-menu or seed.
func (c *Client) Render(ctx context.Context, ref, as string) (r Rendered, err error) {
	return r, c.call(ctx, http.MethodGet, Root+"/nodes/"+url.PathEscape(ref)+"/render", url.Values{"as": {as}}, nil, &r)
}

// Templates lists what is filled in for machines.
func (c *Client) Templates(ctx context.Context) ([]Template, error) {
	var list TemplateList
	err := c.call(ctx, http.MethodGet, Root+"/templates", nil, nil, &list)
	return list.Templates, err
}
