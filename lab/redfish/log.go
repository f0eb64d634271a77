package redfish

import (
	"net/http"
	"slices"
	"strconv"
	"time"
)

// An entry is one line of the event log.
type entry struct {
	id, severity, message string
	at                    time.Time
}

// manyEntries is how many the log keeps.
const manyEntries = 1000

func (s *Service) logResources() map[string]resource {
	all := map[string]resource{}
	for at, name := range map[string]string{systems + "/{system}/LogServices": "SEL", s.managerPath() + "/LogServices": "Log"} {
		all[at] = resource{get: s.logged(func(r *http.Request) object {
			p := r.URL.Path
			return list(p, "LogServiceCollection", "Log Services", []string{p + "/" + name})
		})}
		all[at+"/"+name] = resource{get: s.logged(func(r *http.Request) object { return s.showLog(r.URL.Path, name) })}
		all[at+"/"+name+"/Entries"] = resource{get: s.readLog}
		all[at+"/"+name+"/Entries/{entry}"] = resource{get: s.showEntry}
		all[at+"/"+name+"/Actions/LogService.ClearLog"] = resource{post: s.clearLog}
	}
	return all
}

func (s *Service) readLog(r *http.Request) (object, error) {
	s.mu.Lock()
	stuck := s.stuck
	s.mu.Unlock()
	if stuck {
		return nil, refuse(http.StatusInternalServerError, "InternalError", "The request failed due to an internal service error.")
	}
	return s.logged(func(r *http.Request) object { return s.showEntries(r.URL.Path) })(r)
}

// logged is what only those services have that have logs.
func (s *Service) logged(show func(r *http.Request) object) func(*http.Request) (object, error) {
	return func(r *http.Request) (object, error) {
		if err := s.hasLogs(r); err != nil {
			return nil, err
		}
		return show(r), nil
	}
}

func (s *Service) hasLogs(r *http.Request) error {
	if s.Faults().NoLogs {
		return notFound(r.URL.Path)
	}
	if r.PathValue("system") != "" {
		_, err := s.system(r)
		return err
	}
	return nil
}

func (s *Service) showLog(p, name string) object {
	kind := map[string]string{"SEL": "SEL", "Log": "Multiple"}[name]
	return item(p, "LogService.v1_5_1.LogService", name, name, object{
		"MaxNumberOfRecords": manyEntries, "OverWritePolicy": "WrapsWhenFull", "DateTime": time.Now().UTC().Format(time.RFC3339),
		"ServiceEnabled": true, "LogEntryType": kind, "Entries": link(p + "/Entries"), "Status": fine(),
		"Actions": object{"#LogService.ClearLog": object{"target": p + "/Actions/LogService.ClearLog"}},
	})
}

// showEntries has the entries whole, the newest first, as services do.
func (s *Service) showEntries(p string) object {
	s.mu.Lock()
	defer s.mu.Unlock()
	members := make([]any, 0, len(s.entries))
	for _, e := range slices.Backward(s.entries) {
		members = append(members, e.show(p))
	}
	o := list(p, "LogEntryCollection", "Log Entries", nil)
	o["Members"], o["Members@odata.count"] = members, len(members)
	return o
}

func (e *entry) show(p string) object {
	return item(p+"/"+e.id, "LogEntry.v1_16_0.LogEntry", e.id, "Log Entry "+e.id, object{
		"EntryType": "SEL", "Created": e.at.Format(time.RFC3339), "Severity": e.severity, "Message": e.message, "SensorType": "System Event",
	})
}

func (s *Service) showEntry(r *http.Request) (object, error) {
	if err := s.hasLogs(r); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.PathValue("entry")
	for _, e := range s.entries {
		if e.id == id {
			return e.show(r.URL.Path[:len(r.URL.Path)-len(id)-1]), nil
		}
	}
	return nil, notFound(r.URL.Path)
}

func (s *Service) clearLog(w http.ResponseWriter, r *http.Request, _ object) error {
	if err := s.hasLogs(r); err != nil {
		return err
	}
	s.mu.Lock()
	if s.faults.LogSticks {
		s.stuck = true
	} else {
		s.entries = nil
	}
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// Record adds an entry to the log. Severity is OK, Warning or Critical.
func (s *Service) Record(severity, message string) {
	s.record(severity, message)
	s.publish(event{severity: severity, message: message})
}

func (s *Service) record(severity, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	s.entries = append(s.entries, &entry{strconv.Itoa(s.serial), severity, message, time.Now().UTC()})
	if len(s.entries) > manyEntries {
		s.entries = slices.Delete(s.entries, 0, len(s.entries)-manyEntries)
	}
}

// tell records what has happened to a system, and tells those who listen.
func (s *Service) tell(x *system, message string) {
	s.record("OK", message)
	s.publish(event{severity: "OK", message: message, origin: x.path()})
}
