package kubetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"time"
)

const microTime = "2006-01-02T15:04:05.000000Z07:00"

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

func parse(raw []byte) object {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var o object
	if dec.Decode(&o) != nil {
		return nil
	}
	return o
}

func (o object) json() []byte {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // it came out of JSON
	}
	return b
}

func (o object) clone() object {
	if o == nil {
		return nil
	}
	return parse(o.json())
}

// child is the object below name, made if it is not there.
func (o object) child(name string) object {
	switch c := o[name].(type) {
	case map[string]any:
		return c
	case object:
		return c
	}
	c := map[string]any{}
	o[name] = c
	return c
}

func (o object) meta() object { return o.child("metadata") }

func (o object) text(name string) string {
	s, _ := o[name].(string)
	return s
}

// settled is a Lease as the server keeps it: fields that nobody set are not there, times have
// microseconds, and what is the server's comes from was.
func (o object) settled(was object, manager string, now time.Time) {
	o["apiVersion"], o["kind"] = "coordination.k8s.io/v1", "Lease"
	meta := o.meta()
	for _, name := range []string{"uid", "creationTimestamp", "deletionTimestamp", "managedFields", "resourceVersion"} {
		if v, ok := was.meta()[name]; ok {
			meta[name] = v
		} else {
			delete(meta, name)
		}
	}
	for _, name := range []string{"labels", "annotations"} {
		if m, ok := meta[name].(map[string]any); ok && len(m) == 0 {
			delete(meta, name)
		}
	}
	spec := o.child("spec")
	maps.DeleteFunc(spec, func(_ string, v any) bool { return v == nil })
	for _, name := range []string{"renewTime", "acquireTime"} {
		if t, err := time.Parse(time.RFC3339, spec.text(name)); err == nil {
			spec[name] = t.UTC().Format(microTime)
		}
	}
}

// same reports whether a write changes nothing, which the server then leaves.
func (o object) same(was object) bool {
	return reflect.DeepEqual(parse(o.json()), parse(was.json()))
}

// manage notes who wrote, and when. It does not say which fields.
func (o object) manage(manager string, now time.Time) {
	entries, _ := o.meta()["managedFields"].([]any)
	kept := []any{}
	for _, e := range entries {
		if m, ok := e.(map[string]any); ok && m["manager"] != manager {
			kept = append(kept, m)
		}
	}
	o.meta()["managedFields"] = append(kept, map[string]any{
		"manager": manager, "operation": "Update", "apiVersion": "coordination.k8s.io/v1",
		"time": now.Format(time.RFC3339), "fieldsType": "FieldsV1", "fieldsV1": map[string]any{},
	})
}

// unreadable says which time of a Lease the server can't read; "": none.
func (o object) unreadable() string {
	spec := o.child("spec")
	for _, name := range []string{"renewTime", "acquireTime"} {
		if v := spec[name]; v != nil {
			if _, err := time.Parse(microTime, spec.text(name)); err != nil {
				return err.Error()
			}
		}
	}
	return ""
}

// invalid says what of a Lease the server refuses; "": nothing.
func (o object) invalid() string {
	spec := o.child("spec")
	positive := func(name string, least int64) string {
		v, ok := spec[name]
		if !ok || v == nil {
			return ""
		}
		n, ok := v.(json.Number)
		i, err := n.Int64()
		if !ok || err != nil || i > 1<<31-1 {
			return "json: cannot unmarshal into " + name
		}
		if i < least {
			return fmt.Sprintf("spec.%s: Invalid value: %d: must be greater than or equal to %d", name, i, least)
		}
		return ""
	}
	if why := positive("leaseDurationSeconds", 1); why != "" {
		return why
	}
	return positive("leaseTransitions", 0)
}
