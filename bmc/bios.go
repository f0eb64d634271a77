package bmc

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// biosResource is Redfish's Bios, and its settings object.
type biosResource struct {
	Attributes map[string]json.RawMessage
	Settings   struct {
		Object link     `json:"SettingsObject"`
		Times  []string `json:"SupportedApplyTimes"`
	} `json:"@Redfish.Settings"`
}

// BIOS reads what a machine has in its firmware's setup. bmclib returns nothing
// for systems whose id it does not know, and cannot write at all.
func (c *Controller) BIOS(ctx context.Context, t Target) (fleet.BIOS, error) {
	const op = "read BIOS settings of"
	if err := t.valid(); err != nil {
		return fleet.BIOS{}, invalid(op, t, err)
	}
	if !t.Driver.Web() {
		return fleet.BIOS{}, trouble(op, t, fmt.Errorf("%w: show BIOS settings, by driver %q", ErrUnsupported, t.Driver))
	}
	b, err := talkRedfish(ctx, c, t, func(ctx context.Context, r *redfish) (fleet.BIOS, error) {
		now, err := r.bios(ctx)
		if err != nil {
			return fleet.BIOS{}, err
		}
		b := fleet.BIOS{Attributes: words(now.Attributes), Pending: map[string]string{}}
		var next biosResource
		if path := localPath(now.Settings.Object.Path); path != "" {
			if err := r.get(ctx, path, &next); err != nil && !optional(ctx, err) {
				return b, err
			}
		}
		for name, value := range words(next.Attributes) { // some list all of them there
			if b.Attributes[name] != value {
				b.Pending[name] = value
			}
		}
		return b, nil
	})
	return b, trouble(op, t, err)
}

// SetBIOS says what a machine shall have in its firmware's setup from its next
// start on.
func (c *Controller) SetBIOS(ctx context.Context, t Target, want map[string]string) error {
	const op = "change BIOS settings of"
	return c.change(ctx, op, t, func(ctx context.Context) error {
		if !t.Driver.Web() {
			return fmt.Errorf("%w: change BIOS settings, by driver %q", ErrUnsupported, t.Driver)
		}
		_, err := talkRedfish(ctx, c, t, func(ctx context.Context, r *redfish) (none struct{}, err error) {
			now, err := r.bios(ctx)
			if err != nil {
				return none, err
			}
			path := localPath(now.Settings.Object.Path)
			if path == "" {
				return none, fmt.Errorf("%w: its BIOS settings can be read only", ErrUnsupported)
			}
			body, err := now.request(want)
			if err != nil {
				return none, err
			}
			var before biosResource // for its ETag
			if err := r.get(ctx, path, &before); err != nil && !optional(ctx, err) {
				return none, err
			}
			return none, r.patch(ctx, path, body)
		})
		return err
	})
}

// bios reads the Bios of the target's system.
func (r *redfish) bios(ctx context.Context) (b biosResource, err error) {
	s, err := r.findSystem(ctx)
	if err != nil {
		return b, err
	}
	var c struct{ Bios link }
	if err := r.get(ctx, s.path, &c); err != nil {
		return b, err
	}
	path := localPath(c.Bios.Path)
	if path == "" {
		return b, fmt.Errorf("%w: show BIOS settings", ErrUnsupported)
	}
	if err := r.get(ctx, path, &b); err != nil {
		return b, err
	}
	if len(b.Attributes) == 0 {
		return b, fmt.Errorf("%w: it lists no BIOS settings", ErrUnsupported)
	}
	return b, nil
}

// request is the change as the service wants it: numbers as numbers, and when
// it shall count.
func (b biosResource) request(want map[string]string) (any, error) {
	typed := map[string]any{}
	for name, value := range want {
		is, known := b.Attributes[name]
		if !known {
			return nil, fmt.Errorf("%w: it has no BIOS setting %q", ErrUnsupported, name)
		}
		typed[name] = value
		switch kind := strings.TrimSpace(string(is)); {
		case kind == "true" || kind == "false":
			yes, err := strconv.ParseBool(value)
			if err != nil {
				return nil, fmt.Errorf("%w: BIOS setting %s is true or false, not %q", ErrRejected, name, value)
			}
			typed[name] = yes
		case kind != "" && strings.ContainsRune("-0123456789", rune(kind[0])):
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return nil, fmt.Errorf("%w: BIOS setting %s is a number, not %q", ErrRejected, name, value)
			}
			typed[name] = n
		}
	}
	body := map[string]any{"Attributes": typed}
	if slices.Contains(b.Settings.Times, "OnReset") {
		body["@Redfish.SettingsApplyTime"] = map[string]string{"ApplyTime": "OnReset"}
	}
	return body, nil
}

// words are the settings as text. What has no clean name cannot be declared.
func words(attributes map[string]json.RawMessage) map[string]string {
	all := map[string]string{}
	for name, raw := range attributes {
		if len(all) >= fleet.MostAttributes {
			break
		}
		if name == "" || fleet.CleanText(name) != name {
			continue
		}
		var value any
		if json.Unmarshal(raw, &value) != nil {
			continue
		}
		switch v := value.(type) {
		case string:
			all[name] = fleet.CleanText(v)
		case float64:
			all[name] = strconv.FormatFloat(v, 'f', -1, 64)
		case bool:
			all[name] = strconv.FormatBool(v)
		}
	}
	return all
}
