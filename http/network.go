package http

import (
	"context"

	"github.com/rackstage/provision/api"
	"github.com/rackstage/provision/fleet"
)

func (s *Server) listAlarms(context.Context, *nothing) (*reply[api.AlarmList], error) {
	list := api.AlarmList{Alarms: []api.Alarm{}}
	for _, a := range s.o.Engine.Alarms() {
		list.Alarms = append(list.Alarms, fromAlarm(a))
	}
	return &reply[api.AlarmList]{Body: list}, nil
}

func fromAlarm(a fleet.Alarm) api.Alarm {
	d := fleet.Diagnose(a.Code)
	return api.Alarm{
		Code: a.Code, Title: d.Title, On: a.On, Detail: a.Detail, Fix: d.FixFor(a.On),
		Since: a.Since, Seen: a.Seen, Count: a.Count,
	}
}

func (s *Server) listCounters(context.Context, *nothing) (*reply[map[string]int64], error) {
	counters := map[string]int64{}
	if s.o.Counters != nil {
		counters = s.o.Counters()
	}
	return &reply[map[string]int64]{Body: counters}, nil
}
