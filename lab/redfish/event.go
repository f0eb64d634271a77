package redfish

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// An event is something that has happened, for those who listen.
type event struct {
	serial                    int
	severity, message, origin string
	at                        time.Time
}

const (
	eventService = "/redfish/v1/EventService"
	stream       = eventService + "/SSE"
	manyEars     = 8
	heard        = 64 // events that a slow listener may be behind
)

func (s *Service) eventResources() map[string]resource {
	return map[string]resource{
		stream: {stream: s.serveStream},
		eventService: {get: func(*http.Request) (object, error) {
			return item(eventService, "EventService.v1_10_2.EventService", "EventService", "Event Service", object{
				"ServiceEnabled": true, "ServerSentEventUri": stream, "EventFormatTypes": []string{"Event"}, "Status": fine(),
			}), nil
		}},
	}
}

// publish tells everybody who listens. Who does not keep up misses events.
func (s *Service) publish(e event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	e.serial, e.at = s.serial, time.Now().UTC()
	for ear := range s.ears {
		select {
		case ear <- e:
		default:
		}
	}
}

// listen adds a listener, and returns nil when there are too many.
func (s *Service) listen() (ear chan event, leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ears) >= manyEars {
		return nil, nil
	}
	ear = make(chan event, heard)
	s.ears[ear] = true
	return ear, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.ears, ear)
	}
}

// serveStream is a stream of server-sent events.
func (s *Service) serveStream(w http.ResponseWriter, r *http.Request) error {
	ear, leave := s.listen()
	if ear == nil {
		return refuse(http.StatusServiceUnavailable, "EventSubscriptionLimitExceeded", "The event subscription failed due to the number of simultaneous subscriptions exceeding the limit of the implementation.")
	}
	defer leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	_, _ = fmt.Fprint(w, ": welcome\n\n")
	for out.Flush() == nil {
		select {
		case e := <-ear:
			if _, err := fmt.Fprintf(w, "id: %d\ndata: %s\n\n", e.serial, e.encode()); err != nil {
				return nil // the listener has gone
			}
		case <-r.Context().Done():
			return nil
		case <-s.done:
			return nil
		}
	}
	return nil
}

func (e event) encode() []byte {
	one := object{
		"EventType": "Event", "EventId": strconv.Itoa(e.serial), "MemberId": "0", "EventTimestamp": e.at.Format(time.RFC3339),
		"Severity": e.severity, "MessageSeverity": e.severity, "Message": e.message, "MessageId": "ResourceEvent.1.3.ResourceChanged",
	}
	if e.origin != "" {
		one["OriginOfCondition"] = link(e.origin)
	}
	b, _ := json.Marshal(object{ // maps of plain values
		"@odata.type": "#Event.v1_9_0.Event", "Id": strconv.Itoa(e.serial), "Name": "Event", "Events": []any{one},
	})
	return b
}
