package kubetest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	leasePath = regexp.MustCompile(`^/apis/coordination\.k8s\.io/v1/namespaces/([^/]+)/leases(?:/([^/]+))?$`)
	subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// ServeHTTP answers as the API server does.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	unlock := s.lock()
	intercept, date := s.intercept, s.now()
	unlock()
	w.Header().Set("Date", date.Format(http.TimeFormat))
	if intercept != nil && intercept(w, r) {
		return
	}
	unlock = s.lock()
	answered := s.admin(w, r)
	unlock()
	if answered {
		return
	}
	path := leasePath.FindStringSubmatch(r.URL.Path)
	if path == nil {
		http.Error(w, "404 page not found", http.StatusNotFound)
		return
	}
	namespace, name := path[1], path[2]
	verb := verbOf(r, name)
	if !s.admit(w, r, verb, namespace, name) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	switch verb {
	case "watch":
		s.watch(w, r, namespace)
		return
	case "create", "update":
		if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); kind != "application/json" {
			fail(w, http.StatusUnsupportedMediaType, "UnsupportedMediaType", "the body of the request was in an unknown format", "leases", name)
			return
		}
	}
	defer s.lock()()
	switch verb {
	case "get":
		s.get(w, namespace, name)
	case "list":
		s.list(w, r, namespace)
	case "create":
		s.create(w, r, namespace, body)
	case "update":
		s.update(w, r, namespace, name, body)
	case "delete":
		s.remove(w, namespace, name, body)
	case "deletecollection":
		for _, key := range slices.Sorted(maps.Keys(s.objects)) {
			if strings.HasPrefix(key, namespace+"/") {
				s.record("DELETED", key, s.objects[key].clone())
			}
		}
		reply(w, http.StatusOK, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"})
	default:
		fail(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "the server does not allow this method on the requested resource", "leases", name)
	}
}

func verbOf(r *http.Request, name string) string {
	switch {
	case r.Method == http.MethodGet && name != "":
		return "get"
	case r.Method == http.MethodGet && r.URL.Query().Get("watch") != "" && r.URL.Query().Get("watch") != "false":
		return "watch"
	case r.Method == http.MethodGet:
		return "list"
	case r.Method == http.MethodPost && name == "":
		return "create"
	case r.Method == http.MethodPut && name != "":
		return "update"
	case r.Method == http.MethodDelete && name != "":
		return "delete"
	case r.Method == http.MethodDelete:
		return "deletecollection"
	}
	return ""
}

// admit counts the request, and refuses it where the user or the load says so.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, verb, namespace, name string) bool {
	defer s.lock()()
	s.requests[verb]++
	if s.throttled > 0 {
		s.throttled--
		w.Header().Set("Retry-After", s.retryAfter)
		fail(w, http.StatusTooManyRequests, "TooManyRequests", "too many requests, please try again later", "", "")
		return false
	}
	if s.users == nil {
		return true
	}
	user, known := s.users[bearer(r)]
	switch {
	case !known:
		fail(w, http.StatusUnauthorized, "Unauthorized", "Unauthorized", "", "")
		return false
	case user.Admin:
		return true
	case user.Namespace != namespace || !slices.Contains(user.Verbs, verb):
		fail(w, http.StatusForbidden, "Forbidden", fmt.Sprintf("leases.coordination.k8s.io %q is forbidden: User %q cannot %s resource \"leases\" in API group \"coordination.k8s.io\" in the namespace %q", name, user.Name, verb, namespace), "leases", name)
		return false
	}
	return true
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, code int, reason, message, kind, name string, causes ...string) {
	reply(w, code, failure(code, reason, message, kind, name, causes...))
}

func failure(code int, reason, message, kind, name string, causes ...string) map[string]any {
	details := map[string]any{}
	if kind != "" {
		details["kind"], details["name"] = kind, name
	}
	if kind == "leases" {
		details["group"] = "coordination.k8s.io"
	}
	for _, c := range causes {
		details["causes"] = []any{map[string]string{"reason": c}}
	}
	return map[string]any{"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{}, "status": "Failure",
		"code": code, "reason": reason, "message": message, "details": details}
}

func notFound(w http.ResponseWriter, name string) {
	fail(w, http.StatusNotFound, "NotFound", fmt.Sprintf("leases.coordination.k8s.io %q not found", name), "leases", name)
}

func (s *Server) get(w http.ResponseWriter, namespace, name string) {
	o, ok := s.objects[namespace+"/"+name]
	if !ok {
		notFound(w, name)
		return
	}
	reply(w, http.StatusOK, o)
}

// written is the body of a create or an update, if it can be one.
func (s *Server) written(w http.ResponseWriter, namespace, name string, body []byte) object {
	o := parse(body)
	switch meta := o.meta; {
	case o == nil:
		fail(w, http.StatusBadRequest, "BadRequest", "the object provided is unrecognized", "", "")
	case o.text("kind") != "" && o.text("kind") != "Lease":
		fail(w, http.StatusBadRequest, "BadRequest", "no kind "+strconv.Quote(o.text("kind")), "", "")
	case o.unreadable() != "":
		fail(w, http.StatusBadRequest, "BadRequest", "Lease in version \"v1\" cannot be handled as a Lease: "+o.unreadable(), "", "")
	case name != "" && meta().text("name") != name:
		fail(w, http.StatusBadRequest, "BadRequest", fmt.Sprintf("the name of the object (%s) does not match the name on the URL (%s)", meta().text("name"), name), "", "")
	case meta().text("namespace") != "" && meta().text("namespace") != namespace:
		fail(w, http.StatusBadRequest, "BadRequest", "the namespace of the provided object does not match the namespace sent on the request", "", "")
	case !subdomain.MatchString(meta().text("name")) || len(meta().text("name")) > 253:
		fail(w, http.StatusUnprocessableEntity, "Invalid", "Lease.coordination.k8s.io is invalid: metadata.name", "leases", meta().text("name"))
	case o.invalid() != "":
		fail(w, http.StatusUnprocessableEntity, "Invalid", "Lease.coordination.k8s.io is invalid: "+o.invalid(), "leases", meta().text("name"))
	default:
		meta()["namespace"] = namespace
		return o
	}
	return nil
}

func managerOf(r *http.Request) string {
	if m := r.URL.Query().Get("fieldManager"); m != "" {
		return m
	}
	m, _, _ := strings.Cut(r.UserAgent(), "/")
	return m
}

func (s *Server) create(w http.ResponseWriter, r *http.Request, namespace string, body []byte) {
	o := s.written(w, namespace, "", body)
	if o == nil {
		return
	}
	name := o.meta().text("name")
	if s.makes(w, namespace, name, o) {
		s.add(w, r, namespace+"/"+name, o)
	}
}

// makes reports whether the Lease can be made there, or says why not.
func (s *Server) makes(w http.ResponseWriter, namespace, name string, o object) bool {
	ending, there := s.namespaces[namespace]
	_, exists := s.objects[namespace+"/"+name]
	switch {
	case !there:
		fail(w, http.StatusNotFound, "NotFound", fmt.Sprintf("namespaces %q not found", namespace), "namespaces", namespace)
	case ending:
		fail(w, http.StatusForbidden, "Forbidden", fmt.Sprintf("leases.coordination.k8s.io %q is forbidden: unable to create new content in namespace %s because it is being terminated", name, namespace), "leases", name, "NamespaceTerminating")
	case o.meta().text("resourceVersion") != "":
		fail(w, http.StatusInternalServerError, "InternalError", "resourceVersion should not be set on objects to be created", "", "")
	case exists:
		fail(w, http.StatusConflict, "AlreadyExists", fmt.Sprintf("leases.coordination.k8s.io %q already exists", name), "leases", name)
	default:
		return true
	}
	return false
}

func (s *Server) add(w http.ResponseWriter, r *http.Request, key string, o object) {
	was := object{}
	was.meta()["uid"] = uid()
	was.meta()["creationTimestamp"] = s.now().Format(time.RFC3339)
	o.settled(was, managerOf(r), s.now())
	o.manage(managerOf(r), s.now())
	s.record("ADDED", key, o)
	reply(w, http.StatusCreated, o)
}

func uid() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func conflict(w http.ResponseWriter, name, why string) {
	fail(w, http.StatusConflict, "Conflict", fmt.Sprintf("Operation cannot be fulfilled on leases.coordination.k8s.io %q: %s", name, why), "leases", name)
}

func (s *Server) update(w http.ResponseWriter, r *http.Request, namespace, name string, body []byte) {
	o := s.written(w, namespace, name, body)
	if o == nil {
		return
	}
	key := namespace + "/" + name
	was, there := s.objects[key]
	if !there {
		was = object{}
	}
	want, version := o.meta().text("uid"), o.meta().text("resourceVersion")
	switch {
	case want != "" && want != was.meta().text("uid"): // also of what is not there
		conflict(w, name, fmt.Sprintf("Precondition failed: UID in precondition: %s, UID in object meta: %s", want, was.meta().text("uid")))
	case !there:
		// Leases are made by an update, too: what goes with the uid is what prevents it.
		if s.makes(w, namespace, name, o) {
			s.add(w, r, key, o)
		}
	case version != "" && version != was.meta().text("resourceVersion"):
		conflict(w, name, "the object has been modified; please apply your changes to the latest version and try again")
	default:
		o.settled(was, managerOf(r), s.now())
		if !o.same(was) {
			o.manage(managerOf(r), s.now())
			s.record("MODIFIED", key, o)
		}
		reply(w, http.StatusOK, o)
	}
}

func (s *Server) remove(w http.ResponseWriter, namespace, name string, body []byte) {
	key := namespace + "/" + name
	o, ok := s.objects[key]
	if !ok {
		notFound(w, name)
		return
	}
	var options struct {
		Preconditions struct{ UID, ResourceVersion string }
	}
	_ = json.Unmarshal(body, &options)
	for _, p := range []struct{ what, field, want string }{
		{"UID", "uid", options.Preconditions.UID},
		{"ResourceVersion", "resourceVersion", options.Preconditions.ResourceVersion},
	} {
		if got := o.meta().text(p.field); p.want != "" && p.want != got {
			fail(w, http.StatusConflict, "Conflict", fmt.Sprintf("Operation cannot be fulfilled on Lease.coordination.k8s.io %q: Precondition failed: %s in precondition: %s, %s in object meta: %s", name, p.what, p.want, p.what, got), "Lease", name)
			return
		}
	}
	s.record("DELETED", key, o.clone())
	reply(w, http.StatusOK, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success",
		"details": map[string]any{"kind": "leases", "name": name, "uid": o.meta().text("uid")}})
}

// list is in the order of names. A page goes on from the state of the first one, until that
// is compacted.
func (s *Server) list(w http.ResponseWriter, r *http.Request, namespace string) {
	query := r.URL.Query()
	only, _ := strings.CutPrefix(query.Get("fieldSelector"), "metadata.name=")
	limit, _ := strconv.Atoi(query.Get("limit"))
	version, after := s.revision, ""
	if next := query.Get("continue"); next != "" {
		at, name, _ := strings.Cut(next, "/")
		version, _ = strconv.ParseUint(at, 10, 64)
		after = name
		if version < s.compacted {
			gone := failure(http.StatusGone, "Expired", "The provided continue parameter is too old to display a consistent list result.", "", "")
			gone["metadata"] = map[string]any{"continue": decimal(s.revision) + "/" + after}
			reply(w, http.StatusGone, gone)
			return
		}
	}
	items, next := []object{}, ""
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		name, ok := strings.CutPrefix(key, namespace+"/")
		if !ok || name <= after || only != "" && name != only {
			continue
		}
		if limit > 0 && len(items) == limit {
			next = decimal(version) + "/" + items[limit-1].meta().text("name")
			break
		}
		items = append(items, s.objects[key])
	}
	reply(w, http.StatusOK, map[string]any{"kind": "LeaseList", "apiVersion": "coordination.k8s.io/v1",
		"metadata": map[string]any{"resourceVersion": decimal(version), "continue": next}, "items": items})
}
