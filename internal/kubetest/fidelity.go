package kubetest

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Fidelity checks what a lock counts on in an API server, with requests of its own: the real
// one and [Server] must both pass. client authenticates as an administrator; the namespace
// exists; forget has the server lose its history.
func Fidelity(t *testing.T, client *http.Client, host, namespace string, forget func()) {
	f := &fidelity{client: client, host: host, forget: forget, path: "/apis/coordination.k8s.io/v1/namespaces/" + namespace + "/leases"}
	for name, run := range map[string]func(*testing.T){
		"ACreateMakesAndNeverReplaces":              f.create,
		"AnUpdateGoesByVersionAndUID":               f.update,
		"AnUpdateOfWhatIsGoneMakesItUnlessItHasUID": f.updateGone,
		"ADeleteGoesByItsPreconditions":             f.remove,
		"WhatCanNotBeIsRefused":                     f.invalid,
		"TheWriterAndItsTimeAreNoted":               f.managed,
		"AListHasAVersionAndPages":                  f.list,
		"AWatchGoesOnFromAVersion":                  f.watch,
		"AWatchOfWhatIsForgottenSaysSo":             f.old,
	} {
		t.Run(name, run)
	}
}

type fidelity struct {
	client     *http.Client
	host, path string
	forget     func()
}

// answer is what a server said.
type answer struct {
	code int
	http.Header
	body object
}

func (a answer) reason() string     { return a.body.text("reason") }
func (a answer) about() string      { return a.body.child("details").text("kind") }
func (a answer) version() string    { return a.body.meta().text("resourceVersion") }
func (a answer) spec() object       { return a.body.child("spec") }
func (a answer) failure() [2]string { return [2]string{a.reason(), a.about()} }
func conflicting() [2]string        { return [2]string{"Conflict", "leases"} }
func (f *fidelity) name() string    { return "fidelity-" + strings.ToLower(rand.Text()[:10]) }
func with(o object, change func(object)) object {
	o = o.clone()
	change(o)
	return o
}

func (f *fidelity) ask(t *testing.T, method, path string, body any, query ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var text []byte
	switch b := body.(type) {
	case nil:
	case string:
		text = []byte(b)
	default:
		var err error
		text, err = json.Marshal(b)
		require.NoError(t, err)
	}
	req, err := http.NewRequestWithContext(ctx, method, f.host+f.path+path+"?"+strings.Join(query, "&"), strings.NewReader(string(text)))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := f.client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp.StatusCode, resp.Header, parse(reply)}
}

func body(name string) object {
	return object{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
		"metadata": map[string]any{"name": name, "annotations": map[string]any{"a/b": "x"}, "labels": map[string]any{"l": "y"}},
		"spec":     map[string]any{"holderIdentity": "h", "leaseDurationSeconds": 3, "renewTime": "2026-01-02T03:04:05.000006Z"}}
}

// made makes a Lease and returns it.
func (f *fidelity) made(t *testing.T) (string, object) {
	t.Helper()
	name := f.name()
	a := f.ask(t, http.MethodPost, "", body(name))
	require.Equal(t, http.StatusCreated, a.code, a.body)
	t.Cleanup(func() {
		req, err := http.NewRequest(http.MethodDelete, f.host+f.path+"/"+name, nil)
		if err == nil {
			if resp, err := f.client.Do(req); err == nil {
				_ = resp.Body.Close()
			}
		}
	})
	return name, a.body
}

func (f *fidelity) create(t *testing.T) {
	name, o := f.made(t)
	for _, field := range []string{"uid", "resourceVersion", "creationTimestamp", "namespace"} {
		require.NotEmpty(t, o.meta().text(field), field)
	}
	require.Equal(t, "x", o.meta().child("annotations").text("a/b"))
	require.Equal(t, "2026-01-02T03:04:05.000006Z", o.child("spec").text("renewTime"))
	again := f.ask(t, http.MethodPost, "", body(name))
	require.Equal(t, http.StatusConflict, again.code)
	require.Equal(t, [2]string{"AlreadyExists", "leases"}, again.failure())
	got := f.ask(t, http.MethodGet, "/"+name, nil)
	require.Equal(t, http.StatusOK, got.code)
	require.Equal(t, o.meta().text("resourceVersion"), got.version())
	require.NotEmpty(t, got.Get("Date"))
	absent := f.ask(t, http.MethodGet, "/"+f.name(), nil)
	require.Equal(t, http.StatusNotFound, absent.code)
	require.Equal(t, [2]string{"NotFound", "leases"}, absent.failure())
	old := f.path
	f.path = strings.Replace(old, "/namespaces/", "/namespaces/no-", 1)
	nowhere := f.ask(t, http.MethodPost, "", body(name))
	f.path = old
	require.Equal(t, http.StatusNotFound, nowhere.code)
	require.Equal(t, [2]string{"NotFound", "namespaces"}, nowhere.failure())
}

func (f *fidelity) update(t *testing.T) {
	name, first := f.made(t)
	second := f.ask(t, http.MethodPut, "/"+name, with(first, func(o object) {
		o.child("spec")["holderIdentity"] = ""
		o.child("spec")["renewTime"] = "2026-01-02T03:04:06.000000+00:00"
	}))
	require.Equal(t, http.StatusOK, second.code, second.body)
	require.NotEqual(t, first.meta().text("resourceVersion"), second.version())
	require.Equal(t, first.meta().text("uid"), second.body.meta().text("uid"))
	require.Empty(t, second.spec().text("holderIdentity"))
	require.Equal(t, "2026-01-02T03:04:06.000000Z", second.spec().text("renewTime"), "it is in UTC, with microseconds")
	require.Equal(t, "y", second.body.meta().child("labels").text("l"))

	stale := f.ask(t, http.MethodPut, "/"+name, with(first, func(o object) { o.child("spec")["holderIdentity"] = "z" }))
	require.Equal(t, http.StatusConflict, stale.code)
	require.Equal(t, conflicting(), stale.failure())
	other := f.ask(t, http.MethodPut, "/"+name, with(second.body, func(o object) { o.meta()["uid"] = "00000000-0000-0000-0000-000000000000" }))
	require.Equal(t, http.StatusConflict, other.code)
	require.Equal(t, conflicting(), other.failure())

	same := f.ask(t, http.MethodPut, "/"+name, second.body)
	require.Equal(t, http.StatusOK, same.code)
	require.Equal(t, second.version(), same.version(), "what changes nothing is no write")
	third := f.ask(t, http.MethodPut, "/"+name, with(second.body, func(o object) { delete(o.meta(), "managedFields"); o.meta().child("annotations")["a/b"] = "z" }))
	require.Equal(t, http.StatusOK, third.code)
	require.NotEmpty(t, third.body.meta()["managedFields"], "the server keeps them")
}

func (f *fidelity) updateGone(t *testing.T) {
	name, first := f.made(t)
	require.Equal(t, http.StatusOK, f.ask(t, http.MethodDelete, "/"+name, nil).code)
	revived := f.ask(t, http.MethodPut, "/"+name, first)
	require.Equal(t, http.StatusConflict, revived.code, revived.body)
	require.Equal(t, conflicting(), revived.failure())
	revived = f.ask(t, http.MethodPut, "/"+name, with(first, func(o object) { delete(o.meta(), "resourceVersion") }))
	require.Equal(t, http.StatusConflict, revived.code, revived.body)
	require.Equal(t, http.StatusNotFound, f.ask(t, http.MethodGet, "/"+name, nil).code)
	// The trap: without the uid it is made.
	trap := f.ask(t, http.MethodPut, "/"+name, body(name))
	require.Equal(t, http.StatusCreated, trap.code, trap.body)
	late := f.ask(t, http.MethodPut, "/"+name, first)
	require.Equal(t, http.StatusConflict, late.code)
	require.Equal(t, conflicting(), late.failure())
}

func (f *fidelity) remove(t *testing.T) {
	name, o := f.made(t)
	options := func(uid, version string) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":%q,"resourceVersion":%q}}`, uid, version)
	}
	uid, version := o.meta().text("uid"), o.meta().text("resourceVersion")
	for _, wrong := range []string{options("00000000-0000-0000-0000-000000000000", version), options(uid, "1")} {
		a := f.ask(t, http.MethodDelete, "/"+name, wrong)
		require.Equal(t, http.StatusConflict, a.code, a.body)
		require.Equal(t, [2]string{"Conflict", "Lease"}, a.failure(), "the one place where it is named by its kind")
	}
	require.Equal(t, http.StatusOK, f.ask(t, http.MethodDelete, "/"+name, options(uid, version)).code)
	again := f.ask(t, http.MethodDelete, "/"+name, options(uid, version))
	require.Equal(t, http.StatusNotFound, again.code)
	require.Equal(t, [2]string{"NotFound", "leases"}, again.failure())
}

func (f *fidelity) invalid(t *testing.T) {
	for why, change := range map[string]func(o object){
		"a name in capitals":   func(o object) { o.meta()["name"] = "Fidelity" },
		"a name with two dots": func(o object) { o.meta()["name"] = "fidelity..x" },
		"no duration":          func(o object) { o.child("spec")["leaseDurationSeconds"] = 0 },
		"transitions below 0":  func(o object) { o.child("spec")["leaseTransitions"] = -1 },
	} {
		a := f.ask(t, http.MethodPost, "", with(body(f.name()), change))
		require.Equal(t, http.StatusUnprocessableEntity, a.code, "%s: %v", why, a.body)
		require.Equal(t, "Invalid", a.reason(), why)
	}
	require.Equal(t, http.StatusBadRequest, f.ask(t, http.MethodPost, "", "{").code)
	seconds := with(body(f.name()), func(o object) { o.child("spec")["renewTime"] = "2026-01-02T03:04:06Z" })
	require.Equal(t, http.StatusBadRequest, f.ask(t, http.MethodPost, "", seconds).code, "a time without microseconds")
	name, o := f.made(t)
	require.Equal(t, http.StatusBadRequest, f.ask(t, http.MethodPut, "/"+name, with(o, func(o object) { o.meta()["name"] = "other" })).code)
}

func (f *fidelity) managed(t *testing.T) {
	name, o := f.made(t)
	before := time.Now().Add(-2 * time.Second)
	a := f.ask(t, http.MethodPut, "/"+name, with(o, func(o object) { o.meta().child("annotations")["a/b"] = "z" }), "fieldManager=somebody")
	require.Equal(t, http.StatusOK, a.code)
	entries, _ := a.body.meta()["managedFields"].([]any)
	for _, e := range entries {
		e := object(e.(map[string]any))
		if e.text("manager") == "somebody" {
			at, err := time.Parse(time.RFC3339, e.text("time"))
			require.NoError(t, err)
			require.WithinRange(t, at, before, time.Now().Add(time.Second))
			return
		}
	}
	t.Fatalf("somebody is not among the managers: %v", entries)
}

func (f *fidelity) list(t *testing.T) {
	var names []string
	for range 3 {
		name, _ := f.made(t)
		names = append(names, name)
	}
	one := f.ask(t, http.MethodGet, "", nil, "fieldSelector=metadata.name%3D"+names[1])
	require.Equal(t, "LeaseList", one.body.text("kind"))
	require.NotEmpty(t, one.version())
	require.Len(t, one.body["items"], 1)
	seen, next := map[string]bool{}, ""
	for {
		page := f.ask(t, http.MethodGet, "", nil, "limit=2", "continue="+next)
		require.Equal(t, http.StatusOK, page.code, page.body)
		items, _ := page.body["items"].([]any)
		require.LessOrEqual(t, len(items), 2)
		for _, i := range items {
			seen[object(i.(map[string]any)).meta().text("name")] = true
		}
		if next = page.body.meta().text("continue"); next == "" {
			break
		}
	}
	for _, name := range names {
		require.True(t, seen[name])
	}
}

// follow begins a watch and returns what comes, until it ends or n events have come.
func (f *fidelity) follow(t *testing.T, n int, began func(), query ...string) (events []object, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.host+f.path+"?watch=true&"+strings.Join(query, "&"), nil)
	require.NoError(t, err)
	resp, err := f.client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	if began != nil {
		began()
	}
	for lines := bufio.NewScanner(resp.Body); len(events) < n && lines.Scan(); {
		events = append(events, parse(lines.Bytes()))
	}
	return events, resp.StatusCode
}

func (f *fidelity) watch(t *testing.T) {
	name, o := f.made(t)
	other, _ := f.made(t)
	only := "fieldSelector=metadata.name%3D" + name
	from := "resourceVersion=" + f.ask(t, http.MethodGet, "", nil, only).version()
	change := func() {
		f.ask(t, http.MethodPut, "/"+other, with(body(other), func(o object) { o.child("spec")["holderIdentity"] = "z" }))
		o = f.ask(t, http.MethodPut, "/"+name, with(o, func(o object) { o.child("spec")["holderIdentity"] = "z" })).body
		require.Equal(t, http.StatusOK, f.ask(t, http.MethodDelete, "/"+name, nil).code)
	}
	events, code := f.follow(t, 2, change, only, from, "allowWatchBookmarks=true", "timeoutSeconds=30")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "MODIFIED", events[0].text("type"))
	require.Equal(t, "z", events[0].child("object").child("spec").text("holderIdentity"))
	require.Equal(t, o.meta().text("resourceVersion"), events[0].child("object").meta().text("resourceVersion"))
	require.Equal(t, "DELETED", events[1].text("type"))
	require.NotEqual(t, o.meta().text("resourceVersion"), events[1].child("object").meta().text("resourceVersion"))
	// The same again: a watch goes on from any version that is not forgotten.
	events, _ = f.follow(t, 2, nil, only, from, "timeoutSeconds=30")
	require.Len(t, events, 2)
	// It ends when its time is over, and that is no error.
	events, code = f.follow(t, 9, nil, only, from, "timeoutSeconds=1")
	require.Equal(t, http.StatusOK, code)
	require.Len(t, events, 2)
}

func (f *fidelity) old(t *testing.T) {
	_, o := f.made(t)
	f.made(t)
	f.forget()
	events, code := f.follow(t, 1, nil, "resourceVersion="+o.meta().text("resourceVersion"), "timeoutSeconds=30")
	require.NotEmpty(t, events)
	if code == http.StatusOK { // the head had gone out
		require.Equal(t, "ERROR", events[0].text("type"))
		events[0] = events[0].child("object")
	}
	require.Equal(t, "Expired", events[0].text("reason"), events[0])
}
