package http

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

func (s *Server) listCheckups(context.Context, *nothing) (*reply[[]api.Checkup], error) {
	all := []api.Checkup{}
	for _, n := range s.o.Engine.Nodes() {
		if n.BMC.Address == "" || n.State == fleet.Retired {
			continue
		}
		_, c, err := s.o.Engine.Checkup(string(n.ID))
		if err != nil {
			continue // it went away meanwhile
		}
		row := fromCheckup(n, c)
		row.Sensors, row.Log = nil, nil
		all = append(all, row)
	}
	slices.SortFunc(all, func(a, b api.Checkup) int { return cmp.Compare(a.Name, b.Name) })
	return &reply[[]api.Checkup]{Body: all}, nil
}

func (s *Server) getCheckup(_ context.Context, in *nodeRef) (*reply[api.Checkup], error) {
	return checkupReply(s.o.Engine.Checkup(in.Ref))
}

func (s *Server) examineNode(ctx context.Context, in *nodeRef) (*reply[api.Checkup], error) {
	return checkupReply(s.o.Engine.Examine(ctx, in.Ref))
}

func (s *Server) clearBMCLog(ctx context.Context, in *nodeRef) (*reply[api.Checkup], error) {
	return checkupReply(s.o.Engine.ClearBMCLog(ctx, actorOf(ctx), in.Ref))
}

func checkupReply(n fleet.Node, c fleet.Checkup, err error) (*reply[api.Checkup], error) {
	if err != nil {
		return nil, err
	}
	return &reply[api.Checkup]{Body: fromCheckup(n, c)}, nil
}

func fromCheckup(n fleet.Node, c fleet.Checkup) api.Checkup {
	h := c.Hardware
	out := api.Checkup{
		Node: string(n.ID), Name: n.Title(), At: when(c.At), Tried: when(c.Tried), Failed: c.Failed, Error: c.Error,
		Via: string(c.Via), Power: string(c.Power), Health: string(c.Health), Watts: c.Watts,
		Vendor: h.Vendor, Model: h.Model, Serial: h.Serial, Part: h.Part, UUID: h.UUID, AssetTag: h.AssetTag,
		Processors: h.Processors, Cores: h.Cores, MemoryMiB: h.MemoryMiB,
		LogName: c.Log.Name, LogTotal: c.Log.Total, Lacks: c.Lacks,
	}
	for _, m := range h.MACs {
		out.MACs = append(out.MACs, string(m))
	}
	for _, f := range h.Firmware {
		out.Firmware = append(out.Firmware, api.Firmware(f))
	}
	for _, f := range c.Faults {
		out.Faults = append(out.Faults, api.Fault{Part: f.Part, Health: string(f.Health), Detail: f.Detail})
	}
	for _, x := range c.Sensors {
		sensor := api.Sensor{Name: x.Name, Kind: x.Kind, Value: x.Value, Unit: x.Unit, Upper: x.Upper, Health: string(x.Health)}
		out.Sensors = append(out.Sensors, sensor)
		if x.Kind == "temperature" && (out.Hottest == nil || x.Value > out.Hottest.Value) {
			out.Hottest = &sensor
		}
	}
	for _, e := range c.Log.Entries {
		out.Log = append(out.Log, api.LogEntry{ID: e.ID, At: when(e.At), Health: string(e.Health), Text: e.Text, New: e.New})
	}
	return out
}

// when is a time that may be none.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
