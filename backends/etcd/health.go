package etcd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tonsurance/lockkeeper/lock"
)

// Describe reports on each member that the client knows, in one node: a quorum of them decides.
func (s *store) Describe(ctx context.Context) lock.NodeHealth {
	node := lock.NodeHealth{Name: "etcd"}
	fact := func(name, value string, measures ...lock.Measure) {
		node.Facts = append(node.Facts, lock.Fact{Name: name, Value: value, Measures: measures})
	}
	endpoints := s.client.Endpoints()
	answering, versions := 0, map[string]bool{}
	replies, errs := make([]*clientv3.StatusResponse, len(endpoints)), make([]error, len(endpoints))
	var asking sync.WaitGroup
	for i, endpoint := range endpoints { // at once: those that hang must not take the time of others
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			replies[i], errs[i] = s.client.Status(ctx, endpoint)
		})
	}
	asking.Wait()
	for i, endpoint := range endpoints {
		reply, err := replies[i], errs[i]
		if err = judge(err); errors.Is(err, lock.ErrRefused) {
			answering++ // and says no, which the node's error is about
			continue
		}
		if err != nil {
			node.Warnings = append(node.Warnings, fmt.Sprintf("%s does not answer", host(endpoint)))
			continue
		}
		answering++
		versions[reply.Version] = true
		if len(reply.Errors) > 0 {
			node.Warnings = append(node.Warnings, fmt.Sprintf("%s: %s", host(endpoint), strings.Join(reply.Errors, ", ")))
		}
		if reply.IsLearner {
			node.Warnings = append(node.Warnings, fmt.Sprintf("%s is a learner: it has no vote", host(endpoint)))
		}
	}
	fact("endpoints", fmt.Sprintf("%d of %d answer", answering, len(endpoints)),
		lock.Measure{Name: "endpoints", Value: float64(len(endpoints))}, lock.Measure{Name: "endpoints_answering", Value: float64(answering)})
	for v := range versions {
		fact("version", v)
	}
	members, err := s.client.MemberList(ctx)
	if err != nil {
		fact("members", "not known")
		return node
	}
	n := len(members.Members)
	fact("members", strconv.Itoa(n), lock.Measure{Name: "members", Value: float64(n)})
	if n%2 == 0 {
		node.Warnings = append(node.Warnings, fmt.Sprintf("%d members survive no more failures than %d", n, n-1))
	}
	return node
}

// host is an endpoint without what may be a secret.
func host(endpoint string) string {
	if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
		return u.Host
	}
	return endpoint
}
