package bmc

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/rackstage/provision/fleet"
)

// A logService is one of a service's logs.
type logService struct {
	ID           text `json:"Id"`
	Name         text
	LogEntryType text
	Entries      link
	Actions      struct {
		Clear struct {
			Target string `json:"target"`
		} `json:"#LogService.ClearLog"`
	}
}

// log reads the event log of the hardware.
func (s *survey) log(ctx context.Context, c computer) error {
	service, err := s.logService(ctx, c)
	if err != nil {
		return err
	}
	path := localPath(service.Entries.Path)
	if path == "" {
		s.lacks("event log")
		return nil
	}
	s.found.Log.Name = string(cmp.Or(service.Name, service.ID))
	return s.entries(ctx, path)
}

// logService finds it: the SEL, else whatever log there is, of the system or
// else of its manager.
func (s *survey) logService(ctx context.Context, c computer) (best logService, err error) {
	places := []string{localPath(c.LogServices.Path)}
	for _, m := range c.Links.ManagedBy[:min(len(c.Links.ManagedBy), 2)] {
		places = append(places, strings.TrimSuffix(localPath(m.Path), "/")+"/LogServices")
	}
	worth := -1
	for _, place := range places {
		err := s.each(ctx, place, 8, func(path string) error {
			var l logService
			ok, err := s.see(ctx, path, &l)
			if w := l.worth(); ok && w > worth && localPath(l.Entries.Path) != "" {
				best, worth = l, w
			}
			return err
		})
		if err != nil || worth >= 0 {
			return best, err
		}
	}
	return best, nil
}

// worth is how likely a log is the one that tells of broken hardware.
func (l logService) worth() int {
	id := strings.ToLower(string(l.ID))
	switch {
	case l.LogEntryType == "SEL", id == "sel", id == "iml":
		return 2
	case strings.Contains(id, "event"), strings.Contains(id, "system"), id == "log", id == "log1":
		return 1
	}
	return 0
}

const mostPages = 20 // of a log

func (s *survey) entries(ctx context.Context, path string) error {
	veil := s.target.newVeil()
	for page := 0; path != "" && page < mostPages; page++ {
		var c struct {
			Members []struct {
				ID                text `json:"Id"`
				Created, Severity text
				EventTimestamp    text
				Message           phrase
			}
			Count number `json:"Members@odata.count"`
			Next  string `json:"Members@odata.nextLink"`
		}
		ok, err := s.see(ctx, path, &c)
		if !ok {
			return err
		}
		log := &s.found.Log
		log.Total = max(log.Total, int(c.Count))
		for _, e := range c.Members {
			log.Entries = append(log.Entries, fleet.LogEntry{
				ID: string(e.ID), At: timeOf(cmp.Or(e.Created, e.EventTimestamp)), Health: healthOf(string(e.Severity)), Text: veil.told(string(e.Message)),
			})
		}
		log.Total = max(log.Total, len(log.Entries))
		s.found = s.found.Bounded() // nobody keeps a long log whole
		next := localPage(c.Next)
		if next == path || len(c.Members) == 0 {
			return nil
		}
		path = next
	}
	return nil
}

// clearLog empties the log and looks whether it did so. The service may write
// that into the log itself.
func (s *survey) clearLog(ctx context.Context) error {
	var c computer
	if err := s.get(ctx, s.path, &c); err != nil {
		return err
	}
	service, err := s.logService(ctx, c)
	if err != nil {
		return err
	}
	target := localPath(service.Actions.Clear.Target)
	if target == "" {
		return fmt.Errorf("%w: clear its event log", ErrUnsupported)
	}
	entries := localPath(service.Entries.Path)
	if err := s.entries(ctx, entries); err != nil {
		return err
	}
	before := s.found.Log
	if _, err := s.post(ctx, target, struct{}{}); err != nil {
		return err
	}
	s.found.Log = fleet.EventLog{}
	var there struct{}
	if err := s.get(ctx, entries, &there); err != nil { // else it would count as a log that has none
		return err
	}
	if err := s.entries(ctx, entries); err != nil {
		return err
	}
	after := s.found.Log
	for _, e := range after.Entries {
		if len(before.Entries) > 0 && e == before.Entries[0] {
			return fmt.Errorf("%w: the log still has %d entries", ErrNoEffect, after.Total)
		}
	}
	return nil
}
