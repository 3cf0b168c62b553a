package kubetest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	namespacePath = regexp.MustCompile(`^/api/v1/namespaces(?:/([^/]+))?(/finalize)?$`)
	rolePath      = regexp.MustCompile(`^/apis/rbac\.authorization\.k8s\.io/v1/namespaces/([^/]+)/(roles|rolebindings)$`)
)

// User may do what its verbs say with the Leases of a namespace, or anything.
type User struct {
	Name      string
	Admin     bool
	Namespace string
	Verbs     []string
}

// admin answers what is no lock's: version, readiness, namespaces and roles, and what only
// tests ask for. It reports false if the request is none of these.
func (s *Server) admin(w http.ResponseWriter, r *http.Request) bool {
	switch r.URL.Path {
	case "/version":
		reply(w, http.StatusOK, map[string]string{"gitVersion": "v1.37.2-kubefake"})
		return true
	case "/readyz":
		_, _ = io.WriteString(w, "ok")
		return true
	}
	namespace, role := namespacePath.FindStringSubmatch(r.URL.Path), rolePath.FindStringSubmatch(r.URL.Path)
	control, isControl := strings.CutPrefix(r.URL.Path, "/kubefake/")
	if namespace == nil && role == nil && !isControl {
		return false
	}
	if s.users != nil && !s.users[bearer(r)].Admin {
		fail(w, http.StatusForbidden, "Forbidden", "forbidden: for the administrator alone", "", "")
		return true
	}
	body, _ := io.ReadAll(r.Body)
	switch {
	case namespace != nil:
		s.ofNamespaces(w, r, namespace[1], namespace[2] != "", body)
	case role != nil:
		s.ofRoles(w, role[1], role[2], body)
	case control == "compact":
		s.events, s.compacted = nil, s.revision
	case control == "throttle":
		s.throttled, _ = strconv.Atoi(r.URL.Query().Get("n"))
		s.retryAfter = r.URL.Query().Get("after")
	}
	return true
}

func bearer(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

// ofNamespaces makes, ends and finalizes them.
func (s *Server) ofNamespaces(w http.ResponseWriter, r *http.Request, name string, finalize bool, body []byte) {
	if name == "" {
		name = parse(body).meta().text("name")
	}
	_, there := s.namespaces[name]
	switch {
	case r.Method == http.MethodPost && there:
		fail(w, http.StatusConflict, "AlreadyExists", fmt.Sprintf("namespaces %q already exists", name), "namespaces", name)
	case r.Method == http.MethodPost:
		s.setNamespace(name, false)
		reply(w, http.StatusCreated, map[string]any{"kind": "Namespace", "metadata": map[string]string{"name": name}})
	case r.Method == http.MethodDelete:
		s.setNamespace(name, true)
	case r.Method == http.MethodPut && finalize:
		s.dropNamespace(name)
	}
}

// ofRoles keeps the verbs of a namespace's one role, and gives them to a user.
func (s *Server) ofRoles(w http.ResponseWriter, namespace, kind string, body []byte) {
	var o struct {
		Rules    []struct{ Verbs []string }
		Subjects []struct{ Name string }
	}
	_ = json.Unmarshal(body, &o)
	for _, rule := range o.Rules {
		s.role = rule.Verbs
	}
	for _, subject := range o.Subjects {
		for token, u := range s.users {
			if u.Name == subject.Name {
				u.Namespace, u.Verbs = namespace, slices.Clone(s.role)
				s.users[token] = u
			}
		}
	}
	reply(w, http.StatusCreated, map[string]any{"kind": kind})
}
