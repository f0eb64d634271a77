package relay

import (
	"cmp"
	"maps"
	"slices"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

// trouble notes what is wrong here: the server makes alarms of it. "" ends it.
func (r *Relay) trouble(code, on, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if detail == "" {
		delete(r.troubles, cause{code, on})
		return
	}
	if r.troubles == nil {
		r.troubles = map[cause]string{}
	}
	r.troubles[cause{code, on}] = detail
}

// A cause is one thing that has a kind of trouble.
type cause struct{ code, on string }

func (r *Relay) troubleOf(code, on string, err error) {
	if err == nil {
		r.trouble(code, on, "")
		return
	}
	r.trouble(code, on, err.Error())
}

// troublesNow lists what is wrong now. Without a subnet of IPv6 nobody misses it.
func (r *Relay) troublesNow() (list []api.RelayTrouble) {
	r.troubleOf(fleet.CodeRelayDisk, "cache", r.cache.failure())
	six := len(r.advertised()) > 0
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.SortedFunc(maps.Keys(r.troubles), func(a, b cause) int { return cmp.Compare(a.code+a.on, b.code+b.on) })
	for _, c := range all {
		if c.code == fleet.CodeRelayNoIPv6 && !six {
			continue
		}
		list = append(list, api.RelayTrouble{Code: c.code, Detail: c.on + ": " + r.troubles[c]})
	}
	return list
}

// alarms6 are the alarms of who advertises for us.
type alarms6 struct{ r *Relay }

// Raise implements dhcp6.Alarms.
func (a alarms6) Raise(_, on, detail string) { a.r.trouble(fleet.CodeRelayNoIPv6, on, detail) }

// Clear implements dhcp6.Alarms.
func (a alarms6) Clear(_, on string) { a.r.trouble(fleet.CodeRelayNoIPv6, on, "") }
