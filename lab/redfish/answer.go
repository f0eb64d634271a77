package redfish

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
)

// An object is a resource as it goes over the wire.
type object = map[string]any

// A resource is what can be done at one address. What is nil is not allowed.
type resource struct {
	get    func(r *http.Request) (object, error)
	patch  func(r *http.Request, in object) error
	post   func(w http.ResponseWriter, r *http.Request, in object) error
	remove func(r *http.Request) error
	stream func(w http.ResponseWriter, r *http.Request) error // in place of get
	open   bool                                               // to those who have not signed in: get or, where there is one, post
}

// A refusal is an answer that is an error.
type refusal struct {
	status  int
	id      string // of a message of DMTF's registry Base
	message string
	args    []string
}

// Error is the message.
func (e *refusal) Error() string { return e.message }

func refuse(status int, id, message string, args ...string) error {
	return &refusal{status, id, message, args}
}

func notFound(what string) error {
	return refuse(http.StatusNotFound, "ResourceMissingAtURI", "The resource at the URI "+what+" was not found.")
}

// serve does what a request that is allowed asks for.
func (x resource) serve(w http.ResponseWriter, r *http.Request, f Faults) error {
	w.Header().Set("Allow", x.allow())
	switch {
	case r.Method == http.MethodGet && x.stream != nil:
		return x.stream(w, r)
	case (r.Method == http.MethodGet || r.Method == http.MethodHead) && x.get != nil:
		o, err := x.get(r)
		if err != nil {
			return err
		}
		return show(w, r, paged(o, r, f.Page), f)
	case r.Method == http.MethodPatch && x.patch != nil && !f.NoPatch:
		return x.servePatch(w, r, f)
	case r.Method == http.MethodPost && x.post != nil:
		in, err := read(w, r)
		if err != nil {
			return err
		}
		return x.post(w, r, in)
	case r.Method == http.MethodDelete && x.remove != nil:
		if err := x.remove(r); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return refuse(http.StatusMethodNotAllowed, "OperationNotAllowed", "The HTTP method is not allowed on this resource.")
}

// paged is the part of a collection that is asked for, and where the next one is.
func paged(o object, r *http.Request, most int) object {
	members, _ := o["Members"].([]any)
	if most <= 0 || len(members) == 0 {
		return o
	}
	skip, _ := strconv.Atoi(r.URL.Query().Get("$skip"))
	rest := members[max(0, min(skip, len(members))):]
	if len(rest) > most {
		o["Members@odata.nextLink"] = r.URL.Path + "?$skip=" + strconv.Itoa(skip+most)
	}
	o["Members"] = rest[:min(len(rest), most)]
	return o
}

func (x resource) allow() string {
	var methods []string
	for method, has := range map[string]bool{
		"GET, HEAD": x.get != nil, "GET": x.stream != nil, "PATCH": x.patch != nil, "POST": x.post != nil, "DELETE": x.remove != nil,
	} {
		if has {
			methods = append(methods, method)
		}
	}
	return strings.Join(methods, ", ")
}

func (x resource) servePatch(w http.ResponseWriter, r *http.Request, f Faults) error {
	before, err := x.get(r)
	if err != nil {
		return err
	}
	switch match := r.Header.Get("If-Match"); {
	case match == "" && f.NeedsETag:
		return refuse(http.StatusPreconditionRequired, "PreconditionRequired", "The request did not provide the required precondition, such as an If-Match header.")
	case match != "" && match != "*" && !strings.Contains(match, tag(before)):
		return refuse(http.StatusPreconditionFailed, "PreconditionFailed", "The ETag supplied did not match the ETag of the current resource.")
	}
	in, err := read(w, r)
	if err != nil {
		return err
	}
	if err := x.patch(r, in); err != nil {
		return err
	}
	after, err := x.get(r)
	if err != nil {
		return err
	}
	return show(w, r, after, f)
}

// read decodes what a client has sent.
func read(w http.ResponseWriter, r *http.Request) (object, error) {
	const most = 1 << 20
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err != nil {
		return nil, refuse(http.StatusRequestEntityTooLarge, "MalformedJSON", "The request body is too large.")
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return object{}, nil
	}
	var in object
	if err := json.Unmarshal(b, &in); err != nil || in == nil {
		return nil, refuse(http.StatusBadRequest, "MalformedJSON", "The request body is not a JSON object.")
	}
	return in, nil
}

// show answers with a resource.
func show(w http.ResponseWriter, r *http.Request, o object, f Faults) error {
	etag := tag(o)
	if !f.BodyETag {
		w.Header().Set("ETag", etag)
	}
	if r.Method != http.MethodPatch && r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	o["@odata.etag"] = etag
	write(w, http.StatusOK, o)
	return nil
}

func tag(o object) string {
	b, _ := json.Marshal(o) // maps of plain values
	sum := sha256.Sum256(b)
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}

func write(w http.ResponseWriter, status int, o object) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(o) // maps of plain values
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// complain answers with an error, as the specification has it.
func complain(w http.ResponseWriter, err error) {
	e := &refusal{http.StatusInternalServerError, "InternalError", err.Error(), nil}
	_ = errors.As(err, &e)
	write(w, e.status, object{"error": object{
		"code": registry + e.id, "message": e.message, "@Message.ExtendedInfo": []any{e.extended()},
	}})
}

const registry = "Base.1.18."

// extended is the refusal as a message of its registry.
func (e *refusal) extended() object {
	return object{
		"@odata.type": "#Message.v1_1_1.Message", "MessageId": registry + e.id, "Message": e.message, "MessageArgs": e.args,
		"MessageSeverity": "Critical", "Resolution": "None.",
	}
}

// link points at a resource.
func link(path string) object { return object{"@odata.id": path} }

func links(paths []string) []any {
	all := make([]any, len(paths))
	for i, p := range paths {
		all[i] = link(p)
	}
	return all
}

// item begins a resource.
func item(path, kind, id, name string, more object) object {
	o := object{"@odata.id": path, "@odata.type": "#" + kind, "Id": id, "Name": name}
	maps.Copy(o, more)
	return o
}

// list makes a collection.
func list(path, kind, name string, members []string) object {
	return object{
		"@odata.id": path, "@odata.type": "#" + kind + "." + kind, "Name": name,
		"Members": links(members), "Members@odata.count": len(members),
	}
}

// fine is the status of what works.
func fine() object { return object{"State": "Enabled", "Health": "OK"} }

// text returns a string of an object, "" when there is none.
func text(o object, name string) string {
	s, _ := o[name].(string)
	return s
}
